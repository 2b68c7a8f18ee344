//! What of a message's data goes on to the others, and to whom.

use super::fields;
use super::target::{MessageTarget, quoted};
use super::{ChannelSettings, kind};
use serde_json::value::RawValue;

/// The key that says whom a message is for.
const TARGET: &str = "target_user_id";

/// The data of a message in the form in which they are broadcast.
pub(super) struct Shaped<'a> {
    data: &'a RawValue,
    keys: Option<&'a [String]>,
    /// Whom they are for, where messages of this kind can be for one user.
    target: Option<MessageTarget<'a>>,
}

impl<'a> Shaped<'a> {
    /// The data of a message in this channel; they are an object.
    pub(super) fn new(channel: &str, data: &'a RawValue, settings: &'a ChannelSettings) -> Self {
        let kind = kind(channel);
        let is_targeted = settings.targeted.iter().any(|targeted| targeted == kind);
        let target = || fields::last(data.get(), [TARGET]).and_then(|[value]| value);
        Self {
            data,
            keys: settings.shape.get(kind).map(Vec::as_slice),
            target: is_targeted.then(|| MessageTarget::read(target())),
        }
    }

    /// Whom they are for.
    pub(super) fn target(&self) -> &MessageTarget<'a> {
        self.target.as_ref().unwrap_or(&MessageTarget::Everyone)
    }

    /// Appends them as JSON, the values as they were written.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self.keys {
            Some(keys) => self.put_keys(keys, out),
            None if self.target.is_some() => self.put_all_but_the_target(out),
            None => out.extend_from_slice(self.data.get().as_bytes()),
        }
    }

    fn put_keys(&self, keys: &[String], out: &mut Vec<u8>) {
        let mut found = vec![None; keys.len()];
        fields::each(self.data.get(), |key, value| {
            for (place, wanted) in found.iter_mut().zip(keys) {
                if fields::is(key, wanted) && !self.hides(wanted) {
                    *place = Some(value);
                }
            }
        });
        let fields = keys.iter().zip(&found).filter_map(|(key, value)| Some((quoted(key), (*value)?)));
        put_object(fields, out);
    }

    fn put_all_but_the_target(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::new();
        fields::each(self.data.get(), |key, value| fields.push((key, value)));
        let passed = fields.iter().filter(|(key, _)| !fields::is(key, TARGET));
        put_object(passed.map(|(key, value)| (key.get(), *value)), out);
    }

    fn hides(&self, key: &str) -> bool {
        self.target.is_some() && key == TARGET
    }
}

fn put_object<'v, K: AsRef<str>>(fields: impl Iterator<Item = (K, &'v RawValue)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, value)) in fields.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_ref().as_bytes());
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
}
