//! `fanfare help`: the pages of the manual on a terminal, in a pipe and as man pages.

use crate::cli::run;
use crate::harness::{command, skip};
use fanfare::manual::PAGES;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

#[test]
fn help_lists_the_pages_and_shows_each() {
    let (code, list, _) = run(&mut command(&["help"]));
    assert_eq!(code, Some(0));
    for page in PAGES {
        assert!(list.contains(&format!("  {} ", page.name)) && list.contains(page.title()));
        let (code, text, said) = run(&mut command(&["help", page.name]));
        assert!(code == Some(0) && said.is_empty(), "{said}");
        assert_eq!(text, page.plain());
    }
}

#[test]
fn help_names_the_nearest_page_or_command() {
    let (code, out, said) = run(&mut command(&["help", "limit"]));
    assert!(code == Some(2) && out.is_empty());
    assert!(
        said.contains("no page \"limit\"") && said.contains("did you mean \"limits\"?"),
        "{said}"
    );
    let (code, _, said) = run(&mut command(&["help", "pubish"]));
    assert!(code == Some(2) && said.contains("did you mean \"publish\"?"), "{said}");
    let (code, _, said) = run(&mut command(&["help", "tls", "more"]));
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_command_after_help_explains_itself() {
    let short = run(&mut command(&["help", "topics"]));
    assert_eq!(short, run(&mut command(&["topics", "--help"])));
    let (code, help, _) = run(&mut command(&["help", "--help"]));
    assert!(code == Some(0) && help.contains("fanfare help feeds"), "{help}");
}

#[test]
fn on_a_terminal_a_page_goes_through_the_pager() {
    let program = env!("CARGO_BIN_EXE_fanfare");
    let on_terminal = |pager: &str, topic: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &format!("{program} help {topic}"), "/dev/null"]);
        run(script.env("PAGER", pager).env("LESS", ""))
    };
    let (code, shown, _) = on_terminal("sed 's/^/paged: /'", "tls");
    assert!(code == Some(0) && shown.starts_with("paged: TLS"), "{shown}");
    // Without the pager the page is there all the same.
    let (code, shown, _) = on_terminal("no-such-pager", "tls");
    assert!(code == Some(0) && shown.contains("TLS: CERTIFICATES"), "{shown}");
    // It may be left before the end.
    assert_eq!(on_terminal("head -n 1", "limits").0, Some(0));
}

#[test]
fn ctrl_c_is_for_the_pager() {
    let program = env!("CARGO_BIN_EXE_fanfare");
    // As less does, it goes on after Ctrl-C, and ends by a key.
    let pager = "trap '' INT; cat > /dev/null; echo shown; read key < /dev/tty; echo left by $key";
    let mut terminal = Command::new("script")
        .args(["-qec", &format!("exec {program} help limits"), "/dev/null"])
        .env("PAGER", pager)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.trim_end() == "shown"));
    let mut keys = terminal.stdin.take().unwrap();
    keys.write_all(b"\x03q\n").unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line.trim_end() == "left by q"), "{rest:?}");
    drop(keys);
    assert_eq!(terminal.wait().unwrap().code(), Some(0));
}

#[test]
fn the_pages_are_written_as_man_pages_that_man_takes() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    let (code, _, said) = run(&mut command(&["help", "--man", &place]));
    assert_eq!(code, Some(0), "{said}");
    assert!(directory.path().join("man1/fanfare.1").exists());
    for page in PAGES {
        let file = page.man_file();
        let section = file.rsplit('.').next().unwrap();
        let path = directory.path().join(format!("man{section}")).join(&file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), page.man());
        let formatted = Command::new("groff")
            .args(["-man", "-ww", "-Wbreak", "-z", "-k", "-Tutf8"])
            .arg(&path)
            .output();
        // Debian has it wherever it has man.
        let Ok(formatted) = formatted else { continue };
        assert_eq!(String::from_utf8_lossy(&formatted.stderr), "", "{file}");
    }
    let (code, _, said) = run(&mut command(&["help", "tls", "--man", &place]));
    assert!(code == Some(2) && said.contains("--man writes all pages"), "{said}");
    let (code, _, said) = run(&mut command(&["help", "--man", "/dev/null/man"]));
    assert!(code == Some(1) && said.contains("cannot write"), "{said}");
}

/// What the shell says to a script that is given the completion's file and a line's words; `None` without that shell.
fn complete(shell: &str, script: &str, line: &[&str]) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let (code, completion, said) = run(&mut command(&["help", "--completion", shell]));
    assert!(code == Some(0) && said.is_empty(), "{said}");
    let file = directory.path().join("completion");
    std::fs::write(&file, completion).unwrap();
    let mut program = Command::new(shell);
    program.args(["-c", script]);
    if shell != "fish" {
        // Theirs begins with the name of the script.
        program.arg(shell);
    }
    let Ok(output) = program.arg(&file).args(line).env("HOME", directory.path()).output() else {
        skip(&format!("the completion for {shell}"), &format!("{shell} is not installed"));
        return None;
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes_commands_and_options() {
    let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _fanfare; echo ${COMPREPLY[*]}";
    let complete = |line: &[&str]| complete("bash", script, line).unwrap();
    assert_eq!(complete(&["fanfare", "pu"]), "publish\n");
    assert_eq!(complete(&["fanfare", "topics", "term"]), "terminate\n");
    assert_eq!(complete(&["fanfare", "serve", "--con"]), "--config\n");
    assert_eq!(complete(&["fanfare", "topics", "stats", "--token-f"]), "--token-file\n");
}

#[test]
fn fish_completes_commands_and_options() {
    let complete =
        |line: &str| complete("fish", "source $argv[1]; complete --do-complete $argv[2]", &[line]);
    for (line, expected) in [
        ("fanfare pu", "publish\t"),
        ("fanfare topics term", "terminate\t"),
        ("fanfare serve --con", "--config\t"),
    ] {
        let Some(shown) = complete(line) else { return };
        assert!(shown.lines().count() == 1 && shown.starts_with(expected), "{line}: {shown}");
    }
}

#[test]
fn zsh_takes_the_completion() {
    let script = "autoload -Uz compinit; compinit -u; source $1; whence -w _fanfare";
    let Some(shown) = complete("zsh", script, &[]) else { return };
    assert_eq!(shown, "_fanfare: function\n");
}
