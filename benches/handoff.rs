//! Between two threads: how long a publication takes to a sleeping shard and back, and how many go through
//! when the reader keeps up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::frame::{Draft, Publication};
use fanfare::io::handoff::{Mailbox, Parcel};
use fanfare::wheel::Now;
use rustix::event::{PollFd, PollFlags, poll};

/// Publications of one post, as a feed that reads 64 KiB at a time has them.
const BATCH: usize = 64;

fn publication() -> Arc<Publication> {
    let mut draft = Draft::default();
    draft.address(&[b"topic"], b"");
    draft.text(|out| out.extend_from_slice(&[b'x'; 128]));
    Arc::new(draft.finish(Now::default()))
}

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new().expect("the system has descriptors"))
}

/// Waits as a shard does and takes what has come.
fn take(mailbox: &Mailbox, taken: &mut VecDeque<Parcel>) {
    taken.clear();
    while taken.is_empty() {
        if mailbox.sleep() {
            let mut wake = [PollFd::from_borrowed_fd(mailbox.wake_fd(), PollFlags::IN)];
            poll(&mut wake, None).expect("polling works");
            mailbox.mark_awake();
            mailbox.clear_wakeups();
        }
        mailbox.take(taken);
    }
}

fn round_trip(criterion: &mut Criterion) {
    let (there, back) = (mailbox(), mailbox());
    let echo = {
        let (there, back) = (Arc::clone(&there), Arc::clone(&back));
        thread::spawn(move || {
            let mut taken = VecDeque::new();
            loop {
                take(&there, &mut taken);
                if taken.iter().any(|parcel| matches!(parcel, Parcel::Close)) {
                    return;
                }
                back.post(taken.drain(..));
            }
        })
    };
    let publication = publication();
    let mut taken = VecDeque::new();
    criterion.bench_function("hand-off: there and back", |bencher| {
        bencher.iter(|| {
            there.post([Parcel::Publication(Arc::clone(&publication))].into_iter());
            take(&back, &mut taken);
        });
    });
    there.post([Parcel::Close].into_iter());
    echo.join().expect("the echo ends");
}

fn throughput(criterion: &mut Criterion) {
    let publication = publication();
    let mut group = criterion.benchmark_group("hand-off");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(format!("post {BATCH} to a reader that keeps up"), |bencher| {
        bencher.iter_custom(|iterations| through(&publication, iterations));
    });
}

/// Posts so many batches and waits until all were taken.
fn through(publication: &Arc<Publication>, batches: u64) -> Duration {
    let mailbox = mailbox();
    let reader = {
        let mailbox = Arc::clone(&mailbox);
        thread::spawn(move || {
            let (mut taken, mut count) = (VecDeque::new(), 0);
            while count < batches as usize * BATCH {
                take(&mailbox, &mut taken);
                count += taken.len();
            }
        })
    };
    let started = Instant::now();
    for _ in 0..batches {
        while !mailbox.has_room() {
            thread::yield_now();
        }
        mailbox.post((0..BATCH).map(|_| Parcel::Publication(Arc::clone(publication))));
    }
    reader.join().expect("the reader ends");
    started.elapsed()
}

criterion_group!(benches, round_trip, throughput);
criterion_main!(benches);
