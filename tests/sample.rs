//! Holds the files of `systemd/` against the program: the sample configuration is made from the schema of the
//! configuration and can run, the manual's tables of keys and of limits have its defaults, and the unit fits
//! them.
//!
//! `REWRITE=1 cargo test --test sample` writes the sample and those tables anew.

use fanfare::config::Config;
use fanfare::config::listing::listing;
use fanfare::config::sample::{sample, waiting};
use fanfare::config::schema::{Key, is_list, keys};
use fanfare::manual::{ManualPage, PAGES};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const SAMPLE: &str = include_str!("../systemd/fanfare.toml");
const UNITS: [&str; 2] = ["fanfare.service", "fanfare.socket"];
const SOCKET: &str = include_str!("../systemd/fanfare.socket");
const UNIT: &str = include_str!("../systemd/fanfare.service");

/// What begins a table of keys in a page, with the names of the tables; and what ends it.
const KEYS: &str = "<!-- keys: ";
const END: &str = "<!-- end -->\n";

/// Compares a file with what it should be, or writes it.
fn hold(file: &str, now: &str, expected: &str) {
    if now == expected {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(path, expected).expect("the file can be written");
        return;
    }
    let differs = now.lines().zip(expected.lines()).find(|(now, expected)| now != expected);
    panic!(
        "{file} is not what the settings say: run `REWRITE=1 cargo test --test sample`, which writes it. First:\n{differs:#?}"
    );
}

fn read(text: &str) -> Config {
    Config::read(text, std::iter::empty()).unwrap_or_else(|error| panic!("{error:?}"))
}

fn key(path: &str) -> &'static Key {
    keys().iter().find(|key| key.path == path).unwrap_or_else(|| panic!("{path}"))
}

#[test]
fn the_sample_is_made_from_the_settings() {
    hold("systemd/fanfare.toml", SAMPLE, &sample());
}

#[test]
fn the_sample_can_run() {
    assert_eq!(read(SAMPLE).problems(), Vec::<String>::new());
}

/// A table of the sample that stands behind `#`.
struct Dormant {
    name: String,
    /// Its lines, comments left out, without the `#`.
    keys: Vec<String>,
}

/// The sample in two parts: what it sets, with every default that stands behind `#`, and the tables that do.
fn parts() -> (String, Vec<Dormant>) {
    let (mut awake, mut dormant): (String, Vec<Dormant>) = (String::new(), Vec::new());
    let (mut section, mut is_dormant) = (String::new(), false);
    for line in SAMPLE.lines().filter(|line| !line.starts_with("# ")) {
        let (is_commented, text) =
            line.strip_prefix('#').map_or((false, line), |text| (true, text));
        if text.starts_with('[') {
            let name = text.trim_matches(['[', ']']);
            (section, is_dormant) = (
                name.replace("echo.app", "echo.app.0").replace("listen", "listen.0"),
                is_commented,
            );
            match is_commented {
                true => dormant.push(Dormant { name: name.into(), keys: vec![] }),
                false => awake += &format!("{text}\n"),
            }
        } else if let Some((name, _)) = text.split_once(" = ") {
            let path =
                if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let is_default = key(&path).example().is_none() && key(&path).default().is_some();
            match dormant.last_mut().filter(|_| is_dormant) {
                Some(table) => table.keys.push(text.into()),
                None if !is_commented || is_default => awake += &format!("{text}\n"),
                None => {}
            }
        }
    }
    (awake, dormant)
}

#[test]
fn a_key_behind_a_hash_shows_its_default() {
    assert_eq!(format!("{:?}", read(&parts().0)), format!("{:?}", read(SAMPLE)));
}

#[test]
fn each_table_behind_a_hash_can_be_used_and_shows_its_defaults() {
    for table in parts().1 {
        // Another verifier takes the place of the first.
        let rest = match table.name.split_once(".token.") {
            Some((dialect, _)) => {
                let first = format!("[{dialect}.token.jwt]\n");
                let (before, after) = SAMPLE.split_once(&first).unwrap();
                format!("{before}{}", after.split_once("\n\n").unwrap().1)
            }
            None => SAMPLE.to_owned(),
        };
        // Of two ways to give a secret or an address, one; and TLS of the sample's listener stands with it.
        let is_second =
            |line: &str| line.starts_with("client_secret =") || line.starts_with("url_file =");
        let lines: Vec<&String> = table.keys.iter().filter(|line| !is_second(line)).collect();
        let (start, end) = match rest.split_once("\n[admin]").filter(|_| table.name == "listen.tls")
        {
            Some((start, end)) => (start.to_owned(), format!("[admin]{end}")),
            None => (rest, String::new()),
        };
        let with = |lines: &[&String]| {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            read(&format!("{start}\n[{}]\n{lines}{end}", table.name))
        };
        let whole = with(&lines);
        let problems = whole.problems();
        let problems =
            problems.iter().filter(|problem| !problem.starts_with("[echo.redis] needs a Redis"));
        assert_eq!(problems.collect::<Vec<_>>(), Vec::<&String>::new(), "{}", table.name);
        for (place, line) in lines.iter().enumerate() {
            let path = format!(
                "{}.{}",
                table.name.replace("listen", "listen.0"),
                line.split_once(" = ").unwrap().0
            );
            if key(&path).example().is_none() && key(&path).default().is_some() {
                let without = [&lines[..place], &lines[place + 1..]].concat();
                assert_eq!(format!("{:?}", with(&without)), format!("{whole:?}"), "{path}");
            }
        }
    }
}

/// The number that a cell of a table begins with, in the unit of a key, and where it stands.
fn told(cell: &str, key: &str) -> Option<(i64, std::ops::Range<usize>)> {
    let start = cell.find(|c: char| c.is_ascii_digit())?;
    let number = cell[start..].find(' ').map_or(cell.len(), |end| start + end);
    let digits: String = cell[start..number].chars().filter(char::is_ascii_digit).collect();
    let (unit, word) =
        match cell[number..].split_whitespace().next().unwrap_or_default().trim_end_matches(',') {
            "KiB" => (1024, " KiB"),
            "MiB" => (1024 * 1024, " MiB"),
            "million" => (1_000_000, " million"),
            "s" if key.ends_with("_ms") => (1000, " s"),
            _ => (1, ""),
        };
    let end = if digits.len() < number - start && cell[..number].ends_with(',') {
        number - 1
    } else {
        number
    };
    Some((digits.parse::<i64>().ok()? * unit, start..end + word.len()))
}

/// A number in the unit that suits it.
fn figure(value: i64, key: &str) -> String {
    let units = [("MiB", 1024 * 1024), ("KiB", 1024)];
    match units.into_iter().find(|(_, unit)| key.contains("bytes") && value % unit == 0) {
        Some((name, unit)) => format!("{} {name}", value / unit),
        None if key.ends_with("_ms") && value % 1000 == 0 => format!("{} s", value / 1000),
        None => value.to_string(),
    }
}

/// A row of the manual's tables says ``| … | 1 MiB (`limits.outbox_bytes_max`) | … |``: the first key's default.
#[test]
fn the_limits_that_the_manual_tells_are_the_defaults() {
    let default = |path: &str| {
        let key = keys().iter().find(|key| key.path.replace(".0.", ".") == path)?;
        key.default()?.as_i64().filter(|value| *value > 0)
    };
    let mut looked_at = 0;
    for page in PAGES {
        let mut right = String::new();
        for row in page.source.split_inclusive('\n') {
            let limit = row.split('|').nth(2).filter(|_| row.starts_with("| ")).unwrap_or_default();
            let found = limit.split_once("(`").and_then(|(cell, keys)| {
                let key = keys.split('`').next()?;
                Some((cell, key, default(key)?, told(cell, key)?))
            });
            let Some((cell, key, default, (told, place))) = found else {
                right += row;
                continue;
            };
            looked_at += 1;
            let new = if told == default {
                cell.into()
            } else {
                [&cell[..place.start], &figure(default, key), &cell[place.end..]].concat()
            };
            right += &row.replacen(cell, &new, 1);
        }
        hold(&format!("src/manual/{}.md", page.name), page.source, &right);
    }
    assert!(looked_at > 30, "only {looked_at} rows have a key");
}

/// The tables of keys of a page: what precedes each, the names of its tables, and what follows the last.
fn key_tables(page: &ManualPage) -> (Vec<(&'static str, Vec<&'static str>)>, &'static str) {
    let (mut tables, mut rest) = (Vec::new(), page.source);
    while let Some((before, after)) = rest.split_once(KEYS) {
        let (names, table) = after.split_once(" -->\n").expect("a marker ends");
        tables.push((before, names.split(' ').collect()));
        rest = table.split_once(END).expect("a table ends").1;
    }
    (tables, rest)
}

#[test]
fn the_tables_of_keys_in_the_manual_are_made_from_the_settings() {
    for page in PAGES {
        let (tables, rest) = key_tables(page);
        let mut right = String::new();
        for (before, names) in tables {
            let list = names.iter().map(|name| {
                let list = listing(name).unwrap_or_else(|| panic!("{}: no {name}", page.name));
                // The only table of a place has the heading above it.
                let title = match (names.len() > 1, is_list(name)) {
                    (false, _) => String::new(),
                    (true, false) => format!("`[{name}]`\n\n"),
                    (true, true) => format!("`[[{name}]]`\n\n"),
                };
                format!("{title}{list}\n")
            });
            right += &format!("{before}{KEYS}{} -->\n\n", names.join(" "));
            right += &(list.collect::<String>() + END);
        }
        hold(&format!("src/manual/{}.md", page.name), page.source, &(right + rest));
    }
}

#[test]
fn the_manual_has_a_table_of_every_key() {
    let names = PAGES.iter().flat_map(|page| key_tables(page).0).flat_map(|(_, names)| names);
    let told: Vec<(&str, String)> = names.map(|name| (name, listing(name).unwrap())).collect();
    let unique: BTreeSet<&str> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(unique.len(), told.len(), "a table is there twice");
    for key in keys() {
        let path = key.path.replace(".0.", ".");
        let table = path.rsplit_once('.').map_or(".", |(table, _)| table);
        // Tables of tokens are alike in several dialects, and are there once.
        let own = listing(table).unwrap_or_else(|| panic!("there is no table {table}"));
        assert!(told.iter().any(|(_, list)| *list == own), "the manual has no table of [{table}]");
    }
}

#[test]
fn the_manual_tells_what_waits_for_a_restart() {
    let page = ManualPage::named("configuration").unwrap().source;
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "");
    assert!(page.contains(&waiting()), "src/manual/configuration.md: {}", waiting());
}

#[test]
fn the_schema_is_what_editors_take() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["config", "schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let address = &schema["properties"]["listen"]["items"];
    assert_eq!(address["required"], serde_json::json!(["address", "dialects"]));
    let writers = &schema["properties"]["store"]["properties"]["writers"];
    assert_eq!(
        (&writers["minimum"], &writers["maximum"], &writers["default"]),
        (&1.into(), &16.into(), &1.into())
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\"x-"));
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

#[test]
fn the_socket_unit_has_the_addresses_of_the_sample() {
    let config = read(SAMPLE);
    let streams = SOCKET.lines().filter_map(|line| line.strip_prefix("ListenStream="));
    let streams: Vec<&str> = streams.collect();
    let ports: Vec<String> =
        config.listen.iter().map(|listen| listen.address.port().to_string()).collect();
    let path = config.feed.unix.path.unwrap().display().to_string();
    assert_eq!(streams, [ports, vec![path]].concat());
}

#[test]
fn the_unit_names_pages_of_the_manual() {
    let named = UNIT.lines().find_map(|line| line.strip_prefix("Documentation=")).unwrap();
    let pages: Vec<String> = PAGES.iter().map(ManualPage::man_file).collect();
    for page in named.split(' ') {
        let (name, section) = page.strip_prefix("man:").unwrap().split_once('(').unwrap();
        let file = format!("{name}.{}", section.trim_end_matches(')'));
        assert!(pages.contains(&file), "there is no {file}");
    }
}

/// The threshold is in tenths.
#[test]
fn the_unit_is_well_formed_and_sandboxed() {
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
    };
    let [service, socket] = UNITS.map(|unit| format!("systemd/{unit}"));
    let security = ["security", "--offline=true", "--threshold=15", "--no-pager", &service];
    let Ok(security) = analyze(&security) else {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    };
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
    let verify = analyze(&["verify", "--man=no", &service, &socket]).unwrap().stderr;
    let verify = String::from_utf8(verify).unwrap();
    let wrong: Vec<&str> = verify
        .lines()
        .filter(|line| {
            // Where it is not installed.
            UNITS.iter().any(|unit| line.contains(unit))
                && !line.contains("Command fanfare is not executable")
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
