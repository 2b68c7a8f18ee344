//! A publication as bytes, which other nodes read: nothing of it is parsed or built again there.
//!
//! The layout: the ends of topic, facet and meta, the seconds for which it is retained, the number
//! of forms, the range of each form, and then all bytes as they are held. Numbers are `u32` with
//! the lowest byte first, but the number of forms, which is a byte.

use super::{Publication, PublicationScope};
use crate::bytes::Cursor;
use crate::wheel::Now;
use smallvec::SmallVec;

/// Bytes before the ranges.
const HEADER_BYTES: usize = 4 * 4 + 1;
/// Bytes of one range.
const RANGE_BYTES: usize = 2 * 4;

impl Publication {
    /// The length of its encoding, in bytes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.frames.len() * RANGE_BYTES + self.bytes.len()
    }

    /// Appends its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.topic_end, self.facet_end, self.meta_end, self.retain_s] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // A dialect makes at most a handful of forms.
        out.push(self.frames.len() as u8);
        for (start, end) in &self.frames {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
    }

    /// Reads the encoding of another node's publication, which is for the sessions of this node
    /// only. `None` when it is none: every part lies within the bytes, and every form is one whole
    /// frame.
    #[must_use]
    pub fn decode(encoded: &[u8], accepted: Now) -> Option<Self> {
        let mut cursor = Cursor(encoded);
        let [topic_end, facet_end, meta_end, retain_s] =
            [cursor.u32_le()?, cursor.u32_le()?, cursor.u32_le()?, cursor.u32_le()?];
        let count = usize::from(cursor.byte()?);
        let mut ranges = Cursor(cursor.take(count * RANGE_BYTES)?);
        let bytes = cursor.0;

        let is_within = topic_end <= facet_end && facet_end <= meta_end;
        if !is_within || meta_end as usize > bytes.len() {
            return None;
        }
        let mut frames = SmallVec::new();
        for _ in 0..count {
            let (start, end) = (ranges.u32_le()?, ranges.u32_le()?);
            if start < meta_end || !is_frame(bytes.get(start as usize..end as usize)?) {
                return None;
            }
            frames.push((start, end));
        }
        Some(Self {
            bytes: bytes.into(),
            topic_end,
            facet_end,
            meta_end,
            frames,
            retain_s,
            accepted,
            tally: None,
            scope: PublicationScope::Node,
        })
    }
}

/// Whether these bytes are one whole frame as a server sends it: not fragmented, without extensions
/// and unmasked (RFC 6455 section 5.2).
fn is_frame(frame: &[u8]) -> bool {
    let [first, second, rest @ ..] = frame else { return false };
    if first & 0xf0 != 0x80 {
        return false;
    }
    let (length, payload) = match second {
        // The mask bit makes any other number.
        0..126 => (u64::from(*second), rest),
        126 => match rest.split_first_chunk() {
            Some((length, payload)) => (u16::from_be_bytes(*length).into(), payload),
            None => return false,
        },
        127 => match rest.split_first_chunk() {
            Some((length, payload)) => (u64::from_be_bytes(*length), payload),
            None => return false,
        },
        _ => return false,
    };
    payload.len() as u64 == length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use proptest::prelude::*;

    fn publication(topic: &[u8], facet: &[u8], meta: &[u8], forms: &[Vec<u8>]) -> Publication {
        let mut draft = Draft::default();
        draft.address(&[topic], facet);
        draft.meta(meta);
        draft.retain(7);
        for form in forms {
            draft.text(|out| out.extend_from_slice(form));
        }
        draft.finish(Now::default())
    }

    fn encoded(publication: &Publication) -> Vec<u8> {
        let mut out = Vec::new();
        publication.encode(&mut out);
        assert_eq!(out.len(), publication.encoded_bytes());
        out
    }

    proptest! {
        #[test]
        fn what_another_node_reads_is_what_was_written(
            topic: Vec<u8>, facet: Vec<u8>, meta: Vec<u8>,
            forms in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
        ) {
            let written = publication(&topic, &facet, &meta, &forms);
            let now = Now { monotonic_ns: 5, unix_ms: 6 };
            let read = Publication::decode(&encoded(&written), now).unwrap();
            prop_assert_eq!((read.topic(), read.facet(), read.meta()), (&*topic, &*facet, &*meta));
            prop_assert_eq!((read.forms(), read.retain_s, read.accepted), (forms.len(), 7, now));
            for form in 0..forms.len() as u8 {
                prop_assert_eq!(read.frame(form), written.frame(form));
            }
            prop_assert_eq!(read.scope, PublicationScope::Node);
        }

        #[test]
        fn no_bytes_bring_the_daemon_down(
            bytes: Vec<u8>,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
            cut: proptest::sample::Index,
        ) {
            let forms = [vec![b'a'; 3], vec![b'b'; 200]];
            let mut damaged = encoded(&publication(b"\x01topic", b"facet", b"meta", &forms));
            for (place, byte) in changes {
                let place = place.index(damaged.len());
                damaged[place] = byte;
            }
            let cut = &damaged[..cut.index(damaged.len())];
            for encoded in [&bytes[..], &damaged, cut] {
                let Some(read) = Publication::decode(encoded, Now::default()) else { continue };
                let _ = (read.topic(), read.facet(), read.meta(), read.weight());
                (0..read.forms() as u8).for_each(|form| assert!(is_frame(read.frame(form))));
            }
        }
    }

    #[test]
    fn a_part_that_reaches_into_another_is_refused() {
        let good = encoded(&publication(b"topic", b"facet", b"meta", &[b"one".to_vec()]));
        assert!(Publication::decode(&good, Now::default()).is_some());
        // The ends of topic, facet and meta, and both ends of the form.
        for (place, number) in [(0, 11), (4, 15), (8, 99), (17, 13), (21, 99), (21, 18), (17, 30)] {
            let mut bad = good.clone();
            bad[place] = number;
            assert!(Publication::decode(&bad, Now::default()).is_none(), "{place} {number}");
        }
        for length in 0..good.len() {
            assert!(Publication::decode(&good[..length], Now::default()).is_none(), "{length}");
        }
    }

    #[test]
    fn only_whole_frames_of_a_server_are_frames() {
        for (length, is_good) in [(0, true), (125, true), (126, true), (65_536, true)] {
            let mut frame = Vec::new();
            crate::frame::put_text(&mut frame, |out| out.resize(out.len() + length, b'x'));
            let start = frame.iter().position(|byte| *byte == 0x81).unwrap();
            assert_eq!(is_frame(&frame[start..]), is_good, "{length}");
            assert!(!is_frame(&frame[start..frame.len() - 1]), "{length}");
        }
        for bad in [&b""[..], b"\x81", b"\x01\x00", b"\xc1\x00", b"\x81\x80", b"\x81\x7e\x00"] {
            assert!(!is_frame(bad), "{bad:?}");
        }
    }
}
