//! The address of an event: the cell, and after it the Object, if a rule can match the event.

use crate::dialect::Upgrade;
use crate::dialect::personium::cell::{cell_of_host, is_name};
use crate::text::percent_decoded;
use std::borrow::Cow;

/// The byte that starts this dialect's topics.
pub(super) const TOPIC: u8 = b'p';
/// Follows the cell in the topic of an event with both Type and Object.
pub(super) const NAMED: u8 = 1;
/// Follows the cell in the topic of an event that no rule can match, because one of them is null.
pub(super) const UNNAMED: u8 = 2;

/// The topic of an event with a Type and this Object, or the prefix of those whose Objects begin so.
pub(super) fn named<'a>(cell: &'a str, object: &'a [u8]) -> [&'a [u8]; 5] {
    [&[TOPIC], cell.as_bytes(), b"\0", &[NAMED], object]
}

/// The place of an event's topic: the cell, and behind a slash the Object, if it has one.
pub(super) fn place_of(topic: &str) -> String {
    let (cell, rest) = topic.split_once('\0').unwrap_or((topic, ""));
    match rest.strip_prefix(char::from(NAMED)) {
        Some(object) => format!("{cell}/{object}"),
        None => cell.to_owned(),
    }
}

/// The prefix of every event of a cell.
pub(super) fn watch(cell: &str) -> [&[u8]; 3] {
    [&[TOPIC], cell.as_bytes(), b"\0"]
}

/// The cell of a request: the path before `/__event`, or else the host up to its first dot.
pub(super) fn cell_of<'a>(upgrade: &Upgrade<'a>) -> Option<Cow<'a, str>> {
    let path = upgrade.path.strip_suffix('/').unwrap_or(upgrade.path);
    let before = path.strip_suffix("/__event")?;
    match before.strip_prefix('/') {
        Some(cell) => percent_decoded(cell).filter(|cell| is_name(cell)),
        None if before.is_empty() => cell_of_host(upgrade.host).map(Cow::Borrowed),
        None => None,
    }
}
