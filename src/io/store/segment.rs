//! The files of a log, segments and their indexes: naming, reading and rebuilding them.

use super::catalog::Catalog;
use super::place::{Address, Index, IndexEntry, IndexGap, IndexRun};
use super::record::{self, FoundRecord, Record, RecordScan};
use crate::service::topic::{Position, TopicNumber};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Limit on segments, and on indexes, open for reading at a time.
const OPEN_MAX: usize = 16;
/// Limit on the descriptors of a log: those for reading, and segments being written, synced or
/// prepared.
pub const DESCRIPTORS_MAX: usize = 2 * OPEN_MAX + 8;

const INDEX_MAGIC: &[u8; 8] = b"fanfidx2";
/// The magic, the number of entries (u32), a reserved field (u32), and the check of the entries
/// (u64).
const INDEX_HEAD_BYTES: usize = 24;
const INDEX_ENTRY_BYTES: usize = 8;

/// A file of a log's directory, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentFile {
    Segment(u32),
    Index(u32),
}

impl SegmentFile {
    /// Parses a file name; `None` for one that the store does not use.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (number, extension) = name.split_once('.')?;
        let is_number = number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit());
        // A number that leaves no room for successors is not ours.
        let number = number.parse().ok().filter(|number| is_number && *number <= u32::MAX / 2)?;
        match extension {
            "segment" => Some(Self::Segment(number)),
            "index" => Some(Self::Index(number)),
            _ => None,
        }
    }

    /// The path of the file.
    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Segment(number) => format!("{number:010}.segment"),
            Self::Index(number) => format!("{number:010}.index"),
        })
    }
}

/// The segments of a directory in order, and the names of foreign files.
pub(super) fn list(directory: &Path) -> io::Result<(Vec<u32>, Vec<String>)> {
    let (mut segments, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match SegmentFile::of(&name) {
            Some(SegmentFile::Segment(number)) => segments.push(number),
            Some(SegmentFile::Index(_)) => {}
            None => others.push(name),
        }
    }
    segments.sort_unstable();
    Ok((segments, others))
}

/// Bytes that the files of a directory take. Files may be removed meanwhile.
pub(super) fn files_bytes(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        match entry?.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => bytes += metadata?.blocks() * 512,
        }
    }
    Ok(bytes)
}

/// Files open for reading, those used most recently.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    segments: Recent<Arc<File>>,
    indexes: Recent<IndexFile>,
    /// Indexes whose files are not written yet.
    unwritten: HashMap<u32, Arc<Index>>,
}

/// The places of messages.
#[derive(Debug)]
pub(super) enum Entries {
    /// The places of the run's messages.
    There(Vec<IndexEntry>),
    /// The index was rebuilt, so the run may have changed. These messages are damaged.
    Anew(Vec<IndexGap>),
}

/// An open index file.
#[derive(Debug)]
struct IndexFile {
    file: File,
    count: u32,
}

impl Files {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.into(),
            segments: Recent::default(),
            indexes: Recent::default(),
            unwritten: HashMap::new(),
        }
    }

    /// Adds a segment opened elsewhere that will be read.
    pub(super) fn know(&mut self, number: u32, file: Arc<File>) {
        self.segments.put(number, file);
    }

    /// Keeps an index until its file is written.
    pub(super) fn keep(&mut self, number: u32, index: Arc<Index>) {
        self.unwritten.insert(number, index);
    }

    /// Drops an index whose file was written, or failed to be; then it is rebuilt when it is
    /// needed.
    pub(super) fn written(&mut self, number: u32) {
        self.unwritten.remove(&number);
    }

    /// Forgets a removed segment.
    pub(super) fn forget(&mut self, number: u32) {
        self.segments.take(number);
        self.indexes.take(number);
        self.unwritten.remove(&number);
    }

    /// A segment's file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn segment(&mut self, number: u32) -> io::Result<Arc<File>> {
        let path = SegmentFile::Segment(number).path(&self.directory);
        self.segments.get(number, || File::open(path).map(Arc::new)).cloned()
    }

    /// The places of a run's messages. Rebuilds a damaged or missing index, and updates the catalog
    /// with it.
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub(super) fn entries(&mut self, run: &IndexRun, catalog: &mut Catalog) -> io::Result<Entries> {
        if let Some(entries) = self.indexed(run)? {
            return Ok(Entries::There(entries));
        }
        tracing::warn!(
            "the index of segment {} of the store is damaged or missing; rebuilding it",
            run.segment
        );
        self.indexes.take(run.segment);
        // Through the open file, whose path may be gone.
        let bytes = read_all(&*self.segment(run.segment)?)?;
        let index = index(&bytes, run.segment);
        let gaps = catalog.reindex(run.segment, &index);
        let index = Arc::new(index);
        // If it cannot be written it stays in memory.
        if write_index(&self.directory, run.segment, &index).is_err() {
            self.unwritten.insert(run.segment, index);
        }
        Ok(Entries::Anew(gaps))
    }

    /// The same, from an existing index; `None` if it has to be rebuilt.
    fn indexed(&mut self, run: &IndexRun) -> io::Result<Option<Vec<IndexEntry>>> {
        let (from, count) = (run.entry as usize, run.count as usize);
        let positions = (run.first.number()..).map(Position::of_number);
        if let Some(index) = self.unwritten.get(&run.segment) {
            let places = index.entries.get(from..from + count);
            return Ok(places.map(|places| positions.zip(places).map(IndexEntry::of).collect()));
        }
        let path = SegmentFile::Index(run.segment).path(&self.directory);
        let index = match self.indexes.get(run.segment, || open_index(&path, run.segment)) {
            Ok(index) if u64::from(run.entry) + u64::from(run.count) <= index.count.into() => index,
            Ok(_) => return Ok(None),
            // Too many open files, for example, are no reason to rebuild it.
            Err(error) if is_transient(&error) => return Err(error),
            Err(_) => return Ok(None),
        };
        let mut bytes = vec![0; count * INDEX_ENTRY_BYTES];
        let start = INDEX_HEAD_BYTES + from * INDEX_ENTRY_BYTES;
        index.file.read_exact_at(&mut bytes, start as u64)?;
        let (places, _) = bytes.as_chunks::<INDEX_ENTRY_BYTES>();
        let places: Vec<(u32, u32)> = places.iter().map(place).collect();
        let entries: Vec<IndexEntry> = positions.zip(&places).map(IndexEntry::of).collect();
        // The index was checked when it was opened, but the disk may have changed since.
        let is_sound = entries.iter().all(|entry| entry.at(run.segment).is_sound());
        Ok(is_sound.then_some(entries))
    }

    /// The record of a topic's message at a place; `None` when it is damaged.
    ///
    /// # Errors
    /// When it cannot be read for a reason other than damage.
    pub(super) fn message(
        &mut self,
        at: Address,
        topic: TopicNumber,
        position: Position,
    ) -> io::Result<Option<Box<[u8]>>> {
        let mut bytes = vec![0; at.length as usize];
        match self.segment(at.segment)?.read_exact_at(&mut bytes, at.offset.into()) {
            Ok(()) => Ok(message(&bytes, at, topic, position).map(Box::from)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The message in the bytes of its record; `None` when it is damaged or another message.
pub(super) fn message(
    bytes: &[u8],
    at: Address,
    topic: TopicNumber,
    position: Position,
) -> Option<&[u8]> {
    match Record::read(record::body(bytes, at.segment, at.offset as usize)?)? {
        Record::Message { topic: of, position: found, record, .. }
            if (of, found) == (topic, position) =>
        {
            Some(record)
        }
        _ => None,
    }
}

/// Whether an error is unrelated to the stored data.
pub(super) fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
    error
        .raw_os_error()
        .is_some_and(|number| errors.iter().any(|errno| errno.raw_os_error() == number))
}

/// Reads a whole segment.
pub(super) fn read_whole(directory: &Path, segment: u32) -> io::Result<Vec<u8>> {
    fs::read(SegmentFile::Segment(segment).path(directory))
}

/// Reads a whole file from its start, wherever its cursor is: others use it too.
fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Builds the index of a segment from its bytes.
pub(super) fn index(bytes: &[u8], segment: u32) -> Index {
    let mut topics: BTreeMap<TopicNumber, Vec<IndexEntry>> = BTreeMap::new();
    for found in RecordScan::new(bytes, segment, 0) {
        let FoundRecord::Record { body, offset, length } = found else { continue };
        if let Some(Record::Message { topic, position, .. }) = Record::read(body) {
            let entry = IndexEntry { position, offset: offset as u32, length: length as u32 };
            topics.entry(topic).or_default().push(entry);
        }
    }
    let mut index = Index::default();
    for (topic, mut entries) in topics {
        entries.sort_by_key(|entry| entry.position);
        entries.dedup_by_key(|entry| entry.position);
        index.add(topic, segment, &entries);
    }
    index
}

/// Writes the index of a segment next to it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_index(directory: &Path, segment: u32, index: &Index) -> io::Result<()> {
    let mut bytes = vec![0; INDEX_HEAD_BYTES];
    for (offset, length) in &index.entries {
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    let check = xxh3_64_with_seed(&bytes[INDEX_HEAD_BYTES..], segment.into());
    bytes[..8].copy_from_slice(INDEX_MAGIC);
    bytes[8..12].copy_from_slice(&(index.entries.len() as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&check.to_le_bytes());
    fs::write(SegmentFile::Index(segment).path(directory), bytes)
}

/// Opens an index and checks it.
fn open_index(path: &Path, segment: u32) -> io::Result<IndexFile> {
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    file.read_to_end(&mut bytes)?;
    let damaged = io::ErrorKind::InvalidData;
    let (head, rest) = bytes.split_at_checked(INDEX_HEAD_BYTES).ok_or(damaged)?;
    let count = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let is_whole = &head[..8] == INDEX_MAGIC
        && rest.len() == count as usize * INDEX_ENTRY_BYTES
        && head[16..24] == xxh3_64_with_seed(rest, segment.into()).to_le_bytes();
    // An index is only a shortcut, so a doubtful one is rebuilt.
    if !is_whole {
        return Err(damaged.into());
    }
    Ok(IndexFile { file, count })
}

/// Decodes the offset and length of a message.
fn place(bytes: &[u8; INDEX_ENTRY_BYTES]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *bytes;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// The most recently used files, by segment; the latest first.
#[derive(Debug)]
struct Recent<T>(Vec<(u32, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Recent<T> {
    fn get(&mut self, number: u32, open: impl FnOnce() -> io::Result<T>) -> io::Result<&T> {
        match self.0.iter().position(|(known, _)| *known == number) {
            Some(at) => self.0[..=at].rotate_right(1),
            None => {
                let opened = open()?;
                self.put(number, opened);
            }
        }
        Ok(&self.0[0].1)
    }

    fn put(&mut self, number: u32, value: T) {
        self.take(number);
        // Makes room first, so that descriptors stay within the limit at every moment.
        self.0.truncate(OPEN_MAX - 1);
        self.0.insert(0, (number, value));
    }

    fn take(&mut self, number: u32) {
        self.0.retain(|(known, _)| *known != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_made_anew_from_the_open_segment_although_its_path_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (segment, first) = (7, Position::FIRST);
        let mut bytes = Vec::new();
        record::put(segment, 0, &mut bytes, |out| {
            Record::Message {
                topic: 1,
                position: first,
                deliver_ms: None,
                is_moved: false,
                record: b"m",
            }
            .write(out);
        });
        let path = SegmentFile::Segment(segment).path(directory.path());
        fs::write(&path, &bytes).unwrap();
        let mut files = Files::new(directory.path());
        files.segment(segment).unwrap();
        fs::remove_file(&path).unwrap();

        let run = IndexRun { first, segment, entry: 0, count: 1, bytes: bytes.len() as u32 };
        let mut catalog = Catalog::default();
        assert!(matches!(files.entries(&run, &mut catalog), Ok(Entries::Anew(_))));
        let entries = files.entries(&run, &mut catalog);
        assert!(matches!(entries, Ok(Entries::There(there)) if there.len() == 1));
    }
}
