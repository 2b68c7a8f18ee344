//! The URL of an HTTP service that fanfare calls: a `url` setting, parsed and checked once.
//!
//! No error of this file quotes the URL, which may contain credentials and would end up in a log.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Longest URL. With the longest token in a verifier's path, percent-encoded, it stays below the 64
/// KiB that a request's target can have.
const URL_BYTES_MAX: usize = 2048;

/// An `http` or `https` URL without credentials.
#[derive(Clone, Debug)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    path: String,
    query: Option<String>,
}

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// When the URL cannot be used, with what to write instead.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        if url.len() > URL_BYTES_MAX {
            return Err(UrlError::TooLong);
        }

        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(UrlError::Scheme);
        }
        // `Uri` would take the credentials into the authority, from where they would be shown.
        if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(UrlError::Credentials);
        }

        let parts = url.parse::<Uri>().map_err(|_| UrlError::Unreadable)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(UrlError::Unreadable);
        };
        // `Uri` accepts an empty port and one above 65535, and reports both as none.
        let port_is_odd =
            authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host());
        if authority.host().is_empty() || port_is_odd || url.contains('#') || !url.is_ascii() {
            return Err(UrlError::Unreadable);
        }

        let target = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self {
            scheme,
            authority,
            path: target.path().to_owned(),
            query: target.query().map(str::to_owned),
        })
    }

    /// Host and port, if one is given: all of the URL that may be shown.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether the service is reached over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether the URL has a query.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// The URL itself.
    #[must_use]
    pub fn uri(&self) -> String {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        format!("{}://{}{}{query}", self.scheme, self.authority, self.path)
    }

    /// The URL of a resource below this one.
    #[must_use]
    pub fn below(&self, path_and_query: &str) -> String {
        let path = self.path.trim_end_matches('/');
        format!("{}://{}{path}{path_and_query}", self.scheme, self.authority)
    }
}

/// What is wrong with a URL, and what to write instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http` nor `https`.
    #[error(
        "url begins with neither https:// nor http://; write it like \"https://auth.example:9497\""
    )]
    Scheme,
    /// `user:password@`.
    #[error("url has credentials in it; use the keys for them, and a file for secrets")]
    Credentials,
    /// Not a URL.
    #[error("url is not a valid URL; write it in ASCII, with a host and without a fragment (#)")]
    Unreadable,
    /// Longer than any that is needed.
    #[error("url is longer than {URL_BYTES_MAX} bytes; shorten it")]
    TooLong,
    /// A query where path segments are added.
    #[error("url has a query (?); leave it out, fanfare adds its own")]
    Query,
    /// The version of an API, which is added.
    #[error("url has the version of the API in it; leave out /0.1, fanfare adds it")]
    Version,
}
