//! Subscriptions of the event bus, by prefixes of an event's Type and Object.

use super::address::named;
use crate::dialect::personium::cell::CELL_BYTES_MAX;
use crate::event::{Value, ValueIntoString as _};
use crate::trie::PREFIX_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest Type and Object of a rule, in bytes: what the trie takes besides the cell. Objects are
/// URLs, which browsers and servers limit to 2 to 8 KB.
const RULE_BYTES_MAX: usize = PREFIX_BYTES_MAX - CELL_BYTES_MAX - 3;

/// A subscription as the client wrote it: two prefixes, where `*` alone is the empty one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EventRule {
    pub(super) kind: Box<str>,
    pub(super) object: Box<str>,
}

impl EventRule {
    /// Reads a rule; `None` when it is malformed or too long.
    pub(super) fn read(value: Value<'_, '_>) -> Option<Self> {
        let object = value.as_object()?;
        let (kind, object) =
            (object.get("Type")?.into_string()?, object.get("Object")?.into_string()?);
        let fits = kind.len() <= RULE_BYTES_MAX && object.len() <= RULE_BYTES_MAX;
        fits.then(|| Self { kind: kind.into(), object: object.into() })
    }

    /// The prefix of the selected topics, in parts.
    pub(super) fn prefix<'a>(&'a self, cell: &'a str) -> [&'a [u8]; 5] {
        named(cell, prefix(&self.object))
    }

    /// The prefix of the selected facets.
    pub(super) fn facet(&self) -> &[u8] {
        prefix(&self.kind)
    }

    /// Hands the rule to an operator's eyes: the cell, the Object's prefix, and the Type's if there
    /// is one.
    pub(super) fn show(&self, cell: &str, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        let [object, kind] =
            [&*self.object, &*self.kind].map(|text| if text == "*" { "" } else { text });
        if kind.is_empty() {
            visit(format_args!("{cell}/{object}*"));
        } else {
            visit(format_args!("{cell}/{object}* of type {kind}*"));
        }
    }

    /// Bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        self.kind.len() + self.object.len()
    }

    /// Whether two rules are one subscription despite different texts: `*` and the empty prefix.
    pub(super) fn selects_the_same(&self, other: &EventRule) -> bool {
        prefix(&self.object) == prefix(&other.object) && self.facet() == other.facet()
    }
}

fn prefix(pattern: &str) -> &[u8] {
    if pattern == "*" { b"" } else { pattern.as_bytes() }
}
