//! The cluster: the thread that carries between this node and NATS.

#[cfg(test)]
mod journal;
#[cfg(test)]
mod journal_fault;
mod place;

pub use self::place::Nats;
