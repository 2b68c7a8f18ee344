//! From the table `[feed.amqp]` to what the RabbitMQ feed needs: reads the files that it names.

use super::certificates::certificates;
use super::paths;
use crate::feed::amqp::{Broker, Settings};
use crate::io::Bus;
use crate::trust;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// What the feed needs; nothing when there is to be none.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn bus(settings: &Settings) -> Result<Option<Bus>, String> {
    let in_file = settings.url_file.as_deref().map(|path| read(path, "feed.amqp.url_file")).transpose()?;
    let Some(text) = settings.url.as_ref().map(|url| url.0.clone()).or(in_file) else { return Ok(None) };
    let broker = Broker::read(&text).map_err(|problem| match &settings.url_file {
        Some(path) => format!("feed.amqp.url_file: {}: {problem}", path.display()),
        None => format!("feed.amqp.url: {problem}"),
    })?;
    let trust = match (broker.is_encrypted(), settings.ca_file.as_deref()) {
        (false, None) => None,
        (false, Some(_)) => {
            return Err(
                "feed.amqp.ca_file is of use with TLS only: write amqps:// in the url, or leave it out"
                    .into(),
            );
        }
        (true, ca_file) => Some(trust(ca_file)?),
    };
    Ok(Some(Bus { broker, settings: settings.clone(), trust }))
}

fn read(path: &Path, key: &str) -> Result<String, String> {
    let bytes = paths::read_small(path, key).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| format!("{key}: {} is not UTF-8 text", path.display()))
}

/// Trusts who is named in a file, and nobody else; without it, whom the system trusts.
fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    if let Some(path) = ca_file {
        let named = certificates(path, "feed.amqp.ca_file")?;
        let unusable = |error| format!("feed.amqp.ca_file: {}: {error}", path.display());
        return trust::named(named).map(Arc::new).map_err(unusable);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("feed.amqp: this system trusts nobody: install ca-certificates, or set ca_file".into());
    }
    trust::signed_by(roots).map(Arc::new).map_err(|error| format!("feed.amqp: no TLS: {error}"))
}
