//! The right to make requests that look behind the daemon's figures or change it.
//!
//! It is a token, and never where a request comes from: a page in an operator's browser reaches
//! ports that its server does not. Browsers say by `Origin` that a page asks, in all requests that
//! could change something. Only the console's may, which is a page of this listener: its origin is
//! the host that the request is for. A name that an attacker has pointed at this listener (DNS
//! rebinding) would be equal too, so the host must also be one that no attacker can have: an IP
//! address, `localhost`, or a name of the configuration. Such a request needs the token on the
//! socket too, because a proxy in front of it would lend its right to every page.

use super::request::AdminRequest;
use crate::http::response::{TEXT, content_type, response};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;
use std::fmt;
use subtle::ConstantTimeEq as _;

/// Minimum length of a token in bytes: 16 random bytes take more in any encoding.
const TOKEN_BYTES_MIN: usize = 16;

/// The token of `[admin]`; redacted in logs and errors.
#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[schemars(extend("x-secret" = true))]
#[serde(transparent)]
pub struct AdminToken(String);

impl AdminToken {
    /// A checked token.
    ///
    /// # Errors
    /// As [`AdminToken::check`].
    pub fn new(token: &str) -> Result<Self, &'static str> {
        let token = Self(token.into());
        token.check().map(|()| token)
    }

    /// Checks that the token can be sent and is hard to guess.
    ///
    /// # Errors
    /// The fault and its remedy, to follow the name of the setting.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.0.len() < TOKEN_BYTES_MIN {
            return Err(
                "has fewer than 16 characters, which can be guessed: `openssl rand -hex 32` makes \
                 a good one",
            );
        }
        if !self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has characters that no request can carry: use letters and digits");
        }
        Ok(())
    }

    /// The token itself, to be sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the token.
    fn is(&self, given: &str) -> bool {
        // In constant time, or the time would tell how many characters are right.
        bool::from(self.0.as_bytes().ct_eq(given.as_bytes()))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The response with the outcome of a call.
#[must_use]
pub fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    response(status, "", content_type(status), &format!("{text}{end}"))
}

/// The tokens of `[admin]`, and where browsers may send them.
#[derive(Clone, Debug, Default)]
pub struct AdminTokens {
    /// The token for every request.
    pub all: Option<AdminToken>,
    /// A token for publishing alone.
    pub publish: Option<AdminToken>,
    /// The names at which browsers find the console, beside IP addresses and `localhost`.
    pub console_hosts: Vec<Box<str>>,
}

/// Whether a host, perhaps with a port, is one that only this machine or its operator can have.
pub(super) fn is_known_host(host: &str, tokens: &AdminTokens) -> bool {
    let name = match host.rsplit_once(':') {
        // The last colon of an address in brackets may be its own.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let known = tokens.console_hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
            known || name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok()
        }
    }
}

/// Whether a page of this origin is the console.
fn is_console(origin: &str, host: &str, tokens: &AdminTokens) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let is_here = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
    is_here && is_known_host(host, tokens)
}

/// What a request needs the right to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminRight {
    /// Anything that operators do.
    All,
    /// Publishing.
    Publish,
}

/// Checks the right to make such requests.
pub(super) fn admit(
    request: &AdminRequest<'_>,
    tokens: &AdminTokens,
    right: AdminRight,
) -> Result<(), AdminRefusal> {
    match request.origin {
        None if request.is_admitted => return Ok(()),
        Some(origin) if !is_console(origin, request.host, tokens) => {
            let reason = "web pages have no access, other than /console: it is at the IP addresses \
                          of this listener, at localhost, and at the console_hosts of [admin]";
            return Err(AdminRefusal::new(403, reason));
        }
        _ => {}
    }
    let for_publishing = tokens.publish.as_ref().filter(|_| right == AdminRight::Publish);
    let good: Vec<&AdminToken> = tokens.all.iter().chain(for_publishing).collect();
    if good.is_empty() {
        let reason = "requests for more than health and metrics need a token, and none is \
                      configured: write token_file in [admin]";
        return Err(AdminRefusal::new(403, reason));
    }

    let given = request
        .authorization
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match given {
        Some((_, given)) if good.iter().any(|token| token.is(given.trim())) => Ok(()),
        Some(_) => Err(unauthorized("the token is not that of [admin]")),
        None => Err(unauthorized("send Authorization: Bearer and the token of [admin]")),
    }
}

fn unauthorized(reason: &'static str) -> AdminRefusal {
    AdminRefusal {
        headers: "WWW-Authenticate: Bearer\r\n".into(),
        ..AdminRefusal::new(401, reason)
    }
}

/// Why a request is refused.
pub(super) struct AdminRefusal {
    pub(super) status: u16,
    /// Lines of the response's head.
    pub(super) headers: Cow<'static, str>,
    pub(super) reason: Cow<'static, str>,
}

impl AdminRefusal {
    pub(super) fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { status, headers: "".into(), reason: reason.into() }
    }

    /// The response, with the reason as a sentence.
    pub(super) fn sentence(&self) -> Vec<u8> {
        refusal(self.status, &self.headers, &self.reason)
    }
}

pub(super) fn refusal(status: u16, headers: &str, reason: &str) -> Vec<u8> {
    response(status, headers, TEXT, &format!("{reason}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_token_and_is_no_page_is_answered() {
        let token = |text| Some(AdminToken::new(text).unwrap());
        let all = AdminTokens {
            all: token("0123456789abcdef"),
            publish: token("publish-0123456789"),
            console_hosts: vec!["ops.example".into()],
        };
        let status = |authorization: &str, origin, tokens: &AdminTokens, right| {
            let request = AdminRequest {
                method: "GET",
                path: "/topics",
                host: "127.0.0.1:9500",
                authorization,
                origin,
                ..AdminRequest::default()
            };
            admit(&request, tokens, right).err().map_or(200, |refusal| refusal.status)
        };
        let right = AdminRight::All;
        assert_eq!(status("Bearer 0123456789abcdef", None, &all, right), 200);
        assert_eq!(status("Bearer 0123456789abcdef", None, &AdminTokens::default(), right), 403);
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeF",
            "Bearer publish-0123456789",
        ] {
            assert_eq!(status(wrong, None, &all, right), 401, "{wrong}");
        }
        // Either token publishes, and that for publishing does nothing else.
        for good in ["Bearer 0123456789abcdef", "Bearer publish-0123456789"] {
            assert_eq!(status(good, None, &all, AdminRight::Publish), 200);
        }
        let publish = AdminTokens { all: None, ..all };
        assert_eq!(status("Bearer publish-0123456789", None, &publish, right), 403);
        assert_eq!(status("Bearer publish-0123456789", None, &publish, AdminRight::Publish), 200);
        assert_eq!(format!("{:?}", publish.publish.unwrap()), "[redacted]");
        assert!(AdminToken::new("short").is_err() && AdminToken::new("0123456789 abcdef").is_err());
    }

    #[test]
    fn of_web_pages_only_the_console_is_answered_and_only_with_the_token() {
        let tokens = AdminTokens {
            all: Some(AdminToken::new("0123456789abcdef").unwrap()),
            publish: None,
            console_hosts: vec!["ops.example".into()],
        };
        let status = |origin, host, authorization, is_admitted| {
            let origin = Some(origin);
            let request = AdminRequest {
                host,
                origin,
                authorization,
                is_admitted,
                ..AdminRequest::default()
            };
            admit(&request, &tokens, AdminRight::All).err().map_or(200, |refusal| refusal.status)
        };
        let token = "Bearer 0123456789abcdef";
        for (origin, host) in [
            ("http://127.0.0.1:9500", "127.0.0.1:9500"),
            ("http://localhost:9500", "LOCALHOST:9500"),
            ("http://[::1]:9500", "[::1]:9500"),
            ("http://[fd00::1]", "[fd00::1]"),
            ("https://ops.example", "ops.example"),
            ("https://Ops.example:8443", "ops.example:8443"),
        ] {
            assert_eq!(status(origin, host, token, false), 200, "{origin}");
            assert_eq!(status(origin, host, "", false), 401, "{origin}");
            // Behind a proxy to the socket, every page would have the proxy's right.
            assert_eq!(status(origin, host, "", true), 401, "{origin}");
        }
        for (origin, host) in [
            ("http://evil.example:9500", "127.0.0.1:9500"),
            ("http://127.0.0.1:8080", "127.0.0.1:9500"),
            ("http://127.0.0.1", "127.0.0.1:9500"),
            // An attacker's name that resolves to the daemon.
            ("http://evil.example:9500", "evil.example:9500"),
            ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example"),
            ("http://[::1].evil.example", "[::1].evil.example"),
            ("null", "null"),
            ("", ""),
        ] {
            for is_admitted in [false, true] {
                assert_eq!(status(origin, host, token, is_admitted), 403, "{origin} {host}");
            }
        }
    }
}
