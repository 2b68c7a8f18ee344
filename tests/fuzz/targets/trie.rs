//! The trie against a plain model of it.

use super::Input;
use fanfare::trie::Trie;
use std::collections::BTreeSet;

/// Maximum length of topics and facets.
const NAME_BYTES_MAX: u8 = 24;

/// The input is a list of steps: the operation, a topic, a facet, a subscriber.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut trie = Trie::new();
    let empty = trie.bytes();
    let mut model: BTreeSet<(Vec<u8>, Vec<u8>, u32)> = BTreeSet::new();
    while !input.0.is_empty() {
        let step = input.byte();
        if step % 8 == 7 {
            // Names of random bytes seldom equal an existing one.
            let count = model.len().max(1);
            let held = model.iter().nth(usize::from(input.byte()) % count).cloned();
            if let Some((topic, facet, subscriber)) = held {
                assert!(trie.remove(&topic, &facet, subscriber));
                model.remove(&(topic, facet, subscriber));
            }
            continue;
        }
        let (topic, facet) = (name(&mut input), name(&mut input));
        let subscriber = u32::from(input.byte());
        match step % 8 {
            0..=4 => {
                let is_new = model.insert((topic.clone(), facet.clone(), subscriber));
                assert_eq!(trie.insert(&topic, &facet, subscriber), Ok(is_new));
            }
            5 => {
                let was_there = model.remove(&(topic.clone(), facet.clone(), subscriber));
                assert_eq!(trie.remove(&topic, &facet, subscriber), was_there);
            }
            _ => agree(&mut trie, &model, &topic, &facet),
        }
        assert_eq!(trie.len(), model.len());
    }
    for (topic, facet, _) in &model {
        agree(&mut trie, &model, topic, facet);
    }
    for (topic, facet, subscriber) in &model {
        assert!(trie.remove(topic, facet, *subscriber));
    }
    assert!(trie.is_empty());
    assert!(trie.bytes() <= empty + (40 << 10), "{} bytes are left", trie.bytes());
}

/// A name: its length and its bytes, of which few differ, so that prefixes overlap.
fn name(input: &mut Input<'_>) -> Vec<u8> {
    let length = input.byte() % (NAME_BYTES_MAX + 1);
    input.take(length.into()).iter().map(|byte| byte & 0x83).collect()
}

fn agree(trie: &mut Trie, model: &BTreeSet<(Vec<u8>, Vec<u8>, u32)>, topic: &[u8], facet: &[u8]) {
    let mut seen = Vec::new();
    trie.matches(topic, facet, |subscriber| seen.push(subscriber));
    seen.sort_unstable();
    let matching =
        model.iter().filter(|rule| topic.starts_with(&rule.0) && facet.starts_with(&rule.1));
    let mut expected: Vec<u32> = matching.map(|rule| rule.2).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected, "of {topic:?} with {facet:?}");
}
