//! What the checks of `fanfare doctor` look at: a configuration, a user, and the service of both.

use super::super::load::{self, LoadedConfig};
use super::super::locate::SERVICE_CONFIGURATION;
use super::super::paths;
use super::super::user::User;
use super::program;
use crate::config::Config;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Table;

/// What is looked at.
pub(super) struct DoctorCase {
    /// The configuration file.
    pub(super) path: PathBuf,
    /// Whom the daemon runs as.
    pub(super) user: User,
    /// Whether it is the configuration of the system service.
    pub(super) is_service: bool,
    /// The settings, where the file is a configuration.
    pub(super) settings: Option<(Config, Table)>,
    /// What it comes to, or what is wrong.
    pub(super) loaded: Result<LoadedConfig, String>,
    /// The unit of the service.
    pub(super) service: UnitState,
    /// The unit of its sockets.
    pub(super) socket: UnitState,
    /// How far this machine's clock is ahead of those of others (ms), by their names.
    pub(super) clocks: Vec<(String, i64)>,
}

impl DoctorCase {
    /// Reads all of it as this user, which this process has become.
    pub(super) fn read(path: PathBuf, user: User) -> Self {
        let is_service = path == Path::new(SERVICE_CONFIGURATION);
        let name = path.display().to_string();
        let text = paths::configuration(&path);
        let settings = text.as_ref().ok().and_then(|text| load::config(&name, text).ok());
        let loaded = text.and_then(|text| load::text_of(&name, &text));
        let unit = |name| if is_service { UnitState::ask(name) } else { UnitState::default() };
        Self {
            user,
            is_service,
            settings,
            loaded: loaded.map_err(|error| error.to_string()),
            service: unit("fanfare.service"),
            socket: unit("fanfare.socket"),
            clocks: Vec::new(),
            path,
        }
    }

    /// The number of shards that there would be.
    pub(super) fn shards(&self) -> usize {
        self.settings.as_ref().map_or(1, |(config, _)| load::shards(config))
    }
}

/// What systemd tells of a unit.
#[derive(Debug, Default)]
pub(super) struct UnitState(BTreeMap<String, String>);

impl UnitState {
    fn ask(unit: &str) -> Self {
        let shown = program::output("systemctl", &["show", unit, "--no-pager"]);
        Self::read(&shown.unwrap_or_default())
    }

    /// Reads what `systemctl show` prints.
    pub(super) fn read(shown: &str) -> Self {
        let pairs = shown.lines().filter_map(|line| line.split_once('='));
        let mut properties = BTreeMap::<String, String>::new();
        for (key, value) in pairs {
            // Sockets have a line for each of their addresses.
            let joined = properties.entry(key.into()).or_default();
            *joined = format!("{joined} {value}").trim().to_owned();
        }
        Self(properties)
    }

    /// A property; empty where systemd tells none.
    pub(super) fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    /// A limit, if there is one.
    pub(super) fn limit(&self, property: &str) -> Option<u64> {
        self.get(property).parse().ok()
    }

    /// Whether there is such a unit.
    pub(super) fn exists(&self) -> bool {
        self.get("LoadState") == "loaded"
    }
}
