//! The incomplete requests, messages and TLS records of a shard's connections.
//!
//! Any client may begin one, each may be as long as the longest that is allowed, and the rest may
//! never come. So all of them together have a limit, `limits.partial_bytes_max`. Allocated memory
//! counts, not the bytes in it.

use super::request::{self, Next, Progress, RequestContext};
use crate::shard::{Id, Shard};
use ahash::AHashMap;

/// Entries kept allocated when no request is incomplete.
const PLACES_KEPT: usize = 64;

/// Bytes of a connection that wait for the rest of a request, or for a turn.
pub(super) struct PartialRequest {
    pub(super) bytes: Vec<u8>,
    pub(super) progress: Progress,
}

impl PartialRequest {
    /// Keeps bytes, without the framing of chunks that were read.
    pub(super) fn new(mut bytes: Vec<u8>, mut progress: Progress) -> Self {
        progress.leave_out_framing(&mut bytes);
        Self { bytes, progress }
    }

    /// Keeps what is left when so many bytes of it are done with.
    pub(super) fn after(mut self, used: usize, progress: Progress) -> Self {
        if used > 0 {
            self.bytes.drain(..used);
            // The request before it may have been long, and the rest is not.
            self.bytes.shrink_to_fit();
        }
        Self::new(self.bytes, progress)
    }
}

/// Reads requests from new bytes of a connection, behind those kept of it, and keeps what a later
/// read begins with. Returns the use of the bytes, and the number of those that were read: frames
/// of a session lie behind them, in the kept bytes if there are any.
pub(super) fn read(
    kept: &mut Option<PartialRequest>,
    new: &mut [u8],
    context: &RequestContext<'_>,
    shard: &mut Shard,
) -> (Next, usize) {
    if let Some(kept) = kept {
        kept.bytes.extend_from_slice(new);
    }
    if !shard.awaits_request(context.id) {
        return (Next::Session, 0);
    }

    // A request that comes whole is read where it lies.
    let (bytes, mut progress) = match kept {
        Some(kept) => (&mut kept.bytes[..], std::mem::take(&mut kept.progress)),
        None => (&mut *new, Progress::default()),
    };
    let (used, next) = request::read(bytes, &mut progress, context, shard);
    let is_all = used == bytes.len();

    if matches!(next, Next::More | Next::Wait | Next::Asked | Next::Opening) {
        *kept = match kept.take() {
            _ if is_all => None,
            Some(kept) => Some(kept.after(used, progress)),
            None => Some(PartialRequest::new(new[used..].to_vec(), progress)),
        };
    }
    (next, used)
}

/// The incomplete requests, and the memory of everything incomplete. Sockets hold messages and
/// records themselves.
#[derive(Default)]
pub(super) struct Partials {
    held: AHashMap<Id, PartialRequest>,
    bytes: usize,
}

impl Partials {
    /// Bytes of memory held by everything incomplete.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps bytes of a connection that has none here.
    pub(super) fn put(&mut self, id: Id, held: PartialRequest) {
        self.bytes += held.bytes.capacity();
        self.held.insert(id, held);
    }

    /// Takes the bytes kept for a connection.
    pub(super) fn take(&mut self, id: Id) -> Option<PartialRequest> {
        let held = self.held.remove(&id)?;
        self.bytes -= held.bytes.capacity();
        if self.held.is_empty() {
            // A flood of slow requests must not leave its table behind.
            self.held.shrink_to(PLACES_KEPT);
        }
        Some(held)
    }

    /// The bytes kept for a connection, if they are of an incomplete head alone.
    pub(super) fn head(&self, id: Id) -> Option<&[u8]> {
        let held = self.held.get(&id)?;
        held.progress.body.is_none().then_some(&held.bytes)
    }

    /// Bytes of memory kept here for a connection.
    pub(super) fn of(&self, id: Id) -> usize {
        self.held.get(&id).map_or(0, |held| held.bytes.capacity())
    }

    /// Notes that the memory held by a socket has changed from `before` to `after` bytes.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes - before + after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_memory_that_counts_and_all_of_it_is_given_back() {
        let mut partials = Partials::default();
        let held = |capacity: usize| {
            PartialRequest::new(Vec::with_capacity(capacity), Progress::default())
        };
        partials.put(1, held(100));
        partials.put(2, held(50));
        partials.change(0, 70);
        assert_eq!((partials.bytes(), partials.of(1), partials.of(3)), (220, 100, 0));
        partials.change(70, 10);
        assert!(partials.take(3).is_none() && partials.take(1).is_some());
        assert_eq!(partials.bytes(), 60);
        partials.change(10, 0);
        assert!(partials.take(2).is_some());
        assert_eq!(partials.bytes(), 0);
    }
}
