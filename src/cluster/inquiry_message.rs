//! Inquiries from node to owner, and the answers.

use super::partition_number::PartitionNumber;
use crate::service::presence::{ChannelCounts, ChannelInquiry, PresenceAnswer};
use serde::{Deserialize, Serialize};

/// An inquiry to the owner of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InquiryCall {
    /// The number of the inquiry at the node that asks.
    pub(super) id: u64,
    pub(super) partition: PartitionNumber,
    /// The epoch of the owner that is asked.
    pub(super) epoch: u64,
    pub(super) app: Box<str>,
    pub(super) inquiry: ChannelInquiry,
}

/// A part of an owner's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnerAnswer {
    pub(super) id: u64,
    pub(super) partition: PartitionNumber,
    pub(super) epoch: u64,
    /// Parts are numbered from 0.
    pub(super) part: u32,
    pub(super) is_last: bool,
    pub(super) answer: PresenceAnswer,
}

/// Channels or users in one part of an answer: a part has some 100 KiB then.
const PART_ENTRIES: usize = if cfg!(test) { 2 } else { 1000 };

impl OwnerAnswer {
    /// The parts of an answer.
    pub(super) fn parts(call: &InquiryCall, answer: PresenceAnswer) -> Vec<Self> {
        let answers: Vec<PresenceAnswer> = match answer {
            PresenceAnswer::Channels(channels) => {
                let parts = channels.chunks(PART_ENTRIES);
                parts.map(|part: &[ChannelCounts]| PresenceAnswer::Channels(part.into())).collect()
            }
            PresenceAnswer::Users(users) => {
                let parts = users.chunks(PART_ENTRIES);
                parts.map(|part: &[Box<str>]| PresenceAnswer::Users(part.into())).collect()
            }
            other => vec![other],
        };
        let (id, partition, epoch, last) =
            (call.id, call.partition, call.epoch, answers.len().saturating_sub(1));
        let part = |(part, answer)| Self {
            id,
            partition,
            epoch,
            part: part as u32,
            is_last: part == last,
            answer,
        };
        // An empty answer is an answer too.
        let empty = answers.is_empty().then(|| PresenceAnswer::Channels(Vec::new()));
        answers.into_iter().chain(empty).enumerate().map(part).collect()
    }
}
