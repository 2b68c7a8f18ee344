//! What the owner of a channel's presence is told and asked, and what it answers.

use crate::service::DialectId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something for the owner of a channel. Those of one shard come in the order in which they were asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PresenceQuestion {
    /// The dialect in whose words changes are told.
    pub dialect: DialectId,
    /// The app's id.
    pub app: Arc<str>,
    /// What it is.
    pub request: PresenceRequest,
}

/// What the owner is told or asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PresenceRequest {
    /// A connection has subscribed to a channel without members.
    Enter(Box<str>),
    /// A connection joins a presence channel for a user; answered by [`PresenceAnswer::Present`],
    /// [`PresenceAnswer::Full`] or [`PresenceAnswer::TooLong`]. For a connection that is one already, nothing but the
    /// answer.
    Join {
        /// The channel.
        channel: Box<str>,
        /// The user.
        user: Box<str>,
        /// What is shown of the user, if it has no connection in the channel yet.
        info: Box<str>,
    },
    /// A connection has left a channel that it had entered or asked to join.
    Leave(Box<str>),
    /// A connection has found nothing kept in a channel that keeps its last event.
    Miss(Box<str>),
    /// A question of somebody who is in no channel.
    Inquire(ChannelInquiry),
}

/// What can be asked about channels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ChannelInquiry {
    /// All that are occupied; answered by [`PresenceAnswer::Channels`].
    Channels {
        /// Only those whose name begins so.
        prefix: Box<str>,
        /// What is to be told of each.
        wanted: WantedCounts,
    },
    /// One channel; answered by [`PresenceAnswer::Channels`].
    Channel(Box<str>, WantedCounts),
    /// The users of a presence channel; answered by [`PresenceAnswer::Users`].
    Users(Box<str>),
    /// The counts of some channels by name, as an object; answered by [`PresenceAnswer::Channels`].
    Counts(Vec<(Box<str>, WantedCounts)>),
    /// The counts of some channels in order, as a list; without a name an empty object; answered by
    /// [`PresenceAnswer::Channels`].
    Batch(Vec<Option<(Box<str>, WantedCounts)>>),
    /// Ends every connection by which a user is a member somewhere: each has been told by
    /// [`PresenceAnswer::Dismissed`] when this is answered by [`PresenceAnswer::Channels`] without any.
    Dismiss(Box<str>),
}

/// Which counts are wanted of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedCounts {
    /// Users of a presence channel.
    pub users: bool,
    /// Connections.
    pub subscriptions: bool,
    /// The event that is kept for those who come later.
    pub kept: bool,
}

/// What the owner answers one connection.
#[derive(Debug, Serialize, Deserialize)]
pub enum PresenceAnswer {
    /// The connection is a member's.
    Present {
        /// The channel.
        channel: Box<str>,
        /// Who is there, in the words of the dialect.
        list: Box<str>,
    },
    /// There is no room for another member in this channel.
    Full(Box<str>),
    /// The list of this channel's members would be too long to send.
    TooLong(Box<str>),
    /// The connection is to end: it is a user's whom the app has dismissed.
    Dismissed,
    /// What is occupied of the channels that were asked for and are this owner's, in the order of their names.
    Channels(Vec<ChannelCounts>),
    /// The users of a channel, in the order of their names.
    Users(Vec<Box<str>>),
}

/// What is counted of an occupied channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelCounts {
    /// The channel.
    pub name: Box<str>,
    /// Its subscriptions.
    pub subscriptions: u32,
    /// Its users, if it has members.
    pub users: Option<u32>,
}

impl PresenceQuestion {
    /// Something about an app, as a session says it: its dialect is its shard's to say.
    #[must_use]
    pub fn new(app: Arc<str>, request: PresenceRequest) -> Self {
        Self { dialect: DialectId(0), app, request }
    }

    /// Which of so many shards answers: the owner of the channel, by app and name; `None` when each answers for its own
    /// channels. Every shard finds the same one.
    #[must_use]
    pub fn owner(&self, shards: usize) -> Option<usize> {
        self.request.channel().map(|channel| owner(&self.app, channel, shards))
    }

    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.request.text_bytes()
    }
}

impl PresenceRequest {
    /// The channel that it is about; `None` when it is about several.
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
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Present { channel, list } => channel.len() + list.len(),
            Self::Full(channel) | Self::TooLong(channel) => channel.len(),
            Self::Dismissed => 0,
            Self::Channels(channels) => {
                channels.iter().map(|channel| size_of_val(channel) + channel.name.len()).sum()
            }
            Self::Users(users) => users.iter().map(|user| size_of_val(user) + user.len()).sum(),
        };
        size_of::<Self>() + bytes
    }

    /// Takes in what another owner answers to the same question.
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
            // Nothing else has several owners.
            _ => {}
        }
    }
}

/// Which of so many shards owns a channel of an app.
fn owner(app: &str, channel: &str, shards: usize) -> usize {
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
