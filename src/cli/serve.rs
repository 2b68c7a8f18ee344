//! `fanfare serve`: the daemon itself.

use super::check::describe;
use super::error::Status;
use super::load::{self, Loaded};
use super::output::print;
use super::{CliError, logging, trial};
use crate::io::listen::ListenError;
use crate::io::runtime::Driver;
use crate::io::store::OpenError;
use crate::io::{self, Daemon, Plan, StartError};
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
            Some(_) => CliError::new(format!("{error}\n{}", trial::ELSEWHERE)).with(status(&error)),
            None => CliError::new(error.to_string()).with(status(&error)),
        })?;
        announce(&daemon, asked);
        if let Some(trial) = &trial {
            trial.leave_address(&daemon)?;
            // The daemon runs whether this can be read or not.
            if let Err(error) = print(&trial.welcome(&daemon)) {
                tracing::warn!("{error}");
            }
        }
        let running = running(&daemon);
        notify(&[NotifyState::Ready, NotifyState::Status(&running)]);
        wait(&mut signals, &daemon, self.config.as_deref());
        notify(&[NotifyState::Stopping]);
        Ok(stop(signals, daemon, drain))
    }
}

/// What a start that failed exits with: another program may give the port back, a wrong path stays wrong.
fn status(error: &StartError) -> Status {
    match error {
        StartError::Listen(ListenError::PortTaken(_) | ListenError::SocketTaken(_)) => Status::TryAgain,
        StartError::Listen(ListenError::Other(..)) | StartError::Runtime(_) | StartError::Io(_) => {
            Status::Failure
        }
        StartError::Listen(_) => Status::Configuration,
        StartError::Store(error) => status_of_store(error),
    }
}

/// What it exits with when the store cannot be opened.
pub(super) fn status_of_store(error: &OpenError) -> Status {
    match error {
        OpenError::InUse(_) => Status::TryAgain,
        OpenError::Damaged(..) => Status::Failure,
        OpenError::NoPath | OpenError::Directory(..) | OpenError::Foreign(_) | OpenError::Newer(..) => {
            Status::Configuration
        }
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
