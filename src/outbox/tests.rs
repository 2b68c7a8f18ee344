//! Outboxes whose sockets take so many bytes at a time.

use super::*;
use crate::frame::Draft;
use crate::wheel::Now;

fn publication(text: &str) -> Arc<Publication> {
    let mut draft = Draft::default();
    draft.address(&[], b"");
    draft.text(|out| out.extend_from_slice(text.as_bytes()));
    Arc::new(draft.finish(Now::default()))
}

/// Offers what an outbox has to a socket that takes it like this.
fn flush(turn: &mut Turn, outbox: &mut Outbox, mut send: impl FnMut(&[u8]) -> Sent) -> Flushed {
    let flushed = match turn.offer(outbox) {
        Offer::Nothing => Flushed::Empty,
        Offer::Backlog => turn.flush_backlog(outbox, |pieces| send(&joined(pieces))),
        Offer::Bytes(offered) => {
            let sent = send(turn.offered(&offered));
            turn.conclude(outbox, &offered, sent)
        }
    };
    turn.trim();
    flushed
}

fn joined(pieces: &[IoSlice<'_>]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
}

fn drain(turn: &mut Turn, outbox: &mut Outbox, room: usize) -> (Vec<u8>, Flushed) {
    let mut wire = Vec::new();
    outbox.unblock();
    let flushed = flush(turn, outbox, |bytes| {
        let taken = bytes.len().min(room);
        wire.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Sent::Blocked } else { Sent::Bytes(taken) }
    });
    (wire, flushed)
}

#[test]
fn outboxes_with_the_same_frames_share_one_list_and_one_joined_buffer() {
    let mut turn = Turn::default();
    let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::default()).collect();
    for text in ["one", "two", "three"] {
        let frame = turn.share(&publication(text), 0);
        for outbox in &mut outboxes {
            turn.push(outbox, frame);
        }
    }
    assert_eq!(turn.lists.len(), 4, "the empty list and three steps");
    for outbox in &mut outboxes {
        let (wire, flushed) = drain(&mut turn, outbox, usize::MAX);
        assert_eq!(wire, b"\x81\x03one\x81\x03two\x81\x05three");
        assert_eq!(flushed, Flushed::Empty);
        assert!(outbox.is_empty());
    }
    turn.end();
    assert_eq!(turn.bytes(), 0);
}

#[test]
fn crowds_that_take_turns_have_one_list_each() {
    let mut turn = Turn::default();
    let mut outboxes: Vec<Outbox> = (0..90).map(|_| Outbox::default()).collect();
    for (crowd, text) in ["a", "b"].into_iter().enumerate() {
        let frame = turn.share(&publication(text), 0);
        outboxes.iter_mut().skip(crowd).step_by(3).for_each(|outbox| _ = turn.push(outbox, frame));
    }
    let frame = turn.share(&publication("all"), 0);
    outboxes.iter_mut().for_each(|outbox| _ = turn.push(outbox, frame));
    assert_eq!(turn.lists.len(), 6, "the empty list, a, b, a all, b all, all");
    outboxes.iter_mut().for_each(|outbox| _ = drain(&mut turn, outbox, usize::MAX));
}

#[test]
fn crowds_without_number_do_not_each_keep_a_copy_of_large_frames() {
    const CROWDS: usize = 100;
    let text = "x".repeat(1024 * 1024);
    let mut turn = Turn::default();
    let mut outboxes: Vec<Outbox> = (0..3 * CROWDS).map(|_| Outbox::default()).collect();
    for crowd in 0..CROWDS {
        let own = turn.share(&publication(&crowd.to_string()), 0);
        outboxes
            .iter_mut()
            .skip(crowd)
            .step_by(CROWDS)
            .for_each(|outbox| _ = turn.push(outbox, own));
    }
    let large = turn.share(&publication(&text), 0);
    outboxes.iter_mut().for_each(|outbox| _ = turn.push(outbox, large));
    for (number, outbox) in outboxes.iter_mut().enumerate() {
        let expected = publication(&(number % CROWDS).to_string()).frame(0).len() + 10 + text.len();
        assert_eq!(drain(&mut turn, outbox, usize::MAX).0.len(), expected);
        assert!(turn.joined.len() <= JOINED_BYTES_MAX);
    }
    turn.end();
}

#[test]
fn what_was_not_offered_yet_counts_against_nobody_but_the_one_who_asked_for_it() {
    let mut turn = Turn::default();
    let mut outbox = Outbox::default();
    let (shared, own) = (turn.share(&publication("hello"), 0), turn.own(b"own"));
    assert_eq!(turn.push(&mut outbox, shared), 0);
    assert_eq!(turn.push(&mut outbox, own), 3);
    assert_eq!(turn.bytes(), 10);
    assert_eq!(flush(&mut turn, &mut outbox, |_| Sent::Bytes(7)), Flushed::Blocked);
    turn.end();
    let shared = turn.share(&publication("hello"), 0);
    assert_eq!(turn.push(&mut outbox, shared), 3 + CHUNK_OVERHEAD_BYTES + 7);
    assert_eq!(flush(&mut turn, &mut outbox, |_| panic!("written")), Flushed::Waiting);
}

#[test]
fn own_frames_keep_their_place_among_shared_ones() {
    let mut turn = Turn::default();
    let (mut a, mut b) = (Outbox::default(), Outbox::default());
    let first = turn.share(&publication("1"), 0);
    turn.push(&mut a, first);
    turn.push(&mut b, first);
    let own = turn.own(b"own");
    turn.push(&mut a, own);
    let second = turn.share(&publication("2"), 0);
    turn.push(&mut a, second);
    turn.push(&mut b, second);
    assert_eq!(drain(&mut turn, &mut a, 99).0, b"\x81\x011own\x81\x012");
    assert_eq!(drain(&mut turn, &mut b, 99).0, b"\x81\x011\x81\x012");
}

#[test]
fn answers_in_a_row_to_one_connection_are_one_frame_and_those_to_others_stay_apart() {
    let mut turn = Turn::default();
    let (mut a, mut b) = (Outbox::default(), Outbox::default());
    assert_eq!([turn.append(&mut a, b"a1"), turn.append(&mut a, b"a2")], [2, 4]);
    turn.append(&mut b, b"b1");
    assert_eq!(turn.append(&mut a, b"a3"), 6);
    let ping = turn.own(b"ping");
    turn.push(&mut a, ping);
    turn.push(&mut b, ping);
    assert_eq!([turn.append(&mut b, b"b2"), turn.append(&mut b, b"b3")], [8, 10]);
    assert_eq!(turn.frames.len(), 5);
    assert_eq!(drain(&mut turn, &mut a, 99).0, b"a1a2a3ping");
    assert_eq!(drain(&mut turn, &mut b, 3).0, b"b1p");
    turn.end();
    turn.append(&mut b, b"b4");
    assert_eq!(
        turn.append(&mut b, b"b5"),
        12 + 3 * CHUNK_OVERHEAD_BYTES,
        "each answer is kept as one"
    );
    assert_eq!(drain(&mut turn, &mut b, 99).0, b"ingb2b3b4b5");
}

#[test]
fn what_a_socket_refuses_waits_and_leaves_in_order_byte_by_byte() {
    for room in 1..30 {
        let mut turn = Turn::default();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        let mut wire = Vec::new();
        for round in 0..20 {
            let text = "x".repeat(round % 7) + &round.to_string();
            let frame = turn.share(&publication(&text), 0);
            turn.push(&mut outbox, frame);
            let own = turn.own(&[round as u8; 3]);
            turn.push(&mut outbox, own);
            expected.extend_from_slice(publication(&text).frame(0));
            expected.extend_from_slice(&[round as u8; 3]);
            wire.extend(drain(&mut turn, &mut outbox, room).0);
            turn.end();
        }
        while !outbox.is_empty() {
            wire.extend(drain(&mut turn, &mut outbox, room).0);
        }
        assert_eq!(wire, expected, "room {room}");
        assert_eq!(outbox.backlog_bytes(), 0);
    }
}

#[test]
fn a_blocked_outbox_is_not_written_until_it_is_writable_and_its_size_is_known() {
    let mut turn = Turn::default();
    let mut outbox = Outbox::default();
    for _ in 0..2 {
        let frame = turn.share(&publication("hello"), 0);
        turn.push(&mut outbox, frame);
        assert_ne!(flush(&mut turn, &mut outbox, |_| Sent::Blocked), Flushed::Empty);
        turn.end();
    }
    assert_eq!(outbox.backlog_bytes(), 2 * (7 + CHUNK_OVERHEAD_BYTES));
    assert_eq!(flush(&mut turn, &mut outbox, |_| panic!("written")), Flushed::Waiting);
}

#[test]
fn abandoning_finishes_the_frame_that_has_begun_to_leave() {
    let mut turn = Turn::default();
    let mut outbox = Outbox::default();
    for text in ["hello", "never"] {
        let frame = turn.share(&publication(text), 0);
        turn.push(&mut outbox, frame);
    }
    assert_eq!(drain(&mut turn, &mut outbox, 3).0, b"\x81\x05h");
    turn.abandon(&mut outbox);
    let close = turn.own(b"close");
    turn.push(&mut outbox, close);
    assert_eq!(drain(&mut turn, &mut outbox, 99).0, b"elloclose");
}

/// What another process makes of it.
fn passed(outbox: &Outbox) -> Outbox {
    let frozen = outbox.freeze().unwrap();
    let json = serde_json::to_string(&frozen).unwrap();
    let mut read: FrozenOutbox = serde_json::from_str(&json).unwrap();
    read.bytes = frozen.bytes;
    Outbox::thaw(&read).unwrap()
}

#[test]
fn what_is_unsent_goes_on_in_another_process_at_its_byte() {
    let whole = b"\x81\x03one\x81\x03two\x81\x05three";
    for room in 0..=whole.len() {
        let (mut turn, mut outbox) = (Turn::default(), Outbox::default());
        for text in ["one", "two", "three"] {
            let frame = turn.share(&publication(text), 0);
            turn.push(&mut outbox, frame);
        }
        assert!(outbox.freeze().is_none(), "within a turn");
        let (mut wire, _) = drain(&mut turn, &mut outbox, room);
        turn.end();

        let mut other = Turn::default();
        let mut next = passed(&passed(&outbox));
        assert_eq!(next.backlog_bytes(), outbox.backlog_bytes());
        wire.extend(drain(&mut other, &mut next, usize::MAX).0);
        assert_eq!((&wire[..], next.is_empty()), (&whole[..], true), "after {room}");
    }
}

#[test]
fn a_frame_that_has_begun_to_leave_is_finished_in_another_process_even_if_the_rest_is_dropped() {
    for (room, kept) in [(0, ""), (2, "one"), (5, ""), (6, "\x03two"), (11, "\x05three")] {
        let (mut turn, mut outbox) = (Turn::default(), Outbox::default());
        for text in ["one", "two", "three"] {
            let frame = turn.share(&publication(text), 0);
            turn.push(&mut outbox, frame);
        }
        drain(&mut turn, &mut outbox, room);
        turn.end();
        let mut next = passed(&outbox);
        turn.abandon(&mut next);
        assert_eq!(drain(&mut turn, &mut next, usize::MAX).0, kept.as_bytes(), "after {room}");
    }
}

#[test]
fn lengths_that_are_not_those_of_the_bytes_are_no_outbox() {
    for (json, bytes) in [
        (r#"{"lengths":[3]}"#, &b"ab"[..]),
        (r#"{"offset":2,"lengths":[2]}"#, b"ab"),
        (r#"{"offset":1,"lengths":[]}"#, b""),
        (r#"{"lengths":[1]}"#, b"ab"),
        (r#"{"lengths":[]}"#, b"ab"),
        (r#"{"lengths":[2,0]}"#, b"ab"),
        (r#"{"lengths":[18446744073709551615]}"#, b"ab"),
    ] {
        let mut frozen: FrozenOutbox = serde_json::from_str(json).unwrap();
        frozen.bytes = bytes.into();
        assert!(Outbox::thaw(&frozen).is_none(), "{json}");
    }
    assert!(Outbox::thaw(&FrozenOutbox::default()).unwrap().is_empty());
}
