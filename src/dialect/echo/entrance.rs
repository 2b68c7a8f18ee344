//! Admission of clients: the app, the protocol's version, the page's origin, the number of
//! connections.

use super::app::{App, EchoSettings};
use crate::dialect::Upgrade;
use crate::wildcard::matches;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Why a client is not admitted, or has to go: the code, and the message that is also the reason.
pub(super) type AppRefusal = (u16, String);

/// The versions that are served alike, as sent. A client without a version counts as one of them.
const VERSIONS: [&str; 3] = ["5", "6", "7"];

/// A session's place among the connections of an app, released on drop.
pub(super) struct AppPlace(Arc<App>);

/// The key of the app that a path names; `None` when the path is not this dialect's.
pub(super) fn key_of<'a>(path: &'a str, settings: &EchoSettings) -> Option<&'a str> {
    let key = path.strip_prefix(&*settings.path)?.strip_prefix("/app/")?;
    (!key.is_empty() && !key.contains('/')).then_some(key)
}

/// Gives a client a place, or the reason why it gets none.
pub(super) fn admit(
    key: &str,
    upgrade: &Upgrade<'_>,
    settings: &EchoSettings,
) -> Result<AppPlace, AppRefusal> {
    // The order of the checks is that of the codes' advice: a wrong key is the commonest mistake.
    let app =
        settings.by_key(key).ok_or_else(|| (4001, format!("App key {key} does not exist.")))?;
    if !app.settings.enabled {
        return Err(not_enabled());
    }

    let version =
        form_urlencoded::parse(upgrade.query.as_bytes()).find(|(name, _)| name == "protocol");
    if version.is_some_and(|(_, version)| !VERSIONS.contains(&&*version)) {
        return Err((4007, "Unsupported protocol version.".into()));
    }

    if !app.settings.allowed_origins.iter().any(|allowed| allows(allowed, upgrade.origin)) {
        return Err((4009, "Origin not allowed.".into()));
    }
    // Last, so that a refused client never takes the last place, not even for a moment.
    AppPlace::take(app).ok_or_else(|| (4004, "Over connection limit.".into()))
}

/// The refusal for clients of a disabled or removed app.
pub(super) fn not_enabled() -> AppRefusal {
    (4003, "The app is not enabled.".into())
}

impl AppPlace {
    /// Takes a place, unless all are taken.
    fn take(app: &Arc<App>) -> Option<Self> {
        // One atomic step: shards admit clients at the same time.
        let max = app.settings.max_connections;
        app.connections
            .fetch_update(Relaxed, Relaxed, |count| (max == 0 || count < max).then_some(count + 1))
            .ok()?;
        Some(Self(Arc::clone(app)))
    }

    /// Keeps a place that a session has had in another process, whatever the limit.
    pub(super) fn keep(app: &Arc<App>) -> Self {
        app.connections.fetch_add(1, Relaxed);
        Self(Arc::clone(app))
    }

    /// Moves to other settings, whatever their limit: admitted clients stay.
    pub(super) fn move_to(&mut self, app: &Arc<App>) {
        // The old place is released by the assignment's drop.
        *self = Self::keep(app);
    }
}

impl Deref for AppPlace {
    type Target = Arc<App>;

    fn deref(&self) -> &Arc<App> {
        &self.0
    }
}

impl Drop for AppPlace {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Whether a page of this origin may connect. As in Laravel Reverb the origin's host is compared,
/// or an allowed origin with port or scheme with these too. A client without an origin is admitted
/// only where all are.
fn allows(allowed: &str, origin: Option<&[u8]>) -> bool {
    if allowed == "*" {
        return true;
    }

    let Some(Ok(origin)) = origin.map(std::str::from_utf8) else { return false };
    let Some((_, authority)) = origin.split_once("://") else { return false };
    // An IPv6 address contains colons, within brackets.
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let host = &authority[..port.unwrap_or(authority.len())];

    let compared = if allowed.contains("://") {
        origin
    } else if allowed.trim_start_matches('[').contains(':') && !allowed.ends_with(']') {
        authority
    } else {
        host
    };
    matches(&allowed.to_ascii_lowercase(), &compared.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_host_or_by_as_much_as_is_written() {
        for (allowed, origin, expected) in [
            ("*", "", true),
            ("*", "null", true),
            ("example.com", "https://example.com", true),
            ("example.com", "http://EXAMPLE.com:8080", true),
            ("example.com", "https://a.example.com", false),
            ("example.com", "https://example.com.evil.net", false),
            ("example.com", "", false),
            ("example.com", "null", false),
            ("*.example.com", "https://a.b.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("*.example.*", "https://a.example.org", true),
            ("a*b*c*d", "https://axxbyyczzd", true),
            ("a*b*c*d", "https://axxcyybzzd", false),
            ("aa*aa", "https://aaa", false),
            ("localhost:3000", "http://localhost:3000", true),
            ("localhost:3000", "http://localhost:3001", false),
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "http://example.com", false),
            ("https://*.example.com", "https://a.example.com", true),
            ("[::1]", "http://[::1]:80", true),
            ("[::1]", "http://[::1]", true),
            ("[::1]:80", "http://[::1]:80", true),
            ("**", "https://x", true),
            ("", "https://x", false),
        ] {
            assert_eq!(allows(allowed, Some(origin.as_bytes())), expected, "{allowed} {origin}");
        }
        for origin in [None, Some(&b"https://example.com/\xff"[..])] {
            assert!(allows("*", origin) && !allows("example.com", origin), "{origin:?}");
        }
    }
}
