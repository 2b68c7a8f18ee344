//! One connection to the broker: its channel, its queue, its consumer.
//!
//! The AMQP client gives each connection a thread of its own and waits for a mute broker for ever, so its
//! socket can be cut from here.

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

/// How long the broker has to take a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it has for everything until messages come.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it has to say goodbye. Nothing is lost without.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Bodies of one batch, in bytes: what is handed on without asking the shards for room again.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Messages of one batch, whatever `prefetch` allows: others have work on this thread.
const BATCH_MAX: usize = 1000;
/// Batches that `prefetch` is worth, so that the broker has been told of some while others are handed on.
const BATCHES_AHEAD: usize = 4;

/// A consumer at work.
pub(super) struct AmqpConnection {
    amqp: lapin::Connection,
    channel: Channel,
    consumer: Consumer,
    batch_max: usize,
    /// Why nothing more comes, until that is told.
    end: Option<AmqpFault>,
    wire: AmqpSocketSlot,
}

impl AmqpConnection {
    /// Connects, declares what is needed and asks for messages.
    pub(super) async fn open(bus: &Bus) -> Result<Self, AmqpFault> {
        let wire = AmqpSocketSlot::default();
        match timeout(OPEN_TIMEOUT, Self::consume(bus, wire.clone())).await {
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
        channel
            .basic_qos(settings.prefetch, BasicQosOptions::default())
            .await
            .map_err(AmqpFault::at(AmqpStep::Connect))?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(exchange.into(), kind, durable, FieldTable::default())
            .await
            .map_err(AmqpFault::at(AmqpStep::Exchange))?;
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
        let batch_max = usize::from(settings.prefetch).div_ceil(BATCHES_AHEAD).min(BATCH_MAX);
        Ok(Self { amqp, channel, consumer, batch_max, end: None, wire })
    }

    /// Waits for messages and adds all that are there, up to a batch, to `batch`. Returns whether the daemon
    /// stops instead.
    pub(super) async fn next(
        &mut self,
        batch: &mut Vec<Delivery>,
        bridge: &Bridge,
    ) -> Result<bool, AmqpFault> {
        let mut draining = std::pin::pin!(bridge.drained());
        poll_fn(|cx| match draining.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(true)),
            Poll::Pending => self.poll_batch(cx, batch).map_ok(|()| false),
        })
        .await
    }

    /// The same after [`AmqpConnection::cancel`]. Returns whether there was anything.
    pub(super) async fn rest(&mut self, batch: &mut Vec<Delivery>) -> Result<bool, AmqpFault> {
        match poll_fn(|cx| self.poll_batch(cx, batch)).await {
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
        // What came before the end is still good.
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

    /// Asks for no more messages.
    pub(super) async fn cancel(&self) -> Result<(), AmqpFault> {
        let options = BasicCancelOptions::default();
        self.channel
            .basic_cancel(self.consumer.tag(), options)
            .await
            .map_err(AmqpFault::at(AmqpStep::Consume))
    }

    /// Ends it; the broker may know or not.
    pub(super) async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, self.amqp.close(200, "fanfare stops".into())).await;
    }
}

impl Drop for AmqpConnection {
    fn drop(&mut self) {
        self.wire.cut();
    }
}

/// The bindings' arguments that select all events, or those of one Wazo.
fn of_origin(origin_uuid: Option<&str>) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-match".into(), AMQPValue::LongString("all".into()));
    if let Some(uuid) = origin_uuid {
        arguments.insert("origin_uuid".into(), AMQPValue::LongString(uuid.into()));
    }
    arguments
}

async fn connect(bus: &Bus, wire: AmqpSocketSlot) -> lapin::Result<lapin::Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    let properties = ConnectionProperties::default().with_connection_name("fanfare".into());
    // Before the client starts its thread, which would try for ever.
    let opened = timeout(CONNECT_TIMEOUT, AmqpLine::open(bus)).await;
    let line = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (line, reactor) = (Mutex::new(Some(line)), runtime.clone());
    // Runs in the client's own thread.
    let dial = async move |_, _| {
        let line = line.lock().unwrap_or_else(PoisonError::into_inner).take();
        let line = line.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let stream = AsyncTcpStream::connect(&reactor, line.address()?).await?;
        if let AsyncTcpStream::Plain(socket) = &stream {
            let socket = socket.get_ref().as_fd().try_clone_to_owned()?;
            line.carry(&socket).await?;
            wire.hold(socket);
        }
        Ok(stream)
    };
    lapin::Connection::connector(bus.broker.uri().clone(), runtime, dial, properties).await
}

/// The socket of a connection, if there is one by now.
#[derive(Clone, Default)]
struct AmqpSocketSlot(Arc<Mutex<Option<OwnedFd>>>);

impl AmqpSocketSlot {
    fn hold(&self, socket: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    /// Ends the connection, whatever it is at, and with it the client's thread.
    fn cut(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }
}
