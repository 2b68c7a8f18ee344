//! The Redis feed: one subscribed connection for the whole daemon, read for as long as the daemon
//! takes events, and a second one to relay messages to other daemons.
//!
//! Redis keeps nothing for a subscriber that is away or slow. So a message for which the shards
//! have no room waits here, in a backlog with a limit, while reading goes on; messages beyond it
//! are lost and counted. While Redis is away it is retried forever: sessions stay, and readiness
//! says that they miss something.

mod backlog;
mod connection;
mod fault;
mod place;
mod relay;
mod wire;

pub use self::place::Redis;
pub(super) use self::relay::Relays;

use self::backlog::RedisBacklog;
use self::connection::RedisConnection;
use self::fault::RedisFault;
use super::super::gaps::GapSource;
use super::super::{Hub, ROOM_PAUSE, clock};
use super::backoff::Backoff;
use crate::dialect::Kind;
use crate::feed::Intake;
use crate::feed::redis::{RedisMessage, RedisTaken, RelayNode};
use crate::metrics::{Metrics, Origin, Outcome};
use crate::throttle::LogLine;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::yield_now;
use tokio::time::sleep;

/// Messages that are handed on without asking the shards for room again, and without a turn for the
/// thread's other tasks, such as asking verifiers: some milliseconds.
const BATCH_MAX: usize = 256;
/// Bytes of such a batch, for the same reason.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The feed.
pub(in crate::io) struct RedisFeed {
    redis: Redis,
    /// The dialects that it feeds.
    kinds: Vec<Kind>,
    node: RelayNode,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    intake: Intake,
    backlog: RedisBacklog,
    backoff: Backoff,
    /// Since when no events come; `None` before the first attempt, and while they do.
    gap: Option<Instant>,
    /// Since when the process before read nothing; `None` without one, and after the first
    /// connection.
    paused_at: Option<Instant>,
}

impl RedisFeed {
    /// A feed that is not connected yet, which readiness shows from now on.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(in crate::io) fn new(
        redis: Redis,
        spoken: Vec<Kind>,
        hub: &Arc<Hub>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;

        metrics.redis.configured.set(1);

        let kinds = redis.topics.kinds();
        let reason = format!("no events from Redis: connecting to {}", redis.server);
        hub.gaps.begin(GapSource::Redis, &kinds, &reason);
        Ok(Self {
            kinds,
            redis,
            node: RelayNode::new(random),
            hub: Arc::clone(hub),
            metrics,
            intake: Intake::new(spoken, hub.settings()),
            backlog: RedisBacklog::default(),
            backoff: Backoff::default(),
            gap: None,
            paused_at: None,
        })
    }

    /// Reads Redis until the daemon stops.
    pub(super) async fn run(mut self) {
        self.paused_at = self.hub.paused_at.get().copied();
        while let Err(fault) = self.read().await {
            // Draining ends the connection too, which is no gap.
            if self.hub.draining.load(Relaxed) {
                break;
            }
            self.begin_gap(&fault);
            let pause = self.backoff.next();
            if self.wait(pause).await {
                break;
            }
            self.metrics.redis.reconnects.add(1);
        }
        self.metrics.redis.connected.set(0);
    }

    /// Connects, hands on messages and relays clients' messages, until the daemon stops.
    async fn read(&mut self) -> Result<(), RedisFault> {
        let connection = RedisConnection::open(&self.redis).await?;

        let (hub, metrics) = (Arc::clone(&self.hub), Arc::clone(&self.metrics));
        // Both connections or none: a daemon that hears others and is not heard would be a puzzle.
        let publisher = if self.redis.topics.relay.is_some() {
            Some(connection::publisher(&self.redis).await?)
        } else {
            None
        };

        self.end_gap();
        let (channel, node, relays) =
            (self.redis.topics.relays(), self.node.clone(), &hub.bridge.relays);
        let relaying = relay::publish(publisher, channel, node, relays, &metrics);
        let mut relaying = std::pin::pin!(relaying);

        let end = tokio::select! {
            end = self.listen(connection) => end,
            fault = &mut relaying => Err(fault),
        };
        if end.is_ok() {
            // The stop waits for what was taken. Until it is over, clients may send more.
            self.metrics.redis.connected.set(0);
            relaying.await;
        }
        // Clients' messages from here on are lost until there is a connection again.
        metrics.relays_lost.add(hub.bridge.relays.close() as u64);
        end
    }

    /// Hands on messages, until the daemon stops.
    async fn listen(&mut self, mut connection: RedisConnection) -> Result<(), RedisFault> {
        let hub = Arc::clone(&self.hub);

        let mut end = Ok(false);
        while let Ok(false) = end {
            end = tokio::select! {
                () = hub.bridge.drained() => Ok(true),
                come = connection.next(&mut self.backlog) => come.map(|()| false),
                // Messages that waited for room are tried again soon, whether new ones come or not.
                () = sleep(ROOM_PAUSE), if !self.backlog.is_empty() => Ok(false),
            };
            // More messages would only find the backlog full.
            let held = connection.hold();
            self.drain().await;
            drop(held);
        }

        // After a loss of the connection the backlog is handed on during the pause, see `wait`.
        while end.is_ok() && !self.backlog.is_empty() {
            sleep(ROOM_PAUSE).await;
            self.drain().await;
        }
        end.map(|_| ())
    }

    /// Waits, and meanwhile hands on the backlog. Returns whether the daemon has been told to stop.
    async fn wait(&mut self, pause: Duration) -> bool {
        let start = Instant::now();
        while !self.backlog.is_empty() && start.elapsed() < pause {
            if self.hub.bridge.drains_within(ROOM_PAUSE).await {
                return true;
            }
            self.drain().await;
        }
        self.hub.bridge.drains_within(pause.saturating_sub(start.elapsed())).await
    }

    /// Hands the backlog to every shard, as far as there is room. The thread's other tasks get a
    /// turn after each batch.
    async fn drain(&mut self) {
        while !self.backlog.is_empty()
            && let Some(_feeding) = self.hub.feeding()
        {
            self.drain_batch();
            if !self.backlog.is_empty() {
                yield_now().await;
            }
        }

        let dropped = self.backlog.take_dropped();
        self.metrics.messages_dropped.add(dropped);
        if dropped > 0 {
            LogLine::RedisDropped.warn(clock::now(), || {
                format!(
                    "{dropped} messages from Redis are lost: they arrive faster than clients \
                     receive them; see fanfare_feed_messages_dropped_total"
                )
            });
        }
    }

    fn drain_batch(&mut self) {
        self.intake.configure(&self.hub.settings());
        let now = clock::now();

        let mut publications = Vec::with_capacity(BATCH_MAX.min(self.backlog.len()));
        for message in self.backlog.take(BATCH_MAX, BATCH_BYTES_MAX) {
            let message = RedisMessage {
                channel: message.get_channel_name(),
                by_pattern: message.from_pattern(),
                payload: message.get_payload_bytes(),
            };
            let taken = self.redis.topics.take(&message, &self.node, &mut self.intake, now);
            let events = &self.metrics.events[Origin::Redis as usize];
            match taken {
                Ok(RedisTaken::Publication(publication)) => {
                    // Every node subscribes for itself.
                    publications.push(publication.for_this_node());
                }
                Ok(RedisTaken::NoListener) => events[Outcome::NoListener as usize].add(1),
                Ok(RedisTaken::Ignored) => self.metrics.messages_ignored.add(1),
                // The clients of this daemon had it when it was sent.
                Ok(RedisTaken::Own) => {}
                Err(rejection) => {
                    events[Outcome::Rejected as usize].add(1);
                    LogLine::RedisRejected.warn(now, || {
                        format!(
                            "a message from Redis in {:?} was ignored: {rejection}",
                            message.channel
                        )
                    });
                }
            }
        }
        let accepted = &self.metrics.events[Origin::Redis as usize][Outcome::Accepted as usize];
        accepted.add(publications.len() as u64);
        self.hub.broadcast(publications, None);
    }

    /// Logs the beginning of a gap, and shows its state in readiness.
    fn begin_gap(&mut self, fault: &RedisFault) {
        let (server, advice) = (self.redis.server.to_string(), fault.advice(&self.redis));
        let reason = format!("no events from Redis at {server}: {advice}");

        self.hub.gaps.begin(GapSource::Redis, &self.kinds, &reason);
        // Only an error at the beginning: a Redis that is away for hours would fill the log.
        if self.metrics.redis.connected.get() > 0 {
            self.metrics.redis.connected.set(0);
            self.metrics.redis.losses.add(1);
        }

        if self.gap.is_none() {
            self.gap = Some(self.paused_at.take().unwrap_or_else(Instant::now));
            tracing::error!(
                server,
                "no events from Redis at {server}: {advice}; retrying until it is back"
            );
        } else {
            tracing::debug!(server, "still no events from Redis at {server}: {advice}");
        }
    }

    /// Logs the end of a gap, and how long it was: what was published meanwhile is missed.
    fn end_gap(&mut self) {
        self.backoff = Backoff::default();
        self.metrics.redis.connected.set(1);
        self.hub.gaps.end(GapSource::Redis);

        let (server, topics) = (self.redis.server.to_string(), &self.redis.topics);
        let channels = [topics.channels(), topics.patterns()].concat().join(" ");
        match self.gap.take().or(self.paused_at.take()) {
            None => {
                tracing::info!(server, channels, "events come from Redis at {server}: {channels}")
            }
            Some(gap) => tracing::info!(
                server,
                channels,
                "events come from Redis again, at {server}: {channels}; events of the last {:.1} s \
                 were missed",
                gap.elapsed().as_secs_f64()
            ),
        }
    }
}

/// Connects, logs in and subscribes, once; as a relay, logs in a second time.
///
/// # Errors
/// Why no messages would come, with what to do.
pub(super) async fn probe(redis: &Redis) -> Result<(), String> {
    let advice = |fault: RedisFault| fault.advice(redis);
    RedisConnection::open(redis).await.map_err(advice)?;
    if redis.topics.relay.is_some() {
        connection::publisher(redis).await.map_err(advice)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::handoff::{MAILBOX, Parcel};
    use super::*;
    use crate::dialect::{RedisChannels, RedisSource};
    use crate::feed::redis::RedisTopics;
    use redis::{Msg, Value};

    fn hub() -> Arc<Hub> {
        let hub = Hub::new(1, 1, &[], &Arc::default()).unwrap();
        hub.ready.store(true, Relaxed);
        Arc::new(hub)
    }

    fn sources() -> Vec<RedisSource> {
        let channels = RedisChannels::Named("broadcast");
        vec![RedisSource { address: "channel".into(), channels }]
    }

    fn feed(hub: &Arc<Hub>) -> RedisFeed {
        let server = crate::feed::redis::Server::read("redis://:hunter2@redis.example").unwrap();
        let topics = RedisTopics { prefix: "p-".into(), sources: sources(), relay: None };
        let metrics = Arc::clone(hub.bridge_metrics());
        RedisFeed::new(Redis { server, topics, trust: None }, vec![], hub, metrics).unwrap()
    }

    fn run<T>(task: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task)
    }

    fn message(channel: &str, payload: &str) -> Msg {
        let parts = ["message", channel, payload].map(|part| Value::BulkString(part.into()));
        Msg::from_owned_value(Value::Array(parts.into())).unwrap()
    }

    #[test]
    fn what_the_shards_have_no_room_for_waits_and_then_is_lost_and_counted() {
        const SENT: u64 = 60_000;
        let hub = hub();
        let mut feed = feed(&hub);
        let mailbox = &hub.mailboxes[0];
        hub.post(0, (0..MAILBOX.count).map(|_| Parcel::Close));
        (0..SENT).for_each(|_| feed.backlog.push(message("p-broadcast", "{}")));
        run(feed.drain());
        let taken = &feed.metrics.events[Origin::Redis as usize][Outcome::NoListener as usize];
        let lost = feed.metrics.messages_dropped.get();
        assert!(taken.get() == 0 && (1..SENT).contains(&lost), "{lost}");
        mailbox.take(&mut std::collections::VecDeque::new());
        run(feed.drain());
        let taken = &feed.metrics.events[Origin::Redis as usize][Outcome::NoListener as usize];
        assert_eq!((taken.get() + lost, feed.metrics.messages_dropped.get()), (SENT, lost));
        assert!(feed.backlog.is_empty());
    }

    #[test]
    fn tokens_are_judged_between_two_batches_of_a_flood() {
        let hub = hub();
        let mut feed = feed(&hub);
        let metrics = Arc::clone(&feed.metrics);
        let taken = || metrics.events[Origin::Redis as usize][Outcome::NoListener as usize].get();
        (0..50_000).for_each(|_| feed.backlog.push(message("p-broadcast", "{}")));
        let mut seen = vec![0];
        run(async {
            let verifiers = async {
                loop {
                    seen.push(taken());
                    yield_now().await;
                }
            };
            tokio::select! { biased; () = feed.drain() => {}, () = verifiers => {} }
        });
        seen.push(taken());
        assert_eq!(seen.last(), Some(&50_000));
        let longest = seen.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(longest, Some(BATCH_MAX as u64));
    }

    #[test]
    fn few_long_messages_are_a_batch_too() {
        let hub = hub();
        let mut feed = feed(&hub);
        let long = "x".repeat(BATCH_BYTES_MAX / 2);
        (0..8).for_each(|_| feed.backlog.push(message("p-broadcast", &long)));
        feed.drain_batch();
        assert_eq!(feed.backlog.len(), 6);
    }

    #[test]
    fn a_gap_is_told_while_it_lasts_without_the_password() {
        let hub = hub();
        let mut feed = feed(&hub);
        let told = || hub.status().gaps.pop().map(|gap| gap.reason);
        assert!(told().unwrap().contains("connecting to redis://redis.example:6379"));
        feed.end_gap();
        assert_eq!((told(), feed.metrics.redis.connected.get()), (None, 1));
        feed.begin_gap(&RedisFault::Lost);
        assert!(told().unwrap().contains("it has closed the connection"));
        feed.begin_gap(&RedisFault::Connect(io::ErrorKind::ConnectionRefused.into()));
        let now = told().unwrap();
        assert!(now.contains("nothing listens there") && !now.contains("hunter2"), "{now}");
        assert_eq!((feed.metrics.redis.connected.get(), feed.metrics.redis.losses.get()), (0, 1));
    }
}
