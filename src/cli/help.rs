//! `fanfare help`: the manual, on the terminal or as man pages.

use super::CliError;
use super::error::printable;
use super::output::print;
use crate::config::words::suggestion;
use crate::manual::{ManualPage, PAGES};
use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use argh_complete::{Generator as _, bash::Bash, fish::Fish, zsh::Zsh};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Characters of a topic that are shown.
const TOPIC_CHARS_MAX: usize = 100;

/// Show a page of the manual, or list all.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    example = "{command_name}\n{command_name} feeds\n{command_name} --man /usr/local/share/man",
    note = "On a terminal a page goes through $PAGER, or less."
)]
pub struct HelpCommand {
    /// the page; without it, the list of all
    #[argh(positional)]
    topic: Option<String>,
    /// write all pages as man pages below this directory, in man1 and man7
    #[argh(option, arg_name = "dir")]
    man: Option<PathBuf>,
    /// print what completes commands and options in a shell: bash, zsh or fish
    #[argh(option, arg_name = "shell")]
    completion: Option<Shell>,
}

/// A shell that completes commands.
#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl FromStr for Shell {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            _ => Err("there are completions for bash, zsh and fish".into()),
        }
    }
}

impl Shell {
    /// What makes the shell complete the program's words.
    fn completion(self, program: &CommandInfoWithArgs) -> String {
        match self {
            Self::Bash => Bash::generate(program.name, program),
            Self::Zsh => Zsh::generate(program.name, program),
            // Only fish 4 has -x, which splits a line into words as -o does.
            Self::Fish => Fish::generate(program.name, program).replace(" -xpc", " -opc"),
        }
    }
}

impl HelpCommand {
    /// Shows the page. `program` has the commands, which explain themselves.
    ///
    /// # Errors
    /// When there is no such page, or the pages cannot be written.
    pub fn run(self, program: &CommandInfoWithArgs) -> Result<ExitCode, CliError> {
        let topic = match (self.topic, self.man, self.completion) {
            (None, Some(directory), None) => return write_man(&directory),
            (None, None, Some(shell)) => {
                return print(&shell.completion(program)).map(|()| ExitCode::SUCCESS);
            }
            (None, None, None) => return show(&contents()),
            (Some(topic), None, None) => topic,
            _ => {
                return Err(CliError::usage(
                    "--man writes all pages, --completion prints no page: give each alone",
                ));
            }
        };
        match ManualPage::named(&topic) {
            Some(page) => show(&page.plain()),
            None => Err(unknown(&topic, program)),
        }
    }
}

/// The list of pages.
fn contents() -> String {
    let width = PAGES.iter().map(|page| page.name.len()).max().unwrap_or(0);
    let lines = PAGES.iter().map(|page| format!("  {:width$}  {}\n", page.name, page.title()));
    let list: String = lines.collect();
    format!(
        "`fanfare help TOPIC` shows a page of the manual:\n\n{list}\n\
         `fanfare --help` lists the commands, `fanfare COMMAND --help` explains one.\n"
    )
}

fn unknown(topic: &str, program: &CommandInfoWithArgs) -> CliError {
    let commands = program.commands.iter().map(|command| command.name);
    let known = PAGES.iter().map(|page| page.name).chain(commands);
    let near = suggestion(topic, known);
    let shown = printable(topic, TOPIC_CHARS_MAX);
    CliError::usage(format!(
        "there is no page \"{shown}\" in the manual{near}\nRun `fanfare help` for the list."
    ))
}

fn write_man(directory: &Path) -> Result<ExitCode, CliError> {
    for page in PAGES {
        let file = page.man_file();
        let section = file.rsplit('.').next().unwrap_or_default();
        let section = directory.join(format!("man{section}"));
        let path = section.join(&file);
        std::fs::create_dir_all(&section)
            .and_then(|()| std::fs::write(&path, page.man()))
            .map_err(|error| CliError::new(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a text: by a pager on a terminal, else as it is.
fn show(text: &str) -> Result<ExitCode, CliError> {
    if !stdout().is_terminal() || !is_paged(text) {
        print(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a pager has shown the text. One that does not exist or does not start has not.
fn is_paged(text: &str) -> bool {
    let pager = std::env::var_os("PAGER").filter(|pager| !pager.is_empty());
    let mut command = Command::new("sh");
    command.arg("-c").arg(pager.as_deref().unwrap_or(OsStr::new("less")));
    // As git does: a text that fits is only printed, and what was shown stays there.
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }

    // Ctrl-C is for the pager, which stops a search by it and stays: to end here would leave it
    // behind, and the terminal with it. Failing that, the page is shown all the same.
    let has_left = Arc::new(AtomicBool::new(false));
    let _ = flag::register_conditional_default(SIGINT, Arc::clone(&has_left));

    let Ok(mut pager) = command.stdin(Stdio::piped()).spawn() else {
        has_left.store(true, Relaxed);
        return false;
    };
    if let Some(mut input) = pager.stdin.take() {
        // Fails when the reader has seen enough and left.
        let _ = input.write_all(text.as_bytes());
    }
    let status = pager.wait();
    has_left.store(true, Relaxed);

    // The shell's words for a command that it cannot run.
    status.is_ok_and(|status| !matches!(status.code(), Some(126 | 127)))
}
