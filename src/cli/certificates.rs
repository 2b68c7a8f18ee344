//! From the files that a listener names to what its handshakes are made with, and the certificate
//! that a development set-up makes for itself.

use super::{CliError, paths};
use crate::config::{ClientCertificate, ListenTable, TlsTable};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{Error, RootCertStore, ServerConfig};
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::der::Decode as _;

/// The protocol that clients may ask for by name; there is no other way to a WebSocket here.
const ALPN: &[u8] = b"http/1.1";
/// When the end of a certificate is near enough to be mentioned: renewal by ACME, 30 days before,
/// has failed for two weeks then.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The private key of the certificate that a development set-up makes.
pub(super) const KEY_FILE: &str = "tls.key.pem";

/// What a listener speaks TLS with.
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate ends (unix time, s), if it says so.
    pub(super) expiry_s: Option<u64>,
    /// That the certificate has expired, or soon will.
    pub(super) note: Option<String>,
}

/// Reads the files of a listener.
///
/// # Errors
/// Says which file is wrong, and what to do.
pub(super) fn identity(listen: &ListenTable, tls: &TlsTable) -> Result<Identity, String> {
    let place = format!("[[listen]] {}: tls", listen.address);
    let chain = certificates(&tls.certificate, &format!("{place}.certificate"))?;
    let key = private_key(&tls.key, &format!("{place}.key"))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = tls
        .client_ca
        .as_deref()
        .map(|path| {
            verifier(path, tls.client_certificate, &provider, &format!("{place}.client_ca"))
        })
        .transpose()?;
    let end = chain.first().and_then(expiry);
    // A note and no problem: a daemon with an expired certificate still serves its other listeners.
    let note = end.and_then(|end| note(end, &tls.certificate, &place));
    let config = config(chain, key, verifier, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => format!(
            "{place}.key: {} is not the key of the certificate in {}: give the key that the \
             certificate was requested with",
            tls.key.display(),
            tls.certificate.display()
        ),
        error => format!("{place}: {} cannot be used: {error}", tls.certificate.display()),
    })?;
    Ok(Identity { config: Arc::new(config), expiry_s: end.map(|end| end.as_secs()), note })
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, Error> {
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Sessions are resumed with tickets, which clients keep, so that nothing is kept here. The
    // tickets' key is new with each reload: a client that was once let in is looked at again.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn verifier(
    path: &Path,
    wanted: Option<ClientCertificate>,
    provider: &Arc<CryptoProvider>,
    place: &str,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let unusable = |error: &dyn Display| {
        format!(
            "{place}: {} cannot be trusted: {error}; give the certificate of a CA",
            path.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, place)? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
    let builder = match wanted {
        None | Some(ClientCertificate::Required) => builder,
        // A certificate that is shown still has to be good.
        Some(ClientCertificate::Optional) => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| unusable(&error))
}

/// The certificates in a file, at least one.
pub(super) fn certificates(
    path: &Path,
    place: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = paths::read_small(path, place).map_err(|error| error.to_string())?;
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!(
            "{place}: {} holds no certificate: it must be PEM, with -----BEGIN CERTIFICATE-----",
            path.display()
        )),
        Err(error) => Err(format!("{place}: {} is damaged: {error}", path.display())),
    }
}

/// Checks that an authority has signed the first of these certificates, by way of the others.
///
/// # Errors
/// Why none has.
pub(super) fn signed(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
) -> Result<(), Error> {
    let Some((first, between)) = chain.split_first() else { return Ok(()) };
    let algorithms = ring::default_provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(first)?,
        roots,
        between,
        UnixTime::now(),
        algorithms.all,
    )
}

/// The private key in a file.
pub(super) fn private_key(path: &Path, place: &str) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = paths::read_small(path, place).map_err(|error| error.to_string())?;
    let shown = path.display();
    // A daemon that starts by itself cannot ask for a passphrase.
    if String::from_utf8_lossy(&bytes).contains("-----BEGIN ENCRYPTED") {
        return Err(format!(
            "{place}: {shown} is encrypted: decrypt it with `openssl pkey -in {shown}`"
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!(
                "{place}: {shown} holds no private key: it must be PEM, with -----BEGIN \
                 PRIVATE KEY-----"
            )
        }
        error => format!("{place}: {shown} is damaged: {error}"),
    })
}

/// When a certificate ends, since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_unix_duration())
}

fn note(end: Duration, path: &Path, place: &str) -> Option<String> {
    const DAY_S: u64 = 24 * 3600;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let says = if end < now {
        format!("expired {} days ago, and clients refuse it", (now - end).as_secs() / DAY_S)
    } else if end < now + SOON {
        format!("expires in {} days", (end - now).as_secs() / DAY_S)
    } else {
        return None;
    };
    Some(format!("{place}.certificate: {} {says}: renew it, and reload", path.display()))
}

/// A certificate for this machine's own names, and its key, made in `directory` if they are not
/// there. It has no end: its key is readable by its owner alone.
pub(crate) fn self_signed(directory: &Path) -> Result<(PathBuf, PathBuf), CliError> {
    let (certificate, key) = (directory.join("tls.cert.pem"), directory.join(KEY_FILE));
    // One without the other is of no use.
    if !certificate.exists() || !key.exists() {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|error| CliError::new(format!("no certificate could be made: {error}")))?;
        write(&key, 0o600, &made.signing_key.serialize_pem())?;
        write(&certificate, 0o644, &made.cert.pem())?;
    }
    Ok((certificate, key))
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| CliError::new(format!("cannot write {}: {error}", path.display())))
}
