//! The manual: one page for each protocol and each task.
//!
//! A page is a Markdown file in `src/manual/`. `fanfare help` prints it, `fanfare help --man` makes
//! a man page of it, a forge renders the file, and this documentation has it as a module. Its
//! console blocks are run, and its figures checked, by `tests/readme.rs` and `tests/sample.rs`.
//!
//! The first line of a page is its title, and says what the page is about. A page refers to another
//! by its name in brackets, and defines at its end where that name leads on a forge; here the name
//! leads to the module.

mod markdown;
mod plain;
mod roff;

/// A page of the manual.
#[derive(Clone, Copy, Debug)]
pub struct ManualPage {
    /// What `fanfare help` calls it.
    pub name: &'static str,
    /// Its Markdown.
    pub source: &'static str,
}

macro_rules! pages {
    ($($module:ident: $name:literal;)+) => {
        pages!(
            @each concat!($("[", $name, "]: self::", stringify!($module), "\n"),+);
            $($module: $name;)+
        );
    };
    (@each $links:expr; $($module:ident: $name:literal;)+) => {
        /// Every page, in the order in which to read them.
        pub const PAGES: &[ManualPage] = &[
            $(ManualPage {
                name: $name,
                source: include_str!(concat!("manual/", $name, ".md")),
            },)+
        ];

        $(
            // The first definition of a name counts, so that names lead to modules here.
            #[doc = $links]
            #[doc = include_str!(concat!("manual/", $name, ".md"))]
            pub mod $module {}
        )+
    };
}

pages! {
    commands: "commands";
    feeds: "feeds";
    personium_event: "personium-event";
    personium_topic: "personium-topic";
    wazo: "wazo";
    channel: "channel";
    echo: "echo";
    pulsar: "pulsar";
    pages: "pages";
    store: "store";
    clustering: "clustering";
    tokens: "tokens";
    configuration: "configuration";
    tls: "tls";
    proxies: "proxies";
    service: "service";
    recipes: "recipes";
    admin: "admin";
    limits: "limits";
    figures: "figures";
    development: "development";
}

impl ManualPage {
    /// The page of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PAGES.iter().find(|page| page.name == name)
    }

    /// What the page is about, in a line.
    ///
    /// ```
    /// # use fanfare::manual::ManualPage;
    /// let page = ManualPage::named("tls").unwrap();
    /// assert!(page.source.starts_with(&format!("# {}\n", page.title())));
    /// ```
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.source.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// The page for a terminal or a pipe.
    #[must_use]
    pub fn plain(&self) -> String {
        plain::write(&markdown::blocks(self.source))
    }

    /// The name of its man page's file: the commands are the program's own page, in section 1.
    #[must_use]
    pub fn man_file(&self) -> String {
        let (name, section) = roff::entry(self.name);
        format!("{name}.{section}")
    }

    /// Its man page.
    #[must_use]
    pub fn man(&self) -> String {
        let names: Vec<&str> = PAGES.iter().map(|page| page.name).collect();
        roff::write(self.name, self.title(), &markdown::blocks(self.source), &names)
    }
}

#[cfg(test)]
mod tests {
    use super::markdown::{PageBlock, PageSpan};
    use super::*;
    use crate::dialect::Kind;
    use std::collections::BTreeSet;

    /// What a page says of other pages: names in brackets, and where they lead.
    fn definitions(page: &ManualPage) -> Vec<(&str, &str)> {
        let lines =
            page.source.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
        lines.collect()
    }

    /// The pages that a page refers to.
    fn references(page: &ManualPage) -> BTreeSet<String> {
        let texts = markdown::blocks(page.source).into_iter().flat_map(|block| match block {
            PageBlock::Heading(_, text) => vec![text.to_owned()],
            PageBlock::Paragraph(text) | PageBlock::Item(text) => vec![text],
            PageBlock::Table(rows) => rows.concat(),
            PageBlock::Code(_) => vec![],
        });
        let spans = texts.flat_map(|text| markdown::spans(&text));
        let names = spans.filter_map(|span| match span {
            PageSpan::Page(name) => Some(name),
            _ => None,
        });
        names.collect()
    }

    #[test]
    fn every_dialect_has_a_page() {
        for kind in Kind::ALL {
            let is_for_tests = kind.name() == "mirror";
            assert!(is_for_tests || ManualPage::named(kind.name()).is_some(), "{}", kind.name());
        }
    }

    #[test]
    fn a_page_defines_the_pages_that_it_refers_to() {
        for page in PAGES {
            let defined = definitions(page);
            for (name, target) in &defined {
                assert!(ManualPage::named(name).is_some(), "{}: there is no {name}", page.name);
                assert_eq!(*target, format!("{name}.md"), "{}", page.name);
            }
            let defined: BTreeSet<String> =
                defined.into_iter().map(|(name, _)| name.to_owned()).collect();
            assert_eq!(references(page), defined, "{}", page.name);
        }
    }

    #[test]
    fn every_page_fits_a_terminal_but_for_code() {
        for page in PAGES {
            let blocks = markdown::blocks(page.source).into_iter();
            // What programs print is shown as it is, and so is a word longer than a line.
            let code: Vec<&str> = blocks
                .flat_map(|block| match block {
                    PageBlock::Code(lines) => lines,
                    _ => vec![],
                })
                .map(str::trim)
                .collect();
            let plain = page.plain();
            let mut wide = plain.lines().filter(|line| line.chars().count() > 80).map(str::trim);
            let broken = wide.find(|line| line.contains(' ') && !code.contains(line));
            assert_eq!(broken, None, "{}", page.name);
        }
    }

    #[test]
    fn every_page_has_a_title_and_short_lines_of_prose() {
        for page in PAGES {
            assert!((10..70).contains(&page.title().len()), "{}: {}", page.name, page.title());
            let mut is_code = false;
            let wide = page.source.lines().find(|line| {
                is_code ^= line.starts_with("```");
                // Tables and definitions of links cannot be broken.
                let is_prose = !is_code && !line.starts_with(['|', '[']);
                is_prose && line.chars().count() > 118
            });
            assert_eq!(wide, None, "{}", page.name);
        }
    }
}
