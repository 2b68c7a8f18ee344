//! systemd's journal: what is logged becomes an entry with fields, and an entry a datagram
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
//!
//! An entry is made where something is logged, and sent by the thread of the log: journald may be
//! slow to take it.

use crate::io::log;
use rustix::fd::AsFd as _;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where journald listens.
pub(super) const JOURNAL: &str = "/run/systemd/journal/socket";

/// The way to journald.
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// A way to the journald that listens at `path`.
    ///
    /// # Errors
    /// When none does.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let opened = Self { socket: UnixDatagram::unbound()?, path: path.into() };
        // One without fields is left out.
        opened.send(b"")?;
        Ok(opened)
    }

    /// Sends an entry. The path is looked up each time: another process may listen there by now.
    pub(super) fn send(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, &self.path) {
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                self.send_large(entry)
            }
            sent => sent.map(drop),
        }
    }

    /// Sends an entry that is too long for a datagram, in a file of memory that cannot change.
    fn send_large(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("fanfare-log", flags)?);
        file.write_all(entry)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let passed = [file.as_fd()];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&passed));
        let address = SocketAddrUnix::new(&self.path)?;
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg_addr(&self.socket, &address, &[], &mut control, flags)?;
        Ok(())
    }
}

/// Makes an entry of what is logged.
pub(super) struct JournalLayer {
    /// The name of the program.
    identifier: String,
}

impl JournalLayer {
    /// Entries of the program that runs.
    pub(super) fn new() -> Self {
        let program = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&program).file_name().unwrap_or_default();
        Self { identifier: name.to_string_lossy().into_owned() }
    }

    fn entry(&self, event: &Event<'_>) -> Vec<u8> {
        let mut entry = LogEntry::default();
        entry.describe(event.metadata());
        entry.put("SYSLOG_IDENTIFIER", &self.identifier);
        event.record(&mut entry);
        entry.0
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        log::put(&self.entry(event));
    }
}

#[derive(Default)]
struct LogEntry(Vec<u8>);

impl LogEntry {
    fn describe(&mut self, metadata: &Metadata<'_>) {
        // In words a program that runs informs of what is normal but significant.
        let priority = match *metadata.level() {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "5",
            Level::DEBUG => "6",
            Level::TRACE => "7",
        };
        self.put("PRIORITY", priority);
        self.put("TARGET", metadata.target());
        if let Some(file) = metadata.file() {
            self.put("CODE_FILE", file);
        }
        if let Some(line) = metadata.line() {
            self.put("CODE_LINE", &line.to_string());
        }
    }

    /// Adds a field, with its length: a value may have several lines.
    fn put(&mut self, name: &str, value: &str) {
        let entry = &mut self.0;
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
}

impl Visit for LogEntry {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.put("MESSAGE", value);
        }
        self.put(&field_name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Into a text, which takes everything.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

/// The name that a field has in the journal, which takes capital letters, digits and underscores;
/// those of others have no prefix.
fn field_name(name: &str) -> String {
    let capital = |letter: char| match letter.to_ascii_uppercase() {
        '.' => Some('_'),
        letter => Some(letter).filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_'),
    };
    "F_".to_owned() + &name.chars().filter_map(capital).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::OwnedFd;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    use std::io::IoSliceMut;
    use std::os::unix::fs::FileExt as _;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    /// A layer that keeps its entries.
    struct Kept(JournalLayer, Arc<Mutex<Vec<u8>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self.1.lock().unwrap() = self.0.entry(event);
        }
    }

    /// The fields of an entry, as the protocol has them.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = Vec::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (length, value) = entry[end + 1..].split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            fields.push((text(&entry[..end]), text(&value[..length])));
            assert_eq!(value[length], b'\n');
            entry = &value[length + 1..];
        }
        fields
    }

    #[test]
    fn an_entry_has_the_message_its_level_its_place_and_its_fields() {
        let kept = Arc::<Mutex<Vec<u8>>>::default();
        let layer = Kept(JournalLayer { identifier: "fanfare".into() }, Arc::clone(&kept));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let (count, name) = (3, "x\ny");
            tracing::warn!(count, name, "two\nlines: {count}, {name}");
        });
        let fields = fields(&kept.lock().unwrap());
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| *name != "CODE_LINE")
            .collect();
        let expected = [
            ("PRIORITY", "4"),
            ("TARGET", module_path!()),
            ("CODE_FILE", file!()),
            ("SYSLOG_IDENTIFIER", "fanfare"),
            ("MESSAGE", "two\nlines: 3, x\ny"),
            ("F_COUNT", "3"),
            ("F_NAME", "x\ny"),
        ];
        assert_eq!(fields, expected);
        assert_eq!(field_name("log.file-2_ä"), "F_LOG_FILE2_");
    }

    #[test]
    fn an_entry_is_a_datagram_and_a_long_one_a_sealed_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        assert!(JournalSocket::open(&path).is_err(), "there is no journald");
        let journald = UnixDatagram::bind(&path).unwrap();
        let opened = JournalSocket::open(&path).unwrap();
        let mut bytes = [0; 64];
        assert_eq!(journald.recv(&mut bytes).unwrap(), 0);
        opened.send(b"entry").unwrap();
        assert_eq!(journald.recv(&mut bytes).unwrap(), 5);
        assert_eq!(&bytes[..5], b"entry");

        let long = vec![b'l'; 8 << 20];
        opened.send(&long).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&journald, &mut into, &mut control, RecvFlags::empty()).unwrap();
        let passed: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(passed) => passed.collect(),
                _ => Vec::new(),
            })
            .collect();
        let file = File::from(passed.into_iter().next().unwrap());
        assert!(rustix::fs::fcntl_get_seals(&file).unwrap().contains(SealFlags::WRITE));
        assert_eq!(file.metadata().unwrap().len(), long.len() as u64);
        let mut end = [0; 4];
        file.read_exact_at(&mut end, long.len() as u64 - 4).unwrap();
        assert_eq!(&end, b"llll");
    }
}
