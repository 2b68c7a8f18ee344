//! How a node gets the retained publications that it has not heard: those from before its start,
//! and those that were lost on the way.
//!
//! It asks the other nodes, one after the other, for a part of their list at a time, from the place
//! where the last part ended ([`KeptPublications::list`]). A node that answers keeps nothing about
//! it. Of a node that it has heard before, it wants what is newer than that node's last stamp only.
//! What has been asked for is retained by the rule of [`KeptPublications`]; it is not for those who
//! subscribe already, who have lost it.
//!
//! The layout of a message, with the lowest byte of a number first: the version, the kind, the
//! sender's name with its length before it, and the number of the question (`u32`). A question goes
//! on with the number of the stamp above which publications are wanted (`u64`) and, unless it is
//! for the first part, the place: the group with its length (`u32`), and a stamp. An answer goes on
//! with whether it is the last (a byte), and for each publication its stamp, the seconds that are
//! left of its time (`u32`), its length (`u32`) and itself. A stamp is its number (`u64`) and its
//! node's name with its length.

use super::{KeptPlace, KeptPublications, KeptStamp};
use crate::bytes::Cursor;
use crate::cluster::live::is_whole;
use crate::cluster::node::NodeName;
use crate::frame::Publication;
use crate::retained::{expires_at_ns, group_of};
use crate::wheel::{Now, SECOND_NS};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The version of the layout, and of what dialects make of an event; that of live packets.
const VERSION: u8 = 1;
/// The kind of a question.
const QUESTION: u8 = b'Q';
/// The kind of an answer.
const ANSWER: u8 = b'K';

/// Bytes of publications in one answer, as in a packet of live events. One longer publication goes
/// alone.
const PART_BYTES_MAX: usize = 256 * 1024;
/// Publications in one answer: half a millisecond of work for each shard.
const PART_PUBLICATIONS_MAX: usize = 1000;
/// The time that a node has for an answer.
const ANSWER_NS: u64 = 2 * SECOND_NS;
/// How often one question is asked before the node is left for a while.
const TRIES_MAX: u32 = 3;
/// How long a node is left alone that does not answer.
const SILENT_NS: u64 = 30 * SECOND_NS;
/// How long a node is left alone that has answered: while much is lost, it is not asked each time.
const PAUSE_NS: u64 = 5 * SECOND_NS;
/// Most nodes that are remembered; more than a cluster has.
const NODES_MAX: usize = 256;

/// What a node asks others for, and has asked.
pub struct KeptExchange {
    me: NodeName,
    /// The nodes that were there at the last look.
    present: BTreeSet<NodeName>,
    nodes: BTreeMap<NodeName, KeptSource>,
    asked: Option<KeptQuestion>,
    last_number: u32,
}

/// What is known of another node's list.
#[derive(Default)]
struct KeptSource {
    /// The number of its last stamp that was heard from itself, and with it everything before.
    heard: u64,
    /// The number above which publications are wanted of it.
    wanted: Option<u64>,
    /// When it may be asked again; 0 before it was asked.
    free_at_ns: u64,
}

/// A question that waits for its answer.
struct KeptQuestion {
    node: NodeName,
    number: u32,
    since: u64,
    after: Option<KeptPlace>,
    tries: u32,
    /// When it is to be asked, or asked again.
    due_at_ns: u64,
}

impl KeptExchange {
    /// A node that has not heard any other.
    #[must_use]
    pub fn new(me: NodeName) -> Self {
        Self { me, present: BTreeSet::new(), nodes: BTreeMap::new(), asked: None, last_number: 0 }
    }

    /// Whether a message is one between exchanges.
    #[must_use]
    pub fn is_for(message: &[u8]) -> bool {
        matches!(message, [VERSION, QUESTION | ANSWER, ..])
    }

    /// Notes the stamp of a live publication of another node.
    pub fn heard(&mut self, stamp: &KeptStamp) {
        if let Some(source) = self.source(&stamp.node) {
            source.heard = source.heard.max(stamp.number);
        }
    }

    /// Looks at the nodes that are there. Of one that has come, what it has is wanted; of one that
    /// has gone, what it says until it is back, and what it has said and only others have heard is
    /// wanted of those.
    pub fn see(&mut self, present: BTreeSet<NodeName>) {
        let before = std::mem::replace(&mut self.present, present);
        let changed: Vec<NodeName> = self.present.symmetric_difference(&before).cloned().collect();
        changed.iter().for_each(|node| self.lost(node));
        if let Some(asked) = self.asked.take_if(|asked| !self.present.contains(&asked.node)) {
            self.want(&asked);
        }

        let gone = before.iter().filter(|node| !self.present.contains(*node));
        let since = gone.filter_map(|node| self.nodes.get(node)?.wanted);
        // Of a node that has never retained anything, nothing is likely to be missing: the others'
        // whole lists are too much for that.
        let since = since.filter(|since| *since > 0).min();
        for node in since.iter().flat_map(|_| self.present.clone()).collect::<Vec<_>>() {
            if let Some(source) = self.source(&node) {
                source.wanted = source.wanted.min(since).or(since);
            }
        }
    }

    /// The connection is lost, and with it perhaps what every node says until it is back.
    pub fn disconnect(&mut self) {
        self.see(BTreeSet::new());
    }

    /// Publications of a node were lost.
    pub fn lost(&mut self, node: &NodeName) {
        if let Some(source) = self.source(node) {
            // What is wanted already is more.
            source.wanted.get_or_insert(source.heard);
        }
    }

    /// Publications were lost, of some node.
    pub fn lost_of_some(&mut self) {
        let present: Vec<NodeName> = self.present.iter().cloned().collect();
        present.iter().for_each(|node| self.lost(node));
    }

    /// Whether nothing is wanted of the nodes that are there, but of those that do not answer.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let wanted = |node: &NodeName| {
            self.nodes.get(node).is_some_and(|it| it.wanted.is_some() && it.free_at_ns == 0)
        };
        self.asked.is_none() && !self.present.iter().any(wanted)
    }

    fn source(&mut self, node: &NodeName) -> Option<&mut KeptSource> {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(node) {
            return None;
        }
        Some(self.nodes.entry(node.clone()).or_default())
    }

    /// The next question, if it is time for one, with the node to ask. The shards must have room
    /// for what the answer brings.
    pub fn next(&mut self, now: Now) -> Option<(NodeName, Vec<u8>)> {
        if let Some(asked) = self
            .asked
            .take_if(|asked| asked.tries >= TRIES_MAX && asked.due_at_ns <= now.monotonic_ns)
        {
            self.want(&asked);
            if let Some(source) = self.source(&asked.node) {
                source.free_at_ns = now.monotonic_ns + SILENT_NS;
            }
        }
        if self.asked.is_none() {
            self.asked = self.choose(now);
        }

        let asked = self.asked.as_mut().filter(|asked| asked.due_at_ns <= now.monotonic_ns)?;
        asked.tries += 1;
        asked.due_at_ns = now.monotonic_ns + ANSWER_NS;
        Some((asked.node.clone(), asked.message(&self.me)))
    }

    /// The first question to a node of which something is wanted.
    fn choose(&mut self, now: Now) -> Option<KeptQuestion> {
        let (node, source) = self.nodes.iter_mut().find(|(node, source)| {
            source.wanted.is_some()
                && source.free_at_ns <= now.monotonic_ns
                && self.present.contains(*node)
        })?;
        let since = source.wanted.take()?;
        self.last_number = self.last_number.wrapping_add(1);
        Some(KeptQuestion {
            node: node.clone(),
            number: self.last_number,
            since,
            after: None,
            tries: 0,
            due_at_ns: now.monotonic_ns,
        })
    }

    /// Has what a question did not bring wanted again.
    fn want(&mut self, asked: &KeptQuestion) {
        if let Some(source) = self.source(&asked.node) {
            source.wanted = Some(source.wanted.map_or(asked.since, |since| since.min(asked.since)));
        }
    }

    /// Takes what another node has answered, and returns what the shards must retain too.
    /// `entries_max` gives the bound of a topic's group, as for [`KeptPublications::accept`].
    pub fn take(
        &mut self,
        message: &[u8],
        kept: &mut KeptPublications,
        entries_max: &dyn Fn(&[u8]) -> Option<usize>,
        now: Now,
    ) -> Option<Vec<Arc<Publication>>> {
        let (node, number, mut cursor) = header(message, ANSWER)?;
        // The answer to a question that was asked twice, or of a node that was left alone since, is
        // none.
        let is_expected = |asked: &mut KeptQuestion| asked.number == number && asked.node == node;
        let mut asked = self.asked.take_if(is_expected)?;
        let mut is_last = cursor.byte()? != 0;
        let mut news = Vec::new();
        while !cursor.0.is_empty() {
            let Some((publication, stamp)) = read_publication(&mut cursor, now) else {
                // Asking for the next part would bring this one again.
                is_last = true;
                break;
            };
            let (group, topic) = (group_of(publication.topic()).into(), publication.topic());
            asked.after = Some(KeptPlace { group, stamp: stamp.clone() });
            // No session must be given what lacks a form of its dialect.
            let entries_max = if is_whole(&publication) { entries_max(topic) } else { None };
            news.extend(kept.restore(publication, stamp, entries_max, now));
        }

        if is_last {
            if let Some(source) = self.source(&node) {
                source.free_at_ns = now.monotonic_ns + PAUSE_NS;
            }
        } else {
            self.last_number = self.last_number.wrapping_add(1);
            (asked.number, asked.tries, asked.due_at_ns) = (self.last_number, 0, now.monotonic_ns);
            self.asked = Some(asked);
        }
        Some(news)
    }
}

/// The answer of `me` to a question, with the node that has asked. `publication_bytes_max` is the
/// longest publication that the engine carries.
#[must_use]
pub fn answer(
    me: &NodeName,
    question: &[u8],
    kept: &KeptPublications,
    publication_bytes_max: usize,
    now: Now,
) -> Option<(NodeName, Vec<u8>)> {
    let (node, number, mut cursor) = header(question, QUESTION)?;
    let since = cursor.u64_le()?;
    let after = if cursor.0.is_empty() { None } else { Some(read_place(&mut cursor)?) };

    let mut message = begin(ANSWER, me, number);
    let last = message.len();
    message.push(1);
    let list = kept.list(since, after.as_ref(), now);
    let fitting = list.filter(|(_, kept)| kept.encoded_bytes() <= publication_bytes_max);
    for (count, (stamp, publication)) in fitting.enumerate() {
        let longer = message.len() + publication.encoded_bytes();
        if count > 0 && (longer > PART_BYTES_MAX || count >= PART_PUBLICATIONS_MAX) {
            message[last] = 0;
            break;
        }
        put_publication(publication, stamp, now, &mut message);
    }
    Some((node, message))
}

impl KeptQuestion {
    fn message(&self, me: &NodeName) -> Vec<u8> {
        let mut message = begin(QUESTION, me, self.number);
        message.extend_from_slice(&self.since.to_le_bytes());
        if let Some(place) = &self.after {
            message.extend_from_slice(&(place.group.len() as u32).to_le_bytes());
            message.extend_from_slice(&place.group);
            put_stamp(&place.stamp, &mut message);
        }
        message
    }
}

fn begin(kind: u8, me: &NodeName, number: u32) -> Vec<u8> {
    let mut message = vec![VERSION, kind];
    me.encode(&mut message);
    message.extend_from_slice(&number.to_le_bytes());
    message
}

/// Sender and number of a message of this kind, and the rest of it.
fn header(message: &[u8], kind: u8) -> Option<(NodeName, u32, Cursor<'_>)> {
    let mut cursor = Cursor(message.strip_prefix(&[VERSION, kind])?);
    let node = NodeName::read(&mut cursor)?;
    Some((node, cursor.u32_le()?, cursor))
}

fn put_stamp(stamp: &KeptStamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&stamp.number.to_le_bytes());
    stamp.node.encode(out);
}

fn read_stamp(cursor: &mut Cursor<'_>) -> Option<KeptStamp> {
    Some(KeptStamp { number: cursor.u64_le()?, node: NodeName::read(cursor)? })
}

fn read_place(cursor: &mut Cursor<'_>) -> Option<KeptPlace> {
    let length = cursor.u32_le()? as usize;
    let group = cursor.take(length)?.into();
    Some(KeptPlace { group, stamp: read_stamp(cursor)? })
}

fn put_publication(publication: &Publication, stamp: &KeptStamp, now: Now, out: &mut Vec<u8>) {
    put_stamp(stamp, out);
    out.extend_from_slice(&left_s(publication, now).to_le_bytes());
    // No event reaches 4 GiB.
    out.extend_from_slice(&(publication.encoded_bytes() as u32).to_le_bytes());
    publication.encode(out);
}

fn read_publication(cursor: &mut Cursor<'_>, now: Now) -> Option<(Publication, KeptStamp)> {
    let stamp = read_stamp(cursor)?;
    let (left_s, length) = (cursor.u32_le()?, cursor.u32_le()?);
    let mut publication = Publication::decode(cursor.take(length as usize)?, now)?;
    publication.retain_s = left_s;
    Some((publication, stamp))
}

/// The seconds that are left of a publication's time, begun ones included; the highest number is
/// for ever.
fn left_s(publication: &Publication, now: Now) -> u32 {
    if publication.retain_s == u32::MAX {
        return u32::MAX;
    }
    let left_ns = expires_at_ns(publication).saturating_sub(now.monotonic_ns);
    left_ns.div_ceil(SECOND_NS).try_into().unwrap_or(publication.retain_s)
}

#[cfg(test)]
mod tests;
