//! `fanfare check`: what a daemon would do with a configuration.

use super::error::Status;
use super::load::{self, Loaded};
use super::locate::SERVICE_CONFIGURATION;
use super::output::print;
use super::{CliError, serve};
use crate::dialect::Kind;
use crate::io::runtime::Driver;
use crate::io::{self, Bus, Listen, Plan, Redis};
use argh::FromArgs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Validate a configuration and print what would run.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "check",
    example = "{command_name}\n{command_name} --config /etc/fanfare/fanfare.toml"
)]
pub struct Check {
    /// the configuration file; default: /etc/fanfare/fanfare.toml
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// read all tables of the store, which takes a while
    #[argh(switch)]
    whole_store: bool,
}

impl Check {
    /// Prints what would run.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let config = self.config.clone().map_or_else(service_configuration, Ok)?;
        let Loaded { plan, drain, notes, .. } = load::file(&config)?;
        let mut text = format!("{} is good.\n{}", config.display(), describe(&plan));
        let mut is_damaged = false;
        if let Some(store) = plan.store.as_ref().filter(|_| speaks(&plan, Kind::Pulsar)) {
            let report = io::store::check(store, self.whole_store);
            let report = report
                .map_err(|error| CliError::new(error.to_string()).with(serve::status_of_store(&error)))?;
            report.lines.iter().for_each(|line| text += &format!("{line}\n"));
            // A start mends what it can, so only who asks for everything is told of damage by the status.
            is_damaged = self.whole_store && report.is_damaged;
        }
        notes.iter().for_each(|note| text += &format!("note: {note}\n"));
        text += &format!("stopping may take {} s\n", drain.as_secs());
        match print(&text) {
            Err(error) if error.status() != Status::Closed => Err(error),
            // Whoever has read enough is still told by the status.
            _ if is_damaged => Ok(ExitCode::FAILURE),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// The configuration of the system service, if it has one.
fn service_configuration() -> Result<PathBuf, CliError> {
    let path = PathBuf::from(SERVICE_CONFIGURATION);
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(CliError::usage(format!("there is no {SERVICE_CONFIGURATION}: give the file with --config")))
        }
        _ => Ok(path),
    }
}

/// What a plan would run, a line each.
pub(super) fn describe(plan: &Plan) -> String {
    let mut lines = format!("{} shards", plan.shards);
    if !plan.cpus.is_empty() {
        lines += &format!(" on CPUs {:?}", &plan.cpus[..plan.shards.min(plan.cpus.len())]);
    }
    let driver = match plan.driver {
        Driver::Auto => "io_uring if it can be had",
        Driver::IoUring => "io_uring",
        Driver::Epoll => "epoll",
    };
    lines += &format!(", waiting with {driver}, at most {} connections\n", plan.limits.connections_max);
    for Listen { address, kinds, tls, .. } in &plan.listen {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        let over = if tls.is_some() { " over TLS" } else { "" };
        lines += &format!("listen {address}: {}{over}\n", names.join(", "));
    }
    if let Some(admin) = &plan.admin {
        let topics = if admin.token.is_some() { " /topics" } else { "" };
        lines += &format!("admin  {}: /healthz /readyz /metrics{topics}\n", admin.address);
    }
    match &plan.feed.path {
        Some(path) => lines += &format!("feed   {} with mode {}\n", path.display(), plan.feed.mode),
        None if plan.bus.is_none() && plan.redis.is_none() => {
            lines += "feed   none (feed.unix.path, feed.amqp.url, feed.redis.url)\n";
        }
        None => {}
    }
    if let Some(Bus { broker, settings, .. }) = &plan.bus {
        let kind = settings.exchange_type.name();
        lines += &format!("feed   {broker} exchange {} ({kind})\n", settings.exchange);
    }
    if let Some(Redis { server, topics, .. }) = &plan.redis {
        let pattern = topics.echo.as_ref().map(|source| source.pattern());
        let channels: Vec<String> = topics.channels().into_iter().chain(pattern).collect();
        lines += &format!("feed   {server} channels {}\n", channels.join(", "));
        if topics.relay && speaks(plan, Kind::Channel) {
            let channel = topics.relays();
            lines += &format!("relay  channel: what clients say, on {server} channel {channel}\n");
        }
    }
    if let Some(callback) = plan.settings.channel.callback.as_ref().filter(|_| speaks(plan, Kind::Channel))
        && let Ok(endpoint) = callback.url.endpoint()
    {
        let kinds = callback.kinds.join(", ");
        lines += &format!("tells  channel: {}, what clients say in {kinds}\n", endpoint.host());
    }
    for app in plan.settings.echo.apps.iter().filter(|_| speaks(plan, Kind::Echo)) {
        let (path, key) = (&plan.settings.echo.path, &app.settings.key);
        let state = if app.settings.enabled { "" } else { ", not enabled" };
        lines += &format!("app    echo: {} at {path}/app/{key}{state}\n", app.settings.id);
        for hook in &app.settings.webhook {
            let host = hook
                .url
                .endpoint()
                .map_or_else(|_| "nobody".to_owned(), |endpoint| endpoint.host().to_owned());
            lines += &format!("tells  echo: {host}, what happens in the channels of {}\n", app.settings.id);
        }
    }
    let spoken = Kind::ALL.iter().filter(|kind| speaks(plan, **kind));
    for (kind, remote) in spoken.filter_map(|kind| Some((kind, kind.judge(&plan.settings)?.remote()?))) {
        lines += &format!("tokens {}: {} asks {}\n", kind.name(), remote.protocol(), remote.host());
    }
    lines
}

/// Whether any listener speaks a dialect.
fn speaks(plan: &Plan, kind: Kind) -> bool {
    plan.listen.iter().any(|listen| listen.kinds.contains(&kind))
}
