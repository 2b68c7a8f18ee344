//! What goes into a session: what it is told, and what it is lent.

use super::Settings;
use crate::event::Parser;
use crate::frame::Draft;
use crate::retained::Retained;
use crate::service::Answer;
use crate::wheel::Now;
use std::any::Any;

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping or a pong: the client lives. The pings of `Keepalive` are counted without it.
    Alive,
    /// A service answers a question of [`Action::Ask`](super::Action::Ask), or says something unasked.
    Answer(Answer),
    /// The settings have been replaced. Keepalive and deadline stay as they were asked for.
    Configured,
    /// The moment asked for by [`Action::Deadline`](super::Action::Deadline) has come.
    Deadline,
    /// The session is over, whoever ended it. The last input: whatever is subscribed is given back by
    /// [`Action::Unsubscribe`](super::Action::Unsubscribe) and told by [`Action::Ask`](super::Action::Ask), and no
    /// other action is done.
    Gone,
}

/// What a dialect is given beside its input.
pub struct Context<'a> {
    /// The moment of the turn.
    pub now: Now,
    /// The settings of every dialect.
    pub settings: &'a Settings,
    /// Reads JSON with the shard's own buffers.
    pub parser: &'a mut Parser,
    /// Builds publications with the shard's own buffers.
    pub draft: &'a mut Draft,
    /// What the sessions of a dialect share on this shard.
    pub shared: &'a mut PerShard,
    /// The last publications of topics, as far as they are kept.
    pub retained: &'a Retained,
    /// Draws numbers that nobody outside can guess.
    pub rng: &'a mut Rng,
}

/// A source of numbers that nobody outside can guess, each drawn once. Tests give one that counts.
pub type Rng = Box<dyn FnMut() -> u64>;

/// What the sessions of a dialect share on one shard, whatever it is: one value of each type.
#[derive(Default)]
pub struct PerShard(Vec<Box<dyn Any>>);

impl PerShard {
    /// The value of this type, which is made when it is asked for first.
    pub fn get<T: Default + 'static>(&mut self) -> &mut T {
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
