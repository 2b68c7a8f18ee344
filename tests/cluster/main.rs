//! Several daemons as one service, in the world: the real program, three servers of NATS, the clients of
//! others, and real faults: SIGKILL, SIGSTOP, cut cables, full disks.
//!
//! Each test has a [`bed::Bed`] of its own: hosts in network namespaces on one bridge where the machine lets
//! it, else addresses of loopback, where cables cannot be cut. `FANFARE_LONG=1` asks for the full counts.
#![allow(clippy::unwrap_used)]
// Faults that no test has yet.
#![allow(dead_code)]

// What the other tests of the world share; these use only a part of it.
#[path = "../world"]
#[allow(dead_code, unused_imports)]
mod world {
    pub(crate) mod harness;
}
use world::harness;

mod bed;
mod engine;
mod network;
mod server;

/// Whether the full counts are asked for.
fn is_long() -> bool {
    std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1")
}
