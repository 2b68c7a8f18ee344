//! The address of a Redis: `redis://user:password@host:port/db`, `rediss://` for TLS, or
//! `redis+unix:///path?user=…&pass=…`.

use redis::{ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo};
use std::fmt;
use std::path::PathBuf;

const FORM: &str = "write redis://user:password@host:6379, rediss:// for TLS, or \
                    redis+unix:///run/redis/redis.sock?user=…&pass=…, with any / : @ # ? of the \
                    password as %2F %3A %40 %23 %3F; without a user, redis://:password@host:6379";

/// The address of a Redis, displayed without user and password.
#[derive(Clone)]
pub struct Server {
    place: RedisPlace,
    login: RedisConnectionInfo,
}

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// Name or address, and port.
    Tcp(String, u16),
    /// Host and port, over TLS.
    Tls(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl Server {
    /// Reads an address. The database's number is ignored: Pub/Sub spans all databases.
    ///
    /// # Errors
    /// When it is not an address; without the text, which may contain a password.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("not the address of a Redis: {FORM}");
        // The parser reads a fragment as "#insecure": accept any certificate.
        if text.contains('#') {
            return Err(wrong());
        }
        // The client is built without TLS of its own, and refuses the scheme; `io` adds TLS.
        let encrypted = text.strip_prefix("rediss://");
        let plain = encrypted.map_or_else(|| text.to_owned(), |rest| format!("redis://{rest}"));
        let info = plain.as_str().into_connection_info().map_err(|_| wrong())?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) if encrypted.is_some() => {
                RedisPlace::Tls(host.clone(), *port)
            }
            ConnectionAddr::Tcp(host, port) => RedisPlace::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => RedisPlace::Unix(path.clone()),
            _ => return Err(wrong()),
        };

        let login = info.redis_settings().clone();
        // The client would ignore the user and log in as the default one.
        if login.username().is_some() && login.password().is_none() {
            return Err(format!("a user without a password: {FORM}"));
        }
        // Version 2 of the protocol is understood by every server, and Pub/Sub needs no more.
        Ok(Self {
            place,
            login: login.set_db(0).set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> &RedisPlace {
        &self.place
    }

    /// The login in the Redis client's types, password included.
    #[must_use]
    pub fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.place, RedisPlace::Tls(..))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match &self.place {
            RedisPlace::Unix(path) => return write!(f, "redis+unix://{}", path.display()),
            RedisPlace::Tcp(host, port) => ("redis", host, port),
            RedisPlace::Tls(host, port) => ("rediss", host, port),
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(f, "{scheme}://{host}:{port}")
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_and_password() {
        for (text, shown, user, password) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379", None, None),
            (
                "redis://ann:hunter2@redis.example:7000/3\n",
                "redis://redis.example:7000",
                Some("ann"),
                Some("hunter2"),
            ),
            (
                "redis://:hunter2@redis.example/",
                "redis://redis.example:6379",
                None,
                Some("hunter2"),
            ),
            (
                "rediss://ann:hunter2%40%2F@[::1]:6380",
                "rediss://[::1]:6380",
                Some("ann"),
                Some("hunter2@/"),
            ),
            ("redis+unix:///run/r.sock", "redis+unix:///run/r.sock", None, None),
            (
                "redis+unix:///run/r.sock?db=1&user=ann&pass=hunter2",
                "redis+unix:///run/r.sock",
                Some("ann"),
                Some("hunter2"),
            ),
        ] {
            let server = Server::read(text).unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!((server.login().username(), server.login().password()), (user, password));
            assert_eq!(server.login().db(), 0, "Pub/Sub has no databases");
            assert!(!format!("{server:?}").contains("hunter2"));
            assert_eq!(server.is_encrypted(), shown.starts_with("rediss"));
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_text() {
        for text in [
            "",
            "hunter2",
            "http://hunter2@host/",
            "redis://hunter2@host",
            "redis://:hunter2@",
            "redis://:hunter2@host/x",
            "redis://:hunter2@0.0.0.0",
            "rediss://:hunter2@host/#insecure",
            "rediss+unix:///hunter2",
        ] {
            let problem = Server::read(text).unwrap_err();
            assert!(
                problem.contains("redis://user:password@host:6379") && !problem.contains("hunter2"),
                "{text}"
            );
        }
    }
}
