//! Inquiries of this node's HTTP clients, until every owner that is concerned has answered. A part
//! of an answer is none: what is not whole in time is unavailable.

use super::inquiry_message::{InquiryCall, OwnerAnswer};
use super::owner::INQUIRY_NS;
use super::partition_number::PartitionNumber;
use super::peers::PeerNumber;
use crate::service::ConnectionRef;
use crate::service::presence::{ChannelInquiry, PresenceAnswer};
use crate::wheel::Now;
use std::collections::BTreeMap;

/// Inquiries that are open at a time: as many as come in two seconds from a busy HTTP client.
const INQUIRIES_MAX: usize = 1000;
/// Parts of one owner's answer: a million channels.
const PARTS_MAX: u32 = 1000;

/// The open inquiries of this node.
#[derive(Debug, Default)]
pub(super) struct NodeInquiries {
    last_id: u64,
    open: BTreeMap<u64, OpenInquiry>,
    /// Answers that are ready.
    done: Vec<(ConnectionRef, PresenceAnswer)>,
    /// Inquiries that were not answered in time.
    pub(super) unanswered: u64,
}

#[derive(Debug)]
struct OpenInquiry {
    from: ConnectionRef,
    until_ns: u64,
    app: Box<str>,
    inquiry: ChannelInquiry,
    /// What the owners have answered.
    parts: Vec<InquiryPart>,
    /// The nodes that have not yet dismissed a user.
    dismissing: Vec<PeerNumber>,
}

#[derive(Debug)]
struct InquiryPart {
    partition: PartitionNumber,
    /// The owner that was asked, with its epoch.
    asked: Option<(PeerNumber, u64)>,
    /// The number of the next part of its answer.
    next: u32,
    answers: Vec<PresenceAnswer>,
    is_whole: bool,
}

impl NodeInquiries {
    /// A client inquires about an app's channels.
    pub(super) fn ask(
        &mut self,
        from: ConnectionRef,
        app: &str,
        inquiry: ChannelInquiry,
        now: Now,
    ) {
        let parts = partitions(app, &inquiry).into_iter().map(InquiryPart::new).collect();
        self.open(from, app, inquiry, parts, Vec::new(), now);
    }

    /// A client has a user dismissed by `nodes`, which are to be told so with the number returned.
    pub(super) fn dismiss(
        &mut self,
        from: ConnectionRef,
        app: &str,
        user: Box<str>,
        nodes: Vec<PeerNumber>,
        now: Now,
    ) -> u64 {
        self.open(from, app, ChannelInquiry::Dismiss(user), Vec::new(), nodes, now);
        self.last_id
    }

    fn open(
        &mut self,
        from: ConnectionRef,
        app: &str,
        inquiry: ChannelInquiry,
        parts: Vec<InquiryPart>,
        dismissing: Vec<PeerNumber>,
        now: Now,
    ) {
        if self.open.len() >= INQUIRIES_MAX {
            self.unanswered += 1;
            return self.done.push((from, PresenceAnswer::Unavailable));
        }
        self.last_id += 1;
        let until_ns = now.monotonic_ns + INQUIRY_NS;
        let open = OpenInquiry { from, until_ns, app: app.into(), inquiry, parts, dismissing };
        self.open.insert(self.last_id, open);
        self.conclude(self.last_id);
    }

    /// The calls that are to be made now, by the owners known: an owner that has changed is asked
    /// again.
    pub(super) fn calls(
        &mut self,
        owner: &dyn Fn(PartitionNumber) -> Option<(PeerNumber, u64)>,
    ) -> Vec<(PeerNumber, InquiryCall)> {
        let mut calls = Vec::new();
        for (id, open) in &mut self.open {
            for part in open.parts.iter_mut().filter(|part| !part.is_whole) {
                let Some(known) = owner(part.partition).filter(|known| part.asked != Some(*known))
                else {
                    continue;
                };
                (part.asked, part.next) = (Some(known), 0);
                part.answers.clear();
                let call = InquiryCall {
                    id: *id,
                    partition: part.partition,
                    epoch: known.1,
                    app: open.app.clone(),
                    inquiry: open.inquiry.clone(),
                };
                calls.push((known.0, call));
            }
        }
        calls
    }

    /// A part of an owner's answer.
    pub(super) fn answered(&mut self, from: PeerNumber, answer: OwnerAnswer) {
        let Some(open) = self.open.get_mut(&answer.id) else { return };
        let is_asked = |part: &&mut InquiryPart| {
            part.partition == answer.partition && part.asked == Some((from, answer.epoch))
        };
        let Some(part) = open.parts.iter_mut().find(is_asked) else { return };
        // A part that is missing keeps the answer from ever being whole.
        if part.is_whole || answer.part != part.next || part.next >= PARTS_MAX {
            return;
        }
        part.next += 1;
        part.is_whole = answer.is_last;
        part.answers.push(answer.answer);
        if answer.is_last {
            self.conclude(answer.id);
        }
    }

    /// A node has dismissed a user. One that is gone meanwhile has not: its sessions may live on
    /// where nobody hears it.
    pub(super) fn dismissed(&mut self, from: PeerNumber, id: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            open.dismissing.retain(|node| *node != from);
            self.conclude(id);
        }
    }

    /// Answers an inquiry if nothing is missing.
    fn conclude(&mut self, id: u64) {
        let is_whole = |open: &OpenInquiry| {
            open.dismissing.is_empty() && open.parts.iter().all(|part| part.is_whole)
        };
        if !self.open.get(&id).is_some_and(is_whole) {
            return;
        }
        let Some(open) = self.open.remove(&id) else { return };
        let mut whole = match open.inquiry {
            ChannelInquiry::Users(_) => PresenceAnswer::Users(Vec::new()),
            _ => PresenceAnswer::Channels(Vec::new()),
        };
        for answer in open.parts.into_iter().flat_map(|part| part.answers) {
            whole.merge(answer);
        }
        self.done.push((open.from, whole));
    }

    /// Gives up what is not answered in time.
    pub(super) fn tick(&mut self, now: Now) {
        let due = self.open.iter().filter(|(_, open)| now.monotonic_ns >= open.until_ns);
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        for open in due.into_iter().filter_map(|id| self.open.remove(&id)) {
            self.unanswered += 1;
            self.done.push((open.from, PresenceAnswer::Unavailable));
        }
    }

    /// Answers that are ready, once.
    pub(super) fn take_done(&mut self) -> Vec<(ConnectionRef, PresenceAnswer)> {
        std::mem::take(&mut self.done)
    }
}

impl InquiryPart {
    fn new(partition: PartitionNumber) -> Self {
        Self { partition, asked: None, next: 0, answers: Vec::new(), is_whole: false }
    }
}

/// The partitions that an inquiry is about.
fn partitions(app: &str, inquiry: &ChannelInquiry) -> Vec<PartitionNumber> {
    let of = |channel: &str| PartitionNumber::of(app, channel);
    let mut partitions: Vec<PartitionNumber> = match inquiry {
        ChannelInquiry::Channels { .. } => PartitionNumber::all().collect(),
        ChannelInquiry::Channel(name, _) | ChannelInquiry::Users(name) => vec![of(name)],
        ChannelInquiry::Counts(named) => named.iter().map(|(name, _)| of(name)).collect(),
        ChannelInquiry::Batch(named) => named.iter().flatten().map(|(name, _)| of(name)).collect(),
        ChannelInquiry::Dismiss(_) | ChannelInquiry::Connections(_) => Vec::new(),
    };
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}
