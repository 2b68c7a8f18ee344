//! The cluster: the thread that carries between this node and NATS.

mod place;

pub use self::place::Nats;
