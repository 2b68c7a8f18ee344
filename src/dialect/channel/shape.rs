//! The part of a message's data that is passed on, and to which users.

use super::settings::ChannelSettings;
use super::target::MessageTarget;
use crate::json::{self, RawValue, quoted};

/// The key that names the user whom a message is for.
const TARGET: &str = "target_user_id";

/// The data of a message as they are broadcast.
pub(super) struct Shaped<'a> {
    data: &'a RawValue,
    keys: Option<&'a [String]>,
    /// The user they are for, where messages of this kind can be for one user.
    target: Option<MessageTarget<'a>>,
}

impl<'a> Shaped<'a> {
    /// The data of a message in this channel; an object.
    pub(super) fn new(channel: &str, data: &'a RawValue, settings: &'a ChannelSettings) -> Self {
        let kind = kind(channel);
        let is_targeted = settings.targeted.iter().any(|targeted| targeted == kind);
        // Read only where it counts: elsewhere the key is data like any other.
        let target = is_targeted.then(|| {
            MessageTarget::read(json::last(data.get(), [TARGET]).and_then(|[value]| value))
        });
        Self { data, keys: settings.shape.get(kind).map(Vec::as_slice), target }
    }

    /// The user they are for.
    pub(super) fn target(&self) -> &MessageTarget<'a> {
        self.target.as_ref().unwrap_or(&MessageTarget::Everyone)
    }

    /// Appends them as JSON, with the values verbatim.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self.keys {
            Some(keys) => self.put_keys(keys, out),
            None if self.target.is_some() => self.put_all_but_the_target(out),
            None => out.extend_from_slice(self.data.get().as_bytes()),
        }
    }

    fn put_keys(&self, keys: &[String], out: &mut Vec<u8>) {
        let members = json::all(self.data.get()).unwrap_or_default();
        // In the order of the settings, not of the message.
        let shown = keys.iter().filter(|key| !self.hides(key)).filter_map(|key| {
            // The last of a repeated key, as in JavaScript and PHP.
            let (_, value) = members.iter().rev().find(|(name, _)| json::is(name, key))?;
            Some((quoted(key), *value))
        });
        json::put_object(shown, out);
    }

    fn put_all_but_the_target(&self, out: &mut Vec<u8>) {
        let members = json::all(self.data.get()).unwrap_or_default();
        let passed = members.iter().filter(|(name, _)| !json::is(name, TARGET));
        json::put_object(passed.map(|(name, value)| (name.get(), *value)), out);
    }

    fn hides(&self, key: &str) -> bool {
        self.target.is_some() && key == TARGET
    }
}

/// The kind of a channel, which decides how its messages are passed on.
fn kind(channel: &str) -> &str {
    channel.split(':').next().unwrap_or(channel)
}
