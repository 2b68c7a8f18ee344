//! Where the other nodes are met, and as whom.

use crate::cluster::{ClusterSettings, NatsServers, NodeName};
use crate::setting::Secret;
use rustls::ClientConfig;
use std::sync::Arc;

/// The engine of the cluster, and this node's name there.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The servers.
    pub servers: NatsServers,
    /// TLS with them, if it is demanded.
    pub trust: Option<Arc<ClientConfig>>,
    /// The text of the file of credentials: a user's JWT and seed.
    pub credentials: Option<Secret>,
    /// This node.
    pub node: NodeName,
    /// The table.
    pub settings: ClusterSettings,
}
