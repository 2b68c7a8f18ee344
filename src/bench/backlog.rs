//! `bench backlog`: many messages without a consumer wait on the disk.

use super::error::{feed_ended, feed_rejected, feed_unreachable, stalled};
use super::interrupt;
use super::options::BenchOptions;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal};
use super::target::BenchTarget;
use crate::cli::CliError;
use rustix::process::Signal;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of memory that a daemon may grow by.
const GROWTH_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;
/// Seconds after which a daemon has to be ready again.
const READY_S_MAX: f64 = 3.0;
/// Messages of one write to the feed.
const BATCH: u64 = 1000;
/// Messages between checks of the memory.
const LOOK_EVERY: u64 = 100_000;
/// How long the first message may take.
const FIRST_WITHIN: Duration = Duration::from_secs(30);

/// Loads a daemon, looks at its memory, starts it again and waits for the first message.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let options = options.durable()?;
    let BenchOptions { messages, size, .. } = options;
    let mut target = BenchTarget::open(&options)?;
    let progress = BenchProgress::new(3);
    // A subscription without a consumer is what keeps them.
    drop(target.subscribers(1, false, 1, |_| {})?);
    // The subscriber's memory is given back before the first reading.
    target.settle()?;
    let before = target.memory()?.rss_anon;
    progress.step(&format!("loading {messages} messages"));
    let start = Instant::now();
    let highest = load(&target, messages, size, &progress)?;
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    progress.step("starting the daemon again");
    let start = Instant::now();
    let ready = target.restart(Signal::TERM)?;
    let mut clients = target.subscribers(1, false, 1, |_| {})?;
    let mut delivered = clients.early;
    while delivered == 0 {
        clients.receive(FIRST_WITHIN, |_, _, _| delivered += 1)?;
        if start.elapsed() > FIRST_WITHIN {
            return Err(stalled(0, 1));
        }
    }
    let first = target.since_restart();
    let again = target.memory()?.rss_anon;

    let mut report = BenchReport::new("backlog", json!({ "messages": messages, "size": size }));
    let growth = highest.saturating_sub(before) as f64;
    for (what, unit, value, goal) in [
        ("loaded by the feed", "/s", rate, None),
        ("memory more at most", "B", growth, Some(Goal::AtMost(GROWTH_BYTES_MAX))),
        ("ready again", "s", ready.as_secs_f64(), Some(Goal::AtMost(READY_S_MAX))),
        ("first message", "s", first.as_secs_f64(), Some(Goal::AtMost(READY_S_MAX))),
        ("memory with it, after the start", "B", again as f64, None),
    ] {
        report.add(format!("backlog of {messages}: {what}"), unit, &[value], &[], goal);
    }
    Ok(report)
}

/// Feeds all messages; returns the most memory that was seen meanwhile.
fn load(
    target: &BenchTarget,
    messages: u64,
    size: usize,
    progress: &BenchProgress,
) -> Result<u64, CliError> {
    let (path, line) = (target.socket()?, target.sample(size, false)?.line);
    let mut feed = UnixStream::connect(path).map_err(feed_unreachable(path))?;
    let mut replies = BufReader::new(feed.try_clone().map_err(feed_unreachable(path))?);
    let mut highest = 0;
    let mut lines = Vec::new();
    let mut fed = 0;
    while fed < messages {
        interrupt::check()?;
        lines.clear();
        let last = (fed + BATCH).min(messages);
        (fed + 1..=last).for_each(|sequence| line.append(0, sequence, &mut lines));
        feed.write_all(&lines).map_err(|_| feed_ended())?;
        fed = last;
        // Only what has a receipt is in the daemon; the rest is in the socket's buffer.
        if fed % LOOK_EVERY == 0 || fed == messages {
            receipt(&mut feed, &mut replies, fed)?;
            highest = highest.max(target.memory()?.rss_anon);
            progress.within("loading", fed as usize, messages as usize);
        }
    }
    Ok(highest)
}

/// Asks for a receipt, which has to count so many messages.
fn receipt(
    feed: &mut UnixStream,
    replies: &mut impl BufRead,
    messages: u64,
) -> Result<(), CliError> {
    feed.write_all(b"\n").map_err(|_| feed_ended())?;
    let mut reply = String::new();
    replies.read_line(&mut reply).map_err(|_| feed_ended())?;
    let is_good =
        reply.contains(&format!("\"accepted\":{messages},")) && reply.contains("\"rejected\":0");
    if is_good { Ok(()) } else { Err(feed_rejected(reply.as_bytes())) }
}
