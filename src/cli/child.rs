//! Programs that a command runs to their end.

use std::io::{self, Read};
use std::process::{Child, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Pause between two looks at whether one has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes of a program's output that are read; beyond them its pipe is closed.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// Reads what a program prints, on a thread of its own, or a full pipe would hold it up.
pub(super) fn read(output: impl Read + Send + 'static) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        output.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    })
}

/// Waits for its end; one that has not ended in time is killed, and has no status.
///
/// # Errors
/// When the system does not tell.
pub(super) fn end(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > time {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}
