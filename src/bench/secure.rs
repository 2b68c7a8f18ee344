//! TLS of a subscriber. The generator's own time is not measured, so the simplest way of rustls does.

use super::error::BenchError;
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Room that a record's plaintext needs at most.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// How to speak with a daemon that has the certificate in a file. Every handshake is a whole one, as those of
/// clients that come for the first time.
pub(super) fn config(certificate: &Path) -> Result<Arc<ClientConfig>, BenchError> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(|error| failed(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| failed(&error))?;
    let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// One subscriber's.
#[derive(Debug)]
pub(super) struct Secure(Box<ClientConnection>);

impl Secure {
    /// Says nothing yet.
    pub(super) fn new(config: &Arc<ClientConfig>) -> Result<Self, BenchError> {
        let name = ServerName::try_from("localhost").map_err(|error| failed(&error))?;
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(|error| failed(&error))?;
        Ok(Self(Box::new(connection)))
    }

    /// Sends what is small enough to leave at once, after the handshake if that is not over. What the socket
    /// refuses leaves with the next call.
    pub(super) fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> Result<(), BenchError> {
        self.0.writer().write_all(bytes).map_err(|error| failed(&error))?;
        while self.0.wants_write() {
            match self.0.write_tls(&mut SocketIo(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(BenchError::NotRead);
                }
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// Reads plaintext into `scratch`, if the socket has anything. Returns how much, and whether `scratch` was too
    /// short for all of it.
    pub(super) fn read(
        &mut self,
        socket: &OwnedFd,
        scratch: &mut [u8],
    ) -> Result<Option<(usize, bool)>, BenchError> {
        let mut length = 0;
        while scratch.len() - length >= RECORD_BYTES_MAX {
            match self.0.read_tls(&mut SocketIo(socket)) {
                Ok(0) => {
                    return Err(BenchError::Closed {
                        how: "the connection ended without a close frame".into(),
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok((length > 0).then_some((length, false)));
                }
                Err(error) => return Err(broken(&error)),
            }
            self.0.process_new_packets().map_err(|error| failed(&error))?;
            self.send(socket, &[])?;
            while let Ok(more @ 1..) = self.0.reader().read(&mut scratch[length..]) {
                length += more;
            }
        }
        Ok(Some((length, true)))
    }
}

/// A socket that is not waited for.
struct SocketIo<'a>(&'a OwnedFd);

impl Read for SocketIo<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, bytes, RecvFlags::DONTWAIT)?.1)
    }
}

impl Write for SocketIo<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: &dyn Display) -> BenchError {
    BenchError::Tls { reason: error.to_string() }
}

fn broken(error: &io::Error) -> BenchError {
    BenchError::Closed { how: format!("the connection broke: {error}") }
}
