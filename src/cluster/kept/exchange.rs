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
    /// has gone, what it says until it is back.
    pub fn see(&mut self, present: BTreeSet<NodeName>) {
        let before = std::mem::replace(&mut self.present, present);
        let changed: Vec<NodeName> = self.present.symmetric_difference(&before).cloned().collect();
        changed.iter().for_each(|node| self.lost(node));
        if let Some(asked) = self.asked.take_if(|asked| !self.present.contains(&asked.node)) {
            self.want(&asked);
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
    put_name(me, &mut message);
    message.extend_from_slice(&number.to_le_bytes());
    message
}

/// Sender and number of a message of this kind, and the rest of it.
fn header(message: &[u8], kind: u8) -> Option<(NodeName, u32, Cursor<'_>)> {
    let mut cursor = Cursor(message.strip_prefix(&[VERSION, kind])?);
    let node = read_name(&mut cursor)?;
    Some((node, cursor.u32_le()?, cursor))
}

fn put_name(name: &NodeName, out: &mut Vec<u8>) {
    // A name has at most 64 bytes.
    out.push(name.as_str().len() as u8);
    out.extend_from_slice(name.as_str().as_bytes());
}

fn read_name(cursor: &mut Cursor<'_>) -> Option<NodeName> {
    let length = cursor.byte()?;
    NodeName::new(cursor.text(length.into())?)
}

fn put_stamp(stamp: &KeptStamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&stamp.number.to_le_bytes());
    put_name(&stamp.node, out);
}

fn read_stamp(cursor: &mut Cursor<'_>) -> Option<KeptStamp> {
    Some(KeptStamp { number: cursor.u64_le()?, node: read_name(cursor)? })
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
mod tests {
    use super::*;
    use crate::frame::Draft;
    use proptest::prelude::*;

    const LONG: usize = 1 << 20;

    fn at(second: u64) -> Now {
        Now { monotonic_ns: (1000 + second) * SECOND_NS, unix_ms: 0 }
    }

    fn name(node: usize) -> NodeName {
        NodeName::new(["a", "b", "c"][node]).unwrap()
    }

    fn publication(topic: &[u8], text: &str, retain_s: u32, now: Now) -> Publication {
        let mut draft = Draft::default();
        draft.address(&[topic], b"");
        draft.retain(retain_s);
        draft.text(|out| out.extend_from_slice(text.as_bytes()));
        draft.finish(now)
    }

    /// Three nodes that hear each other as far as the test lets them.
    struct World {
        nodes: [(KeptPublications, KeptExchange); 3],
        now: Now,
    }

    impl World {
        fn new() -> Self {
            let node = |node| (KeptPublications::new(name(node)), KeptExchange::new(name(node)));
            Self { nodes: [node(0), node(1), node(2)], now: at(0) }
        }

        /// A node publishes, and these others hear it.
        fn publish(&mut self, from: usize, topic: &[u8], text: &str, to: &[usize]) {
            let said = Arc::new(publication(topic, text, 100, self.now));
            let number = self.nodes[from].0.accept(&said, Some(0), self.now);
            let stamp = KeptStamp { number, node: name(from) };
            for &there in to {
                let said = publication(topic, text, 100, self.now);
                let (kept, exchange) = &mut self.nodes[there];
                exchange.heard(&stamp);
                kept.heard(said, stamp.clone(), Some(0), self.now);
            }
        }

        /// A node sees these others.
        fn see(&mut self, node: usize, others: &[usize]) {
            self.nodes[node].1.see(others.iter().map(|other| name(*other)).collect());
        }

        /// Sends a node's next question, and takes the answer; returns what its shards get.
        fn ask(&mut self, node: usize) -> Option<Vec<Arc<Publication>>> {
            let (to, question) = self.nodes[node].1.next(self.now)?;
            let answer = self.answer(&to, &question);
            Some(self.take(node, &answer).expect("it is the answer"))
        }

        fn answer(&self, to: &NodeName, question: &[u8]) -> Vec<u8> {
            assert!(KeptExchange::is_for(question));
            let there = (0..3).find(|there| name(*there) == *to).unwrap();
            let (_, message) = answer(to, question, &self.nodes[there].0, LONG, self.now).unwrap();
            message
        }

        fn take(&mut self, node: usize, answer: &[u8]) -> Option<Vec<Arc<Publication>>> {
            let (kept, exchange) = &mut self.nodes[node];
            exchange.take(answer, kept, &|_| Some(0), self.now)
        }

        /// Lets every node ask until none wants anything.
        fn settle(&mut self) {
            for _ in 0..10 {
                for node in 0..3 {
                    while self.ask(node).is_some() {}
                }
                self.pass(5);
            }
        }

        fn pass(&mut self, seconds: u64) {
            self.now.monotonic_ns += seconds * SECOND_NS;
        }

        fn last(&self, node: usize, topic: &[u8]) -> Option<&[u8]> {
            self.nodes[node].0.last(topic, self.now).map(|kept| &kept.frame(0)[2..])
        }
    }

    #[test]
    fn a_node_that_starts_gets_what_the_others_retain_with_the_rest_of_its_time() {
        let mut world = World::new();
        world.publish(0, b"ea\0x", "from a", &[1]);
        world.publish(1, b"ea\0y", "from b", &[0]);
        world.pass(30);
        world.publish(0, b"ea\0z", "later", &[1]);
        assert!(world.nodes[2].1.is_complete(), "it knows of no other node");
        world.see(2, &[0, 1]);
        assert!(!world.nodes[2].1.is_complete());
        let got = world.ask(2).unwrap();
        let texts: Vec<_> = got.iter().map(|it| (it.frame(0)[2..].to_vec(), it.retain_s)).collect();
        let expected = [("from a", 70), ("from b", 70), ("later", 100)];
        assert_eq!(texts, expected.map(|(text, left)| (text.as_bytes().to_vec(), left)));
        assert!(!world.nodes[2].1.is_complete());
        assert_eq!(world.ask(2).map(|got| got.len()), Some(0), "the other has nothing more");
        assert!(world.nodes[2].1.is_complete());
        assert!(world.ask(2).is_none());
        world.pass(70);
        assert_eq!(world.last(2, b"ea\0x"), None);
        assert_eq!(world.last(2, b"ea\0z"), Some(&b"later"[..]));
    }

    #[test]
    fn what_is_retained_for_ever_is_so_elsewhere() {
        let mut world = World::new();
        let forever = Arc::new(publication(b"ea\0x", "", u32::MAX, world.now));
        world.nodes[0].0.accept(&forever, Some(0), world.now);
        world.pass(100_000);
        world.see(2, &[0]);
        assert_eq!(world.ask(2).unwrap()[0].retain_s, u32::MAX);
    }

    #[test]
    fn a_long_list_comes_in_parts_and_whole() {
        let mut world = World::new();
        let text = "x".repeat(1000);
        for number in 0..1500u32 {
            let group = [b'e', b'a' + (number % 3) as u8, 0];
            world.publish(0, &[&group[..], &number.to_le_bytes()].concat(), &text, &[]);
        }
        world.publish(0, b"ea\0long", &"y".repeat(PART_BYTES_MAX), &[]);
        world.see(2, &[0]);
        let mut parts = Vec::new();
        while let Some((to, question)) = world.nodes[2].1.next(world.now) {
            let answer = world.answer(&to, &question);
            let got = world.take(2, &answer).unwrap();
            assert!(answer.len() <= PART_BYTES_MAX || got.len() == 1);
            parts.push(got.len());
        }
        assert_eq!(parts.iter().sum::<usize>(), 1501);
        assert!(parts.len() > 6, "{parts:?}");
        let list = |node: usize| {
            let list = world.nodes[node].0.list(0, None, world.now);
            list.map(|(stamp, kept)| (stamp.clone(), kept.topic().to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(list(0), list(2));
    }

    #[test]
    fn of_a_node_that_was_heard_only_what_is_newer_is_asked_for() {
        let mut world = World::new();
        world.publish(0, b"ea\0x", "heard", &[1, 2]);
        world.publish(0, b"ea\0y", "lost", &[1]);
        world.nodes[2].1.see(BTreeSet::new());
        world.see(2, &[0]);
        let got = world.ask(2).unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(world.last(2, b"ea\0y"), Some(&b"lost"[..]));

        // Loss after loss does not make question after question.
        world.publish(0, b"ea\0x", "lost too", &[1]);
        world.nodes[2].1.lost(&name(0));
        assert!(world.ask(2).is_none());
        world.pass(5);
        assert_eq!(world.ask(2).map(|got| got.len()), Some(1));
    }

    #[test]
    fn what_was_lost_of_a_node_is_asked_for_when_it_is_back() {
        type Trouble = fn(&mut World);
        let troubles: [(&str, Trouble); 4] = [
            ("it goes and comes", |world| {
                world.see(2, &[]);
                world.publish(0, b"ea\0x", "lost", &[]);
            }),
            ("the connection is lost", |world| {
                world.nodes[2].1.disconnect();
                world.publish(0, b"ea\0x", "lost", &[]);
            }),
            ("it goes after a loss", |world| {
                world.publish(0, b"ea\0x", "lost", &[]);
                world.nodes[2].1.lost(&name(0));
                world.see(2, &[]);
            }),
            ("it goes before it answers", |world| {
                world.publish(0, b"ea\0x", "lost", &[]);
                world.nodes[2].1.lost(&name(0));
                world.nodes[2].1.next(world.now).unwrap();
                world.see(2, &[]);
            }),
        ];
        for (what, trouble) in troubles {
            let mut world = World::new();
            world.see(2, &[0]);
            while world.ask(2).is_some() {}
            world.pass(5);
            trouble(&mut world);
            // It is heard again before it is seen.
            world.publish(0, b"ea\0y", "later", &[2]);
            world.see(2, &[0]);
            while world.ask(2).is_some() {}
            assert_eq!(world.last(2, b"ea\0x"), Some(&b"lost"[..]), "{what}");
        }
    }

    #[test]
    fn a_node_that_does_not_answer_is_left_alone_for_a_while() {
        let mut world = World::new();
        world.publish(0, b"ea\0x", "", &[]);
        world.see(2, &[0, 1]);
        let mut questions = Vec::new();
        for _ in 0..3 {
            let (to, question) = world.nodes[2].1.next(world.now).unwrap();
            assert_eq!((to, world.nodes[2].1.next(world.now)), (name(0), None));
            questions.push(question);
            world.pass(2);
        }
        assert!(questions.iter().all(|question| *question == questions[0]));
        let (to, _) = world.nodes[2].1.next(world.now).unwrap();
        assert_eq!(to, name(1));
        world.nodes[2].1.asked = None;
        assert!(world.nodes[2].1.is_complete(), "a node that does not answer is not waited for");
        let late = world.answer(&name(0), &questions[0]);
        assert!(world.take(2, &late).is_none(), "it is not expected any more");
        world.pass(30);
        assert_eq!(world.ask(2).map(|got| got.len()), Some(1));
    }

    #[test]
    fn a_publication_that_the_engine_does_not_carry_is_left_out() {
        let mut world = World::new();
        world.publish(0, b"ea\0long", &"x".repeat(1000), &[]);
        world.publish(0, b"ea\0x", "short", &[]);
        world.see(2, &[0]);
        let (_, question) = world.nodes[2].1.next(world.now).unwrap();
        let (to, message) = answer(&name(0), &question, &world.nodes[0].0, 500, world.now).unwrap();
        assert_eq!((to, message.len() < 500), (name(2), true));
        assert_eq!(world.take(2, &message).unwrap().len(), 1);
    }

    #[test]
    fn garbage_is_no_question_and_no_answer() {
        let mut world = World::new();
        world.publish(0, b"ea\0x", "", &[1]);
        world.see(2, &[0]);
        let (_, question) = world.nodes[2].1.next(world.now).unwrap();
        let whole = world.answer(&name(0), &question);
        for length in 0..question.len() {
            let answered =
                answer(&name(0), &question[..length], &world.nodes[0].0, LONG, world.now);
            assert!(answered.is_none(), "{length}");
        }
        for length in 0..whole.len() - 1 {
            let mut world = World::new();
            world.see(2, &[0]);
            world.nodes[2].1.next(world.now).unwrap();
            assert!(world.take(2, &whole[..length]).is_none_or(|got| got.is_empty()), "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_lost_all_nodes_agree_in_the_end(
            steps in proptest::collection::vec((0usize..3, 0u8..8, 0u8..4, any::<bool>()), 0..100),
        ) {
            let mut world = World::new();
            for node in 0..3 {
                let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
                world.see(node, &others);
            }
            for (number, (from, topic, hears, asks)) in steps.into_iter().enumerate() {
                let others: Vec<usize> = (0..3).filter(|other| *other != from).collect();
                let (hears, losers): (Vec<usize>, Vec<usize>) =
                    (0..2).partition(|place| hears & (1 << place) != 0);
                let to: Vec<usize> = hears.iter().map(|place| others[*place]).collect();
                let topic = [b'e', b'a' + topic % 2, 0, topic];
                // Those who lose it know at once: before they hear anything later.
                for place in losers {
                    world.nodes[others[place]].1.lost(&name(from));
                }
                world.publish(from, &topic, &number.to_string(), &to);
                if asks {
                    world.ask(from);
                }
            }
            world.settle();
            for topic in 0..8 {
                let topic = [b'e', b'a' + topic % 2, 0, topic];
                prop_assert_eq!(world.last(0, &topic), world.last(1, &topic));
                prop_assert_eq!(world.last(0, &topic), world.last(2, &topic));
            }
        }
    }
}
