//! A page for man(7).

use super::markdown::{PageBlock, PageSpan, labelled, spans};

/// The page that is the program's own.
const PROGRAM: &str = "commands";

/// The name and the section of a page's man page.
pub(super) fn entry(page: &str) -> (String, u8) {
    match page {
        PROGRAM => ("fanfare".into(), 1),
        name => (format!("fanfare-{name}"), 7),
    }
}

/// The man page. `names` are those of all pages.
pub(super) fn write(name: &str, title: &str, page: &[PageBlock<'_>], names: &[&str]) -> String {
    let (own, section) = entry(name);
    let version = env!("CARGO_PKG_VERSION");
    // whatis(1) finds the program by what it is.
    let title = if name == PROGRAM { env!("CARGO_PKG_DESCRIPTION") } else { title };
    // Addresses and names of keys are not to be divided, nor lines with one stretched.
    let mut text = format!(
        ".TH {} {section} \"\" \"fanfare {version}\" \"fanfare\"\n\
         .nh\n.ad l\n.SH NAME\n{} \\- {}\n",
        own.to_uppercase(),
        escaped(&own),
        escaped(title)
    );
    if name == PROGRAM {
        text += ".SH SYNOPSIS\n\\fBfanfare\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...]\n";
    }
    // The text above the first section has none in Markdown.
    if !matches!(page.get(1), Some(PageBlock::Heading(..))) {
        text += ".SH DESCRIPTION\n";
    }
    for block in page.iter().skip(1) {
        match block {
            PageBlock::Heading(2, title) => {
                text += &format!(".SH {}\n", heading(title));
            }
            PageBlock::Heading(_, title) => text += &format!(".SS {}\n", inline(title)),
            PageBlock::Paragraph(words) => text += &format!(".PP\n{}\n", inline(words)),
            PageBlock::Item(words) => text += &format!(".IP \\(bu 2\n{}\n", inline(words)),
            PageBlock::Code(lines) => code(&mut text, lines),
            PageBlock::Table(rows) => table(&mut text, rows),
        }
    }
    text += ".SH SEE ALSO\n";
    let others = names.iter().filter(|other| **other != name).map(|name| reference(name));
    text + &others.collect::<Vec<_>>().join(",\n") + "\n"
}

fn code(text: &mut String, lines: &[&str]) {
    *text += ".PP\n.RS 4\n.EX\n";
    for line in lines {
        *text += &guarded(&escaped(line));
        text.push('\n');
    }
    *text += ".EE\n.RE\n";
}

/// Each row below its first cell: a page of man has no room for columns.
fn table(text: &mut String, rows: &[Vec<String>]) {
    for row in labelled(rows) {
        let cells: Vec<String> = row.iter().map(|cell| inline(cell)).collect();
        let first = cells.first().map_or("", String::as_str);
        let others = cells.iter().skip(1).filter(|cell| !cell.is_empty()).cloned();
        let others = others.collect::<Vec<_>>().join("\n.br\n");
        *text += &format!(".TP\n{first}\n{others}\n");
    }
}

/// In capitals, but for code.
fn heading(title: &str) -> String {
    let spans = spans(title).into_iter().map(|span| match span {
        PageSpan::Text(text) | PageSpan::Strong(text) => escaped(&text.to_uppercase()),
        PageSpan::Code(text) | PageSpan::Page(text) => escaped(&text),
    });
    guarded(&spans.collect::<String>())
}

fn reference(name: &str) -> String {
    let (name, section) = entry(name);
    format!("\\fB{}\\fR({section})", escaped(&name))
}

/// A text with its markup, as a line that is no request.
fn inline(text: &str) -> String {
    let spans = spans(text).into_iter().map(|span| match span {
        PageSpan::Text(text) => escaped(&text),
        PageSpan::Strong(text) | PageSpan::Code(text) => format!("\\fB{}\\fR", escaped(&text)),
        PageSpan::Page(name) => reference(&name),
    });
    guarded(&spans.collect::<String>())
}

/// A line that starts with a dot would be a request; so would one with a quote, which is escaped.
fn guarded(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '`' => out += "\\(ga",
            '^' => out += "\\(ha",
            '~' => out += "\\(ti",
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::markdown::blocks;
    use super::*;

    #[test]
    fn a_page_becomes_requests_of_man() {
        let page = "# On x\n\nSee [tls] and `a\\b`.\n\n## Part\n\n- an item\n\n\
                    | | |\n|---|---|\n| `k` | v |\n\n```sh\n.dot -x\n```\n";
        assert_eq!(
            write("x", "On x", &blocks(page), &["commands", "x", "tls"]),
            format!(
                ".TH FANFARE-X 7 \"\" \"fanfare {}\" \"fanfare\"\n\
                 .nh\n.ad l\n.SH NAME\nfanfare\\-x \\- On x\n.SH DESCRIPTION\n.PP\n\
                 See \\fBfanfare\\-tls\\fR(7) and \\fBa\\eb\\fR.\n\
                 .SH PART\n.IP \\(bu 2\nan item\n.TP\n\\fBk\\fR\nv\n\
                 .PP\n.RS 4\n.EX\n\\&.dot \\-x\n.EE\n.RE\n\
                 .SH SEE ALSO\n\\fBfanfare\\fR(1),\n\\fBfanfare\\-tls\\fR(7)\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}
