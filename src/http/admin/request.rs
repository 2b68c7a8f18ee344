//! A request to the admin listener.

/// The parts of a request to the admin listener that its answer depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdminRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The query without `?`.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// The `Content-Type` header, or nothing.
    pub content_type: &'a str,
    /// The `Accept` header, or nothing.
    pub accept: &'a str,
    /// The `Authorization` header, or nothing.
    pub authorization: &'a str,
    /// Whether its connection is a right of its own: the daemon's user, or root, on the socket.
    pub is_admitted: bool,
    /// The host that it is for, with a port if it has one, or nothing.
    pub host: &'a str,
    /// The `Origin` header, if it has one; empty where it is no text.
    pub origin: Option<&'a str>,
}
