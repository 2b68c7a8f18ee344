//! Who lives, what is lost, and when a node is ready.

use super::super::*;
use super::world::{Stage, at, id};
use crate::service::presence::{ChannelInquiry, PresenceAnswer, PresenceQuestion, PresenceRequest};
use crate::service::{ConnectionRef, DialectId};

#[test]
fn a_hello_is_answered_and_both_know_each_other() {
    let mut a = Stage::connected("a", 1, at(0));
    a.said();
    let mut b = Stage::connected("b", 2, at(100));
    assert_eq!(b.unready(at(100)), ["no peer's answer yet"]);
    a.hears(&mut b, at(101));
    b.hears(&mut a, at(102));
    assert_eq!(b.unready(at(102)), [""; 0]);
    let status = b.cluster.status(at(102));
    assert_eq!((status.nodes[0].name.as_str(), status.nodes[0].state), ("a", NodeState::Live));
    assert_eq!((status.nodes[0].connections, status.nodes[0].settings_differ), (3, false));
    assert_eq!((b.cluster.connections("1"), b.cluster.connections("2")), (Some(3), Some(0)));
}

/// What an HTTP client is answered at a moment, about an app's connections and about ending a
/// user's; `None` for no answer yet.
fn asked(stage: &mut Stage, ms: u64) -> [Option<PresenceAnswer>; 2] {
    [ChannelInquiry::Connections(1), ChannelInquiry::Dismiss("7".into())].map(|inquiry| {
        let from = ConnectionRef { shard: 0, id: 1, serial: 1 };
        let request = PresenceRequest::Inquire(inquiry);
        let question = PresenceQuestion { dialect: DialectId(0), app: "1".into(), request };
        stage.handle(ClusterInput::Asked(from, Box::new(question)), at(ms));
        stage.answers().pop()
    })
}

#[test]
fn what_is_not_known_of_all_nodes_is_not_answered_for_all() {
    use PresenceAnswer::{Connections, Unavailable};
    let known = |answers: [Option<PresenceAnswer>; 2]| {
        answers.map(|answer| match answer {
            Some(Connections(count)) => Some(Some(count)),
            Some(Unavailable) => Some(None),
            Some(_) => Some(Some(0)),
            None => None,
        })
    };
    let unavailable = [Some(None), Some(None)];
    let mut a = Stage::new("a", 1);
    assert_eq!(known(asked(&mut a, 0)), unavailable, "it is not connected");
    a.handle(ClusterInput::Connected, at(0));
    assert_eq!(known(asked(&mut a, 100)), unavailable, "others may be there");
    a.tick(at(1000));
    assert_eq!(known(asked(&mut a, 2000)), [Some(Some(1)), Some(Some(0))], "it is alone");

    let mut b = Stage::connected("b", 2, at(2000));
    a.hears(&mut b, at(2001));
    assert_eq!(known(asked(&mut a, 2002)), [Some(Some(4)), None], "b has to end sessions first");
    a.handle(ClusterInput::Lost, at(3000));
    assert_eq!(known(asked(&mut a, 3001)), unavailable, "what b said may be long ago");
    a.handle(ClusterInput::Connected, at(60_000));
    a.tick(at(61_000));
    assert_eq!(known(asked(&mut a, 62_000)), [Some(None), None], "b has said nothing since");
    b.said();
    b.tick(at(62_001));
    a.hears(&mut b, at(62_002));
    assert_eq!(known(asked(&mut a, 62_003)), [Some(Some(4)), None]);
    (62_500..=64_100).step_by(100).for_each(|ms| a.tick(at(ms)));
    let late = a.answers();
    let is_unavailable = |answer: &PresenceAnswer| matches!(answer, Unavailable);
    assert!(late.len() == 2 && late.iter().all(is_unavailable), "b has ended no session: {late:?}");
}

#[test]
fn a_node_alone_is_ready_once_others_would_have_answered() {
    let mut a = Stage::new("a", 1);
    assert_eq!(a.unready(at(0)), ["not connected"]);
    a.handle(ClusterInput::Connected, at(50));
    assert_eq!(a.unready(at(1500)), ["no peer's answer yet"]);
    assert_eq!(a.unready(at(1550)), [""; 0]);
}

#[test]
fn a_lost_connection_makes_a_node_unready_only_after_a_while() {
    let (mut a, mut b) = (Stage::connected("a", 1, at(0)), Stage::connected("b", 2, at(0)));
    a.hears(&mut b, at(1));
    a.handle(ClusterInput::Lost, at(5000));
    assert_eq!(a.unready(at(6900)), [""; 0]);
    assert_eq!(a.unready(at(7000)), ["not connected"]);
    for ms in (5000..60_000).step_by(100) {
        a.tick(at(ms));
    }
    let status = a.cluster.status(at(60_000));
    assert_ne!(status.nodes[0].state, NodeState::Gone, "no node is gone while none can be heard");
    a.handle(ClusterInput::Connected, at(60_000));
    assert_eq!(a.unready(at(61_900)), [""; 0], "all nodes come back at once");
    assert_eq!(a.unready(at(62_000)), ["no peer's answer yet"]);
    b.said();
    b.tick(at(62_100));
    a.hears(&mut b, at(62_100));
    assert_eq!(a.unready(at(62_100)), [""; 0]);
}

#[test]
fn a_node_is_not_gone_while_what_it_says_waits_for_room() {
    let (mut a, mut b) = (Stage::connected("a", 1, at(0)), Stage::connected("b", 2, at(0)));
    a.hears(&mut b, at(0));
    for ms in (0..20_000).step_by(100) {
        a.cluster.excuse(at(ms));
        a.tick(at(ms));
        assert_eq!(a.cluster.status(at(ms)).nodes[0].state, NodeState::Live);
    }
    for ms in (20_000..25_000).step_by(100) {
        a.tick(at(ms));
    }
    assert_eq!(a.cluster.status(at(25_000)).nodes[0].state, NodeState::Gone);
}

#[test]
fn a_silent_node_is_suspected_and_then_gone_and_may_come_back() {
    let (mut a, mut b) = (Stage::connected("a", 1, at(0)), Stage::connected("b", 2, at(0)));
    a.hears(&mut b, at(0));
    let state = |a: &mut Stage, ms: u64| {
        a.tick(at(ms));
        a.cluster.status(at(ms)).nodes[0].state
    };
    for ms in (0..3900).step_by(100) {
        assert_eq!(state(&mut a, ms), NodeState::Live);
    }
    assert_eq!(state(&mut a, 4000), NodeState::Suspected);
    assert_eq!(state(&mut a, 4900), NodeState::Suspected);
    a.news();
    assert_eq!(state(&mut a, 5000), NodeState::Gone);
    assert_eq!(a.news(), ["node b is gone"]);
    b.tick(at(5500));
    a.hears(&mut b, at(5500));
    assert_eq!(a.news(), ["node b is here"]);
    b.handle(ClusterInput::Stop, at(5600));
    a.hears(&mut b, at(5600));
    assert_eq!(a.news(), ["node b is gone"]);
}

#[test]
fn a_node_that_was_stopped_for_a_while_does_not_take_the_others_for_gone() {
    let (mut a, mut b) = (Stage::connected("a", 1, at(0)), Stage::connected("b", 2, at(0)));
    a.hears(&mut b, at(0));
    a.tick(at(100));
    a.tick(at(30_000));
    assert_eq!(a.cluster.status(at(30_000)).nodes[0].state, NodeState::Live);
    for ms in (30_000..36_000).step_by(100) {
        a.tick(at(ms));
    }
    assert_eq!(a.cluster.status(at(36_000)).nodes[0].state, NodeState::Gone);
}

#[test]
fn losses_are_counted_to_the_event_by_packets_and_by_heartbeats() {
    let mut a = Stage::connected("a", 1, at(0));
    let b = id("b", 2);
    // What was sent before the first packet is not counted: it may be older than the subscription.
    assert_eq!(a.cluster.heard_live(&b, 40, 10, at(1)), Some(0));
    assert_eq!(a.cluster.heard_live(&b, 50, 1, at(1)), Some(0));
    assert_eq!(a.cluster.heard_live(&b, 58, 2, at(1)), Some(7));
    assert_eq!(a.cluster.heard_live(&b, 51, 7, at(1)), None, "late, and counted as lost");
    let mut peer = Stage::connected("b", 2, at(0));
    peer.said();
    assert_eq!(peer.cluster.send_live(65), 0);
    peer.tick(at(1000));
    a.hears(&mut peer, at(1001));
    assert_eq!((a.cluster.take_lost(), a.cluster.take_lost()), (5, 0));
    assert_eq!(peer.cluster.send_live(3), 65);
    assert_eq!(a.cluster.heard_live(&b, 65, 3, at(2)), Some(0));
    // Another run counts anew.
    assert_eq!(a.cluster.heard_live(&id("b", 3), 2, 1, at(3)), Some(0));
    assert_eq!(a.cluster.heard_live(&id("b", 3), 4, 1, at(3)), Some(1));
    assert_eq!(a.cluster.heard_live(&b, 68, 1, at(4)), None, "of a former run");
    assert_eq!(a.cluster.heard_live(&id("a", 1), 0, 1, at(4)), None, "its own");
    assert_eq!(a.cluster.heard_live(&b, u64::MAX, u32::MAX, at(4)), None);
    assert_eq!(a.cluster.heard_live(&id("b", 3), u64::MAX, u32::MAX, at(4)), Some(u64::MAX - 5));
}

#[test]
fn two_nodes_of_one_name_are_told_to_all_three() {
    let mut a = Stage::connected("a", 1, at(0));
    let mut first = Stage::connected("b", 2, at(0));
    a.hears(&mut first, at(0));
    for ms in (0..5000).step_by(100) {
        first.tick(at(ms));
        a.hears(&mut first, at(ms));
    }
    let mut second = Stage::connected("b", 3, at(5000));
    let mut news = Vec::new();
    for ms in (5000..9000).step_by(100) {
        first.tick(at(ms));
        second.tick(at(ms));
        let (mut told, mut told_too) = (first.said(), second.said());
        for bytes in told.drain(..) {
            a.handle(ClusterInput::Heard(&bytes), at(ms));
            second.handle(ClusterInput::Heard(&bytes), at(ms));
        }
        for bytes in told_too.drain(..) {
            a.handle(ClusterInput::Heard(&bytes), at(ms));
            first.handle(ClusterInput::Heard(&bytes), at(ms));
        }
        news.extend(a.news());
    }
    assert_eq!(
        news,
        ["node b is here", "node b is here", "two nodes have the name b"],
        "a second run, and then both"
    );
    assert_eq!(a.unready(at(9000)), [""; 0]);
    for twin in [&first, &second] {
        assert_eq!(twin.unready(at(9000)), ["a node of the same name"]);
    }
    for ms in (9000..15_000).step_by(100) {
        second.tick(at(ms));
    }
    assert_eq!(second.unready(at(15_000)), [""; 0], "the other is gone");
}

#[test]
fn a_node_that_is_started_again_replaces_its_former_run_at_once() {
    let mut a = Stage::connected("a", 1, at(0));
    let mut b = Stage::connected("b", 2, at(0));
    a.hears(&mut b, at(0));
    let mut again = Stage::connected("b", 9, at(700));
    a.hears(&mut again, at(700));
    assert_eq!(a.cluster.status(at(700)).nodes.len(), 1);
    assert_eq!(a.cluster.status(at(700)).nodes[0].incarnation, 9);
    // What was still under way of the former does not bring it back.
    b.tick(at(700));
    a.hears(&mut b, at(701));
    assert_eq!(a.cluster.status(at(701)).nodes[0].incarnation, 9);
    assert!(!a.cluster.status(at(701)).nodes[0].doubled);
}

#[test]
fn differing_settings_are_told_once_and_shown() {
    let mut a = Stage::connected("a", 1, at(0));
    let mut b = Stage::connected("b", 2, at(0));
    b.said();
    a.said();
    b.cluster.configure(99);
    for ms in [1000, 2000] {
        b.tick(at(ms));
        a.hears(&mut b, at(ms));
    }
    let differing = "the settings of node b differ from this node's";
    assert_eq!(a.news().iter().filter(|line| *line == differing).count(), 1);
    assert!(a.cluster.status(at(2000)).nodes[0].settings_differ);
    a.cluster.configure(99);
    assert!(!a.cluster.status(at(2000)).nodes[0].settings_differ);
}

#[test]
fn names_that_come_and_go_take_a_limited_room() {
    let mut a = Stage::connected("a", 1, at(0));
    for number in 0..1000 {
        a.cluster.heard_live(&id(&format!("n{number}"), 1), 0, 1, at(10));
    }
    assert_eq!(a.cluster.status(at(10)).nodes.len(), 64);
    for ms in (0..10_000).step_by(100) {
        a.tick(at(ms));
    }
    assert_eq!(
        a.cluster.heard_live(&id("late", 1), 0, 1, at(10_000)),
        Some(0),
        "in a gone one's place"
    );
    assert_eq!(a.cluster.status(at(10)).nodes.len(), 64);
}

#[test]
fn a_node_that_has_said_bye_says_no_more_and_is_not_brought_back_by_what_comes_late() {
    let mut a = Stage::connected("a", 1, at(0));
    let mut b = Stage::connected("b", 2, at(0));
    a.hears(&mut b, at(0));
    b.tick(at(1000));
    let late = b.said();
    b.handle(ClusterInput::Stop, at(1500));
    a.hears(&mut b, at(1500));
    a.news();
    late.iter().for_each(|bytes| a.handle(ClusterInput::Heard(bytes), at(1501)));
    assert_eq!(a.cluster.status(at(1501)).nodes[0].state, NodeState::Gone);
    assert_eq!(a.news(), [""; 0]);
    b.tick(at(3000));
    b.hears(&mut Stage::connected("c", 3, at(3000)), at(3000));
    assert!(b.said().is_empty(), "a hello is not answered either");
    // Another run of it is.
    a.hears(&mut Stage::connected("b", 4, at(4000)), at(4000));
    assert_eq!(a.cluster.status(at(4000)).nodes[0].state, NodeState::Live);
}

#[test]
fn of_two_nodes_of_one_name_the_older_is_heard_again_when_the_later_has_stopped() {
    let mut a = Stage::connected("a", 1, at(0));
    let mut first = Stage::connected("b", 2, at(0));
    a.hears(&mut first, at(0));
    let mut second = Stage::connected("b", 3, at(5000));
    a.hears(&mut second, at(5000));
    let state = |a: &Stage, ms| {
        let node = a.cluster.status(at(ms)).nodes[0].clone();
        (node.incarnation, node.state)
    };
    first.said();
    first.tick(at(9000));
    a.hears(&mut first, at(9000));
    assert_eq!(state(&a, 9000).0, 3, "the later one lives");
    second.handle(ClusterInput::Stop, at(9100));
    a.hears(&mut second, at(9100));
    first.tick(at(10_000));
    a.hears(&mut first, at(10_000));
    assert_eq!(state(&a, 10_000), (2, NodeState::Live));
}

#[test]
fn nodes_know_how_long_a_message_takes_there_and_back() {
    let mut a = Stage::connected("a", 1, at(0));
    a.said();
    let mut b = Stage::connected("b", 2, at(0));
    let round_trip = |stage: &Stage, ms| stage.cluster.status(at(ms)).nodes[0].round_trip_us;
    a.hears(&mut b, at(2));
    b.hears(&mut a, at(4));
    assert_eq!(round_trip(&a, 4), None, "it has no answer to a heartbeat yet");
    assert_eq!(round_trip(&b, 4), Some(4000), "its hello was answered at once");

    a.tick(at(1003));
    b.hears(&mut a, at(1010));
    b.tick(at(1500));
    a.hears(&mut b, at(1503));
    assert_eq!(round_trip(&a, 1503), Some(10_000), "7 ms there, 490 ms held, 3 ms back");
    (1600..=7000).step_by(100).for_each(|ms| a.tick(at(ms)));
    assert_eq!(round_trip(&a, 7000), None, "b is gone");
}
