//! fanfare takes events from local programs and fans them out to large numbers of WebSocket
//! clients, in the protocols those clients already speak.
//!
//! # The tour
//!
//! In reading order: a module imports only modules listed above it; files in a folder may also
//! import each other. `tests/tidy.rs` checks this list against the code. To see the daemon at work
//! first, start with [`shard`], keeping the table in [`service`] and [`io`] at hand; each type is
//! documented where it is defined.
//!
//! Plain values, with no I/O:
//!
//! - [`bytes`]: binary layouts, read from front to back
//! - [`digest`]: digests of texts and secrets
//! - [`text`]: text from outside: shortened for logs, and decoded
//! - [`json`]: JSON objects member by member, and strings as the reference servers write them
//! - [`calendar`]: dates and times in UTC
//! - [`counter`]: a number that one thread writes and any may read
//! - [`wheel`]: the time, and the timers of one shard
//! - [`setting`]: two types that the settings of several modules share; settings are declared
//!   beside their code
//! - [`throttle`]: rate-limited log lines: a few, then a count
//! - [`wildcard`]: patterns in which a star stands for any text
//! - [`proxy`]: what proxies say about the clients behind them, parsed; `io/clients` decides
//!   whether to believe it
//! - [`event`]: an event, parsed once
//! - [`frame`]: ready wire bytes, and the publication that carries them
//! - [`trie`]: topic and facet prefixes → subscribers
//! - [`retained`]: the last publication of each topic that keeps one
//! - [`message`]: the inbound half of WebSocket: bytes → messages, or a violation; `shard` answers
//! - [`outbox`]: bytes waiting for each connection, without a queue for each; `shard` decides when
//!   it is too much
//! - [`trust`]: which certificates our own clients trust
//! - [`endpoint`]: URLs of the HTTP services that the daemon calls
//!
//! Protocols, as state machines without I/O:
//!
//! - [`token`]: verifying a token, and what it grants
//! - [`service`]: what sessions ask of other parts of the daemon: token verification, presence,
//!   durable topics, webhooks
//! - [`reason`]: why a connection is refused, or a session ends
//! - [`dialect`]: the `Dialect` trait, its inputs and actions, and the list of protocols. Each
//!   protocol has a module below it for the session and a folder for its parts; its `client` is the
//!   *other* end, for `subscribe` and `bench`
//! - [`cluster`]: several daemons as one service: who owns what, who is present where
//! - [`feed`]: the publishing side: an address and JSON become a publication here; each source's
//!   codec, and what its publishers are answered, is below it
//! - [`metrics`]: what is counted
//! - [`inspect`]: what operators ask about sessions, and the answers
//! - [`handover`]: what one process leaves to the next: frozen sessions and services, as bytes
//!
//! One shard, and HTTP:
//!
//! - [`http`](mod@http): requests as they are read, responses, health, metrics
//! - [`shard`]: one thread's sessions: delivery, pings, slow clients, closing; and `[limits]` of
//!   the configuration
//!
//! The world:
//!
//! - [`io`]: sockets, clocks, files and threads; the only part, apart from the commands, that may
//!   use them
//! - [`config`]: the configuration file, composed of every module's settings
//! - [`manual`]: one page per protocol and task, also rendered as man pages
//! - [`cli`]: the commands of the program
//! - [`bench`]: one more command: the load generator
//!
//! # Where things are decided
//!
//! | question | file | function |
//! |---|---|---|
//! | Is a client too slow? | `shard.rs` | `push` |
//! | When is a ping sent, and a silent client closed? | `shard/timing.rs` | `visit` |
//! | Which sessions get an event? | `shard.rs` | `deliver` |
//! | When does a session end with its token? | `dialect/wazo.rs`; in each protocol where `handle` gets `Input::Deadline` | `deadline` |
//! | When is a granted token revoked? | `service/verification/checks.rs` | `revoke` |
//! | Which shard owns a presence channel? | `service/presence/question.rs` | `owner` |
//! | Which node owns a partition of presence channels? | `cluster/ownership.rs` | `may_take` |
//! | When is a node gone? | `cluster/peers.rs` | `tick` |
//! | Which retained event is the last, over all nodes? | `cluster/kept.rs` | `is_kept` |
//! | Who joins a presence channel, over all nodes? | `cluster/owner_channels.rs` | `join` |
//! | When is that announced? | `cluster/rounds.rs` | `pop_stored` |
//! | When is a durable message safe? | `io/store/owner.rs` | `conclude` |
//! | When is its producer told? | `service/topic/owner.rs` | `committed` |
//! | When does a message go to the dead-letter topic? | `service/topic/ack.rs` | `send_back` |
//! | When is a webhook retried, and given up? | `service/webhook/lane.rs` | `replied` |
//! | Is `X-Forwarded-For` believed? | `io/clients.rs` | `learn` |
//! | Which address of it is the client's? | `proxy/forwarded.rs` | `client` |
//! | Is a request's body too large (413)? | `http/body.rs` | `of` |
//! | Is a configuration key in its range? | `config/schema.rs` | `out_of_range` |
//! | What is a publisher answered? | `feed/unix.rs` | `line` |
//! | Is an Echo client's signature good? | `dialect/echo/auth.rs` | `is_good` |
//! | Is a thread hung? | `io/pulse.rs` | `look` |
//! | Can a session go on in the next process? | `shard/handover.rs` | `freeze` |
//! | Can settings work together? | `config/problems.rs` | `problems` |
//! | What does a new protocol need? | `manual/development.md` | |
//!
//! # Invariants
//!
//! - No task, timer or buffer belongs to an idle connection.
//! - No clock is read, no file opened and no thread started outside `io` and the commands.
//! - No event is parsed and no frame is built or copied per receiver.
//! - No queue is unbounded: each has a named limit with its reason.
//! - Every log line that outsiders can trigger is rate-limited by [`throttle`].
//! - Nothing that a peer or a feed sends can panic the daemon.
//! - There is no `unsafe` code but in `io/ring.rs`, and none there without its proof.
//!
//! [`bench`]: mod@bench

pub mod bench;
pub mod bytes;
pub mod calendar;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod counter;
pub mod dialect;
pub mod digest;
pub mod endpoint;
pub mod event;
pub mod feed;
pub mod frame;
pub mod handover;
pub mod http;
pub mod inspect;
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
