//! fanfare takes events from local programs and fans them out to very many WebSocket clients, in the
//! protocols that those clients already speak.
//!
//! # The tour
//!
//! In reading order; a file imports only what stands above it, and a folder's files only that and each
//! other. `tests/tidy.rs` holds this list against the code.
//!
//! Values, which know nothing of the world:
//!
//! - [`bytes`]: binary layouts, read from front to back
//! - [`text`]: texts of others: shortened for a log, and out of their codings
//! - [`json`]: JSON objects member by member, and strings as references write them
//! - [`calendar`]: dates and times in UTC
//! - [`counter`]: a number that one thread writes and any may read
//! - [`wheel`]: the time, and the timers of one shard
//! - [`setting`]: what settings of several modules have in common
//! - [`throttle`]: log lines that outsiders can cause: a few, then a count
//! - [`wildcard`]: patterns in which a star stands for any text
//! - [`proxy`]: what proxies say of the clients behind them, and which are believed
//! - [`event`]: an event, parsed once
//! - [`frame`]: ready wire bytes, and the publication that carries them
//! - [`trie`]: topic and facet prefixes → subscribers
//! - [`retained`]: the last publication of each topic that keeps one
//! - [`message`]: the inbound half of WebSocket: bytes → messages
//! - [`outbox`]: what is on its way to each connection, without a queue for each
//! - [`trust`]: whose certificates a client of ours believes
//! - [`endpoint`]: where something is asked or told over HTTP
//!
//! Protocols, as state machines without I/O:
//!
//! - [`token`]: what a token grants
//! - [`service`]: what sessions ask of others: token verification, presence, durable topics, webhooks
//! - [`reason`]: why a connection is not taken, or a session ends
//! - [`dialect`]: the trait, its inputs and actions, the list of protocols; `dialect/` has one file for each
//! - [`feed`]: the other side, where events come from; `feed/` has one file for each
//! - [`metrics`]: what is counted
//!
//! One shard, and what is said over HTTP:
//!
//! - [`http`](mod@http): requests as they are read, responses, health, metrics
//! - [`shard`]: sessions, their subscriptions, timers and outboxes
//!
//! The world:
//!
//! - [`io`]: sockets, clocks, files and threads; the only part that may name them, beside the commands
//! - [`config`]: the configuration file, composed of every module's settings
//! - [`manual`]: a page for each protocol and each task, and man pages made of them
//! - [`cli`]: the commands of the program
//! - [`bench`]: one more command: the load generator
//!
//! # Invariants
//!
//! - No task, timer or buffer belongs to an idle connection.
//! - No clock is read, no file opened and no thread started outside `io` and the commands.
//! - No event is parsed and no frame is built or copied per receiver.
//! - No queue is unbounded: each has a named limit with its reason.
//! - No log line that outsiders can cause is written without a limit: each goes through [`throttle`].
//! - Nothing a peer or a feed sends can panic the daemon.
//! - There is no `unsafe` code.
//!
//! [`bench`]: mod@bench

pub mod bench;
pub mod bytes;
pub mod calendar;
pub mod cli;
pub mod config;
pub mod counter;
pub mod dialect;
pub mod endpoint;
pub mod event;
pub mod feed;
pub mod frame;
pub mod http;
pub mod io;
pub mod json;
pub mod manual;
pub mod message;
pub mod metrics;
pub mod outbox;
pub mod proxy;
pub mod reason;
pub mod retained;
pub mod service;
pub mod setting;
pub mod shard;
pub mod text;
pub mod throttle;
pub mod token;
pub mod trie;
pub mod trust;
pub mod wheel;
pub mod wildcard;
