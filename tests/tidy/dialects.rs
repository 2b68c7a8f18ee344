//! A protocol is known to its own files below `src/dialect/` and to the list in `src/dialect.rs`. Every other
//! place that names one has to be found again when a protocol is added.

use std::collections::{BTreeMap, BTreeSet};

use super::crate_map::{CrateMap, product_files};
use super::tokens::{Token, product};
use crate::none;

/// The only file outside of `src/dialect/` that may name them.
const LIST: &str = "src/dialect.rs";

/// The protocols' modules and their variants of `Kind`, as the list has them: `Variant: module::Type, …;`.
fn protocols(list: &[Token<'_>]) -> (BTreeSet<String>, BTreeSet<String>) {
    let start = list.windows(3).position(|at| at[0].is("make") && at[1].is("!") && at[2].is("{"));
    let lines = list[start.expect("the list is there") + 3..].split(|token| token.is(";"));
    lines
        .map_while(|line| {
            let colon = line.iter().position(|token| token.is(":"))?;
            Some((line[colon + 1].text.to_owned(), line[colon - 1].text.to_owned()))
        })
        .unzip()
}

#[test]
fn no_protocol_is_named_outside_of_its_files_and_the_list() {
    let sources = product_files();
    let list = sources.iter().find(|source| source.path == LIST).unwrap();
    let (modules, variants) = protocols(&product(&list.text).tokens);
    assert!(modules.len() > 4 && variants.len() > 5, "{modules:?} {variants:?}");
    let is_own = |path: &str| {
        let inside = path.strip_prefix("src/dialect/").unwrap_or("");
        modules.contains(inside.split(['/', '.']).next().unwrap())
    };
    let mut naming: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let outside = |path: &str| !is_own(path) && path != LIST;
    for source in sources.iter().filter(|source| outside(&source.path)) {
        for at in product(&source.text).tokens.windows(3) {
            let [before, between, name] = [at[0], at[1], at[2]];
            let is_variant = ["Kind", "AnyDialect"].iter().any(|list| before.is(list))
                && between.is("::")
                && variants.contains(name.text);
            let holds_settings =
                ["settings", "dialects"].iter().any(|word| before.text.ends_with(word));
            let is_settings = holds_settings && between.is(".") && modules.contains(name.text);
            if is_variant || is_settings {
                let text = [before.text, between.text, name.text].concat();
                naming.entry(&source.path).or_default().insert(text);
            }
        }
    }
    let uses = CrateMap::of(&sources).uses();
    for (from, of) in uses.iter().filter(|(from, _)| outside(from)) {
        for (to, names) in of.iter().filter(|(to, _)| is_own(to)) {
            let named = names.iter().map(|name| format!("{name} of {to}"));
            naming.entry(from).or_default().extend(named);
        }
    }
    let found: Vec<String> = naming
        .into_iter()
        .map(|(path, named)| format!("{path}: {}", Vec::from_iter(named).join(", ")))
        .collect();
    none(&found, "these name a protocol");
}
