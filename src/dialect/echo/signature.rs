//! Signatures: HMAC-SHA256 with an app's secret, in hexadecimal digits; and those of publishers'
//! requests. Clients' signatures are checked in `auth`.

use super::app::App;
use crate::dialect::Request;
use crate::text::hex;
use crate::wheel::Now;
use ahash::AHashMap;
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use ring::hmac;
use smallvec::SmallVec;
use std::borrow::Cow;
use subtle::ConstantTimeEq as _;

/// Seconds by which the clock of a publisher may differ from ours; Pusher's limit.
const CLOCK_DIFFERENCE_S_MAX: u64 = 600;

/// Whether `signature` is that of a text, given in parts, with the app's secret; in lower-case
/// hexadecimal digits.
pub(super) fn is_signed<'a>(
    app: &App,
    text: impl Iterator<Item = &'a [u8]>,
    signature: &str,
) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, app.secret.0.as_bytes());
    let mut mac = hmac::Context::with_key(&key);
    text.for_each(|part| mac.update(part));

    let ours = hex(mac.sign().as_ref());
    ours.as_bytes().ct_eq(signature.as_bytes()).into()
}

/// The parameters of a query, decoded, in the order in which they are signed.
pub(super) struct Query<'a> {
    sent: QueryParameters<'a>,
    /// With each list as one parameter; `None` when there is no list.
    joined: Option<QueryParameters<'a>>,
}

type QueryParameters<'a> = SmallVec<[Parameter<'a>; 8]>;

/// A name and a value.
type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

impl<'a> Query<'a> {
    /// Reads a query.
    pub(super) fn of(text: &'a str) -> Self {
        let mut sent: SmallVec<_> =
            text.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect();

        // Lists are joined in the order in which they were sent, and only then sorted.
        let mut joined = join_lists(&sent);
        let by_key = |(one, _): &Parameter<'_>, (other, _): &Parameter<'_>| one.cmp(other);
        sent.sort_by(by_key);
        joined.iter_mut().for_each(|joined| joined.sort_by(by_key));
        Self { sent, joined }
    }

    /// A parameter's bytes: the last of a repeated one, and those of a list with commas between
    /// them.
    pub(super) fn bytes(&self, key: &str) -> Option<&[u8]> {
        let parameters = self.joined.as_ref().unwrap_or(&self.sent);
        parameters
            .iter()
            .rev()
            .find(|(name, _)| **name == *key.as_bytes())
            .map(|(_, value)| &**value)
    }

    /// A parameter's text; empty when it is absent or not UTF-8.
    pub(super) fn text(&self, key: &str) -> &str {
        self.bytes(key).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// The texts that may have been signed: the parameters as sent, or with lists joined as by
    /// PHP's library.
    fn signed(&self) -> impl Iterator<Item = Vec<u8>> {
        [Some(&self.sent), self.joined.as_ref()].into_iter().flatten().map(|parameters| {
            let mut text = Vec::new();
            for (key, value) in parameters.iter().filter(|(key, _)| **key != *b"auth_signature") {
                if !text.is_empty() {
                    text.push(b'&');
                }
                text.extend_from_slice(key);
                text.push(b'=');
                text.extend_from_slice(value);
            }
            text
        })
    }
}

/// Reads a name and its value.
fn parameter(pair: &str) -> Parameter<'_> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let mut key = Cow::from(percent_decode_str(key));
    // Pusher signs names in lower case.
    if key.iter().any(u8::is_ascii_uppercase) {
        key.to_mut().make_ascii_lowercase();
    }
    (key, Cow::from(percent_decode_str(value)))
}

/// The name of the list that a parameter is an item of: `key[]` or `key[0]`.
fn list_name(key: &[u8]) -> Option<Vec<u8>> {
    let start = key.strip_suffix(b"]").and_then(|key| memchr::memrchr(b'[', key))?;
    let index = &key[start + 1..key.len() - 1];
    (start > 0 && index.iter().all(u8::is_ascii_digit)).then(|| key[..start].to_vec())
}

/// The parameters with each list, which PHP sends as `key[0]=a&key[1]=b`, as one parameter, in the
/// order of its items: `key=a,b`. `None` when there is no list.
fn join_lists<'a>(sent: &[Parameter<'a>]) -> Option<QueryParameters<'a>> {
    if !sent.iter().any(|(key, _)| list_name(key).is_some()) {
        return None;
    }

    let mut joined = QueryParameters::new();
    // The position of each list in `joined`: a query in the longest head has some thousand lists.
    let mut places = AHashMap::new();
    for (key, value) in sent {
        let Some(name) = list_name(key) else {
            joined.push((key.clone(), value.clone()));
            continue;
        };
        match places.get(&name) {
            None => {
                places.insert(name.clone(), joined.len());
                joined.push((Cow::Owned(name), value.clone()));
            }
            Some(place) => {
                let (_, values): &mut Parameter<'_> = &mut joined[*place];
                values.to_mut().push(b',');
                values.to_mut().extend_from_slice(value);
            }
        }
    }

    Some(joined)
}

/// The paths that publishers may have signed.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    /// As sent.
    pub(super) sent: &'a str,
    /// Without `[echo] path`, which is what PHP's library signs when it is given that as its own
    /// `path`.
    pub(super) own: &'a str,
    /// `[echo] path`, which a proxy may have removed.
    pub(super) prefix: &'a str,
}

impl<'a> Paths<'a> {
    /// The paths that may have been signed, the usual one first: each as written, and then decoded,
    /// because a library that is given a user's id signs it verbatim, while the HTTP client that
    /// sends the request encodes it.
    fn signed(self) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let Self { sent, own, prefix } = self;
        let written = move || {
            let restored = move || {
                (own == sent && !prefix.is_empty()).then(|| format!("{prefix}{own}").into())
            };
            let others = std::iter::once_with(move || (own != sent).then_some(Cow::Borrowed(own)));
            let others = others.chain(std::iter::once_with(restored)).flatten();
            std::iter::once(Cow::Borrowed(sent)).chain(others)
        };

        let verbatim = written().map(|path| match path {
            Cow::Borrowed(path) => Cow::Borrowed(path.as_bytes()),
            Cow::Owned(path) => Cow::Owned(path.into_bytes()),
        });
        let decoded = std::iter::once_with(written).flatten().filter_map(|path| {
            path.contains('%').then(|| Cow::Owned(percent_decode_str(&path).collect()))
        });
        verbatim.chain(decoded)
    }
}

/// Checks that a request is signed by an app's publisher.
///
/// # Errors
/// Why it is not.
pub(super) fn check(
    request: &Request<'_>,
    paths: Paths<'_>,
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
        return Err(
            "auth_timestamp must be the unix time in seconds, within 600 s of this server's clock",
        );
    }

    // Required of every body: the signature covers it by this digest only.
    let is_body = match query.bytes("body_md5") {
        Some(md5) => md5 == hex(&Md5::digest(request.body)).as_bytes(),
        None => request.body.is_empty(),
    };
    if !is_body {
        return Err("body_md5 is not the MD5 of the body");
    }
    let signature = query.text("auth_signature");
    // HEAD comes from clients with a signed GET, and from libraries that sign the actual method.
    let methods = [Some(request.method), request.is_head.then_some("HEAD")];

    // One of several texts may be signed; nearly every request passes with the first.
    let is_good = paths.signed().any(|path| {
        query.signed().any(|parameters| {
            methods.iter().flatten().any(|method| {
                let text: [&[u8]; 5] = [method.as_bytes(), b"\n", &path, b"\n", &parameters];
                is_signed(app, text.into_iter(), signature)
            })
        })
    });
    if is_good { Ok(()) } else { Err("auth_signature is not right") }
}

#[cfg(test)]
mod tests {
    use super::super::app::AppSettings;
    use super::*;
    use crate::setting::Secret;

    fn app(key: &str, secret: &str) -> App {
        App::new(AppSettings { key: key.into(), ..Default::default() }, Secret(secret.into()))
    }

    const SIGNATURE: &str = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
    const BODY: &str = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;

    fn vector(query: &str, body: &str, now_s: u64) -> Result<(), &'static str> {
        let app = app("278d425bdf160c739803", "7ad3773142a6692b25b8");
        let (path, body) = ("/apps/3/events", body.as_bytes());
        let request = Request { method: "POST", path, query, body, ..Request::default() };
        let paths = Paths { sent: path, own: path, prefix: "" };
        check(
            &request,
            paths,
            &Query::of(query),
            &app,
            Now { monotonic_ns: 0, unix_ms: now_s * 1000 },
        )
    }

    #[test]
    fn a_request_is_signed_in_whatever_order_and_writing_its_parameters_come() {
        let first = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";
        let query =
            format!("{first}&body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature={SIGNATURE}");
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
