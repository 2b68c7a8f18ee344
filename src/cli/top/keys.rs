//! The keys of `fanfare top`.

use super::state::{TopList, TopPrompt, TopState, TopTab};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Longest filter in characters: four words with the longest subject that is listed.
const FILTER_CHARS_MAX: usize = 200;
/// Rows of a page.
const PAGE_ROWS: isize = 10;

/// What a key asks for, beyond a change of what is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopWish {
    Quit,
    /// Another list.
    List(TopList),
    /// The end of a session.
    Kick(String),
}

/// Takes in a key.
pub(super) fn press(state: &mut TopState, key: KeyEvent) -> Option<TopWish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(TopWish::Quit);
    }
    match std::mem::take(&mut state.prompt) {
        TopPrompt::None => command(state, key.code),
        TopPrompt::Filter(text) => typed(state, text, key.code),
        TopPrompt::Kick(id) => match key.code {
            KeyCode::Char('y' | 'Y') => Some(TopWish::Kick(id)),
            // Anything else is a no: what was typed was meant for something else.
            _ => {
                state.message = "nothing was ended".into();
                None
            }
        },
    }
}

/// A key while nothing is asked.
fn command(state: &mut TopState, code: KeyCode) -> Option<TopWish> {
    state.message.clear();
    let list = state.list.clone();
    match code {
        KeyCode::Char('q') | KeyCode::Esc => return Some(TopWish::Quit),
        KeyCode::Up => state.choose(-1),
        KeyCode::Down => state.choose(1),
        KeyCode::PageUp => state.choose(-PAGE_ROWS),
        KeyCode::PageDown => state.choose(PAGE_ROWS),
        KeyCode::Home => state.choose(isize::MIN),
        KeyCode::End => state.choose(isize::MAX),
        KeyCode::Tab | KeyCode::Right => return Some(show(state, turned(list, 1))),
        KeyCode::BackTab | KeyCode::Left => {
            return Some(show(state, turned(list, TopTab::ALL.len() - 1)));
        }
        KeyCode::Char('s') if list.tab == TopTab::Sessions => {
            return Some(show(state, TopList { is_by_age: !list.is_by_age, ..list }));
        }
        KeyCode::Char('/') => state.prompt = TopPrompt::Filter(list.filter),
        KeyCode::Char('k') => match state.session().and_then(|session| session["id"].as_str()) {
            Some(id) => state.prompt = TopPrompt::Kick(id.to_owned()),
            None => state.message = "no session is chosen".into(),
        },
        _ => {}
    }
    None
}

/// The list that stands so many tabs to the right.
fn turned(list: TopList, step: usize) -> TopList {
    let place = (list.tab as usize + step) % TopTab::ALL.len();
    // The words of a filter mean other things there.
    TopList { tab: TopTab::ALL[place], filter: String::new(), ..list }
}

/// A key while a filter is typed.
fn typed(state: &mut TopState, mut text: String, code: KeyCode) -> Option<TopWish> {
    match code {
        KeyCode::Enter => {
            let list = TopList { filter: text.trim().to_owned(), ..state.list.clone() };
            return Some(show(state, list));
        }
        KeyCode::Esc => return None,
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(character) if text.chars().count() < FILTER_CHARS_MAX => text.push(character),
        _ => {}
    }
    state.prompt = TopPrompt::Filter(text);
    None
}

fn show(state: &mut TopState, list: TopList) -> TopWish {
    state.show(list.clone());
    TopWish::List(list)
}

#[cfg(test)]
mod tests {
    use super::super::state::TopNews;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn type_in(state: &mut TopState, text: &str) {
        text.chars().for_each(|character| {
            assert_eq!(press(state, KeyCode::Char(character).into()), None);
        });
    }

    #[test]
    fn a_session_is_ended_only_after_a_yes() {
        let mut state = TopState::default();
        type_in(&mut state, "k");
        assert_eq!((&state.prompt, &*state.message), (&TopPrompt::None, "no session is chosen"));
        let rows = vec![json!({ "id": "0-1-2" })];
        state.hear(TopNews::Rows(TopList::default(), rows), Duration::ZERO);
        for no in [KeyCode::Char('n'), KeyCode::Enter, KeyCode::Esc, KeyCode::Char('k')] {
            type_in(&mut state, "k");
            assert_eq!(state.prompt, TopPrompt::Kick("0-1-2".into()));
            // The list may change meanwhile; what was asked stays.
            assert_eq!(press(&mut state, no.into()), None);
            assert_eq!(state.prompt, TopPrompt::None);
        }
        type_in(&mut state, "k");
        let wish = press(&mut state, KeyCode::Char('y').into());
        assert_eq!(wish, Some(TopWish::Kick("0-1-2".into())));
    }

    #[test]
    fn a_filter_is_typed_and_taken_back_and_lists_are_turned() {
        let mut state = TopState::default();
        type_in(&mut state, "/ecqo ann");
        assert_eq!(state.prompt, TopPrompt::Filter("ecqo ann".into()), "q does not quit");
        (0..6).for_each(|_| assert_eq!(press(&mut state, KeyCode::Backspace.into()), None));
        type_in(&mut state, "ho");
        let echo = TopList { filter: "echo".into(), ..TopList::default() };
        assert_eq!(press(&mut state, KeyCode::Enter.into()), Some(TopWish::List(echo.clone())));
        assert_eq!(state.list, echo);
        type_in(&mut state, "/x");
        assert_eq!(press(&mut state, KeyCode::Esc.into()), None);
        assert_eq!(state.list, echo, "as before");
        let by_age = TopList { is_by_age: true, ..echo };
        assert_eq!(press(&mut state, KeyCode::Char('s').into()), Some(TopWish::List(by_age)));

        for (key, tab) in [(KeyCode::Tab, TopTab::Backlogs), (KeyCode::BackTab, TopTab::Sessions)] {
            press(&mut state, key.into());
            assert_eq!((state.list.tab, &*state.list.filter), (tab, ""));
        }
        press(&mut state, KeyCode::BackTab.into());
        assert_eq!(state.list.tab, TopTab::Ended);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        type_in(&mut state, "/");
        assert_eq!(press(&mut state, control_c), Some(TopWish::Quit));
        state.prompt = TopPrompt::None;
        assert_eq!(press(&mut state, KeyCode::Char('q').into()), Some(TopWish::Quit));
    }
}
