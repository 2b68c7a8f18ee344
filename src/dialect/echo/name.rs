//! Names of channels, and what they say of the channel.

/// Longest name of a channel, in bytes; Pusher's.
const NAME_BYTES_MAX: usize = 164;
/// Longest id in the name of a user's own channel, in characters.
const USER_CHARS_MAX: usize = 128;
/// What the name of a user's own channel begins with.
const USER: &str = "#server-to-user-";

/// Who may subscribe to a channel, and what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody.
    Public,
    /// Whoever has a signature. Events of `private-encrypted-` channels are opaque here.
    Private,
    /// Whoever has a signature of who they are; the members know each other.
    Presence,
    /// The user of this id, signed in.
    User,
}

/// What a channel's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelKind {
    /// Who may subscribe.
    pub(super) access: Access,
    /// Whether the last event is kept for those who come later.
    pub(super) is_cache: bool,
}

impl ChannelKind {
    /// Reads a channel's name; `None` when it is none.
    pub(super) fn of(name: &str) -> Option<Self> {
        if user_of(name).is_some() {
            return Some(Self { access: Access::User, is_cache: false });
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=@,.;".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
            return None;
        }
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

/// Whether a public name has that of a private or presence channel inside. On a Redis whose applications have prefixes
/// of which one begins like the other it is how a private channel of the longer prefix looks from the shorter one.
pub(super) fn hides_private(name: &str) -> bool {
    let marks = ["private-", "presence-"];
    !marks.iter().any(|mark| name.starts_with(mark)) && marks.iter().any(|mark| name.contains(mark))
}

/// The user whose own channel it is.
pub(super) fn user_of(channel: &str) -> Option<&str> {
    let user = channel.strip_prefix(USER)?;
    // A NUL ends a topic: the user before it would get what is for this one.
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
