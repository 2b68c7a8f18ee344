//! Whom a client believes to be the daemon, over TLS.

use super::{CliError, certificates};
use crate::trust;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::io;
use std::path::{Path, PathBuf};
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

    /// How to speak TLS with whoever is trusted.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, CliError> {
        let failed = |error| CliError::new(format!("TLS is not possible: {error}"));
        let config = match self {
            Self::Machine => trust::signed_by(machine()?).map_err(failed)?,
            Self::File(path) => {
                let named = certificates::certificates(path, "--ca").map_err(CliError::new)?;
                trust::named(named).map_err(|error| unusable(path, &error))?
            }
            Self::Anybody => {
                let provider = Arc::new(ring::default_provider());
                ClientConfig::builder_with_provider(Arc::clone(&provider))
                    .with_safe_default_protocol_versions()
                    .map_err(failed)?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                    .with_no_client_auth()
            }
        };
        Ok(Arc::new(config))
    }

    /// What to do about a handshake that failed, after the peer had begun to speak TLS or before.
    pub(super) fn advice(&self, error: &io::Error, has_begun: bool) -> &'static str {
        let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        match error {
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => match self {
                Self::File(_) => "its certificate is not one of --ca, nor signed by one",
                _ => {
                    "nobody whom this machine trusts has signed its certificate: give the signer's, or its own, \
                      with --ca FILE"
                }
            },
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => "its certificate is for other names: use one of them in the URL",
            Some(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => "its certificate has expired: renew it there",
            Some(Error::InvalidMessage(_)) => "is it a listener with TLS? use ws:// to one without",
            // Whoever asks for a certificate has greeted first, and fanfare refuses TLS in TLS's own words.
            Some(Error::AlertReceived(_)) if !has_begun => {
                "it refused TLS at once, as a listener without TLS does: use ws:// there"
            }
            Some(Error::AlertReceived(_)) => {
                "it refused the handshake; its listener may ask for a certificate of \
                                              the client, and this command has none"
            }
            _ => "is the port right?",
        }
    }
}

/// Whom this machine trusts.
fn machine() -> Result<RootCertStore, CliError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(CliError::new(
            "this machine trusts nobody: install its certificates (Debian: ca-certificates), or give the daemon's \
             with --ca FILE",
        ));
    }
    Ok(roots)
}

fn unusable(path: &Path, error: &Error) -> CliError {
    CliError::new(format!("--ca: {} cannot be trusted: {error}", path.display()))
}

/// Believes every certificate; only that its owner has signed the handshake is still looked at.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
