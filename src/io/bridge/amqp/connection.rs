//! One connection to the broker: its channel, its queue, its consumer.
//!
//! The AMQP client gives each connection a thread of its own and waits forever for a silent broker,
//! so its socket can be shut down from here.

use super::super::handle::Bridge;
use super::Bus;
use super::fault::{AmqpFault, AmqpStep};
use super::wire::AmqpLine;
use crate::feed::amqp::ExchangeType;
use futures_core::Stream;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{AsyncTcpStream, Channel, ConnectionProperties, Consumer, ExchangeKind};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::net::Shutdown;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Time for the broker to accept a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for everything until messages come.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the closing handshake. Nothing is lost without it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Bodies of one batch, in bytes: handed on without asking the shards for room again.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Messages of one batch, whatever `prefetch` allows: the thread has other tasks.
const BATCH_MAX: usize = 1000;
/// Batches in a `prefetch`, so that the broker can send some while others are handed on.
const BATCHES_AHEAD: usize = 4;

/// A consumer at work.
pub(super) struct AmqpConnection {
    amqp: lapin::Connection,
    channel: Channel,
    consumer: Consumer,
    batch_max: usize,
    /// The reason why nothing more comes, until it is returned.
    end: Option<AmqpFault>,
    wire: AmqpSocketSlot,
}

impl AmqpConnection {
    /// Connects, declares queue and exchange and asks for messages.
    pub(super) async fn open(bus: &Bus) -> Result<Self, AmqpFault> {
        let wire = AmqpSocketSlot::default();
        match timeout(OPEN_TIMEOUT, Self::consume(bus, wire.clone())).await {
            // In either failure the client's thread would live on with its socket.
            Ok(opened) => opened.inspect_err(|_| wire.cut()),
            Err(_) => {
                wire.cut();
                Err(AmqpFault::Mute)
            }
        }
    }

    async fn consume(bus: &Bus, wire: AmqpSocketSlot) -> Result<Self, AmqpFault> {
        let settings = &bus.settings;
        let (kind, arguments, key) = match settings.exchange_type {
            ExchangeType::Headers => {
                (ExchangeKind::Headers, of_origin(settings.origin_uuid.as_deref()), "")
            }
            ExchangeType::Topic => (ExchangeKind::Topic, FieldTable::default(), "#"),
        };

        let exchange = settings.exchange.as_str();
        let amqp = connect(bus, wire.clone()).await.map_err(AmqpFault::at(AmqpStep::Connect))?;

        let channel = amqp.create_channel().await.map_err(AmqpFault::at(AmqpStep::Connect))?;
        // Before the consumer, which would be flooded otherwise.
        channel
            .basic_qos(settings.prefetch, BasicQosOptions::default())
            .await
            .map_err(AmqpFault::at(AmqpStep::Connect))?;

        // Declared as Wazo does: another daemon may start before Wazo has.
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(exchange.into(), kind, durable, FieldTable::default())
            .await
            .map_err(AmqpFault::at(AmqpStep::Exchange))?;

        // The queue goes with the connection; another daemon has its own.
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let queue = channel
            .queue_declare("".into(), own, FieldTable::default())
            .await
            .map_err(AmqpFault::at(AmqpStep::Queue))?;
        let name = queue.name().clone();
        channel
            .queue_bind(
                name.clone(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                arguments,
            )
            .await
            .map_err(AmqpFault::at(AmqpStep::Queue))?;
        let consumer = channel
            .basic_consume(
                name,
                "fanfare".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(AmqpFault::at(AmqpStep::Queue))?;

        // A batch is acknowledged as a whole, so a small prefetch must make several of them.
        let batch_max = usize::from(settings.prefetch).div_ceil(BATCHES_AHEAD).min(BATCH_MAX);
        Ok(Self { amqp, channel, consumer, batch_max, end: None, wire })
    }

    /// Waits for messages and adds the available ones, up to a batch, to `batch`. Returns whether
    /// the daemon stops instead.
    pub(super) async fn next(
        &mut self,
        batch: &mut Vec<Delivery>,
        bridge: &Bridge,
    ) -> Result<bool, AmqpFault> {
        let mut draining = std::pin::pin!(bridge.drained());
        // First, or a busy bus would keep the daemon from stopping.
        poll_fn(|cx| match draining.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(true)),
            Poll::Pending => self.poll_batch(cx, batch).map_ok(|()| false),
        })
        .await
    }

    /// Like [`Self::next`], after [`AmqpConnection::cancel`]. Returns whether there was any
    /// message.
    pub(super) async fn rest(&mut self, batch: &mut Vec<Delivery>) -> Result<bool, AmqpFault> {
        match poll_fn(|cx| self.poll_batch(cx, batch)).await {
            // The client ends the consumer's stream after a cancel.
            Err(AmqpFault::Cancelled) => Ok(false),
            end => end.map(|()| true),
        }
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Delivery>,
    ) -> Poll<Result<(), AmqpFault>> {
        let mut bytes = 0;
        while self.end.is_none() && batch.len() < self.batch_max && bytes < BATCH_BYTES_MAX {
            match Pin::new(&mut self.consumer).poll_next(cx) {
                Poll::Ready(Some(Ok(delivery))) => {
                    bytes += delivery.data.len();
                    batch.push(delivery);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.end = Some(AmqpFault::Amqp(AmqpStep::Consume, error))
                }
                Poll::Ready(None) => self.end = Some(AmqpFault::Cancelled),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        // Messages received before the end are still valid.
        match self.end.take_if(|_| batch.is_empty()) {
            Some(end) => Poll::Ready(Err(end)),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Acknowledges all of a batch, and empties it.
    pub(super) async fn acknowledge(&self, batch: &mut Vec<Delivery>) -> Result<(), AmqpFault> {
        if let Some(last) = batch.pop() {
            last.ack(BasicAckOptions { multiple: true })
                .await
                .map_err(AmqpFault::at(AmqpStep::Consume))?;
        }
        batch.clear();
        Ok(())
    }

    /// Stops the delivery of messages.
    pub(super) async fn cancel(&self) -> Result<(), AmqpFault> {
        let options = BasicCancelOptions::default();
        self.channel
            .basic_cancel(self.consumer.tag(), options)
            .await
            .map_err(AmqpFault::at(AmqpStep::Consume))
    }

    /// Closes the connection, whether the broker answers or not.
    pub(super) async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, self.amqp.close(200, "fanfare stops".into())).await;
    }
}

impl Drop for AmqpConnection {
    fn drop(&mut self) {
        self.wire.cut();
    }
}

/// Arguments of a binding for all events, or those of one Wazo.
fn of_origin(origin_uuid: Option<&str>) -> FieldTable {
    let mut arguments = FieldTable::default();
    // "all" of no condition is every message.
    arguments.insert("x-match".into(), AMQPValue::LongString("all".into()));
    if let Some(uuid) = origin_uuid {
        arguments.insert("origin_uuid".into(), AMQPValue::LongString(uuid.into()));
    }
    arguments
}

async fn connect(bus: &Bus, wire: AmqpSocketSlot) -> lapin::Result<lapin::Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    let properties = ConnectionProperties::default().with_connection_name("fanfare".into());
    // Before the client starts its thread, which would retry forever.
    let opened = timeout(CONNECT_TIMEOUT, AmqpLine::open(bus)).await;
    let line = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (line, reactor) = (Mutex::new(Some(line)), runtime.clone());
    // Runs in the client's own thread.
    let dial = async move |_, _| {
        // The client dials once more after a failure; the line is used up then.
        let line = line.lock().unwrap_or_else(PoisonError::into_inner).take();
        let line = line.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let stream = AsyncTcpStream::connect(&reactor, line.address()?).await?;
        // A copy of the descriptor, because the client never lets go of its own.
        if let AsyncTcpStream::Plain(socket) = &stream {
            let socket = socket.get_ref().as_fd().try_clone_to_owned()?;
            line.carry(&socket).await?;
            wire.hold(socket);
        }
        Ok(stream)
    };
    lapin::Connection::connector(bus.broker.uri().clone(), runtime, dial, properties).await
}

/// The socket of a connection, once there is one.
#[derive(Clone, Default)]
struct AmqpSocketSlot(Arc<Mutex<Option<OwnedFd>>>);

impl AmqpSocketSlot {
    fn hold(&self, socket: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    /// Shuts the connection down, whatever it is doing, and with it ends the client's thread.
    fn cut(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }
}
