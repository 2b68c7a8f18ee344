//! The bytes of a connection to Redis, however it is reached, with a limit on what is read ahead.
//!
//! The Redis client queues messages without a limit, and reads any message whole, however long.
//! Both count here, until the reader reports that everything was taken.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read and not taken before the connection is given up. Redis by default disconnects a
/// subscriber that is 32 MiB behind, so only an extreme message or server reaches this.
const UNTAKEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connected socket, encrypted or not.
pub(super) trait RedisSocket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> RedisSocket for T {}

/// The number of bytes read and not taken, and whether reading is held.
#[derive(Clone, Default)]
pub(super) struct Gauge(Arc<GaugeState>);

#[derive(Default)]
struct GaugeState {
    bytes: AtomicUsize,
    held: AtomicBool,
    /// The waker of a read that came while reading was held.
    reader: Mutex<Option<Waker>>,
}

/// Holds reading for as long as this lives.
pub(super) struct Hold(Gauge);

impl Gauge {
    /// Everything that came was taken.
    pub(super) fn reset(&self) {
        self.0.bytes.store(0, Relaxed);
    }

    /// Stops reading for a while; the socket and Redis keep what comes.
    pub(super) fn hold(&self) -> Hold {
        self.0.held.store(true, Relaxed);
        Hold(self.clone())
    }

    /// Bytes read and not taken.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    /// Whether the limit was exceeded, which ends the connection.
    pub(super) fn is_over(&self) -> bool {
        self.0.bytes.load(Relaxed) > UNTAKEN_BYTES_MAX
    }

    /// Whether the reader has to wait; it is woken when it may go on.
    fn holds(&self, cx: &Context<'_>) -> bool {
        // Under the lock that `Hold::drop` takes, or it could miss this waker and reading never go
        // on.
        let mut reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.0.held.load(Relaxed);
        if held {
            *reader = Some(cx.waker().clone());
        }
        held
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let state = &self.0.0;
        let mut reader = state.reader.lock().unwrap_or_else(PoisonError::into_inner);
        state.held.store(false, Relaxed);
        if let Some(reader) = reader.take() {
            reader.wake();
        }
    }
}

/// A socket whose reads are counted.
pub(super) struct GaugedSocket {
    socket: Box<dyn RedisSocket>,
    gauge: Gauge,
}

impl GaugedSocket {
    pub(super) fn new(socket: Box<dyn RedisSocket>, gauge: Gauge) -> Self {
        Self { socket, gauge }
    }
}

impl AsyncRead for GaugedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The client turns this into the end of the stream; `is_over` tells it from a lost
        // connection.
        if self.gauge.is_over() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        if self.gauge.holds(cx) {
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, into);
        self.gauge.0.bytes.fetch_add(into.filled().len() - before, Relaxed);
        read
    }
}

impl AsyncWrite for GaugedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_comes_while_reading_is_held_is_read_afterwards() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let gauge = Gauge::default();
            let mut wire = GaugedSocket::new(
                Box::new(tokio::net::UnixStream::from_std(ours).unwrap()),
                gauge.clone(),
            );
            let reader = tokio::spawn(async move {
                let mut bytes = [0; 16];
                let mut into = ReadBuf::new(&mut bytes);
                poll_fn(|cx| Pin::new(&mut wire).poll_read(cx, &mut into)).await.unwrap();
                into.filled().to_vec()
            });
            let held = gauge.hold();
            theirs.write_all(b"hello").unwrap();
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!((gauge.bytes(), reader.is_finished()), (0, false));
            drop(held);
            assert_eq!(reader.await.unwrap(), b"hello");
            assert_eq!(gauge.bytes(), 5);
        });
    }
}
