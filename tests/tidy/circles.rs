//! No circle between files: what a file uses is defined in files that do not, by whatever way, use it.
//!
//! A file that both holds the vocabulary of a folder and conducts its parts makes one; the vocabulary belongs in a
//! leaf, which imports nothing of them.

use std::collections::{BTreeMap, BTreeSet};

use super::crate_map::{CrateMap, Uses, product_files};
use crate::{Source, none};

/// Every file that can be reached from a file by what it uses.
fn reached<'a>(uses: &'a Uses, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> =
        uses.get(from).into_iter().flatten().map(|(to, _)| to.as_str()).collect();
    while let Some(next) = open.pop() {
        if let Some((file, of)) = uses.get_key_value(next)
            && reached.insert(file.as_str())
        {
            open.extend(of.keys().map(String::as_str));
        }
    }
    reached
}

/// The largest sets of files that each lead to every other.
fn circles(uses: &Uses) -> Vec<BTreeSet<&str>> {
    let reached: BTreeMap<&str, _> =
        uses.keys().map(|file| (file.as_str(), reached(uses, file))).collect();
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for (file, there) in &reached {
        let leads_back = |other: &&str| reached[other].contains(file);
        let circle: BTreeSet<&str> = there.iter().copied().filter(leads_back).collect();
        if !circle.is_empty() && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// What of a circle's files uses what of it.
fn described(uses: &Uses, circle: &BTreeSet<&str>) -> Vec<String> {
    let mut lines = vec![format!("a circle of {} files", circle.len())];
    for from in circle {
        for (to, names) in uses[*from].iter().filter(|(to, _)| circle.contains(to.as_str())) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {from} uses of {to}: {}", names.join(", ")));
        }
    }
    lines
}

#[test]
fn no_file_is_in_a_circle_of_uses() {
    let sources = product_files();
    let uses = CrateMap::of(&sources).uses();
    let found: Vec<String> =
        circles(&uses).iter().flat_map(|circle| described(&uses, circle)).collect();
    none(&found, "these are in a circle");
}

#[test]
fn a_circle_is_found_whatever_way_the_files_name_each_other() {
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let sources = [
        file("src/lib.rs", "pub mod a; pub mod b; pub mod c; pub mod d; mod e;"),
        file(
            "src/a.rs",
            "pub mod x; pub use self::x::Passed; use crate::b::{self, Own as Other}; pub struct A;",
        ),
        // By the file that passes it on, though that is not in the circle.
        file("src/a/x.rs", "use super::super::c as sea; pub struct Passed(sea::C);"),
        file("src/b.rs", "pub struct Own; fn f() { let _ = crate::d::D::new(); }"),
        file("src/c.rs", "use crate::a; pub struct C(a::Passed);"),
        file(
            "src/d.rs",
            "use super::b; pub struct D(b::Own); macro_rules! m { () => { enum E {} } }",
        ),
        file(
            "src/e.rs",
            "use crate::{d::E, e::F as G}; struct F; #[cfg(test)] mod t { use crate::a::A; }",
        ),
    ];
    let uses = CrateMap::of(&sources).uses();
    let circles: Vec<Vec<&str>> =
        circles(&uses).into_iter().map(|circle| circle.into_iter().collect()).collect();
    assert_eq!(circles, [vec!["src/a/x.rs", "src/c.rs"], vec!["src/b.rs", "src/d.rs"]]);
    assert_eq!(
        described(&uses, &["src/a/x.rs", "src/c.rs"].into()),
        [
            "a circle of 2 files",
            "  src/a/x.rs uses of src/c.rs: C",
            "  src/c.rs uses of src/a/x.rs: Passed"
        ]
    );
    assert_eq!(uses["src/e.rs"].keys().collect::<Vec<_>>(), ["src/d.rs"]);
}
