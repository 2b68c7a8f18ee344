//! `fanfare token --check`: what a token grants, asked of the daemon's own verifiers by its
//! configuration.
//!
//! The token itself is never printed, nor is any part of it that no dialect goes by.

use super::super::error::printable;
use super::super::load::{self, LoadedConfig};
use super::super::locate::Located;
use super::super::output::print;
use super::super::{CliError, paths, trial};
use crate::dialect::{Kind, Settings};
use crate::io::{self, Plan};
use crate::token::{Grant, NEVER_MS, TOKEN_BYTES_MAX, Verdict};
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

/// What names the token's daemon, where the one that was found is not meant.
const INSTEAD: &str = "--config";
/// Characters of a dialect's words that are shown; lists of claims may be long.
const WORDS_CHARS_MAX: usize = 2000;

/// Says what a token grants in each dialect that some listener speaks, or why not. Succeeds when it
/// opens a session in some dialect.
pub(super) fn run(
    given: Option<&str>,
    file: Option<&Path>,
    config: Option<&Path>,
) -> Result<ExitCode, CliError> {
    let token = token(given, file)?;
    let LoadedConfig { plan, .. } = loaded(config)?;
    let Plan { listen, settings, .. } = plan;
    let mut spoken: Vec<Kind> =
        listen.iter().flat_map(|listen| listen.kinds.iter().copied()).collect();
    spoken.sort();
    spoken.dedup();
    let mut text = String::new();
    let mut opens = false;
    for kind in spoken {
        let words = match verified(kind, &token, &settings) {
            Ok(words) => {
                opens = true;
                words
            }
            Err(why) => format!("refused: {why}"),
        };
        text += &format!("{:<16} {}\n", kind.name(), printable(&words, WORDS_CHARS_MAX));
    }
    match print(&text) {
        // The status still tells what a reader has not waited for.
        Err(error) if error.status() == super::super::error::CliStatus::Closed => {}
        printed => printed?,
    }
    Ok(if opens { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The token from where it was said to be.
fn token(given: Option<&str>, file: Option<&Path>) -> Result<String, CliError> {
    let text = match (given, file) {
        (Some(_), Some(_)) => {
            return Err(CliError::usage("--check and --check-file exclude each other"));
        }
        (Some("-"), None) => {
            let mut text = String::new();
            // One byte more, so that what is too long is found to be.
            let mut stdin = std::io::stdin().take(TOKEN_BYTES_MAX as u64 + 2);
            stdin
                .read_to_string(&mut text)
                .map_err(|error| CliError::new(format!("cannot read the token: {error}")))?;
            text
        }
        (Some(token), None) => token.into(),
        (None, Some(path)) => paths::read_text(path, "the token")?,
        (None, None) => String::new(),
    };
    match text.trim() {
        "" => Err(CliError::usage(
            "the token is empty: give it behind --check, in a file, or with - on standard input",
        )),
        token => Ok(token.into()),
    }
}

/// The configuration of the daemon that is meant.
fn loaded(config: Option<&Path>) -> Result<LoadedConfig, CliError> {
    if let Some(path) = config {
        return load::file(path);
    }
    let located = Located::find();
    located.tell(INSTEAD);
    let loaded = match (located.configuration(), located.state()) {
        (Some(path), _) => load::file(path),
        (None, Some(state)) if state.join("jwt.secret").exists() => trial::prepare()
            .and_then(|trial| load::text_of("the development set-up", &trial.configuration)),
        _ => Err(CliError::try_again(
            "there is no daemon whose configuration tells who verifies tokens",
        )),
    };
    loaded.map_err(|error| located.about(&error, INSTEAD))
}

/// What a token lets its bearer do in a dialect, or why not.
fn verified(kind: Kind, token: &str, settings: &Settings) -> Result<String, String> {
    let Some(verifier) = kind.verifier(settings) else {
        return match kind.without_tokens() {
            "" => Ok("everything, with a token or without (anonymous = true)".into()),
            why => Err(format!("the clients of {} have no tokens{why}", kind.name())),
        };
    };
    let now_ms = io::now().unix_ms;
    let verdict = match verifier.verify(token, now_ms) {
        Verdict::Ask => {
            let remote = verifier.remote().ok_or("no verifier is set")?;
            let host = remote.host();
            io::ask_once(remote, token)
                .map_err(|reason| format!("asking {host} failed: {reason}"))?
        }
        verdict => verdict,
    };
    match verdict {
        Verdict::Granted(grant) => {
            let words = kind.granted(&grant, settings)?;
            Ok(format!("{words}; {}", end(&grant, now_ms)))
        }
        Verdict::Refused(refusal) => Err(refusal.to_string()),
        Verdict::Ask => Err("no verifier is set".into()),
    }
}

fn end(grant: &Grant, now_ms: u64) -> String {
    match grant.expires_at_ms {
        NEVER_MS => "for ever".into(),
        end => format!("for {} s from now", end.saturating_sub(now_ms) / 1000),
    }
}
