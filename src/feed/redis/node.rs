//! The id of one of several daemons that share a Redis, by which it recognizes its own messages.

use crate::text::hex;

/// A daemon's id, made at its start.
#[derive(Clone, Debug)]
pub struct RelayNode {
    /// How everything that it relays begins.
    start: String,
}

impl RelayNode {
    /// An id of random bytes: a UUID, version 4 (RFC 9562).
    #[must_use]
    pub fn new(mut random: [u8; 16]) -> Self {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let digits = hex(&random);
        let [a, b, c, d, e] =
            [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Self { start: format!("{{\"node\":\"{a}-{b}-{c}-{d}-{e}\"") }
    }

    /// A JSON object with this daemon's id as its first key. `None` when the text is not an object.
    #[must_use]
    pub fn sign(&self, object: &str) -> Option<String> {
        let rest = object.trim_start().strip_prefix('{')?.trim_start();
        // An empty object gets no comma.
        let comma = if rest.starts_with('}') { "" } else { "," };
        Some(format!("{}{comma}{rest}", self.start))
    }

    /// Whether this daemon has sent it. No other daemon's messages begin like this.
    #[must_use]
    pub fn is_own(&self, payload: &[u8]) -> bool {
        payload.starts_with(self.start.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_signs_and_knows_its_own_words() {
        let (this, other) = (RelayNode::new([0xff; 16]), RelayNode::new([0; 16]));
        let said = this.sign("{\"channel\":\"chat:1\",\"data\":{}}").unwrap();
        assert_eq!(
            said,
            r#"{"node":"ffffffff-ffff-4fff-bfff-ffffffffffff","channel":"chat:1","data":{}}"#
        );
        assert!(this.is_own(said.as_bytes()) && !other.is_own(said.as_bytes()));
        assert_eq!(
            other.sign(" { } ").unwrap(),
            "{\"node\":\"00000000-0000-4000-8000-000000000000\"} "
        );
        assert_eq!(this.sign("[]"), None);
    }
}
