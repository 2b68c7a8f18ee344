//! `fanfare check`: what a daemon would do with a configuration.

use super::error::CliStatus;
use super::load::{self, LoadedConfig};
use super::locate::SERVICE_CONFIGURATION;
use super::obstacles::{Obstacles, store_of};
use super::output::print;
use super::user::User;
use super::{CliError, logging};
use crate::dialect::Kind;
use crate::io::runtime::Driver;
use crate::io::{self, Bus, Listen, Nats, Plan, Redis};
use argh::{ArgsInfo, FromArgs};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Validate a configuration and print what would run.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "check",
    example = "{command_name}\n{command_name} --config /etc/fanfare/fanfare.toml",
    note = "The manual: fanfare help configuration"
)]
pub struct Check {
    /// the configuration file; default: /etc/fanfare/fanfare.toml
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// check as this user, which needs root; default: fanfare, the user of the service, where root
    /// asks
    #[argh(option, arg_name = "name")]
    user: Option<String>,
    /// read all segments of the store, which takes a while
    #[argh(switch)]
    whole_store: bool,
}

impl Check {
    /// Prints what would run.
    ///
    /// # Errors
    /// Everything that stands in the way of a start.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let config = self.config.clone().map_or_else(service_configuration, Ok)?;
        let own = User::own();
        let user = User::verified(self.user.as_deref())?;
        // Before any file is read: what root may read says nothing of the service.
        user.become_it()?;
        let (text, is_damaged) =
            self.verified(&config, &user).map_err(|error| match user == own {
                true => error,
                false => {
                    let status = error.status();
                    let verified = "without what a unit may grant; --user names another";
                    CliError::new(format!("{error}\nThis is judged as {user}, {verified}."))
                        .with(status)
                }
            })?;
        match print(&text) {
            Err(error) if error.status() != CliStatus::Closed => Err(error),
            // The status still tells what the reader has not waited for.
            _ if is_damaged => Ok(ExitCode::FAILURE),
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    /// What would run, and whether the store is damaged, as far as was asked for.
    fn verified(&self, config: &Path, user: &User) -> Result<(String, bool), CliError> {
        let LoadedConfig { plan, times, notes, log, .. } = load::file(config)?;
        let name = config.display();
        let mut text = format!("{name} is good.\njudged as {user}\n{}", describe(&plan));
        let mut start = Obstacles::of(&plan, user);
        start.problems.extend(logging::problem(&log));
        // A store is not looked at that would not be opened.
        if !start.problems.is_empty() {
            let problems = start.problems.join(&format!("\n{name}: "));
            return Err(CliError::configuration(format!("{name}: {problems}")));
        }
        let mut is_damaged = false;
        if let Some(store) = store_of(&plan) {
            let report = io::store::check(store, self.whole_store);
            let report =
                report.map_err(|error| CliError::new(error.to_string()).with((&error).into()))?;
            report.lines.iter().for_each(|line| text += &format!("{line}\n"));
            // A start mends what it can, so only who asks for everything is told of damage by the
            // status.
            is_damaged = self.whole_store && report.is_damaged;
        }
        notes.iter().chain(&start.notes).for_each(|note| text += &format!("note: {note}\n"));
        text += &format!("stopping may take {} s\n", times.drain.as_secs());
        Ok((text, is_damaged))
    }
}

/// The configuration of the system service, if it has one.
///
/// # Errors
/// When it has none.
pub(super) fn service_configuration() -> Result<PathBuf, CliError> {
    let path = PathBuf::from(SERVICE_CONFIGURATION);
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(CliError::configuration(format!(
            "there is no {SERVICE_CONFIGURATION}: give the file with --config"
        ))),
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
    lines +=
        &format!(", waiting with {driver}, at most {} connections\n", plan.limits.connections_max);
    for Listen { address, kinds, tls, proxied, .. } in &plan.listen {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        let over = if tls.is_some() { " over TLS" } else { "" };
        let behind = if *proxied { ", for proxies that speak the PROXY protocol" } else { "" };
        lines += &format!("listen {address}: {}{over}{behind}\n", names.join(", "));
    }
    if let Some(admin) = &plan.admin {
        let more = if admin.tokens.all.is_some() { " /v1 /topics" } else { "" };
        lines += &format!("admin  {}: /healthz /readyz /metrics{more}\n", admin.address);
        if let Some(path) = &admin.socket {
            lines += &format!("admin  {}: the same, without a token\n", path.display());
        }
    }
    if let Some(otlp) = &plan.otlp {
        let what = if otlp.traces { "metrics and ended sessions" } else { "metrics" };
        lines += &format!("otlp   {}: gets {what}\n", otlp.endpoint.host());
    }
    describe_feeds(plan, &mut lines);
    if let Some(Nats { servers, node, settings, .. }) = &plan.cluster {
        lines += &format!("node   {node} of {} at {servers}\n", settings.name);
    }
    let tables = plan.settings.tables();
    for table in tables.filter(|table| Kind::of_table(*table).any(|kind| speaks(plan, kind))) {
        for (what, rest) in table.describe() {
            lines += &format!("{what:<6} {rest}\n");
        }
    }
    let spoken = Kind::ALL.iter().filter(|kind| speaks(plan, **kind));
    for (kind, remote) in
        spoken.filter_map(|kind| Some((kind, kind.verifier(&plan.settings)?.remote()?)))
    {
        lines += &format!("tokens {}: {} asks {}\n", kind.name(), remote.protocol(), remote.host());
    }
    lines
}

/// Where events come from, and where they are relayed to, a line each.
fn describe_feeds(plan: &Plan, lines: &mut String) {
    match &plan.feed.path {
        Some(path) => {
            *lines += &format!("feed   {} with mode {}\n", path.display(), plan.feed.mode);
        }
        None if plan.bus.is_none() && plan.redis.is_none() => {
            *lines += "feed   none (feed.unix.path, feed.amqp.url, feed.redis.url)\n";
        }
        None => {}
    }
    if let Some(Bus { broker, settings, .. }) = &plan.bus {
        let kind = settings.exchange_type.name();
        *lines += &format!("feed   {broker} exchange {} ({kind})\n", settings.exchange);
    }
    if let Some(Redis { server, topics, .. }) = &plan.redis {
        let channels = [topics.channels(), topics.patterns()].concat();
        *lines += &format!("feed   {server} channels {}\n", channels.join(", "));
        if let Some(kind) = topics.relay.filter(|kind| speaks(plan, *kind)) {
            let (name, channel) = (kind.name(), topics.relays());
            *lines += &format!("relay  {name}: what clients say, on {server} channel {channel}\n");
        }
    }
}

/// Whether any listener speaks a dialect.
fn speaks(plan: &Plan, kind: Kind) -> bool {
    plan.listen.iter().any(|listen| listen.kinds.contains(&kind))
}
