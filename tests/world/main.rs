//! The daemon in the world: the real program with real sockets, files and signals, and clients and
//! publishers that behave and misbehave.
//!
//! Every test starts a daemon of its own in a directory of its own, on ports that the kernel chooses, and
//! waits for conditions with a deadline, never for a time.
#![allow(clippy::unwrap_used)]

mod activation;
mod harness;

#[cfg(feature = "conformance")]
mod autobahn;
mod bus;
mod callbacks;
mod channel;
mod check;
mod cli;
mod clients;
mod console;
mod crowd;
mod doctor;
mod driver;
mod echo_clients;
mod endings;
mod exits;
mod feed;
mod frames;
mod grants;
mod handover;
mod handshake;
mod hangs;
mod health;
mod help;
mod init;
mod laravel;
mod limits;
mod locate;
mod log;
mod metrics;
mod monitoring;
mod otlp;
mod pages;
mod parts;
mod peers;
mod proxy;
mod quiet;
mod redis;
mod reload;
mod rest;
mod restart;
mod secrets;
mod shards;
mod slow;
mod soak;
mod stop;
mod tap;
mod tls;
mod top;
mod topic;
mod topics;
mod v1;
mod v1_events;
mod verifiers;
mod wazo;
mod wazo_auth;
mod wazo_clients;
mod webhooks;
