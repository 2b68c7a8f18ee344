//! The hand-over to a new process, as the command that runs the daemon sees it: the program, and
//! the service manager.

use super::notify::notify;
use super::reload::Running;
use super::{CliError, child, load};
use crate::http::v1::UpgradeOutcome;
use crate::io::handover::{HandedOver, HandoverChannel, NewProcess};
use crate::io::{Daemon, Inherited};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Pid, Signal, kill_process};
use sd_notify::NotifyState;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Time for the new program to check the configuration; it asks verifiers and brokers.
const CHECK_MAX: Duration = Duration::from_secs(60);
/// What the service manager has set for the old process alone (sd_listen_fds(3),
/// sd_watchdog_enabled(3)).
const OLD_VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Hands a daemon over to a new process. It has to be stopped then.
///
/// # Errors
/// Why it goes on.
pub(super) fn upgrade(
    daemon: &Daemon,
    configuration: &Running,
    binary: Option<&Path>,
) -> Result<UpgradeOutcome, CliError> {
    let file = passable(daemon, configuration)?;
    let own = own_program();
    let program = binary.unwrap_or(&own);
    check(program, file, CHECK_MAX)?;
    let (channel, end) = HandoverChannel::pair()
        .map_err(|error| CliError::new(format!("no channel to a new process: {error}")))?;
    let mut child = start(program, file, end)?;
    tracing::info!("handing over to process {} of {}", child.id(), program.display());
    let handed_over = daemon.pass_to(&channel, || {
        // Before it begins: the manager takes the word of this process alone until then.
        notify(&[NotifyState::MainPid(child.id())]);
    });
    match handed_over {
        Ok(HandedOver { passed, told, pause }) => {
            // To a tenth of a millisecond.
            let pause_ms = (pause.as_secs_f64() * 10_000.0).round() / 10.0;
            tracing::info!(
                "handed {passed} connections over to process {}, after a pause of {pause_ms} \
                 ms; {told} are told to come back",
                child.id()
            );
            Ok(UpgradeOutcome { pid: child.id(), passed, told, pause_ms })
        }
        Err(error) => {
            // It may have begun to wait, and must not go on beside this one.
            let _ = child.kill();
            let _ = child.wait();
            notify(&[NotifyState::MainPid(std::process::id())]);
            tracing::error!("not handed over, everything goes on as it was: {error}");
            Err(CliError::new(error.to_string()))
        }
    }
}

/// Has the new process reload, as another wanted of this one.
pub(super) fn pass_reload(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that has ended since reads the configuration at its next start.
    let _ = pid.map(|pid| kill_process(pid, Signal::HUP));
}

/// The configuration of a daemon that another process can go on for.
///
/// # Errors
/// Why none can.
pub(super) fn passable<'a>(
    daemon: &Daemon,
    configuration: &'a Running,
) -> Result<&'a Path, CliError> {
    let file = configuration.file.as_deref().ok_or_else(|| {
        CliError::new("the development set-up is not handed over: start it again")
    })?;
    if std::process::id() == 1 {
        return Err(CliError::new(
            "the daemon is process 1, with which its container ends: restart that, or run the \
             daemon below an init",
        ));
    }
    if let Some(obstacle) = daemon.handover_obstacle() {
        return Err(CliError::new(obstacle));
    }
    // What is wrong with the file, the program that would run tells.
    if load::file(file).is_ok_and(|next| next.plan.cluster.is_some()) {
        return Err(CliError::new(
            "the configuration has [cluster] now, whose nodes would know nothing of the members of \
             channels from before; a restart ends all sessions",
        ));
    }
    Ok(file)
}

/// The path as it was started by, where the next release is by now.
pub(super) fn own_program() -> PathBuf {
    std::env::args_os().next().unwrap_or_default().into()
}

/// Has the new program check the configuration, before anything of it runs.
///
/// # Errors
/// What is wrong, or that it has taken longer than it may.
pub(super) fn check(program: &Path, file: &Path, time: Duration) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::new(format!("{}: {error}", program.display()));
    let mut command = Command::new(program);
    command.arg("check").arg("--config").arg(file);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = clean(command).spawn().map_err(failed)?;
    let said = child.stderr.take().map(child::read);
    let Some(status) = child::end(&mut child, time).map_err(failed)? else {
        return Err(CliError::new(format!(
            "{} check has not ended within {} s",
            program.display(),
            time.as_secs()
        )));
    };
    if status.success() {
        return Ok(());
    }
    let said = said.and_then(|said| said.join().ok()).unwrap_or(Ok(Vec::new())).map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    Err(CliError::new(format!("{} check: {}", program.display(), said.trim())))
}

/// Starts the new process, with its end of the channel as the standard input.
fn start(program: &Path, file: &Path, end: HandoverChannel) -> Result<Child, CliError> {
    let mut command = Command::new(program);
    command.args(["serve", "--take-over", "--config"]).arg(file);
    clean(command.stdin(end.into_descriptor()))
        .spawn()
        .map_err(|error| CliError::new(format!("{} cannot run: {error}", program.display())))
}

/// Without what is said to this process alone.
fn clean(command: &mut Command) -> &mut Command {
    OLD_VARIABLES.iter().fold(command, |command, name| command.env_remove(name))
}

/// Greets the process that hands over, at the other end of the standard input.
///
/// # Errors
/// When there is none.
pub(super) fn greet() -> Result<(NewProcess, Inherited), CliError> {
    let failed = |error: std::io::Error| {
        CliError::usage(format!("--take-over is for `fanfare upgrade` alone: {error}"))
    };
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    // The other process is to see its end.
    let nothing = File::open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| failed(error.into()))?;
    NewProcess::greet(socket).map_err(|error| CliError::new(error.to_string()))
}
