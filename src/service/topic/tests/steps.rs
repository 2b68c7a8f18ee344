//! What happens at random to the topics and their model.

use proptest::prelude::*;

/// Consumers that there may be.
pub(super) const SLOTS: u32 = 6;

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append {
        topic: usize,
        key: u8,
        delay_ms: u64,
        bytes: usize,
    },
    Open {
        slot: u32,
        topics: usize,
        kind: usize,
        window: u32,
        pulls: bool,
        timeout_ms: u64,
        earliest: bool,
    },
    Close(u32),
    Ack {
        slot: u32,
        nth: usize,
    },
    AckUnknown(u32),
    Nack {
        slot: u32,
        nth: usize,
    },
    Permit {
        slot: u32,
        count: u32,
    },
    Took(u32),
    Unsubscribe(u32),
    Round,
    Pass(u64),
    Delete {
        topic: usize,
        force: bool,
        in_flight: bool,
    },
    ProducerGone(usize),
    Crash {
        after_commit: bool,
    },
    Restart,
    /// With all connections but this one.
    HandOver(u32),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        30 => (0..2usize, 0..4u8, prop_oneof![6 => Just(0), 1 => Just(300u64)],
               prop_oneof![20 => Just(3usize), 1 => Just(150_000)])
            .prop_map(|(topic, key, delay_ms, bytes)| Step::Append { topic, key, delay_ms, bytes }),
        12 => (slot.clone(), 0..3usize, 0..4usize, 1..5u32, prop::bool::weighted(0.2),
               prop_oneof![3 => Just(0), 1 => Just(1000u64)], any::<bool>())
            .prop_map(|(slot, topics, kind, window, pulls, timeout_ms, earliest)| Step::Open {
                slot, topics, kind, window, pulls, timeout_ms, earliest
            }),
        4 => slot.clone().prop_map(Step::Close),
        30 => (slot.clone(), 0..4usize).prop_map(|(slot, nth)| Step::Ack { slot, nth }),
        2 => slot.clone().prop_map(Step::AckUnknown),
        12 => (slot.clone(), 0..4usize).prop_map(|(slot, nth)| Step::Nack { slot, nth }),
        8 => (slot.clone(), 0..4u32).prop_map(|(slot, count)| Step::Permit { slot, count }),
        6 => slot.clone().prop_map(Step::Took),
        1 => slot.prop_map(Step::Unsubscribe),
        20 => Just(Step::Round),
        10 => prop::sample::select(vec![10u64, 200, 600, 1500, 70_000]).prop_map(Step::Pass),
        3 => (0..2usize, any::<bool>(), any::<bool>())
            .prop_map(|(topic, force, in_flight)| Step::Delete { topic, force, in_flight }),
        2 => (0..2usize).prop_map(Step::ProducerGone),
        1 => any::<bool>().prop_map(|after_commit| Step::Crash { after_commit }),
        1 => Just(Step::Restart),
        4 => (0..=SLOTS).prop_map(Step::HandOver),
    ]
}
