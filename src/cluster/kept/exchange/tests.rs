//! Nodes that lose what others say, and get it.

use super::*;
use crate::cluster::kept::tests::publication;
use proptest::prelude::*;

const LONG: usize = 1 << 20;

fn at(second: u64) -> Now {
    Now { monotonic_ns: (1000 + second) * SECOND_NS, unix_ms: 0 }
}

fn name(node: usize) -> NodeName {
    NodeName::new(["a", "b", "c"][node]).unwrap()
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
fn what_a_node_has_said_before_its_end_is_asked_of_those_who_heard_it() {
    let mut world = World::new();
    world.see(2, &[0, 1]);
    while world.ask(2).is_some() {}
    world.pass(5);
    world.publish(0, b"ea\0z", "before", &[1, 2]);
    world.publish(0, b"ea\0x", "its last word", &[1]);
    // What the other has said later was heard.
    world.publish(1, b"ea\0y", "later", &[0, 2]);
    world.see(2, &[1]);
    while world.ask(2).is_some() {}
    assert_eq!(world.last(2, b"ea\0x"), Some(&b"its last word"[..]));
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
        let answered = answer(&name(0), &question[..length], &world.nodes[0].0, LONG, world.now);
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
