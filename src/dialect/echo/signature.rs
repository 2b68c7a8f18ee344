//! Signatures: HMAC-SHA256 with an app's secret, in hexadecimal digits; and those of requests, which publishers sign.

use super::App;
use crate::dialect::Request;
use crate::wheel::Now;
use hmac::{Hmac, Mac as _};
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use sha2::Sha256;
use smallvec::SmallVec;
use std::borrow::Cow;
use subtle::ConstantTimeEq as _;

/// Seconds by which the clock of a publisher may differ from ours; Pusher's.
const CLOCK_DIFFERENCE_S_MAX: u64 = 600;

/// Whether `signature` is what the app's secret makes of a text, given in parts; in lower-case hexadecimal digits.
pub(super) fn is_signed<'a>(app: &App, text: impl Iterator<Item = &'a [u8]>, signature: &str) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(app.secret.0.as_bytes()).expect("any key will do");
    text.for_each(|part| mac.update(part));
    let ours: [u8; 64] = hexadecimal(&mac.finalize().into_bytes());
    ours.ct_eq(signature.as_bytes()).into()
}

/// The parameters of a query, decoded, in the order in which they are signed.
pub(super) struct Query<'a>(SmallVec<[Parameter<'a>; 8]>);

/// A name and a value.
type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

impl<'a> Query<'a> {
    /// Reads a query.
    pub(super) fn of(text: &'a str) -> Self {
        let decoded = |text: &'a str| Cow::<[u8]>::from(percent_decode_str(text));
        let pair = |pair: &'a str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let mut key = decoded(key);
            if key.iter().any(u8::is_ascii_uppercase) {
                key.to_mut().make_ascii_lowercase();
            }
            (key, decoded(value))
        };
        let mut pairs: SmallVec<_> = text.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        pairs.sort_by(|(one, _): &Parameter<'_>, (other, _)| one.cmp(other));
        Self(pairs)
    }

    /// A parameter's bytes; the last when it is there twice.
    pub(super) fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(name, _)| **name == *key.as_bytes()).map(|(_, value)| &**value)
    }

    /// A parameter's text; nothing when it is none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.bytes(key).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// What is signed of it.
    fn signed(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in self.0.iter().filter(|(key, _)| **key != *b"auth_signature") {
            if !text.is_empty() {
                text.push(b'&');
            }
            text.extend_from_slice(key);
            text.push(b'=');
            text.extend_from_slice(value);
        }
        text
    }
}

/// Whether a request is signed by an app's publisher. `path` is its path without `[echo] path`, which is what PHP's
/// library signs when it is given that as its own `path`; others sign what they send.
///
/// # Errors
/// With the reason why not.
pub(super) fn check(
    request: &Request<'_>,
    path: &str,
    query: &Query<'_>,
    app: &App,
    now: Now,
) -> Result<(), &'static str> {
    if query.bytes("auth_key") != Some(app.settings.key.as_bytes()) {
        return Err("auth_key is not the app's key");
    }
    if query.bytes("auth_version") != Some(b"1.0") {
        return Err("auth_version must be 1.0");
    }
    let then_s = query.text("auth_timestamp").parse::<u64>().ok();
    if then_s.is_none_or(|then_s| then_s.abs_diff(now.unix_ms / 1000) > CLOCK_DIFFERENCE_S_MAX) {
        return Err("auth_timestamp must be the unix time in seconds, within 600 s of this server's clock");
    }
    let body_md5 = query.bytes("body_md5");
    if !(request.body.is_empty() && body_md5.is_none()) {
        let ours: [u8; 32] = hexadecimal(&Md5::digest(request.body));
        if body_md5 != Some(&ours) {
            return Err("body_md5 is not the MD5 of the body");
        }
    }
    let (signed, signature) = (query.signed(), query.text("auth_signature"));
    // HEAD is asked by whoever has a signed GET, and by libraries that sign what they send.
    let methods = std::iter::once(request.method).chain(request.is_head.then_some("HEAD"));
    let is_of = |path: &str| {
        methods.clone().any(|method| {
            let text: [&[u8]; 5] = [method.as_bytes(), b"\n", path.as_bytes(), b"\n", &signed];
            is_signed(app, text.into_iter(), signature)
        })
    };
    let is_behind_ours = path.len() < request.path.len();
    if !(is_of(request.path) || is_behind_ours && is_of(path)) {
        return Err("auth_signature is not right");
    }
    Ok(())
}

/// Bytes in lower case.
fn hexadecimal<const LENGTH: usize>(bytes: &[u8]) -> [u8; LENGTH] {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
    let mut text = [0; LENGTH];
    for (place, byte) in text.chunks_exact_mut(2).zip(bytes) {
        place.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{AppSettings, Secret};
    use super::*;

    fn app(key: &str, secret: &str) -> App {
        App::new(AppSettings { key: key.into(), ..Default::default() }, Secret(secret.into()))
    }

    const SIGNATURE: &str = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
    const BODY: &str = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;

    fn vector(query: &str, body: &str, now_s: u64) -> Result<(), &'static str> {
        let app = app("278d425bdf160c739803", "7ad3773142a6692b25b8");
        let (path, body) = ("/apps/3/events", body.as_bytes());
        let request = Request { method: "POST", path, query, body, ..Request::default() };
        check(&request, path, &Query::of(query), &app, Now { monotonic_ns: 0, unix_ms: now_s * 1000 })
    }

    #[test]
    fn a_request_is_signed_in_whatever_order_and_writing_its_parameters_come() {
        let first = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";
        let query = format!("{first}&body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature={SIGNATURE}");
        assert_eq!(vector(&query, BODY, 1_353_088_179), Ok(()));
        let mut parameters: Vec<&str> = query.split('&').collect();
        parameters.reverse();
        let other = parameters.join("&&").replace("auth_version=1.0", "Auth%5Fversion=1%2e0");
        assert_eq!(vector(&other, BODY, 1_353_088_179), Ok(()));
        for (query, body, now_s, reason) in [
            (query.replace("auth_key=2", "auth_key=3"), BODY, 1_353_088_179, "auth_key"),
            (query.replace("=1.0", "=1.1"), BODY, 1_353_088_179, "auth_version"),
            (query.clone(), BODY, 1_353_088_179 + 601, "auth_timestamp"),
            (query.clone(), BODY, 1_353_088_179 - 601, "auth_timestamp"),
            (query.replace("auth_timestamp", "then"), BODY, 0, "auth_timestamp"),
            (query.clone(), "{}", 1_353_088_179, "body_md5"),
            (query.clone(), "", 1_353_088_179, "body_md5"),
            (query.replace("body_md5", "md5"), BODY, 1_353_088_179, "body_md5"),
            (query.replace(SIGNATURE, ""), BODY, 1_353_088_179, "auth_signature"),
            (format!("{query}&more=1"), BODY, 1_353_088_179, "auth_signature"),
        ] {
            let refused = vector(&query, body, now_s).unwrap_err();
            assert!(refused.starts_with(reason), "{query}: {refused}");
        }
        for within_s in [1_353_088_179 + 600, 1_353_088_179 - 600] {
            assert_eq!(vector(&query, BODY, within_s), Ok(()));
        }
    }
}
