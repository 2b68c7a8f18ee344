//! Lines of the unix feed: publications, messages to store and replies are the same however the
//! bytes are cut.

use super::{Input, NOW, cuts};
use fanfare::dialect::{Kind, Settings};
use fanfare::feed::Intake;
use fanfare::feed::unix::{Publisher, UnixCounts};
use fanfare::frame::Publication;
use std::sync::Arc;

/// Maximum length of a line.
const LINE_BYTES_MAX: usize = 256;

/// The outcome of a feed.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    published: Vec<Vec<u8>>,
    stored: Vec<String>,
    replies: String,
    counts: [u64; 3],
}

/// The first byte says how to cut the rest, and what the store refuses.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let seed = input.byte();
    let mut outcomes =
        cuts(seed, input.0.len()).into_iter().map(|sizes| (read(input.0, &sizes, seed), sizes));
    let (whole, _) = outcomes.next().expect("the first cut is the whole");
    for (pieces, sizes) in outcomes {
        assert_eq!(pieces, whole, "in pieces of {sizes:?}");
    }
}

fn read(bytes: &[u8], sizes: &[usize], seed: u8) -> Outcome {
    let mut intake = Intake::new(Kind::ALL.to_vec(), Arc::new(Settings::default()));
    let (mut publisher, mut outcome) = (Publisher::default(), Outcome::default());
    let mut replies = Vec::new();
    let mut rest = bytes;
    for size in sizes {
        let (piece, after) = rest.split_at(*size);
        rest = after;
        turn(&mut publisher, &mut intake, piece, seed, &mut outcome, &mut replies);
        while publisher.has_more() {
            turn(&mut publisher, &mut intake, b"", seed, &mut outcome, &mut replies);
        }
    }
    outcome.count(publisher.end(&mut replies));
    outcome.replies = String::from_utf8(replies).expect("replies are text");
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!(outcome.counts.iter().sum::<u64>() <= lines + 1, "{:?}", outcome.counts);
    outcome
}

/// Reads for one turn, then lets the store and the shards answer.
fn turn(
    publisher: &mut Publisher,
    intake: &mut Intake,
    piece: &[u8],
    seed: u8,
    outcome: &mut Outcome,
    replies: &mut Vec<u8>,
) {
    let published = &mut outcome.published;
    let publish = |publication: Publication| {
        published.push([publication.topic(), publication.facet(), publication.frame(0)].concat());
    };
    let counts = publisher.read(piece, LINE_BYTES_MAX, intake, NOW, publish, replies);
    outcome.count(counts);
    let mut results = Vec::new();
    for (topic, draft) in publisher.take_appends() {
        let length = draft.message().expect("a draft is a message").payload.len();
        outcome.stored.push(format!("{} {length}", topic.as_str()));
        results.push(if length % 7 == usize::from(seed % 7) { Err("full".into()) } else { Ok(()) });
    }
    if publisher.wants_reached() {
        publisher.reach(outcome.published.len() as u64);
    }
    if publisher.owes() {
        outcome.count(publisher.settle(results, replies));
    }
}

impl Outcome {
    fn count(&mut self, UnixCounts { accepted, no_listener, rejected }: UnixCounts) {
        for (sum, count) in self.counts.iter_mut().zip([accepted, no_listener, rejected]) {
            *sum += count;
        }
    }
}
