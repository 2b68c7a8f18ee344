//! `bench idle`: user-space memory of connections that are authenticated, subscribed and silent.
//!
//! The kernel's own memory for a socket is the same for every server and not counted. What is read is how much the
//! process grew, so a daemon that held as many connections before has room left and seems to need nothing: each run
//! starts a new one, and a daemon that runs already is measured once, best soon after its start.

use super::clients::BenchClients;
use super::error::BenchError;
use super::options::BenchOptions;
use super::pair::require_fds;
use super::proc::ProcessMemory;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal, Row};
use super::target::BenchTarget;
use serde_json::json;
use std::time::{Duration, Instant};

/// Connections opened and closed before the first reading, so that what a server allocates once is not counted.
const WARM_UP_CONNECTIONS: usize = 200;

/// Bytes per connection to stay below; those of Laravel Echo have an id, an app and a channel's name.
const BYTES_MAX: [(&str, f64); 2] = [("personium-event", 469.0), ("echo", 700.0)];

/// The same over TLS, whose keys and state are 7.5 KB by themselves.
const TLS_BYTES_MAX: f64 = 12_000.0;

const CONCURRENCY: usize = 128;

/// Time for the daemon to put away what opening left behind, before it is read.
const REST: Duration = Duration::from_secs(2);

/// Measures a daemon; one that is started for it is started anew for each run.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    options.check()?;
    let &BenchOptions { connections, own_topics: topics, runs, .. } = options;
    let runs = if options.url.is_some() { runs.min(1) } else { runs };
    require_fds(connections)?;
    if options.url.is_some() && options.pid.is_none() {
        let reason = "memory is read from /proc: give the daemon's process with --pid";
        return Err(BenchError::Argument(reason.into()));
    }
    let progress = BenchProgress::new(runs);
    let mut readings = Vec::new();
    for run in 1..=runs {
        progress.step(&format!("idle with {connections}: run {run}"));
        readings.push(read(options, &progress)?);
    }

    let topic = if topics { "a topic each" } else { "one topic" };
    let name = format!("idle {connections}, {topic}{}", options.suffix());
    let goal = BYTES_MAX.into_iter().find(|(name, _)| *name == options.dialect.name());
    let goal = if options.tls { Some(TLS_BYTES_MAX) } else { goal.map(|(_, bytes_max)| bytes_max) };
    let each =
        |figure: &dyn Fn(&MemoryReading) -> f64| readings.iter().map(figure).collect::<Vec<_>>();
    let per_connection =
        |after: u64, before: u64| (after as f64 - before as f64) / connections as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rss = each(&|reading| per_connection(reading.after.rss_anon, reading.before.rss_anon));
    let pss = each(&|reading| per_connection(reading.after.pss, reading.before.pss));
    let row =
        |what: &str, unit, figures: &[f64]| Row::new(format!("{name}: {what}"), unit, figures, &[]);
    let mut rows = Vec::new();
    let rss = row("memory per connection (RssAnon)", "B", &rss);
    rows.extend(rss.map(|row| row.maybe_against(goal.map(Goal::AtMost))));
    rows.extend(row("memory per connection (Pss)", "B", &pss));
    rows.extend(row("RssAnon before", "MiB", &each(&|reading| mib(reading.before.rss_anon))));
    rows.extend(row("RssAnon after", "MiB", &each(&|reading| mib(reading.after.rss_anon))));
    Ok(BenchReport {
        bench: "idle",
        settings: json!({
            "connections": connections, "topics": topics, "runs": runs, "shards": options.shards,
            "dialect": options.dialect.name(), "tls": options.tls,
        }),
        rows,
    })
}

struct MemoryReading {
    before: ProcessMemory,
    after: ProcessMemory,
}

fn read(options: &BenchOptions, progress: &BenchProgress) -> Result<MemoryReading, BenchError> {
    let &BenchOptions { connections, own_topics: topics, .. } = options;
    let target = BenchTarget::open(options)?;
    drop(target.subscribers(WARM_UP_CONNECTIONS.min(connections), topics, CONCURRENCY, |_| {})?);
    target.settle()?;
    let before = target.memory()?;
    let mut clients = target.subscribers(connections, topics, CONCURRENCY, |ready| {
        progress.within("connecting", ready, connections);
    })?;
    target.settle()?;
    rest(&mut clients)?;
    let reading = MemoryReading { before, after: target.memory()? };
    drop(clients);
    target.settle()?;
    Ok(reading)
}

fn rest(clients: &mut BenchClients) -> Result<(), BenchError> {
    let end = Instant::now() + REST;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        clients.receive(left, |_, _, _| {})?;
    }
    Ok(())
}
