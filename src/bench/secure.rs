//! TLS of a subscriber. The generator's own time is not measured, so the simplest way of rustls
//! does.

use super::error::no_tls;
use crate::cli::CliError;
use crate::trust;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// Room that a record's plaintext needs at most.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// How to speak with a daemon that has the certificate in a file. Every handshake is a whole one,
/// as those of clients that come for the first time.
pub(super) fn config(certificate: &Path) -> Result<Arc<ClientConfig>, CliError> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(no_tls)?;
    let mut config = trust::named(vec![certificate]).map_err(no_tls)?;
    // A resumed session would spare the daemon what is measured.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// One subscriber's.
#[derive(Debug)]
pub(super) struct Secure(Box<ClientConnection>);

impl Secure {
    /// Says nothing yet.
    pub(super) fn new(config: &Arc<ClientConfig>) -> Result<Self, CliError> {
        let name = ServerName::try_from("localhost").map_err(no_tls)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(no_tls)?;
        Ok(Self(Box::new(connection)))
    }

    /// Sends what is small enough to leave at once, after the handshake if that is not over. What
    /// the socket refuses leaves with the next call.
    pub(super) fn send(&mut self, mut socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        self.0.writer().write_all(bytes)?;
        while self.0.wants_write() {
            self.0.write_tls(&mut socket)?;
        }
        Ok(())
    }

    /// Reads plaintext into `scratch`, if the socket has anything. Returns how much, 0 at the end
    /// of the connection, and whether `scratch` was too short for all of it.
    pub(super) fn read(
        &mut self,
        mut socket: &TcpStream,
        scratch: &mut [u8],
    ) -> io::Result<(usize, bool)> {
        let mut length = 0;
        while scratch.len() - length >= RECORD_BYTES_MAX {
            match self.0.read_tls(&mut socket) {
                Ok(0) => return Ok((0, false)),
                Ok(_) => {}
                // What came before is handed out first; the next read finds the socket empty again.
                Err(error) if error.kind() == ErrorKind::WouldBlock && length > 0 => {
                    return Ok((length, false));
                }
                Err(error) => return Err(error),
            }

            self.0.process_new_packets().map_err(|error| io::Error::other(no_tls(error)))?;
            self.send(socket, &[])?;
            while let Ok(more @ 1..) = self.0.reader().read(&mut scratch[length..]) {
                length += more;
            }
        }
        Ok((length, true))
    }
}
