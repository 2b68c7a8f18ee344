//! The bytes of an object's values, for the protocols that pass a part of an event on as it came.
//! The parser's tape has values but no positions, so the text is walked once more, from quote to
//! quote.

/// The values of a JSON object in the order they are written, each as its bytes, quotes and escapes
/// included.
///
/// The text must be valid JSON; anything else yields arbitrary parts of it and never panics.
pub(super) fn values(object: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = inside(object, b'{', b'}');
    std::iter::from_fn(move || {
        // In valid JSON the first quote opens a key, and the first colon behind it ends it.
        let key = rest.iter().position(|byte| *byte == b'"')?;
        let after = &rest[key + string(&rest[key..])..];
        let colon = after.iter().position(|byte| *byte == b':')?;

        let value = after[colon + 1..].trim_ascii_start();
        let end = end(value);
        // Behind the last value there is no comma to skip.
        rest = value.get(end + 1..).unwrap_or_default();
        Some(value[..end].trim_ascii_end())
    })
}

/// The elements of a JSON array in order, each as its bytes. The text must be valid JSON, as for
/// [`values`].
pub(super) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = inside(array, b'[', b']').trim_ascii_start();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = end(rest);
        let element = rest[..end].trim_ascii_end();
        rest = rest.get(end + 1..).unwrap_or_default().trim_ascii_start();
        Some(element)
    })
}

/// The text between its outer brackets.
fn inside(text: &[u8], open: u8, close: u8) -> &[u8] {
    let rest = text.trim_ascii().strip_prefix(&[open]);
    rest.and_then(|rest| rest.strip_suffix(&[close])).unwrap_or_default()
}

/// Bytes from the start of a value to the comma after it, or to the end.
fn end(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                // Commas and brackets inside of a string are text.
                at += string(&text[at..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Bytes of the string that the text begins with, both quotes included.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if text[at - 1] == b'"' {
            return at;
        }
        // The escaped byte: of `\u` the digits behind it are ordinary text.
        at += 1;
    }
    text.len()
}
