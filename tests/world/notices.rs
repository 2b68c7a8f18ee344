//! What other services are told, and what is told of it.

use crate::harness::Setup;

#[test]
fn metrics_tell_what_has_become_of_notices_of_either_kind() {
    let daemon = Setup::new().start();
    for kind in ["callback", "webhook"] {
        for outcome in ["delivered", "failed", "dropped"] {
            let name = format!("notices_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
            assert_eq!(daemon.metric(&name), 0);
        }
        assert_eq!(daemon.metric(&format!("notice_retries_total{{kind=\"{kind}\"}}")), 0);
        assert_eq!(daemon.metric(&format!("notices_waiting{{kind=\"{kind}\"}}")), 0);
    }
}
