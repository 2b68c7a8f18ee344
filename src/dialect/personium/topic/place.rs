//! Places of topics, `cell/box/path`.

use crate::dialect::Upgrade;
use crate::dialect::personium::cell::{cell_of_host, is_name, is_segment};
use crate::text::percent_decoded;

/// Longest `cell/box/path`, in bytes: what the address of a feed can name, see
/// [`ADDRESS_BYTES_MAX`](crate::feed::ADDRESS_BYTES_MAX).
pub(super) const PLACE_BYTES_MAX: usize = 1024 - "topic/".len();

/// The `cell/box/path` of a request. Whether the topic exists is checked with the token.
pub(super) fn place_of(upgrade: &Upgrade<'_>) -> Option<String> {
    let mut segments = upgrade.path.strip_prefix('/')?.split('/');
    let cell = match segments.next()? {
        // Without a cell in the path, the host names it.
        "__topic" => cell_of_host(upgrade.host)?.into(),
        cell => (segments.next()? == "__topic").then(|| percent_decoded(cell))??,
    };
    let (inbox, path) = (percent_decoded(segments.next()?)?, percent_decoded(segments.next()?)?);
    let well_formed =
        is_name(&cell) && is_name(&inbox) && is_segment(&path) && segments.next().is_none();
    let place = format!("{cell}/{inbox}/{path}");
    (well_formed && place.len() <= PLACE_BYTES_MAX).then_some(place)
}

/// Whether a path is a topic's: a collection of one or more parts, the word "topic", a name.
pub(super) fn is_topic(path: &str) -> bool {
    let mut parts = path.rsplit('.');
    let (name, word) = (parts.next(), parts.next());
    let mut collection = parts.peekable();
    name.is_some_and(|name| !name.is_empty())
        && word == Some("topic")
        && collection.peek().is_some()
        && collection.all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_a_collection_the_word_and_a_name() {
        for (path, expected) in [
            ("c.topic.n", true),
            ("dir.c.topic.n", true),
            ("c.topic.topic", true),
            ("topic.n", false),
            (".topic.n", false),
            ("c..topic.n", false),
            ("c.topic.", false),
            ("c.queue.n", false),
            ("c.topic.n.more", false),
            ("c", false),
            ("", false),
        ] {
            assert_eq!(is_topic(path), expected, "{path}");
        }
    }
}
