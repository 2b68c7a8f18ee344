//! Garbage on the subjects: counted, told, and without any other effect.

use super::super::*;
use super::super::{node, wire};
use super::world::{Stage, at};
use proptest::prelude::*;

/// Messages of every kind, as another node writes them.
fn messages() -> Vec<Vec<u8>> {
    let mut b = Stage::connected("b", 2, at(0));
    b.tick(at(1000));
    b.handle(ClusterInput::Stop, at(1100));
    b.said()
}

#[test]
fn messages_of_another_version_are_told_apart_from_garbage() {
    let mut a = Stage::connected("a", 1, at(0));
    for bytes in [
        &br#"{"v":2,"node":"b","incarnation":7,"kind":{"dance":{}}}"#[..],
        br#"{"v":2,"name":"b"}"#,
        br#"{"v":2,"node":"b","incarnation":7,"kind":"bye"}"#,
    ] {
        a.handle(ClusterInput::Heard(bytes), at(1));
    }
    let newer = a.cluster.status(at(1)).totals;
    assert_eq!((newer.other_version, newer.garbage), (3, 0));
    for bytes in [
        &b""[..],
        b"{}",
        b"[1]",
        b"\xff\xfe",
        br#"{"v":1}"#,
        br#"{"v":1,"node":"b c","incarnation":7,"kind":"bye"}"#,
        br#"{"v":1,"node":"","incarnation":7,"kind":"bye"}"#,
        br#"{"v":1,"node":"b","incarnation":-7,"kind":"bye"}"#,
        br#"{"v":1,"node":"b","incarnation":7,"kind":"dance"}"#,
        br#"{"v":1,"node":"b","incarnation":7,"kind":{"hello":{"owned":[[16,1]]}}}"#,
    ] {
        a.handle(ClusterInput::Heard(bytes), at(2));
    }
    let totals = a.cluster.status(at(2)).totals;
    assert_eq!((totals.other_version, totals.garbage), (3, 10));
    assert_eq!(a.news().len(), 1, "told once in ten seconds");
    assert!(a.cluster.status(at(2)).nodes.is_empty());
}

#[test]
fn fields_that_a_later_release_adds_are_ignored() {
    let bytes = br#"{"v":1,"x":[1],"node":"b","incarnation":7,"kind":{"hello":{"live":3,"x":{}}}}"#;
    let message = wire::decode(bytes).unwrap();
    assert_eq!(message.from.name, node::NodeName::new("b").unwrap());
}

#[test]
fn a_message_over_the_limit_is_not_even_parsed() {
    let mut bytes = br#"{"v":1,"node":"b","incarnation":7,"kind":"bye"}"#.to_vec();
    bytes.resize(wire::CONTROL_BYTES_MAX + 1, b' ');
    assert_eq!(wire::decode(&bytes).err(), Some(wire::ControlError::Garbage));
    bytes.pop();
    assert!(wire::decode(&bytes).is_ok());
}

#[test]
fn what_is_written_is_read() {
    for bytes in messages() {
        let message = wire::decode(&bytes).unwrap();
        assert_eq!(wire::encode(&message.from, &message.kind), bytes);
    }
}

proptest! {
    #[test]
    fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut a = Stage::connected("a", 1, at(0));
        a.handle(ClusterInput::Heard(&bytes), at(1));
    }

    #[test]
    fn no_mutation_of_a_message_can_do_harm(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let messages = messages();
        let mut bytes = messages[pick.index(messages.len())].clone();
        for (at, byte, way) in changes {
            let at = at.index(bytes.len());
            match way {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.drain(at..(at + usize::from(byte) % 9).min(bytes.len()))),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let mut a = Stage::connected("a", 1, at(0));
        a.handle(ClusterInput::Heard(&bytes), at(1));
        a.tick(at(2000));
    }
}
