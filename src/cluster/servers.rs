//! The addresses of the NATS servers: `nats://user:password@host:port`, or `tls://`, separated by
//! commas.

use crate::setting::Secret;
use http::Uri;
use percent_encoding::percent_decode_str;
use std::fmt;

const FORM: &str = "write nats://user:password@host:4222, or tls:// for TLS, several separated by \
                    commas, with any / : @ # ? , of the password as %2F %3A %40 %23 %3F %2C";

/// The port of a NATS server that names none.
const PORT: u16 = 4222;
/// Most servers that are named; a cluster of JetStream has three or five.
const SERVERS_MAX: usize = 16;

/// The servers of the engine, displayed without user and password.
#[derive(Clone)]
pub struct NatsServers {
    /// Host and port of each, a literal IPv6 address in brackets.
    places: Vec<String>,
    is_encrypted: bool,
    login: Option<NatsLogin>,
}

/// The login that the addresses carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsLogin {
    /// User and password.
    User(String, Secret),
    /// A token, which stands in the place of the user.
    Token(Secret),
}

impl NatsServers {
    /// Reads the addresses.
    ///
    /// # Errors
    /// When one is not an address, or they contradict each other; without the text, which may
    /// contain a password.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("not the address of a NATS server: {FORM}");
        let (mut places, mut schemes, mut login) = (Vec::new(), Vec::new(), None);
        for text in text.trim().split(',').map(str::trim) {
            let uri: Uri = text.parse().map_err(|_| wrong())?;
            let authority = uri.authority().ok_or_else(wrong)?;
            let host = authority.host();
            let has_path = !matches!(uri.path(), "" | "/") || uri.query().is_some();
            if host.is_empty() || has_path {
                return Err(wrong());
            }
            schemes.push(match uri.scheme_str() {
                Some("nats") => false,
                Some("tls") => true,
                _ => return Err(wrong()),
            });
            places.push(format!("{host}:{}", authority.port_u16().unwrap_or(PORT)));

            let Some((user, _)) = authority.as_str().rsplit_once('@') else { continue };
            let found = Some(NatsLogin::read(user).ok_or_else(wrong)?);
            // The client logs in to every server as the same user.
            if login.is_some() && login != found {
                return Err(format!("the servers have different users: give one; {FORM}"));
            }
            login = found;
        }

        if places.len() > SERVERS_MAX {
            return Err(format!("more than {SERVERS_MAX} servers"));
        }
        let is_encrypted = schemes[0];
        if schemes.iter().any(|scheme| *scheme != is_encrypted) {
            return Err(format!("nats:// and tls:// are mixed: write all alike; {FORM}"));
        }
        Ok(Self { places, is_encrypted, login })
    }

    /// The URLs, without the login.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.is_encrypted { "tls" } else { "nats" };
        self.places.iter().map(|place| format!("{scheme}://{place}")).collect()
    }

    /// The login, if there is one.
    #[must_use]
    pub fn login(&self) -> Option<&NatsLogin> {
        self.login.as_ref()
    }

    /// Whether TLS is demanded.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }
}

impl NatsLogin {
    /// Reads what stands before the host.
    fn read(text: &str) -> Option<Self> {
        let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Some(Self::User(decoded(user)?, Secret(decoded(password)?)))
            }
            None if !text.is_empty() => Some(Self::Token(Secret(decoded(text)?))),
            _ => None,
        }
    }
}

impl fmt::Display for NatsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls().join(","))
    }
}

impl fmt::Debug for NatsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_user_and_password() {
        let user = |password: &str| NatsLogin::User("ann".into(), Secret(password.into()));
        for (text, shown, login) in [
            ("nats://127.0.0.1", "nats://127.0.0.1:4222", None),
            (
                "nats://ann:hunter2%40%2F@n1:1,nats://n2\n",
                "nats://n1:1,nats://n2:4222",
                Some(user("hunter2@/")),
            ),
            (
                "tls://ann:hunter2@[::1]:5, tls://ann:hunter2@n2",
                "tls://[::1]:5,tls://n2:4222",
                Some(user("hunter2")),
            ),
            (
                "nats://hunter2@n1/",
                "nats://n1:4222",
                Some(NatsLogin::Token(Secret("hunter2".into()))),
            ),
        ] {
            let servers = NatsServers::read(text).unwrap();
            assert_eq!(servers.to_string(), shown);
            assert_eq!(servers.login(), login.as_ref());
            assert!(!format!("{servers:?} {:?}", servers.login()).contains("hunter2"));
            assert_eq!(servers.is_encrypted(), shown.starts_with("tls"));
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_text() {
        for text in [
            "",
            "hunter2",
            "http://hunter2@host/",
            "nats://:hunter2@host",
            "nats://a:hunter2@host/x",
            "nats://a:hunter2@host,",
            "nats://a:hunter2@host,tls://host",
            "nats://a:hunter2@host,nats://b:hunter2@host",
            "nats://a:hunter2@",
        ] {
            let problem = NatsServers::read(text).unwrap_err();
            assert!(
                problem.contains("nats://user:password@host:4222") && !problem.contains("hunter2"),
                "{text}: {problem}"
            );
        }
        assert!(NatsServers::read(&["nats://h"; 17].join(",")).unwrap_err().contains("more than"));
    }
}
