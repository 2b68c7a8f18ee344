//! Requests to the owner of a channel's presence, which shard that owner is (`owner`, a hash of app
//! and channel), and its answers.

use crate::service::DialectId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A request to the owner of a channel. Requests of one shard arrive in the order they were sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PresenceQuestion {
    /// The dialect that words the announcements.
    pub dialect: DialectId,
    /// The app's id.
    pub app: Arc<str>,
    /// The request.
    pub request: PresenceRequest,
}

/// A request to the owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PresenceRequest {
    /// A connection subscribed to a channel without members.
    Enter(Box<str>),
    /// A connection joins a presence channel as a user; answered by [`PresenceAnswer::Present`],
    /// [`PresenceAnswer::Full`] or [`PresenceAnswer::TooLong`]. Joining twice changes nothing, but
    /// is answered again.
    Join {
        /// The channel.
        channel: Box<str>,
        /// The user.
        user: Box<str>,
        /// The data to show, used unless the user is a member already.
        info: Box<str>,
    },
    /// A connection left a channel that it had entered or asked to join.
    Leave(Box<str>),
    /// A connection found nothing retained in a cache channel.
    Miss(Box<str>),
    /// A query from a client of the HTTP API, which is in no channel.
    Inquire(ChannelInquiry),
}

/// A query, or an order, about channels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ChannelInquiry {
    /// All occupied channels; answered by [`PresenceAnswer::Channels`].
    Channels {
        /// Only channels whose names start with this.
        prefix: Box<str>,
        /// The counts wanted of each.
        wanted: WantedCounts,
    },
    /// One channel; answered by [`PresenceAnswer::Channels`].
    Channel(Box<str>, WantedCounts),
    /// The users of a presence channel; answered by [`PresenceAnswer::Users`].
    Users(Box<str>),
    /// Counts by channel, returned as an object; answered by [`PresenceAnswer::Channels`].
    Counts(Vec<(Box<str>, WantedCounts)>),
    /// Counts in the order asked, returned as a list with an empty object for each `None`; answered
    /// by [`PresenceAnswer::Channels`].
    Batch(Vec<Option<(Box<str>, WantedCounts)>>),
    /// Closes every connection through which a user is a member of any channel: each receives
    /// [`PresenceAnswer::Dismissed`] before this is answered by an empty
    /// [`PresenceAnswer::Channels`].
    Dismiss(Box<str>),
    /// The app's connections; answered by [`PresenceAnswer::Connections`]. The number is that of
    /// this node, and the answer without other nodes.
    Connections(u64),
}

/// The counts wanted of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedCounts {
    /// Users of a presence channel.
    pub users: bool,
    /// Subscriptions.
    pub subscriptions: bool,
    /// The retained event of a cache channel.
    pub kept: bool,
}

/// An answer from the owner to one connection.
#[derive(Debug, Serialize, Deserialize)]
pub enum PresenceAnswer {
    /// The connection belongs to a member.
    Present {
        /// The channel.
        channel: Box<str>,
        /// The member list, as the dialect words it.
        list: Box<str>,
    },
    /// The channel has reached its limit of members.
    Full(Box<str>),
    /// The list of this channel's members would be too long to send.
    TooLong(Box<str>),
    /// The channel's owner has not answered in time, or does not take back a member that this node
    /// has shown: end the session, so that its client starts anew.
    Away(Box<str>),
    /// Not every owner has answered an inquiry in time: no part of the answer is given.
    Unavailable,
    /// The app dismissed the user of this connection: close it.
    Dismissed,
    /// The occupied channels among those asked about and owned by this shard, in order of name.
    Channels(Vec<ChannelCounts>),
    /// The users of a channel, in order.
    Users(Vec<Box<str>>),
    /// An app's connections on all nodes.
    Connections(u64),
}

/// The counts of an occupied channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelCounts {
    /// The channel.
    pub name: Box<str>,
    /// Its subscriptions.
    pub subscriptions: u32,
    /// Its users, for a presence channel.
    pub users: Option<u32>,
}

/// Occupied channels of an app, as inquiries ask for them.
pub trait OccupiedChannels {
    /// A channel; `None` when it is not occupied.
    fn channel(&self, name: &str) -> Option<ChannelCounts>;

    /// The channels whose names start with `prefix`, in order of name.
    fn channels(&self, prefix: &str) -> Vec<ChannelCounts>;

    /// The users of a presence channel, in order.
    fn users(&self, name: &str) -> Vec<Box<str>>;

    /// The answer to an inquiry.
    fn answer(&self, inquiry: &ChannelInquiry) -> PresenceAnswer {
        PresenceAnswer::Channels(match inquiry {
            ChannelInquiry::Channels { prefix, .. } => self.channels(prefix),
            ChannelInquiry::Channel(name, _) => self.channel(name).into_iter().collect(),
            ChannelInquiry::Counts(named) => {
                named.iter().filter_map(|(name, _)| self.channel(name)).collect()
            }
            ChannelInquiry::Batch(named) => {
                named.iter().flatten().filter_map(|(name, _)| self.channel(name)).collect()
            }
            ChannelInquiry::Users(name) => return PresenceAnswer::Users(self.users(name)),
            ChannelInquiry::Dismiss(_) => Vec::new(),
            ChannelInquiry::Connections(here) => return PresenceAnswer::Connections(*here),
        })
    }
}

impl PresenceQuestion {
    /// A question from a session; the shard fills in the dialect.
    #[must_use]
    pub fn new(app: Arc<str>, request: PresenceRequest) -> Self {
        Self { dialect: DialectId(0), app, request }
    }

    /// The shard, out of `shards`, that owns the channel; `None` when every shard answers for its
    /// own channels. All shards compute the same owner.
    #[must_use]
    pub fn owner(&self, shards: usize) -> Option<usize> {
        self.request.channel().map(|channel| owner(&self.app, channel, shards))
    }

    /// Whether it asks about channels to which something was published just now: that is done,
    /// whatever becomes of the answer.
    #[must_use]
    pub fn is_of_publication(&self) -> bool {
        use ChannelInquiry::{Batch, Counts};
        matches!(self.request, PresenceRequest::Inquire(Counts(_) | Batch(_)))
    }

    /// Bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.request.text_bytes()
    }
}

impl PresenceRequest {
    /// The one channel concerned; `None` when there may be several.
    fn channel(&self) -> Option<&str> {
        match self {
            Self::Enter(channel) | Self::Leave(channel) | Self::Miss(channel) => Some(channel),
            Self::Join { channel, .. } => Some(channel),
            Self::Inquire(ChannelInquiry::Channel(channel, _) | ChannelInquiry::Users(channel)) => {
                Some(channel)
            }
            Self::Inquire(_) => None,
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Enter(channel) | Self::Leave(channel) | Self::Miss(channel) => channel.len(),
            Self::Join { channel, user, info } => channel.len() + user.len() + info.len(),
            Self::Inquire(inquiry) => inquiry.text_bytes(),
        }
    }
}

impl ChannelInquiry {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Channels { prefix: name, .. } | Self::Channel(name, _) => name.len(),
            Self::Users(name) | Self::Dismiss(name) => name.len(),
            Self::Connections(_) => 0,
            Self::Counts(channels) => {
                channels.iter().map(|channel| channel.0.len() + size_of_val(channel)).sum()
            }
            Self::Batch(channels) => channels
                .iter()
                .map(|channel| {
                    channel.as_ref().map_or(0, |named| named.0.len()) + size_of_val(channel)
                })
                .sum(),
        }
    }
}

impl PresenceAnswer {
    /// Bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Present { channel, list } => channel.len() + list.len(),
            Self::Full(channel) | Self::TooLong(channel) | Self::Away(channel) => channel.len(),
            Self::Dismissed | Self::Unavailable | Self::Connections(_) => 0,
            Self::Channels(channels) => {
                channels.iter().map(|channel| size_of_val(channel) + channel.name.len()).sum()
            }
            Self::Users(users) => users.iter().map(|user| size_of_val(user) + user.len()).sum(),
        };
        size_of::<Self>() + bytes
    }

    /// Merges another owner's answer to the same question.
    pub fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Channels(known), Self::Channels(more)) => {
                known.extend(more);
                known.sort_unstable();
            }
            (Self::Users(known), Self::Users(more)) => {
                known.extend(more);
                known.sort_unstable();
            }
            // Only these questions go to several owners.
            _ => {}
        }
    }
}

/// The shard, out of `shards`, that owns a channel of an app.
pub(super) fn owner(app: &str, channel: &str, shards: usize) -> usize {
    // The NUL keeps ("a", "bc") and ("ab", "c") apart.
    let bytes = app.bytes().chain([0]).chain(channel.bytes());
    let sum = bytes.fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    sum % shards.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(app: &str, request: PresenceRequest) -> PresenceQuestion {
        PresenceQuestion { dialect: DialectId(0), app: app.into(), request }
    }

    #[test]
    fn channels_of_one_app_are_spread_over_the_shards_and_all_that_is_said_of_one_goes_to_its_owner()
     {
        let mut seen = [0; 8];
        for number in 0..800 {
            let channel: Box<str> = format!("presence-room.{number}").into();
            let owner = question("1", PresenceRequest::Enter(channel.clone())).owner(8).unwrap();
            seen[owner] += 1;
            for request in [
                PresenceRequest::Leave(channel.clone()),
                PresenceRequest::Miss(channel.clone()),
                PresenceRequest::Join {
                    channel: channel.clone(),
                    user: "u".into(),
                    info: "1".into(),
                },
                PresenceRequest::Inquire(ChannelInquiry::Users(channel.clone())),
            ] {
                assert_eq!(question("1", request).owner(8), Some(owner));
            }
        }
        assert!(seen.iter().all(|channels| (50..150).contains(channels)), "{seen:?}");
        let all = ChannelInquiry::Channels { prefix: "".into(), wanted: WantedCounts::default() };
        assert_eq!(question("1", PresenceRequest::Inquire(all)).owner(8), None);
    }
}
