//! `fanfare serve`: the daemon itself.

use super::check::describe;
use super::error::CliStatus;
use super::handover;
use super::load::{self, LoadedConfig};
use super::notify::notify;
use super::operator::ServeOperator;
use super::output::print;
use super::reload::Running;
use super::signals::{ReceivedSignal, SignalWish};
use super::{CliError, logging, resources, restart, trial};
use crate::io::handover::{LeftBehind, NewProcess};
use crate::io::listen::ListenError;
use crate::io::operator::Operator;
use crate::io::{self, Beat, Daemon, Inherited, Plan, StartError};
use argh::{ArgsInfo, FromArgs};
use sd_notify::NotifyState;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a start that fails lasts, for a service manager: each costs lines of the log, and a
/// tenth of a second of CPU.
const FAILED_START: Duration = Duration::from_secs(2);

/// Run the daemon.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "serve",
    example = "{command_name}\n{command_name} --config /etc/fanfare/fanfare.toml",
    note = "Without --config a development set-up runs on loopback: every dialect, a generated \
            secret in the state directory, TLS, the unix feed; it prints addresses, tokens and \
            commands to paste. SIGHUP reloads the configuration and says which keys were applied, \
            SIGTERM drains and stops, a second SIGTERM at least a second later stops at once.",
    note = "The manual: fanfare help commands, fanfare help service"
)]
pub struct Serve {
    /// the configuration file
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// start although segments of the store are missing, and give up what was in them
    #[argh(switch)]
    accept_loss: bool,
    /// take over from the daemon at the other end of the standard input
    #[argh(switch, hidden_help)]
    take_over: bool,
}

impl Serve {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When the daemon cannot start, with what to do about it.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let take_over = self.take_over;
        let ended = self.serve();
        io::log::finish(io::log::END_MAX);
        // A service manager tries again soon after any end; what is in the way of a start lasts.
        if ended.is_err() && !take_over && std::env::var_os("NOTIFY_SOCKET").is_some() {
            std::thread::sleep(FAILED_START);
        }
        ended
    }

    fn serve(self) -> Result<ExitCode, CliError> {
        // Before any thread is started.
        let mut inherited = Inherited::from_environment();
        let (handover, lost) = match self.take_over {
            true => {
                let (process, passed) = handover::greet()?;
                inherited = passed;
                (Some(process), None)
            }
            false => restart::take_up(&mut inherited),
        };
        let mut received = ReceivedSignal::start()?;
        let (loaded, trial) = match &self.config {
            Some(path) => (load::file(path)?, None),
            None => {
                let trial = trial::prepare()?;
                (load::text_of("the development set-up", &trial.configuration)?, Some(trial))
            }
        };
        let LoadedConfig { mut plan, times, log, notes, table } = loaded;
        (plan.inherited, plan.handover) = (inherited, handover);
        // By the command line alone: in a file it would give up messages at every start.
        if let Some(store) = &mut plan.store {
            store.accept_loss = self.accept_loss;
        }
        let filter = logging::start(&log)?;
        let source = self
            .config
            .as_deref()
            .map_or_else(|| "the development set-up".into(), Path::to_string_lossy);
        tracing::info!("{}", introduction(&plan, &source));
        tracing::debug!("{}", describe(&plan));
        notes.iter().chain(&lost).for_each(|note| tracing::warn!("{note}"));
        let operator = Arc::new(ServeOperator::new(filter.clone(), &table));
        if let Some(admin) = &mut plan.admin {
            admin.operator = Some(Arc::clone(&operator) as Arc<dyn Operator>);
        }
        let apology = plan.handover.as_ref().map(NewProcess::apology).transpose();
        let started = io::start(plan).inspect_err(|error| {
            if let Ok(Some(apology)) = apology {
                apology.say(&error.to_string());
            }
        });
        let mut daemon = started.map_err(|error| match &trial {
            Some(_) => CliError::new(format!("{error}\n{}", trial::ELSEWHERE)).with(status(&error)),
            None => CliError::new(error.to_string()).with(status(&error)),
        })?;
        announce(&daemon);
        if let Some(trial) = &trial {
            trial.leave_addresses(&daemon)?;
            // The log, which another thread writes, stands before this on a terminal.
            io::log::finish(io::log::END_MAX);
            // The daemon runs whether this can be read or not.
            if let Err(error) = print(&trial.welcome(&daemon)) {
                tracing::warn!("{error}");
            }
        }
        watch(&daemon)?;
        received.drain_takes(times.drain);
        notify(&[NotifyState::Ready, NotifyState::Status(&running(&daemon))]);
        let mut configuration =
            Running { file: self.config.clone(), table, times, filter, level: log.level };
        let is_restart = wait(&mut received, &mut daemon, &mut configuration, &operator);
        if let Some(trial) = &trial {
            trial.remove_addresses();
        }
        Ok(stop(received, daemon, &configuration, is_restart))
    }
}

/// What a start that failed exits with: another program may give the port back, a wrong path stays
/// wrong.
fn status(error: &StartError) -> CliStatus {
    match error {
        StartError::Listen(ListenError::PortTaken(_) | ListenError::SocketTaken(..)) => {
            CliStatus::TryAgain
        }
        StartError::Listen(ListenError::Other(..)) | StartError::Runtime(_) | StartError::Io(_) => {
            CliStatus::Failure
        }
        StartError::Late | StartError::Handover(_) => CliStatus::TryAgain,
        StartError::Listen(_) => CliStatus::Configuration,
        StartError::Store(error) => error.into(),
    }
}

/// What runs, for the first line of the log.
fn introduction(plan: &Plan, source: &str) -> String {
    let Plan { shards, limits, .. } = plan;
    format!(
        "fanfare {} starts with {source}: {shards} shards, at most {} connections and {} \
         subscriptions, {} bytes waiting for one client, {} descriptors",
        env!("CARGO_PKG_VERSION"),
        limits.connections_max,
        limits.subscriptions_max,
        limits.outbox_bytes_max,
        resources::descriptor_limit(),
    )
}

/// Has the threads watched, and tells the service manager how they are if it wants to know
/// (`WatchdogSec=`).
fn watch(daemon: &Daemon) -> Result<(), CliError> {
    let wanted = sd_notify::watchdog_enabled();
    let mut told: Option<Instant> = None;
    let watched = daemon.watch(move |beat| {
        let Some(wanted) = wanted else { return };
        let state = match beat {
            // systemd takes it for its watchdog's time that is over, and does not wait for that.
            Beat::Stuck => NotifyState::WatchdogTrigger,
            // More often than it has to be, as sd_watchdog_enabled(3) advises.
            Beat::Well if told.is_none_or(|told| told.elapsed() >= wanted / 3) => {
                told = Some(Instant::now());
                NotifyState::Watchdog
            }
            Beat::Well => return,
        };
        // What is wrong with the socket was said when the start was told.
        let _ = sd_notify::notify(&[state]);
    });
    watched.map_err(|error| CliError::new(format!("the threads cannot be watched: {error}")))
}

/// The state, for the log and for `systemctl status`.
fn running(daemon: &Daemon) -> String {
    let addresses: Vec<String> = daemon.addresses().iter().map(ToString::to_string).collect();
    format!("listening on {}, waiting with {}", addresses.join(", "), daemon.driver)
}

fn announce(daemon: &Daemon) {
    let addresses: Vec<String> = daemon.addresses().iter().map(ToString::to_string).collect();
    let (addresses, driver) = (addresses.join(" "), daemon.driver);
    if let Some(admin) = daemon.admin.map(|admin| admin.to_string()) {
        tracing::info!(
            addresses,
            admin,
            driver,
            "listening on {addresses}, health and metrics on {admin}; waiting with {driver}"
        );
    } else {
        tracing::info!(addresses, driver, "listening on {addresses}; waiting with {driver}");
    }

    // It is the slower way, and none that was asked for.
    if let Some(refusal) = &daemon.refusal {
        tracing::warn!(
            "{refusal}: epoll is used instead, and everything works; driver = \"epoll\" asks for it \
             and for no warning"
        );
    }
}

/// Handles reloads until a signal asks to stop. Returns whether the service manager starts the
/// daemon again then.
fn wait(
    received: &mut ReceivedSignal,
    daemon: &mut Daemon,
    configuration: &mut Running,
    operator: &ServeOperator,
) -> bool {
    loop {
        match received.next() {
            SignalWish::Stop => {
                // First: whatever follows may hang.
                io::end_after(configuration.times.drain);
                notify(&[NotifyState::Stopping]);
                return restart::is_wanted();
            }
            SignalWish::Upgrade => {
                let Some((binary, asker)) = operator.take_upgrade() else { continue };
                let upgraded = handover::upgrade(daemon, configuration, binary.as_deref());
                let next = upgraded.as_ref().ok().map(|outcome| outcome.pid);
                // One that has gone needs no answer.
                let _ = asker.send(upgraded.map_err(|error| error.to_string()));
                if let Some(pid) = next {
                    io::end_after(configuration.times.drain);
                    // The new process may have read the configuration before.
                    if received.reload_is_left() {
                        handover::pass_reload(pid);
                    }
                    return false;
                }
            }
            SignalWish::Reload => reload(daemon, configuration, operator),
        }
        received.drain_takes(configuration.times.drain);
    }
}

/// Reads the configuration again. The service manager is told when that is done, so that it can
/// wait for it.
fn reload(daemon: &mut Daemon, configuration: &mut Running, operator: &ServeOperator) {
    // Those who ask from here on get an answer of the next.
    let askers = operator.take_askers();
    // Without a clock of the service manager's kind, it is not told, and takes the signal for the
    // reload.
    if let Ok(moment) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, moment]);
    }
    let reloaded = configuration.reload(daemon);
    operator.configured(&configuration.table);
    let answer = reloaded.as_ref().map(Clone::clone).map_err(ToString::to_string);
    let running = running(daemon);
    let status = match reloaded {
        Ok(outcome) => {
            tracing::info!("{}", outcome.said);
            outcome.notes.iter().for_each(|note| tracing::warn!("{note}"));
            configuration.settle();
            running
        }
        Err(error) => {
            // Counted, so that a failed reload can be alerted on.
            daemon.refuse_configuration();
            tracing::error!("not reloaded, everything stays as it was: {error}");
            format!("{running}; the last reload failed, see the log")
        }
    };
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    for asker in askers {
        // One that has gone needs no answer.
        let _ = asker.send(answer.clone());
    }
}

fn stop(
    mut received: ReceivedSignal,
    daemon: Daemon,
    configuration: &Running,
    is_restart: bool,
) -> ExitCode {
    let first = Instant::now();
    std::thread::spawn(move || {
        received.second(first);
        tracing::warn!("stopped at once by a second signal");
        io::log::exit_failed();
    });
    let mut times = configuration.times;
    let drain_s = times.drain.as_secs();
    if is_restart {
        tracing::info!("restarting: no more connections until the next process runs");
        let left = restart::leave(&daemon, configuration, times);
        times.drain = times.drain.saturating_sub(first.elapsed());
        match left {
            Ok(LeftBehind { kept, told }) => {
                tracing::info!(
                    "{kept} connections are left to the next process; {told} clients were told to \
                     come back"
                );
                daemon.stop_left(times.drain);
                tracing::info!("stopped");
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                tracing::warn!("the connections end with the restart: {error}");
            }
        }
    }
    if !daemon.has_handed_over() {
        tracing::info!(
            "stopping: no more connections; clients are told to go and have drain_s = {drain_s} for \
             it"
        );
    }
    if daemon.stop(times) {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with clients that had not closed; drain_s = {drain_s}");
    }
    ExitCode::SUCCESS
}
