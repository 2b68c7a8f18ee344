//! The rules of the house, held against the source: what may import what, what may touch the world, how long
//! a file or function may be, and what may not be left lying about.
//!
//! The order is the tour's in `src/lib.rs`: a module may use only those that stand above it. The reading here
//! is by lines and words, not a parser's; it errs on the strict side.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

mod tidy {
    mod circles;
    mod crate_map;
    mod dialects;
    mod names;
    mod tokens;
    mod words;
}

const FILE_LINES_MAX: usize = 650;
const FUNCTION_LINES_MAX: usize = 70;

/// The first module of the tour that may name sockets, files, threads and clocks.
const WORLD: &str = "io";

/// What only the world may name.
const WORLDLY: [&str; 16] = [
    "monoio",
    "rustix",
    "io_uring::",
    "signal_hook",
    "std::net",
    "std::fs",
    "std::thread",
    "std::os",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
];

/// Built from parts, so that this file does not break its own rules.
fn word(parts: &[&str]) -> String {
    parts.concat()
}

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The top-level module that the file belongs to; `None` for `lib.rs`, `main.rs` and what is not in `src`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?;
        let module = module.strip_suffix(".rs").unwrap_or(module);
        (!matches!(module, "lib" | "main")).then_some(module)
    }

    /// Lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let uncommented = |line| match str::find(line, "//") {
            // `//` also stands in URLs, which are inside of strings.
            Some(at) if line[..at].matches('"').count() % 2 == 0 => &line[..at],
            _ => line,
        };
        self.text.lines().enumerate().map(move |(index, line)| (index + 1, uncommented(line)))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `directory`, sorted; what tools have made and what is hidden left out.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy();
        let made = ["target", "node_modules", "__pycache__"].contains(&&*name);
        let hidden = name.starts_with('.') && name != ".ci";
        if path.is_symlink() || made || hidden {
            continue;
        }
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn rust(directory: &str) -> Vec<Source> {
    let all = files(&root().join(directory)).into_iter();
    all.filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| Source {
            path: path.strip_prefix(root()).unwrap().display().to_string(),
            text: fs::read_to_string(&path).unwrap(),
        })
        .collect()
}

fn everything() -> Vec<Source> {
    ["src", "tests", "benches"].into_iter().flat_map(rust).collect()
}

/// The modules in the order of the tour: its lines read ``//! - [`name`]``.
fn tour() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let named = text.lines().filter_map(|line| line.strip_prefix("//! - [`")?.split_once("`]"));
    named.map(|(name, _)| name.to_owned()).collect()
}

/// The rows of the table "Where things are decided": its files, and their functions where it names any.
fn decisions() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix('|'));
    let cells = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    let code = |cell: &str| cell.split('`').nth(1).unwrap_or_default().to_owned();
    cells.filter(|cells| cells.len() == 3).map(|cells| (code(&cells[1]), code(&cells[2]))).collect()
}

fn place(tour: &[String], module: &str) -> usize {
    tour.iter()
        .position(|name| name == module)
        .unwrap_or_else(|| panic!("{module} is not in the tour"))
}

/// Fails with all that was found, so that one run tells everything.
fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// What a file names after `crate::`, with the line. Brace lists are taken apart: `crate::{a, b::c}` names
/// `a` and `b::c`.
fn named(source: &Source) -> Vec<(usize, String)> {
    let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
    let mut names = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        // `$crate::` and the like are no paths of ours.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].lines().count();
        let rest = &code[at + word.len()..];
        let path = |text: &str| {
            text.trim()
                .split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)))
                .next()
                .map(str::to_owned)
        };
        let list = rest.strip_prefix('{').and_then(|list| list.split("};").next());
        match list {
            Some(list) => names.extend(
                list.split(',')
                    .filter_map(path)
                    .filter(|name| !name.is_empty())
                    .map(|name| (line, name)),
            ),
            None => names.extend(path(rest).map(|name| (line, name))),
        }
    }
    names
}

#[test]
fn decisions_are_where_the_tour_says() {
    let decisions: Vec<_> = decisions().into_iter().filter(|(file, _)| !file.is_empty()).collect();
    assert!(decisions.len() > 10, "only {} decisions were found", decisions.len());
    let is_there = |(file, function): &(String, String)| {
        let text = fs::read_to_string(root().join("src").join(file)).unwrap_or_default();
        let functions = [format!("fn {function}("), format!("fn {function}<")];
        !text.is_empty() && (function.is_empty() || functions.iter().any(|it| text.contains(it)))
    };
    let gone = decisions.iter().filter(|decision| !is_there(decision));
    let gone: Vec<String> = gone.map(|(file, function)| format!("{file}: {function}")).collect();
    none(&gone, "the tour says where this is decided, and it is not there");
}

#[test]
fn the_tour_names_every_module_once_and_nothing_else() {
    let tour = tour();
    let mut sorted = tour.clone();
    sorted.sort();
    let mut modules: Vec<String> =
        rust("src").iter().filter_map(Source::module).map(str::to_owned).collect();
    modules.sort();
    modules.dedup();
    assert_eq!(sorted, modules);
}

#[test]
fn a_module_uses_only_what_stands_above_it_in_the_tour() {
    let tour = tour();
    let mut found = Vec::new();
    for source in rust("src") {
        let Some(own) = source.module() else { continue };
        for (line, name) in named(&source) {
            let other = name.split("::").next().unwrap();
            // config composes every module's settings; the choice of a driver and the store's are io's.
            let settings = ["io::runtime::Driver", "io::store"].contains(&&*name);
            let worldly = own == "config" && other == WORLD && !settings;
            if other != own && (place(&tour, other) > place(&tour, own) || worldly) {
                found.push(format!("{}:{line}: {own} uses {name}", source.path));
            }
        }
    }
    none(&found, "these look down the tour");
}

#[test]
fn below_io_nobody_reaches_into_another_modules_parts() {
    let tour = tour();
    let mut found = Vec::new();
    for source in rust("src") {
        let Some(own) = source.module() else { continue };
        if place(&tour, own) >= place(&tour, WORLD) {
            continue;
        }
        for (line, name) in named(&source) {
            // Each service is a module of its own.
            let name = name
                .strip_prefix("service::")
                .map_or(name.clone(), |name| format!("service/{name}"));
            let (other, rest) = name.split_once("::").unwrap_or((&name, ""));
            let part = rest.split("::").next().unwrap();
            let is_own = other == own || own == "service" && other.starts_with("service/");
            if !is_own && root().join(format!("src/{other}/{part}.rs")).exists() {
                found.push(format!("{}:{line}: {own} uses {name}", source.path));
            }
        }
    }
    none(&found, "these use what another module has inside");
}

#[test]
fn only_io_and_the_commands_touch_the_world() {
    let tour = tour();
    let mut found = Vec::new();
    for source in rust("src") {
        let Some(own) = source.module() else { continue };
        // config stands above io and still has no business with the world; an address is a value.
        if own != "config" && place(&tour, own) >= place(&tour, WORLD) {
            continue;
        }
        for (line, code) in source.code() {
            let code = code.replace("std::net::SocketAddr", "");
            let named = |word: &str| {
                code.match_indices(word).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                })
            };
            let world = WORLDLY.into_iter().filter(|word| named(word));
            found.extend(world.map(|word| format!("{}:{line}: {word}", source.path)));
        }
    }
    none(&found, "these name what only io and the commands may");
}

/// The macros of the standard library panic when the output is closed or full, and a panic aborts the program.
#[test]
fn only_one_file_of_the_program_prints() {
    const PRINTING: [&str; 4] = ["println!", "eprintln!", "print!", "eprint!"];
    let mut found = Vec::new();
    for source in rust("src").into_iter().filter(|source| source.path != "src/cli/output.rs") {
        let product = source.code().take_while(|(_, line)| !line.contains("cfg(test)"));
        for (line, code) in product {
            let words = PRINTING.iter().filter(|word| code.contains(*word));
            found.extend(words.map(|word| format!("{}:{line}: {word}", source.path)));
        }
    }
    none(&found, "these print on their own instead of by cli::output");
}

#[test]
fn every_file_says_first_what_it_is() {
    let found: Vec<String> = everything()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! ") && !source.text.starts_with("//!\n"))
        .map(|source| source.path)
        .collect();
    none(&found, "these do not open with //!");
}

#[test]
fn files_and_functions_are_short() {
    let mut found = Vec::new();
    for source in everything() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{} has {lines} lines", source.path));
        }
        found.extend(
            functions(&source).into_iter().filter(|function| function.2 > FUNCTION_LINES_MAX).map(
                |(name, line, lines)| format!("{}:{line}: {name} has {lines} lines", source.path),
            ),
        );
    }
    none(
        &found,
        &format!("at most {FILE_LINES_MAX} lines a file, {FUNCTION_LINES_MAX} a function"),
    );
}

/// The functions of a file: name, first line, lines. A function ends at the first line that closes a brace
/// at its own indentation, which is where rustfmt puts it.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(rest) = unqualified(line).strip_prefix("fn ") else { continue };
        let indent = line.len() - line.trim_start().len();
        let ends =
            |at: &usize| lines[*at].len() > indent && !lines[*at][indent..].starts_with([' ', ')']);
        let end = if line.ends_with(['}', ';']) {
            Some(start)
        } else {
            (start + 1..lines.len()).find(ends)
        };
        let name = rest.split(['(', '<']).next().unwrap();
        functions.push((name.to_owned(), start + 1, end.unwrap_or(lines.len()) - start + 1));
    }
    functions
}

/// A line without indentation, visibility and qualifiers.
fn unqualified(line: &str) -> &str {
    let mut code = line.trim_start();
    for qualifier in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
        code = code.strip_prefix(qualifier).unwrap_or(code);
    }
    code
}

#[test]
fn nothing_unfinished_or_unsafe_is_left_lying_about() {
    let forbidden = [
        word(&["un", "safe "]),
        word(&["TO", "DO"]),
        word(&["FIX", "ME"]),
        word(&["XX", "X"]),
        word(&["to", "do!"]),
        word(&["unimple", "mented!"]),
        word(&["db", "g!("]),
        word(&["#[ig", "nore"]),
    ];
    let mut found = Vec::new();
    for source in everything() {
        for (index, line) in source.text.lines().enumerate() {
            // Prose may speak of it.
            let prose = line.trim_start().starts_with("//");
            let hits = forbidden.iter().filter(|word| line.contains(word.as_str()));
            let may = prose || source.path == "src/io/ring.rs";
            let hits = hits.filter(|word| !(may && word.starts_with("uns")));
            found.extend(hits.map(|word| format!("{}:{}: {word}", source.path, index + 1)));
        }
    }
    none(&found, "these are not to stay");
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    let forbidden = [
        word(&["/wo", "rk/"]),
        word(&["/ho", "me/"]),
        word(&["/Us", "ers/"]),
        word(&["/ro", "ot/"]),
    ];
    let mut found = Vec::new();
    for path in files(root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            // Cargo.lock and URLs have paths of their own; a machine's starts after a space or a quote.
            let hits = forbidden.iter().filter(|word| {
                line.match_indices(word.as_str()).any(|(at, _)| {
                    // Ann is the reader of README.md and the manual.
                    !line[at + word.len()..].starts_with("ann/")
                        && !line[..at].ends_with(|c: char| {
                            c.is_alphanumeric() || matches!(c, '.' | '~' | '}' | '_' | '-')
                        })
                })
            });
            let shown = path.strip_prefix(root()).unwrap().display();
            found.extend(hits.map(|word| format!("{shown}:{}: {word}", index + 1)));
        }
    }
    none(&found, "these name a place on one machine");
}

#[test]
fn every_limit_says_why_it_is_what_it_is() {
    let mut found = Vec::new();
    for source in rust("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = unqualified(line);
            let limit =
                line.trim_start().strip_prefix("pub").is_some() || line.starts_with("const ");
            let name = code.split(':').next().unwrap();
            if limit && name.ends_with("_MAX") && line.contains("const ") && line.contains('=') {
                let above =
                    lines[..index].iter().rev().find(|line| !line.trim_start().starts_with("#["));
                if !above.is_some_and(|line| line.trim_start().starts_with("///")) {
                    found.push(format!("{}:{}: {name}", source.path, index + 1));
                }
            }
        }
    }
    none(&found, "these limits have no reason beside them");
}

/// A line of the journal or of a text log is its message: fields are seen only by those who ask for them.
#[test]
fn a_line_of_the_log_says_in_its_message_what_its_fields_say() {
    let mut found = Vec::new();
    for source in rust("src") {
        for (at, call) in source.text.match_indices("tracing::") {
            let arguments = source.text[at + call.len()..].split_once("!(");
            let Some((level, arguments)) = arguments.filter(|(level, _)| level.len() <= 5) else {
                continue;
            };
            // The message is the first string, or what stands before it is told in it.
            let Some((fields, message)) = arguments.split_once('"') else { continue };
            let message = message.split("\");").next().unwrap();
            let line = source.text[..at].lines().count();
            let names = fields.split(',').map(str::trim).filter(|name| !name.is_empty());
            let untold = names.filter(|name| !message.contains(&format!("{{{name}")));
            found.extend(untold.map(|name| format!("{}:{line}: {level} has {name}", source.path)));
        }
    }
    none(&found, "fields that the message does not say");
}
