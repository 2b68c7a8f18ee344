//! Frames over a real socket: every violation has its close code and the connection ends; everything
//! allowed works.

use crate::harness::{Client, Setup, token};
use std::time::Duration;

const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn a_violation_is_answered_with_its_code_and_the_connection_ends() {
    let daemon = Setup::new().start();
    let masked = |first: u8, length: &[u8]| [&[first], length, &[0, 0, 0, 0]].concat();
    let violations: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", b"\x81\x02hi".to_vec(), 1002),
        ("unmasked and empty", b"\x81\x00".to_vec(), 1002),
        ("a reserved bit", masked(0xc1, &[0x80]), 1002),
        ("another reserved bit", masked(0x91, &[0x80]), 1002),
        ("a reserved opcode", masked(0x83, &[0x80]), 1002),
        ("a reserved control opcode", masked(0x8b, &[0x80]), 1002),
        ("a ping in fragments", masked(0x09, &[0x80]), 1002),
        ("a long ping", masked(0x89, &[0xfe, 0, 126]), 1002),
        ("a continuation of nothing", masked(0x80, &[0x80]), 1002),
        ("a message inside another", [masked(0x01, &[0x80]), masked(0x81, &[0x80])].concat(), 1002),
        ("a close of one byte", [masked(0x88, &[0x81]), vec![3]].concat(), 1002),
        (
            "a close with a reserved code",
            [masked(0x88, &[0x82]), 1005u16.to_be_bytes().into()].concat(),
            1002,
        ),
        ("a close that is not UTF-8", [masked(0x88, &[0x83]), vec![3, 232, 0xff]].concat(), 1007),
        ("text that is not UTF-8", [masked(0x81, &[0x81]), vec![0xff]].concat(), 1007),
        ("a fragment that is not UTF-8", [masked(0x01, &[0x82]), vec![0xc3, 0x28]].concat(), 1007),
        ("half a character at the end", [masked(0x81, &[0x81]), vec![0xc3]].concat(), 1007),
        ("a surrogate", [masked(0x81, &[0x83]), vec![0xed, 0xa0, 0x80]].concat(), 1007),
        (
            "bad text whose frame goes on",
            [masked(0x81, &[0x89]), vec![b'a', 0xf4, 0x90]].concat(),
            1007,
        ),
        ("a length in two bytes that fits in one", masked(0x81, &[0xfe, 0, 125]), 1002),
        (
            "a length in eight bytes that fits in two",
            masked(0x81, &[0xff, 0, 0, 0, 0, 0, 0, 1, 0]),
            1002,
        ),
        ("over the limit", masked(0x81, &[0xff, 0, 0, 0, 0, 0, 1, 0, 1]), 1009),
        ("2^63 - 1 bytes", masked(0x82, &[0xff, 127, 255, 255, 255, 255, 255, 255, 255]), 1009),
    ];
    let count = violations.len() as u64;
    for (what, bytes, code) in violations {
        let mut client = daemon.client();
        client.bytes(&bytes);
        assert_eq!(client.close_code(), code, "{what}");
        assert!(client.ends_within(PROMPT), "{what}");
    }
    // A length with its highest bit set is no length at all (RFC 6455 section 5.2); it panicked NATS once.
    let mut client = daemon.client();
    client.bytes(&masked(0x81, &[0xff, 128, 0, 0, 0, 0, 0, 0, 1]));
    assert!(matches!(client.close_code(), 1002 | 1009));
    assert_eq!(daemon.metric("session_ends_total{reason=\"violation\"}"), count + 1);
    daemon.await_metric("sessions{dialect=\"personium-event\"}", 0);
    daemon.assert_works();
}

#[test]
fn a_message_that_is_fragmented_forever_ends_at_the_limit() {
    let daemon = Setup::new().start();
    let mut client = daemon.client();
    client.frame(0x01, &[b' '; 1000]);
    let mut sent = 1000;
    while sent <= 64 * 1024 {
        assert!(client.is_silent_for(Duration::from_millis(1)), "closed after {sent} bytes");
        client.frame(0x00, &[b' '; 1000]);
        sent += 1000;
    }
    assert_eq!(client.close_code(), 1009);
    let mut empty = daemon.client();
    empty.frame(0x01, b"");
    let before = daemon.memory_bytes();
    for _ in 0..20_000 {
        empty.frame(0x00, b"");
    }
    empty.frame(0x89, b"still there");
    assert_eq!(empty.next().unwrap().payload, b"still there");
    assert!(daemon.memory_bytes() < before + 4 * 1024 * 1024);
}

#[test]
fn messages_at_the_limit_and_in_fragments_are_understood() {
    let daemon = Setup::new().start();
    let mut client = daemon.client();
    let message = format!("{{\"access_token\":\"{}\"}}", token());
    let padded = format!("{message}{}", " ".repeat(64 * 1024 - message.len()));
    assert!(client.ask(&padded).contains("expires_in"));
    let command = "{\"subscribe\":{\"Type\":\"gr\u{fc}\u{df}e\",\"Object\":\"*\"}}".as_bytes();
    for split in 0..=command.len() {
        client.frame(0x01, &command[..split]);
        client.frame(0x89, b"between");
        client.frame(0x80, &command[split..]);
        assert_eq!(client.next().unwrap().payload, b"between");
        assert!(client.text().contains("success"), "split at {split}");
    }
    for (index, byte) in command.iter().enumerate() {
        client.frame(u8::from(index == 0), &[*byte]);
    }
    client.frame(0x80, b"");
    assert!(client.text().contains("success"));
}

#[test]
fn pings_are_answered_with_their_payload_and_binary_is_ignored() {
    let daemon = Setup::new().start();
    let mut client = daemon.subscriber();
    client.frame(0x82, b"\x00\x01\x02");
    client.frame(0x02, b"\xff");
    client.frame(0x80, b"\xff");
    client.frame(0x8a, b"unasked");
    for payload in [&b""[..], b"abc", &[0xff; 125]] {
        client.frame(0x89, payload);
        let pong = client.next().unwrap();
        assert_eq!((pong.first, &pong.payload[..]), (0x8a, payload));
    }
    assert!(client.ask("{\"state\":\"subscriptions\"}").contains("\"object\":\"*\""));
}

#[test]
fn a_client_that_closes_gets_its_code_back_and_the_connection_ends() {
    let daemon = Setup::new().start();
    // The last but one is 1014, Bad Gateway: a proxy's.
    for payload in [&b""[..], b"\x03\xe8", b"\x03\xe9bye", b"\x03\xf6", b"\x0f\xa0own code"] {
        let mut client = daemon.subscriber();
        client.frame(0x88, payload);
        let echo = client.next().unwrap();
        assert_eq!((echo.first, &echo.payload[..]), (0x88, payload));
        assert!(client.ends_within(PROMPT));
    }
    daemon.await_metric("connections", 0);
    daemon.await_metric("subscriptions", 0);
}

#[test]
fn a_client_that_answers_the_close_is_gone_at_once() {
    let daemon = Setup::new().start();
    let mut client = daemon.client();
    client.say("{\"access_token\":\"nonsense\"}");
    assert_eq!(client.close_code(), 1000);
    client.frame(0x88, b"\x03\xe8");
    assert!(client.ends_within(PROMPT), "the connection outlived its close handshake");
    daemon.await_metric("connections", 0);
}

/// One app without a limit for messages let everybody send messages of any length after a close.
#[test]
fn nothing_is_kept_of_messages_after_our_close() {
    let daemon = crate::harness::echo_setup().set("echo.app.0.message_bytes_max", 0).start();
    let mut client = daemon.client();
    client.say("{\"access_token\":\"nonsense\"}");
    assert_eq!(client.close_code(), 1000);
    let (before, mebibytes) = (daemon.memory_bytes(), 64_u64);
    client.bytes(&[&[0x81, 0xff][..], &(mebibytes << 20).to_be_bytes(), &[0; 4]].concat());
    let (mut most, piece) = (0, vec![0xff; 1 << 20]);
    for _ in 0..mebibytes {
        client.bytes(&piece);
        most = most.max(daemon.memory_bytes());
    }
    assert!(most < before + (8 << 20), "{before} bytes of memory before, {most} while it came");
    client.frame(0x88, b"\x03\xe8");
    assert!(client.ends_within(PROMPT), "the close behind it was not found");
    daemon.assert_works();
}

#[test]
fn a_client_that_does_not_answer_the_close_is_cut_off() {
    let daemon = Setup::new().set("limits.close_timeout_s", 1).start();
    let mut silent = daemon.client();
    silent.say("{\"access_token\":\"nonsense\"}");
    assert_eq!(silent.close_code(), 1000);
    let mut chatty = daemon.client();
    chatty.say("{\"access_token\":\"nonsense\"}");
    assert_eq!(chatty.close_code(), 1000);
    assert!(chatty.is_silent_for(Duration::from_millis(100)));
    while chatty.try_bytes(b"\x81\x80\x00\x00\x00\x00") {}
    assert!(silent.ends_within(Duration::from_secs(5)));
    daemon.await_metric("connections", 0);
    daemon.assert_works();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let daemon = Setup::new().start();
    let clients: Vec<Client> = (0..50).map(|_| daemon.subscriber()).collect();
    daemon.await_metric("subscriptions", 50);
    for client in &clients[..25] {
        // Closing with unread or lingering data sends a reset.
        rustix::net::sockopt::set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
    }
    drop(clients);
    daemon.await_metric("connections", 0);
    daemon.await_metric("subscriptions", 0);
    assert_eq!(daemon.metric("sessions{dialect=\"personium-event\"}"), 0);
    daemon.assert_works();
}
