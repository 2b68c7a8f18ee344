//! Producers of a durable topic in a closed loop: each keeps so many messages outstanding.

use super::clients::BenchClients;
use super::connect;
use super::error::{command_refused, not_read};
use super::target::BenchTarget;
use super::wire;
use crate::cli::CliError;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Nothing was acknowledged for so long: the daemon is stuck. A store that reads itself through may
/// take tens of seconds, which is a figure and no failure.
const SILENCE: Duration = Duration::from_secs(60);

/// Producers that keep so many messages outstanding.
pub(super) struct Load {
    clients: BenchClients,
    in_flight: u64,
    /// A message as a frame.
    frame: Vec<u8>,
    /// What the answer to a message begins with that was stored.
    stored: &'static str,
    /// How many each has sent; what it was told of is counted in `expected`.
    sent: Vec<u64>,
}

impl Load {
    /// So many producers of durable topics, of each in turn, connected.
    pub(super) fn connect(
        target: &BenchTarget,
        topics: &[String],
        producers: usize,
        in_flight: u64,
        size: usize,
    ) -> Result<Self, CliError> {
        let mut clients = BenchClients::new(false)?;
        let producer = target.producer(&topics[0])?;
        let plan = target.producers(topics, producers)?;
        connect::open(&mut clients, &plan, |_| {})?;
        let mut frame = Vec::new();
        let message = (producer.message)(&vec![b'x'; size]);
        wire::client_frame(wire::TEXT, message.as_bytes(), &mut frame);
        Ok(Self { clients, in_flight, frame, stored: producer.stored, sent: vec![0; producers] })
    }

    /// Sends as long as there is to be `more` and waits for all that is outstanding; returns how
    /// many were stored. The latency is only that of a single message in flight.
    pub(super) fn send(
        &mut self,
        mut more: impl FnMut() -> bool,
        latency: &mut Histogram<u64>,
    ) -> Result<u64, CliError> {
        let Self { clients, in_flight, frame, stored: success, sent } = self;
        let mut stored = 0;
        let mut sent_ns = 0;
        loop {
            let open = more();
            let mut outstanding = 0;
            for (client, sent) in clients.list.iter_mut().zip(sent.iter_mut()) {
                let room = *in_flight - (*sent - client.expected);
                if open && room > 0 {
                    client.send(&frame.repeat(room as usize))?;
                    *sent += room;
                }
                outstanding += *sent - client.expected;
            }
            // All was acknowledged: none is left that the next measurement would count.
            if outstanding == 0 {
                return Ok(stored);
            }
            if *in_flight == 1 && stored == 0 {
                sent_ns = clients.now_ns();
            }
            let mut refused = None;
            let woken = clients.receive(SILENCE, |answered, payload, now_ns| {
                // A message that was refused takes no time to store, and would flatter the figure.
                if !payload.starts_with(success.as_bytes()) {
                    refused = Some(String::from_utf8_lossy(payload).into_owned());
                }
                *answered += 1;
                stored += 1;
                latency.saturating_record(now_ns.saturating_sub(sent_ns));
            })?;
            if let Some(reply) = refused {
                return Err(command_refused(&reply));
            }
            if woken.idle {
                return Err(not_read());
            }
            // The next one of a single producer leaves at once.
            sent_ns = clients.now_ns();
        }
    }
}

/// Says whether there is time left of so many seconds, which begin now.
pub(super) fn for_so_long(seconds: f64) -> impl FnMut() -> bool {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    move || Instant::now() < end
}
