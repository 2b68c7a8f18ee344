//! Durable topics in the world: the real program with a store on a real disk, clients of others as they stand, and
//! real faults: SIGKILL under load, a torn log, a full disk, clients without manners.
//!
//! Every test starts a daemon of its own with a store of its own, and waits for conditions with a deadline.
//!
//! `FANFARE_LONG=1` kills twenty times as often. `FANFARE_TEST_WRITERS=2` has the topics of all of them divided among so many
//! writers; what is worth it is tried with two in any case.
#![allow(clippy::unwrap_used)]

// What the other tests of the world share; these use only a part of it.
#[path = "../world"]
#[allow(dead_code, unused_imports)]
mod world {
    pub(crate) mod harness;
}
use world::harness;

mod account;
mod churn;
mod client;
mod consuming;
mod crowd;
mod disk;
mod feed;
mod given_back;
mod handover;
mod kill;
mod kinds;
mod limits;
mod operator;
mod partitions;
mod power;
mod producing;
mod reading;
mod refusals;
mod room;
mod samples;
mod stats;
mod successors;
mod transient;
mod vanished;
mod writers;
