//! The buffers of a ring that hold received bytes: which socket's, in which order, and how far each
//! has been read.

use crate::io::ring::{Lent, Ring};

/// No buffer.
const NONE: u16 = u16::MAX;

/// The buffers of one socket, by the number of the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BufferChain(u16);

impl BufferChain {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Default for BufferChain {
    fn default() -> Self {
        Self(NONE)
    }
}

/// A buffer with received bytes.
struct ReceivedBuffer {
    lent: Lent,
    /// Bytes that have been read.
    read: usize,
    /// The next buffer of the same socket.
    next: u16,
    /// In the first buffer of a socket, its last one.
    last: u16,
}

/// All buffers with received bytes.
pub(super) struct ReceivedBuffers {
    /// By number.
    buffers: Vec<Option<ReceivedBuffer>>,
    lent: usize,
}

impl ReceivedBuffers {
    /// None of so many buffers.
    pub(super) fn new(count: u16) -> Self {
        Self { buffers: (0..count).map(|_| None).collect(), lent: 0 }
    }

    /// The number of buffers that the kernel has to receive into.
    pub(super) fn unlent(&self) -> usize {
        self.buffers.len() - self.lent
    }

    /// Appends a buffer to those of a socket.
    pub(super) fn append(&mut self, chain: &mut BufferChain, lent: Lent) {
        let number = lent.number();
        if let Some(first) = self.get(chain.0) {
            let last = std::mem::replace(&mut first.last, number);
            if let Some(last) = self.get(last) {
                last.next = number;
            }
        } else {
            chain.0 = number;
        }
        let buffer = ReceivedBuffer { lent, read: 0, next: NONE, last: number };
        self.buffers[usize::from(number)] = Some(buffer);
        self.lent += 1;
    }

    /// Copies bytes of a socket's first buffer, which is given back when all of it is read. Returns
    /// their number, and `None` when there are none or there is no room.
    pub(super) fn read(
        &mut self,
        chain: &mut BufferChain,
        ring: &mut Ring,
        room: &mut [u8],
    ) -> Option<usize> {
        let first = self.get(chain.0).filter(|_| !room.is_empty())?;
        let bytes = &ring.bytes(&first.lent)[first.read..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        let is_all = count == bytes.len();
        first.read += count;
        if is_all {
            self.drop_first(chain, ring);
        }
        Some(count)
    }

    /// Moves all bytes of a socket behind others.
    pub(super) fn empty(&mut self, chain: &mut BufferChain, ring: &mut Ring, bytes: &mut Vec<u8>) {
        while let Some(first) = self.get(chain.0) {
            bytes.extend_from_slice(&ring.bytes(&first.lent)[first.read..]);
            self.drop_first(chain, ring);
        }
    }

    /// Copies all bytes of a socket behind others.
    pub(super) fn copy(&self, chain: BufferChain, ring: &Ring, bytes: &mut Vec<u8>) {
        let mut number = chain.0;
        while let Some(Some(buffer)) = self.buffers.get(usize::from(number)) {
            bytes.extend_from_slice(&ring.bytes(&buffer.lent)[buffer.read..]);
            number = buffer.next;
        }
    }

    /// Gives a socket's buffers back.
    pub(super) fn free(&mut self, chain: &mut BufferChain, ring: &mut Ring) {
        while !chain.is_empty() {
            self.drop_first(chain, ring);
        }
    }

    fn drop_first(&mut self, chain: &mut BufferChain, ring: &mut Ring) {
        let first = self.buffers.get_mut(usize::from(chain.0)).and_then(Option::take);
        let Some(ReceivedBuffer { lent, next, last, .. }) = first else { return };
        ring.give_back(lent);
        self.lent -= 1;
        chain.0 = next;
        if let Some(first) = self.get(next) {
            first.last = last;
        }
    }

    fn get(&mut self, number: u16) -> Option<&mut ReceivedBuffer> {
        self.buffers.get_mut(usize::from(number)).and_then(Option::as_mut)
    }
}
