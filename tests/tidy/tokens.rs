//! The words of a source file without comments, and without what only tests compile.

/// One word, literal or mark; `::` is one mark, a string is its text without quotes.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
    pub(super) is_string: bool,
}

impl Token<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        !self.is_string && self.text == text
    }

    pub(super) fn is_word(&self) -> bool {
        !self.is_string && self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The words of a file that the product has, and the modules that it declares for tests alone.
pub(super) struct Product<'a> {
    pub(super) tokens: Vec<Token<'a>>,
    pub(super) test_modules: Vec<&'a str>,
}

/// Reads a file: its words, without the items under `#[cfg(test)]`.
pub(super) fn product(text: &str) -> Product<'_> {
    const TEST_ONLY: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let all = tokens(text);
    let mut product = Product { tokens: Vec::new(), test_modules: Vec::new() };
    let mut at = 0;
    while at < all.len() {
        let is_test_only = all[at..].len() > TEST_ONLY.len()
            && all[at..].iter().zip(TEST_ONLY).all(|(token, text)| token.is(text));
        if !is_test_only {
            product.tokens.push(all[at]);
            at += 1;
            continue;
        }
        let item = at + TEST_ONLY.len();
        at = item_end(&all, item);
        if all[item].is("mod") && all[item + 2].is(";") {
            product.test_modules.push(all[item + 1].text);
        }
    }
    product
}

/// Where the item that starts at `at` is over: behind its semicolon or its last brace.
fn item_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            _ if token.is_string => {}
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && token.text == "}" {
                    return index + 1;
                }
            }
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, is_token) = length(rest, first);
        let whole = &rest[..length];
        if is_token {
            let opening = whole.find('"').filter(|_| is_string(whole));
            let inner =
                opening.map(|from| whole[from + 1..].trim_end_matches('#').trim_end_matches('"'));
            found.push(Token { text: inner.unwrap_or(whole), line, is_string: inner.is_some() });
        }
        line += whole.matches('\n').count();
        at += length;
    }
    found
}

fn is_string(text: &str) -> bool {
    text.trim_start_matches(['b', 'r', 'c', '#']).starts_with('"')
}

/// How long the next token, comment or space is, and whether it is a token.
fn length(rest: &str, first: char) -> (usize, bool) {
    let line_end = rest.find('\n').unwrap_or(rest.len());
    if first.is_whitespace() {
        return (first.len_utf8(), false);
    }
    if rest.starts_with("//") {
        return (line_end, false);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), false);
    }
    if is_string(rest) {
        return (string_length(rest), true);
    }
    if first == '\'' || rest.starts_with("b'") {
        return (quote_length(rest), true);
    }
    if first.is_alphanumeric() || first == '_' {
        return (
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()),
            true,
        );
    }
    (if rest.starts_with("::") { 2 } else { first.len_utf8() }, true)
}

fn string_length(rest: &str) -> usize {
    let start = rest.find('"').expect("a string has a quote") + 1;
    if rest[..start].contains('r') {
        let close = format!("\"{}", "#".repeat(rest[..start].matches('#').count()));
        return rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len());
    }
    let mut escaped = false;
    let end = rest[start..].find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |end| start + end + 1)
}

/// A character, or a lifetime.
fn quote_length(rest: &str) -> usize {
    let start = rest.find('\'').expect("it starts with a quote") + 1;
    let mut inner = rest[start..].chars();
    let first = inner.next().map_or(0, char::len_utf8);
    if rest[start..].starts_with('\\') {
        return rest[start + 2..].find('\'').map_or(rest.len(), |end| start + 2 + end + 1);
    }
    if inner.next() == Some('\'') {
        return start + first + 1;
    }
    let word = rest[start..].find(|c: char| !(c.is_alphanumeric() || c == '_'));
    start + word.unwrap_or(rest.len() - start)
}

#[test]
fn a_file_is_read_word_by_word_without_comments_and_tests() {
    let text = r##"
        use a::b; // c "d"
        const E: &str = r#"f "g""#; const H: char = '\''; fn i<'j>(k: &'j str) { "\"" }
        #[cfg(test)]
        mod l { fn m() {} }
        #[cfg(test)]
        mod n;
        struct O;
    "##;
    let product = product(text);
    let words: Vec<_> =
        product.tokens.iter().filter(|token| token.is_word()).map(|token| token.text).collect();
    assert_eq!(
        words,
        [
            "use", "a", "b", "const", "E", "str", "const", "H", "char", "fn", "i", "k", "str",
            "struct", "O"
        ]
    );
    let strings: Vec<_> =
        product.tokens.iter().filter(|token| token.is_string).map(|token| token.text).collect();
    assert_eq!(strings, ["f \"g", "\\"]);
    assert_eq!(product.test_modules, ["n"]);
    assert_eq!(product.tokens.last().unwrap().line, 8);
}
