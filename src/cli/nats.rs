//! From the table `[cluster]` to what the cluster needs: reads the files that it names.

use super::{bus, certificates, paths};
use crate::cluster::{ClusterSettings, NatsServers, NodeName};
use crate::io::Nats;
use crate::setting::Secret;
use crate::trust;
use rustls::ClientConfig;
use std::sync::Arc;

/// The engine of the cluster, and this node.
///
/// # Errors
/// What is wrong with a file or name.
pub(super) fn nats(settings: &ClusterSettings) -> Result<Nats, String> {
    let found = bus::url("cluster", settings.url.as_ref(), settings.url_file.as_deref())?;
    let (key, text) = found.ok_or("cluster: no NATS servers")?;
    let servers = NatsServers::read(&text).map_err(|problem| format!("{key}: {problem}"))?;
    let trust = trust(settings, &servers)?;

    let credentials = settings.credentials_file.as_deref().map(|path| {
        paths::read_text(path, "cluster.credentials_file").map_err(|error| error.to_string())
    });
    let credentials = credentials.transpose()?.map(Secret);
    if credentials.is_some() && servers.login().is_some() {
        return Err(
            "cluster: credentials_file and a user in the URL are both given: keep one".into()
        );
    }
    let node = node(settings)?;
    Ok(Nats { servers, trust, credentials, node, settings: settings.clone() })
}

fn trust(
    settings: &ClusterSettings,
    servers: &NatsServers,
) -> Result<Option<Arc<ClientConfig>>, String> {
    let ca_file = settings.ca_file.as_deref();
    let trust = bus::trust("cluster", "tls", servers.is_encrypted(), ca_file)?;
    let (Some(certificate), Some(key_file)) = (&settings.certificate, &settings.key) else {
        return Ok(trust);
    };
    let Some(config) = trust else {
        return Err("cluster.certificate is of use with TLS only: write tls:// in the url, or \
                    leave it out"
            .into());
    };

    let chain = certificates::certificates(certificate, "cluster.certificate")?;
    let key = certificates::private_key(key_file, "cluster.key")?;
    let config = trust::presenting(ClientConfig::clone(&config), chain, key);
    let config = config.map_err(|error| {
        format!(
            "cluster.key: {} cannot be used with the certificate in {}: {error}",
            key_file.display(),
            certificate.display()
        )
    })?;
    Ok(Some(Arc::new(config)))
}

/// The name of this node.
fn node(settings: &ClusterSettings) -> Result<NodeName, String> {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let name = match &settings.node {
        Some(name) => name,
        // Subjects are divided by dots, and the first part of a host's name tells it from others.
        None => host.split('.').next().unwrap_or_default(),
    };
    NodeName::new(name).ok_or_else(|| {
        format!("cluster: this host's name, {host:?}, cannot be a node's: set cluster.node")
    })
}
