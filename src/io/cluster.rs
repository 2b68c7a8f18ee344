//! The thread that carries between this node and the others, over NATS.
//!
//! Everything decided is decided by a value, [`Cluster`](crate::cluster::Cluster), which this
//! thread drives: `engine` has the connection, `server_choice` the server that is next, `search` when
//! it is time for another, `outbound` what leaves the node, `inbound` what has arrived and waits
//! for room, `journal` the streams of JetStream, `isolation` what becomes of sessions while there
//! are no others, `farewell` the end, `node` the turn, `arrival` the way from a message to the
//! shards, and `handle` what other threads see of it all; `probe` connects once, for a command. Without `[cluster]` there is no such
//! thread.

mod arrival;
mod engine;
mod farewell;
mod handle;
mod inbound;
mod isolation;
mod journal;
mod journal_fault;
mod node;
mod outbound;
mod place;
mod probe;
mod search;
#[cfg(test)]
mod seeds;
mod server_choice;

pub(super) use self::handle::ClusterHandle;
pub use self::place::Nats;
pub use self::probe::probe_nats;

use self::node::ClusterNode;
use super::gaps::GapSource;
use super::{Hub, lookups};
use crate::cluster::NodeId;
use std::io;
use std::sync::Arc;

/// Most threads that look up the servers' names. Each may block for as long as the resolver.
const LOOKUPS_MAX: usize = 4;

/// Starts the thread if there is to be one.
///
/// # Errors
/// When no thread can be started, or the credentials cannot be read.
pub(super) fn start(hub: &Arc<Hub>, nats: Option<Nats>) -> io::Result<()> {
    let (Some(handle), Some(nats)) = (hub.cluster.clone(), nats) else { return Ok(()) };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let me = NodeId { name: nats.node.clone(), incarnation: u64::from_le_bytes(random) };

    let reason = format!("no cluster at {}: connecting", nats.servers);
    hub.gaps.begin(GapSource::Cluster, &hub.spoken, &reason);
    let runtime = lookups::runtime(LOOKUPS_MAX)?;
    // Here, so that what is wrong with the credentials stops the start.
    let node = ClusterNode::start(Arc::clone(hub), Arc::clone(&handle), &nats, me);
    let node = runtime.block_on(node)?;
    let for_thread = Arc::clone(hub);
    std::thread::Builder::new().name("cluster".into()).spawn(move || {
        runtime.block_on(node.run());
        handle.end();
        for_thread.pulses.cluster.end();
        // The resolver may block for a minute, and a stop does not wait for it.
        runtime.shutdown_background();
    })?;
    Ok(())
}
