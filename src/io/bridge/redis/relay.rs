//! Messages of the daemon's clients, on their way to other daemons.
//!
//! The shards put them into [`Relays`] and go on; a task publishes them in that order. Messages
//! without room, or without a Redis, are lost and counted: the clients of this daemon have had
//! them.

use super::connection::PING_INTERVAL;
use super::fault::{RedisFault, RedisStep, WORDS_MAX};
use crate::feed::redis::RelayNode;
use crate::io::clock;
use crate::io::handoff::inbox::{Bounds, Fill, Inbox};
use crate::metrics::Metrics;
use crate::text::excerpt;
use crate::throttle::LogLine;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value, cmd, pipe};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Messages that wait to be published before newer ones are lost: a second's worth from very busy
/// clients.
const RELAYS_MAX: usize = 10_000;
/// Their bytes: as many long chat messages.
const RELAY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages of one pipeline, so that Redis is seldom waited for and its answers stay few.
const PIPELINE_MAX: usize = 1_000;

/// Time between two checks of what is left when the daemon stops.
const STOP_PAUSE: Duration = Duration::from_millis(1);

/// Messages to be published. Closed while there is no Redis.
pub(in super::super) struct Relays {
    inbox: Inbox<Box<str>, Notify>,
    /// Messages sent to Redis without an answer yet.
    under_way: AtomicUsize,
}

impl Default for Relays {
    fn default() -> Self {
        let bounds = Bounds { count: RELAYS_MAX, bytes: RELAY_BYTES_MAX };
        let inbox = Inbox::new(Notify::new(), bounds, &Fill::default());
        inbox.close();
        Self { inbox, under_way: AtomicUsize::new(0) }
    }
}

impl Relays {
    /// Adds messages as far as there is room. Returns how many are lost.
    pub(in super::super) fn post(&self, texts: Vec<Box<str>>) -> usize {
        let mut lost = 0;
        self.inbox.offer(texts, |_| lost += 1);
        lost
    }

    /// Closes the queue. Returns how many messages are lost by that.
    pub(super) fn close(&self) -> usize {
        self.inbox.close() + self.under_way.swap(0, Relaxed)
    }

    /// Waits until everything is published, until `end` at the latest. Clients' last messages
    /// arrive after the feed has stopped listening.
    pub(in super::super) async fn finish(&self, end: Instant) {
        loop {
            let left = self.inbox.depth() + self.under_way.load(Relaxed);
            if left == 0 {
                return;
            }
            if Instant::now() >= end {
                tracing::warn!(
                    "{left} messages of clients were not relayed to other daemons: the time is up"
                );
                return;
            }
            sleep(STOP_PAUSE).await;
        }
    }

    fn open(&self) {
        self.inbox.open();
    }

    /// The next messages. None escapes the two counts of [`Relays::finish`]: both change here, on
    /// the thread that it runs on.
    fn take(&self) -> Vec<Box<str>> {
        let taken = self.inbox.take_up_to(PIPELINE_MAX);
        self.under_way.store(taken.len(), Relaxed);
        taken
    }

    fn answered(&self) {
        self.under_way.store(0, Relaxed);
    }
}

/// Publishes clients' messages until that fails; does nothing without a connection.
pub(super) async fn publish(
    connection: Option<MultiplexedConnection>,
    channel: String,
    node: RelayNode,
    relays: &Relays,
    metrics: &Metrics,
) -> RedisFault {
    let Some(mut connection) = connection else { return std::future::pending().await };
    relays.open();
    loop {
        let texts = relays.take();
        if texts.is_empty() {
            // A pipeline's error tells too, but a quiet relay would find out only with its next
            // message, and lose it.
            if timeout(PING_INTERVAL, relays.inbox.posted()).await.is_err()
                && let Err(error) = cmd("PING").query_async::<Value>(&mut connection).await
                && is_end(&error)
            {
                return RedisFault::Redis(RedisStep::Publish, error);
            }
            continue;
        }

        // Texts that are no object were refused before; `sign` only has to skip them.
        let mut pipeline = pipe();
        for text in texts.iter().filter_map(|text| node.sign(text)) {
            pipeline.cmd("PUBLISH").arg(&channel).arg(text).ignore();
        }

        match pipeline.query_async::<()>(&mut connection).await {
            Ok(()) => metrics.relays_sent.add(texts.len() as u64),
            Err(error) if is_end(&error) => return RedisFault::Redis(RedisStep::Publish, error),
            // The connection stays good: Redis has refused the command.
            Err(error) => {
                metrics.relays_lost.add(texts.len() as u64);
                LogLine::RelayRefused.warn(clock::now(), || refused(&error, &channel));
            }
        }

        relays.answered();
    }
}

/// The log line of messages that Redis has refused.
fn refused(error: &RedisError, channel: &str) -> String {
    let words = excerpt(&error.to_string(), WORDS_MAX);
    match error.code() {
        Some("NOPERM") => format!(
            "Redis does not accept relayed messages: let its user publish by `ACL SETUSER … \
             +publish &{channel}` ({words})"
        ),
        _ => format!("Redis does not accept relayed messages: {words}"),
    }
}

/// Whether the connection is of no more use, as opposed to a command that was refused.
fn is_end(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

#[cfg(test)]
mod tests {
    use super::super::Redis;
    use super::super::backlog::RedisBacklog;
    use super::super::connection::{RedisConnection, publisher as connect_publisher};
    use super::*;
    use crate::dialect::Kind;
    use crate::feed::redis::{RedisTopics, Server};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    fn texts(count: usize, text: &str) -> Vec<Box<str>> {
        vec![text.into(); count]
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let relays = Relays::default();
        assert_eq!(relays.post(texts(2, "{}")), 2, "nobody publishes");
        relays.open();
        assert_eq!(relays.post(texts(RELAYS_MAX + 5, "{}")), 5);
        assert_eq!(relays.take().len(), PIPELINE_MAX);
        assert_eq!(relays.post(texts(2, "{}")), 0);
        assert_eq!(relays.close(), RELAYS_MAX + 2, "those without an answer too");
        assert_eq!(relays.post(texts(1, "{}")), 1);
    }

    #[test]
    fn bytes_have_a_limit_too() {
        let relays = Relays::default();
        relays.open();
        let half = "x".repeat(RELAY_BYTES_MAX / 2);
        assert_eq!(
            relays.post(vec!["first".into(), half.as_str().into(), half.into(), "last".into()]),
            1
        );
        let taken = relays.take();
        assert_eq!((&*taken[0], &*taken[2], taken.len()), ("first", "last", 3));
        relays.answered();
        assert_eq!(
            relays.post(vec!["x".repeat(RELAY_BYTES_MAX).into()]),
            0,
            "all room is there again"
        );
        assert_eq!(relays.close(), 1);
    }

    /// A Redis that listens on a socket in a directory, and ends with this thread.
    fn start(directory: &Path) -> Option<(Child, Redis)> {
        let socket = directory.join("redis.sock");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "redis-server",
            "--port",
            "0",
            "--save",
            "",
            "--unixsocket",
        ]);
        let child =
            command.arg(&socket).current_dir(directory).stdout(Stdio::null()).spawn().ok()?;
        let server = Server::read(&format!("redis+unix://{}", socket.display())).unwrap();
        let relay = Kind::ALL.first().copied();
        let topics = RedisTopics { prefix: "p-".into(), sources: vec![], relay };
        Some((child, Redis { server, topics, trust: None }))
    }

    /// Connects as soon as there is somebody to connect to.
    async fn connect(
        child: &mut Child,
        redis: &Redis,
    ) -> Option<(RedisConnection, MultiplexedConnection)> {
        while child.try_wait().unwrap().is_none() {
            if let Ok(subscriber) = RedisConnection::open(redis).await {
                return Some((subscriber, connect_publisher(redis).await.unwrap()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    #[test]
    fn a_permission_is_advised_where_it_is_missing_and_other_refusals_are_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let Some((mut child, redis)) = start(directory.path()) else {
            return eprintln!("skipped: no setpriv here");
        };
        runtime.block_on(async {
            let Some((_subscriber, mut publisher)) = connect(&mut child, &redis).await else {
                return eprintln!("skipped: no Redis here");
            };
            let mut publish = async |arguments: &[&str]| {
                let mut pipeline = pipe();
                pipeline.cmd("PUBLISH").arg(arguments).ignore();
                let error = pipeline.query_async::<()>(&mut publisher).await.unwrap_err();
                assert!(!is_end(&error), "{error}");
                refused(&error, "p-fanfare")
            };

            let line = publish(&["no message"]).await;
            assert!(line.contains("wrong number of arguments"), "{line}");
            assert!(!line.contains("ACL"), "{line}");

            let mut operator = connect_publisher(&redis).await.unwrap();
            let mut limit = cmd("ACL");
            limit.arg(&["SETUSER", "default", "-publish"]);
            limit.query_async::<()>(&mut operator).await.unwrap();
            let line = publish(&["p-fanfare", "{}"]).await;
            assert!(line.contains("+publish &p-fanfare"), "{line}");
            assert!(line.contains("no permissions"), "{line}");
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_clients_say_is_published_in_order_until_redis_goes() {
        const COUNT: usize = 2 * PIPELINE_MAX + 1;
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = start(directory.path());
        let Some((mut child, redis)) = started else {
            return eprintln!("skipped: no setpriv here");
        };
        runtime.block_on(async {
            let connections = connect(&mut child, &redis).await;
            let Some((mut subscriber, publisher)) = connections else {
                return eprintln!("skipped: no Redis here");
            };
            let (relays, metrics, node) =
                (Relays::default(), Metrics::default(), RelayNode::new([1; 16]));
            let channel = redis.topics.relays();
            let mut publishing =
                std::pin::pin!(publish(Some(publisher), channel, node.clone(), &relays, &metrics));
            relays.open();
            let said = |number: usize| format!("{{\"channel\":\"chat:1\",\"n\":{number}}}");
            assert_eq!(relays.post((0..COUNT).map(|number| said(number).into()).collect()), 0);
            let mut backlog = RedisBacklog::default();
            let mut heard = 0;
            while heard < COUNT || metrics.relays_sent.get() < COUNT as u64 {
                tokio::select! {
                    fault = &mut publishing => panic!("{fault:?}"),
                    come = subscriber.next(&mut backlog) => come.unwrap(),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
                for message in backlog.take(COUNT, usize::MAX) {
                    assert_eq!(
                        message.get_payload_bytes(),
                        node.sign(&said(heard)).unwrap().as_bytes()
                    );
                    heard += 1;
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(relays.post(texts(3, "{}")), 0, "nobody knows yet");
            assert!(matches!(publishing.await, RedisFault::Redis(RedisStep::Publish, _)));
            assert_eq!((relays.close(), metrics.relays_lost.get()), (3, 0));
        });
    }
}
