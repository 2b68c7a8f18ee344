//! Conversations with the Personium event bus; `conversation` tells how they are written.
//!
//! `words`: what is said, byte for byte. `session`: from the handshake to the end.
//! `tokens`: who may. `events`: what is delivered to whom, and what clients publish.

#![allow(clippy::unwrap_used)]

#[path = "../conversation/mod.rs"]
mod conversation;
mod events;
mod session;
mod tokens;
mod words;

use conversation::{Bus, NOW_S};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const KIND: fanfare::dialect::Kind = fanfare::dialect::Kind::PersoniumEvent;
const HOST: &str = "demo.personium.io";
const PATH: &str = "/john.doe/__event";

/// What most conversations need; all are for the cell `john.doe`.
const TOKENS: &str = r#"
    [[token]]
    token = "reader"
    aud = "john.doe"
    scope = "event-read"
    [[token]]
    token = "writer"
    aud = "john.doe"
    scope = "event"
    sub = "https://demo.personium.io/john.doe/#me"
    schema = "https://app.example/"
    [[token]]
    token = "stranger"
    aud = "jane.doe"
    scope = "event-read"
    [[token]]
    token = "nobody"
    aud = "john.doe"
    scope = "message-read"
    [[token]]
    token = "hundred seconds"
    aud = "john.doe"
    scope = "event-read"
    expires_at = 1518612700
"#;

/// A conversation over a bus that knows [`TOKENS`].
fn talk(script: &str) {
    Bus::with(TOKENS).talk(script);
}
