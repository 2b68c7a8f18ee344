//! Text from outside: shortened for logs, and decoded.

use crate::digest::sha256;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The first characters of a text.
///
/// ```
/// assert_eq!(fanfare::text::start("häuser", 3), "häu");
/// ```
#[must_use]
pub fn start(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

/// The first characters of a text in one line, for a log or an error: control characters, quotes
/// and backslashes are escaped.
///
/// ```
/// assert_eq!(fanfare::text::excerpt("a\n\"b\" and more", 4), r#"a\n\"b"#);
/// ```
#[must_use]
pub fn excerpt(text: &str, chars_max: usize) -> String {
    start(text, chars_max).chars().flat_map(char::escape_debug).collect()
}

/// Bytes as lower-case hexadecimal digits.
///
/// ```
/// assert_eq!(fanfare::text::hex(&[0, 0xaf]), "00af");
/// ```
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// The SHA-256 of a text as hexadecimal digits: it stands for a secret where that must not be.
pub(crate) fn digest_of(text: &str) -> String {
    hex(&sha256(text.as_bytes()))
}

/// The text of a part of a URL; `None` when it is not UTF-8.
///
/// ```
/// assert_eq!(fanfare::text::percent_decoded("a%2Fb").as_deref(), Some("a/b"));
/// assert_eq!(fanfare::text::percent_decoded("%ff"), None);
/// ```
#[must_use]
pub fn percent_decoded(part: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(part).decode_utf8().ok()
}

/// Reads base64 as Java's basic decoder does: padding is optional, unused trailing bits are
/// ignored.
pub const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Appends bytes as padded base64.
///
/// ```
/// let mut out = b"x:".to_vec();
/// fanfare::text::put_base64(b"hi", &mut out);
/// assert_eq!(out, b"x:aGk=");
/// ```
pub fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // Padded base64 has four characters for each three bytes begun, so encoding into this slice
    // cannot fail.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = LENIENT_BASE64.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}
