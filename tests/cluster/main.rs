//! Several daemons as one service, in the world: the real program, three servers of NATS, the clients of
//! others, and real faults: SIGKILL, SIGSTOP, cut cables, full disks.
//!
//! Each test has a [`bed::Bed`] of its own: hosts in network namespaces on one bridge where the machine lets
//! it, else addresses of loopback, where cables cannot be cut. `FANFARE_LONG=1` asks for the full counts.
#![allow(clippy::unwrap_used)]

// What the other tests of the world share; these use only a part of it.
#[path = "../world"]
#[allow(dead_code, unused_imports)]
mod world {
    pub(crate) mod harness;
}
use world::harness;

mod bad;
mod bed;
mod clocks;
mod crowd;
mod cuts;
mod dialects;
mod engine;
mod joins;
mod live;
mod logins;
mod losses;
mod network;
mod operator;
mod pages;
mod presence;
mod relay;
mod rolling;
mod server;
mod webhooks;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether the full counts are asked for.
fn is_long() -> bool {
    std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1")
}

/// Tells the threads of a test that it is over, also when it has failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
