//! The check of what fjall trusts: each keyspace's list of tables, and the tables themselves.
//!
//! fjall deletes tables that no list names, and does not look whether the list is whole. So the list is held against
//! the checksum beside it before anything is opened; and when something cannot be opened, the tables are held against
//! theirs, to say which file it is.
//!
//! ```text
//! current  number of the list u64 · its xxh3 u128 · 0
//! vNUMBER  sections … · contents · trailer: "SFA!" 1 0 · xxh3 of the contents u128 · where u64 · length u64
//! contents 4 bytes · count u32 · (where u64 · length u64 · name u16 …)…
//! tables   levels u8 · (runs u8 · (tables u32 · (number u64 · 0 · xxh3 of the file u128 · sequence u64)…)…)…
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Bytes of a list of tables: more than there are for a store of some terabytes. A longer one is none.
const LIST_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CURRENT_BYTES: usize = 25;
const TRAILER_BYTES: usize = 38;

/// A table, with the checksum of its whole file.
pub(super) struct Table {
    pub(super) path: PathBuf,
    checksum: u128,
}

/// The directories of the keyspaces, in order.
pub(super) fn keyspaces(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("keyspaces"));
    let mut paths: Vec<PathBuf> =
        entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// The tables of a keyspace, by its list.
///
/// # Errors
/// Says what is wrong with the list.
pub(super) fn list(keyspace: &Path) -> Result<Vec<Table>, String> {
    let current = keyspace.join("current");
    let wrong = |path: &Path, what: &str| format!("{}: {what}", path.display());
    let bytes = fs::read(&current).map_err(|error| wrong(&current, &error.to_string()))?;
    if bytes.len() != CURRENT_BYTES || bytes[CURRENT_BYTES - 1] != 0 {
        return Err(wrong(&current, "it is not what it should be"));
    }
    let (number, checksum) = (little(&bytes[..8]) as u64, little(&bytes[8..24]));
    let path = keyspace.join(format!("v{number}"));
    let length = fs::metadata(&path).map_err(|error| wrong(&path, &error.to_string()))?.len();
    let list = if length <= LIST_BYTES_MAX { fs::read(&path) } else { Ok(Vec::new()) };
    let list = list.map_err(|error| wrong(&path, &error.to_string()))?;
    if xxh3_128(&list) != checksum {
        return Err(wrong(&path, "its checksum is wrong"));
    }
    tables(&list, keyspace).ok_or_else(|| wrong(&path, "it cannot be read"))
}

/// The tables whose files are not what they were when they were written.
pub(super) fn damaged(data: &Path) -> Vec<PathBuf> {
    let tables = keyspaces(data).into_iter().filter_map(|keyspace| list(&keyspace).ok()).flatten();
    tables.filter(|table| !table.is_whole().unwrap_or(false)).map(|table| table.path).collect()
}

impl Table {
    /// Whether the file has its checksum.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        let mut file = File::open(&self.path)?;
        let (mut hash, mut buffer) = (Xxh3::new(), vec![0; 1024 * 1024]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.digest128() == self.checksum),
                count => hash.update(&buffer[..count]),
            }
        }
    }
}

/// The tables that a list names.
fn tables(list: &[u8], keyspace: &Path) -> Option<Vec<Table>> {
    let trailer = list.get(list.len().checked_sub(TRAILER_BYTES)?..)?;
    let mut contents = Rest(list.get(usize::try_from(little(&trailer[22..30])).ok()?..)?);
    contents.take(4)?;
    let mut section = None;
    for _ in 0..contents.number(4)? {
        let (at, length) = (contents.number(8)?, contents.number(8)?);
        let name = contents.number(2)?;
        if contents.take(usize::try_from(name).ok()?)? == b"tables" {
            let at = usize::try_from(at).ok()?;
            section = list.get(at..at.checked_add(usize::try_from(length).ok()?)?);
        }
    }
    let (mut rest, mut tables) = (Rest(section?), Vec::new());
    for _ in 0..rest.number(1)? {
        for _ in 0..rest.number(1)? {
            for _ in 0..rest.number(4)? {
                let number = rest.number(8)?;
                rest.take(1)?;
                let checksum = rest.number(16)?;
                rest.take(8)?;
                let path = keyspace.join("tables").join(number.to_string());
                tables.push(Table { path, checksum });
            }
        }
    }
    Some(tables)
}

/// What is left of a list.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u128> {
        self.take(bytes).map(little)
    }
}

/// The little-endian number of all these bytes.
fn little(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}
