//! Mutated messages between nodes at work, and mutated journals: they may do what a message says,
//! but no more harm.

use super::super::journal::{JournalReader, place_of};
use super::super::owner::PartitionOwner;
use super::super::partition_number::PartitionNumber;
use super::super::{ClusterHost, wire};
use super::random::Random;
use super::voice::SimVoice;
use super::world::{SimInput, World};
use crate::frame::Draft;
use crate::service::DialectId;
use crate::service::presence::PresenceVoice;
use std::collections::BTreeMap;

/// A world at work, which keeps the messages that it sends.
fn busy(seed: u64, ms: u64) -> World {
    let mut world = World::new(seed, 3);
    world.sent = Some(Vec::new());
    for node in 0..3 {
        world.start_node(node);
    }
    world.run_until(3000);
    while world.now < ms {
        world.act();
        let step = world.random.range(1, 40);
        world.run_until(world.now + step);
    }
    world
}

/// Changes some bytes, and numbers to those that calculations go wrong with.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes.insert(at, random.next() as u8),
            2 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
            _ => {
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let Some(from) = bytes[at..].iter().position(is_digit) else { continue };
                let from = at + from;
                let digits = bytes[from..].iter().take_while(|byte| is_digit(byte)).count();
                let numbers = ["0", "1", "15", "16", "4294967295", "18446744073709551615"];
                let number = random.pick(&numbers).bytes();
                bytes.splice(from..from + digits, number);
            }
        }
    }
    bytes
}

#[test]
fn no_mutation_of_a_message_stops_a_node_at_work() {
    for seed in 0..12 {
        let mut world = busy(seed, 5000);
        let mut random = Random::new(seed);
        for _ in 0..300 {
            let sent = world.sent.as_ref().unwrap();
            // Recent ones, of which most are about what is there.
            let from = sent.len().saturating_sub(200);
            let picked = from + random.below(sent.len() - from);
            let bytes = mutate(&sent[picked], &mut random);
            let node = random.below(3);
            if wire::decode(&bytes).is_ok() {
                world.saw("taken");
            }
            world.input(node, SimInput::Heard(bytes));
            world.act();
            let step = random.range(1, 60);
            // What a message says that is not true may break a promise.
            world.fault = None;
            world.run_until(world.now + step);
        }
        let taken = world.seen.get("taken").copied().unwrap_or_default();
        assert!(taken > 20, "only {taken} mutations were messages");
    }
}

#[test]
fn every_kind_of_message_is_written_as_it_is_read() {
    let mut kinds: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for seed in 0..4 {
        let mut world = busy(seed, 9000);
        world.blocked[0][1] = true;
        for _ in 0..60 {
            world.act();
            world.run_until(world.now + 40);
        }
        world.blocked[0][1] = false;
        world.run_until(world.now + 2500);
        world.schedule(world.now, 0, super::world::SimEvent::Drain);
        world.schedule(world.now + 900, 0, super::world::SimEvent::Stop);
        world.run_until(world.now + 2000);
        for bytes in world.sent.unwrap() {
            let message = wire::decode(&bytes).unwrap();
            assert_eq!(wire::encode(&message.from, &message.kind), bytes);
            let text = format!("{:?}", message.kind);
            let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            kinds.insert(kind.to_owned(), bytes);
        }
    }
    let names: Vec<&str> = kinds.keys().map(String::as_str).collect();
    let all = [
        "Answer",
        "Bye",
        "Dismiss",
        "Dismissed",
        "Heartbeat",
        "Hello",
        "Inquire",
        "News",
        "Notes",
        "Release",
        "Reset",
        "Tails",
    ];
    assert_eq!(names, all);
}

/// Loads a journal. Returns how many of its entries were damaged; `None` if it is of another
/// release.
fn load(entries: &[(u64, Vec<u8>)]) -> Option<usize> {
    let voice = |_: DialectId| -> Option<&dyn PresenceVoice> { Some(&SimVoice) };
    let (mut draft, mut out) = (Draft::default(), Vec::new());
    let host = ClusterHost {
        voice: &voice,
        draft: &mut draft,
        outbox_bytes_max: 1 << 20,
        connections: &Vec::new,
        misses: &mut |_, _, _| false,
        out: &mut out,
    };
    let partition = PartitionNumber::all().next().unwrap();
    let now = crate::wheel::Now::default();
    let (epoch, last) = (u64::MAX - 1, u64::MAX);
    let loaded = PartitionOwner::load(partition, epoch, entries, last, &host.words(), 0, now);
    loaded.ok().map(|(_, damaged)| damaged)
}

#[test]
fn a_damaged_journal_is_read_without_what_is_damaged() {
    let mut random = Random::new(1);
    let (mut damaged, mut refused) = (0, 0);
    for seed in 0..4 {
        let world = busy(seed, 9000);
        for journal in &world.journals {
            let entries = journal.history.iter().filter(|stored| !stored.is_epoch);
            let entries: Vec<(u64, Vec<u8>)> =
                entries.map(|stored| (stored.sequence, stored.bytes.clone())).collect();
            assert_eq!(load(&entries), Some(0));
            for _ in 0..20 {
                let mut entries = entries.clone();
                for (_, entry) in &mut entries {
                    if random.percent(10) {
                        *entry = mutate(entry, &mut random);
                    }
                }
                match load(&entries) {
                    Some(count) => damaged += count,
                    None => refused += 1,
                }
            }
        }
    }
    assert!(damaged > 100 && refused > 0, "{damaged} damaged, {refused} refused");
}

#[test]
fn rounds_count_in_their_order_and_within_their_epoch() {
    let entry = |epoch: u64, round: u64| {
        let records = r#"[{"settled":[1]}]"#;
        format!(r#"{{"v":1,"epoch":{epoch},"round":{round},"records":{records}}}"#).into_bytes()
    };
    let mut reader = JournalReader::default();
    let mut counts = |epoch, round| !reader.read(&entry(epoch, round)).unwrap().is_empty();
    assert!(!counts(4, 2), "the first of its epoch is missing");
    assert!(counts(4, 1));
    assert!(counts(4, 2));
    assert!(!counts(4, 2), "a late copy");
    assert!(!counts(4, 4), "the one before is missing");
    assert!(counts(4, 3));
    assert!(!counts(9, 2), "the first of its epoch is missing");
    assert!(counts(9, 1));
    assert!(!counts(4, 4), "of an epoch that was replaced");
    assert!(counts(9, 2));
    assert!(reader.read(b"{damaged").is_err());
    let mut counts = |epoch, round| !reader.read(&entry(epoch, round)).unwrap().is_empty();
    assert!(!counts(9, 5), "two are missing, and one was damaged");
    assert!(counts(9, 4), "the one before was damaged");
    assert!(!counts(9, 6));
    assert_eq!(place_of(&entry(7, 3)), Some((7, 3)));
}
