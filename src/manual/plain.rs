//! A page for a terminal: lines of one width, tables laid out.

use super::markdown::{PageBlock, PageSpan, labelled, spans};

/// Characters of a line: what every terminal has.
const WIDTH: usize = 80;
/// In front of code and of a cell below the first of its row.
const INDENT: usize = 4;
/// Between columns.
const GAP: usize = 2;

/// The text of a page.
pub(super) fn write(page: &[PageBlock<'_>]) -> String {
    let mut text = String::new();
    let mut was_item = false;
    for block in page {
        let is_item = matches!(block, PageBlock::Item(_));
        let is_apart = !(is_item && was_item);
        if is_apart && !text.is_empty() {
            text.push('\n');
        }
        was_item = is_item;
        match block {
            PageBlock::Heading(_, title) => text += &format!("{}\n", raised(title)),
            PageBlock::Paragraph(words) => wrap(&mut text, "", "", &shown(words)),
            PageBlock::Item(words) => wrap(&mut text, "- ", "  ", &shown(words)),
            PageBlock::Code(lines) => {
                for line in lines {
                    let line = format!("{:INDENT$}{line}", "");
                    text += &format!("{}\n", line.trim_end());
                }
            }
            PageBlock::Table(rows) => table(&mut text, rows),
        }
    }
    text
}

/// A text without its markup. Code keeps its marks, which tell where a command begins and ends.
fn shown(text: &str) -> String {
    let spans = spans(text).into_iter().map(|span| match span {
        PageSpan::Text(text) | PageSpan::Strong(text) => text,
        PageSpan::Code(code) => format!("`{code}`"),
        PageSpan::Page(name) => format!("`fanfare help {name}`"),
    });
    spans.collect()
}

/// A heading, in capitals as man(1) has it; code stays as it is.
fn raised(title: &str) -> String {
    let spans = spans(title).into_iter().map(|span| match span {
        PageSpan::Text(text) | PageSpan::Strong(text) => text.to_uppercase(),
        PageSpan::Code(text) | PageSpan::Page(text) => text,
    });
    spans.collect()
}

/// Adds a paragraph, the first line behind `first`, the others behind `other`.
fn wrap(text: &mut String, first: &str, other: &str, words: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in words.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            *text += &format!("{line}\n");
            line = other.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    *text += &format!("{line}\n");
}

/// Adds a table: in columns if it fits so, else each row as a small list.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = cells.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    if widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1) <= WIDTH {
        for row in cells.iter().filter(|row| row.iter().any(|cell| !cell.is_empty())) {
            let cells = row.iter().zip(&widths);
            let line: String =
                cells.map(|(cell, width)| format!("{cell:width$}{:GAP$}", "")).collect();
            *text += &format!("{}\n", line.trim_end());
        }
        return;
    }
    let indent = " ".repeat(INDENT);
    for row in labelled(rows) {
        for (column, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            let margin = if column == 0 { "" } else { &indent };
            wrap(text, margin, margin, &shown(cell));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::markdown::blocks;
    use super::*;

    #[test]
    fn a_page_fits_a_terminal() {
        let long = "word ".repeat(30);
        let page = format!("# On x\n\n{long}\n\n- {long}\n- b\n\n```sh\na\n\nb\n```\n");
        let text = write(&blocks(&page));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.starts_with("ON X\n\nword word"), "{text}");
        assert!(text.ends_with("- b\n\n    a\n\n    b\n"), "{text}");
    }

    #[test]
    fn a_table_is_laid_out_in_columns_or_as_lists() {
        let narrow = write(&blocks("| | |\n|---|---|\n| `a` | [tls] |\n| bcd | e |\n"));
        assert_eq!(narrow, "`a`  `fanfare help tls`\nbcd  e\n");
        let cell = "word ".repeat(20);
        let wide = write(&blocks(&format!("| | |\n|---|---|\n| a | {cell} |\n")));
        assert!(wide.starts_with("a\n    word word"), "{wide}");
        let wide = write(&blocks(&format!("| x | y | |\n|---|---|---|\n| a | b | {cell} |\n")));
        assert!(wide.starts_with("a\n    y: b\n    word word"), "{wide}");
    }
}
