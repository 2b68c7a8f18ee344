//! Showing an operator the events that pass, for as long as the connection stays.

use super::socket::AdminStream;
use crate::http::v1::{self, STREAM_BEAT, STREAM_HEAD};
use crate::io::taps::OpenTap;
use std::io;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Interval of a sign of life, by which proxies keep the connection and a lost reader is noticed.
const BEAT: Duration = Duration::from_secs(15);
/// Time for a reader to take what was sent; what passes meanwhile is missed.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are made ready at a time. The events are shared, but as JSON they are copies.
const CHUNK_BYTES: usize = 64 * 1024;

/// Sends events until the reader goes.
pub(super) async fn show(socket: &AdminStream, tap: &OpenTap) -> io::Result<()> {
    timeout(SEND_TIMEOUT, socket.send(STREAM_HEAD)).await??;
    let mut ignored = [0; 512];
    loop {
        let (events, missed) = tokio::select! {
            next = tap.next() => next,
            // It has nothing to say, but its end is heard here.
            read = socket.read(&mut ignored) => match read? {
                0 => return Ok(()),
                _ => continue,
            },
            () = sleep(BEAT) => {
                timeout(SEND_TIMEOUT, socket.send(STREAM_BEAT)).await??;
                continue;
            }
        };

        let mut out = Vec::new();
        for event in events {
            v1::put_passed(&event, &mut out);
            if out.len() >= CHUNK_BYTES {
                timeout(SEND_TIMEOUT, socket.send(&out)).await??;
                out.clear();
            }
        }
        if missed > 0 {
            v1::put_missed(missed, &mut out);
        }
        timeout(SEND_TIMEOUT, socket.send(&out)).await??;
    }
}
