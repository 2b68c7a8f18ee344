//! Where the commands and a development daemon find each other without a configuration.

use std::{
    env,
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{CliError, error::CliStatus};

/// The most that [`read_small`] reads: keys, tokens and configurations are a few KiB. The limit is
/// there for a path that names a device or a log by mistake.
pub const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;

/// The directory where a daemon without a configuration keeps its secret, its socket and its store:
/// `$XDG_STATE_HOME/fanfare`, else `.local/state/fanfare` in the home directory (`$HOME`, or what
/// the user database says when a service manager sets none), else `/tmp/fanfare-UID`.
///
/// Nothing is created here. `/tmp` is open to every user, so the code that creates the last one
/// must make it with mode 0700 and refuse one that belongs to another user.
pub fn state_dir() -> PathBuf {
    let state_home = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    state_dir_from(state_home, env::home_dir(), rustix::process::geteuid().as_raw())
}

/// Reads a key, token or configuration file; `what` names it in the error.
///
/// # Errors
/// The file is absent, unreadable, or larger than [`SMALL_FILE_BYTES_MAX`].
pub fn read_small(path: &Path, what: &str) -> Result<Vec<u8>, CliError> {
    let shown = path.display();
    let mut bytes = Vec::new();
    // One byte more, so that what is too large is found to be.
    let read = File::open(path)
        .and_then(|file| file.take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        CliError::new(match error.kind() {
            ErrorKind::NotFound => format!("{what}: there is no file {shown}"),
            ErrorKind::PermissionDenied => format!(
                "{what}: user {} may not read {shown}; see `ls -l {shown}`, or run as its owner",
                rustix::process::geteuid().as_raw()
            ),
            _ => format!("{what}: cannot read {shown}: {error}"),
        })
    })?;
    if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
        return Err(CliError::new(format!(
            "{what}: {shown} is larger than {SMALL_FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(bytes)
}

/// Reads a file that holds one text, such as a secret or an address, without the line ends that
/// editors and `echo` leave after it.
///
/// # Errors
/// As [`read_small`], or it is not text.
pub fn read_text(path: &Path, what: &str) -> Result<String, CliError> {
    let text = String::from_utf8(read_small(path, what)?)
        .map_err(|_| CliError::new(format!("{what}: {} is not UTF-8 text", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads the text of a configuration file.
///
/// # Errors
/// As [`read_small`], or it is not text.
pub fn configuration(path: &Path) -> Result<String, CliError> {
    let read = read_small(path, "the configuration");
    let bytes = read.map_err(|error| error.with(CliStatus::Configuration))?;
    String::from_utf8(bytes)
        .map_err(|_| CliError::configuration(format!("{} is not UTF-8 text", path.display())))
}

/// [`state_dir`] as a function of what it depends on. A relative `XDG_STATE_HOME` is ignored, as
/// the XDG Base Directory Specification says.
fn state_dir_from(state_home: Option<PathBuf>, home: Option<PathBuf>, uid: u32) -> PathBuf {
    if let Some(state_home) = state_home.filter(|path| path.is_absolute()) {
        return state_home.join("fanfare");
    }
    match home.filter(|path| path.is_absolute()) {
        Some(home) => home.join(".local/state/fanfare"),
        None => format!("/tmp/fanfare-{uid}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_follows_xdg_then_home_then_the_user() {
        let path = |text: &str| Some(PathBuf::from(text));
        let dir = |state_home, home| state_dir_from(state_home, home, 7);
        assert_eq!(dir(path("/s"), path("/h")), Path::new("/s/fanfare"));
        assert_eq!(dir(None, path("/h")), Path::new("/h/.local/state/fanfare"));
        assert_eq!(dir(path("relative"), path("/h")), Path::new("/h/.local/state/fanfare"));
        assert_eq!(dir(path(""), path("")), Path::new("/tmp/fanfare-7"));
        assert_eq!(dir(None, None), Path::new("/tmp/fanfare-7"));
    }

    #[test]
    fn a_file_without_end_is_not_read_for_ever() {
        let error = read_small(Path::new("/dev/zero"), "the secret").unwrap_err();
        assert!(error.to_string().starts_with("the secret: /dev/zero is larger than"));
    }
}
