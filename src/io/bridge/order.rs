//! What the bridge is told in a hand-over.

use crate::handover::HandoverRecord;
use crate::service::NewRefs;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::oneshot;

/// An order to the bridge.
pub(super) enum BridgeOrder {
    /// Write everything down, and then ask and answer nothing until it is clear which process goes
    /// on: the next one, by a word, or without one this.
    Freeze(Sender<Vec<u8>>, oneshot::Receiver<()>),
    /// Take everything over.
    Import(Vec<HandoverRecord>, Arc<NewRefs>),
}
