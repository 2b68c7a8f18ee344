//! Conversations with a shard in each dialect: whatever clients, feeds and services send, nothing
//! panics, every frame is complete, and when all clients have left, no state remains.
//!
//! An input is a script with one step a line; the digit after the verb is the client's. Any other
//! line is skipped.
//!
//! ```text
//! ask                     as the first line: tokens go to a remote verifier, not to a list
//! host a.example          a header of the clients that connect next; likewise token, auth, origin,
//!                         offer, remote
//! @0 /path?query          connects; without a path at the dialect's usual one
//! >0 text                 sends a text message, with a signature of Echo in place of $AUTH;
//!                         =0 sends a binary message
//! ~0 bytes                sends these bytes as they are
//! !0 · ?0 · %0 payload    pong · ping · close frame
//! &0                      loses its connection
//! -0 · +0                 stops reading · reads again
//! feed ADDRESS JSON       a line of the unix feed
//! wait 60                 lets seconds pass
//! grant 0 {"acl":[]}      its token is verified; likewise refuse 0, revoke 0
//! open 0                  its topic opens
//! answer 0 {"Topic":…}    a service answers this
//! deliver 0 payload       a message of its topic
//! outage · back · drain   the feed is lost · is back · the daemon stops
//! pass                    another process takes over
//! ```

pub(super) mod settings;
mod stage;

use fanfare::dialect::Kind;
use fanfare::service::Answer;
use fanfare::service::topic::TopicAnswer;
use fanfare::service::verification::TokenAnswer;
use fanfare::token::{Grant, Refusal};
use stage::Stage;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Maximum number of steps in a script: later ones reach no new state.
const STEPS_MAX: usize = 200;
/// Maximum number of seconds that pass in one step.
const WAIT_S_MAX: u64 = 120;
/// Maximum number of seconds that pass in a script.
const SCRIPT_S_MAX: u64 = 400;
/// Lifetime in seconds of a token that is verified in a script.
const TOKEN_S: u64 = 90;

/// Runs a script with a dialect.
pub(crate) fn run(kind: Kind, script: &[u8]) {
    let mut stage = Stage::new(kind, script);
    let mut left_s = SCRIPT_S_MAX;
    for line in script.split(|byte| *byte == b'\n').take(STEPS_MAX) {
        step(&mut stage, line, &mut left_s);
        stage.check();
    }
    stage.end();
}

fn step(stage: &mut Stage, line: &[u8], left_s: &mut u64) {
    let [verb, rest @ ..] = line else { return };
    let client = rest.first().filter(|digit| digit.is_ascii_digit()).map(|digit| digit - b'0');
    let argument = rest.get(1..).unwrap_or_default();
    let argument = argument.strip_prefix(b" ").unwrap_or(argument);
    let Some(client) = client else {
        return words(stage, line, left_s);
    };
    match verb {
        b'@' => stage.connect(client, &String::from_utf8_lossy(argument)),
        b'>' => stage.say(client, argument),
        b'=' => stage.send(client, OpCode::Data(Data::Binary), argument),
        b'~' => stage.send_bytes(client, &mut argument.to_vec()),
        b'!' => stage.send(client, OpCode::Control(Control::Pong), b""),
        b'?' => {
            stage.send(client, OpCode::Control(Control::Ping), &argument[..argument.len().min(125)])
        }
        b'%' => stage.send(
            client,
            OpCode::Control(Control::Close),
            &argument[..argument.len().min(125)],
        ),
        b'&' => stage.lose(client),
        b'-' => stage.block(client),
        b'+' => stage.unblock(client),
        _ => {}
    }
}

/// Runs a step whose verb is a word.
fn words(stage: &mut Stage, line: &[u8], left_s: &mut u64) {
    let Ok(line) = std::str::from_utf8(line) else { return stage.feed(line) };
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let client = rest.bytes().next().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0');
    let argument = rest.get(1..).unwrap_or_default().trim_start();
    match verb {
        "host" | "token" | "auth" | "origin" | "offer" | "remote" => stage.set_header(verb, rest),
        "feed" => stage.feed(rest.as_bytes()),
        "wait" => {
            let seconds = rest.parse().unwrap_or(1).min(WAIT_S_MAX).min(*left_s);
            *left_s -= seconds;
            stage.wait(seconds);
        }
        "grant" => {
            if let Ok(serde_json::Value::Object(claims)) = serde_json::from_str(argument) {
                let grant = Grant::new(stage.now.unix_ms + TOKEN_S * 1000, claims);
                stage.verified(client, TokenAnswer::Granted(grant));
            }
        }
        "refuse" => stage.verified(client, TokenAnswer::Refused(Refusal::Inactive)),
        "revoke" => stage.verified(client, TokenAnswer::Revoked),
        "open" => stage.answer(client, Answer::Topic(TopicAnswer::Opened)),
        "answer" => {
            // The answer about a token goes to the current question.
            match serde_json::from_str(argument) {
                Ok(Answer::Token(_, answer)) => stage.verified(client, answer),
                Ok(answer) => stage.answer(client, answer),
                Err(_) => {}
            }
        }
        "deliver" => stage.deliver(client, argument.as_bytes()),
        "outage" => stage.outage(true),
        "back" => stage.outage(false),
        "drain" => stage.drain(),
        "pass" => stage.hand_over(),
        _ => {}
    }
}
