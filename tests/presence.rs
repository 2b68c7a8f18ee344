//! What the owner of an app's presence promises: who is there, what changes for whom, how often counts are told, and
//! that nothing is left of those who have gone.

#![allow(clippy::unwrap_used)]

use fanfare::service::presence::{
    AppPresence, ChannelInquiry, Joined, Newcomer, PresenceChange, PresenceQuestion,
    PresenceRequest, PresenceRules, WantedCounts,
};
use fanfare::service::{ConnectionRef, DialectId};
use proptest::prelude::*;
use std::collections::BTreeMap;

const FREE: PresenceRules = PresenceRules { members_max: 0, counts: false, list_bytes_max: None };

fn connection(id: u32) -> ConnectionRef {
    ConnectionRef { shard: 0, id, serial: id }
}

/// A presence, and in words what it says.
struct Stage {
    presence: AppPresence,
    rules: PresenceRules,
    now_ms: u64,
}

impl Stage {
    fn new(rules: PresenceRules) -> Self {
        Self { presence: AppPresence::default(), rules, now_ms: 10_000 }
    }

    fn said(
        &mut self,
        act: impl FnOnce(&mut AppPresence, PresenceRules, u64, &mut dyn FnMut(PresenceChange<'_>)),
    ) -> Vec<String> {
        let mut said = Vec::new();
        act(&mut self.presence, self.rules, self.now_ms, &mut |change| {
            said.push(match change {
                PresenceChange::Occupied(channel) => format!("{channel} occupied"),
                PresenceChange::Vacated(channel) => format!("{channel} vacated"),
                PresenceChange::Added(channel, user, info) => format!("{channel} +{user} {info}"),
                PresenceChange::Removed(channel, user) => format!("{channel} -{user}"),
                PresenceChange::Count(channel, count) => format!("{channel} {count}"),
                PresenceChange::Missed(channel) => format!("{channel} missed"),
            });
        });
        said
    }

    fn enter(&mut self, channel: &str) -> Vec<String> {
        self.said(|presence, rules, now_ms, tell| presence.enter(channel, rules, now_ms, tell))
    }

    fn join(&mut self, id: u32, channel: &str, user: &str, info: &str) -> (Joined, Vec<String>) {
        let mut joined = Joined::Full;
        let said = self.said(|presence, rules, _, tell| {
            let newcomer = Newcomer { channel, user, info, listed_bytes: info.len() };
            joined = presence.join(connection(id), newcomer, rules, tell);
        });
        (joined, said)
    }

    fn leave(&mut self, id: u32, channel: &str) -> Vec<String> {
        self.said(|presence, rules, now_ms, tell| {
            presence.leave(connection(id), channel, rules, now_ms, tell)
        })
    }

    fn tick(&mut self) -> Vec<String> {
        self.said(|presence, _, now_ms, tell| presence.tick(now_ms, tell))
    }
}

#[test]
fn a_user_is_added_with_the_first_connection_and_removed_with_the_last() {
    let mut stage = Stage::new(FREE);
    assert_eq!(stage.join(1, "c", "7", "a").1, ["c occupied", "c +7 a"]);
    assert!(stage.join(2, "c", "7", "b").1.is_empty(), "the first data stand");
    assert!(stage.join(2, "c", "8", "b").1.is_empty(), "the first identity stands");
    assert_eq!(stage.join(3, "c", "10", "d").1, ["c +10 d"]);
    assert_eq!(stage.presence.members("c").collect::<Vec<_>>(), [("10", "d"), ("7", "a")]);
    assert_eq!(stage.presence.counts("c"), Some((3, Some(2))));
    assert!(stage.leave(1, "c").is_empty());
    assert!(stage.leave(1, "c").is_empty(), "who has left leaves nothing");
    assert_eq!(stage.leave(2, "c"), ["c -7"]);
    assert_eq!(stage.leave(3, "c"), ["c -10", "c vacated"]);
    assert!(stage.leave(3, "c").is_empty() && stage.presence.is_empty());
}

#[test]
fn the_limit_is_of_users_and_a_connection_more_of_one_always_fits() {
    let mut stage = Stage::new(PresenceRules { members_max: 2, ..FREE });
    stage.join(1, "c", "a", "");
    stage.join(2, "c", "b", "");
    assert_eq!(stage.join(3, "c", "x", ""), (Joined::Full, vec![]));
    assert_eq!(stage.join(4, "c", "b", ""), (Joined::Present, vec![]));
    assert_eq!(stage.join(3, "d", "x", "").0, Joined::Present);
    assert!(stage.leave(3, "c").is_empty(), "who was refused leaves nothing");
    assert_eq!(stage.leave(1, "c"), ["c -a"]);
    assert_eq!(stage.join(3, "c", "x", "").1, ["c +x "]);
}

#[test]
fn a_connection_is_not_taken_for_one_that_had_its_number_before() {
    let mut stage = Stage::new(FREE);
    stage.join(1, "c", "7", "");
    let other = ConnectionRef { serial: 2, ..connection(1) };
    assert!(
        stage
            .said(|presence, rules, now_ms, tell| presence.leave(other, "c", rules, now_ms, tell))
            .is_empty()
    );
    assert_eq!(stage.presence.counts("c"), Some((1, Some(1))));
}

#[test]
fn a_count_is_told_at_each_change_and_of_a_large_channel_every_five_seconds() {
    let mut stage = Stage::new(PresenceRules { counts: true, ..FREE });
    assert_eq!(stage.enter("c"), ["c occupied", "c 1"]);
    (2..100).for_each(|_| drop(stage.enter("c")));
    assert_eq!(stage.enter("c"), ["c 100"]);
    stage.now_ms += 4000;
    assert!(stage.enter("c").is_empty(), "too large to be told again so soon");
    assert!(stage.enter("c").is_empty());
    assert!(stage.tick().is_empty());
    stage.now_ms += 999;
    assert!(stage.tick().is_empty());
    stage.now_ms += 1;
    assert_eq!(stage.tick(), ["c 102"]);
    assert!(stage.tick().is_empty());
    stage.now_ms += 5000;
    assert!(stage.tick().is_empty(), "nothing has changed");
    assert_eq!(stage.enter("c"), ["c 103"]);
}

#[test]
fn a_count_that_waits_is_told_at_once_when_the_channel_is_small_again() {
    let mut stage = Stage::new(PresenceRules { counts: true, ..FREE });
    (0..101).for_each(|_| drop(stage.enter("c")));
    stage.now_ms += 3000;
    assert_eq!(stage.leave(0, "c"), ["c 100"]);
    assert!(stage.enter("c").is_empty());
    stage.now_ms += 2000;
    assert!(stage.tick().is_empty(), "five seconds count from the last telling");
    stage.now_ms += 3000;
    assert_eq!(stage.tick(), ["c 101"]);
    (0..100).for_each(|_| drop(stage.leave(0, "c")));
    assert_eq!(stage.leave(0, "c"), ["c vacated"]);
    stage.now_ms += 60_000;
    assert!(stage.tick().is_empty());
}

#[test]
fn counts_are_told_only_where_they_are_asked_for_and_never_of_members() {
    let mut stage = Stage::new(FREE);
    assert_eq!(stage.enter("c"), ["c occupied"]);
    assert!(stage.enter("c").is_empty());
    stage.rules.counts = true;
    stage.join(1, "p", "7", "");
    assert!(stage.join(2, "p", "7", "").1.is_empty());
    assert!(stage.leave(2, "p").is_empty());
}

#[test]
fn channels_are_listed_by_the_start_of_their_names() {
    let mut stage = Stage::new(FREE);
    for channel in ["b", "presence", "a", "presencf"] {
        stage.enter(channel);
    }
    stage.join(1, "presence-b", "7", "");
    stage.join(2, "presence-a", "7", "");
    stage.join(3, "presence-a", "7", "");
    let listed = |prefix: &str| -> Vec<String> {
        let show = |(name, subscriptions, users)| format!("{name} {subscriptions} {users:?}");
        stage.presence.channels(prefix).map(show).collect()
    };
    assert_eq!(listed("presence-"), ["presence-a 2 Some(1)", "presence-b 1 Some(1)"]);
    assert_eq!(listed("").len(), 6);
    assert!(listed("presence-c").is_empty());
}

/// One thing that happens in a channel.
#[derive(Clone, Debug)]
enum Step {
    Join(u32, u8, u8),
    Leave(u32, u8),
    Enter(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..8, 0u8..2, 0u8..4).prop_map(|(id, channel, user)| Step::Join(id, channel, user)),
        3 => (0u32..8, 0u8..2).prop_map(|(id, channel)| Step::Leave(id, channel)),
        1 => (0u8..2).prop_map(Step::Enter),
    ]
}

proptest! {
    #[test]
    fn whoever_follows_the_changes_knows_who_is_there(
        steps in proptest::collection::vec(step(), 0..300), members_max in 0u32..4
    ) {
        let mut stage = Stage::new(PresenceRules { members_max, counts: true, ..FREE });
        let mut connections: BTreeMap<(u8, u32), String> = BTreeMap::new();
        let mut entered: BTreeMap<u8, u32> = BTreeMap::new();
        let mut view: BTreeMap<String, u32> = BTreeMap::new();
        for step in steps {
            let said = match step {
                Step::Enter(channel) => {
                    *entered.entry(channel).or_default() += 1;
                    stage.enter(&format!("c{channel}"))
                }
                Step::Join(id, channel, user) => {
                    let (joined, said) = stage.join(id, &format!("p{channel}"), &user.to_string(), "i");
                    if joined == Joined::Present {
                        connections.entry((channel, id)).or_insert_with(|| user.to_string());
                    }
                    said
                }
                Step::Leave(id, channel) => {
                    connections.remove(&(channel, id));
                    stage.leave(id, &format!("p{channel}"))
                }
            };
            for change in said {
                match change.split_once(' ').unwrap() {
                    (channel, "occupied") => prop_assert!(view.insert(channel.into(), 0).is_none()),
                    (channel, "vacated") => prop_assert!(view.remove(channel).is_some()),
                    (channel, change) if change.starts_with('+') => {
                        let added = view.insert(format!("{channel} {}", &change[1..2]), 0);
                        prop_assert!(added.is_none());
                    }
                    (channel, change) if change.starts_with('-') => {
                        let removed = view.remove(&format!("{channel} {}", &change[1..]));
                        prop_assert!(removed.is_some());
                    }
                    (channel, count) => {
                        let number: u8 = channel[1..].parse().unwrap();
                        prop_assert_eq!(count.parse::<u32>().unwrap(), entered[&number]);
                    }
                }
            }
            for channel in 0..2u8 {
                let name = format!("p{channel}");
                let here: Vec<&String> =
                    connections.iter().filter(|((at, _), _)| *at == channel).map(|(_, user)| user).collect();
                let mut users = here.clone();
                users.sort();
                users.dedup();
                let members: Vec<String> = stage.presence.members(&name).map(|(user, _)| user.into()).collect();
                prop_assert_eq!(members.iter().collect::<Vec<_>>(), users.clone());
                prop_assert!(members_max == 0 || users.len() <= members_max as usize);
                let counts = (!here.is_empty()).then_some((here.len() as u32, Some(users.len())));
                prop_assert_eq!(stage.presence.counts(&name), counts);
                let known = users.iter().all(|user| view.contains_key(&format!("{name} {user}")));
                prop_assert!(known);
            }
        }
        for (channel, id) in connections.keys().copied().collect::<Vec<_>>() {
            stage.leave(id, &format!("p{channel}"));
        }
        for (channel, count) in entered {
            (0..count).for_each(|_| drop(stage.leave(0, &format!("c{channel}"))));
        }
        prop_assert!(stage.presence.is_empty());
    }
}

#[test]
fn a_list_of_members_is_never_longer_than_can_be_sent() {
    let mut stage = Stage::new(PresenceRules { list_bytes_max: Some(10), ..FREE });
    assert_eq!(stage.join(1, "c", "a", "1234").0, Joined::Present);
    assert_eq!(
        stage.join(2, "c", "b", "1234567"),
        (Joined::TooLong, vec![]),
        "and nobody is told of it"
    );
    assert_eq!(
        stage.join(2, "d", "b", "1234567").0,
        Joined::Present,
        "each channel has a list of its own"
    );
    assert_eq!(stage.join(3, "c", "c", "123456").0, Joined::Present);
    assert_eq!(
        stage.join(4, "c", "a", "whatever"),
        (Joined::Present, vec![]),
        "another tab adds nothing"
    );
    assert_eq!(stage.join(5, "c", "d", "1").0, Joined::TooLong);
    stage.leave(1, "c");
    assert_eq!(stage.join(5, "c", "d", "1").0, Joined::TooLong, "the other tab is there yet");
    stage.leave(4, "c");
    assert_eq!(stage.join(5, "c", "d", "1234").0, Joined::Present);
    // A reload has made it shorter: who is in stays, and nobody gets the list any more.
    stage.rules.list_bytes_max = Some(9);
    assert_eq!(stage.join(5, "c", "d", "1234").0, Joined::Present);
    assert_eq!(stage.join(6, "c", "d", "1234").0, Joined::TooLong);
}

#[test]
fn the_connections_of_a_user_are_found_in_all_channels() {
    let mut stage = Stage::new(FREE);
    for (id, channel, user) in
        [(1, "c", "a"), (2, "c", "a"), (3, "c", "b"), (1, "d", "a"), (4, "e", "ab")]
    {
        stage.join(id, channel, user, "");
    }
    stage.enter("a");
    let mut ids: Vec<u32> =
        stage.presence.connections("a").map(|connection| connection.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 1, 2]);
    assert_eq!(stage.presence.connections("none").count(), 0);
}

#[test]
fn what_waits_for_an_owner_weighs_at_least_what_was_written() {
    let name = || Box::<str>::from("x".repeat(100));
    let wish = || (name(), WantedCounts::default());
    for (inquiry, bytes) in [
        (ChannelInquiry::Users(name()), 100),
        (ChannelInquiry::Dismiss(name()), 100),
        (ChannelInquiry::Channels { prefix: name(), wanted: WantedCounts::default() }, 100),
        (ChannelInquiry::Channel(name(), WantedCounts::default()), 100),
        (ChannelInquiry::Counts((0..50).map(|_| wish()).collect()), 5000),
        (ChannelInquiry::Batch((0..50).map(|_| Some(wish())).collect()), 5000),
    ] {
        let request = PresenceRequest::Inquire(inquiry);
        let question = PresenceQuestion { dialect: DialectId(0), app: "1".into(), request };
        assert!(question.weight() > bytes, "{question:?}");
    }
}
