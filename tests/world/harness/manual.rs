//! What the manual shows, so that a test runs just that.

use fanfare::manual::ManualPage;

/// The code blocks of a page in this language.
pub(crate) fn shown(page: &str, language: &str) -> Vec<String> {
    let source = ManualPage::named(page).unwrap().source;
    let opening = format!("```{language}\n");
    let blocks = source.split(&opening).skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).collect()
}

/// A configuration of the manual with what is elsewhere in a test: each text has to be there.
pub(crate) fn placed(configuration: &str, places: &[(&str, String)]) -> String {
    places.iter().fold(configuration.to_owned(), |text, (shown, here)| {
        assert!(text.contains(shown), "there is no {shown} in {text}");
        text.replace(shown, here)
    })
}
