//! The bytes of a connection to Redis, however it is reached, with a limit on what is read ahead.
//!
//! The Redis client puts messages into a queue without a limit, and reads one message whole, however long. Both
//! count here, until somebody says that all that came was taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read and not taken before the connection is given up. Redis itself, as it comes, ends the connection of
/// a subscriber that is 32 MiB behind, so only a message or a server beyond all measure comes here.
const UNTAKEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connected socket, encrypted or not.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// How many bytes were read and not taken.
#[derive(Clone, Default)]
pub(super) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// All that came was taken.
    pub(super) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// How many they are.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Whether the limit was reached, which ends the connection.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Relaxed) > UNTAKEN_BYTES_MAX
    }
}

/// A socket that is gauged.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    gauge: Gauge,
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>, gauge: Gauge) -> Self {
        Self { socket, gauge }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gauge.is_over() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, into);
        self.gauge.0.fetch_add(into.filled().len() - before, Relaxed);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
