//! A channel's name within the whole service.

use super::partition_number::PartitionNumber;
use std::sync::Arc;

/// A channel of an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChannelName {
    pub(super) app: Arc<str>,
    pub(super) channel: Arc<str>,
}

impl ChannelName {
    /// Its partition.
    pub(super) fn partition(&self) -> PartitionNumber {
        PartitionNumber::of(&self.app, &self.channel)
    }
}
