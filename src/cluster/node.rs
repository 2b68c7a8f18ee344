//! The names of nodes.

use crate::bytes::Cursor;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Longest name of a node or a cluster, in bytes: a host's name.
const NAME_BYTES_MAX: usize = 64;

/// The name of a node: letters, digits, `-` and `_`, so that it can be a token of a NATS subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// A valid name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_named = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_valid);
        is_named.then(|| Self(name.into()))
    }

    /// Reads a name as [`NodeName::encode`] writes it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let length = cursor.byte()?;
        Self::new(cursor.text(length.into())?)
    }

    /// Appends its length, a byte, and itself.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        // A name has at most `NAME_BYTES_MAX` bytes.
        out.push(self.0.len() as u8);
        out.extend_from_slice(self.0.as_bytes());
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NodeName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or("not the name of a node")
    }
}

/// One run of a node: another start of it is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// The node.
    pub name: NodeName,
    /// Random at each start.
    pub incarnation: u64,
}
