//! The certificates that our own TLS clients trust: those of named servers, and what named
//! authorities have signed.
//!
//! `openssl req -x509` makes a certificate that is both an authority's and the server's own, while
//! X.509 lets no authority be a server (RFC 5280 section 4.2.1.9). Naming such a certificate means
//! that server, so a named certificate is trusted as it is, if it matches the server's name and has
//! not expired.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::sync::Arc;
use x509_cert::der::Decode as _;

/// TLS with servers that present one of these certificates, or one signed by them.
///
/// # Errors
/// When the list is empty, or a certificate cannot be read.
pub fn named(named: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in &named {
        roots.add(certificate.clone())?;
    }

    let provider = Arc::new(ring::default_provider());
    let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    verified_by(Believed::Named { named, signed })
}

/// TLS with any server: its certificate is not checked, only that it has signed the handshake.
///
/// # Errors
/// When TLS is not available at all.
pub fn anybody() -> Result<ClientConfig, Error> {
    verified_by(Believed::Anybody)
}

fn verified_by(believed: Believed) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = ServerVerifier { believed, provider: Arc::clone(&provider) };
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    // rustls calls any custom verifier dangerous.
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

/// TLS with servers whose certificate one of these authorities has signed.
///
/// # Errors
/// When TLS is not available at all.
pub fn signed_by(authorities: RootCertStore) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(authorities).with_no_client_auth())
}

/// The same, presenting a certificate to servers that ask for one.
///
/// # Errors
/// When the key is not the certificate's.
pub fn presenting(
    mut config: ClientConfig,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let identity = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
    Ok(config)
}

#[derive(Debug)]
struct ServerVerifier {
    believed: Believed,
    provider: Arc<CryptoProvider>,
}

/// The certificates that are trusted.
#[derive(Debug)]
enum Believed {
    /// These, and those signed by them.
    Named { named: Vec<CertificateDer<'static>>, signed: Arc<WebPkiServerVerifier> },
    /// Every server's.
    Anybody,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Believed::Named { named, signed } = &self.believed else {
            return Ok(ServerCertVerified::assertion());
        };
        // webpki refuses an authority's certificate as a server's, even one that is named; only
        // that case is decided below.
        if !named.contains(certificate) {
            return signed.verify_server_cert(certificate, between, name, ocsp, now);
        }

        // A named certificate needs no signature, but it does need the other checks of webpki.
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        let read = x509_cert::Certificate::from_der(certificate);
        let validity = read.map_err(|_| CertificateError::BadEncoding)?.tbs_certificate.validity;

        let now_s = now.as_secs();
        if now_s < validity.not_before.to_unix_duration().as_secs() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now_s > validity.not_after.to_unix_duration().as_secs() {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use std::time::Duration;

    /// A certificate for `localhost` that is an authority's too, good from 2020 to 2030.
    fn both() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn an_authority_that_is_named_may_be_the_server_for_its_own_name_and_time_alone() {
        const YEAR_S: u64 = 31_557_600;
        let named = both();
        let verifier = |named: Vec<CertificateDer<'static>>| {
            let mut roots = RootCertStore::empty();
            named.iter().for_each(|certificate| roots.add(certificate.clone()).unwrap());
            let provider = Arc::new(ring::default_provider());
            let signed =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let believed = Believed::Named { named, signed: signed.build().unwrap() };
            ServerVerifier { believed, provider }
        };
        let verify = |certificate: &CertificateDer<'_>, name: &'static str, year: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(
                (year - 1970) * YEAR_S + YEAR_S / 2,
            ));
            let name = ServerName::try_from(name).unwrap();
            verifier(vec![named.clone()]).verify_server_cert(certificate, &[], &name, &[], now)
        };
        assert!(verify(&named, "localhost", 2026).is_ok());
        assert!(verify(&named, "elsewhere", 2026).is_err());
        assert_eq!(
            verify(&named, "localhost", 2019).unwrap_err(),
            CertificateError::NotValidYet.into()
        );
        assert_eq!(
            verify(&named, "localhost", 2031).unwrap_err(),
            CertificateError::Expired.into()
        );
        assert!(verify(&both(), "localhost", 2026).is_err());
        assert!(super::named(Vec::new()).is_err());
    }
}
