//! A list's patterns by the texts that they begin with: a radix tree, built once and never changed.
//!
//! One walk along a text meets every pattern that can match it, negative and positive. The nodes of
//! one level are adjacent, so a tree is three allocations, whatever its size.

use super::pattern::{AclSubject, Pattern, Who};
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Box<[AclNode]>,
    entries: Box<[AclEntry]>,
    labels: Box<[u8]>,
}

#[derive(Debug)]
struct AclEntry {
    is_negative: bool,
    pattern: Pattern,
}

/// A text that patterns begin with. Ranges are positions in the tree's lists.
#[derive(Debug, Default)]
struct AclNode {
    /// The first byte of the label, or anything at the root.
    first: u8,
    /// Whether a negative pattern is here or below.
    denies: bool,
    /// The part of the text that follows the parent's.
    label: AclSpan,
    /// Patterns that begin with exactly this text, negative ones first.
    entries: AclSpan,
    children: AclSpan,
}

/// A range; the lists are short enough for 32 bits.
#[derive(Clone, Copy, Debug, Default)]
struct AclSpan(u32, u32);

impl AclSpan {
    fn of(range: Range<usize>) -> Self {
        Self(range.start as u32, range.end as u32)
    }

    fn range(self) -> Range<usize> {
        self.0 as usize..self.1 as usize
    }
}

/// A pattern before it is in the tree.
struct AclSource {
    prefix: Vec<u8>,
    entry: AclEntry,
}

impl Tree {
    /// A tree of patterns, of which those that begin with `!` are negative.
    pub(super) fn new(patterns: &[&str]) -> Self {
        let mut sources: Vec<AclSource> = patterns
            .iter()
            .map(|pattern| {
                let negative = pattern.strip_prefix('!');
                let (prefix, pattern) = Pattern::new(negative.unwrap_or(pattern));
                AclSource { prefix, entry: AclEntry { is_negative: negative.is_some(), pattern } }
            })
            .collect();
        // Negative ones first: they can end the walk at a node.
        sources.sort_by(|one, other| {
            one.prefix.cmp(&other.prefix).then(other.entry.is_negative.cmp(&one.entry.is_negative))
        });

        let (mut nodes, labels) = grow(&sources);
        // Children come after their parents, so from the back each node's children are done.
        for at in (0..nodes.len()).rev() {
            let node = &nodes[at];
            let denies =
                sources[node.entries.range()].iter().any(|source| source.entry.is_negative)
                    || nodes[node.children.range()].iter().any(|child| child.denies);
            nodes[at].denies = denies;
        }

        let entries = sources.into_iter().map(|source| source.entry).collect();
        Self { nodes: nodes.into(), entries, labels: labels.into() }
    }

    /// Whether a positive pattern matches the text and no negative one does.
    pub(super) fn allows(&self, text: &[u8], who: Who<'_>) -> bool {
        let mut subject = AclSubject::new(text, who);
        let mut allowed = false;
        let mut at = 0;
        let mut next = self.nodes.first();
        while let Some(node) = next {
            let label = &self.labels[node.label.range()];
            // The root has no label in most lists, and the call costs as much as that of a child.
            if !label.is_empty() && !text[at..].starts_with(label) {
                break;
            }
            at += label.len();
            // A positive match changes nothing any more once there is one.
            for AclEntry { is_negative, pattern } in &self.entries[node.entries.range()] {
                if (*is_negative || !allowed) && pattern.matches(&mut subject, at) {
                    if *is_negative {
                        return false;
                    }
                    allowed = true;
                }
            }
            // No negative pattern is left on the way that could take it back.
            if allowed && !node.denies {
                break;
            }
            let Some(byte) = text.get(at) else { break };
            next = self.nodes[node.children.range()].iter().find(|child| child.first == *byte);
        }
        allowed
    }
}

/// The nodes for sorted patterns, level by level, and their labels.
fn grow(sources: &[AclSource]) -> (Vec<AclNode>, Vec<u8>) {
    let mut nodes = vec![AclNode::default()];
    let mut labels = Vec::new();
    // Of each node: its patterns with those below, and the length of its parent's text.
    let mut spans = vec![(0..sources.len(), 0)];
    let mut at = 0;
    while at < nodes.len() {
        let (span, start) = spans[at].clone();
        let of_node = &sources[span.clone()];
        let (Some(first), Some(last)) = (of_node.first(), of_node.last()) else { break };
        // Sorted, so what the first and the last have in common all of them have.
        let end = common(&first.prefix, &last.prefix);
        let exact = of_node.iter().take_while(|source| source.prefix.len() == end).count();
        let label = labels.len();

        labels.extend_from_slice(&first.prefix[start..end]);
        nodes[at].first = first.prefix.get(start).copied().unwrap_or(0);
        nodes[at].label = AclSpan::of(label..labels.len());
        nodes[at].entries = AclSpan::of(span.start..span.start + exact);

        let children = nodes.len();
        let mut from = span.start + exact;
        for group in of_node[exact..].chunk_by(|one, other| one.prefix[end] == other.prefix[end]) {
            nodes.push(AclNode::default());
            spans.push((from..from + group.len(), end));
            from += group.len();
        }
        nodes[at].children = AclSpan::of(children..nodes.len());
        at += 1;
    }
    (nodes, labels)
}

/// The length of two texts' common prefix.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
