//! Where "the daemon" is, for a command that is not told: one answer for all commands.
//!
//! A development daemon that runs comes first, as it was started to be used. Then comes the system
//! service, which is known by its configuration and its socket, and at last the development set-up
//! that does not run. Where more than one is there, a command says which it takes; an error says so
//! always.

use super::output::note;
use super::{CliError, paths};
use crate::config::Config;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The configuration of the system service.
pub const SERVICE_CONFIGURATION: &str = "/etc/fanfare/fanfare.toml";

/// The unix feed of a daemon that runs as a system service, where its configuration does not say
/// otherwise.
pub const SERVICE_SOCKET: &str = "/run/fanfare/events.sock";

/// The file in the state directory that says where the development daemon's admin listener is.
pub(crate) const ADDRESS_FILE: &str = "admin.address";
/// The file there with its token.
pub(crate) const TOKEN_FILE: &str = "admin.token";
/// The file there that says where its unix feed is.
pub(crate) const FEED_FILE: &str = "feed.address";

/// What a command takes for the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DaemonKind {
    /// The development daemon, which runs.
    Development,
    /// The system service.
    Service,
    /// The development daemon, which does not run.
    Absent,
}

/// The daemon that is meant where none is named.
#[derive(Debug)]
pub struct Located {
    kind: DaemonKind,
    /// Whether the other one is there too.
    is_choice: bool,
    state: PathBuf,
    configuration: PathBuf,
    socket: PathBuf,
}

impl Located {
    /// Looks for it.
    #[must_use]
    pub fn find() -> Self {
        Self::among(paths::state_dir(), SERVICE_CONFIGURATION.into(), SERVICE_SOCKET.into())
    }

    fn among(state: PathBuf, configuration: PathBuf, socket: PathBuf) -> Self {
        // A socket file may be left of a daemon that died.
        let runs = UnixStream::connect(development_feed(&state)).is_ok();
        let is_service = is_there(&configuration) || is_there(&socket);
        let kind = match (runs, is_service) {
            (true, _) => DaemonKind::Development,
            (false, true) => DaemonKind::Service,
            (false, false) => DaemonKind::Absent,
        };
        // Where a development daemon has never run there is no choice.
        let is_choice = is_service && (runs || is_there(&state.join(TOKEN_FILE)));
        Self { kind, is_choice, state, configuration, socket }
    }

    /// The state directory of the development daemon, if that is meant.
    #[must_use]
    pub fn state(&self) -> Option<&Path> {
        (self.kind != DaemonKind::Service).then_some(&self.state)
    }

    /// The configuration of the service, if that is meant and has one.
    #[must_use]
    pub fn configuration(&self) -> Option<&Path> {
        (self.kind == DaemonKind::Service && is_there(&self.configuration))
            .then_some(&self.configuration)
    }

    /// Its unix feed.
    #[must_use]
    pub fn feed(&self) -> PathBuf {
        if self.kind != DaemonKind::Service {
            return development_feed(&self.state);
        }
        // Who may publish need not be let in to the configuration.
        let text = paths::configuration(&self.configuration).ok();
        let config = text.and_then(|text| Config::read(&text, std::env::vars()).ok());
        config.and_then(|config| config.feed.unix.path).unwrap_or_else(|| self.socket.clone())
    }

    /// What it is, for a sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        let state = self.state.display();
        match self.kind {
            DaemonKind::Development => {
                format!("the development daemon, which runs with its state in {state}")
            }
            DaemonKind::Service => {
                format!("the system service with {}", self.configuration.display())
            }
            DaemonKind::Absent => {
                format!(
                    "the development daemon, which would have its state in {state} and does not run"
                )
            }
        }
    }

    /// Says which one is taken, where there is a choice.
    pub fn tell(&self, instead: &str) {
        // Where there is one daemon, a remark at each command would be noise.
        if self.is_choice {
            note(&format!("note: this is for {}; {instead} names another", self.describe()));
        }
    }

    /// An error that says which daemon it is about.
    #[must_use]
    pub fn about(&self, error: &CliError, instead: &str) -> CliError {
        let status = error.status();
        CliError::new(format!(
            "{error}\nThis was for {}; {instead} names another.",
            self.describe()
        ))
        .with(status)
    }
}

/// The unix feed of the development daemon.
fn development_feed(state: &Path) -> PathBuf {
    match paths::read_text(&state.join(FEED_FILE), "the feed's path") {
        Ok(path) if !path.is_empty() => path.into(),
        _ => state.join("events.sock"),
    }
}

/// Whether something is at a path, even where we may not look.
fn is_there(path: &Path) -> bool {
    !fs::symlink_metadata(path)
        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_development_daemon_that_runs_comes_before_the_service_and_one_that_does_not_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let located = || Located::among(path("state"), path("fanfare.toml"), path("service.sock"));
        fs::create_dir(path("state")).unwrap();
        let nothing = located();
        assert_eq!((nothing.kind, nothing.is_choice), (DaemonKind::Absent, false));
        assert_eq!(nothing.feed(), path("state/events.sock"));
        fs::write(path("fanfare.toml"), "[feed.unix]\npath = \"/elsewhere\"\n").unwrap();
        let service = located();
        assert_eq!((service.kind, service.is_choice), (DaemonKind::Service, false));
        assert_eq!(service.feed(), Path::new("/elsewhere"));
        assert_eq!(
            (service.configuration(), service.state()),
            (Some(&*path("fanfare.toml")), None)
        );
        fs::write(path("state").join(FEED_FILE), format!("{}\n", path("dev.sock").display()))
            .unwrap();
        assert_eq!(located().kind, DaemonKind::Service);
        let _listener = UnixListener::bind(path("dev.sock")).unwrap();
        let both = located();
        assert_eq!((both.kind, both.is_choice), (DaemonKind::Development, true));
        assert_eq!(both.feed(), path("dev.sock"));
        fs::remove_file(path("fanfare.toml")).unwrap();
        assert!(!located().is_choice);
        drop(_listener);
        fs::write(path("service.sock"), "").unwrap();
        let socket = located();
        assert_eq!((socket.kind, socket.configuration()), (DaemonKind::Service, None));
        assert_eq!(socket.feed(), path("service.sock"));
    }
}
