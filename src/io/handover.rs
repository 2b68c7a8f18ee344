//! The hand-over: the next process takes over the listeners, the connections and the publishers of
//! this one, and clients notice no more than a pause.
//!
//! Both processes live until it is clear that the new one can go on. In order:
//!
//! 1. The old process starts the new one, which tells what it can read, gets the listeners, and
//!    builds everything that a daemon has, but reads, writes and accepts nothing.
//! 2. The pause begins: feeds wait, shards read nothing more and deliver what is on its way. Once
//!    nothing is, the store rests with everything answered, and each shard freezes its connections
//!    and sends their descriptors to a queue.
//! 3. The new process adopts them, and says which it could not.
//! 4. Until then the old process can go on as if nothing had been, and does so when the new one
//!    says something wrong, nothing in time, or has ended. Now it says that the other is to go on,
//!    and closes the store, which the other opens then. Its own stop begins: with a goodbye to the
//!    sessions that could not be passed.
//!
//! In a restart by the service manager the old process ends before the new one starts. It leaves the
//! same in a channel whose other end the manager keeps, and the new one finds it there; no one can
//! go back then.
//!
//! `channel` carries messages and descriptors, `word` is what they say. `old` and `new` are the two
//! sides, and `keep` the old one of a restart; `order` and `shard` are what a shard does for either.

mod channel;
mod error;
mod keep;
mod new;
mod old;
mod order;
mod queue;
mod shard;
mod word;

pub use self::channel::HandoverChannel;
pub use self::error::HandoverError;
pub use self::keep::LeftBehind;
pub use self::new::{Apology, NewProcess};
pub use self::old::HandedOver;
pub use self::order::{FrozenShard, HandoverOrder, ShardRest};
pub(super) use self::queue::ShardQueue;
pub(super) use self::shard::{Gate, carry_out};
pub(super) use self::word::{ListenerPlace, PassedListener};
