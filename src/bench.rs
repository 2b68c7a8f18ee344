//! `fanfare bench`: a load generator that measures a daemon from outside, as its clients and
//! publishers see it.
//!
//! In reading order: `options` (what can be asked), `wire` (bytes), `inflight` (what is
//! outstanding), `secure`, `clients` and `connect` (subscribers),
//! `disk` (a store's directory, and its floor), `load` (producers of a durable topic), `publisher`
//! (the unix feed), `http` (Pusher's API), `sender` and `floor` (the bare `send(2)` that everything
//! is compared with), `target` (the daemon), `side` (the measuring loop), `pair` (daemon and floor
//! in turn), `nats` (servers that nodes meet on), then a file per command, `report` and `progress`.
//!
//! One thread on a processor of its own does all; the daemon and the floor's sender share another.
//! Ratios are taken within a run and the median over the runs, because a shared machine's speed
//! changes by the minute.

mod all;
mod backlog;
mod bare;
mod churn;
mod clients;
mod cluster;
mod connect;
mod disk;
mod durable;
mod error;
mod fanout;
mod floor;
mod handshake;
mod http;
mod idle;
mod inbound;
mod inflight;
mod interrupt;
mod load;
mod nats;
mod options;
mod pair;
mod proc;
mod progress;
mod publisher;
mod report;
mod secure;
mod sender;
mod side;
mod target;
mod wire;

use crate::cli::{CliError, output};
use crate::dialect::Kind;
use argh::{ArgsInfo, FromArgs};
use options::{BenchOptions, USUAL};
use report::BenchReport;
use std::path::PathBuf;

/// Measure a daemon: speed, latency, loss, memory, each beside the floor of this machine.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "bench",
    example = "Everything, on a daemon of its own:\n  {command_name} all\n\n\
               A daemon that runs already:\n  {command_name} fanout --url \
               ws://127.0.0.1:8080/cell/__event --socket /run/fanfare/events.sock --token TOKEN \
               --pid 1234",
    note = "Without --url a daemon is started for the measurement and ended after it.",
    note = "The manual: fanfare help figures"
)]
pub struct Bench {
    #[argh(subcommand)]
    command: BenchCommand,
}

#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand)]
enum BenchCommand {
    Fanout(FanoutCommand),
    Selective(SelectiveCommand),
    Idle(IdleCommand),
    Handshake(HandshakeCommand),
    Inbound(InboundCommand),
    Floor(FloorCommand),
    Durable(DurableCommand),
    Backlog(BacklogCommand),
    Churn(ChurnCommand),
    Cluster(ClusterCommand),
    All(AllCommand),
}

/// A command with options of its own, and with groups of those that others have too.
macro_rules! command {
    (@ $head:tt [event $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// bytes of an event's JSON (128)
            #[argh(option, default = "128")]
            size: usize,
        } }
    };
    (@ $head:tt [payload $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// bytes of a payload (256)
            #[argh(option, default = "256")]
            size: usize,
            /// where the store is made and removed again (the directory of this program, or else that for temporary files)
            #[argh(option)]
            store: Option<PathBuf>,
        } }
    };
    (@ $head:tt [seconds $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// length of each measurement in seconds (3)
            #[argh(option, default = "3.0")]
            seconds: f64,
        } }
    };
    (@ $head:tt [runs $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// measurements of each side (5)
            #[argh(option, default = "5")]
            runs: usize,
        } }
    };
    (@ $head:tt [shards $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// shards of the daemon, and senders of the floor (1)
            #[argh(option, default = "1")]
            shards: usize,
        } }
    };
    (@ $head:tt [tls $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// over TLS, with a daemon that has made its own certificate
            #[argh(switch)]
            tls: bool,
        } }
    };
    (@ $head:tt [feed $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// publish over HTTP instead of the unix feed, with the dialect echo and a daemon that is started for it
            #[argh(switch)]
            http: bool,
            /// the unix feed of a running daemon
            #[argh(option)]
            socket: Option<PathBuf>,
        } }
    };
    (@ $head:tt [running $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [shards $($more)*] { $($fields)*
            /// the subscribers' dialect, by its name in the configuration
            /// (personium-event)
            #[argh(option, from_str_fn(dialect), default = "USUAL")]
            dialect: Kind,
            /// a running daemon's endpoint, such as ws://HOST:PORT/CELL/__event
            #[argh(option)]
            url: Option<String>,
            /// a token that it accepts
            #[argh(option)]
            token: Option<String>,
            /// its process, for processor time and memory
            #[argh(option)]
            pid: Option<u32>,
        } }
    };
    (@ $head:tt [daemon $($more:ident)*] { $($fields:tt)* }) => {
        command! { @ $head [$($more)*] { $($fields)*
            /// the program to start as daemon (this one)
            #[argh(option)]
            daemon: Option<PathBuf>,
        } }
    };
    (@ [$($head:tt)*] [] { $($(#[$about:meta])* $field:ident: $type:ident $(<$inner:ident>)?,)* }) => {
        command! { = [$($head)*] { $($(#[$about])* $field: $type $(<$inner>)?,)*
            /// print JSON
            #[argh(switch)]
            json: bool,
        } }
    };
    (= [$(#[$about:meta])* $name:ident] { $($(#[$attribute:meta])* $field:ident: $type:ident $(<$inner:ident>)?,)* }) => {
        #[derive(ArgsInfo, FromArgs, Debug)]
        $(#[$about])*
        struct $name {
            $($(#[$attribute])* $field: $type $(<$inner>)?,)*
        }

        impl From<$name> for BenchOptions {
            fn from(command: $name) -> Self {
                Self { $($field: command.$field,)* ..Self::default() }
            }
        }
    };
    ($(#[$about:meta])* $name:ident [$($group:ident)*] { $($own:tt)* }) => {
        command! { @ [$(#[$about])* $name] [$($group)*] { $($own)* } }
    };
}

command! {
    /// Every event to every subscriber: processor time per delivery, deliveries per second, latency.
    #[argh(
        subcommand,
        name = "fanout",
        example = "{command_name} --connections 1000 --in-flight 16\n\n\
                   Latency at a fixed rate:\n  {command_name} --connections 1000 --rate 100"
    )]
    FanoutCommand [event seconds runs running tls feed daemon] {
        /// subscribers (1000)
        #[argh(option, default = "1000")]
        connections: usize,
        /// events outstanding at most (1)
        #[argh(option, default = "1")]
        in_flight: u64,
        /// publish so many events per second instead, and measure latency from the intended times
        #[argh(option)]
        rate: Option<f64>,
    }
}

command! {
    /// Every event to one of many subscribers, each with a topic of its own.
    #[argh(subcommand, name = "selective", example = "{command_name} --topics 10000 --in-flight \
                                                      64")]
    SelectiveCommand [event seconds runs running feed daemon] {
        /// topics, with a subscriber each (10000)
        #[argh(option, long = "topics", default = "10_000")]
        connections: usize,
        /// events outstanding at most (64)
        #[argh(option, default = "64")]
        in_flight: u64,
    }
}

command! {
    /// Memory per connection that is authenticated, subscribed and idle.
    #[argh(
        subcommand,
        name = "idle",
        example = "{command_name} --connections 15000",
        note = "A daemon that runs already (--url) is measured once, best soon after its start: \
                memory that earlier connections left behind is used again and does not show."
    )]
    IdleCommand [runs running tls daemon] {
        /// connections (15000)
        #[argh(option, default = "15_000")]
        connections: usize,
        /// a topic of its own for each, instead of one for all
        #[argh(switch, long = "topics")]
        own_topics: bool,
    }
}

command! {
    /// Connect, upgrade, token and one subscription: processor time per connection, connections per second.
    #[argh(subcommand, name = "handshake", example = "{command_name} --connections 5000 \
                                                      --concurrency 64")]
    HandshakeCommand [runs running daemon] {
        /// connections of each run (5000)
        #[argh(option, default = "5_000")]
        connections: usize,
        /// connections opened at the same time (64)
        #[argh(option, default = "64")]
        concurrency: usize,
    }
}

command! {
    /// Clients that talk, with the daemon's sockets on io_uring and on epoll in turn: processor time per message.
    #[argh(subcommand, name = "inbound", example = "{command_name} --connections 1000 --rate 20")]
    InboundCommand [event seconds runs shards daemon] {
        /// clients, each with a topic of its own (1000)
        #[argh(option, default = "1000")]
        connections: usize,
        /// messages of each client per second (20)
        #[argh(option, from_str_fn(rate), default = "Some(20.0)")]
        rate: Option<f64>,
        /// the clients' dialect, by its name in the configuration (channel)
        #[argh(option, from_str_fn(dialect), default = "inbound::talking()")]
        dialect: Kind,
    }
}

command! {
    /// What one send(2) of the same frame to each of so many TCP connections costs on this machine.
    #[argh(subcommand, name = "floor", example = "{command_name} --connections 1000 --in-flight \
                                                  16")]
    FloorCommand [event seconds runs shards] {
        /// connections (1000)
        #[argh(option, default = "1000")]
        connections: usize,
        /// frames outstanding at most; more than one are also sent all at once (1)
        #[argh(option, default = "1")]
        in_flight: u64,
        /// each frame to one connection in turn, instead of to all
        #[argh(switch, long = "topics")]
        own_topics: bool,
        /// be the sender (the generator starts it so)
        #[argh(switch, hidden_help)]
        sender: bool,
    }
}

command! {
    /// Messages of durable topics that are acknowledged, beside a plain loop of write(2) and fdatasync(2) of the same groups.
    #[argh(
        subcommand,
        name = "durable",
        example = "{command_name} --producers 64 --in-flight 16",
        note = "Beside it, one producer with one message in flight: its latency against one write \
                and fdatasync.",
        note = "The fan-out of a durable topic is measured by: fanfare bench fanout --dialect \
                pulsar"
    )]
    DurableCommand [payload seconds runs shards daemon] {
        /// producers (64)
        #[argh(option, default = "64")]
        producers: usize,
        /// topics among which they are divided (1)
        #[argh(option, default = "1")]
        topics: usize,
        /// messages of each outstanding at most (16)
        #[argh(option, default = "16")]
        in_flight: u64,
        /// writers of the store (1)
        #[argh(option, default = "1")]
        writers: usize,
    }
}

command! {
    /// Many messages that wait on disk: the memory they take, and how soon a daemon is ready again with them.
    #[argh(subcommand, name = "backlog", example = "{command_name} --messages 1000000")]
    BacklogCommand [payload daemon] {
        /// messages (10000000)
        #[argh(option, default = "10_000_000")]
        messages: u64,
    }
}

command! {
    /// A durable queue that is only passed through: what is left of it on the disk, in memory, at a start and when its topic is opened again.
    #[argh(
        subcommand,
        name = "churn",
        example = "{command_name} --messages 3000000\n  {command_name} --messages 250000 --size \
                   10000 --rounds 10",
        note = "The bytes written are those of pages that the daemon made dirty, by /proc/PID/io, \
                whatever the file system adds."
    )]
    ChurnCommand [payload daemon] {
        /// messages of each round, which one consumer acknowledges as they come (300000)
        #[argh(option, default = "300_000")]
        messages: u64,
        /// rounds in one life of the daemon, which its memory is compared over (1)
        #[argh(option, default = "1")]
        rounds: usize,
    }
}

command! {
    /// Two nodes that meet on NATS, beside a daemon that is alone: latency, rate, and processor time of each.
    #[argh(
        subcommand,
        name = "cluster",
        example = "{command_name} --nats-server /usr/local/bin/nats-server",
        note = "The servers are started for the measurement, with their files in a temporary \
                directory; $NATS_SERVER names their program too."
    )]
    ClusterCommand [event seconds runs shards daemon] {
        /// the program of the NATS server, 2.12 or newer (nats-server)
        #[argh(option)]
        nats_server: Option<PathBuf>,
        /// NATS servers, as one cluster (3)
        #[argh(option, default = "3")]
        servers: usize,
        /// the subscribers' dialect, by its name in the configuration (personium-event)
        #[argh(option, from_str_fn(dialect), default = "USUAL")]
        dialect: Kind,
    }
}

command! {
    /// The whole table, each line on a daemon of its own: about ten minutes.
    #[argh(subcommand, name = "all", example = "{command_name}\n  {command_name} --seconds 1 \
                                                --runs 3 --json")]
    AllCommand [seconds runs daemon] {}
}

/// The dialect of a name.
fn dialect(name: &str) -> Result<Kind, String> {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    Kind::named(name).ok_or_else(|| format!("it is one of {}", names.join(", ")))
}

/// A rate.
fn rate(text: &str) -> Result<Option<f64>, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(Some(rate)),
        _ => Err("it is above 0 and at most 1000000".into()),
    }
}

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// Why there is no result.
pub fn run(command: Bench) -> Result<(), CliError> {
    output::print(&measured(command)?)
}

/// What measures for a command.
type Measure = fn(&BenchOptions) -> Result<BenchReport, CliError>;

/// The result as text.
fn measured(command: Bench) -> Result<String, CliError> {
    let (measure, options): (Measure, BenchOptions) = match command.command {
        BenchCommand::Fanout(command) => (fanout::run, command.into()),
        BenchCommand::Selective(command) => {
            (fanout::run, BenchOptions { own_topics: true, ..command.into() })
        }
        BenchCommand::Idle(command) => (idle::run, command.into()),
        BenchCommand::Handshake(command) => (handshake::run, command.into()),
        BenchCommand::Inbound(command) => (inbound::run, command.into()),
        BenchCommand::Floor(command) => (bare::run, command.into()),
        BenchCommand::Durable(command) => (durable::run, command.into()),
        BenchCommand::Backlog(command) => (backlog::run, command.into()),
        BenchCommand::Churn(command) => (churn::run, command.into()),
        BenchCommand::Cluster(command) => (cluster::run, command.into()),
        BenchCommand::All(command) => {
            let options: BenchOptions = command.into();
            options.check()?;
            interrupt::watch()?;
            let reports = all::run(&options)?;
            // What has no target is there for those who look closer.
            let rows = reports.iter().flat_map(|report| &report.rows);
            let table = || report::table(rows.filter(|row| row.target.is_some()));
            return if options.json { in_json(&reports) } else { Ok(table()) };
        }
    };
    options.check()?;
    // It says its port on standard output and takes no signals: it ends with its input.
    if options.sender {
        return sender::run(&options).map(|()| String::new());
    }

    interrupt::watch()?;
    let report = measure(&options)?;
    if options.json { in_json(&report) } else { Ok(report::table(report.rows.iter())) }
}

fn in_json(value: &impl serde::Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string(value).map_err(error::failed("write the result as JSON"))?;
    Ok(text + "\n")
}
