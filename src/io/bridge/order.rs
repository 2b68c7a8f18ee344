//! What the bridge is told in a hand-over.

use crate::handover::HandoverRecord;
use crate::service::NewRefs;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// An order to the bridge.
pub(super) enum BridgeOrder {
    /// Write everything down.
    Freeze(Sender<Vec<u8>>),
    /// Forget it, because another process has it.
    Release,
    /// Take it over.
    Import(Vec<HandoverRecord>, Arc<NewRefs>),
}
