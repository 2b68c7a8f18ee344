//! The fuzz targets: one function of bytes for each input from outside, which panics where a
//! promise is broken.
//!
//! Two drivers run the list: `tests/fuzz/main.rs`, which mutates the seeds for seconds in every
//! test run, and `tests/fuzz/guided`, which is libFuzzer. A target reads no clock and draws no
//! random numbers, so that a failing input always fails.

mod amqp;
mod cluster;
mod conversation;
mod feed;
mod handover;
mod http;
mod message;
mod proxy;
mod record;
mod redis;
mod token;
mod trie;
mod wire;

use fanfare::dialect::Kind;
use fanfare::wheel::Now;

/// One target. Its folders below `seeds` and `regressions`, and its file of words, have the same
/// name.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
}

/// All of them.
pub(crate) const ALL: &[Target] = &[
    Target { name: "message", run: message::run },
    Target { name: "http", run: http::run },
    Target { name: "feed", run: feed::run },
    Target { name: "personium_event", run: |input| conversation::run(Kind::PersoniumEvent, input) },
    Target { name: "personium_topic", run: |input| conversation::run(Kind::PersoniumTopic, input) },
    Target { name: "channel", run: |input| conversation::run(Kind::Channel, input) },
    Target { name: "echo", run: |input| conversation::run(Kind::Echo, input) },
    Target { name: "pulsar", run: |input| conversation::run(Kind::Pulsar, input) },
    Target { name: "wazo", run: |input| conversation::run(Kind::Wazo, input) },
    Target { name: "token", run: token::run },
    Target { name: "redis", run: redis::run },
    Target { name: "amqp", run: amqp::run },
    Target { name: "proxy", run: proxy::run },
    Target { name: "record", run: record::run },
    Target { name: "trie", run: trie::run },
    Target { name: "cluster", run: cluster::run },
    Target { name: "handover", run: handover::run },
];

/// The time in all targets, at which the seeds' signatures and tokens are valid.
pub(crate) const NOW: Now = Now { monotonic_ns: 5_000_000_000, unix_ms: 1_518_612_600_000 };

/// An input that is consumed from its front. Missing bytes read as 0.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next bytes, up to this many.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// The bytes before a separator, which is dropped.
    pub(crate) fn until(&mut self, separator: u8) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == separator).unwrap_or(self.0.len());
        let front = self.take(end);
        self.take(1);
        front
    }
}

/// Ways to cut a stream: in one piece, in pieces whose sizes depend on a seed, and in single bytes
/// where the stream is short.
pub(crate) fn cuts(seed: u8, length: usize) -> Vec<Vec<usize>> {
    let mut state = u64::from(seed) | 0x9e37_79b9_0000_0100;
    let mut sizes = Vec::new();
    let mut left = length;
    while left > 0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let most = if seed & 1 == 0 { 8 } else { 64 };
        let size = ((state >> 33) as usize % most + 1).min(left);
        sizes.push(size);
        left -= size;
    }
    let single = (length <= 2048).then(|| vec![1; length]);
    [Some(vec![length]), Some(sizes), single].into_iter().flatten().collect()
}
