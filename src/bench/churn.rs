//! `bench churn`: a durable queue that is only passed through. One consumer acknowledges at once
//! what the feed publishes, and the feed waits for it: nothing waits on the disk, so nothing should
//! stay there.
//!
//! What is left of it shows in the room on the disk, in the memory round by round, in the start
//! after a SIGKILL and after a stop, and when the topic is opened again: by itself, and in the
//! latency of a producer of another topic.

use super::disk::Watch;
use super::error::{not_read, unreadable};
use super::inflight::InFlight;
use super::load::{Load, for_so_long};
use super::options::BenchOptions;
use super::progress::BenchProgress;
use super::publisher::UnixFeed;
use super::report::{BenchReport, Goal};
use super::side::{self, BenchSource, Side};
use super::target::BenchTarget;
use super::{proc, wire};
use crate::cli::CliError;
use hdrhistogram::Histogram;
use rustix::process::Signal;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes on the disk at any time.
const DISK_BYTES_MAX: f64 = 256.0 * 1024.0 * 1024.0;
/// Where the daemon counts what it has written to its logs and indexes.
const WRITTEN: &str = "fanfare_store_written_bytes_total";
/// Bytes written for each byte of payload.
const WRITTEN_MAX: f64 = 1.5;
/// Seconds after which a daemon has to be ready again.
const READY_S_MAX: f64 = 1.0;
/// Milliseconds in which a consumer and a producer of the topic are connected again.
const OPENED_MS_MAX: f64 = 10.0;
/// The times of its latency before that a bystander may see while they are.
const BYSTANDER_RATIO_MAX: f64 = 1.5;
/// Bytes that the memory may have grown by from the first round to the last.
const GROWTH_BYTES_MAX: f64 = 4.0 * 1024.0 * 1024.0;

/// Messages that the feed may be ahead of the consumer: enough that neither waits for the other's
/// turn.
const AHEAD_MAX: usize = 20_000;
/// The same in bytes of payload: little beside the room that is measured.
const AHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Nothing came for so long: it is lost. A store that reads itself through may take tens of
/// seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a daemon may take to store an acknowledgement, and more.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(1500);
/// How long the bystander is measured before and while the topic is opened.
const WINDOW_S: f64 = 1.0;
/// How long it sends before it counts.
const WARM_UP_S: f64 = 0.3;
/// The topic of the bystander, and the bytes of its messages.
const BYSTANDER: (&str, usize) = ("bystander", 256);
/// The part of a round that passes between the two restarts.
const BETWEEN: u64 = 10;

/// What all rounds have come to.
#[derive(Debug)]
struct Passed {
    per_second: Vec<f64>,
    /// Resident anonymous memory after each round.
    memory: Vec<f64>,
    /// Bytes of the log for each byte of payload, where the daemon counts them.
    written: Option<f64>,
    /// Bytes of pages that became dirty for each byte of payload: more where the system keeps
    /// files in larger pieces.
    dirtied: f64,
    left: u64,
    wrong: u64,
}

/// What a daemon was like that was started again.
#[derive(Debug)]
struct Again {
    how: &'static str,
    ready: Duration,
    /// How long it took to connect a consumer and a producer of the topic.
    opened: Duration,
    /// The bystander's latency before, and while the topic was opened.
    before: Histogram<u64>,
    meanwhile: Histogram<u64>,
}

/// Passes messages through a daemon, round by round, and starts it again twice.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let options = options.durable()?;
    let BenchOptions { messages, size, rounds, .. } = options;
    let mut target = BenchTarget::open(&options)?;
    let progress = BenchProgress::new(rounds + 2);
    let watch = Watch::new(target.store()?.join("store"), pid(&target))?;
    let mut passed = pass_rounds(&target, &options, &watch, &progress)?;

    let mut restarts = Vec::new();
    for (by, how) in [(Signal::KILL, "SIGKILL"), (Signal::TERM, "a stop")] {
        progress.step(&format!("churn: starting the daemon again after {how}"));
        let ready = target.restart(by)?;
        watch.follow(pid(&target));
        let (mut queue, again) = open_again(&target, size, how, ready)?;
        restarts.push(again);
        if by == Signal::KILL {
            // So that the stop has something to stop.
            pass(&mut queue, size, (messages / BETWEEN).max(1), &progress)?;
            // Acknowledgements that are not stored yet would come again, and count as repeated.
            std::thread::sleep(ACKNOWLEDGED_WITHIN);
        }
        passed.wrong += queue.take_wrong();
    }

    let settings = json!({ "messages": messages, "size": size, "rounds": rounds });
    let mut report = BenchReport::new("churn", settings);
    tell(&mut report, &format!("churn {messages} × {size} B"), &passed, &restarts, watch.highest());
    Ok(report)
}

fn tell(report: &mut BenchReport, name: &str, passed: &Passed, restarts: &[Again], highest: u64) {
    let mut add = |what: &str, unit, values: &[f64], goal| {
        report.add(format!("{name}: {what}"), unit, values, &[], goal);
    };
    add("passed", "/s", &passed.per_second, None);
    add("disk at most", "B", &[highest as f64], Some(Goal::AtMost(DISK_BYTES_MAX)));
    add("disk at the end", "B", &[passed.left as f64], None);
    // A daemon that does not count them has no row.
    let written = passed.written.as_slice();
    add("written per payload byte", "B", written, Some(Goal::AtMost(WRITTEN_MAX)));
    add("pages dirtied per payload byte", "B", &[passed.dirtied], None);
    add("memory after a round", "B", &passed.memory, None);
    // One round has nothing to compare with.
    if let [first, .., last] = passed.memory[..] {
        let goal = Some(Goal::AtMost(GROWTH_BYTES_MAX));
        add("memory more after the last round", "B", &[last - first], goal);
    }
    for Again { how, ready, opened, .. } in restarts {
        let (ready_s, opened_ms) = (ready.as_secs_f64(), opened.as_secs_f64() * 1000.0);
        add(&format!("ready after {how}"), "s", &[ready_s], Some(Goal::AtMost(READY_S_MAX)));
        add(&format!("opened after {how}"), "ms", &[opened_ms], Some(Goal::AtMost(OPENED_MS_MAX)));
    }

    for (quantile, which) in [(0.5, "p50"), (0.99, "p99")] {
        let (meanwhile, before): (Vec<f64>, Vec<f64>) = restarts
            .iter()
            .map(|Again { meanwhile, before, .. }| {
                (side::quantile_us(meanwhile, quantile), side::quantile_us(before, quantile))
            })
            .unzip();
        let what = format!("{name}: bystander meanwhile, against before, {which}");
        let goal = Some(Goal::RatioAtMost(BYSTANDER_RATIO_MAX));
        report.add(what, "µs", &meanwhile, &before, goal);
    }
    let (what, wrong) = (format!("{name}: lost, repeated or altered"), passed.wrong as f64);
    report.add(what, "", &[wrong], &[], Some(Goal::AtMost(0.0)));
}

/// All rounds in one life of the daemon, and what they have left behind.
fn pass_rounds(
    target: &BenchTarget,
    options: &BenchOptions,
    watch: &Watch,
    progress: &BenchProgress,
) -> Result<Passed, CliError> {
    let &BenchOptions { messages, size, rounds, .. } = options;
    let mut queue = open_queue(target, size)?;
    let (mut per_second, mut memory) = (Vec::new(), Vec::new());
    let before = proc::written(pid(target)).map_err(unreadable(pid(target)))?;
    let logged = target.metric(WRITTEN).ok();
    for round in 1..=rounds {
        progress.step(&format!("churn: round {round}, {messages} messages"));
        let elapsed = pass(&mut queue, size, messages, progress)?;
        per_second.push(messages as f64 / elapsed.as_secs_f64());
        // What is acknowledged in memory alone still holds room on the disk.
        std::thread::sleep(ACKNOWLEDGED_WITHIN);
        target.settle()?;
        memory.push(target.memory()?.rss_anon as f64);
    }

    let dirtied = proc::written(pid(target)).map_err(unreadable(pid(target)))?;
    let written = logged.zip(target.metric(WRITTEN).ok()).map(|(before, after)| after - before);
    let payload = rounds as f64 * messages as f64 * size as f64;
    Ok(Passed {
        per_second,
        memory,
        written: written.map(|written| written / payload),
        dirtied: dirtied.saturating_sub(before) as f64 / payload,
        left: watch.now(),
        wrong: queue.take_wrong(),
    })
}

/// Connects a consumer and a producer of the topic while a producer of another one goes on.
fn open_again(
    target: &BenchTarget,
    size: usize,
    how: &'static str,
    ready: Duration,
) -> Result<(Side, Again), CliError> {
    let is_over = AtomicBool::new(false);
    let (measured, goes_on) = mpsc::channel();
    let (queue, opened, before, meanwhile) = std::thread::scope(|scope| {
        let bystander = scope.spawn(|| stand_by(target, measured, &is_over));
        // Without a word it has ended, and the reason comes with it.
        let opened = goes_on.recv().ok().map(|()| open_both(target, size));
        // Also after an error, or the bystander would go on for ever.
        is_over.store(true, Relaxed);
        let seen = bystander.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (before, meanwhile) = seen?;
        let (queue, opened) = opened.ok_or_else(not_read)??;
        Ok::<_, CliError>((queue, opened, before, meanwhile))
    })?;
    Ok((queue, Again { how, ready, opened, before, meanwhile }))
}

/// A producer of another topic with one message in flight: its latency before it says that it was
/// measured, and from then until all is over.
fn stand_by(
    target: &BenchTarget,
    measured: mpsc::Sender<()>,
    is_over: &AtomicBool,
) -> Result<(Histogram<u64>, Histogram<u64>), CliError> {
    let (topic, bytes) = BYSTANDER;
    let mut load = Load::connect(target, &[topic.into()], 1, 1, bytes)?;
    let (mut before, mut meanwhile) = (side::histogram(), side::histogram());
    load.send(for_so_long(WARM_UP_S), &mut side::histogram())?;
    load.send(for_so_long(WINDOW_S), &mut before)?;
    let _ = measured.send(());
    load.send(|| !is_over.load(Relaxed), &mut meanwhile)?;
    // It does not send while its one message waits: what it would have seen meanwhile is put in.
    let interval_ns = before.value_at_quantile(0.5);
    Ok((before.clone_correct(interval_ns), meanwhile.clone_correct(interval_ns)))
}

/// Connects them, and takes what comes again until the bystander was measured for long enough.
fn open_both(target: &BenchTarget, size: usize) -> Result<(Side, Duration), CliError> {
    let mut more = for_so_long(WINDOW_S);
    let start = Instant::now();
    let mut queue = open_queue(target, size)?;
    let producer = Load::connect(target, &[wire::topic_name(None)], 1, 1, size)?;
    let opened = start.elapsed();
    while more() {
        queue.receive(Duration::from_secs_f64(WINDOW_S / 10.0), &mut side::histogram())?;
    }
    drop(producer);
    Ok((queue, opened))
}

fn pid(target: &BenchTarget) -> u32 {
    target.pid.unwrap_or_default()
}

/// The feed and the one consumer of the topic.
fn open_queue(target: &BenchTarget, size: usize) -> Result<Side, CliError> {
    let line = target.payload_line(size)?;
    let expectation = line.expectation().wrapped();
    let feed = BenchSource::Feed(UnixFeed::connect(target.socket()?, line, vec![0])?);
    let mut clients = target.subscribers(1, false, 1, |_| {})?;
    clients.acknowledge = target.acknowledges();
    // A message that came before was left over from the round before, and is counted as such.
    clients.list[0].expected = 1;
    let in_flight = InFlight::new(window(size) as usize, 1, 1);
    let mut queue = Side::new(clients, feed, in_flight, expectation, Vec::new())?;
    queue.patience = SILENCE;
    Ok(queue)
}

/// How many messages the feed may be ahead.
fn window(size: usize) -> u64 {
    (AHEAD_BYTES_MAX / size).clamp(1, AHEAD_MAX) as u64
}

/// Publishes so many messages, and takes and acknowledges them; returns how long it took.
fn pass(
    queue: &mut Side,
    size: usize,
    messages: u64,
    progress: &BenchProgress,
) -> Result<Duration, CliError> {
    let start = Instant::now();
    queue.pass(window(size), messages, |published| {
        progress.within("passed", published as usize, messages as usize);
    })?;
    Ok(start.elapsed())
}
