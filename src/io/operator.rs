//! What operators may ask of the process around the daemon: its log and its configuration, which
//! are the command's.

use crate::http::v1::{ReloadOutcome, UpgradeOutcome};
use serde_json::Value;
use std::path::PathBuf;
use tokio::sync::oneshot;

/// The way to the command that runs the daemon. Called from the admin thread, so nothing here waits.
pub trait Operator: Send + Sync {
    /// Logs by these directives until the next reload.
    ///
    /// # Errors
    /// When they are malformed; the reason is for the operator.
    fn log(&self, directives: &str) -> Result<(), String>;

    /// Asks for a reload. The outcome comes when it is done, or why it was refused.
    fn reload(&self) -> oneshot::Receiver<Result<ReloadOutcome, String>>;

    /// Asks for a hand-over to a new process of this program, or of another. The outcome comes when
    /// it is done, or why this process goes on.
    fn upgrade(&self, binary: Option<PathBuf>)
    -> oneshot::Receiver<Result<UpgradeOutcome, String>>;

    /// The keys that are set, without secrets.
    fn configuration(&self) -> Value;
}
