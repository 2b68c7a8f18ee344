//! Whom a client believes to be the daemon, over TLS.

use super::{CliError, certificates};
use crate::trust;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Whose certificates are good.
#[derive(Debug, PartialEq)]
pub(super) enum Trust {
    /// Those that this machine trusts.
    Machine,
    /// Those in a file, and what they have signed.
    File(PathBuf),
    /// Anybody's.
    Anybody,
}

impl Trust {
    /// As the options say.
    pub(super) fn of(ca: Option<PathBuf>, insecure: bool) -> Result<Self, CliError> {
        match (ca, insecure) {
            (Some(_), true) => Err(CliError::usage("--ca and --insecure exclude each other")),
            (Some(path), false) => Ok(Self::File(path)),
            (None, true) => Ok(Self::Anybody),
            (None, false) => Ok(Self::Machine),
        }
    }

    /// How to speak TLS with a server that is trusted.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, CliError> {
        let config = match self {
            Self::Machine => trust::signed_by(machine_roots().ok_or_else(|| {
                CliError::new(
                    "this machine trusts no authority: install its certificates (Debian: \
                     ca-certificates), or give the daemon's with --ca FILE",
                )
            })?),
            Self::Anybody => trust::anybody(),
            Self::File(path) => {
                let named = certificates::certificates(path, "--ca").map_err(CliError::new)?;
                return trust::named(named).map(Arc::new).map_err(|error| {
                    CliError::new(format!("--ca: {} cannot be trusted: {error}", path.display()))
                });
            }
        };
        config.map(Arc::new).map_err(|error| CliError::new(format!("TLS is not possible: {error}")))
    }

    /// What to do about a handshake that failed, after the peer had begun to speak TLS or before.
    pub(super) fn advice(&self, error: &io::Error, has_begun: bool) -> &'static str {
        let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        match error {
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => match self {
                Self::File(_) => "its certificate is not one of --ca, nor signed by one",
                _ => {
                    "no authority that this machine trusts has signed its certificate: give the \
                     signer's, or its own, with --ca FILE"
                }
            },
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => "its certificate is for other names: use one of them in the URL",
            Some(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => "its certificate has expired: renew it there",
            Some(Error::InvalidMessage(_)) => "is it a listener with TLS? use ws:// to one without",
            // A server that asks for a certificate has greeted first, and fanfare refuses TLS in
            // TLS's own words.
            Some(Error::AlertReceived(_)) if !has_begun => {
                "it refused TLS at once, as a listener without TLS does: use ws:// there"
            }
            Some(Error::AlertReceived(_)) => {
                "it refused the handshake; its listener may ask for a certificate of the \
                 client, and this command has none"
            }
            _ => "is the port right?",
        }
    }
}

/// The authorities that this machine trusts; `None` where there are none.
pub(super) fn machine_roots() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (!roots.is_empty()).then_some(roots)
}
