//! One subscribed connection to Redis, and one for publishing.
//!
//! The sockets are made here, so that TLS trusts what the daemon's other clients trust.

use super::Redis;
use super::backlog::RedisBacklog;
use super::fault::{RedisFault, RedisStep, SILENCE_MAX};
use super::wire::{Gauge, GaugedSocket, Hold, RedisSocket};
use crate::feed::redis::RedisPlace;
use futures_core::Stream;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Value};
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

/// Time for Redis to accept a connection, and for the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for everything until messages come.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two pings.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A subscriber at work.
pub(super) struct RedisConnection {
    sink: PubSubSink,
    stream: PubSubStream,
    gauge: Gauge,
    heard: Instant,
    ping: Ping,
}

type Ping = Pin<Box<dyn Future<Output = ()> + Send>>;

impl RedisConnection {
    /// Connects and subscribes.
    pub(super) async fn open(redis: &Redis) -> Result<Self, RedisFault> {
        timeout(OPEN_TIMEOUT, Self::subscribe(redis)).await.unwrap_or(Err(RedisFault::Mute))
    }

    async fn subscribe(redis: &Redis) -> Result<Self, RedisFault> {
        let gauge = Gauge::default();

        let wire = GaugedSocket::new(dial(redis).await?, gauge.clone());
        let pubsub = PubSub::new(redis.server.login(), wire)
            .await
            .map_err(RedisFault::at(RedisStep::Login))?;
        let (mut sink, stream) = pubsub.split();
        // One by one, so that an error names the channel.
        for channel in redis.topics.channels() {
            let refused = RedisFault::at(RedisStep::Subscribe(channel.clone()));
            sink.subscribe(channel).await.map_err(refused)?;
        }
        for pattern in redis.topics.patterns() {
            let refused = RedisFault::at(RedisStep::Subscribe(pattern.clone()));
            sink.psubscribe(pattern).await.map_err(refused)?;
        }

        let ping = ping(&sink);
        Ok(Self { sink, stream, gauge, heard: Instant::now(), ping })
    }

    /// Stops reading from Redis until this is dropped.
    pub(super) fn hold(&self) -> Hold {
        self.gauge.hold()
    }

    /// Waits for messages and adds the available ones to `backlog`.
    pub(super) async fn next(&mut self, backlog: &mut RedisBacklog) -> Result<(), RedisFault> {
        let Self { sink, stream, gauge, heard, ping: answer } = self;
        loop {
            tokio::select! {
                biased;
                // Without tokio's budget for one turn, at which the stream appears to be empty:
                // messages left in the queue would no longer count then, and the queue would have
                // no limit.
                open = unconstrained(poll_fn(|cx| poll_messages(stream, gauge, backlog, cx))) => {
                    *heard = Instant::now();
                    return if open { Ok(()) } else { Err(end(gauge)) };
                }
                () = &mut *answer => {
                    *heard = Instant::now();
                    *answer = ping(sink);
                }
                // Any message counts as a sign of life, so a busy channel needs no pong in time.
                () = sleep_until(*heard + SILENCE_MAX) => return Err(RedisFault::Silent),
            }
        }
    }
}

/// Takes all available messages. Ready when there were some, or with `false` when no more will
/// come.
fn poll_messages(
    stream: &mut PubSubStream,
    gauge: &Gauge,
    backlog: &mut RedisBacklog,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    let mut some = false;
    loop {
        match Pin::new(&mut *stream).poll_next(cx) {
            Poll::Ready(Some(message)) => {
                some = true;
                backlog.push(message);
            }
            // The end is reported by the next call: these messages come first.
            Poll::Ready(None) if some => return Poll::Ready(true),
            Poll::Ready(None) => return Poll::Ready(false),
            Poll::Pending if some => {
                // Only here is the queue known to be empty.
                gauge.reset();
                return Poll::Ready(true);
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Asks, after a while, whether Redis is alive. Any answer says so, an error too.
fn ping(sink: &PubSubSink) -> Ping {
    let mut sink = sink.clone();
    Box::pin(async move {
        sleep(PING_INTERVAL).await;
        let _ = sink.ping::<Value>().await;
    })
}

/// The reason why no more messages come.
fn end(gauge: &Gauge) -> RedisFault {
    if gauge.is_over() { RedisFault::Flooded } else { RedisFault::Lost }
}

/// Opens a connection to publish with.
pub(super) async fn publisher(redis: &Redis) -> Result<MultiplexedConnection, RedisFault> {
    let opened = timeout(OPEN_TIMEOUT, async {
        let wire = GaugedSocket::new(dial(redis).await?, Gauge::default());

        let config = AsyncConnectionConfig::new().set_response_timeout(Some(SILENCE_MAX));
        let opened =
            MultiplexedConnection::new_with_config(redis.server.login(), wire, config).await;
        let (connection, driver) = opened.map_err(RedisFault::at(RedisStep::Login))?;
        // The driver ends by itself when the connection is dropped.
        tokio::spawn(driver);
        Ok(connection)
    });
    opened.await.unwrap_or(Err(RedisFault::Mute))
}

async fn dial(redis: &Redis) -> Result<Box<dyn RedisSocket>, RedisFault> {
    let (host, port) = match redis.server.place() {
        RedisPlace::Unix(path) => {
            return Ok(Box::new(
                in_time(UnixStream::connect(path)).await.map_err(RedisFault::Connect)?,
            ));
        }
        RedisPlace::Tcp(host, port) | RedisPlace::Tls(host, port) => (host.as_str(), *port),
    };
    let socket = in_time(TcpStream::connect((host, port))).await.map_err(RedisFault::Connect)?;
    // Pings and relayed messages are small; Nagle's algorithm would hold them back.
    socket.set_nodelay(true).map_err(RedisFault::Connect)?;
    if !redis.server.is_encrypted() {
        return Ok(Box::new(socket));
    }
    let Some(trust) = &redis.trust else {
        return Err(RedisFault::Tls(io::Error::other("no authority is trusted")));
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| RedisFault::Tls(io::Error::other(error)))?;
    let secured = in_time(TlsConnector::from(Arc::clone(trust)).connect(name, socket)).await;
    Ok(Box::new(secured.map_err(RedisFault::Tls)?))
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CONNECT_TIMEOUT, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{RedisChannels, RedisSource};
    use crate::feed::redis::{RedisTopics, Server};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    /// Enough that no task may take all of them before another has its turn.
    const COUNT: usize = 1000;
    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$11\r\np-broadcast\r\n$2\r\n{}\r\n";

    /// Takes one subscriber, and sends it all messages at once.
    fn flood(listener: &UnixListener) {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut chunk, mut text) = ([0; 4096], String::new());
        while !text.contains("p-broadcast") {
            let count = socket.read(&mut chunk).unwrap();
            let said = String::from_utf8_lossy(&chunk[..count]).to_ascii_uppercase();
            said.matches("SETINFO").for_each(|_| socket.write_all(b"+OK\r\n").unwrap());
            text += &said.to_ascii_lowercase();
        }
        socket.write_all(b"*3\r\n$9\r\nsubscribe\r\n$11\r\np-broadcast\r\n:1\r\n").unwrap();
        socket.write_all(&MESSAGE.repeat(COUNT)).unwrap();
        // Until the other side goes.
        let _ = socket.read(&mut chunk);
    }

    #[test]
    fn all_that_was_read_is_taken_before_it_counts_as_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("redis.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = Server::read(&format!("redis+unix://{}", path.display())).unwrap();
        let channels = RedisChannels::Named("broadcast");
        let sources = vec![RedisSource { address: "channel".into(), channels }];
        let topics = RedisTopics { prefix: "p-".into(), sources, relay: None };
        let redis = Redis { server, topics, trust: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| flood(&listener));
            runtime.block_on(async {
                let mut connection = RedisConnection::open(&redis).await.unwrap();
                while connection.gauge.bytes() < COUNT * MESSAGE.len() {
                    sleep(Duration::from_millis(1)).await;
                }
                let mut backlog = RedisBacklog::default();
                connection.next(&mut backlog).await.unwrap();
                assert_eq!((backlog.len(), connection.gauge.bytes()), (COUNT, 0));
            });
            // Ends the other task, and with it the connection.
            drop(runtime);
        });
    }
}
