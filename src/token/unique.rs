//! A JSON object in which no name comes twice.
//!
//! Of two values one would decide what a token grants, and another reader would take the other (RFC 8259 section 4). RFC
//! 7519 section 4 has such claims refused. What stands deeper decides nothing, and is read as usual.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Why there is no object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// The bytes are no JSON object.
    NoObject,
    /// A name comes twice.
    Repeated,
}

/// Reads an object.
pub(super) fn object(json: &[u8]) -> Result<Map<String, Value>, Flaw> {
    let Members { members, is_repeated } = serde_json::from_slice(json).map_err(|_| Flaw::NoObject)?;
    if is_repeated { Err(Flaw::Repeated) } else { Ok(members) }
}

/// The members of an object, and whether one of them has come more than once.
#[derive(Default)]
struct Members {
    members: Map<String, Value>,
    is_repeated: bool,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
        let mut found = Members::default();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            found.is_repeated |= found.members.insert(name, value).is_some();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_come_once_however_it_is_spelled() {
        let good = object(br#"{"a":1,"A":2,"b":{"a":1,"a":2}}"#).unwrap();
        assert_eq!((good.len(), &good["b"]["a"]), (3, &Value::from(2)));
        for twice in [&br#"{"a":1,"a":1}"#[..], br#"{"a":1,"b":2,"\u0061":3}"#] {
            assert_eq!(object(twice), Err(Flaw::Repeated));
        }
        for other in [&b"[]"[..], b"1", b"null", b"{", b"", b"{\"a\":1} x"] {
            assert_eq!(object(other), Err(Flaw::NoObject));
        }
    }
}
