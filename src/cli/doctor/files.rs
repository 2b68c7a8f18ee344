//! The files of the configuration, and what it listens on.

use super::super::obstacles::{Obstacles, addresses, overlap};
use super::case::DoctorCase;
use super::finding::DoctorFinding;
use super::machine::no_plan;
use crate::config::redacted::has_secrets;
use crate::io::listen::ListenError;
use crate::io::rehearsal::{self, Occupancy};
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What others than owner and group may do with a file.
const OTHERS_READ: u32 = 0o004;
/// What lets others than its owner replace what is in it.
const OTHERS_WRITE: u32 = 0o022;
/// Files that keys ending in `_file` name, and that hold no secret.
const PUBLIC: [&str; 3] = ["ca_file", "public_key_file", "jwks_file"];

/// Whether the configuration can run.
pub(super) fn configuration(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let path = case.path.display();
    let loaded = match &case.loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            let mend = match case.path.exists() {
                true => format!("fanfare check --config {path}"),
                false => "fanfare init PROTOCOL".to_owned(),
            };
            return problems.lines().map(|line| DoctorFinding::bad(line, &mend)).collect();
        }
    };
    let notes = loaded.notes.iter();
    let mend = format!("fanfare check --config {path}");
    let mut findings: Vec<_> =
        notes.map(|note| DoctorFinding::warn(note.as_str(), &mend)).collect();
    if findings.is_empty() {
        findings.push(DoctorFinding::good(format!("{path} can run")));
    }
    findings
}

/// Whether the daemon can read its secrets, and nobody else.
pub(super) fn secrets(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((_, table)) = &case.settings else { return vec![super::machine::no_settings()] };
    let mut paths = secret_files(table);
    // Of the file alone: what the environment sets is not in it.
    let text = fs::read_to_string(&case.path).unwrap_or_default();
    if toml::from_str(&text).is_ok_and(|table| has_secrets(&table)) {
        paths.push(case.path.clone());
    }
    paths.sort();
    paths.dedup();
    let owner = case.user.ids().0;
    let mut findings: Vec<_> = paths.iter().filter_map(|path| of_secret(path, owner)).collect();
    if findings.is_empty() {
        findings.push(DoctorFinding::good("there are no secrets"));
    }
    findings
}

/// The files with secrets that a table names, with its tables.
fn secret_files(table: &Table) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(table) => found.extend(secret_files(table)),
            Value::Array(values) => {
                found.extend(values.iter().filter_map(Value::as_table).flat_map(secret_files));
            }
            Value::String(path) => {
                let is_file = name.ends_with("_file") && !PUBLIC.contains(&name.as_str());
                // The `key` of an app is no file.
                let is_key = name == "key" && table.contains_key("certificate");
                found.extend((is_file || is_key).then(|| PathBuf::from(path)));
            }
            _ => {}
        }
    }
    found
}

/// What is to be said of a file; nothing where there is none, which only a protocol that is spoken
/// needs: its configuration cannot run then.
fn of_secret(path: &Path, owner: u32) -> Option<DoctorFinding> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            let mend = format!("namei -l {shown}");
            return Some(DoctorFinding::bad(format!("{shown}: {error}"), mend));
        }
        Ok(metadata) => metadata,
    };
    let mode = metadata.permissions().mode();
    let seen = format!("{shown} has mode {:04o}", mode & 0o7777);
    if fs::File::open(path).is_err() {
        let seen =
            format!("{seen} and belongs to user {}: the daemon cannot read it", metadata.uid());
        let mend = format!("chown {owner} {shown} && chmod 0400 {shown}");
        return Some(DoctorFinding::bad(seen, mend));
    }
    if mode & OTHERS_READ != 0 {
        let seen = format!("{seen}: every user of this machine can read the secret");
        return Some(DoctorFinding::bad(seen, format!("chmod o= {shown}")));
    }
    if mode & OTHERS_WRITE != 0 {
        let seen = format!("{seen}: others can write another secret");
        return Some(DoctorFinding::bad(seen, format!("chmod go-w {shown}")));
    }
    Some(DoctorFinding::good(seen))
}

/// Whether what is to be listened on is free, or the daemon's already.
pub(super) fn ports(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Ok(loaded) = &case.loaded else { return vec![no_plan()] };
    let addresses = addresses(&loaded.plan);
    let mut findings: Vec<DoctorFinding> =
        addresses.iter().map(|address| of_address(*address, case)).collect();
    let mut obstacles = Obstacles::default();
    obstacles.sockets(&loaded.plan, &case.user);
    obstacles.problems.extend(overlap(&addresses));
    let mend = format!("fanfare check --config {}", case.path.display());
    findings.extend(obstacles.problems.into_iter().map(|it| DoctorFinding::bad(it, &mend)));
    findings
}

fn of_address(address: SocketAddr, case: &DoctorCase) -> DoctorFinding {
    let port = address.port();
    let by_systemd = case.socket.get("ActiveState") == "active"
        && case.socket.get("Listen").split(' ').any(|listen| listen.ends_with(&format!(":{port}")));
    match rehearsal::tcp(address) {
        Ok(Occupancy::Free) => DoctorFinding::good(format!("{address} is free")),
        Ok(Occupancy::ByOwn) => {
            DoctorFinding::good(format!("{address} is held by a daemon of {}", case.user))
        }
        Ok(Occupancy::ByAnother) if by_systemd => {
            DoctorFinding::good(format!("{address} is held by fanfare.socket"))
        }
        Ok(Occupancy::ByAnother) => DoctorFinding::bad(
            format!("{address} is taken by another program, or a daemon of another user"),
            format!("ss -ltnp 'sport = :{port}'"),
        ),
        Err(error) => {
            let mend = match error {
                ListenError::NoSuchAddress(_) => "ip address".to_owned(),
                ListenError::PortForbidden(_) => "fanfare help recipes".to_owned(),
                _ => format!("ss -ltnp 'sport = :{port}'"),
            };
            DoctorFinding::bad(error.to_string(), mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_secrets_are_found_wherever_they_are_named() {
        let table: Table = toml::from_str(
            r#"
            [admin]
            token_file = "/1"
            [[listen]]
            [listen.tls]
            certificate = "/no"
            key = "/2"
            client_ca = "/no"
            [personium.token.jwt]
            jwks_file = "/no"
            [channel.token.introspection]
            client_secret_file = "/3"
            ca_file = "/no"
            [[echo.app]]
            key = "no"
            secret_file = "/4"
            "#,
        )
        .unwrap();
        let mut found = secret_files(&table);
        found.sort();
        assert_eq!(found, ["/1", "/2", "/3", "/4"].map(PathBuf::from));
    }
}
