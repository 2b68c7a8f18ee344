//! The archive on disk: [`topic::Archive`](crate::topic::Archive) by a database of fjall.
//!
//! A message is one record of the journal, so that a damaged one is one message. What is written stands in the
//! journal's memory until [`Disk::commit`] or [`Disk::save_to_disk`].

use super::base::{self, Base, Part, delayed_key, fault, message_key, meta, position_of, time_of};
use super::format::{self, OpenError};
use super::health::Health;
use super::journal::{self, Findings};
use super::repair;
use super::settings::{Durability, Settings};
use super::walk::{self, Reader};
use crate::metrics::Metrics;
use crate::topic::{Archive, Fault, Loaded, Number, Owner, Position, Saved, Stored};
use fjall::{PersistMode, UserKey, UserValue};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what consumers have acknowledged may wait for a sync of the disk.
const SAVED_AFTER: Duration = Duration::from_secs(1);
/// Memtables that may wait to be written when another is full: together they are the most memory that writing takes.
const SEALED_MAX: usize = 1;
/// Tables that may wait to be merged with others, likewise; fjall stops writes at 30, and before that slows them down.
const UNMERGED_MAX: usize = 24;
/// Messages of a commit that the store's thread waits for itself: for so few another thread costs more than it gains.
const COMMITTED_HERE_MAX: usize = 4;
/// What an entry of a memtable takes beside its key and value.
const ENTRY_BYTES: usize = 96;
/// How long a write looks away until it looks again whether one of them is written.
const SEALED_PAUSE: Duration = Duration::from_millis(1);

/// The archive of a daemon.
pub struct Disk {
    pub(super) settings: Settings,
    /// The store's directory.
    pub(super) directory: PathBuf,
    /// Nothing while it cannot be opened after a failure.
    pub(super) base: Option<Base>,
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    reader: Reader,
    findings: Findings,
    ledger: u32,
    /// Whose topics these are; their numbers have its index when they are divided by how many owners there are.
    owner: Owner,
    /// How far each topic was trimmed since the start: what stands below has left marks that reads should not pass.
    trimmed: HashMap<Number, Position>,
    /// What was written since it was last given to the system or the disk.
    unflushed: Vec<(Part, UserKey)>,
    /// The same with the values, while the store is closed after a failure.
    rescued: Vec<(Part, UserKey, Option<UserValue>)>,
    /// Whether a damaged table may be what has failed.
    is_damage_likely: bool,
    /// Whether writing works again, and nobody was told yet.
    has_healed: bool,
    /// Whether something was written that nobody may be told of before a commit.
    wants_commit: bool,
    /// When the first was written of what the disk may not have yet.
    dirty_since: Option<Instant>,
    /// Messages that were appended since the last commit began.
    appended: usize,
    /// What is being synced, and since when.
    syncing: Vec<(Part, UserKey)>,
    begun: Option<Instant>,
    /// Bytes in the memtable of each part.
    filled: [u64; 3],
    /// Keeps other daemons out.
    _lock: File,
}

impl Disk {
    /// Opens a store, or makes one; mends what a crash or a bad disk has left and says so in the log.
    ///
    /// # Errors
    /// When it cannot be used, with what to do.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        Self::open_of(settings, Owner::ONLY)
    }

    /// Opens a store for each owner: those beside the first are in directories in its directory.
    ///
    /// # Errors
    /// As those of [`Disk::open`].
    pub fn open_all(settings: &Settings) -> Result<Vec<Self>, OpenError> {
        let path = settings.path.as_ref().ok_or(OpenError::NoPath)?;
        let directory = |index| if index == 0 { path.clone() } else { path.join(format!("w{index}")) };
        if path.join("FORMAT").exists() {
            let writers = 1 + (1..).take_while(|index| directory(*index).join("FORMAT").exists()).count();
            if writers != settings.writers {
                return Err(OpenError::Writers(path.clone(), writers, settings.writers));
            }
        }
        let of = |owner: Owner| {
            let path = Some(directory(owner.index()));
            Self::open_of(&Settings { path, ..settings.clone() }, owner)
        };
        Owner::all(settings.writers).map(of).collect()
    }

    fn open_of(settings: &Settings, owner: Owner) -> Result<Self, OpenError> {
        let opened = format::open(settings)?;
        let format::Opened { directory, lock, base, ledger, findings } = opened;
        let metrics = Arc::<Metrics>::default();
        metrics.store.damaged.add(findings.damaged.len() as u64);
        Ok(Self {
            settings: settings.clone(),
            health: Health::new(&directory),
            directory,
            base: Some(base),
            metrics,
            findings,
            reader: Reader::default(),
            ledger,
            owner,
            trimmed: HashMap::new(),
            unflushed: Vec::new(),
            rescued: Vec::new(),
            is_damage_likely: false,
            has_healed: false,
            wants_commit: false,
            dirty_since: None,
            appended: 0,
            syncing: Vec::new(),
            begun: None,
            filled: [0; 3],
            _lock: lock,
        })
    }

    /// Counts there from now on.
    #[must_use]
    pub fn counting(mut self, metrics: Arc<Metrics>) -> Self {
        metrics.store.damaged.add(self.metrics.store.damaged.get());
        metrics.store.configured.set(1);
        self.metrics = metrics;
        self
    }

    /// Writes to tables what is in memory, and waits for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<(), Fault> {
        let base = self.base()?;
        for keyspace in [&base.messages, &base.delayed, &base.meta[0], &base.meta[1]] {
            keyspace.rotate_memtable().map_err(|error| fault(&error))?;
            while keyspace.sealed_memtable_count() > 0 {
                if base.is_poisoned() {
                    return Err(fault(&fjall::Error::Poisoned));
                }
                std::thread::sleep(SEALED_PAUSE);
            }
        }
        Ok(())
    }

    /// Bytes of an unfinished write that were cut off when the store was opened, and damaged places of its journals.
    #[must_use]
    pub fn found(&self) -> (u64, usize) {
        (self.findings.cut_bytes, self.findings.damaged.len())
    }

    /// Bytes of the files, and bytes that are free on their file system, as far as either can be told.
    pub(super) fn room(&self) -> (Option<u64>, Option<u64>) {
        let size = self.base.as_ref().and_then(|base| base.db.disk_space().ok());
        let space = rustix::fs::statvfs(&self.directory).ok();
        (size, space.map(|space| space.f_bavail.saturating_mul(space.f_frsize)))
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes safe what was appended and created, as far as the settings ask for it. A failure ends writing until
    /// [`Disk::look`] finds that it works again.
    ///
    /// # Errors
    /// When it is not safe, with the reason.
    pub fn commit(&mut self) -> Result<(), Box<str>> {
        self.wants_commit = false;
        let start = Instant::now();
        let is_due = self.dirty_since.is_some_and(|since| start - since >= self.settings.interval());
        let mode = match self.settings.durability {
            Durability::Interval if !is_due => PersistMode::Buffer,
            Durability::Never => PersistMode::Buffer,
            Durability::Always | Durability::Interval => PersistMode::SyncData,
        };
        self.persist(mode)?;
        self.metrics.store.commit(start.elapsed().as_nanos() as u64);
        Ok(())
    }

    /// Makes safe all that was written, whatever the settings ask for.
    ///
    /// # Errors
    /// When it is not safe, with the reason.
    pub fn save_to_disk(&mut self) -> Result<(), Box<str>> {
        self.wants_commit = false;
        self.persist(PersistMode::SyncAll)
    }

    /// Begins to make safe what was appended and created. `None` when it is already, as far as the settings ask for it;
    /// else the journal that is to be synced, after which [`Disk::commit_ended`] is to be called. What is written
    /// meanwhile is not waited for.
    ///
    /// # Errors
    /// When it is not safe, with the reason.
    pub fn commit_begun(&mut self) -> Result<Option<File>, Box<str>> {
        let count = std::mem::take(&mut self.appended);
        if self.settings.durability != Durability::Always || count <= COMMITTED_HERE_MAX {
            return self.commit().map(|()| None);
        }
        self.wants_commit = false;
        let begun = Instant::now();
        let written = std::mem::take(&mut self.unflushed);
        let given = self.persist(PersistMode::Buffer);
        let Some(journal) = given.as_ref().ok().and_then(|()| self.journal()) else {
            // Without another file it is synced here.
            self.unflushed.splice(..0, written);
            return given.and_then(|()| self.commit()).map(|()| None);
        };
        self.syncing = written;
        self.begun = Some(begun);
        self.dirty_since = None;
        Ok(Some(journal))
    }

    /// The journal that is written to: the newest. When fjall begins a new one it has synced the others before, so
    /// whoever syncs this one after giving everything to the system has everything on the disk.
    fn journal(&self) -> Option<File> {
        let journals = journal::journals(&format::data(&self.directory)).ok()?;
        File::open(journals.last()?).ok()
    }

    /// The journal is synced, or could not be.
    ///
    /// # Errors
    /// When it is not safe, with the reason.
    pub fn commit_ended(&mut self, result: io::Result<()>) -> Result<(), Box<str>> {
        let written = std::mem::take(&mut self.syncing);
        let begun = self.begun.take();
        match result {
            Ok(()) => {
                let lasted = begun.map_or(0, |begun| begun.elapsed().as_nanos() as u64);
                self.metrics.store.commit(lasted);
                Ok(())
            }
            Err(error) => {
                // It may be gone from the system's memory too.
                self.unflushed.splice(..0, written);
                Err(self.fail(&fjall::Error::Io(error)).0)
            }
        }
    }

    /// Whether something was created of which nobody may be told before the next commit.
    #[must_use]
    pub fn wants_commit(&self) -> bool {
        self.wants_commit
    }

    /// When [`Disk::look`] and [`Disk::settle`] want to be called, if something waits for them.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        [self.health.due(), self.sync_due()].into_iter().flatten().min()
    }

    fn sync_due(&self) -> Option<Instant> {
        let after = match self.settings.durability {
            Durability::Always => SAVED_AFTER,
            Durability::Interval => self.settings.interval(),
            Durability::Never => return None,
        };
        self.dirty_since.filter(|_| self.health.reason().is_none()).map(|since| since + after)
    }

    /// Looks at the disk, and opens the store anew when it could not be written and the disk can.
    pub fn look(&mut self) {
        self.health.look(self.settings.free_bytes_min, self.metrics.store.bytes.get());
        if self.health.may_work_again() {
            self.heal();
        }
        self.metrics.store.failing.set(u64::from(self.refusal().is_some()));
    }

    /// Why no messages are taken, while none are.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.health.refusal()
    }

    /// Whether writing works again since the last call: then everything is safe that was written before it failed.
    #[must_use]
    pub fn has_healed(&mut self) -> bool {
        std::mem::take(&mut self.has_healed)
    }

    /// Opens the store anew, and writes again what may not have got as far as the system.
    fn heal(&mut self) {
        if let Some(base) = self.base.take() {
            for (part, key) in self.syncing.drain(..).chain(self.unflushed.drain(..)) {
                // What cannot be read has left the memory, and is in a table.
                if let Ok(value) = base.part(part).get(&key) {
                    self.rescued.push((part, key, value));
                }
            }
        }
        match repair::reopen(&self.directory, &self.settings, &self.rescued, self.is_damage_likely) {
            Ok((base, damaged)) => {
                self.base = Some(base);
                self.rescued = Vec::new();
                self.is_damage_likely = false;
                self.has_healed = true;
                self.dirty_since = None;
                self.filled = [0; 3];
                self.metrics.store.damaged.add(damaged);
                self.health.recover();
            }
            Err(reason) => {
                self.is_damage_likely = true;
                self.health.fail(&reason);
            }
        }
    }

    /// Gives what was written to the system, and to the disk what has waited long enough.
    pub fn settle(&mut self) {
        let is_due = self.sync_due().is_some_and(|due| due <= Instant::now());
        // While a sync is under way the next commit does it, so that it is known what a failure may have lost.
        if self.dirty_since.is_some() && self.begun.is_none() && self.health.reason().is_none() {
            // A failure is kept for whoever writes next.
            let _ = self.persist(if is_due { PersistMode::SyncData } else { PersistMode::Buffer });
        }
    }

    fn persist(&mut self, mode: PersistMode) -> Result<(), Box<str>> {
        if let Some(reason) = self.health.reason() {
            return Err(reason.into());
        }
        let Some(base) = &self.base else { return Err("the store is closed".into()) };
        match base.db.persist(mode) {
            Ok(()) => {
                self.unflushed.clear();
                if mode != PersistMode::Buffer {
                    self.dirty_since = None;
                }
                Ok(())
            }
            Err(error) => Err(self.fail(&error).0),
        }
    }

    /// Ends writing until [`Disk::look`] finds that it works again.
    fn fail(&mut self, error: &fjall::Error) -> Fault {
        self.metrics.store.failing.set(1);
        // What has failed on another thread is not told: a trial may tell.
        let is_told = !matches!(error, fjall::Error::Poisoned);
        let trial = if is_told { None } else { self.health.trial().err() };
        self.is_damage_likely |= !is_told && trial.is_none();
        let reason = trial.map_or_else(|| base::describe(error), |error| error.to_string());
        self.health.fail(&reason);
        Fault(format!("the store cannot be written: {reason}").into())
    }

    /// What the disk could not read is damaged only if it works otherwise: else nothing is left out.
    fn doubt(&mut self, of_disk: fjall::Result<bool>) -> Result<(), Fault> {
        if of_disk.map_err(|error| fault(&error))? {
            if self.health.reason().is_none()
                && let Err(error) = self.health.trial()
            {
                self.fail(&fjall::Error::Io(error));
            }
            if let Some(reason) = self.health.reason() {
                return Err(Fault(reason.into()));
            }
        }
        Ok(())
    }

    fn base(&self) -> Result<&Base, Fault> {
        self.base.as_ref().ok_or_else(|| Fault(self.health.reason().unwrap_or("the store is closed").into()))
    }

    /// Writes, if writing is possible: a value, or that there is none any more.
    fn write(&mut self, part: Part, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        if let Some(reason) = self.health.reason() {
            return Err(Fault(reason.into()));
        }
        let base = self.base()?;
        let bytes = key.len() + value.map_or(0, <[u8]>::len) + ENTRY_BYTES;
        let filled = self.filled[part as usize] + bytes as u64;
        let is_full = filled >= base::MEMTABLE_BYTES;
        let emptied = if is_full { empty(base, part) } else { Ok(()) };
        let key = UserKey::from(key);
        match emptied.and_then(|()| base.put(part, &key, value)) {
            Ok(()) => {
                self.filled[part as usize] = if is_full { 0 } else { filled };
                self.unflushed.push((part, key));
                self.dirty_since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }
}

/// Has a full memtable written to a table, and waits while too many others are not written yet: fjall alone lets it
/// grow for as long as its threads have something else to do, and when one of them has failed meanwhile waits for ever.
fn empty(base: &Base, part: Part) -> fjall::Result<()> {
    for keyspace in base.keyspaces(part) {
        let has_room =
            || keyspace.sealed_memtable_count() <= SEALED_MAX && keyspace.l0_table_count() <= UNMERGED_MAX;
        while !has_room() {
            if base.is_poisoned() {
                return Err(fjall::Error::Poisoned);
            }
            std::thread::sleep(SEALED_PAUSE);
        }
        keyspace.rotate_memtable()?;
    }
    Ok(())
}

impl Archive for Disk {
    fn ledger(&self) -> u32 {
        self.ledger
    }

    fn load(&mut self, name: &str) -> Result<Option<Loaded>, Fault> {
        let base = self.base()?;
        let all = base.snapshot();
        let Some(number) = base.named(&meta::of_name(name)).map_err(|error| fault(&error))? else {
            return Ok(None);
        };
        let number = u32::from_be_bytes(
            number[..].try_into().map_err(|_| Fault("the topic's entry in the store is no number".into()))?,
        );
        let state = |what| base.named(&meta::of_topic(what, number, ""));
        let topic = state(meta::TOPIC).map_err(|error| fault(&error))?;
        let named = |what| {
            let prefix = meta::of_topic(what, number, "");
            let mut items = Vec::new();
            let read = base.all_named(&prefix, |key, value| {
                let name = key.strip_prefix(&prefix[..]).map(String::from_utf8_lossy);
                items.extend(name.as_deref().map(|name| (Box::<str>::from(name), Box::<[u8]>::from(value))));
                name.is_some()
            });
            read.map(|()| items).map_err(|error| fault(&error))
        };
        let subscriptions = named(meta::SUBSCRIPTION)?;
        let sequences = named(meta::SEQUENCE)?;
        let sequences = sequences
            .into_iter()
            .filter_map(|(name, value)| Some((name, i64::from_be_bytes(value[..].try_into().ok()?))))
            .collect();
        let bounds = [Position::FIRST, Position::END].map(|position| message_key(number, position));
        let last =
            walk::last((&all, &base.messages), &bounds[0], &bounds[1]).map_err(|error| fault(&error))?;
        let last = last.and_then(|(key, record)| Stored::read(position_of(&key)?, &record));
        Ok(Some(Loaded {
            number,
            topic: topic.map(|topic| Box::from(&topic[..])),
            subscriptions,
            sequences,
            last: last.map(Arc::new),
        }))
    }

    fn create(&mut self, name: &str) -> Result<Number, Fault> {
        let base = self.base()?;
        let next = base.named(meta::NEXT).map_err(|error| fault(&error))?;
        let number = next.map_or(Some((self.owner.index() + self.owner.of()) as u32), |next| {
            next[..].try_into().ok().map(u32::from_be_bytes)
        });
        let number = number.ok_or_else(|| Fault("the store's count of topics is no number".into()))?;
        let next = number
            .checked_add(self.owner.of() as u32)
            .ok_or_else(|| Fault("there are too many topics".into()))?;
        // Before the name, so that no crash in between gives a number twice.
        self.write(Part::Named, meta::NEXT, Some(&next.to_be_bytes()))?;
        self.write(Part::Named, &meta::of_name(name), Some(&number.to_be_bytes()))?;
        self.wants_commit = true;
        Ok(number)
    }

    fn delete(&mut self, topic: Number) -> Result<(), Fault> {
        self.trim(topic, Position::END)?;
        while self.trim_delayed(topic, (u64::MAX, Position::END), 2000)? > 0 {}
        let base = self.base()?;
        let mut keys: Vec<Vec<u8>> = vec![meta::of_topic(meta::TOPIC, topic, "")];
        for what in [meta::SUBSCRIPTION, meta::SEQUENCE] {
            let prefix = meta::of_topic(what, topic, "");
            let read = base.all_named(&prefix, |key, _| {
                let is_one = key.starts_with(&prefix);
                keys.extend(is_one.then(|| key.to_vec()));
                is_one
            });
            read.map_err(|error| fault(&error))?;
        }
        let read = base.all_named(&meta::of_name(""), |key, value| {
            keys.extend((value == topic.to_be_bytes()).then(|| key.to_vec()));
            key[0] == meta::NAME
        });
        read.map_err(|error| fault(&error))?;
        keys.iter().try_for_each(|key| self.write(Part::Named, key, None))?;
        self.wants_commit = true;
        Ok(())
    }

    fn names(&mut self, prefix: &str, after: &str, count: usize) -> Result<Vec<Box<str>>, Fault> {
        let base = self.base()?;
        let prefix = meta::of_name(prefix);
        let after = meta::of_name(after);
        let (from, skips) = if after >= prefix { (&after, true) } else { (&prefix, false) };
        let mut names = Vec::new();
        let read = base.all_named(from, |key, _| {
            let is_one = key.starts_with(&prefix) && names.len() < count;
            if is_one && !(skips && key == &after[..]) {
                names.push(String::from_utf8_lossy(&key[1..]).into());
            }
            is_one
        });
        read.map_err(|error| fault(&error))?;
        Ok(names)
    }

    fn append(&mut self, topic: Number, message: &Stored, deliver_ms: Option<u64>) -> Result<(), Fault> {
        if let Some(reason) = self.health.refusal() {
            return Err(Fault(reason.into()));
        }
        if let Some(deliver_ms) = deliver_ms {
            let key = delayed_key(topic, (deliver_ms, message.position));
            self.write(Part::Delayed, &key, Some(message.record()))?;
        }
        let key = message_key(topic, message.position);
        self.write(Part::Messages, &key, Some(message.record()))?;
        self.appended += 1;
        self.metrics.store.messages.add(1);
        self.metrics.store.bytes.add(message.len() as u64);
        Ok(())
    }

    fn read(
        &mut self,
        topic: Number,
        from: Position,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Stored>>, Fault> {
        let from = from.max(self.trimmed.get(&topic).copied().unwrap_or(Position::FIRST));
        let Some(base) = &self.base else { return self.base().map(|_| Vec::new()) };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let all = base.snapshot();
        if count > 0 {
            let source = (&all, &base.messages);
            let of_disk = self.reader.messages(source, topic, from, &self.metrics, |message| {
                bytes += message.len();
                messages.push(Arc::new(message));
                messages.len() < count && bytes < bytes_max
            });
            self.doubt(of_disk)?;
        }
        Ok(messages)
    }

    fn trim(&mut self, topic: Number, below: Position) -> Result<(), Fault> {
        let from = self.trimmed.get(&topic).copied().unwrap_or(Position::FIRST);
        let base = self.base()?;
        let bounds = [from, below].map(|position| message_key(topic, position));
        let keys = walk::keys((&base.snapshot(), &base.messages), &bounds[0], &bounds[1], usize::MAX)
            .map_err(|error| fault(&error))?;
        keys.iter().try_for_each(|key| self.write(Part::Messages, key, None))?;
        self.trimmed.insert(topic, below.max(from));
        Ok(())
    }

    fn delayed(
        &mut self,
        topic: Number,
        from: (u64, Position),
        until_ms: u64,
        count: usize,
    ) -> Result<Vec<(u64, Arc<Stored>)>, Fault> {
        let Some(base) = &self.base else { return self.base().map(|_| Vec::new()) };
        let bounds = [from, (until_ms, Position::FIRST)].map(|place| delayed_key(topic, place));
        let (mut messages, mut damaged) = (Vec::new(), false);
        let all = base.snapshot();
        let of_disk = walk::records((&all, &base.delayed), &bounds[0], &bounds[1], |found| {
            match found
                .and_then(|(key, record)| Some((time_of(key)?, Stored::read(position_of(key)?, record)?)))
            {
                Some((time, message)) => messages.push((time, Arc::new(message))),
                None => damaged = true,
            }
            messages.len() < count
        });
        self.doubt(of_disk)?;
        if damaged {
            self.reader.report(topic, from.1, "among those that wait for their time", &self.metrics);
        }
        Ok(messages)
    }

    fn trim_delayed(&mut self, topic: Number, below: (u64, Position), count: usize) -> Result<usize, Fault> {
        let base = self.base()?;
        let bounds = [(0, Position::FIRST), below].map(|place| delayed_key(topic, place));
        let keys = walk::keys((&base.snapshot(), &base.delayed), &bounds[0], &bounds[1], count)
            .map_err(|error| fault(&error))?;
        keys.iter().try_for_each(|key| self.write(Part::Delayed, key, None))?;
        Ok(keys.len())
    }

    fn save(&mut self, topic: Number, saved: Saved<'_>) -> Result<(), Fault> {
        let key = match saved {
            Saved::Topic(_) => meta::of_topic(meta::TOPIC, topic, ""),
            Saved::Subscription(name, _) | Saved::NoSubscription(name) => {
                meta::of_topic(meta::SUBSCRIPTION, topic, name)
            }
            Saved::Sequence(name, _) | Saved::NoSequence(name) => meta::of_topic(meta::SEQUENCE, topic, name),
        };
        match saved {
            Saved::Topic(state) | Saved::Subscription(_, state) => self.write(Part::Named, &key, Some(state)),
            Saved::Sequence(_, number) => self.write(Part::Named, &key, Some(&number.to_be_bytes())),
            Saved::NoSubscription(_) | Saved::NoSequence(_) => self.write(Part::Named, &key, None),
        }
    }
}
