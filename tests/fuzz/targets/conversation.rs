//! Conversations of each dialect with a shard: whatever clients, feeds and services say, nothing panics, every frame is
//! a whole one, and when all have gone nothing is left of them.
//!
//! An input is a script, one step a line; the digit behind the verb is the client's. A line that is none is left out.
//!
//! ```text
//! ask                     on the first line: tokens are verified elsewhere, not by a list
//! host a.example          headers of those who come next; likewise token, auth, origin, offer, remote
//! @0 /path?query          comes; at the dialect's usual path without one
//! >0 text                 says this, with a signature of echo in place of $AUTH; =0 says it as binary
//! ~0 bytes                sends these bytes as they are
//! !0 · ?0 · %0 payload    pong · ping · close frame
//! &0                      is gone
//! -0 · +0                 takes nothing more · takes all of it again
//! feed ADDRESS JSON       a line of the unix feed
//! wait 60                 seconds pass
//! grant 0 {"acl":[]}      its token is verified; likewise refuse 0, revoke 0
//! open 0                  its topic is opened
//! answer 0 {"Topic":…}    a service says this
//! deliver 0 payload       a message of its topic
//! outage · back · drain   the feed is away · is back · the daemon stops
//! ```

mod settings;
mod stage;

use fanfare::dialect::Kind;
use fanfare::service::Answer;
use fanfare::service::topic::TopicAnswer;
use fanfare::service::verification::TokenAnswer;
use fanfare::token::{Grant, Refusal};
use stage::Stage;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest script: what comes later meets nothing new.
const STEPS_MAX: usize = 200;
/// Seconds that may pass in one step, and in a script.
const WAIT_S_MAX: u64 = 120;
/// See [`WAIT_S_MAX`].
const SCRIPT_S_MAX: u64 = 400;
/// Seconds for which a token is good that is verified in a script.
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

/// A step whose verb is a word.
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
            // What is said of a token is said to the question that there is.
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
        _ => {}
    }
}
