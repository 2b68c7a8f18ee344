//! A JSON object without repeated names.
//!
//! Of two values one would decide what a token grants, while another reader would take the other
//! (RFC 8259 section 4); RFC 7519 section 4 has such claims refused. Nested objects decide nothing,
//! and are read as usual.

use serde_json::{Map, Value};

use crate::json;

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
    let json = std::str::from_utf8(json).map_err(|_| Flaw::NoObject)?;

    let (mut members, mut is_repeated) = (Map::new(), false);
    // Read to the end even then: text that is no object at all is another error.
    let read = json::members(json, |name: String, value: Value| {
        is_repeated |= members.insert(name, value).is_some();
        Ok(())
    });
    match read {
        Err(_) => Err(Flaw::NoObject),
        Ok(()) if is_repeated => Err(Flaw::Repeated),
        Ok(()) => Ok(members),
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
