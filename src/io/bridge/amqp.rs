//! The RabbitMQ feed: one queue for the whole daemon, read for as long as the daemon takes events.
//!
//! A batch of messages is handed to every shard, and only then acknowledged. While a shard lags
//! nothing more is taken, so the broker keeps the messages beyond `prefetch` and nothing is
//! dropped. The queue belongs to the connection: when that is lost, so are messages published
//! meanwhile, and clients are told by closing their sessions, unless configured otherwise. A broker
//! that is away is retried forever.

mod bus;
mod connection;
mod fault;
mod wire;

pub use self::bus::Bus;

use self::connection::AmqpConnection;
use self::fault::AmqpFault;
use super::super::gaps::GapSource;
use super::super::handoff::Parcel;
use super::super::{Hub, ROOM_PAUSE, clock};
use super::backoff::Backoff;
use crate::dialect::Kind;
use crate::dialect::{AmqpHeader, AmqpMessage};
use crate::feed::amqp::{OnBusLoss, REFUSED};
use crate::feed::{Intake, Taken};
use crate::metrics::{Metrics, Origin, Outcome};
use crate::throttle::LogLine;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::task::yield_now;
use tokio::time::sleep;

/// The feed.
pub(in crate::io) struct AmqpFeed {
    bus: Bus,
    /// The dialects that it feeds.
    kinds: Vec<Kind>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    intake: Intake,
    backoff: Backoff,
    /// Whether sessions of another process go on here, which know of no outage.
    takes_over: bool,
}

impl AmqpFeed {
    /// A feed that is not connected yet, which the shards are told from now on, unless another
    /// process has been until now.
    pub(in crate::io) fn new(
        bus: Bus,
        spoken: Vec<Kind>,
        hub: &Arc<Hub>,
        metrics: Arc<Metrics>,
        takes_over: bool,
    ) -> Self {
        metrics.amqp.configured.set(1);
        let hub = Arc::clone(hub);
        let intake = Intake::new(spoken, hub.settings());
        let kinds = Kind::fed_by_bus().collect();
        let feed =
            Self { bus, kinds, hub, metrics, intake, backoff: Backoff::default(), takes_over };
        let reason = format!("no events from RabbitMQ: connecting to {}", feed.bus.broker);
        feed.hub.gaps.begin(GapSource::Amqp, &feed.kinds, &reason);
        if !takes_over {
            feed.tell_outage(true);
        }
        feed
    }

    /// Reads the bus until the daemon stops.
    pub(super) async fn run(mut self) {
        while let Err(fault) = self.read().await {
            // Draining ends the connection too, which is no outage.
            if self.hub.draining.load(Relaxed) {
                break;
            }
            // Only a loss after a success changes anything for the sessions; failed retries do not.
            let takes_over = take(&mut self.takes_over);
            if self.metrics.amqp.connected.get() > 0 {
                self.metrics.amqp.connected.set(0);
                self.metrics.amqp.losses.add(1);
                self.tell_outage(true);
            } else if takes_over {
                self.tell_outage(true);
            }

            let pause = self.backoff.next();
            let (broker, advice) = (self.bus.broker.to_string(), fault.advice(&self.bus));
            let reason = format!("no events from RabbitMQ at {broker}: {advice}");
            self.hub.gaps.begin(GapSource::Amqp, &self.kinds, &reason);
            tracing::error!(
                broker,
                "no events from RabbitMQ at {broker}: {advice}; trying again in {} s",
                pause.as_secs()
            );
            // Waits for the drain as well, or a stop would last as long as the pause.
            if self.hub.bridge.drains_within(pause).await {
                break;
            }
            self.metrics.amqp.reconnects.add(1);
        }
        self.metrics.amqp.connected.set(0);
    }

    /// Connects and hands on messages, until the daemon stops.
    async fn read(&mut self) -> Result<(), AmqpFault> {
        let mut connection = AmqpConnection::open(&self.bus).await?;
        self.backoff = Backoff::default();
        // Before the first event: clients that connect from now on get all that follow.
        self.tell_outage(false);
        self.metrics.amqp.connected.set(1);
        self.hub.gaps.end(GapSource::Amqp);
        let (broker, exchange) = (self.bus.broker.to_string(), &self.bus.settings.exchange);
        tracing::info!(
            broker,
            exchange,
            "events come from RabbitMQ at {broker}, exchange {exchange}"
        );
        if let (true, Some(paused_at)) = (take(&mut self.takes_over), self.hub.paused_at.get()) {
            tracing::warn!(
                broker,
                "events of the last {:.1} s were missed from RabbitMQ at {broker}: the hand-over",
                paused_at.elapsed().as_secs_f64()
            );
        }

        let mut batch = Vec::new();
        while !connection.next(&mut batch, &self.hub.bridge).await? {
            self.drain(&mut batch, &connection).await?;
        }
        // What was sent before the cancel is still handed on: the queue ends with the connection.
        connection.cancel().await?;
        while connection.rest(&mut batch).await? {
            self.drain(&mut batch, &connection).await?;
        }
        // The stop waits for what was taken, not for the closing handshake.
        self.metrics.amqp.connected.set(0);
        connection.close().await;
        Ok(())
    }

    /// Hands a batch to every shard as soon as they have room, then acknowledges it.
    async fn drain(
        &mut self,
        batch: &mut Vec<Delivery>,
        connection: &AmqpConnection,
    ) -> Result<(), AmqpFault> {
        // Unacknowledged, the broker's prefetch limit holds the rest back.
        let feeding = loop {
            match self.hub.feeding() {
                Some(feeding) => break feeding,
                None => sleep(ROOM_PAUSE).await,
            }
        };

        self.intake.configure(&self.hub.settings());
        let now = clock::now();
        let exchange = self.bus.settings.exchange_type;
        let events = &self.metrics.events[Origin::Amqp as usize];

        let mut publications = Vec::with_capacity(batch.len());
        for delivery in batch.iter() {
            let message = message(delivery);
            let taken = self.intake.take_message(&message, exchange, now, &mut |publication| {
                // Every node has a queue of its own.
                publications.push(publication.for_this_node());
            });
            let outcome = match taken {
                Ok(Taken::NoListener) => Outcome::NoListener,
                Ok(Taken::Published | Taken::Append(..)) => Outcome::Accepted,
                Err(rejection) => {
                    LogLine::AmqpRejected.warn(now, || {
                        format!(
                            "a message from RabbitMQ was dropped, it is not an event: {rejection}"
                        )
                    });
                    Outcome::Rejected
                }
            };
            events[outcome as usize].add(1);
        }

        self.hub.broadcast(publications, None);
        drop(feeding);
        // After the broadcast: acknowledged messages are not delivered again if the daemon ends.
        connection.acknowledge(batch).await?;
        // The thread's other tasks get a turn, even when the next batch has arrived.
        yield_now().await;
        Ok(())
    }

    /// Tells every shard whether the broker is away, if sessions are to be closed for it.
    fn tell_outage(&self, away: bool) {
        if self.bus.settings.on_bus_loss == OnBusLoss::Close {
            for kind in &self.kinds {
                let close = kind.close_bus_lost().filter(|_| away);
                self.hub.post_to_all(|| Parcel::Outage(*kind, close));
            }
        }
    }
}

/// Connects, logs in and asks for messages, once.
///
/// # Errors
/// Why none would come, with what to do.
pub(super) async fn probe(bus: &Bus) -> Result<(), String> {
    let connection = AmqpConnection::open(bus).await.map_err(|fault| fault.advice(bus))?;
    connection.close().await;
    Ok(())
}

/// A delivery in the feed's types.
fn message(delivery: &Delivery) -> AmqpMessage<'_> {
    let table = delivery.properties.headers().as_ref();
    let headers = table.into_iter().flat_map(|table| table.inner()).map(|(name, value)| {
        let header = match value {
            // RabbitMQ's long strings are bytes; a header that is not text means nothing to a
            // dialect.
            AMQPValue::LongString(text) => {
                std::str::from_utf8(text.as_bytes()).map_or(AmqpHeader::Other, AmqpHeader::Text)
            }
            AMQPValue::ShortString(text) => AmqpHeader::Text(text.as_str()),
            AMQPValue::Boolean(yes) => AmqpHeader::Bool(*yes),
            AMQPValue::Void => AmqpHeader::Null,
            _ => AmqpHeader::Other,
        };
        (name.as_str(), header)
    });
    // The screen's mark.
    let is_refused =
        delivery.properties.content_type().as_ref().is_some_and(|kind| kind.as_str() == REFUSED);
    AmqpMessage { headers: headers.collect(), body: &delivery.data, is_refused }
}
