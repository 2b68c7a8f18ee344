//! The interface every service implements.

use super::ConnectionRef;
use crate::wheel::Now;

/// A part of the daemon that serves sessions: a value without I/O, driven by its host.
pub trait Service {
    /// A request from a session.
    type Question;
    /// The resources its host lends for one step, and the place for its answers.
    type Out<'a>;

    /// Handles a question from a connection. Questions of one connection are handled in order.
    fn ask(
        &mut self,
        from: ConnectionRef,
        question: Self::Question,
        now: Now,
        out: &mut Self::Out<'_>,
    );

    /// Handles timers that are due.
    fn tick(&mut self, now: Now, out: &mut Self::Out<'_>);

    /// The next moment of the monotonic clock (ns) at which [`Service::tick`] has work to do,
    /// unless a question comes first; `None` when no timer is set.
    fn next_at_ns(&self) -> Option<u64>;
}
