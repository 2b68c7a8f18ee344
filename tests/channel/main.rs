//! Conversations with the channels of a Laravel application, as data; `conversation` says how they are written.
//!
//! Here: the stage. `session`: from the request to the end. `tokens`: who may, and until when. `messages`: what
//! clients say and what all of the channel gets. `shaping`: which data go on, and to whom. `feeds`: what the back
//! end and other nodes say, and what they are told.

#![allow(clippy::unwrap_used)]

#[path = "../conversation/mod.rs"]
mod conversation;

mod feeds;
mod handover;
mod messages;
mod session;
mod shaping;
mod tokens;

pub(crate) use conversation::{Bus, NOW_S, verifier};
use fanfare::dialect::{Settings, channel};

/// Where the first client comes: Ann, in the first room of the chat.
const PATH: &str = "/?token=ann";
const HOST: &str = "app.example";
const KIND: fanfare::dialect::Kind = fanfare::dialect::Kind::Channel;

/// Two users of one room, one of whom has two windows, and others who are elsewhere or odd.
const TOKENS: &str = r#"
    [[token]]
    token = "ann"
    channel = "chat:1"
    id = 1
    name = "Ann"
    [[token]]
    token = "bob"
    channel = "chat:1"
    id = 2
    name = "Bob"
    [[token]]
    token = "text"
    channel = "chat:1"
    id = "2"
    name = "Zweiter"
    [[token]]
    token = "nobody"
    channel = "chat:1"
    [[token]]
    token = "tweets"
    channel = "tweet:"
    id = 1
    name = "Ann"
    [[token]]
    token = "progress"
    channel = "progress:7"
    id = 7
    name = "Grace"
    [[token]]
    token = "other"
    channel = "other:1"
    id = 1
    name = "Ann"
    [[token]]
    token = "minute"
    channel = "chat:1"
    id = 3
    name = "Brief"
    expires_at = 1518612660
    [[token]]
    token = "over"
    channel = "chat:1"
    expires_at = 1518612600
"#;

const OK: &str = r#"{"type":"sended","ok":true}"#;
const NOT_OK: &str = r#"{"type":"sended","ok":false}"#;

/// A bus that knows [`TOKENS`], with other settings than the usual.
fn bus(change: impl FnOnce(&mut channel::ChannelSettings)) -> Bus {
    let mut channel =
        channel::ChannelSettings { verifier: Some(verifier(TOKENS)), ..Default::default() };
    change(&mut channel);
    Bus::of(Settings { channel, ..Settings::default() })
}

/// A bus with the usual settings, and those clients, each with the token of its name.
fn with(names: &[&str]) -> Bus {
    let mut bus = bus(|_| ());
    names.iter().for_each(|name| join(&mut bus, name, name));
    bus
}

/// A client comes with a token and is accepted.
#[track_caller]
fn join(bus: &mut Bus, name: &str, token: &str) {
    bus.connect(name, &format!("/?token={token}"), HOST);
    assert_eq!(bus.heard(name), ["101"], "{token}");
}

/// The broadcast of a message of Ann's, with these data.
fn of_ann(data: &str) -> String {
    format!(r#"{{"type":"message","sender":{{"name":"Ann","id":1}},"data":{data}}}"#)
}
