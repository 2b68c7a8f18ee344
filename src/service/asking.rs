//! What every service is.

use super::ConnectionRef;
use crate::wheel::Now;

/// A part of the daemon that sessions ask: a value without I/O, which its host drives.
pub trait Service {
    /// What it is asked.
    type Question;
    /// What its host lends it for a step, and where its answers go.
    type Out<'a>;

    /// A connection asks something. What it asks is done in the order in which it asks.
    fn ask(
        &mut self,
        from: ConnectionRef,
        question: Self::Question,
        now: Now,
        out: &mut Self::Out<'_>,
    );

    /// Does what the time asks for.
    fn tick(&mut self, now: Now, out: &mut Self::Out<'_>);

    /// The moment of the monotonic clock (ns) at which [`Service::tick`] has something to do, unless it is asked
    /// something before; `None` when it waits for nothing.
    fn next_at_ns(&self) -> Option<u64>;
}
