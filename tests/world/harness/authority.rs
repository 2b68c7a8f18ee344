//! Certificates for tests: an authority, what it signs, and clients that trust it.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;

/// Whoever signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Signed {
    /// Puts it where a daemon in this directory looks.
    pub(crate) fn install(&self, directory: &Path) {
        std::fs::write(directory.join("cert.pem"), &self.certificate).unwrap();
        std::fs::write(directory.join("key.pem"), &self.key).unwrap();
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        // One that is called like what it signs would look self-signed to OpenSSL.
        params.distinguished_name.push(DnType::CommonName, "the authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `localhost`.
    pub(crate) fn sign(&self) -> Signed {
        self.sign_until(4000)
    }

    /// The same, good until a year.
    pub(crate) fn sign_until(&self, year: i32) -> Signed {
        self.sign_for(["localhost".into(), "127.0.0.1".into()], year)
    }

    /// A certificate for these names and addresses.
    pub(crate) fn sign_for(&self, names: impl Into<Vec<String>>, year: i32) -> Signed {
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    /// A client that trusts it, speaks either version and has no certificate.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(&[&TLS12, &TLS13], None)
    }

    /// A client with other wishes.
    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Signed>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.pem)).unwrap();
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(
                    vec![certificate(&own.certificate)],
                    PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        })
    }
}

/// What stands in PEM.
pub(crate) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
