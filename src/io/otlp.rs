//! The exporter of OpenTelemetry: a thread that posts metrics and ended sessions to a collector.
//!
//! It starts only where `[otlp]` is configured. A collector that is away costs nothing but the
//! exports of that time: metrics are totals, so the next export has what the missed ones had; ended
//! sessions wait for it in [`ends`](super::ends). A stop has what is left of them exported, and waits
//! for that within a bound.

use super::Hub;
use super::bridge::client::{Client, tls_of_the_system};
use super::clock;
use crate::http::otlp::{self, Otlp, OtlpResource};
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

/// Sessions in one request: some 600 bytes each, so that it stays below the 4 MiB that receivers
/// take at least.
const SPANS_MAX: usize = 2000;
/// Time for an export, after which the next is due soon anyway.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of a stop for the last export: one takes milliseconds where the collector is well.
const LAST_MAX: Duration = Duration::from_secs(2);
/// Wait that a stop grants it at least, when clients have taken all of its time. The forced end
/// leaves more.
const LAST_MIN: Duration = Duration::from_millis(500);

/// The last export, which a stop has made.
pub(super) struct LastExport {
    wanted: oneshot::Sender<()>,
    done: mpsc::Receiver<()>,
}

impl LastExport {
    /// Has the exporter export once more, and then end.
    pub(super) fn begin(self) -> RunningExport {
        // It runs until it is told.
        let _ = self.wanted.send(());
        RunningExport(self.done)
    }
}

/// The last export, while it is made.
pub(super) struct RunningExport(mpsc::Receiver<()>);

impl RunningExport {
    /// Waits for it, about so long.
    pub(super) fn wait(self, time: Duration) {
        // Without an end in time the process ends before it.
        let _ = self.0.recv_timeout(time.clamp(LAST_MIN, LAST_MAX));
    }
}

/// Starts the thread, if there is a collector, which exports until the stop. Returns what that
/// needs.
///
/// # Errors
/// When no thread can be started, or the system has no certificate authorities.
pub(super) fn start(hub: &Arc<Hub>, otlp: Option<Otlp>) -> io::Result<Option<LastExport>> {
    let Some(otlp) = otlp else { return Ok(None) };
    let endpoint = &otlp.endpoint;
    let tls = tls_of_the_system(endpoint.is_https().then(|| endpoint.host()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started_ns = hub.started_ms * 1_000_000;
    let instance = format!("{}-{started_ns}", std::process::id()).into();
    let exporter = Exporter {
        hub: Arc::clone(hub),
        client: Client::new(tls, 1),
        resource: OtlpResource { instance, started_ns },
        otlp,
    };
    let (wanted, end) = oneshot::channel();
    let (report, done) = mpsc::channel();
    let thread = std::thread::Builder::new().name("otlp".into());
    thread.spawn(move || {
        runtime.block_on(exporter.run(end));
        // The stop may have gone on without it.
        let _ = report.send(());
    })?;
    Ok(Some(LastExport { wanted, done }))
}

struct Exporter {
    hub: Arc<Hub>,
    client: Client,
    resource: OtlpResource,
    otlp: Otlp,
}

/// Why an export was not taken.
struct NotTaken {
    reason: String,
    /// Whether it may be taken later (OTLP 1.0, "Failures").
    is_for_now: bool,
}

impl Exporter {
    async fn run(self, mut end: oneshot::Receiver<()>) {
        let (mut is_well, host) = (true, self.otlp.endpoint.host());
        let mut ticks = interval(self.otlp.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_over = false;
        while !is_over {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = &mut end => is_over = true,
            }
            let exported = self.export().await;
            self.hub.ends.count_export(exported.is_ok());
            // Once at each change: a collector that is away is no news with every export.
            match (&exported, is_well) {
                (Ok(()), false) => tracing::info!("the collector {host} takes exports again"),
                (Err(NotTaken { reason, .. }), true) => tracing::warn!(
                    "the collector {host} does not take metrics and sessions: {reason}; trying on"
                ),
                _ => {}
            }
            is_well = exported.is_ok();
        }
    }

    /// Sends the metrics of now, and the sessions that have ended.
    async fn export(&self) -> Result<(), NotTaken> {
        let facts = self.hub.facts().await;
        let now_ns = clock::now().unix_ms * 1_000_000;
        let metrics = otlp::metrics(&self.hub.status(), &facts, &self.resource, now_ns);
        let metrics = metrics.map_err(|error| not_sent(&error))?;
        self.post("/v1/metrics", metrics).await?;

        // Without traces none are kept for it.
        loop {
            let ends = self.hub.ends.take_unsent(SPANS_MAX);
            if ends.is_empty() {
                return Ok(());
            }
            let sent = self.post("/v1/traces", otlp::spans(&ends, &self.resource)).await;
            if let Err(error) = sent {
                // What is refused for good would be refused again.
                if error.is_for_now {
                    self.hub.ends.put_back(ends);
                } else {
                    self.hub.ends.count_dropped(ends.len());
                }
                return Err(error);
            }
        }
    }

    async fn post(&self, path: &str, body: String) -> Result<(), NotTaken> {
        let request = self.otlp.request(path, body).map_err(|error| not_sent(&error))?;
        let reply = self.client.clone().send(request, TIMEOUT, false).await;
        let (status, _) = reply.map_err(|reason| NotTaken { reason, is_for_now: true })?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        let is_for_now = matches!(status, 429 | 502 | 503 | 504);
        Err(NotTaken { reason: format!("status {status} at {path}"), is_for_now })
    }
}

/// An export that could not even be written.
fn not_sent(error: &dyn std::fmt::Display) -> NotTaken {
    NotTaken { reason: error.to_string(), is_for_now: false }
}
