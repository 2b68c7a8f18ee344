//! The io_uring of one shard's sockets, and the only file of the crate with `unsafe` code.
//!
//! A ring takes orders, hands many of them to the kernel in one system call, and collects their
//! completions. What makes it safe to use from outside this file:
//!
//! - No order but a send holds a pointer to memory of the caller, and a send has ended when
//!   [`Ring::send_all`] returns: with `MSG_DONTWAIT` the kernel takes the bytes, or refuses them,
//!   while it reads the order.
//! - Bytes are received into buffers that belong to the ring. One is lent to the caller by the
//!   completion that names it, and may be written to by the kernel again only once it is given
//!   back.
//!
//! This file knows nothing about connections: `transport/ring` decides what is ordered.

#![allow(unsafe_code)]

#[cfg(test)]
pub(super) mod faults;

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Orders that one system call hands to the kernel. Sends of a larger turn take several calls; with
/// 512 of them a call's own cost is lost in theirs.
pub(super) const ORDERS_MAX: u32 = 512;
/// Completions that the kernel can post before it has to queue them itself. By their number it also
/// chooses how many lists the waiting orders are in, which it walks to cancel one.
pub(super) const COMPLETIONS_MAX: u32 = 8 * ORDERS_MAX;
/// Bytes of a buffer: most messages of clients fit, and long ones come in several.
const BUFFER_BYTES: usize = 4096;
/// Bytes of a send that a socket with the smallest buffer does not take at once.
const SHORT_SEND_BYTES: usize = 64 * 1024;
/// The number of rings that the process has made.
static RINGS: AtomicU32 = AtomicU32::new(0);
/// The number of the only group of buffers.
const GROUP: u16 = 0;
/// The bit of a tag that stands for a send, whose number is in the other bits.
const SEND_BIT: u64 = 1 << 63;
/// The bit of a tag that stands for an accept, whose results are descriptors. Callers' own tags
/// leave both bits clear.
const ACCEPT_BIT: u64 = 1 << 62;

/// What the kernel is asked to do. No order here refers to memory.
pub(super) enum Order<'a> {
    /// Accept one connection.
    AcceptOne(BorrowedFd<'a>),
    /// Accept connections, each with a completion of its own, until it fails or is cancelled.
    Accept(BorrowedFd<'a>),
    /// Receive whatever comes, each time into a buffer of the ring, until it fails or is cancelled.
    Receive(BorrowedFd<'a>),
    /// Tell when these events begin, or an error, a hang-up or the end of the peer's side, until
    /// cancelled.
    Poll(BorrowedFd<'a>, PollFlags),
    /// Cancel the order with this tag, which is no accept.
    Cancel(u64),
    /// Cancel the accept with this tag.
    CancelAccept(u64),
    /// Close a descriptor.
    Close(OwnedFd),
}

/// The end of an order, or one of its results.
pub(super) struct Completion {
    /// The tag of the order.
    pub(super) tag: u64,
    /// Its result: of a receive the number of bytes, of a poll the events.
    pub(super) result: Result<u32, Errno>,
    pub(super) payload: Payload,
    /// Whether the order goes on.
    pub(super) goes_on: bool,
}

/// What a completion hands over.
pub(super) enum Payload {
    None,
    /// The buffer with the bytes of a receive.
    Bytes(Lent),
    /// The socket of an accept.
    Socket(OwnedFd),
}

/// A received buffer, until it is given back to its ring.
pub(super) struct Lent {
    /// The number of its ring.
    ring: u32,
    number: u16,
    length: u16,
}

impl Lent {
    /// The number of the buffer in its ring.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// A ring for the thread that made it.
pub(super) struct Ring {
    uring: IoUring,
    /// Dropped after the ring, which is where the kernel knows them from.
    buffers: Buffers,
    /// Its number in the process.
    number: u32,
    /// Completions that were collected while something else was done.
    collected: VecDeque<Completion>,
    #[cfg(test)]
    pub(super) faults: faults::Faults,
}

impl Ring {
    /// A ring with this number of buffers, a power of two.
    ///
    /// # Errors
    /// When the kernel lacks a feature (Linux 6.0 has all of them), or a sandbox refuses io_uring.
    pub(super) fn new(buffers: u16) -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            // Only this thread submits, so the kernel need not lock.
            .setup_single_issuer()
            // The kernel works on completions when this thread enters it anyway, and need not
            // interrupt it. Not DEFER_TASKRUN: such a ring does work only when it is entered itself,
            // and whoever polls its descriptor, as the runtime does, is not woken for that.
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            // One malformed order must not hold up the others.
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS_MAX)
            .build(ORDERS_MAX)?;
        // A sandbox may permit setting a ring up but not entering it.
        uring.submit()?;
        let buffers = Buffers::new(&uring, buffers)?;
        let mut ring = Self {
            uring,
            buffers,
            number: RINGS.fetch_add(1, Ordering::Relaxed),
            collected: VecDeque::new(),
            #[cfg(test)]
            faults: faults::Faults::default(),
        };
        ring.try_short_send()?;
        Ok(ring)
    }

    /// Checks that the kernel tells how much a send took that did not take everything: a send that
    /// is cut and counts as refused would be repeated.
    fn try_short_send(&mut self) -> io::Result<()> {
        let (socket, _peer) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 0)?;
        let bytes = vec![0; SHORT_SEND_BYTES];
        let mut taken = None;
        self.send_all(std::iter::once((socket.as_fd(), &bytes[..])), |_, sent| taken = Some(sent));
        match taken {
            Some(Ok(count)) if count < bytes.len() => Ok(()),
            _ => Err(Errno::NOSYS.into()),
        }
    }

    /// Orders something, with the next call to the kernel. The descriptor must stay open until
    /// then: one that is closed by [`Order::Close`] does.
    pub(super) fn order(&mut self, order: Order<'_>, tag: u64) {
        assert!(tag & (SEND_BIT | ACCEPT_BIT) == 0, "these bits tell what a result is");
        let accepts = matches!(order, Order::Accept(_) | Order::AcceptOne(_));
        let tag = if accepts { tag | ACCEPT_BIT } else { tag };
        let accepted = (SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).bits() as i32;
        let entry = match order {
            Order::AcceptOne(fd) => {
                opcode::Accept::new(raw(&fd), null_mut(), null_mut()).flags(accepted).build()
            }
            Order::Accept(fd) => opcode::AcceptMulti::new(raw(&fd)).flags(accepted).build(),
            Order::Receive(fd) => opcode::RecvMulti::new(raw(&fd), GROUP).build(),
            Order::Poll(fd, events) => {
                opcode::PollAdd::new(raw(&fd), events.bits().into()).multi(true).build()
            }
            // These two have nothing to tell but a failure.
            Order::Cancel(tag) => opcode::AsyncCancel::new(tag).build().flags(SKIP_SUCCESS),
            Order::CancelAccept(tag) => {
                opcode::AsyncCancel::new(tag | ACCEPT_BIT).build().flags(SKIP_SUCCESS)
            }
            Order::Close(fd) => {
                opcode::Close::new(Fd(fd.into_raw_fd())).build().flags(SKIP_SUCCESS)
            }
        };
        let entry = entry.user_data(tag);
        // SAFETY: none of these orders holds a pointer but a null one, for an address that is not wanted. Received bytes go to `self.buffers`, which
        // are dropped after the ring.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.submit();
        }
    }

    /// Offers bytes to sockets, without waiting for any of them. `refused` gets the number of each
    /// send that did not take all of its bytes, with the bytes taken or the error.
    pub(super) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        mut refused: impl FnMut(usize, Result<usize, Errno>),
    ) {
        // Submits what has been ordered even if the iterator panics, while its bytes still live.
        let guard = SubmitGuard(self);
        let ring = &mut *guard.0;
        for (number, (fd, bytes)) in sends.enumerate() {
            let (length, skips) = ring.send_length(bytes.len());
            // With MSG_WAITALL a short send counts as a failure, which SKIP_SUCCESS does not hide.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let entry = opcode::Send::new(raw(&fd), bytes.as_ptr(), length)
                .flags(flags.bits() as i32 | WAIT_ALL)
                .build()
                .flags(if skips { SKIP_SUCCESS } else { squeue::Flags::empty() })
                .user_data(SEND_BIT | number as u64);
            // SAFETY: the bytes live as long as `'a`, and so longer than the guard, which has the
            // kernel read every order. MSG_DONTWAIT has a send end while its order is read.
            while unsafe { ring.uring.submission().push(&entry) }.is_err() {
                ring.submit();
                ring.take_refusals(&mut refused);
            }
        }
        drop(guard);
        self.take_refusals(&mut refused);
    }

    /// Hands the orders to the kernel, without which it must not be waited for the ring, and
    /// collects what has completed at once.
    pub(super) fn submit(&mut self) {
        while !self.uring.submission().is_empty() {
            self.enter(0);
        }
        self.collect();
    }

    /// Hands the orders to the kernel, has it do the work that waits for this thread, and collects
    /// the completions.
    pub(super) fn reap(&mut self) {
        self.submit();
        if self.has_work() {
            self.enter(ENTER_GETEVENTS);
        }
    }

    /// Whether the kernel has work for this thread.
    fn has_work(&mut self) -> bool {
        let orders = self.uring.submission();
        orders.taskrun() || orders.cq_overflow()
    }

    /// The next collected completion.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        self.collected.pop_front()
    }

    /// Whether completions have been collected.
    pub(super) fn has_collected(&self) -> bool {
        !self.collected.is_empty()
    }

    /// The received bytes of a buffer.
    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        assert!(lent.ring == self.number, "it is a buffer of another ring");
        self.buffers.bytes(lent)
    }

    /// Lets the kernel write to a buffer again.
    pub(super) fn give_back(&mut self, lent: Lent) {
        assert!(lent.ring == self.number, "it is a buffer of another ring");
        self.buffers.give(lent.number);
    }

    /// One call to the kernel.
    fn enter(&mut self, flags: u32) {
        let (orders, flags) = {
            let queue = self.uring.submission();
            let overflow = if queue.cq_overflow() { ENTER_GETEVENTS } else { 0 };
            (queue.len() as u32, flags | overflow)
        };
        // SAFETY: the orders were checked where they were pushed, and there is no argument.
        let entered = unsafe { self.uring.submitter().enter::<()>(orders, 0, flags, None) };
        match entered.map_err(|error| Errno::from_io_error(&error)) {
            // BUSY: there are completions to collect first. AGAIN: the kernel is short of memory.
            Ok(_) | Err(Some(Errno::BUSY | Errno::AGAIN | Errno::INTR)) => {}
            // The kernel still has sends before it whose bytes are about to go, and the shard could
            // neither read nor write from now on.
            Err(error) => panic!("io_uring has failed: {error:?}"),
        }
        self.collect();
    }

    /// Collects the completions in the ring.
    fn collect(&mut self) {
        let Self { uring, collected, number, .. } = self;
        collected.extend(uring.completion().map(|entry| completion(&entry, *number)));
        #[cfg(test)]
        self.faults.reorder(&mut self.collected);
    }

    /// Takes the completions of sends out of those that were collected.
    fn take_refusals(&mut self, refused: &mut impl FnMut(usize, Result<usize, Errno>)) {
        self.collected.retain(|completion| {
            let is_send = completion.tag & SEND_BIT != 0;
            if is_send {
                let sent = completion.result.map(|count| count as usize);
                refused((completion.tag & !SEND_BIT) as usize, sent);
            }
            !is_send
        });
    }

    /// How many bytes of a send are offered, and whether its success needs no completion.
    fn send_length(&mut self, length: usize) -> (u32, bool) {
        #[cfg(test)]
        if let Some(short) = self.faults.shortened(length) {
            return (short, false);
        }
        (length as u32, true)
    }
}

/// Hands the orders of a ring to the kernel at the end of its scope.
struct SubmitGuard<'a>(&'a mut Ring);

impl Drop for SubmitGuard<'_> {
    fn drop(&mut self) {
        self.0.submit();
    }
}

impl AsFd for Ring {
    /// The ring, which is readable when there is something to reap.
    fn as_fd(&self) -> BorrowedFd<'_> {
        let raw = self.uring.as_raw_fd();
        // SAFETY: the ring's descriptor is open as long as the ring, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(raw) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // From here on the kernel has no buffer to write to, whatever else of the ring it still has
        // to undo after its descriptor is closed.
        let _ = self.uring.submitter().unregister_buf_ring(GROUP);
    }
}

/// What an entry of the ring says.
fn completion(entry: &cqueue::Entry, ring: u32) -> Completion {
    let result = match entry.result() {
        error @ ..0 => Err(Errno::from_raw_os_error(-error)),
        result => Ok(result as u32),
    };
    let payload = match (cqueue::buffer_select(entry.flags()), result) {
        (Some(number), _) => {
            Payload::Bytes(Lent { ring, number, length: result.unwrap_or(0) as u16 })
        }
        (None, Ok(raw)) if entry.user_data() & ACCEPT_BIT != 0 => {
            // SAFETY: only accepts have this bit in their tag, and the result of one is a
            // descriptor that the kernel has opened for us and names once.
            Payload::Socket(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
        }
        _ => Payload::None,
    };
    let tag = entry.user_data() & !ACCEPT_BIT;
    Completion { tag, result, payload, goes_on: cqueue::more(entry.flags()) }
}

/// No completion for an order that succeeds.
const SKIP_SUCCESS: squeue::Flags = squeue::Flags::SKIP_SUCCESS;
/// `MSG_WAITALL`, which rustix has among the flags of receives only (`sys/socket.h`).
const WAIT_ALL: i32 = 0x100;
/// `IORING_ENTER_GETEVENTS` (`linux/io_uring.h`).
const ENTER_GETEVENTS: u32 = 1;

fn raw(fd: &BorrowedFd<'_>) -> Fd {
    Fd(fd.as_raw_fd())
}

/// The buffers that the kernel receives into, and the table by which it is given them.
struct Buffers {
    table: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    /// The number of buffers that the table has been given so far.
    tail: u16,
}

impl Buffers {
    fn new(uring: &IoUring, count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two only");
        let table = allocate(Self::table_layout(count)).cast::<BufRingEntry>();
        let memory = allocate(Self::memory_layout(count));
        // From here on dropped with its memory.
        let mut buffers = Self { table, memory, count, tail: 0 };
        // SAFETY: the table has `count` entries and is aligned to a page. It is freed after the
        // ring has been told to forget it, or has been closed.
        unsafe { uring.submitter().register_buf_ring(table.as_ptr() as u64, count, GROUP)? };
        (0..count).for_each(|number| buffers.give(number));
        Ok(buffers)
    }

    fn table_layout(count: u16) -> Layout {
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let page = rustix::param::page_size();
        Layout::from_size_align(bytes.max(page), page).expect("a small table")
    }

    fn memory_layout(count: u16) -> Layout {
        let bytes = usize::from(count) * BUFFER_BYTES;
        Layout::from_size_align(bytes, BUFFER_BYTES).expect("16 bits of buffers")
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, number: u16) {
        assert!(number < self.count, "the kernel names only buffers that it was given");
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `number` and `place` are less than `count`, so the buffer lies within the memory,
        // and the entry within the table. The kernel reads an entry only after the tail has passed
        // it, and by then nothing of ours refers to the buffer: `Lent` was consumed.
        unsafe {
            let entry = self.table.add(place).as_mut();
            entry.set_addr(self.memory.add(usize::from(number) * BUFFER_BYTES).as_ptr() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(number);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail of the table lies in the last two bytes of its first entry, whose other
        // fields end before it. The kernel reads it, and only this thread writes it.
        unsafe {
            let tail = self.table.cast::<u16>().add(size_of::<BufRingEntry>() / 2 - 1);
            AtomicU16::from_ptr(tail.as_ptr()).store(self.tail, Ordering::Release);
        }
    }

    fn bytes(&self, lent: &Lent) -> &[u8] {
        assert!(lent.number < self.count && usize::from(lent.length) <= BUFFER_BYTES);
        // SAFETY: the kernel has written `length` bytes to this buffer and does not touch it again
        // until it is given back, which consumes `lent`. The buffer lies within the memory.
        unsafe {
            let start = self.memory.add(usize::from(lent.number) * BUFFER_BYTES);
            std::slice::from_raw_parts(start.as_ptr(), lent.length.into())
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts, and the kernel has forgotten them: the
        // ring drops them after unregistering the table.
        unsafe {
            dealloc(self.table.as_ptr().cast(), Self::table_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count));
        }
    }
}

/// Allocates zeroed memory.
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here has a size of zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
