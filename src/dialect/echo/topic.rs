//! The topics of an app's channels: the app's id, a NUL, the channel's name and a NUL.

/// The byte that starts this dialect's topics.
pub(super) const TOPIC: u8 = b'e';

/// The topic of a channel.
#[must_use]
pub fn topic_of(app: &str, channel: &str) -> Vec<u8> {
    topic(app, channel).concat()
}

/// The topic of a channel, in parts.
pub(super) fn topic<'a>(app: &'a str, channel: &'a str) -> [&'a [u8]; 5] {
    [&[TOPIC], app.as_bytes(), b"\0", channel.as_bytes(), b"\0"]
}
