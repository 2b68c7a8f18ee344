//! Names of channels, and what a name says about its channel.

/// Longest name of a channel, in bytes; Pusher's.
const NAME_BYTES_MAX: usize = 164;
/// Longest id in the name of a user's own channel, in characters.
const USER_CHARS_MAX: usize = 128;
/// What the name of a user's own channel begins with.
const USER: &str = "#server-to-user-";

/// Who may subscribe to a channel, and what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Every client.
    Public,
    /// Clients with a signature. Events of `private-encrypted-` channels are opaque here.
    Private,
    /// Clients with a signature of their identity; the members know each other.
    Presence,
    /// The user with this id, signed in.
    User,
}

/// The properties of a channel that its name determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelKind {
    /// Who may subscribe.
    pub(super) access: Access,
    /// Whether the last event is kept for later subscribers.
    pub(super) is_cache: bool,
}

impl ChannelKind {
    /// Reads a channel's name; `None` when it is invalid.
    pub(super) fn of(name: &str) -> Option<Self> {
        // First, because the id in it may have any characters.
        if user_of(name).is_some() {
            return Some(Self { access: Access::User, is_cache: false });
        }
        // Pusher's set: names go into URLs of the HTTP API as they are.
        let is_valid = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=@,.;".contains(&byte));
        if !is_valid {
            return None;
        }

        // The longer prefix first: the shorter one is part of it.
        let (access, rest) = if let Some(rest) = name.strip_prefix("private-encrypted-") {
            (Access::Private, rest)
        } else if let Some(rest) = name.strip_prefix("private-") {
            (Access::Private, rest)
        } else if let Some(rest) = name.strip_prefix("presence-") {
            (Access::Presence, rest)
        } else {
            (Access::Public, name)
        };
        Some(Self { access, is_cache: rest.starts_with("cache-") })
    }
}

/// Whether a public name contains that of a private or presence channel. On a Redis with two
/// prefixes of which one begins like the other, this is how a private channel of the longer prefix
/// looks from the shorter one.
pub(super) fn hides_private(name: &str) -> bool {
    let marks = ["private-", "presence-"];
    !marks.iter().any(|mark| name.starts_with(mark)) && marks.iter().any(|mark| name.contains(mark))
}

/// The user whose own channel this is.
pub(super) fn user_of(channel: &str) -> Option<&str> {
    let user = channel.strip_prefix(USER)?;
    // A NUL ends a topic: the user whose id ends there would get this user's events.
    ((1..=USER_CHARS_MAX).contains(&user.chars().count()) && !user.contains('\0')).then_some(user)
}

/// The name of a user's own channel.
pub(super) fn channel_of(user: &str) -> String {
    format!("{USER}{user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_may_subscribe_and_whether_the_last_event_is_kept() {
        for (name, access, is_cache) in [
            ("room", Access::Public, false),
            ("cache-x", Access::Public, true),
            ("private-x", Access::Private, false),
            ("private-cache-x", Access::Private, true),
            ("private-encrypted-x", Access::Private, false),
            ("private-encrypted-cache-x", Access::Private, true),
            ("presence-x", Access::Presence, false),
            ("presence-cache-x", Access::Presence, true),
            ("presence", Access::Public, false),
            ("#server-to-user-7", Access::User, false),
            ("a-Z0_=@,.;", Access::Public, false),
        ] {
            assert_eq!(ChannelKind::of(name), Some(ChannelKind { access, is_cache }), "{name}");
        }
        let long = "x".repeat(NAME_BYTES_MAX);
        assert!(ChannelKind::of(&long).is_some() && ChannelKind::of(&(long + "x")).is_none());
        for bad in [
            "",
            "a b",
            "a/b",
            "a#b",
            "#",
            "#server-to-user-",
            "é",
            "a\0",
            "a:b",
            "#server-to-user-a\0b",
        ] {
            assert_eq!(ChannelKind::of(bad), None, "{bad}");
        }
        assert_eq!(user_of(&channel_of("é 7")), Some("é 7"));
        assert!(user_of(&channel_of(&"x".repeat(USER_CHARS_MAX + 1))).is_none());
    }
}
