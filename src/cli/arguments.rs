//! From the words of the command line to a command: help, and what was probably meant by a word
//! that is none.
//!
//! The grammar is declared beside each command; what may stand where is read from the help that
//! comes of it.

use super::CliError;
use super::error::printable;
use crate::config::words::nearest;
use argh::{EarlyExit, FromArgs};

/// Characters of a word that are shown.
const WORD_CHARS_MAX: usize = 100;
/// The heads of the lists in a command's help.
const COMMANDS: &str = "Commands:";
const OPTIONS: &str = "Options:";

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked<T> {
    /// A command.
    Command(T),
    /// This text.
    Help(String),
}

/// Reads the words behind the program's name.
///
/// # Errors
/// A word that does not belong there, with what was probably meant.
pub fn read<T: FromArgs>(program: &str, words: &[String]) -> Result<Asked<T>, CliError> {
    let words = separated(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match T::from_args(&[program], &words) {
        Ok(command) => Ok(Asked::Command(command)),
        Err(EarlyExit { output, status: Ok(()) }) => {
            let help = output.replace("  --help, help      ", "  -h, --help, help  ");
            let help = help.replace("\nError codes:\n", "\nExit codes:\n");
            Ok(Asked::Help(help.trim_end().to_owned() + "\n"))
        }
        Err(EarlyExit { output, status: Err(()) }) => {
            let (command, help) = innermost::<T>(program, &words);
            let problem = problem(output.trim_end(), &help);
            Err(CliError::usage(format!("{problem}\nRun `{command} --help` for what there is.")))
        }
    }
}

/// `--option=value` as two words and `-h` as `--help`, which is how the grammar has them.
fn separated(words: &[String]) -> Vec<String> {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (options, rest) = words.split_at(end);
    let options = options.iter().flat_map(|word| match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ if word == "-h" => vec!["--help".to_owned()],
        _ => vec![word.clone()],
    });
    options.chain(rest.iter().cloned()).collect()
}

/// The command that the words lead to as far as they are known, and its help.
fn innermost<T: FromArgs>(program: &str, words: &[&str]) -> (String, String) {
    let mut path = vec![program];
    let mut text = help_of::<T>(&path);
    for word in words {
        // From here on they are options and values, or the word that is wrong.
        if !listed(&text, COMMANDS).contains(word) {
            break;
        }
        path.push(*word);
        text = help_of::<T>(&path);
    }
    (path.join(" "), text)
}

fn help_of<T: FromArgs>(path: &[&str]) -> String {
    let asked = [&path[1..], &["--help"]].concat();
    T::from_args(&path[..1], &asked).err().map_or_else(String::new, |help| help.output)
}

/// The first words of the lines under a head.
fn listed<'a>(help: &'a str, head: &str) -> Vec<&'a str> {
    let lines =
        help.lines().skip_while(|line| *line != head).skip(1).take_while(|line| !line.is_empty());
    // Descriptions that go on stand further to the right.
    let entries = lines.filter(|line| line.len() - line.trim_start().len() == 2);
    entries.flat_map(spellings).collect()
}

/// The spellings of one entry: words up to the first that no comma follows.
fn spellings(line: &str) -> Vec<&str> {
    let mut spellings = Vec::new();
    for word in line.split_whitespace() {
        let spelling = word.trim_end_matches(',');
        spellings.push(spelling);
        if spelling == word {
            break;
        }
    }
    spellings
}

/// What is wrong, in words for the person who typed it.
fn problem(said: &str, help: &str) -> String {
    let Some(word) = said.strip_prefix("Unrecognized argument: ") else {
        return said.replace("invalid digit found in string", "it takes a whole number");
    };
    let shown = printable(word, WORD_CHARS_MAX);
    let (kind, known) = match word.starts_with('-') {
        true => ("option", listed(help, OPTIONS)),
        false => ("command", listed(help, COMMANDS)),
    };
    if known.is_empty() {
        return format!("\"{shown}\" is one word more than there may be");
    }
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("there is no {kind} \"{shown}\"; did you mean \"{near}\"?"),
        None => format!("there is no {kind} \"{shown}\"; there are {}", known.join(", ")),
    }
}
