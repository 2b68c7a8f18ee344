//! `bench idle`: user-space memory of connections that are authenticated, subscribed and silent.
//!
//! The kernel's own memory for a socket is the same for every server and not counted. What is read
//! is how much the process grew, so a daemon that held as many connections before has room left and
//! seems to need nothing: each run starts a new one, and a daemon that runs already is measured
//! once, best soon after its start.

use super::clients::BenchClients;
use super::options::BenchOptions;
use super::pair::require_fds;
use super::proc::ProcessMemory;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal};
use super::target::BenchTarget;
use crate::cli::CliError;
use serde_json::json;
use std::time::{Duration, Instant};

/// Connections opened and closed before the first reading, so that what a server allocates once is
/// not counted.
const WARM_UP_CONNECTIONS: usize = 200;

/// Bytes per connection to stay below; those of Laravel Echo have an id, an app and a channel's
/// name.
const BYTES_MAX: [(&str, f64); 2] = [("personium-event", 469.0), ("echo", 700.0)];

/// The same over TLS, whose keys and state are 7.5 KB by themselves.
const TLS_BYTES_MAX: f64 = 12_000.0;

const CONCURRENCY: usize = 128;

/// Time for the daemon to put away what opening left behind, before it is read.
const REST: Duration = Duration::from_secs(2);

/// Measures a daemon; one that is started for it is started anew for each run.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let &BenchOptions { connections, own_topics: topics, runs, .. } = options;
    // A second reading would find the memory that the first left behind.
    let runs = if options.url.is_some() { runs.min(1) } else { runs };
    require_fds(connections)?;
    // A daemon of our own is known by its process.
    if options.url.is_some() && options.pid.is_none() {
        let reason = "memory is read from /proc: give the daemon's process with --pid";
        return Err(CliError::usage(reason));
    }
    let progress = BenchProgress::new(runs);
    let mut readings = Vec::new();
    for run in 1..=runs {
        progress.step(&format!("idle with {connections}: run {run}"));
        readings.push(read(options, &progress)?);
    }

    let settings = json!({
        "connections": connections, "topics": topics, "runs": runs, "shards": options.shards,
        "dialect": options.dialect.name(), "tls": options.tls,
    });
    let mut report = BenchReport::new("idle", settings);
    let topic = if topics { "a topic each" } else { "one topic" };
    let name = format!("idle {connections}, {topic}{}", options.suffix());
    let usual = BYTES_MAX.iter().find(|(name, _)| *name == options.dialect.name());
    let bytes_max =
        if options.tls { Some(TLS_BYTES_MAX) } else { usual.map(|(_, bytes_max)| *bytes_max) };
    let (count, mib) = (connections as f64, f64::from(1 << 20));

    let rss =
        readings.iter().map(|(before, after)| (before.rss_anon as f64, after.rss_anon as f64));
    let grown: Vec<f64> = rss.clone().map(|(before, after)| (after - before) / count).collect();
    let goal = bytes_max.map(Goal::AtMost);
    report.add(format!("{name}: memory per connection (RssAnon)"), "B", &grown, &[], goal);
    let pss = readings.iter().map(|(before, after)| after.pss as f64 - before.pss as f64);
    let grown: Vec<f64> = pss.map(|grown| grown / count).collect();
    report.add(format!("{name}: memory per connection (Pss)"), "B", &grown, &[], None);

    let (before, after): (Vec<f64>, Vec<f64>) =
        rss.map(|(before, after)| (before / mib, after / mib)).unzip();
    report.add(format!("{name}: RssAnon before"), "MiB", &before, &[], None);
    report.add(format!("{name}: RssAnon after"), "MiB", &after, &[], None);
    Ok(report)
}

/// The memory of a daemon before it has connections, and with them.
fn read(
    options: &BenchOptions,
    progress: &BenchProgress,
) -> Result<(ProcessMemory, ProcessMemory), CliError> {
    let &BenchOptions { connections, own_topics: topics, .. } = options;
    let target = BenchTarget::open(options)?;
    // What a server allocates once does not belong to a connection.
    drop(target.subscribers(WARM_UP_CONNECTIONS.min(connections), topics, CONCURRENCY, |_| {})?);
    target.settle()?;
    let before = target.memory()?;
    let mut clients = target.subscribers(connections, topics, CONCURRENCY, |ready| {
        progress.within("connecting", ready, connections);
    })?;
    target.settle()?;
    rest(&mut clients)?;
    let after = target.memory()?;
    drop(clients);
    target.settle()?;
    Ok((before, after))
}

fn rest(clients: &mut BenchClients) -> Result<(), CliError> {
    let end = Instant::now() + REST;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        // Pings are answered meanwhile: a connection that is silent for too long is closed.
        clients.receive(left, |_, _, _| {})?;
    }
    Ok(())
}
