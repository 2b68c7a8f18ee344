//! Requests of one connection: answers, publications and questions are the same however the bytes
//! are cut, and whether or not there is room for the publications.

use super::{Input, NOW, cuts};
use fanfare::dialect::echo::{App, AppSettings, EchoSettings};
use fanfare::dialect::{Kind, Settings, personium, pulsar, wazo};
use fanfare::io::{Pieces, PiecesNext};
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::service::Question;
use fanfare::setting::Secret;
use fanfare::shard::{ConnectionEvent, Id, Limits, Outgoing, Shard};
use std::sync::{Arc, LazyLock};

/// Maximum length of a head, and of the body of a publisher's request.
const BYTES_MAX: usize = 1024;
/// Maximum number of turns of a connection, after which it counts as hanging.
const TURNS_MAX: usize = 10_000;
/// The interim response while a body is awaited. Whether it is sent depends on the cuts.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The start of a request whose answer has no body.
const HEAD: &[u8] = b"HEAD ";

/// The outcome of a connection.
#[derive(Default, PartialEq)]
struct Outcome {
    answered: Vec<u8>,
    published: Vec<Vec<u8>>,
    asked: Vec<String>,
    /// The bytes after the handshake of a session.
    frames: Option<Vec<u8>>,
    is_over: bool,
}

/// The first byte says how the rest is cut.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let seed = input.byte();
    let bytes = input.0;
    let whole = read(bytes, &[bytes.len()], false);
    let without_room = read(bytes, &[bytes.len()], true);
    check(&whole.answered, bytes);
    assert!(without_room == whole, "without room: {without_room:?}\nwith room: {whole:?}");
    for sizes in cuts(seed, bytes.len()).into_iter().skip(1) {
        let pieces = read(bytes, &sizes, seed & 2 == 2);
        assert!(pieces == whole, "in pieces of {sizes:?}: {pieces:?}\nwhole: {whole:?}");
    }
}

/// Asserts that the answers are complete responses, one after another; those to `HEAD` have no
/// body, whatever their length says. What was asked
/// says how many may have none.
fn check(mut answered: &[u8], asked: &[u8]) {
    let mut without_body_max = asked.windows(HEAD.len()).filter(|part| *part == HEAD).count();
    while !answered.is_empty() {
        let end = answered.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&answered[..end]).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("digits"));
        if head.starts_with("HTTP/1.1 101") {
            // Frames follow.
            return;
        }
        answered = &answered[end + 4..];
        let has_body = !answered.is_empty() && !answered.starts_with(b"HTTP/1.1 ");
        if has_body {
            answered = answered.get(length..).expect("a whole body");
        } else if length > 0 {
            let left = without_body_max.checked_sub(1);
            without_body_max = left.unwrap_or_else(|| panic!("the body is missing: {head}"));
        }
    }
}

/// Reads a connection in pieces, one a turn. Where room is late, two of three turns have none.
fn read(bytes: &[u8], sizes: &[usize], room_is_late: bool) -> Outcome {
    let limits = Limits { head_bytes_max: BYTES_MAX, ..Limits::default() };
    let mut shard = Shard::new(Arc::clone(&SETTINGS), limits, Arc::new(Metrics::default()), NOW);
    let id = shard.accept(NOW);
    let mut connection = Pieces::new(id).expect("a descriptor is free");
    let (mut outcome, mut rest, mut turns) = (Outcome::default(), bytes, 0..TURNS_MAX);
    let mut sizes = sizes.iter();
    let mut piece: &[u8] = b"";
    loop {
        let turn = turns.next().expect("a connection goes on");
        let has_room = !room_is_late || turn % 3 == 0;
        let next = connection.take(piece, Kind::ALL, has_room, &mut shard, NOW);
        let may_go_on = settle(id, &mut shard, &mut outcome);
        match next {
            PiecesNext::Over => {
                outcome.is_over = true;
                return outcome;
            }
            PiecesNext::Session(left) => {
                let kept = &bytes[bytes.len() - rest.len() - left..];
                outcome.frames = Some(kept.to_vec());
                return outcome;
            }
            PiecesNext::Later if has_room && !may_go_on && shard.is_asked(id) => {
                // No service answers here.
                outcome.frames = None;
                return outcome;
            }
            PiecesNext::Later => piece = b"",
            PiecesNext::More => match sizes.next() {
                Some(size) => (piece, rest) = rest.split_at(*size),
                None => return outcome,
            },
        }
    }
}

/// Does what the daemon does between two turns. Returns whether the next request may be read now.
fn settle(id: Id, shard: &mut Shard, outcome: &mut Outcome) -> bool {
    while shard.has_questions() {
        for (from, question) in shard.take_questions() {
            if let Question::Presence(question) = question {
                shard.ask_presence(from, *question, NOW);
            } else {
                outcome.asked.push(format!("{question:?}"));
            }
        }
    }
    for outgoing in shard.take_outgoing() {
        match outgoing {
            Outgoing::Publication(publication) => {
                outcome.published.push([publication.topic(), publication.frame(0)].concat());
            }
            Outgoing::Answer(connection, answer) => shard.answer(connection, answer, NOW),
        }
    }
    let answered = &mut outcome.answered;
    shard.flush(NOW, &mut |_: u32, bytes: &[u8]| {
        answered.extend_from_slice(bytes);
        Sent::Bytes(bytes.len())
    });
    while let Some(at) = answered.windows(CONTINUE.len()).position(|part| part == CONTINUE) {
        answered.drain(at..at + CONTINUE.len());
    }
    shard.take_events().any(|event| event == ConnectionEvent::Ready(id))
}

/// Settings under which every dialect accepts clients: an app of Echo, and any token.
static SETTINGS: LazyLock<Arc<Settings>> = LazyLock::new(|| {
    let app = AppSettings {
        id: "app-id".into(),
        key: "app-key".into(),
        request_bytes_max: BYTES_MAX,
        ..AppSettings::default()
    };
    let apps = vec![Arc::new(App::new(app, Secret("app-secret".into())))];
    Arc::new(Settings {
        echo: EchoSettings { apps, ..EchoSettings::default() },
        personium: personium::PersoniumSettings { anonymous: true, ..Default::default() },
        pulsar: pulsar::PulsarSettings { anonymous: true, ..Default::default() },
        wazo: wazo::WazoSettings { anonymous: true, ..Default::default() },
        ..Settings::default()
    })
});

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome")
            .field("answered", &self.answered.escape_ascii().to_string())
            .field("published", &self.published.len())
            .field("asked", &self.asked)
            .field("frames", &self.frames)
            .field("is_over", &self.is_over)
            .finish()
    }
}
