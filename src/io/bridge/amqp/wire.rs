//! The bytes between broker and AMQP client: a connection of our own, encrypted or not, whose
//! frames are screened before the client reads them.
//!
//! The client takes nothing but a TCP socket, so it gets one on loopback, and a task of the bridge
//! copies bytes between the two.

use super::Bus;
use crate::feed::amqp::Screen;
use rustix::fd::AsFd;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Bytes read at once in either direction.
const CHUNK_BYTES: usize = 64 * 1024;

trait AmqpSocket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AmqpSocket for T {}

/// A connection to the broker, and the port on loopback where the client connects.
pub(super) struct AmqpLine {
    broker: Box<dyn AmqpSocket>,
    listener: TcpListener,
    frame_bytes_max: usize,
}

impl AmqpLine {
    /// Connects to the broker.
    pub(super) async fn open(bus: &Bus) -> io::Result<Self> {
        let socket = TcpStream::connect((bus.broker.host(), bus.broker.port())).await?;
        // Acknowledgements are small; Nagle's algorithm would hold them back.
        socket.set_nodelay(true)?;
        let broker: Box<dyn AmqpSocket> = match &bus.trust {
            None => Box::new(socket),
            Some(trust) => {
                let name =
                    ServerName::try_from(bus.broker.host().to_owned()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(Arc::clone(trust)).connect(name, socket).await?)
            }
        };

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self { broker, listener, frame_bytes_max: bus.broker.frame_bytes_max() })
    }

    /// The address for the client.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts the client's connection, whose end this is, and no other, and copies bytes until
    /// either side ends.
    pub(super) async fn carry(self, client: impl AsFd) -> io::Result<()> {
        // Any local process can connect to the port: only the client's own address is accepted.
        let client = SocketAddr::try_from(rustix::net::getsockname(client)?)?;
        let ours = loop {
            let (socket, peer) = self.listener.accept().await?;
            if peer == client {
                break socket;
            }
        };
        ours.set_nodelay(true)?;

        let (mut to_client, mut to_broker) = (CopyDirection::default(), CopyDirection::default());
        let mut screen = Screen::new(self.frame_bytes_max);
        let (mut broker, mut client) = (self.broker, ours);
        tokio::spawn(async move {
            poll_fn(|cx| {
                // One side's end is passed on once everything before it has been written.
                let down = to_client
                    .poll(cx, &mut broker, &mut client, |bytes, out| screen.pass(bytes, out));
                let up = to_broker
                    .poll(cx, &mut client, &mut broker, |bytes, out| out.extend_from_slice(bytes));
                if down.is_ready() || up.is_ready() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        Ok(())
    }
}

/// One direction of the copy.
#[derive(Default)]
struct CopyDirection {
    chunk: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

impl CopyDirection {
    /// Copies what can be copied. Ready at the end.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin + ?Sized),
        to: &mut (impl AsyncWrite + Unpin + ?Sized),
        mut pass: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Poll<()> {
        // Output first, and input only after it: a slow reader thereby slows the other side down.
        loop {
            while self.written < self.out.len() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.out[self.written..])) {
                    Ok(count) if count > 0 => self.written += count,
                    Ok(_) | Err(_) => return Poll::Ready(()),
                }
            }
            // TLS keeps bytes until it is flushed.
            if self.written > 0 {
                if ready!(Pin::new(&mut *to).poll_flush(cx)).is_err() {
                    return Poll::Ready(());
                }
                self.out.clear();
                self.written = 0;
            }
            self.chunk.resize(CHUNK_BYTES, 0);
            let mut into = ReadBuf::new(&mut self.chunk);
            match ready!(Pin::new(&mut *from).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => pass(into.filled(), &mut self.out),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}
