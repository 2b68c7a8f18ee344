//! The signatures of clients: an app's own server has signed what a client may do, with the secret
//! that it shares with us. A signature holds for one connection, whose socket id is part of the
//! signed text.

use super::app::App;
use super::signature::is_signed;
use super::socket::SocketId;

/// A signed permission.
#[derive(Clone, Copy)]
pub(super) enum Signed<'a> {
    /// A subscription: the channel, and who subscribes.
    Subscription(&'a str, Option<&'a str>),
    /// A sign-in: the user's data.
    User(&'a str),
}

/// Whether `auth` is valid: the app's key, a colon, and a signature in lower-case hexadecimal
/// digits.
pub(super) fn is_good(app: &App, socket: SocketId, signed: Signed<'_>, auth: &str) -> bool {
    // The key is compared first: a signature of another app would fail anyway, but costs an HMAC.
    let digits = auth.strip_prefix(&*app.settings.key).and_then(|rest| rest.strip_prefix(':'));
    let Some(digits) = digits else { return false };
    let socket = socket.to_string();
    // Libraries sign `channel_data` only if there is one; an empty one has its colon nevertheless.
    let parts: &[&str] = match signed {
        Signed::Subscription(channel, None) => &[&socket, ":", channel],
        Signed::Subscription(channel, Some(data)) => &[&socket, ":", channel, ":", data],
        Signed::User(data) => &[&socket, "::user::", data],
    };
    is_signed(app, parts.iter().map(|part| part.as_bytes()), digits)
}

#[cfg(test)]
mod tests {
    use super::super::app::AppSettings;
    use super::*;
    use crate::setting::Secret;

    const SOCKET: SocketId = SocketId(1234 << 32 | 1234);

    fn app(key: &str, secret: &str) -> App {
        App::new(AppSettings { key: key.into(), ..AppSettings::default() }, Secret(secret.into()))
    }

    #[test]
    fn the_signatures_of_the_reference_are_good_and_nothing_near_them_is() {
        let app = app("278d425bdf160c739803", "7ad3773142a6692b25b8");
        let member = r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#;
        for (signed, digits) in [
            (
                Signed::Subscription("private-foobar", None),
                "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
            ),
            (
                Signed::Subscription("presence-foobar", Some(member)),
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            ),
            (
                Signed::User(r#"{"id":"12345"}"#),
                "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
            ),
        ] {
            let good = format!("278d425bdf160c739803:{digits}");
            assert!(is_good(&app, SOCKET, signed, &good), "{digits}");
            assert!(!is_good(&app, SocketId(1), signed, &good));
            let upper = format!("278d425bdf160c739803:{}", digits.to_uppercase());
            let other_key = format!("278d425bdf160c739804:{digits}");
            for bad in ["", ":", digits, &good[..84], &format!("{good}0"), &upper, &other_key] {
                assert!(!is_good(&app, SOCKET, signed, bad), "{bad}");
            }
        }
    }

    #[test]
    fn the_worked_examples_are_signed_as_they_say() {
        let app = app("app-key", "app-secret");
        for (channel, digits) in [
            ("private-Chat.1", "138cad1ae9a9977bb38b9b4df13c4bc69aeea8db94776e47190df96767284dda"),
            (
                "private-TestChannel.3",
                "79eb89dc183d5839679ef1b0409f8e23ad77f2bda9da4b221aef4705f47cbbec",
            ),
        ] {
            let signed = Signed::Subscription(channel, None);
            assert!(is_good(&app, SOCKET, signed, &format!("app-key:{digits}")));
        }
    }
}
