//! `fanfare bench`: a load generator that measures a daemon from outside, as its clients and publishers see it.
//!
//! In reading order: `wire` (bytes), `speech` (what a dialect's subscribers say), `inflight` (what is outstanding),
//! `secure`, `clients` and `connect` (subscribers),
//! `disk` (a store's directory, and its floor), `load` (producers of a durable topic), `publisher` (the unix feed), `http` (Pusher's API), `sender` and `floor` (the bare `send(2)` that everything is compared with), `target`
//! (the daemon), `side` (the measuring loop), `pair` (daemon and floor in turn), then a file per command, `report`
//! and `progress`.
//!
//! One thread on a processor of its own does all; the daemon and the floor's sender share another. Ratios are taken
//! within a run and the median over the runs, because a shared machine's speed changes by the minute.

mod all;
mod backlog;
mod bare;
mod churn;
mod clients;
mod connect;
mod disk;
mod durable;
mod error;
mod fanout;
mod floor;
mod handshake;
mod http;
mod idle;
mod inflight;
mod interrupt;
mod load;
mod pair;
mod proc;
mod progress;
mod publisher;
mod report;
mod secure;
mod selective;
mod sender;
mod side;
mod speech;
mod target;
mod wire;

use crate::cli::{CliError, output};
use argh::FromArgs;
use error::io_error;
pub use error::{BenchError, EventSize};
use report::BenchReport;
use speech::Speech;
use std::path::PathBuf;
use target::TargetOptions;

/// Measure a daemon: speed, latency, loss, memory, each beside the floor of this machine.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "bench",
    example = "Everything, on a daemon of its own:\n  {command_name} all\n\n\
               A daemon that runs already:\n  \
               {command_name} fanout --url ws://127.0.0.1:8080/cell/__event --socket /run/fanfare/events.sock \
               --token TOKEN --pid 1234",
    note = "Without --url a daemon is started for the measurement and ended after it."
)]
pub struct Bench {
    #[argh(subcommand)]
    command: BenchCommand,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum BenchCommand {
    Fanout(FanoutCommand),
    Selective(SelectiveCommand),
    Idle(IdleCommand),
    Handshake(HandshakeCommand),
    Floor(FloorCommand),
    Durable(DurableCommand),
    Backlog(BacklogCommand),
    Churn(ChurnCommand),
    All(AllCommand),
}

/// Every event to every subscriber: processor time per delivery, deliveries per second, latency.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "fanout",
    example = "{command_name} --connections 1000 --in-flight 16\n\n\
               Latency at a fixed rate:\n  {command_name} --connections 1000 --rate 100"
)]
struct FanoutCommand {
    /// subscribers (1000)
    #[argh(option, default = "1000")]
    connections: usize,
    /// events outstanding at most (1)
    #[argh(option, default = "1")]
    in_flight: u64,
    /// publish so many events per second instead, and measure latency from the intended times
    #[argh(option)]
    rate: Option<f64>,
    /// bytes of an event's JSON (128)
    #[argh(option, default = "128")]
    size: usize,
    /// length of each measurement in seconds (3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// measurements of each side (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// shards of the daemon, and senders of the floor (1)
    #[argh(option, default = "1")]
    shards: usize,
    /// the subscribers' dialect: personium-event, personium-topic, channel, echo, pulsar or wazo
    /// (personium-event)
    #[argh(option, default = "Speech::default()")]
    dialect: Speech,
    /// over TLS, with a daemon that has made its own certificate
    #[argh(switch)]
    tls: bool,
    /// publish over HTTP instead of the unix feed, with the dialect echo and a daemon that is started for it
    #[argh(switch)]
    http: bool,
    /// a running daemon's endpoint, such as ws://HOST:PORT/CELL/__event
    #[argh(option)]
    url: Option<String>,
    /// its unix feed
    #[argh(option)]
    socket: Option<PathBuf>,
    /// a token that it accepts
    #[argh(option)]
    token: Option<String>,
    /// its process, for processor time
    #[argh(option)]
    pid: Option<u32>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// Every event to one of many subscribers, each with a topic of its own.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "selective", example = "{command_name} --topics 10000 --in-flight 64")]
struct SelectiveCommand {
    /// topics, with a subscriber each (10000)
    #[argh(option, default = "10_000")]
    topics: usize,
    /// events outstanding at most (64)
    #[argh(option, default = "64")]
    in_flight: u64,
    /// bytes of an event's JSON (128)
    #[argh(option, default = "128")]
    size: usize,
    /// length of each measurement in seconds (3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// measurements of each side (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// shards of the daemon, and senders of the floor (1)
    #[argh(option, default = "1")]
    shards: usize,
    /// the subscribers' dialect: personium-event, personium-topic, channel, echo, pulsar or wazo
    /// (personium-event)
    #[argh(option, default = "Speech::default()")]
    dialect: Speech,
    /// publish over HTTP instead of the unix feed, with the dialect echo and a daemon that is started for it
    #[argh(switch)]
    http: bool,
    /// a running daemon's endpoint, such as ws://HOST:PORT/CELL/__event
    #[argh(option)]
    url: Option<String>,
    /// its unix feed
    #[argh(option)]
    socket: Option<PathBuf>,
    /// a token that it accepts
    #[argh(option)]
    token: Option<String>,
    /// its process, for processor time
    #[argh(option)]
    pid: Option<u32>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// Memory per connection that is authenticated, subscribed and idle.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "idle",
    example = "{command_name} --connections 15000",
    note = "A daemon that runs already (--url) is measured once, best soon after its start: memory that earlier \
            connections left behind is used again and does not show."
)]
struct IdleCommand {
    /// connections (15000)
    #[argh(option, default = "15_000")]
    connections: usize,
    /// a topic of its own for each, instead of one for all
    #[argh(switch)]
    topics: bool,
    /// measurements, each on a new daemon (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// shards of the daemon (1)
    #[argh(option, default = "1")]
    shards: usize,
    /// the subscribers' dialect: personium-event, personium-topic, channel, echo, pulsar or wazo
    /// (personium-event)
    #[argh(option, default = "Speech::default()")]
    dialect: Speech,
    /// over TLS, with a daemon that has made its own certificate
    #[argh(switch)]
    tls: bool,
    /// a running daemon's endpoint, such as ws://HOST:PORT/CELL/__event
    #[argh(option)]
    url: Option<String>,
    /// a token that it accepts
    #[argh(option)]
    token: Option<String>,
    /// its process, for memory
    #[argh(option)]
    pid: Option<u32>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// Connect, upgrade, token and one subscription: processor time per connection, connections per second.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "handshake", example = "{command_name} --connections 5000 --concurrency 64")]
struct HandshakeCommand {
    /// connections of each run (5000)
    #[argh(option, default = "5_000")]
    connections: usize,
    /// connections opened at the same time (64)
    #[argh(option, default = "64")]
    concurrency: usize,
    /// measurements of each side (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// shards of the daemon (1)
    #[argh(option, default = "1")]
    shards: usize,
    /// the subscribers' dialect: personium-event, personium-topic, channel, echo, pulsar or wazo
    /// (personium-event)
    #[argh(option, default = "Speech::default()")]
    dialect: Speech,
    /// a running daemon's endpoint, such as ws://HOST:PORT/CELL/__event
    #[argh(option)]
    url: Option<String>,
    /// a token that it accepts
    #[argh(option)]
    token: Option<String>,
    /// its process, for processor time
    #[argh(option)]
    pid: Option<u32>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// What one send(2) of the same frame to each of so many TCP connections costs on this machine.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "floor", example = "{command_name} --connections 1000 --in-flight 16")]
struct FloorCommand {
    /// connections (1000)
    #[argh(option, default = "1000")]
    connections: usize,
    /// frames outstanding at most; more than one are also sent all at once (1)
    #[argh(option, default = "1")]
    in_flight: u64,
    /// bytes of an event's JSON (128)
    #[argh(option, default = "128")]
    size: usize,
    /// each frame to one connection in turn, instead of to all
    #[argh(switch)]
    topics: bool,
    /// length of each measurement in seconds (3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// measurements (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// senders, on a processor each (1)
    #[argh(option, default = "1")]
    shards: usize,
    /// be the sender (the generator starts it so)
    #[argh(switch, hidden_help)]
    sender: bool,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// Messages of durable topics that are acknowledged, beside a plain loop of write(2) and fdatasync(2) of the same groups.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "durable",
    example = "{command_name} --producers 64 --in-flight 16",
    note = "Beside it, one producer with one message in flight: its latency against one write and fdatasync.",
    note = "The fan-out of a durable topic is measured by: fanfare bench fanout --dialect pulsar"
)]
struct DurableCommand {
    /// producers (64)
    #[argh(option, default = "64")]
    producers: usize,
    /// topics among which they are divided (1)
    #[argh(option, default = "1")]
    topics: usize,
    /// messages of each outstanding at most (16)
    #[argh(option, default = "16")]
    in_flight: u64,
    /// bytes of a payload (256)
    #[argh(option, default = "256")]
    size: usize,
    /// length of each measurement in seconds (3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// measurements of each side (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// shards of the daemon (1)
    #[argh(option, default = "1")]
    shards: usize,
    /// writers of the store (1)
    #[argh(option, default = "1")]
    writers: usize,
    /// where the store is made and removed again (the directory of this program, or else that for temporary files)
    #[argh(option)]
    store: Option<PathBuf>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// Many messages that wait on disk: the memory they take, and how soon a daemon is ready again with them.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "backlog", example = "{command_name} --messages 1000000")]
struct BacklogCommand {
    /// messages (10000000)
    #[argh(option, default = "10_000_000")]
    messages: u64,
    /// bytes of a payload (256)
    #[argh(option, default = "256")]
    size: usize,
    /// where the store is made and removed again (the directory of this program, or else that for temporary files)
    #[argh(option)]
    store: Option<PathBuf>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// A durable queue that is only passed through: what is left of it on the disk, in memory, at a start and when its topic is opened again.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "churn",
    example = "{command_name} --messages 3000000\n  {command_name} --messages 250000 --size 10000 --rounds 10",
    note = "The bytes written are those of pages that the daemon made dirty, by /proc/PID/io, whatever the file system adds."
)]
struct ChurnCommand {
    /// messages of each round, which one consumer acknowledges as they come (300000)
    #[argh(option, default = "300_000")]
    messages: u64,
    /// bytes of a payload (256)
    #[argh(option, default = "256")]
    size: usize,
    /// rounds in one life of the daemon, which its memory is compared over (1)
    #[argh(option, default = "1")]
    rounds: usize,
    /// where the store is made and removed again (the directory of this program, or else that for temporary files)
    #[argh(option)]
    store: Option<PathBuf>,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// The whole table, each line on a daemon of its own: about nine minutes.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "all", example = "{command_name}\n  {command_name} --seconds 1 --runs 3 --json")]
struct AllCommand {
    /// length of each measurement in seconds (3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// measurements of each side (5)
    #[argh(option, default = "5")]
    runs: usize,
    /// the program to start as daemon (this one)
    #[argh(option)]
    daemon: Option<PathBuf>,
    /// print one JSON array
    #[argh(switch)]
    json: bool,
}

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// Why there is no result.
pub fn run(command: Bench) -> Result<(), CliError> {
    output::print(&measured(command)?)
}

/// The result as text.
fn measured(command: Bench) -> Result<String, BenchError> {
    if let BenchCommand::Floor(args) = &command.command
        && args.sender
    {
        return sender::run(args.connections, args.size, args.topics).map(|()| String::new());
    }
    interrupt::watch()?;
    let (report, json) = match command.command {
        BenchCommand::All(args) => {
            let options = all::AllOptions { seconds: args.seconds, runs: args.runs, daemon: args.daemon };
            return of_all(&all::run(&options)?, args.json);
        }
        BenchCommand::Fanout(args) => fanout_report(args)?,
        BenchCommand::Selective(args) => selective_report(args)?,
        BenchCommand::Idle(args) => idle_report(args)?,
        BenchCommand::Handshake(args) => handshake_report(args)?,
        BenchCommand::Floor(args) => floor_report(&args)?,
        BenchCommand::Durable(args) => durable_report(args)?,
        BenchCommand::Backlog(args) => backlog_report(args)?,
        BenchCommand::Churn(args) => churn_report(args)?,
    };
    if json { in_json(&report) } else { Ok(report::table(&report.rows.iter().collect::<Vec<_>>())) }
}

fn fanout_report(args: FanoutCommand) -> Result<(BenchReport, bool), BenchError> {
    let FanoutCommand { connections, in_flight, rate, size, seconds, runs, .. } = args;
    let options = TargetOptions {
        speech: args.dialect,
        url: args.url,
        socket: args.socket,
        token: args.token,
        pid: args.pid,
        shards: args.shards,
        daemon: args.daemon,
        tls: args.tls,
        http: args.http,
        ..TargetOptions::default()
    };
    let settings = fanout::FanoutOptions { connections, in_flight, rate, size, seconds, runs };
    Ok((fanout::run(&options, &settings)?, args.json))
}

fn selective_report(args: SelectiveCommand) -> Result<(BenchReport, bool), BenchError> {
    let SelectiveCommand { topics, in_flight, size, seconds, runs, .. } = args;
    let options = TargetOptions {
        speech: args.dialect,
        url: args.url,
        socket: args.socket,
        token: args.token,
        pid: args.pid,
        shards: args.shards,
        daemon: args.daemon,
        http: args.http,
        ..TargetOptions::default()
    };
    let settings = selective::SelectiveOptions { topics, in_flight, size, seconds, runs };
    Ok((selective::run(&options, &settings)?, args.json))
}

fn idle_report(args: IdleCommand) -> Result<(BenchReport, bool), BenchError> {
    let IdleCommand {
        connections,
        topics,
        runs,
        dialect: speech,
        url,
        token,
        pid,
        shards,
        daemon,
        tls,
        json,
    } = args;
    let options = TargetOptions { speech, url, token, pid, shards, daemon, tls, ..TargetOptions::default() };
    Ok((idle::run(&options, &idle::IdleOptions { connections, topics, runs })?, json))
}

fn handshake_report(args: HandshakeCommand) -> Result<(BenchReport, bool), BenchError> {
    let HandshakeCommand {
        connections,
        concurrency,
        runs,
        dialect: speech,
        url,
        token,
        pid,
        shards,
        daemon,
        json,
    } = args;
    let options = TargetOptions { speech, url, token, pid, shards, daemon, ..TargetOptions::default() };
    let settings = handshake::HandshakeOptions { connections, concurrency, runs };
    Ok((handshake::run(&options, &settings)?, json))
}

fn floor_report(args: &FloorCommand) -> Result<(BenchReport, bool), BenchError> {
    let &FloorCommand { connections, in_flight, size, topics, seconds, runs, shards, json, .. } = args;
    let settings = bare::BareOptions { connections, in_flight, size, topics, seconds, runs, shards };
    Ok((bare::run(&settings)?, json))
}

fn durable_report(args: DurableCommand) -> Result<(BenchReport, bool), BenchError> {
    let DurableCommand { producers, topics, in_flight, size, seconds, runs, shards, writers, store, .. } =
        args;
    let (daemon, json) = (args.daemon, args.json);
    let options = TargetOptions { shards, daemon, store, writers, ..TargetOptions::default() };
    let settings = durable::DurableOptions { producers, topics, in_flight, size, seconds, runs };
    Ok((durable::run(&options, &settings)?, json))
}

fn backlog_report(args: BacklogCommand) -> Result<(BenchReport, bool), BenchError> {
    let BacklogCommand { messages, size, store, daemon, json } = args;
    let options = TargetOptions { daemon, store, ..TargetOptions::default() };
    Ok((backlog::run(&options, &backlog::BacklogOptions { messages, size })?, json))
}

fn churn_report(args: ChurnCommand) -> Result<(BenchReport, bool), BenchError> {
    let ChurnCommand { messages, size, rounds, store, daemon, json } = args;
    let options = TargetOptions { daemon, store, ..TargetOptions::default() };
    Ok((churn::run(&options, &churn::ChurnOptions { messages, size, rounds })?, json))
}

fn of_all(reports: &[BenchReport], json: bool) -> Result<String, BenchError> {
    if json {
        return in_json(&reports);
    }
    let verified = reports.iter().flat_map(|report| &report.rows).filter(|row| row.target.is_some());
    Ok(report::table(&verified.collect::<Vec<_>>()))
}

fn in_json(value: &impl serde::Serialize) -> Result<String, BenchError> {
    let text = serde_json::to_string(value)
        .map_err(|error| BenchError::Io { what: "write the result as JSON", source: error.into() })?;
    Ok(text + "\n")
}

fn check_positive(option: &str, value: usize) -> Result<(), BenchError> {
    if value > 0 { Ok(()) } else { Err(BenchError::Argument(format!("{option} must be at least 1"))) }
}

fn check_in_flight(in_flight: u64) -> Result<(), BenchError> {
    const IN_FLIGHT_MAX: u64 = 65_536;
    if (1..=IN_FLIGHT_MAX).contains(&in_flight) {
        return Ok(());
    }
    Err(BenchError::Argument(format!("--in-flight must be at least 1 and at most {IN_FLIGHT_MAX}")))
}

fn check_seconds(seconds: f64) -> Result<(), BenchError> {
    const SECONDS_MAX: f64 = 86_400.0;
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        return Ok(());
    }
    Err(BenchError::Argument(format!("--seconds must be above 0 and at most {SECONDS_MAX}")))
}
