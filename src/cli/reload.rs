//! What a running daemon does at SIGHUP: reads its configuration again, takes what it can, and
//! names each changed key as applied or as one that waits for a restart.

use super::CliError;
use super::load::{self, LoadedConfig};
use super::logging::Filter;
use crate::config::Level;
use crate::config::changes::{changed, needs_restart};
use crate::http::v1::ReloadOutcome;
use crate::io::{Daemon, Plan, RenewError, Renewal, StopTimes};
use std::path::PathBuf;
use toml::Table;

/// Keys that are named of those that have changed; a file that was written anew may have hundreds.
const KEYS_SHOWN_MAX: usize = 40;

/// The configuration that runs.
pub(super) struct Running {
    /// Its file, unless it is the development set-up's.
    pub(super) file: Option<PathBuf>,
    /// The keys as they were set at the start, and by each reload since.
    pub(super) table: Table,
    /// How long a stop may take.
    pub(super) times: StopTimes,
    pub(super) filter: Filter,
    /// The least severe level that is written.
    pub(super) level: Level,
}

impl Running {
    /// Reads the file again.
    ///
    /// # Errors
    /// What is wrong; then everything stays as it was.
    pub(super) fn reload(&mut self, daemon: &mut Daemon) -> Result<ReloadOutcome, CliError> {
        // The development set-up is made of the environment alone.
        let Some(file) = &self.file else {
            let said = "nothing to reload: the development set-up has no configuration file".into();
            return Ok(ReloadOutcome { said, ..ReloadOutcome::default() });
        };
        let LoadedConfig { plan, times, log, table, notes } = load::file(file)?;
        let Plan { settings, limits, listen, feed, .. } = plan;
        let left =
            daemon.renew(Renewal { settings, limits, listen, feed }).map_err(
                |error| match error {
                    error @ (RenewError::Overlap(..) | RenewError::Slots) => {
                        CliError::new(format!("[[listen]]: {error}"))
                    }
                    error => CliError::new(error.to_string()),
                },
            )?;
        // What is said of the reload is to be read on either side of a change.
        self.filter.set(self.level.max(log.level));
        self.level = log.level;
        self.times = times;
        let keys = changed(&self.table, &table);
        let (applied, mut needs_restart) = sorted(&keys, &left);
        let said = told(&applied, &needs_restart, &left);
        needs_restart.extend(left);
        self.keep(table);
        Ok(ReloadOutcome { said, applied, needs_restart, notes })
    }

    /// Writes what the configuration wants from now on, after the reload was told.
    pub(super) fn settle(&self) {
        self.filter.set(self.level);
    }

    /// Takes over what was applied. What waits for a restart keeps its old value, and is named by
    /// later reloads too.
    fn keep(&mut self, table: Table) {
        self.table = with_old(&self.table, table, "");
    }
}

/// The new table, with the old values of what waits for a restart.
fn with_old(old: &Table, mut new: Table, above: &str) -> Table {
    let mut names: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
    names.sort();
    names.dedup();
    for name in names {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        // The next reload compares with what runs, not with what was written.
        if needs_restart(&key) {
            match old.get(&name) {
                Some(value) => new.insert(name, value.clone()),
                None => new.remove(&name),
            };
        } else if let (Some(before), Some(after)) = (
            old.get(&name).and_then(toml::Value::as_table),
            new.get(&name).and_then(toml::Value::as_table),
        ) {
            let kept = with_old(before, after.clone(), &key);
            new.insert(name, toml::Value::Table(kept));
        }
    }
    new
}

/// The changed keys that are applied, and those that wait for a restart.
fn sorted(keys: &[String], left: &[String]) -> (Vec<String>, Vec<String>) {
    let keys = keys.iter().filter(|key| !left.contains(key)).cloned();
    keys.partition(|key| !needs_restart(key))
}

/// What a reload has done, in a sentence.
fn told(applied: &[String], waiting: &[String], left: &[String]) -> String {
    let mut said =
        String::from("reloaded: keys of tokens, secrets and certificates were read anew");
    // Said all the same: an operator waits for an answer to the signal.
    if applied.is_empty() && waiting.is_empty() && left.is_empty() {
        return said + "; the configuration is as it was";
    }
    if !applied.is_empty() {
        said += &format!("; applied: {}", list(applied));
    }
    if !waiting.is_empty() {
        said += &format!("; needs a restart: {}", list(waiting));
    }
    for left in left {
        said += &format!("; needs a restart: {left}");
    }
    said
}

fn list(keys: &[String]) -> String {
    let shown: Vec<&str> = keys.iter().take(KEYS_SHOWN_MAX).map(String::as_str).collect();
    match keys.len().saturating_sub(KEYS_SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changed_key_is_named_as_applied_or_as_waiting() {
        let keys = ["drain_s", "feed.redis.url", "log.level", "threads"].map(String::from);
        let left =
            ["pulsar of the listener 127.0.0.1:1, as no listener spoke it at the start".to_owned()];
        let told = |keys: &[String], left: &[String]| {
            let (applied, waiting) = sorted(keys, left);
            super::told(&applied, &waiting, left)
        };
        assert_eq!(
            told(&keys, &left),
            "reloaded: keys of tokens, secrets and certificates were read anew; applied: drain_s, log.level; needs a \
             restart: feed.redis.url, threads; needs a restart: pulsar of the listener 127.0.0.1:1, as no listener \
             spoke it at the start"
        );
        assert!(told(&[], &[]).ends_with("the configuration is as it was"));
        let many: Vec<String> = (0..50).map(|n| format!("echo.app.{n}.key")).collect();
        assert!(told(&many, &[]).ends_with("echo.app.39.key and 10 more"));
    }

    #[test]
    fn what_waits_for_a_restart_is_named_until_then() {
        let table = |text: &str| toml::from_str::<Table>(text).unwrap();
        let old = table(
            "threads = 1\ndrain_s = 1\n[feed.unix]\npath = \"a\"\nmode = \"1\"\n[store]\npath = \"s\"",
        );
        let new = table(
            "threads = 2\ndrain_s = 2\n[feed.unix]\npath = \"b\"\nmode = \"2\"\n[feed.redis]\nurl = \"u\"",
        );
        let kept = with_old(&old, new.clone(), "");
        assert_eq!(
            changed(&kept, &new),
            ["feed.redis.url", "feed.unix.path", "store.path", "threads"]
        );
    }
}
