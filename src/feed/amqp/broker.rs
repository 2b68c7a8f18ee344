//! The address of a broker: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS.

use lapin::uri::{AMQPScheme, AMQPUri};
use std::fmt;

/// Seconds between heartbeats; a broker that is silent for two of them is given up.
const HEARTBEAT_S: u16 = 10;
/// Longest frame, in bytes, unless the address has a `frame_max` of its own: RabbitMQ's default. A
/// body is cut into as many frames as it takes, but the headers of a message are always one frame,
/// and a broker sends it whatever its length. With less than the broker's own limit, messages with
/// long headers would be refused.
const FRAME_BYTES: u32 = 128 * 1024;
/// Longest frame that `frame_max` may ask for. The client keeps 32 frames to read into and 32 to
/// write from, used or not.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// A broker's address. It is displayed without the user and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpBroker(AMQPUri);

impl AmqpBroker {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is not an address; without the text, which may contain a password.
    pub fn read(text: &str) -> Result<Self, String> {
        const FORM: &str = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS, \
                            with any / : @ # ? of the password and vhost as %2F %3A %40 %23 %3F";
        let mut uri: AMQPUri =
            text.trim().parse().map_err(|_| format!("not the address of a broker: {FORM}"))?;

        let authority = text
            .trim()
            .split_once("://")
            .map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() {
            return Err(format!("the host is missing: {FORM}"));
        }
        // The parser knows names and IPv4 only, and replaces anything else by localhost.
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            uri.authority.host = address.to_owned();
        }
        // Other clients of Wazo's bus read the path "/" as the vhost "/"; one named "" is unheard
        // of.
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }

        uri.query.heartbeat = Some(HEARTBEAT_S);
        // Named even where it is the default, so that the screen knows what the client agrees to.
        let frame_bytes = uri.query.frame_max.unwrap_or(FRAME_BYTES);
        if !(FRAME_BYTES..=FRAME_BYTES_MAX).contains(&frame_bytes) {
            return Err(format!(
                "frame_max = {frame_bytes}: write {FRAME_BYTES} to {FRAME_BYTES_MAX}, or leave it \
                 out"
            ));
        }

        uri.query.frame_max = Some(frame_bytes);
        Ok(Self(uri))
    }

    /// The address in the words of the AMQP client, password included.
    #[must_use]
    pub fn uri(&self) -> &AMQPUri {
        &self.0
    }

    /// The longest frame that the client agrees to, in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        self.0.query.frame_max.unwrap_or(FRAME_BYTES) as usize
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme == AMQPScheme::AMQPS
    }

    /// Name or address of its machine.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.authority.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.authority.port
    }

    /// The virtual host.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.0.vhost
    }
}

impl fmt::Display for AmqpBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, vhost) =
            (&self.0.scheme, self.host(), self.vhost().trim_start_matches('/'));
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        write!(f, "{scheme}://{host}:{}/{}", self.port(), vhost.escape_debug())
    }
}

impl fmt::Debug for AmqpBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_and_password() {
        for (text, shown, vhost) in [
            ("amqp://wazo:hunter2@bus.example:5673/pbx", "amqp://bus.example:5673/pbx", "pbx"),
            ("amqp://wazo:hunter2@bus.example", "amqp://bus.example:5672/", "/"),
            ("amqp://wazo:hunter2@bus.example/", "amqp://bus.example:5672/", "/"),
            ("amqp://wazo:hunter2@bus.example//", "amqp://bus.example:5672/", "/"),
            ("amqp://wazo:hunter2@bus.example/%2f\n", "amqp://bus.example:5672/", "/"),
            ("amqps://wazo:hunter2@[::1]/", "amqps://[::1]:5671/", "/"),
        ] {
            let broker = AmqpBroker::read(text).unwrap();
            assert_eq!(broker.to_string(), shown);
            assert_eq!(broker.vhost(), vhost);
            assert!(!format!("{broker:?}").contains("hunter2"));
            assert_eq!(broker.uri().authority.userinfo.password, "hunter2");
        }
        assert_eq!(AmqpBroker::read("amqps://[::1]/").unwrap().host(), "::1");
    }

    #[test]
    fn frames_are_as_long_as_a_brokers_unless_the_address_wants_longer_ones() {
        let frame_max =
            |text: &str| AmqpBroker::read(text).map(|broker| broker.uri().query.frame_max.unwrap());
        assert_eq!(frame_max("amqp://host"), Ok(131_072));
        assert_eq!(frame_max("amqp://host/?frame_max=1048576"), Ok(1_048_576));
        for bad in ["0", "32768", "1048577", "4294967295"] {
            let problem =
                frame_max(&format!("amqp://a:hunter2@host/?frame_max={bad}")).unwrap_err();
            assert!(
                problem.contains(&format!("frame_max = {bad}")) && !problem.contains("hunter2"),
                "{problem}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_text() {
        for text in [
            "",
            "hunter2",
            "http://hunter2@host/",
            "amqp:hunter2",
            "amqp://hunter2@/x",
            "amqp:///hunter2",
        ] {
            let problem = AmqpBroker::read(text).unwrap_err();
            assert!(
                problem.contains("amqp://user:password@host:5672/vhost")
                    && !problem.contains("hunter2")
            );
        }
    }
}
