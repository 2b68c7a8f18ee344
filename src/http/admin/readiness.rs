//! Whether the daemon is ready: for everybody, or for the clients of some dialects.
//!
//! Without a question it is ready unless something concerns all; with `?dialect=NAME`, once or several times, it is ready
//! when each of these dialects is.

use crate::dialect::Kind;
use crate::http::status::{DaemonStatus, Gap};

/// The answer to `/healthz`.
pub(super) fn health(status: &DaemonStatus) -> (u16, String) {
    match hung(status) {
        Some(hung) => (503, hung),
        None => (200, "ok\n".into()),
    }
}

/// The answer to `/readyz`, asked with this query.
pub(super) fn readiness(query: &str, status: &DaemonStatus) -> (u16, String) {
    let asked = match asked(query, status) {
        Ok(asked) => asked,
        Err(refusal) => return (404, refusal),
    };
    if status.draining {
        return (503, "draining\n".into());
    }
    if !status.ready {
        return (503, "starting\n".into());
    }
    if let Some(hung) = hung(status) {
        return (503, hung);
    }
    let lacks = |kind: &Kind| status.gaps.iter().any(|gap| gap.kinds.contains(kind));
    if asked.is_empty() {
        // What concerns each dialect concerns all.
        let is_ready = status.spoken.is_empty() || !status.spoken.iter().all(lacks);
        let gaps = status
            .gaps
            .iter()
            .filter(|gap| gap.kinds.iter().any(|kind| status.spoken.contains(kind)));
        return if is_ready { (200, ready(gaps)) } else { (503, reasons(gaps)) };
    }
    let gaps = status.gaps.iter().filter(|gap| gap.kinds.iter().any(|kind| asked.contains(kind)));
    if asked.iter().any(lacks) { (503, reasons(gaps)) } else { (200, "ready\n".into()) }
}

/// The dialects that are asked about, or what to ask instead.
fn asked(query: &str, status: &DaemonStatus) -> Result<Vec<Kind>, String> {
    let asked = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "dialect");
    asked
        .map(|(_, name)| {
            let kind = Kind::named(&name).filter(|kind| status.spoken.contains(kind));
            kind.ok_or_else(|| {
                let spoken: Vec<_> = status.spoken.iter().map(|kind| kind.name()).collect();
                format!("No listener speaks this dialect; there are {}.\n", spoken.join(", "))
            })
        })
        .collect()
}

/// The threads that hang, if any does.
fn hung(status: &DaemonStatus) -> Option<String> {
    let line = |(name, seconds): &(String, u64)| {
        format!("the thread {name} hangs: it has not turned for {seconds} s\n")
    };
    (!status.hung.is_empty()).then(|| status.hung.iter().map(line).collect())
}

/// One reason a line.
fn reasons<'a>(gaps: impl Iterator<Item = &'a Gap>) -> String {
    gaps.map(|gap| format!("{}\n", gap.reason)).collect()
}

/// `ready`, and for whom not.
fn ready<'a>(gaps: impl Iterator<Item = &'a Gap>) -> String {
    let line = |gap: &Gap| {
        let names: Vec<_> = gap.kinds.iter().map(|kind| kind.name()).collect();
        format!("but not {}: {}\n", names.join(", "), gap.reason)
    };
    format!("ready\n{}", gaps.map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Kind {
        Kind::named(name).unwrap()
    }

    fn status(gaps: &[(&[Kind], &str)]) -> DaemonStatus {
        let gap = |(kinds, reason): &(&[Kind], &str)| Gap {
            kinds: kinds.to_vec(),
            reason: (*reason).into(),
        };
        DaemonStatus {
            ready: true,
            gaps: gaps.iter().map(gap).collect(),
            spoken: vec![kind("personium-event"), kind("channel"), kind("wazo")],
            ..DaemonStatus::default()
        }
    }

    #[test]
    fn each_dialect_is_ready_by_itself_and_all_are_not_when_none_is() {
        let is_ready = |query, status: &DaemonStatus| readiness(query, status).0 == 200;
        let away = status(&[(&[kind("channel"), kind("echo")], "no Redis")]);
        assert_eq!(readiness("", &away), (200, "ready\nbut not channel, echo: no Redis\n".into()));
        assert!(is_ready("dialect=personium-event", &away) && is_ready("dialect=wazo&_=1", &away));
        assert_eq!(readiness("dialect=channel", &away), (503, "no Redis\n".into()));
        assert!(!is_ready("dialect=wazo&dialect=channel", &away));
        let both = status(&[(&[kind("channel")], "no Redis"), (&[kind("wazo")], "no bus")]);
        assert!(is_ready("", &both) && !is_ready("dialect=wazo", &both));
        let mut fed = both;
        fed.spoken = vec![kind("channel"), kind("wazo")];
        assert_eq!(readiness("", &fed), (503, "no Redis\nno bus\n".into()));
    }

    #[test]
    fn a_dialect_that_nobody_speaks_is_not_found() {
        let status = status(&[]);
        for query in ["dialect=echo", "dialect=chanel", "dialect="] {
            let (code, body) = readiness(query, &status);
            assert!(
                code == 404 && body.contains("personium-event, channel, wazo"),
                "{query}: {code} {body}"
            );
        }
    }

    #[test]
    fn a_thread_that_hangs_concerns_all_and_health() {
        let mut status = status(&[]);
        assert_eq!(health(&status), (200, "ok\n".into()));
        status.hung = vec![("shard-1".into(), 7)];
        for (code, body) in
            [health(&status), readiness("", &status), readiness("dialect=wazo", &status)]
        {
            assert_eq!(
                (code, &*body),
                (503, "the thread shard-1 hangs: it has not turned for 7 s\n")
            );
        }
        // A stop says itself why it is not ready, and is no reason to be killed for.
        status.draining = true;
        assert_eq!(readiness("", &status).1, "draining\n");
    }
}
