//! The trie against the plainest model of it, and at a million subscriptions.

use std::time::Instant;

use fanfare::trie::Trie;
use proptest::prelude::*;

type Rule = (Vec<u8>, Vec<u8>, u32);

#[derive(Clone, Debug)]
enum Step {
    Insert(Rule),
    Remove(Rule),
    /// Removes one of the rules there are, so that removals hit.
    RemoveHeld(prop::sample::Index),
    Match(Vec<u8>, Vec<u8>),
}

/// Three letters, NUL among them, so that prefixes overlap all the time.
fn name(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0_u8, b'a', 0xff]), 0..=len_max)
}

fn rule() -> impl Strategy<Value = Rule> {
    // Few topics with many subscribers as well as many topics with few, so that lists become sets and back.
    prop_oneof![(name(9), name(3), 0..4_u32), (name(1), name(2), 0..100_u32)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => rule().prop_map(Step::Insert),
        1 => rule().prop_map(Step::Remove),
        4 => any::<prop::sample::Index>().prop_map(Step::RemoveHeld),
        2 => (name(11), name(4)).prop_map(|(topic, facet)| Step::Match(topic, facet)),
    ]
}

fn expected(model: &[Rule], topic: &[u8], facet: &[u8]) -> Vec<u32> {
    let matching =
        model.iter().filter(|rule| topic.starts_with(&rule.0) && facet.starts_with(&rule.1));
    let mut subscribers: Vec<u32> = matching.map(|rule| rule.2).collect();
    subscribers.sort_unstable();
    subscribers
}

fn seen(trie: &mut Trie, topic: &[u8], facet: &[u8]) -> Vec<u32> {
    let mut subscribers = Vec::new();
    trie.matches(topic, facet, |subscriber| subscribers.push(subscriber));
    subscribers.sort_unstable();
    subscribers
}

fn remove(trie: &mut Trie, rule: &Rule) -> bool {
    trie.remove(&rule.0, &rule.1, rule.2)
}

fn agree(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut trie = Trie::new();
    let empty = trie.bytes();
    let mut model: Vec<Rule> = Vec::new();
    for step in steps {
        match step {
            Step::Insert(rule) => {
                let fresh = !model.contains(rule);
                prop_assert_eq!(trie.insert(&rule.0, &rule.1, rule.2), Ok(fresh));
                model.extend(fresh.then(|| rule.clone()));
            }
            Step::Remove(rule) => {
                let held = model.iter().position(|other| other == rule);
                prop_assert_eq!(remove(&mut trie, rule), held.is_some());
                held.map(|index| model.swap_remove(index));
            }
            Step::RemoveHeld(_) if model.is_empty() => {}
            Step::RemoveHeld(index) => {
                let rule = model.swap_remove(index.index(model.len()));
                prop_assert!(remove(&mut trie, &rule));
            }
            Step::Match(topic, facet) => {
                prop_assert_eq!(seen(&mut trie, topic, facet), expected(&model, topic, facet));
            }
        }
        prop_assert_eq!(trie.len(), model.len());
    }
    for rule in &model {
        prop_assert_eq!(seen(&mut trie, &rule.0, &rule.1), expected(&model, &rule.0, &rule.1));
    }
    for rule in &model {
        prop_assert!(remove(&mut trie, rule));
    }
    prop_assert!(trie.is_empty());
    prop_assert!(trie.bytes() <= empty + (40 << 10), "{} bytes are left", trie.bytes());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overlapping_duplicate_and_removed_rules_match_as_in_the_model(
        steps in prop::collection::vec(step(), 0..600),
    ) {
        agree(&steps)?;
    }
}

/// A million subscriptions: item `n` of 250,000 has two that match its events and one of another type; the
/// rest are on its column (50 items each). So an event of an item matches 2 + `watchers` + 1 for everything.
#[test]
fn a_million_subscriptions_match_as_constructed_and_leave_nothing_behind() {
    const ITEMS: u32 = 250_000;
    const COLUMN: u32 = 50;
    let item = |n: u32| {
        format!("p\x01https://unit.example/box/col-{:04}/item-{:05}\0", n / COLUMN, n % COLUMN)
    };
    let column = |n: u32| format!("p\x01https://unit.example/box/col-{:04}/", n / COLUMN);
    let rule = |n: u32| -> (String, &str, u32) {
        // Strides that are prime to a million put neighbours far apart in time.
        let n = (n as u64 * 700_001 % 1_000_000) as u32;
        match (n / ITEMS, n % ITEMS) {
            (0, 0) => (String::new(), "", 0),
            (0, n) => (column(n), "odatacol.entity.", n),
            (1, n) => (item(n), "odatacol.", n),
            (2, n) => (item(n), "", n),
            (_, n) => (item(n), "chat", n),
        }
    };
    let started = Instant::now();
    let mut trie = Trie::new();
    for n in 0..1_000_000 {
        let (prefix, facet, subscriber) = rule(n);
        assert_eq!(trie.insert(prefix.as_bytes(), facet.as_bytes(), subscriber), Ok(true));
    }
    assert_eq!(trie.len(), 1_000_000);
    assert!(trie.bytes() < 128_000_000, "{} bytes", trie.bytes());
    println!("inserted after {:?}: {} bytes", started.elapsed(), trie.bytes());

    for n in (0..ITEMS).step_by(7) {
        // Item 0's place among the column's watchers is taken by the subscription to everything.
        let watchers = if n < COLUMN { COLUMN - 1 } else { COLUMN };
        let mut count = 0;
        trie.matches(item(n).as_bytes(), b"odatacol.entity.create", |_| count += 1);
        assert_eq!(count, 2 + watchers + 1, "item {n}");
    }
    println!("matched after {:?}", started.elapsed());

    for n in 0..1_000_000 {
        let (prefix, facet, subscriber) = rule(n);
        assert!(trie.remove(prefix.as_bytes(), facet.as_bytes(), subscriber));
    }
    assert!(trie.is_empty() && trie.bytes() < 200_000, "{} bytes are left", trie.bytes());
    println!("removed after {:?}", started.elapsed());
}

/// Everyone at one node, each with a facet of their own.
#[test]
fn a_million_subscribers_of_one_topic_are_told_apart_by_facet() {
    let facet = |n: u32| format!("type-{n:x}.");
    let mut trie = Trie::new();
    for n in 0..1_000_000 {
        assert_eq!(trie.insert(b"*", facet(n).as_bytes(), n), Ok(true));
    }
    assert!(trie.bytes() < 128_000_000, "{} bytes", trie.bytes());
    for n in (0..1_000_000).step_by(17) {
        assert_eq!(seen(&mut trie, b"*", format!("{}created", facet(n)).as_bytes()), [n]);
    }
    for n in 0..1_000_000 {
        assert!(trie.remove(b"*", facet(n).as_bytes(), n));
    }
    assert!(trie.is_empty() && trie.bytes() < 200_000, "{} bytes are left", trie.bytes());
}
