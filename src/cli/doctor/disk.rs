//! The disk of durable topics.

use super::super::obstacles::{Obstacles, store_of};
use super::super::output::size;
use super::case::DoctorCase;
use super::finding::DoctorFinding;
use super::machine::no_plan;
use crate::io::store::{Durability, StoreSettings};
use rustix::fs::{Mode, OFlags, open, statfs, statvfs};
use rustix::io::write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of one write whose sync is measured: a page.
const PROBE: [u8; 4096] = [0; 4096];
/// Syncs that are measured, of which the fastest counts: the others may have waited.
const SYNCS: usize = 3;
/// A sync that is slower than that of a turning disk, for which each producer waits.
const SYNC_SLOW: Duration = Duration::from_millis(50);
/// File systems that promise less than a local disk, by their magic numbers (`statfs(2)`).
const OTHER: [(u64, &str, &str); 6] = [
    (0x6969, "nfs", "it is a network file system, which promises less"),
    (0x517b, "smb", "it is a network file system, which promises less"),
    (0xfe53_4d42, "smb2", "it is a network file system, which promises less"),
    (0xff53_4d42, "cifs", "it is a network file system, which promises less"),
    (0x6573_5546, "fuse", "what it promises depends on a program"),
    (0x0102_1994, "tmpfs", "it is memory, and empty after a boot"),
];

/// Whether messages can be stored.
pub(super) fn disk(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Ok(loaded) = &case.loaded else { return vec![no_plan()] };
    let Some(store) = store_of(&loaded.plan) else {
        return vec![DoctorFinding::skipped("no listener speaks a protocol with durable topics")];
    };
    let Some(path) = &store.path else { return vec![no_plan()] };

    let mut obstacles = Obstacles::default();
    obstacles.store(&loaded.plan);
    let (uid, gid) = case.user.ids();
    let mend = format!("install -d -o {uid} -g {gid} -m 0700 {}", path.display());
    if !obstacles.problems.is_empty() {
        return obstacles.problems.into_iter().map(|it| DoctorFinding::bad(it, &mend)).collect();
    }
    let mut findings = Vec::new();
    if let Some(backups) = store.backups() {
        let mend = format!("install -d -o {uid} -g {gid} -m 0700 {}", backups.display());
        findings.extend(obstacles.notes.into_iter().map(|it| DoctorFinding::warn(it, &mend)));
    }
    let place = existing(path);
    findings.extend(file_system(&place));
    findings.push(space(&place, store));
    findings.extend(sync(&place, store));
    findings
}

/// The path itself, or its nearest ancestor that exists: a start makes the rest.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// A file system that promises less than a local disk.
fn file_system(path: &Path) -> Option<DoctorFinding> {
    // The kernel tells a number of 32 bits, in a type that differs between architectures.
    let kind = u64::from(statfs(path).ok()?.f_type as u32);
    let (_, name, why) = OTHER.iter().find(|(magic, ..)| *magic == kind)?;
    let seen = format!("{} is on {name}: {why}", path.display());
    Some(DoctorFinding::warn(seen, "name a directory on a local disk as store.path"))
}

/// The room for messages.
fn space(path: &Path, store: &StoreSettings) -> DoctorFinding {
    let shown = path.display();
    let Ok(found) = statvfs(path) else {
        return DoctorFinding::skipped(format!("{shown}: its file system does not tell its size"));
    };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let seen = format!("{shown}: {} of {} are free", size(free), size(all));
    let mend = format!("df -h {shown}; fanfare topics stats");
    if free < store.free_bytes_min {
        let seen = format!("{seen}, and store.free_bytes_min is {}", size(store.free_bytes_min));
        return DoctorFinding::bad(seen, mend);
    }
    // What is left is soon less than that.
    if free / 2 < store.free_bytes_min {
        return DoctorFinding::warn(seen, mend);
    }
    DoctorFinding::good(seen)
}

/// The time of a sync; nothing where it cannot be measured.
fn sync(path: &Path, store: &StoreSettings) -> Option<DoctorFinding> {
    let mode = Mode::RUSR | Mode::WUSR;
    // A file without a name leaves nothing behind.
    let file = open(path, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode).ok()?;
    let mut fastest = Duration::MAX;
    for _ in 0..SYNCS {
        write(&file, &PROBE).ok()?;
        let start = Instant::now();
        rustix::fs::fdatasync(&file).ok()?;
        fastest = fastest.min(start.elapsed());
    }
    let seen = format!("a sync takes {:.1} ms", fastest.as_secs_f64() * 1000.0);
    let waits = store.durability == Durability::Always;
    Some(match waits && fastest > SYNC_SLOW {
        true => DoctorFinding::warn(
            format!("{seen}, for which each producer waits"),
            "give the store a disk of its own, or set durability = \"interval\"",
        ),
        false => DoctorFinding::good(seen),
    })
}
