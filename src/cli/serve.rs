//! `fanfare serve` and `fanfare check`: the daemon itself, and what it would do.

use super::load::{self, Loaded};
use super::{CliError, logging, trial};
use crate::dialect::Kind;
use crate::io::runtime::Driver;
use crate::io::{self, Bus, Daemon, Listen, Plan, Redis};
use argh::FromArgs;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Run the daemon.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "serve",
    example = "{command_name}\n{command_name} --config /etc/fanfare/fanfare.toml",
    note = "Without --config a development set-up runs on loopback: every dialect, a generated secret in the \
            state directory, TLS, the unix feed; it prints addresses, tokens and commands to paste. SIGHUP \
            reloads keys, certificates and limits, SIGTERM drains and stops, a second SIGTERM stops at once."
)]
pub struct Serve {
    /// the configuration file
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
}

/// Validate a configuration and print what would run.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check", example = "{command_name} --config /etc/fanfare/fanfare.toml")]
pub struct Check {
    /// the configuration file
    #[argh(option, arg_name = "file")]
    config: PathBuf,
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
        let Loaded { plan, drain, notes, .. } = load::file(&self.config)?;
        println!("{} is good.", self.config.display());
        print!("{}", describe(&plan));
        let mut is_damaged = false;
        if let Some(store) = plan.store.as_ref().filter(|_| speaks(&plan, Kind::Pulsar)) {
            let report = io::store::check(store, self.whole_store);
            let report = report.map_err(|error| CliError::new(error.to_string()))?;
            report.lines.iter().for_each(|line| println!("{line}"));
            // A start mends what it can, so only who asks for everything is told of damage by the status.
            is_damaged = self.whole_store && report.is_damaged;
        }
        notes.iter().for_each(|note| println!("note: {note}"));
        println!("stopping may take {} s", drain.as_secs());
        Ok(if is_damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Serve {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When the daemon cannot start, with what to do about it.
    pub fn run(self) -> Result<ExitCode, CliError> {
        // Before any thread is started, so that every thread leaves the signals to this one.
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
            .map_err(|error| CliError::new(format!("signals cannot be received: {error}")))?;
        let (loaded, trial) = match &self.config {
            Some(path) => (load::file(path)?, None),
            None => {
                let trial = trial::prepare()?;
                (load::text_of("the development set-up", &trial.configuration)?, Some(trial))
            }
        };
        let Loaded { plan, drain, log, notes } = loaded;
        logging::start(&log)?;
        tracing::debug!("{}", describe(&plan));
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        let asked = plan.driver;
        let daemon = io::start(plan).map_err(|error| match &trial {
            Some(_) => CliError::new(format!("{error}\n{}", trial::ELSEWHERE)),
            None => CliError::new(error.to_string()),
        })?;
        announce(&daemon, asked);
        if let Some(trial) = &trial {
            trial.leave_address(&daemon)?;
            print!("{}", trial.welcome(&daemon));
        }
        let running = running(&daemon);
        notify(&[NotifyState::Ready, NotifyState::Status(&running)]);
        wait(&mut signals, &daemon, self.config.as_deref());
        notify(&[NotifyState::Stopping]);
        Ok(stop(signals, daemon, drain))
    }
}

/// The state, for the log and for `systemctl status`.
fn running(daemon: &Daemon) -> String {
    let addresses: Vec<String> = daemon.addresses.iter().map(ToString::to_string).collect();
    format!("listening on {}, waiting with {}", addresses.join(", "), daemon.driver)
}

fn announce(daemon: &Daemon, asked: Driver) {
    let addresses: Vec<String> = daemon.addresses.iter().map(ToString::to_string).collect();
    let admin = daemon.admin.map(|admin| admin.to_string()).unwrap_or_default();
    tracing::info!(addresses = addresses.join(" "), admin, driver = daemon.driver, "listening");
    if daemon.driver == "epoll" && asked == Driver::Auto {
        tracing::warn!(
            "this kernel or sandbox refuses io_uring (see kernel.io_uring_disabled): epoll is used instead, and \
             everything works; driver = \"epoll\" asks for it and for no warning"
        );
    }
}

/// Handles reloads until a signal asks to stop.
fn wait(signals: &mut Signals, daemon: &Daemon, config: Option<&Path>) {
    for signal in signals.forever() {
        if signal != SIGHUP {
            tracing::info!("stopping: no more connections; clients are told to go");
            return;
        }
        let Some(path) = config else {
            tracing::info!("nothing to reload: the development set-up has no configuration file");
            continue;
        };
        reload(path, daemon);
    }
}

/// Reads the configuration again. The service manager is told when that is done, so that it can wait for it.
fn reload(path: &Path, daemon: &Daemon) {
    // Without a clock of the service manager's kind, it is not told, and takes the signal for the reload.
    if let Ok(moment) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, moment]);
    }
    let running = running(daemon);
    let reloaded =
        load::file(path).and_then(|Loaded { plan: Plan { settings, limits, listen, .. }, notes, .. }| {
            daemon.configure(&settings, limits, &listen).map_err(|error| CliError::new(error.to_string()))?;
            Ok(notes)
        });
    let status = match reloaded {
        Ok(notes) => {
            tracing::info!(
                "reloaded: keys, certificates and limits were read anew; listeners, threads and feeds need a restart"
            );
            notes.iter().for_each(|note| tracing::warn!("{note}"));
            running
        }
        Err(error) => {
            tracing::error!("not reloaded, everything stays as it was: {error}");
            format!("{running}; the last reload failed, see the log")
        }
    };
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

fn stop(mut signals: Signals, daemon: Daemon, drain: Duration) -> ExitCode {
    std::thread::spawn(move || {
        if signals.forever().any(|signal| signal != SIGHUP) {
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(1);
        }
    });
    if daemon.stop(drain) {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with clients that had not closed within drain_s = {}", drain.as_secs());
    }
    ExitCode::SUCCESS
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}

/// What a plan would run, a line each.
fn describe(plan: &Plan) -> String {
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
    for Listen { address, kinds, tls } in &plan.listen {
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
