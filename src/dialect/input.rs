//! A session's input, and what it may use to handle it.

use super::Settings;
use crate::event::Parser;
use crate::frame::Draft;
use crate::retained::Retained;
use crate::service::Answer;
use crate::wheel::Now;
use std::any::Any;

/// An input of a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping or a pong: the client lives. The pings of `Keepalive` are counted without it.
    Alive,
    /// A service answers a question of [`Action::Ask`](super::Action::Ask), or reports unasked.
    Answer(Answer),
    /// The settings have been replaced. Keepalive and deadline stay as they were asked for.
    Configured,
    /// The moment set by [`Action::Deadline`](super::Action::Deadline) has come.
    Deadline,
    /// The session is over, on either side's account. The last input: subscriptions are undone by
    /// [`Action::Unsubscribe`](super::Action::Unsubscribe) and services told by
    /// [`Action::Ask`](super::Action::Ask); other actions have no effect.
    Gone,
}

/// What a dialect may use besides its input.
pub struct Context<'a> {
    /// The moment of the turn.
    pub now: Now,
    /// The settings of every dialect.
    pub settings: &'a Settings,
    /// Reads JSON with the shard's own buffers.
    pub parser: &'a mut Parser,
    /// Builds publications with the shard's own buffers.
    pub draft: &'a mut Draft,
    /// State that the sessions of a dialect share on this shard.
    pub shared: &'a mut PerShard,
    /// The last publications of topics that keep one.
    pub retained: &'a Retained,
    /// Draws numbers that outsiders cannot guess.
    pub rng: &'a mut Rng,
}

/// A source of numbers that outsiders cannot guess, each drawn once. Tests use a counter.
pub type Rng = Box<dyn FnMut() -> u64>;

/// State that the sessions of a dialect share on one shard: one value of each type.
#[derive(Default)]
pub struct PerShard(Vec<Box<dyn Any>>);

impl PerShard {
    /// The value of this type, made on first use.
    pub fn get<T: Default + 'static>(&mut self) -> &mut T {
        // A handful of types at most, so a search is quicker than a map.
        let place = match self.0.iter().position(|value| value.is::<T>()) {
            Some(place) => place,
            None => {
                self.0.push(Box::new(T::default()));
                self.0.len() - 1
            }
        };
        self.0[place].downcast_mut().expect("it was found by its type")
    }
}
