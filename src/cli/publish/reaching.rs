//! The way to a daemon's unix feed, and what to do where there is none.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::cli::CliError;
use crate::cli::error::CliStatus;
use crate::cli::user::name_of;

/// A connection to the unix feed at `path`, for use without waiting.
pub(super) fn connect(path: &Path) -> Result<UnixStream, CliError> {
    let socket = UnixStream::connect(path).map_err(|error| unreachable(path, &error))?;
    // One loop waits for input and socket together.
    let prepared = socket.set_nonblocking(true);
    prepared.map_err(|error| CliError::new(format!("cannot prepare the socket: {error}")))?;
    Ok(socket)
}

/// Why the socket at `path` cannot be reached, and what to do about it.
fn unreachable(path: &Path, error: &io::Error) -> CliError {
    let shown = path.display();
    let metadata = fs::metadata(path);
    let is_socket = metadata.as_ref().is_ok_and(|metadata| metadata.file_type().is_socket());
    let status = match error.kind() {
        // What is there but no socket does not become one.
        _ if metadata.is_ok() && !is_socket => CliStatus::Failure,
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock => {
            CliStatus::TryAgain
        }
        _ => CliStatus::Failure,
    };
    let message = match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no socket {shown}: is the daemon running? start it with `fanfare serve`, or \
             give --socket"
        ),
        _ if metadata.is_ok() && !is_socket => {
            format!("{shown} is not a socket; give the one of [feed.unix] with --socket")
        }
        ErrorKind::PermissionDenied => match metadata {
            Ok(metadata) => format!(
                "user {} may not write to {shown}: its mode is {:04o}, its owner {}, its group {}; \
                 join that group, or change mode or group in [feed.unix]",
                rustix::process::geteuid().as_raw(),
                metadata.mode() & 0o7777,
                named(metadata.uid(), "/etc/passwd"),
                named(metadata.gid(), "/etc/group"),
            ),
            Err(_) => format!(
                "user {} may not enter a directory above {shown}; check each with `namei -l \
                 {shown}`",
                rustix::process::geteuid().as_raw()
            ),
        },
        ErrorKind::ConnectionRefused => format!(
            "{shown} has no listener: a daemon that died left it behind; start it again (`fanfare \
             serve`)"
        ),
        ErrorKind::InvalidInput => {
            format!("{shown} cannot be a socket's path: it may have 107 bytes at most")
        }
        _ => format!("cannot connect to {shown}: {error}"),
    };
    CliError::new(message).with(status)
}

/// The name of user or group `id`, with its number.
fn named(id: u32, database: &str) -> String {
    name_of(id, database).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
}
