//! Checking a store without changing it.

use super::catalog::Segment;
use super::format::{self, OpenError};
use super::record::{FoundRecord, RecordScan};
use super::recovery::{self, Recovered};
use super::segment::{self, files_bytes};
use super::settings::StoreSettings;
use super::survey::{self, LARGEST};
use crate::service::topic::Holding;
use std::fs;
use std::io;
use std::path::Path;

/// Limit on the damaged places printed.
const PRINTED_MAX: usize = 16;

/// The result of a check.
#[derive(Debug, Default)]
pub struct StoreReport {
    /// The lines to print.
    pub lines: Vec<String>,
    /// Whether anything is damaged or missing.
    pub is_damaged: bool,
    /// Number of messages.
    pub messages: u64,
}

impl From<String> for StoreReport {
    fn from(line: String) -> Self {
        Self { lines: vec![line], ..Self::default() }
    }
}

/// Checks a store without changing it; with `all`, reads every segment.
///
/// # Errors
/// When it could not be opened, with advice.
pub fn check(settings: &StoreSettings, all: bool) -> Result<StoreReport, OpenError> {
    let directory = settings.path.clone().ok_or(OpenError::NoPath)?;
    let unusable = |error| OpenError::Directory(directory.clone(), error);
    let name = directory.display();
    match fs::metadata(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(
                format!("store  {name}: does not exist yet; the first start creates it").into()
            );
        }
        Err(error) => return Err(unusable(error)),
        Ok(file) if !file.is_dir() => return Err(unusable(io::ErrorKind::NotADirectory.into())),
        Ok(_) => {}
    }
    let Some(writers) = format::read_format(&directory)? else {
        return Ok(format!("store  {name}: empty; the first start creates it").into());
    };
    if writers as usize != settings.writers {
        return Err(OpenError::Writers(directory, writers as usize, settings.writers));
    }
    let head = format!("store  {name}: format {}", format::FORMAT);
    // A log being written looks damaged at its end.
    if format::is_locked(&directory).map_err(unusable)? {
        let unread =
            if all { "; its segments were not read: stop it first, or check a backup" } else { "" };
        return Ok(format!("{head}, in use by a running daemon{unread}").into());
    }

    let (mut report, mut largest) = (StoreReport::default(), Vec::new());
    let (mut topics, mut messages, mut bytes, mut needed) = (0, 0, 0, 0);
    for owner in 0..writers {
        let path = format::log_path(&directory, owner);
        let recovered = format::read_log(&directory, &path)?;
        topics += recovered.catalog.names.len();
        messages += recovered.catalog.messages();
        needed += recovered.catalog.segments.values().map(Segment::needed).sum::<u64>();
        bytes += files_bytes(&path).map_err(unusable)?;
        report.add(&recovered, &path);
        if all {
            report.read_all(&recovered, &path).map_err(unusable)?;
            largest.extend(recovered.catalog.largest(LARGEST));
        }
    }
    report.messages = messages;
    let counted = format!(
        "{head}, {topics} topics, {messages} messages, {bytes} bytes of files, {needed} needed"
    );
    report.lines.insert(0, counted);
    Holding::keep_largest(&mut largest, LARGEST);
    if !largest.is_empty() {
        report.lines.insert(1, format!("store  largest topics: {}", survey::listed(&largest)));
    }
    Ok(report)
}

impl StoreReport {
    fn damaged(&mut self, what: &str) {
        self.is_damaged = true;
        if self.lines.len() < PRINTED_MAX {
            self.lines.push(format!("store  damaged: {what}"));
        }
    }

    /// Adds the findings of reading the log.
    fn add(&mut self, recovered: &Recovered, path: &Path) {
        let findings = &recovered.findings;
        let path = path.display();
        if recovered.newest == 0 {
            self.damaged(&format!("every segment of {path} is missing"));
        }
        findings
            .missing
            .iter()
            .for_each(|missing| self.damaged(&format!("{missing} of {path} is missing")));
        findings.damages.iter().for_each(|damage| self.damaged(&format!("{damage} of {path}")));
        findings.lost.iter().for_each(|lost| self.damaged(&lost.to_string()));
        for (_, count) in recovered.catalog.nameless().iter().filter(|(_, count)| *count > 0) {
            self.damaged(&format!("the name of a topic with {count} messages"));
        }
        if findings.cut_bytes > 0 {
            let bytes = findings.cut_bytes;
            self.lines.push(format!(
                "store  an unfinished write of {bytes} bytes at the end of {path}, which the next \
                 start discards"
            ));
        }
        for name in &findings.foreign {
            self.lines.push(format!("store  {path}/{name} does not belong to the store"));
        }
    }

    /// Reads the segments that a start does not read.
    fn read_all(&mut self, recovered: &Recovered, path: &Path) -> io::Result<()> {
        for (number, known) in recovered.catalog.segments.range(..recovered.from) {
            let mut bytes = match segment::read_whole(path, *number) {
                Ok(bytes) => bytes,
                // It is reported as missing already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            bytes.truncate(known.length as usize);
            for found in RecordScan::new(&bytes, *number, 0) {
                let (from, to) = match found {
                    FoundRecord::Damage { from, to } => (from, to),
                    FoundRecord::End { offset, .. } if offset < known.length as usize => {
                        (offset, known.length as usize)
                    }
                    _ => continue,
                };
                let damage = recovery::Damage { segment: *number, from, to };
                self.damaged(&format!("{damage} of {}", path.display()));
            }
        }
        Ok(())
    }
}
