//! Which file defines what, and which file uses what another one defines.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, product};
use crate::{Source, rust};

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A module, by its file.
    Module(usize),
    /// Something that this file defines.
    Item(usize),
}

/// One name that a `use` brings in.
struct Import {
    path: Vec<String>,
    /// What it is called here; `*` for everything.
    name: String,
    is_public: bool,
}

/// One source file as a module.
struct Module {
    path: String,
    /// Its place below the crate: `["io", "tls"]`.
    place: Vec<String>,
    defined: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths of two parts and more, as written, and single words.
    paths: BTreeSet<Vec<String>>,
}

/// The product's files, and what each of them uses.
pub(super) struct CrateMap {
    modules: Vec<Module>,
    places: BTreeMap<Vec<String>, usize>,
}

/// The names that each file uses of each other: file → file → names.
pub(super) type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The product's files: those below `src/` that not only tests compile.
pub(super) fn product_files() -> Vec<Source> {
    let sources = rust("src");
    let mut test_only = Vec::new();
    for source in &sources {
        let folder = folder(&source.path);
        for module in product(&source.text).test_modules {
            test_only.push(format!("{folder}/{module}.rs"));
            test_only.push(format!("{folder}/{module}/"));
        }
    }
    let is_product = |path: &str| !test_only.iter().any(|only| path.starts_with(only.as_str()));
    sources.into_iter().filter(|source| is_product(&source.path)).collect()
}

/// Where a file's own modules are.
fn folder(path: &str) -> &str {
    match path {
        "src/lib.rs" | "src/main.rs" => "src",
        _ => path.strip_suffix(".rs").unwrap_or(path),
    }
}

impl CrateMap {
    /// Reads files that make a crate.
    pub(super) fn of(sources: &[Source]) -> Self {
        let modules: Vec<Module> = sources.iter().map(Module::read).collect();
        let crate_files =
            modules.iter().enumerate().filter(|(_, module)| module.path != "src/main.rs");
        let places = crate_files.map(|(at, module)| (module.place.clone(), at)).collect();
        Self { modules, places }
    }

    /// Who uses what that another file defines. A name that is only passed on by `pub use` is not used.
    pub(super) fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (from, module) in self.modules.iter().enumerate() {
            let imported = module.imports.iter().filter(|import| {
                !import.is_public || module.paths.iter().any(|path| path[0] == import.name)
            });
            let paths = imported.map(|import| &import.path).chain(&module.paths);
            for path in paths {
                let Some(Target::Item(to)) = self.resolve(from, path, 0) else { continue };
                if to != from {
                    let of = uses.entry(module.path.clone()).or_default();
                    let names = of.entry(self.modules[to].path.clone()).or_default();
                    let is_item = |end: &usize| {
                        self.resolve(from, &path[..*end], 0) == Some(Target::Item(to))
                    };
                    let end = (1..path.len()).find(is_item).unwrap_or(path.len());
                    names.insert(path[end - 1].clone());
                }
            }
        }
        uses
    }

    fn at(&self, place: &[String]) -> Option<usize> {
        self.places.get(place).copied()
    }

    /// Follows a path from a module. What stands behind an item belongs to it: variants, associated functions.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        // Imports that lead back to themselves come from other crates: `use serde::serde`.
        if depth > 16 {
            return None;
        }
        let mut target = None;
        for (index, part) in path.iter().enumerate() {
            let is_last = index + 1 == path.len();
            target = match (target, part.as_str()) {
                (None, "crate") => self.at(&[]).map(Target::Module),
                (None, "self") => Some(Target::Module(from)),
                (None, "super") => self.parent(from),
                (None, name) => self.look_up(from, name, is_last, depth),
                (Some(Target::Module(at)), "self") => Some(Target::Module(at)),
                (Some(Target::Module(at)), "super") => self.parent(at),
                (Some(Target::Module(at)), name) => self.look_up(at, name, is_last, depth),
                (item, _) => return item,
            };
            target?;
        }
        target
    }

    fn parent(&self, of: usize) -> Option<Target> {
        let place = &self.modules[of].place;
        self.at(&place[..place.len().checked_sub(1)?]).map(Target::Module)
    }

    /// What a name means inside of a module. An item wins at the end of a path, a module before that.
    fn look_up(&self, at: usize, name: &str, is_last: bool, depth: usize) -> Option<Target> {
        let module = &self.modules[at];
        let item = module.defined.contains(name).then_some(Target::Item(at));
        let mut below = module.place.clone();
        below.push(name.to_owned());
        let child = self.at(&below).map(Target::Module);
        let own = if is_last { item.or(child) } else { child.or(item) };
        own.or_else(|| {
            let mut imports = module.imports.iter().filter(|import| import.name == name);
            imports.find_map(|import| self.resolve(at, &import.path, depth + 1))
        })
        .or_else(|| {
            let mut globs = module.imports.iter().filter(|import| import.name == "*");
            globs.find_map(|import| match self.resolve(at, &import.path, depth + 1)? {
                Target::Module(other) if other != at => {
                    self.look_up(other, name, is_last, depth + 1)
                }
                _ => None,
            })
        })
    }
}

impl Module {
    fn read(source: &Source) -> Self {
        let inside = folder(&source.path).strip_prefix("src").unwrap_or("");
        let mut module = Self {
            path: source.path.clone(),
            place: inside.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            defined: BTreeSet::new(),
            imports: Vec::new(),
            paths: BTreeSet::new(),
        };
        let tokens = product(&source.text).tokens;
        module.defined = items(&tokens).into_iter().map(|item| item.name.to_owned()).collect();
        let mut at = 0;
        while at < tokens.len() {
            // `use<'a>` stands in types.
            if tokens[at].is("use") && !tokens[at + 1].is("<") {
                let end =
                    at + tokens[at..].iter().position(|token| token.is(";")).expect("a use ends");
                // `pub(super)` ends in a parenthesis; nothing else does before a use.
                let is_public = at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1].is(")"));
                module.import(&tokens[at + 1..end], &[], is_public);
                at = end;
            } else if tokens[at].is_word() {
                let path = path(&tokens[at..]);
                at += 2 * path.len() - 1;
                module.paths.insert(path);
            } else {
                at += 1;
            }
        }
        module
    }

    /// Takes a tree of `use` apart.
    fn import(&mut self, tree: &[Token<'_>], before: &[String], is_public: bool) {
        let mut path = before.to_vec();
        let mut at = 0;
        while at < tree.len() && !tree[at].is("as") && !tree[at].is("{") {
            if !tree[at].is("::") {
                path.push(tree[at].text.to_owned());
            }
            at += 1;
        }
        if at < tree.len() && tree[at].is("{") {
            for branch in branches(&tree[at + 1..tree.len() - 1]) {
                self.import(branch, &path, is_public);
            }
            return;
        }
        let alias = tree.get(at + 1).map(|token| token.text.to_owned());
        let last = path.last().cloned().unwrap_or_default();
        if last == "*" || last == "self" && path.len() > 1 {
            path.pop();
        }
        let own = if last == "*" { last } else { path.last().cloned().unwrap_or_default() };
        let name = alias.unwrap_or(own);
        self.imports.push(Import { path, name, is_public });
    }
}

/// The parts of a brace list.
fn branches<'a, 'b>(list: &'a [Token<'b>]) -> Vec<&'a [Token<'b>]> {
    let mut depth = 0;
    let parts = list.split(|token| {
        depth += usize::from(token.is("{"));
        depth -= usize::from(token.is("}"));
        depth == 0 && token.is(",")
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// The path that starts here: words with `::` between them.
fn path(tokens: &[Token<'_>]) -> Vec<String> {
    let mut path = vec![tokens[0].text.to_owned()];
    for pair in tokens[1..].chunks(2) {
        match pair {
            [colons, word] if colons.is("::") && word.is_word() => path.push(word.text.to_owned()),
            _ => break,
        }
    }
    path
}

/// Something that a file defines.
pub(super) struct Item<'a> {
    pub(super) name: &'a str,
    pub(super) line: usize,
    pub(super) is_type: bool,
}

/// The items of a file that can be named from elsewhere, and types wherever they are, also those that a macro makes.
pub(super) fn items<'a>(tokens: &[Token<'a>]) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    // Whether each open brace is an implementation's or a trait's, whose types are somebody else's.
    let mut open = Vec::new();
    let mut is_implementation = false;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            _ if token.is_string => continue,
            "{" => open.push(std::mem::take(&mut is_implementation)),
            "}" => drop(open.pop()),
            ";" => is_implementation = false,
            // `impl` also stands in types: `-> impl Fn`, `(x: impl Fn)`.
            "impl"
                if at == 0 || ["{", "}", ";", "]"].iter().any(|mark| tokens[at - 1].is(mark)) =>
            {
                is_implementation = true;
            }
            _ => {}
        }
        if token.is("macro_rules") {
            items.push(Item { name: tokens[at + 2].text, line: token.line, is_type: false });
        }
        let is_keyword = at == 0 || !tokens[at - 1].is("$");
        let Some(name) = tokens.get(at + 1).filter(|name| is_keyword && name.is_word()) else {
            continue;
        };
        let is_type = match token.text {
            "struct" | "enum" | "trait" => true,
            "union" => tokens.get(at + 2).is_some_and(|next| next.is("{") || next.is("<")),
            "type" => open.last() != Some(&true),
            _ => false,
        };
        is_implementation |= token.is("trait");
        let is_other = open.is_empty() && matches!(token.text, "fn" | "const" | "static");
        if is_type || is_other {
            items.push(Item { name: name.text, line: name.line, is_type });
        }
    }
    items
}
