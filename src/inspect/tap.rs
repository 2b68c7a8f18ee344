//! Events that an operator sees pass: which of them, and those that wait to be shown.
//!
//! They are seen where they are broadcast, whether or not a session gets them; messages of durable
//! topics are stored, and do not pass there. What waits is bounded, and what finds no room is
//! counted: a slow reader must hold up no event.

use crate::dialect::Kind;
use crate::frame::Publication;
use crate::wildcard;
use std::collections::VecDeque;
use std::sync::Arc;

/// Maximum number of events that wait for one reader; more than scroll through a terminal in a
/// second.
pub const TAP_EVENTS_MAX: usize = 1000;
/// Maximum bytes of these. They may be held long after the last session has got them.
pub const TAP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Which events are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapFilter {
    /// The dialect; `None`: all.
    kind: Option<Kind>,
    /// The pattern of their addresses.
    whole: Box<str>,
    /// The pattern of addresses that go on behind a slash.
    below: Box<str>,
}

impl TapFilter {
    /// The events of an address, such as `echo/APP/CHANNEL`, and of all that go on behind it; in it
    /// a star stands for any text.
    ///
    /// # Errors
    /// When no event passes at this address: what to write instead.
    pub fn read(address: &str) -> Result<Self, String> {
        let address = address.trim_end_matches('/');
        let Some(kind) = Kind::of_address(address) else {
            let words: Vec<_> = Kind::ALL.iter().map(|kind| kind.feed().word).collect();
            return Err(format!("it begins with one of {}", words.join(", ")));
        };
        if kind.has_topics() && address.split('/').nth(1) == Some("persistent") {
            return Err("messages of durable topics do not pass here but are stored: see \
                        fanfare topics peek, or GET /topics/peek"
                .into());
        }
        Ok(Self { kind: Some(kind), whole: address.into(), below: format!("{address}/*").into() })
    }

    /// Whether events of a dialect may be meant.
    #[must_use]
    pub fn means(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    /// Whether the events of an address are meant, of a dialect that may be.
    #[must_use]
    pub fn matches(&self, address: &str) -> bool {
        self.kind.is_none()
            || wildcard::matches(&self.whole, address)
            || wildcard::matches(&self.below, address)
    }
}

/// Events that wait for one reader, in order.
#[derive(Debug, Default)]
pub struct TapQueue {
    events: VecDeque<Arc<Publication>>,
    bytes: usize,
    /// Those that found no room, all of them behind the last that waits.
    missed: u64,
}

impl TapQueue {
    /// Adds an event, or counts it where there is no room.
    pub fn offer(&mut self, event: &Arc<Publication>) {
        let bytes = self.bytes + event.weight();
        // Once one is missed, so are the next, until the reader has been told.
        if self.missed > 0 || self.events.len() == TAP_EVENTS_MAX || bytes > TAP_BYTES_MAX {
            self.missed += 1;
            return;
        }
        self.bytes = bytes;
        self.events.push_back(Arc::clone(event));
    }

    /// Takes all that wait, and the number of those that were missed behind them.
    pub fn take(&mut self) -> (VecDeque<Arc<Publication>>, u64) {
        let Self { events, missed, .. } = std::mem::take(self);
        (events, missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use crate::wheel::Now;

    fn event(payload: &[u8]) -> Arc<Publication> {
        let mut draft = Draft::default();
        draft.address(&[b"e", b"7\0room\0"], b"");
        draft.text(|out| out.extend_from_slice(payload));
        Arc::new(draft.finish(Now::default()))
    }

    #[test]
    fn an_address_means_itself_and_all_that_goes_on_behind_it() {
        let meant = |address: &str, shown: &str| {
            let filter = TapFilter::read(address).unwrap();
            filter.means(Kind::of_address(shown).unwrap()) && filter.matches(shown)
        };
        for (address, shown, expected) in [
            ("echo", "echo/7/room", true),
            ("echo/", "echo/7/room", true),
            ("echo/7", "echo/7/room", true),
            ("echo/7/room", "echo/7/room", true),
            ("echo/7/roo", "echo/7/room", false),
            ("echo/7/roo*", "echo/7/room", true),
            ("echo/*/room", "echo/7/room", true),
            ("echo/7", "echo/77/room", false),
            ("wazo", "echo/7/room", false),
            ("event/demo/https://x/a", "event/demo/https://x/a/b", true),
        ] {
            assert_eq!(meant(address, shown), expected, "{address} {shown}");
        }
        let every = TapFilter::default();
        assert!(Kind::ALL.iter().all(|kind| every.means(*kind)) && every.matches("x"));
        for (wrong, said) in [
            ("eco/7", "begins with one of event"),
            ("pulsar/persistent/t/n/x", "topics peek"),
            ("", "begins with one of"),
        ] {
            assert!(TapFilter::read(wrong).unwrap_err().contains(said), "{wrong}");
        }
    }

    #[test]
    fn a_publication_is_shown_with_the_address_that_finds_it() {
        let event = event(b"{}");
        let kind = Kind::of_topic(event.topic()).unwrap();
        assert_eq!(kind.address_of(&event), "echo/7/room");
        assert_eq!(
            Kind::asked_topic("echo/7/room").unwrap().topic,
            Box::from(event.topic()),
            "as operators ask for it"
        );
    }

    #[test]
    fn what_waits_for_a_reader_is_bounded_and_what_is_missed_is_counted() {
        let mut queue = TapQueue::default();
        let small = event(b"{}");
        (0..TAP_EVENTS_MAX + 7).for_each(|_| queue.offer(&small));
        let (events, missed) = queue.take();
        assert_eq!((events.len(), missed), (TAP_EVENTS_MAX, 7));

        // A large one that finds no room is followed by no small one that would seem to be next.
        let large = event(&vec![b' '; TAP_BYTES_MAX / 2]);
        for event in [&large, &large, &small] {
            queue.offer(event);
        }
        let (events, missed) = queue.take();
        assert_eq!((events.len(), missed), (1, 2));
        let none = queue.take();
        assert!(none.0.is_empty() && none.1 == 0);
    }
}
