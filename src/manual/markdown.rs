//! As much of Markdown as the pages use: headings, paragraphs, lists, tables, code, links to pages.

/// A part of a page, with the markup inside of its texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageBlock<'a> {
    /// A heading; 1 is the title's level.
    Heading(usize, &'a str),
    Paragraph(String),
    /// An item of a list.
    Item(String),
    Code(Vec<&'a str>),
    /// The rows of a table, the first its heads, which may all be empty.
    Table(Vec<Vec<String>>),
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageSpan {
    Text(String),
    Strong(String),
    Code(String),
    /// The name of another page.
    Page(String),
}

/// Takes a page apart. Comments and definitions of links are left out.
pub(super) fn blocks(page: &str) -> Vec<PageBlock<'_>> {
    let mut blocks = Vec::new();
    // Whether the next line may go on with the last paragraph or item.
    let mut is_open = false;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let was_open = std::mem::replace(&mut is_open, false);
        if line.starts_with("```") {
            blocks
                .push(PageBlock::Code(lines.by_ref().take_while(|line| *line != "```").collect()));
        } else if line.starts_with('#') {
            let level = line.len() - line.trim_start_matches('#').len();
            blocks.push(PageBlock::Heading(level, line[level..].trim()));
        } else if line.starts_with('|') {
            row(&mut blocks, line);
        } else if line.trim().is_empty() || line.starts_with("<!--") || is_definition(line) {
            // Nothing to show.
        } else if let Some(item) = line.strip_prefix("- ") {
            blocks.push(PageBlock::Item(item.into()));
            is_open = true;
        } else {
            match blocks.last_mut() {
                Some(PageBlock::Paragraph(text) | PageBlock::Item(text)) if was_open => {
                    *text += " ";
                    *text += line.trim();
                }
                _ => blocks.push(PageBlock::Paragraph(line.trim().into())),
            }
            is_open = true;
        }
    }
    blocks
}

fn is_definition(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

/// Adds a row to the table that comes last, or begins one.
fn row<'a>(blocks: &mut Vec<PageBlock<'a>>, line: &'a str) {
    let cells = cells(line);
    let is_rule =
        cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| "-: ".contains(c)));
    match blocks.last_mut() {
        Some(PageBlock::Table(_)) if is_rule => {}
        Some(PageBlock::Table(rows)) => rows.push(cells),
        _ => blocks.push(PageBlock::Table(vec![cells])),
    }
}

/// The cells of a row. A bar behind a backslash belongs to its cell.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut characters = line.trim().trim_start_matches('|').chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'|') => {
                cells.last_mut().expect("there is one cell").extend(characters.next());
            }
            '|' => cells.push(String::new()),
            other => cells.last_mut().expect("there is one cell").push(other),
        }
    }
    // What stands behind the last bar is no cell.
    cells.pop();
    cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The rows of a table below its heads, for where it has no columns: a cell of the third column on
/// is not understood without its head, nor is one of the second beside it.
pub(super) fn labelled(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let Some((heads, rows)) = rows.split_first() else { return vec![] };
    let label = |(column, cell): (usize, &String)| match heads.get(column) {
        Some(head) if column > 0 && heads.len() > 2 && !head.is_empty() && !cell.is_empty() => {
            format!("{head}: {cell}")
        }
        _ => cell.clone(),
    };
    rows.iter().map(|row| row.iter().enumerate().map(label).collect()).collect()
}

/// Takes the markup of a text apart.
pub(super) fn spans(text: &str) -> Vec<PageSpan> {
    let mut spans = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some((span, length)) = span(rest) {
            if !plain.is_empty() {
                spans.push(PageSpan::Text(std::mem::take(&mut plain)));
            }
            spans.push(span);
            rest = &rest[length..];
            continue;
        }
        let (shown, length) = match (character, rest[character.len_utf8()..].chars().next()) {
            ('\\', Some(escaped)) if escaped.is_ascii_punctuation() => (escaped, 2),
            _ => (character, character.len_utf8()),
        };
        plain.push(shown);
        rest = &rest[length..];
    }
    if !plain.is_empty() {
        spans.push(PageSpan::Text(plain));
    }
    spans
}

/// The marked part that a text starts with, and its length.
fn span(text: &str) -> Option<(PageSpan, usize)> {
    // Two backticks quote what has one in it.
    for mark in ["``", "`"] {
        if let Some((code, _)) = text.strip_prefix(mark).and_then(|rest| rest.split_once(mark)) {
            return Some((PageSpan::Code(code.into()), code.len() + 2 * mark.len()));
        }
    }
    if let Some((strong, _)) = text.strip_prefix("**").and_then(|rest| rest.split_once("**")) {
        return Some((PageSpan::Strong(strong.into()), strong.len() + 4));
    }
    if let Some((url, _)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>'))
        && url.contains("://")
    {
        return Some((PageSpan::Text(url.into()), url.len() + 2));
    }
    let (label, behind) = text.strip_prefix('[')?.split_once(']')?;
    match behind.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        // An address that can be typed elsewhere is shown; a file of the source is not here.
        Some((target, _)) => {
            let shown = match target.contains("://") {
                true => format!("{label} ({target})"),
                false => label.to_owned(),
            };
            Some((PageSpan::Text(shown), label.len() + target.len() + 4))
        }
        None => Some((PageSpan::Page(label.into()), label.len() + 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_apart_into_blocks() {
        let page = "# T\n\nOne\nparagraph.\n\n- an item\n  of two lines\n- another\n\n\
                    <!-- no -->\n| a | b |\n|---|---|\n| `x \\| y` | |\n\n```sh\n$ a\n\n```\n[x]: x.md\n";
        let text = |text: &str| text.to_owned();
        assert_eq!(
            blocks(page),
            [
                PageBlock::Heading(1, "T"),
                PageBlock::Paragraph(text("One paragraph.")),
                PageBlock::Item(text("an item of two lines")),
                PageBlock::Item(text("another")),
                PageBlock::Table(vec![vec![text("a"), text("b")], vec![text("`x | y`"), text("")]]),
                PageBlock::Code(vec!["$ a", ""]),
            ]
        );
    }

    #[test]
    fn a_text_comes_apart_into_spans() {
        let text = |text: &str| PageSpan::Text(text.into());
        assert_eq!(
            spans(r"Run **now** `a[0]`, see [tls] or [there](http://x/) or [file](a.md) \[b\]."),
            [
                text("Run "),
                PageSpan::Strong("now".into()),
                text(" "),
                PageSpan::Code("a[0]".into()),
                text(", see "),
                PageSpan::Page("tls".into()),
                text(" or "),
                text("there (http://x/)"),
                text(" or "),
                text("file"),
                text(" [b]."),
            ]
        );
    }
}
