//! Scripts of `tests/clients` that use the clients of others, which `tests/run` installs.

use super::script::script;
use super::tools;
use std::process::Command;

/// Runs a script with the packages of npm.
pub(crate) fn npm(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script(name)).env("NODE_PATH", tools().join("node_modules"));
    command
}

/// Runs a script with the packages of PyPI.
pub(crate) fn pypi(name: &str) -> Command {
    let mut command = Command::new(tools().join("python/bin/python"));
    command.arg(script(name));
    command
}

/// Runs a script to its end, which prints `ok` when all went well.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("ok\n"), "{out}\n{err}");
}
