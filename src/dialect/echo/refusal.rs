//! Why a client does not get a channel, and what it receives instead.

use super::message::subscription_error;
use crate::dialect::{Actions, DialectTally};

/// Why a subscription is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionRefused {
    Name,
    Signature,
    Member,
    User,
    MemberBytes,
    Subscriptions,
    Full,
    List,
}

impl SubscriptionRefused {
    /// The type, text and status for the client, and what is counted.
    fn told(self) -> (&'static str, &'static str, u16, DialectTally) {
        let (text, tally) = match self {
            Self::Name => ("The channel name is invalid.", DialectTally::BadName),
            Self::Signature => ("The signature is missing or invalid.", DialectTally::Unauthorized),
            Self::Member => {
                ("The channel data are missing or invalid.", DialectTally::Unauthorized)
            }
            Self::User => ("The channel is of another user.", DialectTally::Unauthorized),
            Self::MemberBytes => ("The channel data are too large.", DialectTally::OverLimit),
            Self::Subscriptions => {
                ("The connection has too many subscriptions.", DialectTally::OverLimit)
            }
            Self::Full => ("The channel has too many members.", DialectTally::OverLimit),
            Self::List => {
                ("The list of the channel's members is too long.", DialectTally::OverLimit)
            }
        };

        // The types of Pusher's own errors, by which pusher-js and our `TALLIES` tell them apart.
        let (kind, status) = match self {
            Self::Name => ("InvalidChannel", 400),
            Self::Signature | Self::Member | Self::User => ("AuthError", 401),
            Self::MemberBytes => ("LimitReached", 413),
            Self::Subscriptions | Self::Full | Self::List => ("LimitReached", 429),
        };
        (kind, text, status, tally)
    }
}

/// Tells a client why it does not get a channel.
pub(super) fn refuse(channel: &str, refused: SubscriptionRefused, out: &mut Actions) {
    let (kind, text, status, tally) = refused.told();
    subscription_error(channel, kind, text, status, out);
    out.count(tally);
}
