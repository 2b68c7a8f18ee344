//! The browser pages of the manual, as a developer tries them: saved, opened, and published to.

use crate::cli::{Trial, run};
use crate::harness::{npm, shown, skip, succeed, tools};
use fanfare::dialect::Kind;
use fanfare::manual::ManualPage;
use std::path::Path;
use std::process::Command;

/// Lines of a page, with what connects again after a loss.
const PAGE_LINES_MAX: usize = 40;
/// What each of them is sent.
const SENT: &str = "Hello";

/// Where the development daemon listens for the clients of a dialect.
fn address(printed: &str, dialect: &str) -> String {
    let (_, rest) = printed.split_once(&format!("\n{dialect}\n")).unwrap();
    let (_, rest) = rest.split_once("ws://").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[test]
fn every_protocol_has_a_page_of_a_few_lines() {
    let source = ManualPage::named("pages").unwrap().source;
    let named: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let kinds = Kind::ALL.iter().map(|kind| kind.name()).filter(|name| *name != "mirror");
    let (mut named, mut kinds) = (named, kinds.collect::<Vec<_>>());
    assert_eq!(shown("pages", "html").len(), named.len());
    named.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(named, kinds);
    for page in shown("pages", "html") {
        assert!(page.lines().count() <= PAGE_LINES_MAX, "{page}");
    }
}

#[test]
fn each_page_shows_what_is_published_and_comes_back() {
    if !tools().join("node_modules/playwright-core").exists()
        || !Path::new("/usr/bin/chromium").exists()
    {
        return skip("the manual's pages in Chromium", "it is not installed; tests/run does it");
    }
    let (trial, printed) = Trial::start();
    let places = [
        ("127.0.0.1:8080", address(&printed, "personium-event")),
        ("127.0.0.1:9502", address(&printed, "wazo")),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_fanfare")).parent().unwrap().display();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let directory = trial.state.path().join("pages");
    std::fs::create_dir(&directory).unwrap();

    let mut visits = Vec::new();
    for (page, commands) in shown("pages", "html").iter().zip(shown("pages", "sh")) {
        let (open, publish) = commands.trim().split_once('\n').unwrap();
        let name = open.split_once("$PWD/").unwrap().1.split_once(".html").unwrap().0;
        let placed = places.iter().fold(page.clone(), |page, (from, to)| page.replace(from, to));
        std::fs::write(directory.join(format!("{name}.html")), placed).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", open]).current_dir(&directory).env("PATH", &path);
        let (code, url, said) = run(trial.environment(&mut shell));
        assert_eq!(code, Some(0), "{said}");
        // They all come back in the same way, after seconds.
        let end =
            if visits.is_empty() { "fanfare kick --dialect personium-event --yes" } else { "" };
        visits.push([url.trim(), publish, SENT, end].map(str::to_owned));
    }

    let mut node = npm("manual_page.js");
    node.arg(serde_json::to_string(&visits).unwrap()).env("PATH", &path);
    succeed(trial.environment(&mut node));
}
