//! The right to make requests that look behind the daemon's figures or change it.

use super::request::AdminRequest;
use crate::http::response::{TEXT, content_type, response};
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

/// The tokens of `[admin]`.
#[derive(Clone, Debug, Default)]
pub struct AdminTokens {
    /// The token for every request.
    pub all: Option<AdminToken>,
    /// A token for publishing alone.
    pub publish: Option<AdminToken>,
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
    // A page in an operator's browser may reach a port that its server cannot.
    if request.has_origin {
        let reason = "web pages have no access: requests with an Origin header are refused";
        return Err(AdminRefusal::new(403, reason));
    }
    if request.is_admitted {
        return Ok(());
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
        let all =
            AdminTokens { all: token("0123456789abcdef"), publish: token("publish-0123456789") };
        let status = |authorization: &str, has_origin, tokens: &AdminTokens, right| {
            let request = AdminRequest {
                method: "GET",
                path: "/topics",
                authorization,
                has_origin,
                ..AdminRequest::default()
            };
            admit(&request, tokens, right).err().map_or(200, |refusal| refusal.status)
        };
        let right = AdminRight::All;
        assert_eq!(status("Bearer 0123456789abcdef", false, &all, right), 200);
        assert_eq!(status("Bearer 0123456789abcdef", true, &all, right), 403);
        assert_eq!(status("Bearer 0123456789abcdef", false, &AdminTokens::default(), right), 403);
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeF",
            "Bearer publish-0123456789",
        ] {
            assert_eq!(status(wrong, false, &all, right), 401, "{wrong}");
        }
        // Either token publishes, and that for publishing does nothing else.
        for good in ["Bearer 0123456789abcdef", "Bearer publish-0123456789"] {
            assert_eq!(status(good, false, &all, AdminRight::Publish), 200);
        }
        let publish = AdminTokens { all: None, ..all };
        assert_eq!(status("Bearer publish-0123456789", false, &publish, right), 403);
        assert_eq!(status("Bearer publish-0123456789", false, &publish, AdminRight::Publish), 200);
        assert_eq!(format!("{:?}", publish.publish.unwrap()), "[redacted]");
        assert!(AdminToken::new("short").is_err() && AdminToken::new("0123456789 abcdef").is_err());
    }
}
