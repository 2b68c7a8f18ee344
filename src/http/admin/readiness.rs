//! Readiness of the daemon: in all, or for the clients of some dialects.
//!
//! Without a query it is ready unless a gap affects every dialect; with `?dialect=NAME`, once or
//! several times, it is ready when each of these dialects is.

use crate::dialect::Kind;
use crate::http::status::{DaemonStatus, Gap};

/// Status and body of the answer to `/healthz`.
pub(super) fn health(status: &DaemonStatus) -> (u16, String) {
    match hung(status) {
        Some(hung) => (503, hung),
        None => (200, "ok\n".into()),
    }
}

/// Status and body of the answer to `/readyz` with this query.
pub(super) fn readiness(query: &str, status: &DaemonStatus) -> (u16, String) {
    let asked = match asked(query, status) {
        Ok(asked) => asked,
        Err(refusal) => return (404, refusal),
    };

    // In this order: a stopping daemon is neither starting nor to be repaired.
    if status.draining {
        return (503, "draining\n".into());
    }
    if !status.ready {
        return (503, "starting\n".into());
    }
    if let Some(hung) = hung(status) {
        return (503, hung);
    }

    if asked.is_empty() {
        // A load balancer must not take the daemon out for a dialect that the others do not need.
        let spoken = &status.spoken;
        let is_ready = spoken.is_empty() || !spoken.iter().all(|kind| lacks(status, *kind));
        let gaps = gaps_of(status, spoken);
        return if is_ready { (200, ready(gaps)) } else { (503, reasons(gaps)) };
    }
    let is_ready = !asked.iter().any(|kind| lacks(status, *kind));
    if is_ready { (200, "ready\n".into()) } else { (503, reasons(gaps_of(status, &asked))) }
}

fn lacks(status: &DaemonStatus, kind: Kind) -> bool {
    status.gaps.iter().any(|gap| gap.kinds.contains(&kind))
}

/// The gaps that affect any of these dialects.
fn gaps_of<'a>(status: &'a DaemonStatus, kinds: &'a [Kind]) -> impl Iterator<Item = &'a Gap> {
    status.gaps.iter().filter(|gap| gap.kinds.iter().any(|kind| kinds.contains(kind)))
}

/// The dialects that the query names, or a sentence that lists those it could.
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
    let lines = status.hung.iter().map(|(name, seconds)| {
        format!("the thread {name} hangs: it has not turned for {seconds} s\n")
    });
    (!status.hung.is_empty()).then(|| lines.collect())
}

/// The reasons of gaps, one a line.
fn reasons<'a>(gaps: impl Iterator<Item = &'a Gap>) -> String {
    gaps.map(|gap| format!("{}\n", gap.reason)).collect()
}

/// `ready`, and the dialects that are not.
fn ready<'a>(gaps: impl Iterator<Item = &'a Gap>) -> String {
    let mut body = "ready\n".to_owned();
    for gap in gaps {
        let names: Vec<_> = gap.kinds.iter().map(|kind| kind.name()).collect();
        body += &format!("but not {}: {}\n", names.join(", "), gap.reason);
    }
    body
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
