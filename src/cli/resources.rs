//! What the system lets the process have: descriptors, and how large its files may become.

use crate::config::Config;
use crate::dialect::Kind;
use crate::io::ADMIN_CONNECTIONS_MAX;
use crate::io::store::DESCRIPTORS_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of the process itself: standard streams, log, signals, files that a reload reads,
/// lookups of names.
const KEPT: usize = 40;
/// Those of a shard beside its listeners: its ring or epoll, its set of sockets, what wakes it.
const KEPT_PER_SHARD: usize = 10;
/// Those for publishers of the unix feed, two each; more take what clients leave.
const KEPT_FOR_FEED: usize = 20;
/// Those of the store beside its logs: its lock, a backup.
const KEPT_FOR_STORE: usize = 16;
/// The most clients whom descriptors may keep away from a daemon that starts: fewer are no service.
pub(super) const CLIENTS_MIN: usize = 16;
/// Bytes that files of the store must be able to have: a segment is as long as that only with a
/// message that is longer than any that is taken.
const STORE_FILE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// Descriptors that are not for clients.
pub(super) fn descriptors_kept(config: &Config, shards: usize) -> usize {
    let admin = config.admin.as_ref().map_or(0, |_| ADMIN_CONNECTIONS_MAX);
    let feed = config.feed.unix.path.as_ref().map_or(0, |_| KEPT_FOR_FEED);
    // Each writer has a log of its own.
    let logs = config.store.writers * DESCRIPTORS_MAX;
    let store = if needs_store(config) { KEPT_FOR_STORE + logs } else { 0 };
    KEPT + shards * (KEPT_PER_SHARD + config.listen.len()) + admin + feed + store
}

/// What of the system's limits keeps a daemon from running, each with what to do.
pub(super) fn problems(config: &Config, shards: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let (descriptors, kept) = (descriptor_limit(), descriptors_kept(config, shards));
    if descriptors < kept + CLIENTS_MIN {
        problems.push(format!(
            "{descriptors} descriptors are too few (RLIMIT_NOFILE): {kept} are needed before the \
             first client: set LimitNOFILE= of the service, `ulimit -n` of the shell or --ulimit \
             nofile= of the container to the number of clients and {kept} more"
        ));
    }
    // Usually there is no such limit.
    if let Some(bytes) = raise(Resource::Fsize)
        && bytes < STORE_FILE_BYTES_MIN
        && needs_store(config)
    {
        problems.push(format!(
            "files may have {bytes} bytes here (RLIMIT_FSIZE), those of the store need \
             {STORE_FILE_BYTES_MIN}: set LimitFSIZE=infinity of the service, or `ulimit -f \
             unlimited`"
        ));
    }
    problems
}

/// What of the system's limits will be met one day.
pub(super) fn note() -> Option<String> {
    let bytes = raise(Resource::Fsize)?;
    Some(format!(
        "files may have {bytes} bytes here (RLIMIT_FSIZE): a log in a file ends there, and so \
         does a store: set LimitFSIZE=infinity of the service, or `ulimit -f unlimited`"
    ))
}

/// How many descriptors there may be, when the limit is raised as far as it can be.
pub(crate) fn descriptor_limit() -> usize {
    raise(Resource::Nofile).map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn needs_store(config: &Config) -> bool {
    let mut dialects = config.listen.iter().flat_map(|listen| &listen.dialects);
    dialects.any(|name| Kind::named(name).is_some_and(Kind::has_topics))
}

/// Raises a limit as far as allowed; returns what it is then, if there is one.
fn raise(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    // A sandbox may refuse it; what the limit is then is read below.
    let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(resource).current
}
