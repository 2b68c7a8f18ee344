//! The lines of the log on their way out: a queue that no thread waits for, and the thread that
//! writes them.
//!
//! What reads the log may stop reading: a journald that is overloaded, a pipe, a terminal that is
//! held. A shard that waited for it would serve no client, and the watchdog would have the daemon
//! ended. So lines wait here. Those that find no room are dropped, counted, and told once there is
//! room again. At an end the daemon waits for its last lines, within a bound.
//!
//! The queue is global to the process, as the log is. It does not know what a line looks like, nor
//! where it goes.

use std::collections::VecDeque;
use std::io;
use std::process::exit;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Most bytes of lines that wait: some five thousand lines, more than a daemon says in a minute at
/// the level `info`, and a memory that nobody minds while a reader is away.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait for the last lines at an end that has time for it, such as a stop.
pub const END_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the last lines at an end that has none, which the kernel may be about to make.
const EXIT_MAX: Duration = Duration::from_millis(500);

static LOG: LogQueue = LogQueue::new();

/// Starts the thread that has lines written by `write`, which may block.
///
/// # Errors
/// When no thread can be started.
pub fn start(mut write: impl FnMut(&[u8]) + Send + 'static) -> io::Result<()> {
    let tell = |dropped| {
        tracing::warn!(
            dropped,
            "{dropped} lines of the log were dropped while its reader was behind"
        );
    };
    Builder::new().name("log".into()).spawn(move || LOG.carry(&mut write, tell)).map(drop)
}

/// Has a line written, or drops it when too many wait. Returns at once.
pub fn put(line: &[u8]) {
    LOG.put(line);
}

/// The number of lines dropped so far.
#[must_use]
pub fn dropped() -> u64 {
    LOG.waiting().dropped
}

/// Waits until everything said so far is written, or `patience` is over.
pub fn finish(patience: Duration) {
    LOG.finish(patience);
}

/// Ends the process as one that failed, with its last lines written if they are taken soon.
pub fn exit_failed() -> ! {
    finish(EXIT_MAX);
    exit(1)
}

/// Lines that wait for their thread.
struct LogQueue {
    waiting: Mutex<WaitingLines>,
    /// Something was put.
    put: Condvar,
    /// Nothing is left.
    finished: Condvar,
}

struct WaitingLines {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Whether a line has left the queue and may not be written yet.
    is_writing: bool,
    /// Lines dropped since the start.
    dropped: u64,
    /// Those of them that the log does not tell of yet.
    untold: u64,
}

impl LogQueue {
    const fn new() -> Self {
        let waiting = WaitingLines {
            lines: VecDeque::new(),
            bytes: 0,
            is_writing: false,
            dropped: 0,
            untold: 0,
        };
        Self { waiting: Mutex::new(waiting), put: Condvar::new(), finished: Condvar::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingLines> {
        // Nothing panics while it is held, and the log of a panic matters.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        // After the first that was dropped until that is told: what stands before and after the
        // gap then stands before and after the line that tells of it.
        if waiting.untold > 0 || waiting.bytes + line.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            waiting.untold += 1;
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.into());
        }
        drop(waiting);
        self.put.notify_one();
    }

    /// Writes what is put, forever.
    fn carry(&self, write: &mut impl FnMut(&[u8]), tell: impl Fn(u64)) {
        loop {
            self.step(write, &tell);
        }
    }

    /// Waits for something to do, and does it.
    fn step(&self, write: &mut impl FnMut(&[u8]), tell: &impl Fn(u64)) {
        let waiting = self.waiting();
        let mut waiting = self
            .put
            .wait_while(waiting, |waiting| waiting.is_idle())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        // Not as soon as one line fits: a reader that is slow would read of little else.
        if waiting.untold > 0 && waiting.bytes <= WAITING_BYTES_MAX / 2 {
            let untold = std::mem::take(&mut waiting.untold);
            drop(waiting);
            tell(untold);
        } else if let Some(line) = waiting.lines.pop_front() {
            waiting.bytes -= line.len();
            drop(waiting);
            write(&line);
        }

        let mut waiting = self.waiting();
        waiting.is_writing = false;
        if waiting.is_idle() {
            // A burst is no reason to hold its memory.
            waiting.lines.shrink_to_fit();
            self.finished.notify_all();
        }
    }

    fn finish(&self, patience: Duration) {
        let waiting = self.waiting();
        // Whether it is done or not, the process goes on to its end.
        let _ = self.finished.wait_timeout_while(waiting, patience, |waiting| {
            waiting.is_writing || !waiting.is_idle()
        });
    }
}

impl WaitingLines {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.untold == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::sync::mpsc;
    use std::time::Instant;

    const LINE: [u8; 1024] = [b'x'; 1024];
    const LINES_MAX: usize = WAITING_BYTES_MAX / LINE.len();

    /// Carries until nothing is left, and returns what was written.
    fn carried(queue: &LogQueue) -> Vec<String> {
        let written = RefCell::new(Vec::new());
        while !queue.waiting().is_idle() {
            let mut write =
                |line: &[u8]| written.borrow_mut().push(String::from_utf8_lossy(line).into_owned());
            queue.step(&mut write, &|dropped| queue.put(format!("dropped {dropped}").as_bytes()));
        }
        written.into_inner()
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let queue = LogQueue::new();
        for line in ["a", "b", "c"] {
            queue.put(line.as_bytes());
        }
        assert_eq!(carried(&queue), ["a", "b", "c"]);
        assert_eq!(queue.waiting().bytes, 0);
    }

    #[test]
    fn what_finds_no_room_is_dropped_counted_and_told_once() {
        let queue = LogQueue::new();
        for _ in 0..LINES_MAX + 3 {
            queue.put(&LINE);
        }
        // Too small to be without room: it comes after the gap all the same.
        queue.put(b"");
        let lines = carried(&queue);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines.last().unwrap(), "dropped 4");
        queue.put(b"after");
        assert_eq!(carried(&queue), ["after"]);
        assert_eq!(queue.waiting().dropped, 4);
        // A line that never has room does not make the others wait.
        queue.put(&[0; WAITING_BYTES_MAX + 1]);
        assert_eq!(carried(&queue), ["dropped 1"]);
    }

    #[test]
    fn a_slow_reader_is_told_of_a_gap_when_half_of_the_room_is_free() {
        let queue = LogQueue::new();
        for _ in 0..=LINES_MAX {
            queue.put(&LINE);
        }
        let told = RefCell::new(Vec::new());
        for _ in 0..LINES_MAX {
            queue.step(&mut |_| (), &|dropped| told.borrow_mut().push(dropped));
            queue.put(&LINE);
        }
        // From then on each of them has room again.
        assert_eq!(told.into_inner(), [1 + LINES_MAX as u64 / 2]);
    }

    #[test]
    fn an_end_waits_for_the_last_line_and_for_a_reader_that_is_away_no_longer_than_it_may() {
        static QUEUE: LogQueue = LogQueue::new();
        let (read, reader) = mpsc::channel::<()>();
        let (sender, written) = mpsc::channel();
        std::thread::spawn(move || {
            let mut write = |line: &[u8]| {
                // Ends with the test.
                let _ = reader.recv();
                let _ = sender.send(line.to_vec());
            };
            QUEUE.carry(&mut write, |_| ());
        });
        QUEUE.finish(Duration::MAX);
        QUEUE.put(b"one");
        QUEUE.put(b"two");
        let start = Instant::now();
        QUEUE.finish(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(written.try_recv().ok(), None);
        read.send(()).unwrap();
        read.send(()).unwrap();
        QUEUE.finish(Duration::MAX);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"one", b"two"]);
    }
}
