//! The field has a word for most things; a private one does not come back once it is gone.

use std::collections::BTreeSet;
use std::fs;

use super::tokens::product;
use crate::{files, none, root, rust};

/// Words of names and of prose that are not to come back.
const GONE: &[&str] =
    &["docket", "judge", "roster", "courier", "seat", "lots", "ruling", "court", "unspoken"];

/// Names of functions and types that are not to come back; the words themselves are the field's elsewhere.
const GONE_NAMES: &[&str] =
    &["Shared", "Panel", "Ticket", "hand_out", "hand_on", "hand_over", "rise", "hush"];

/// The words of a line, with `snake_case` and `CamelCase` taken apart, in small letters.
fn parts(line: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for word in line.split(|c: char| !c.is_alphanumeric()) {
        let mut part = String::new();
        for c in word.chars() {
            if c.is_uppercase() && part.ends_with(|c: char| c.is_lowercase()) {
                parts.push(std::mem::take(&mut part));
            }
            part.push(c);
        }
        parts.push(part);
    }
    parts.iter().map(|part| part.to_lowercase()).collect()
}

#[test]
fn a_word_that_the_field_does_not_use_does_not_come_back() {
    let is_gone = |part: &String| {
        GONE.iter().any(|gone| part == gone || part.strip_suffix('s') == Some(gone))
    };
    let mut found = Vec::new();
    for source in rust("src").into_iter().chain(rust("benches")) {
        let mut hits = BTreeSet::new();
        hits.extend(parts(&source.path).into_iter().filter(is_gone).map(|part| (0, part)));
        for (index, line) in source.text.lines().enumerate() {
            let known = parts(line).into_iter().filter(is_gone);
            hits.extend(known.map(|part| (index + 1, part)));
        }
        for pair in product(&source.text).tokens.windows(2) {
            let defines =
                ["fn", "struct", "enum", "trait"].iter().any(|keyword| pair[0].is(keyword));
            if defines && GONE_NAMES.contains(&pair[1].text) {
                hits.insert((pair[1].line, pair[1].text.to_owned()));
            }
        }
        found
            .extend(hits.into_iter().map(|(line, part)| format!("{}:{line}: {part}", source.path)));
    }
    none(&found, "these words are not the field's");
}

/// Words that stand for a person or a thing which the sentence had better name.
const VAGUE: &[&str] = &["whoever", "whomever", "whatsoever", "nobody", "somebody"];

#[test]
fn the_manual_names_what_it_speaks_of() {
    let others = ["README.md", "tuning.md"].map(|name| root().join(name));
    let pages = files(&root().join("src/manual")).into_iter().chain(others);
    let mut found = Vec::new();
    for path in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        // Rows of keys are the comments of the settings, and blocks of code are what programs print.
        let prose = text.split("```").step_by(2).flat_map(str::lines);
        for line in prose.filter(|line| !line.starts_with("| `")) {
            let vague = parts(line).into_iter().filter(|part| VAGUE.contains(&part.as_str()));
            found.extend(vague.map(|part| format!("{}: {part}: {line}", path.display())));
        }
    }
    none(&found, "these words name nothing");
}

#[test]
fn words_are_found_in_names_too() {
    assert_eq!(
        parts("//! A snake_case, CamelCase: HTTPCase"),
        ["", "", "", "", "a", "snake", "case", "", "camel", "case", "", "httpcase"]
    );
}
