//! The reasons for which connections are refused and sessions end: the one list.
//!
//! A reason is the label of `fanfare_refusals_total` and `fanfare_session_ends_total`, the first
//! word of the log line, and the text for the client where its protocol leaves that free. Details
//! are kept apart from it.

use crate::token::Refusal;

/// Makes the reasons from the list below: the label of metrics, the volume of the log, the outcome
/// as which a handshake counts that is refused so, and the text for people.
macro_rules! reasons {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident: $name:literal, $volume:ident, $outcome:ident, $words:literal;
    )+) => {
        /// Why a connection is refused or a session ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// The label in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }

            /// How loudly it is logged.
            #[must_use]
            pub const fn volume(self) -> Volume {
                match self { $(Reason::$variant => Volume::$volume,)+ }
            }

            /// The outcome of a handshake that ends so.
            #[must_use]
            pub const fn outcome(self) -> Handshake {
                match self { $(Reason::$variant => Handshake::$outcome,)+ }
            }

            /// The text for people.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Reason::$variant => $words,)+ }
            }
        }
    };
}

/// The level at which something is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// An operator may have to do something: at `warn`.
    Loud,
    /// Worth finding afterwards: at `info`.
    Plain,
    /// The ordinary course of things: at `debug`.
    Quiet,
}

reasons! {
    /// The limit of connections is reached.
    ConnectionLimit: "connection_limit", Loud, Shed, "no room for another connection";
    /// The process has no more descriptors, or no memory for another.
    Descriptors: "descriptors", Loud, Shed, "no descriptor for another connection";
    /// Incomplete requests and messages hold as much memory as they may.
    PartialLimit: "partial_limit", Loud, Shed, "no memory for incomplete messages";
    /// The limit of connections per address is reached.
    AddressLimit: "address_limit", Loud, Limit, "too many connections from this address";
    /// The connection is not a trusted proxy's.
    ProxyUntrusted: "proxy_untrusted", Loud, Refused, "not a trusted proxy";
    /// The connection does not begin with the PROXY protocol.
    ProxyHeader: "proxy_header", Loud, Malformed, "no PROXY protocol";
    /// A TLS handshake failed.
    Tls: "tls", Plain, Tls, "the TLS handshake failed";
    /// TLS on a listener without TLS.
    TlsUnexpected: "tls_unexpected", Loud, Tls, "TLS on a listener without TLS";
    /// Not a correct request, or not a correct handshake.
    BadRequest: "bad_request", Plain, Malformed, "malformed request";
    /// No dialect of the listener has the path.
    NotFound: "not_found", Plain, NotFound, "no such path";
    /// The head of the request is too large.
    HeadLimit: "head_limit", Plain, Limit, "the head of the request is too large";
    /// The request did not come in time.
    RequestTimeout: "request_timeout", Plain, Limit, "the request did not come in time";
    /// Pages of this origin may not connect.
    Origin: "origin", Plain, Refused, "the origin is not allowed";
    /// A token is required and missing.
    TokenMissing: "token_missing", Plain, Refused, "no token";
    /// No valid token came in time.
    TokenTimeout: "token_timeout", Plain, Refused, "no token in time";
    /// The token is malformed, or its issuer is not trusted.
    TokenInvalid: "token_invalid", Plain, Refused, "the token is not valid";
    /// The token had expired when it was presented, or is not valid yet.
    TokenExpired: "token_expired", Plain, Refused, "the token has expired";
    /// The verifier of tokens is unreachable.
    TokenUnjudged: "token_unverified", Loud, Refused, "the token cannot be checked now";
    /// The token is valid and does not grant what is asked for.
    Scope: "scope", Plain, Refused, "the token does not allow this";
    /// The request for an app is not signed by it.
    Signature: "signature", Plain, Refused, "the signature is not valid";
    /// There is no such app, or it is not enabled.
    App: "app", Plain, Refused, "no such app";
    /// The app's limit of connections is reached.
    AppLimit: "app_limit", Loud, Refused, "the app has as many connections as it may have";
    /// An exclusive resource is in use by another client.
    Conflict: "conflict", Plain, Refused, "in use by another client";
    /// The topic is not available as asked for.
    Topic: "topic", Plain, Refused, "the topic is not available";
    /// No traffic for too long.
    Idle: "idle", Plain, Refused, "idle for too long";
    /// The session's token has expired, or the session itself.
    Expired: "expired", Plain, Refused, "the session has expired";
    /// A valid token was revoked.
    Revoked: "revoked", Plain, Refused, "the token was revoked";
    /// The application has ended it.
    Terminated: "terminated", Plain, Refused, "ended by the application";
    /// An operator has ended it.
    Kicked: "kicked", Plain, Refused, "ended by an operator";
    /// The protocol's own decision.
    Dialect: "dialect", Plain, Refused, "ended by the protocol";
    /// A message that the protocol does not define.
    Protocol: "protocol", Plain, Refused, "a message that the protocol does not define";
    /// The framing of WebSocket is broken, or text is not UTF-8, or a message is too long.
    Violation: "violation", Plain, Malformed, "protocol error";
    /// The client reads too slowly.
    Slow: "slow", Loud, Refused, "too slow";
    /// The client left pings unanswered.
    Unanswered: "unanswered", Plain, Refused, "pings were left unanswered";
    /// A limit of the daemon.
    Limit: "limit", Loud, Limit, "a limit is reached";
    /// The feed or the store behind the session is unreachable.
    Outage: "outage", Loud, Refused, "the feed is lost";
    /// The daemon stops.
    Drain: "drain", Quiet, Shed, "the server is stopping";
    /// The client has said goodbye.
    Client: "client", Quiet, Refused, "the client has left";
    /// The connection is gone without a goodbye.
    Gone: "gone", Quiet, Refused, "the connection is gone";
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Handshake {
    /// 101.
    Accepted,
    /// No dialect of the listener has this path.
    NotFound,
    /// Refused by the dialect.
    Refused,
    /// Not a WebSocket handshake, or not a correct one.
    Malformed,
    /// Too large or too slow.
    Limit,
    /// No room for another connection, or the daemon is stopping.
    Shed,
    /// TLS could not be agreed on, or was not spoken at all.
    Tls,
}

impl Handshake {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Accepted, "accepted"),
        (Self::NotFound, "not_found"),
        (Self::Refused, "refused"),
        (Self::Malformed, "malformed"),
        (Self::Limit, "limit"),
        (Self::Shed, "shed"),
        (Self::Tls, "tls"),
    ];
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The reason with this label.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The reason of a token that is refused.
    #[must_use]
    pub const fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired | Refusal::NotYetValid => Self::TokenExpired,
            Refusal::Unavailable => Self::TokenUnjudged,
            _ => Self::TokenInvalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_label_of_its_own_and_a_text_that_fits_a_close_frame() {
        let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
        // RFC 6455 section 5.5: 125 bytes with the code.
        assert!(Reason::ALL.iter().all(|reason| (1..=123).contains(&reason.words().len())));
    }

    #[test]
    fn a_refused_token_is_bad_or_late_or_could_not_be_judged() {
        assert_eq!(Reason::of(Refusal::Expired), Reason::TokenExpired);
        assert_eq!(Reason::of(Refusal::NotYetValid), Reason::TokenExpired);
        assert_eq!(Reason::of(Refusal::Unavailable), Reason::TokenUnjudged);
        assert_eq!(Reason::of(Refusal::Signature), Reason::TokenInvalid);
    }
}
