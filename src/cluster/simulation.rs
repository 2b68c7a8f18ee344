//! Several nodes on a virtual network and a model of the engine, driven by a seed.
//!
//! `network` has the clock, the messages and their delays; `engine` the journals; `node` one node
//! with its sessions and webhooks; `sessions` what clients do and see; `faults` what goes wrong;
//! `checks` what must hold all the time, `rest` what must hold when all has healed.
//!
//! `io/cluster/seeds` runs it: what a process is told by its environment is there to be read.

mod checks;
mod engine;
mod faults;
mod garbage;
mod misses;
mod node;
mod owners;
mod random;
mod rest;
mod runs;
mod sessions;
mod voice;
mod world;

pub(crate) use self::runs::quarter as simulate;
