//! Types shared by several modules' settings. Each module declares its settings beside its code;
//! `config` composes them.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// The longest event or message, in bytes, that a setting may allow. Escaping can turn one byte
/// into six and a turn handles many messages, while positions in a turn's tables have 32 bits.
pub const LONGEST_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A secret as written, or a URL that may contain a password. It never shows in logs or errors.
#[derive(Clone, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[schemars(extend("x-secret" = true))]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
