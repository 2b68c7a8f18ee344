//! Holds the files of `systemd/` against the program: the sample configuration has every key with its
//! default, and the unit fits them.

use fanfare::config::{Config, KEYS};
use std::process::Command;

const SAMPLE: &str = include_str!("../systemd/fanfare.toml");
const UNIT: &str = include_str!("../systemd/fanfare.service");
const README: &str = include_str!("../README.md");

/// Keys that have no default; behind `#` stands an example.
const EXAMPLES: [&str; 50] = [
    "listen.0.tls.certificate",
    "listen.0.tls.key",
    "listen.0.tls.client_ca",
    "listen.0.tls.client_certificate",
    "admin.token",
    "admin.token_file",
    "feed.unix.group",
    "feed.amqp.url",
    "feed.amqp.url_file",
    "feed.amqp.origin_uuid",
    "feed.amqp.ca_file",
    "feed.redis.url",
    "feed.redis.url_file",
    "feed.redis.ca_file",
    "personium.topics",
    "personium.token.jwt.secret",
    "personium.token.jwt.public_key_file",
    "personium.token.jwt.jwks_file",
    "personium.token.static.file",
    "personium.token.introspection.url",
    "personium.token.introspection.client_id",
    "personium.token.introspection.client_secret",
    "personium.token.introspection.client_secret_file",
    "personium.token.introspection.ca_file",
    "channel.token.jwt.secret",
    "channel.token.jwt.public_key_file",
    "channel.token.jwt.jwks_file",
    "channel.token.static.file",
    "echo.redis.app",
    "echo.redis.prefix",
    "echo.app.0.secret",
    "echo.app.0.webhook",
    "store.backup_path",
    "pulsar.partitioned",
    "pulsar.token.jwt.secret",
    "pulsar.token.jwt.public_key_file",
    "pulsar.token.jwt.jwks_file",
    "pulsar.token.static.file",
    "pulsar.token.introspection.url",
    "pulsar.token.introspection.client_id",
    "pulsar.token.introspection.client_secret",
    "pulsar.token.introspection.client_secret_file",
    "pulsar.token.introspection.ca_file",
    "wazo.master_tenant_uuid",
    "wazo.token.jwt.secret",
    "wazo.token.jwt.public_key_file",
    "wazo.token.jwt.jwks_file",
    "wazo.token.static.file",
    "wazo.token.wazo_auth.url",
    "wazo.token.wazo_auth.ca_file",
];

/// The tables that stand behind `#`, each to take the place of the dialect's `token.jwt`.
const OTHER_JUDGES: [&str; 7] = [
    "personium.token.introspection",
    "personium.token.static",
    "channel.token.static",
    "pulsar.token.introspection",
    "pulsar.token.static",
    "wazo.token.wazo_auth",
    "wazo.token.static",
];

/// The table behind `#` that is nothing without its one key that has no default.
const OPTIONAL: (&str, &str) = ("channel.callback", "url");

/// One `key = value` of the sample.
struct Entry {
    /// Its place among the lines.
    line: usize,
    /// As in [`KEYS`].
    key: String,
    commented: bool,
}

fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut section = String::new();
    for (line, text) in SAMPLE.lines().enumerate() {
        let (commented, text) = text.strip_prefix('#').map_or((false, text), |text| (true, text));
        if let Some(header) = text.strip_prefix('[') {
            let list = header.starts_with('[');
            let name = header.trim_matches(['[', ']']);
            section = format!("{name}.{}", if list { "0." } else { "" });
        } else if let Some((key, _)) = text.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'.')
        {
            entries.push(Entry { line, key: format!("{section}{key}"), commented });
        }
    }
    entries
}

fn read(text: &str) -> Config {
    Config::read(text, std::iter::empty()).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn the_sample_can_run() {
    assert_eq!(read(SAMPLE).problems(), Vec::<String>::new());
}

#[test]
fn every_key_stands_in_the_sample_once_and_no_other() {
    let mut found: Vec<String> = entries().into_iter().map(|entry| entry.key).collect();
    let mut known: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn a_key_behind_a_hash_shows_its_default() {
    let as_shipped = format!("{:?}", read(SAMPLE));
    let of_another_table = |entry: &Entry| {
        let tables = OTHER_JUDGES.into_iter().chain([OPTIONAL.0]);
        tables.into_iter().any(|table| entry.key.starts_with(&format!("{table}.")))
    };
    for entry in entries().iter().filter(|entry| entry.commented && !of_another_table(entry)) {
        let with: Vec<&str> = SAMPLE
            .lines()
            .enumerate()
            .map(|(line, text)| if line == entry.line { &text[1..] } else { text })
            .collect();
        if !EXAMPLES.contains(&entry.key.as_str()) {
            assert_eq!(format!("{:?}", read(&with.join("\n"))), as_shipped, "{}", entry.key);
        } else {
            read(&with.join("\n"));
        }
    }
}

/// The number that a cell of a table begins with, in the unit of a key.
fn told(cell: &str, key: &str) -> Option<i64> {
    let mut words =
        cell.split_whitespace().skip_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    let digits: String = words.next()?.chars().filter(char::is_ascii_digit).collect();
    let unit = match words.next() {
        Some("KiB") => 1024,
        Some("MiB") => 1024 * 1024,
        Some("million") => 1_000_000,
        Some("s") if key.ends_with("_ms") => 1000,
        _ => 1,
    };
    digits.parse::<i64>().ok().map(|number| number * unit)
}

/// A row of the README's tables says ``| … | 1 MiB (`limits.outbox_bytes_max`) | … |``: the first key's default.
#[test]
fn the_limits_that_the_readme_tells_are_those_of_the_sample() {
    let value = |key: &str| {
        let entry = entries().into_iter().find(|entry| entry.key.replace(".0.", ".") == key)?;
        let (_, value) = SAMPLE.lines().nth(entry.line)?.split_once(" = ")?;
        value.parse::<i64>().ok().filter(|value| *value > 0)
    };
    let mut looked_at = 0;
    for row in README.lines().filter(|line| line.starts_with("| ")) {
        let limit = row.split('|').nth(2).unwrap_or_default();
        let Some((cell, keys)) = limit.split_once("(`") else { continue };
        let key = keys.split('`').next().unwrap_or_default();
        if let (Some(default), Some(told)) = (value(key), told(cell, key)) {
            assert_eq!(told, default, "{row}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 30, "only {looked_at} rows have a key");
}

#[test]
fn each_other_judge_of_the_sample_can_take_the_place_of_the_first() {
    for table in OTHER_JUDGES {
        let first = format!("[{}.token.jwt]", table.split('.').next().unwrap());
        let (before, _) = SAMPLE.split_once(&first).unwrap();
        let header = format!("#[{table}]\n");
        let (_, rest) = SAMPLE.split_once(&header).unwrap();
        let block = rest.split("\n\n").next().unwrap();
        // One of two ways to give the secret.
        let lines = block.lines().filter_map(|line| line.strip_prefix('#'));
        let lines: Vec<&str> =
            lines.filter(|line| !line.starts_with(' ') && !line.starts_with("client_secret =")).collect();
        let with = |lines: &[&str]| read(&format!("{before}{}{}", &header[1..], lines.join("\n")));
        let whole = with(&lines);
        assert_eq!(whole.problems(), Vec::<String>::new());
        for (place, line) in lines.iter().enumerate() {
            let key = format!("{table}.{}", line.split(" = ").next().unwrap());
            if KEYS.contains(&&*key) && !EXAMPLES.contains(&&*key) {
                let without = [&lines[..place], &lines[place + 1..]].concat();
                assert_eq!(format!("{:?}", with(&without)), format!("{whole:?}"), "{key}");
            }
        }
    }
}

#[test]
fn the_optional_table_of_the_sample_shows_its_defaults() {
    let (table, needed) = OPTIONAL;
    let (before, rest) = SAMPLE.split_once(&format!("#[{table}]\n")).unwrap();
    let (block, after) = rest.split_once("\n\n").unwrap();
    let lines: Vec<&str> = block
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .collect();
    let with = |lines: &[&str]| read(&format!("{before}[{table}]\n{}\n\n{after}", lines.join("\n")));
    let whole = with(&lines);
    assert_eq!(whole.problems(), Vec::<String>::new());
    assert!(lines.len() > 1 && whole.channel.callback.is_some());
    for (place, line) in lines.iter().enumerate() {
        let without = with(&[&lines[..place], &lines[place + 1..]].concat());
        let same = format!("{without:?}") == format!("{whole:?}");
        assert_eq!(same, !line.starts_with(&format!("{needed} = ")), "{line}");
    }
}

#[test]
fn the_program_finds_the_sample_good_when_the_secret_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("jwt.secret");
    let check = || {
        Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(["check", "--config", "systemd/fanfare.toml"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("FANFARE_PERSONIUM_TOKEN_JWT_SECRET_FILE", &secret)
            .env("FANFARE_CHANNEL_TOKEN_JWT_SECRET_FILE", &secret)
            .env("FANFARE_PULSAR_TOKEN_JWT_SECRET_FILE", &secret)
            .env("FANFARE_WAZO_TOKEN_JWT_SECRET_FILE", &secret)
            .output()
            .unwrap()
    };
    let absent = check();
    assert!(!absent.status.success());
    assert!(String::from_utf8_lossy(&absent.stderr).contains("there is no file"), "{absent:?}");
    std::fs::write(&secret, "a secret that is at least 32 bytes long\n").unwrap();
    let there = check();
    assert!(there.status.success(), "{there:?}");
    assert!(String::from_utf8_lossy(&there.stdout).starts_with("systemd/fanfare.toml is good."));
}

#[test]
fn the_unit_waits_longer_than_a_stop_may_take() {
    let seconds = UNIT.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(seconds.parse::<u32>().unwrap() > Config::default().drain_s);
}

/// The threshold is in tenths.
#[test]
fn the_unit_is_well_formed_and_sandboxed() {
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze")
            .args(arguments)
            .arg("systemd/fanfare.service")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
    };
    let Ok(security) = analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"]) else {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    };
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
    let verify = String::from_utf8(analyze(&["verify"]).unwrap().stderr).unwrap();
    let wrong: Vec<&str> = verify
        .lines()
        .filter(|line| {
            line.contains("fanfare.service") && !line.contains("/usr/local/bin/fanfare is not executable")
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
