//! What cannot be a store, or is somebody else's: each is told with what to do, and nothing is changed.

use crate::{fill, open, settings};
use fanfare::io::store::{Disk, OpenError, check};
use fanfare::service::topic::Archive as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

fn refusal(path: &Path) -> OpenError {
    match Disk::open(&settings(path)) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[test]
fn a_directory_that_is_not_there_is_made_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    drop(open(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(open(&path));
}

#[test]
fn a_store_that_is_open_is_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    assert!(error.to_string().contains("in use by another daemon: stop that one"), "{error}");
    let report = |all| check(&settings(directory.path()), all).unwrap().lines.remove(0);
    assert!(report(false).ends_with("format 2, in use by a running daemon"), "{}", report(false));
    assert!(
        report(true).contains("in use by a running daemon; its segments were not read"),
        "{}",
        report(true)
    );
    drop(disk);
    drop(open(directory.path()));
}

#[test]
fn a_later_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    fs::write(directory.path().join("FORMAT"), "3 1\n").unwrap();
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::Newer(..)), "{error}");
    assert!(error.to_string().contains("has format 3, and this version knows 2"), "{error}");
    fs::write(directory.path().join("FORMAT"), "1\n").unwrap();
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::Older(..)), "{error}");
    assert!(error.to_string().contains("move the directory away"), "{error}");
    fs::write(directory.path().join("FORMAT"), "2 1\n").unwrap();
    drop(open(directory.path()));
}

#[test]
fn files_that_are_not_of_the_store_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let foreign =
        ["log-0/letters.txt", "log-0/12.segment", "notes"].map(|name| directory.path().join(name));
    foreign.iter().for_each(|path| fs::write(path, "Dear Ann").unwrap());
    drop(open(directory.path()));
    for path in foreign {
        assert_eq!(fs::read_to_string(path).unwrap(), "Dear Ann");
    }
    let report = check(&settings(directory.path()), true).unwrap().lines.join("\n");
    assert!(report.contains("log-0/letters.txt does not belong to the store"), "{report}");
}

#[test]
fn another_number_of_owners_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let two = fanfare::io::store::StoreSettings { writers: 2, ..settings(directory.path()) };
    let error = Disk::open_all(&two).err().expect("it is refused");
    assert!(error.to_string().contains("has 1 writers"), "{error}");
}

#[test]
fn what_is_no_store_is_not_made_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("letters.txt"), "Dear Ann").unwrap();
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert!(error.to_string().contains("set store.path to an empty directory"), "{error}");
    let error = refusal(&directory.path().join("letters.txt"));
    assert!(
        error.to_string().contains("it has to be a directory that the daemon's user can write"),
        "{error}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_system_that_cannot_be_written_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mounted");
    fs::create_dir(&path).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&path, "40m") else { return };
    drop(open(&path.join("store")));
    assert!(
        Command::new("mount").args(["-o", "remount,ro"]).arg(&path).status().unwrap().success()
    );
    for store in [path.join("store"), path.join("new")] {
        let error = refusal(&store);
        assert!(matches!(error, OpenError::Directory(..)), "{error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
    let report = check(&settings(&path.join("store")), true).unwrap().lines;
    assert!(report[0].contains("format 2, 0 topics"), "{report:?}");
}

#[test]
fn a_look_at_a_store_tells_what_it_holds_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let look = || check(&settings(&path), true).unwrap().lines.join("\n");
    assert!(look().contains("does not exist yet; the first start creates it"));
    let mut disk = open(&path);
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..1000);
    disk.commit().unwrap();
    drop(disk);
    let state = || {
        let tree = Command::new("find")
            .arg(&path)
            .args(["-type", "f", "-printf", "%P %s %T@\n"])
            .output()
            .unwrap();
        let mut lines: Vec<String> =
            String::from_utf8(tree.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = state();
    assert!(look().contains("format 2, 1 topics, 1000 messages, "), "{}", look());
    assert_eq!(state(), before);
    // A record that is damaged, and an end that is torn.
    let (segment, at) = crate::damage::find(&path, &crate::payload(topic, 700));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[at] ^= 1;
    let (_, last) = crate::damage::find(&path, &crate::payload(topic, 999));
    fs::write(&segment, &bytes[..last + 5]).unwrap();
    let before = state();
    let report = look();
    assert!(report.contains("1 message of t from 0:700 on"), "{report}");
    assert!(
        report.contains("an unfinished write of") && report.contains("998 messages"),
        "{report}"
    );
    assert_eq!(state(), before);
}

/// A file system of its own for a test.
pub(crate) struct Mounted(std::path::PathBuf);

impl Mounted {
    /// None for somebody who is not root.
    pub(crate) fn tmpfs(path: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: a file system can be mounted by root only");
            return None;
        }
        Some(Self(path.into()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
