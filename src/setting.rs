//! What settings of several modules have in common. Each module declares its own beside its code; `config` composes them.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// The longest event or message, in bytes, that a setting may allow. Escaping can make six bytes of one and a turn takes
/// many, while positions in a turn's tables have 32 bits.
pub const LONGEST_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A secret as it was written, or a URL that may have a password in it. It never shows in logs or errors.
#[derive(Clone, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
