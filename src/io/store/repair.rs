//! Opening a store again after it could not be written, and making anew what a bad disk has damaged.
//!
//! A damaged block of a table is no matter for reading, which goes around it. But fjall merges tables from time to
//! time, fails at that block, and writes nothing more. Then the keyspace is copied without what cannot be read.

use super::backup::{copy_named, copy_records};
use super::base::{self, Base, Part, describe};
use super::settings::Settings;
use super::{format, journal, tables};
use fjall::{Keyspace, PersistMode, UserKey, UserValue};
use std::path::Path;
use std::time::Instant;

/// Opens the store again, and writes again what may have got lost. Returns how many tables were damaged.
pub(super) fn reopen(
    directory: &Path,
    settings: &Settings,
    rescued: &[(Part, UserKey, Option<UserValue>)],
    is_damage_likely: bool,
) -> Result<(Base, u64), String> {
    let data = format::data(directory);
    // What can be read may be in memory only, when a sync has failed.
    journal::mend(directory, &data, true).map_err(|error| error.to_string())?;
    // All tables are read for it, which takes its time.
    let damaged = if is_damage_likely { tables::damaged(&data) } else { Vec::new() };
    if !damaged.is_empty() {
        let start = Instant::now();
        let base = Base::open_still(&data, settings).map_err(|error| describe(&error))?;
        let parts = [&base.messages, &base.delayed, &base.meta[0], &base.meta[1]];
        for keyspace in
            parts.into_iter().filter(|part| damaged.iter().any(|table| table.starts_with(part.path())))
        {
            renew(&base, keyspace)?;
            let (keyspace, took_ms) = (&**keyspace.name(), start.elapsed().as_millis() as u64);
            tracing::error!(
                keyspace,
                took_ms,
                "damaged tables of the store ({keyspace}) were written anew in {took_ms} ms without what cannot be read: \
                 the disk may be failing"
            );
        }
    }
    let base = format::open_base(directory, settings).map_err(|error| error.to_string())?;
    for (part, key, value) in rescued {
        base.put(*part, key, value.as_deref()).map_err(|error| describe(&error))?;
    }
    base.db.persist(PersistMode::SyncAll).map_err(|error| describe(&error))?;
    Ok((base, damaged.len() as u64))
}

/// Copies a keyspace as far as it can be read, and puts the copy in its place.
fn renew(base: &Base, keyspace: &Keyspace) -> Result<(), String> {
    let all = base.snapshot();
    let new = base.successor(keyspace).map_err(|error| describe(&error))?;
    let topics = base::topics(base) as u32;
    if base.meta.iter().any(|meta| meta.name() == keyspace.name()) {
        copy_named(&all, base, &new)?;
    } else {
        copy_records((&all, keyspace), &new, topics, keyspace.name() == base.delayed.name())?;
    }
    base.replace(keyspace, &new).map_err(|error| describe(&error))
}
