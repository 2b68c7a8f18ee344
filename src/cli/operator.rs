//! What `fanfare serve` does for operators of the admin listener.
//!
//! Reloads and hand-overs are made by the thread that waits for signals. A reload that is asked for
//! here comes to it as the signal that others send. A hand-over has a signal of its own: of two that
//! are alike only one may come, and a reload that another asks for would be taken for it.

use super::logging::Filter;
use crate::config::redacted::redacted;
use crate::http::v1::{ReloadOutcome, UpgradeOutcome};
use crate::io::operator::Operator;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use toml::Table;

/// Who waits for the outcome of a hand-over.
pub(super) type UpgradeAsker = oneshot::Sender<Result<UpgradeOutcome, String>>;

/// Who waits for the outcome of a reload.
pub(super) type ReloadAsker = oneshot::Sender<Result<ReloadOutcome, String>>;

/// What the admin thread and the one that takes signals share.
pub(super) struct ServeOperator {
    filter: Filter,
    /// The keys that are set, without secrets.
    configuration: Mutex<Value>,
    /// Who waits for the next reload. Each is a request of the admin listener, which limits them.
    askers: Mutex<Vec<ReloadAsker>>,
    /// The hand-over that is asked for, with the program of the next process.
    upgrade: Mutex<Option<(Option<PathBuf>, UpgradeAsker)>>,
}

impl ServeOperator {
    pub(super) fn new(filter: Filter, table: &Table) -> Self {
        Self {
            filter,
            configuration: Mutex::new(redacted(table)),
            askers: Mutex::default(),
            upgrade: Mutex::default(),
        }
    }

    /// The hand-over that was asked for.
    pub(super) fn take_upgrade(&self) -> Option<(Option<PathBuf>, UpgradeAsker)> {
        lock(&self.upgrade).take()
    }

    /// Those who have asked for a reload before it begins.
    pub(super) fn take_askers(&self) -> Vec<ReloadAsker> {
        std::mem::take(&mut *lock(&self.askers))
    }

    /// Notes the keys that are set from now on.
    pub(super) fn configured(&self, table: &Table) {
        *lock(&self.configuration) = redacted(table);
    }
}

impl Operator for ServeOperator {
    fn log(&self, directives: &str) -> Result<(), String> {
        self.filter.direct(directives)
    }

    fn reload(&self) -> oneshot::Receiver<Result<ReloadOutcome, String>> {
        let (asker, outcome) = oneshot::channel();
        // Before the signal, or the reload could begin without it.
        lock(&self.askers).push(asker);
        if let Err(error) = kill_process(getpid(), Signal::HUP)
            && let Some(asker) = lock(&self.askers).pop()
        {
            let _ = asker.send(Err(format!("the daemon cannot signal itself: {error}")));
        }
        outcome
    }

    fn upgrade(
        &self,
        binary: Option<PathBuf>,
    ) -> oneshot::Receiver<Result<UpgradeOutcome, String>> {
        let (asker, outcome) = oneshot::channel();
        let mut upgrade = lock(&self.upgrade);
        if upgrade.is_some() {
            let _ = asker.send(Err("another hand-over is asked for already".into()));
            return outcome;
        }
        *upgrade = Some((binary, asker));
        // Taken with it, so that it is before the signal.
        if let Err(error) = kill_process(getpid(), Signal::USR2)
            && let Some((_, asker)) = upgrade.take()
        {
            let _ = asker.send(Err(format!("the daemon cannot signal itself: {error}")));
        }
        outcome
    }

    fn configuration(&self) -> Value {
        lock(&self.configuration).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
