//! The fuzz targets in every test run: each runs its seeds, the inputs that once failed, and two
//! seconds of mutations. `tests/run --long` gives each a minute here, and an hour in all to
//! libFuzzer, which is guided by coverage (`guided`).
//!
//! `FANFARE_FUZZ_SECONDS` sets the time for each target, `FANFARE_FUZZ_SEED` the seed of the random
//! numbers. An input that fails, hangs or ends the process is left in a file;
//! `FANFARE_FUZZ_INPUT=FILE` runs its target with that alone. Add the input to
//! `regressions/TARGET` with the fix.

#![allow(clippy::unwrap_used)]

mod mutator;
mod targets;
mod trail;

use fanfare::dialect::Kind;
use mutator::Mutator;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::{ALL, Target};
use trail::Trail;

/// Seconds that each target runs by default.
const SECONDS: u64 = 2;
/// The seed of the random numbers by default.
const SEED: u64 = 15;
/// Maximum number of bytes shown of a failing input; its file has all of them.
const SHOWN_BYTES_MAX: usize = 400;

macro_rules! each {
    ($($name:ident)+) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];
        $(#[test] fn $name() { fuzz(stringify!($name)); })+
    };
}

each! {
    message http feed personium_event personium_topic channel echo pulsar wazo token redis amqp
    proxy record trie cluster handover
}

#[test]
fn every_dialect_is_a_target_and_every_target_is_run_and_has_seeds() {
    let names: Vec<&str> = ALL.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    for kind in Kind::ALL {
        // The dialect of the conformance tests is in no daemon.
        let is_for_tests = kind.name() == "mirror";
        let target = kind.name().replace('-', "_");
        assert!(is_for_tests || names.contains(&target.as_str()), "there is no target {target}");
    }
    for name in names {
        assert!(!inputs("seeds", name).is_empty(), "tests/fuzz/seeds/{name} has none");
    }
}

fn fuzz(name: &str) {
    let target = ALL.iter().find(|target| target.name == name).unwrap();
    if let Ok(path) = std::env::var("FANFARE_FUZZ_INPUT") {
        return (target.run)(&fs::read(path).unwrap());
    }
    let seed = number("FANFARE_FUZZ_SEED").unwrap_or(SEED);
    let seconds = Duration::from_secs(number("FANFARE_FUZZ_SECONDS").unwrap_or(SECONDS));
    let seeds = inputs("seeds", name);
    let trail = Trail::start(Path::new(env!("CARGO_TARGET_TMPDIR")), target.name);
    let known = [&seeds[..], &inputs("regressions", name)].concat();
    known.iter().for_each(|input| run(target, input, seed, &trail));

    let mut mutator = Mutator::new(seed, seeds, words(name));
    let (until, mut count) = (Instant::now() + seconds, 0_u64);
    while Instant::now() < until {
        run(target, mutator.next(), seed, &trail);
        count += 1;
    }
    trail.end();
    println!("{name}: {count} inputs");
}

fn run(target: &Target, input: &[u8], seed: u64, trail: &Trail) {
    trail.keep(input);
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok() {
        return;
    }
    let shown = input[..input.len().min(SHOWN_BYTES_MAX)].escape_ascii();
    panic!(
        "{} fails (seed {seed}) with {} bytes: {shown}\n\
         again: FANFARE_FUZZ_INPUT={} cargo test --test fuzz {}",
        target.name,
        input.len(),
        trail.fail().display(),
        target.name
    );
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The inputs of a target, in the order of their file names.
fn inputs(kind: &str, name: &str) -> Vec<Vec<u8>> {
    let Ok(folder) = fs::read_dir(folder().join(kind).join(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The words of a target in the format of libFuzzer's dictionaries: one a line, in quotes, with
/// `\xNN` for bytes that are not text.
fn words(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder().join("words").join(name)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    lines.map(unescaped).collect()
}

fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        match (byte, byte == b'\\') {
            (_, true) => match rest.next() {
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap());
                }
                escaped => bytes.push(escaped.unwrap()),
            },
            (byte, false) => bytes.push(byte),
        }
    }
    bytes
}
