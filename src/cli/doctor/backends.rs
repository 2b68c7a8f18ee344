//! The services that the daemon depends on, each asked a question, and the time on their clocks.

use super::case::DoctorCase;
use super::finding::DoctorFinding;
use super::machine::no_plan;
use super::program::output;
use crate::dialect::{Kind, webhook_recipients};
use crate::io::{
    Plan, ProbeAnswer, probe_amqp, probe_nats, probe_otlp, probe_redis, probe_verifier,
    probe_webhook,
};
use crate::token::RemoteVerifier;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Milliseconds by which clocks may differ before it is worth a warning. A header's date is of whole
/// seconds, and an answer takes its time.
const SKEW_WARN_MS: u64 = 5_000;
/// Milliseconds after which tokens end too early or too late for their issuer.
const SKEW_BAD_MS: u64 = 60_000;

/// Whether each of them answers.
pub(super) fn backends(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Ok(loaded) = &case.loaded else { return vec![no_plan()] };
    let plan = &loaded.plan;
    let mut findings = Vec::new();
    if let Some(bus) = &plan.bus {
        findings.push(answered(
            format!("RabbitMQ at {}", bus.broker),
            "rabbitmqctl status",
            probe_amqp(bus),
        ));
    }
    if let Some(redis) = &plan.redis {
        findings.push(answered(
            format!("Redis at {}", redis.server),
            "redis-cli ping",
            probe_redis(redis),
        ));
    }
    if let Some(nats) = &plan.cluster {
        findings.push(answered(
            format!("NATS at {}", nats.servers),
            "nats server check connection",
            probe_nats(nats),
        ));
    }

    let mut clocks = Vec::new();
    findings.extend(verifiers(plan, &mut clocks));
    findings.extend(recipients(plan, &mut clocks));
    if let Some(otlp) = &plan.otlp {
        let host = otlp.endpoint.host();
        let answer = probe_otlp(otlp);
        clocks.extend(clock_of(host, &answer));
        let (name, mend) = (format!("collector at {host}"), curl(host, otlp.endpoint.is_https()));
        findings.push(answered(name, &mend, answer.map(drop)));
    }
    case.clocks = clocks;
    if findings.is_empty() {
        findings.push(DoctorFinding::skipped("the configuration names none"));
    }
    findings
}

/// The verifiers of the dialects that are spoken, of which some share one.
fn verifiers(plan: &Plan, clocks: &mut Vec<(String, i64)>) -> Vec<DoctorFinding> {
    let spoken: BTreeSet<Kind> =
        plan.listen.iter().flat_map(|listen| listen.kinds.iter().copied()).collect();
    let mut asked: Vec<&Arc<RemoteVerifier>> = Vec::new();
    let mut findings = Vec::new();
    for remote in spoken.iter().filter_map(|kind| kind.verifier(&plan.settings)?.remote()) {
        if asked.iter().any(|other| Arc::ptr_eq(other, remote)) {
            continue;
        }
        asked.push(remote);

        let (name, host) = (format!("{} at {}", remote.protocol(), remote.host()), remote.host());
        let answer = probe_verifier(remote);
        clocks.extend(clock_of(host, &answer));
        findings.push(answered(name, &curl(host, remote.is_https()), answer.map(drop)));
    }
    findings
}

/// The recipients of webhooks, each of which may have several.
fn recipients(plan: &Plan, clocks: &mut Vec<(String, i64)>) -> Vec<DoctorFinding> {
    let mut asked = BTreeSet::new();
    let mut findings = Vec::new();
    let recipients = webhook_recipients(&plan.settings);
    for endpoint in recipients.endpoints().filter(|endpoint| asked.insert(endpoint.uri())) {
        let host = endpoint.host();
        let answer = probe_webhook(&endpoint);
        clocks.extend(clock_of(host, &answer));
        let mend = curl(host, endpoint.is_https());
        findings.push(answered(format!("webhooks to {host}"), &mend, answer.and_then(taken)));
    }
    findings
}

fn answered(name: String, mend: &str, answer: Result<(), String>) -> DoctorFinding {
    match answer {
        Ok(()) => DoctorFinding::good(format!("{name} answers")),
        Err(error) => DoctorFinding::bad(format!("{name}: {error}"), mend),
    }
}

/// Whether a status is one of a host that takes webhooks, from a request that is none.
fn taken(answer: ProbeAnswer) -> Result<(), String> {
    match answer.status {
        404 | 410 | 500.. => Err(format!("it answers with status {}", answer.status)),
        _ => Ok(()),
    }
}

fn clock_of(host: &str, answer: &Result<ProbeAnswer, String>) -> Option<(String, i64)> {
    Some((host.to_owned(), answer.as_ref().ok()?.ahead_ms?))
}

fn curl(host: &str, is_https: bool) -> String {
    let scheme = if is_https { "https" } else { "http" };
    format!("curl -v {scheme}://{host}/")
}

/// Whether this machine's clock is right.
pub(super) fn clock(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    const MEND: &str = "timedatectl set-ntp true";
    let mut findings = Vec::new();
    for (host, ahead_ms) in &case.clocks {
        let (off_ms, way) =
            (ahead_ms.unsigned_abs(), if *ahead_ms < 0 { "behind" } else { "ahead of" });
        let seen = format!("{} s {way} {host}", off_ms / 1000);
        findings.push(match off_ms {
            SKEW_BAD_MS.. => {
                DoctorFinding::bad(format!("{seen}: tokens end too early, or too late"), MEND)
            }
            SKEW_WARN_MS.. => DoctorFinding::warn(seen, MEND),
            _ => DoctorFinding::good(format!("as that of {host}")),
        });
    }
    // timedatectl asks the kernel, whichever program sets the clock.
    let synchronized = output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
    match synchronized.as_deref().map(str::trim) {
        Some("yes") => findings.push(DoctorFinding::good("synchronized")),
        Some("no") => findings.push(DoctorFinding::warn("it is not synchronized", MEND)),
        _ if findings.is_empty() => findings.push(DoctorFinding::skipped(
            "no timedatectl, and no service over HTTP whose clock could be compared",
        )),
        _ => {}
    }
    findings
}
