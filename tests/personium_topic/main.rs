//! Conversations with a Personium topic; `conversation` tells how they are written.
//!
//! `words`: what is said, byte for byte. `session`: from the handshake to the end. `tokens`: who may follow
//! what. `data`: what is delivered to whom.

#![allow(clippy::unwrap_used)]

#[path = "../conversation/mod.rs"]
mod conversation;
mod data;
mod session;
mod tokens;
mod words;

use conversation::{Bus, NOW_S};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const KIND: fanfare::dialect::Kind = fanfare::dialect::Kind::PersoniumTopic;
const HOST: &str = "unit1.example";
const PATH: &str = "/cell1/__topic/box1/stream-collection1.topic.name";

/// What most conversations need; all but one are for the cell `cell1`.
const TOKENS: &str = r#"
    [[token]]
    token = "reader"
    aud = "cell1"
    scope = "read stream-receive"
    expires_at = 1518616200
    [[token]]
    token = "two hours"
    aud = "cell1"
    scope = "read stream-receive"
    expires_at = 1518619800
    [[token]]
    token = "eighty seconds"
    aud = "cell1"
    scope = "read stream-receive"
    expires_at = 1518612680
    [[token]]
    token = "hundred seconds"
    aud = "cell1"
    scope = "read stream-receive"
    expires_at = 1518612700
    [[token]]
    token = "for ever"
    aud = "cell1"
    scope = "all"
    [[token]]
    token = "stranger"
    aud = "cell2"
    scope = "read stream-receive"
    [[token]]
    token = "nobody"
    aud = "cell1"
    scope = "event-read"
"#;

/// A conversation over a daemon that knows [`TOKENS`].
fn talk(script: &str) {
    Bus::with(TOKENS).talk(script);
}
