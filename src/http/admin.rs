//! The admin listener's answers: health, readiness, and operators' questions about topics.

mod readiness;
mod topics;

pub use self::topics::{AdminRequest, AdminToken, TopicCall, answer, call};

use super::response::{TEXT, response};
use super::status::DaemonStatus;

/// Answers a request to the admin listener, other than for metrics and topics; HEAD is read as GET.
#[must_use]
pub fn admin(request: &AdminRequest<'_>, status: &DaemonStatus) -> Vec<u8> {
    let (code, body) = match request.path {
        // Nothing here changes the daemon, so no other method has a meaning.
        _ if request.method != "GET" => {
            return response(405, "Allow: GET, HEAD\r\n", TEXT, "Allowed methods: GET, HEAD.\n");
        }
        "/healthz" => readiness::health(status),
        "/readyz" => readiness::readiness(request.query, status),
        _ => {
            (404, "The paths are /healthz, /readyz, /metrics and, with a token, /topics.\n".into())
        }
    };
    response(code, "", TEXT, &body)
}
