//! NATS servers of our own, for nodes that are measured: one cluster with JetStream, in temporary
//! directories on loopback. Dropping them ends them.

use super::error::failed;
use super::interrupt;
use super::target::free_address;
use crate::cli::CliError;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long servers may take until they listen.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The servers.
pub(super) struct BenchNats {
    children: Vec<Child>,
    addresses: Vec<SocketAddr>,
    _directory: TempDir,
}

impl BenchNats {
    /// Starts so many servers of this program.
    pub(super) fn start(program: &Path, servers: usize) -> Result<Self, CliError> {
        let directory = tempfile::Builder::new().prefix("fanfare-nats-").tempdir();
        let directory = directory.map_err(failed("make a temporary directory"))?;
        let free = || (0..servers).map(|_| free_address()).collect::<Result<Vec<_>, _>>();
        let (addresses, routes) = (free()?, free()?);
        let joined: Vec<String> = routes.iter().map(|route| format!("nats://{route}")).collect();

        let mut children = Vec::new();
        for (number, (address, route)) in addresses.iter().zip(&routes).enumerate() {
            let (file, store) = (format!("{number}.conf"), format!("store-{number}"));
            let file = directory.path().join(file);
            let store = directory.path().join(store);
            let cluster = match servers {
                1 => String::new(),
                _ => format!(
                    "cluster {{ name: bench, listen: \"{route}\", routes: [{}] }}\n",
                    joined.join(", ")
                ),
            };
            let text = format!(
                "server_name: bench-{number}\nlisten: \"{address}\"\nmax_payload: 8MB\njetstream {{ \
                 store_dir: {store:?} }}\n{cluster}"
            );
            fs::write(&file, text).map_err(failed("write the configuration of NATS"))?;
            let mut command = Command::new(program);
            command.arg("-c").arg(&file);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().map_err(failed(
                "start nats-server (give its program with --nats-server FILE; version 2.12 or newer)",
            ))?;
            children.push(child);
        }
        let servers = Self { children, addresses, _directory: directory };
        servers.ready()?;
        Ok(servers)
    }

    /// The URLs for a node, the nearest server first, so that nodes have different ones.
    pub(super) fn url(&self, node: usize) -> String {
        let mut addresses = self.addresses.clone();
        let count = addresses.len();
        addresses.rotate_left(node % count);
        let urls: Vec<String> =
            addresses.iter().map(|address| format!("nats://{address}")).collect();
        urls.join(",")
    }

    fn ready(&self) -> Result<(), CliError> {
        let start = Instant::now();
        for address in &self.addresses {
            while let Err(error) = TcpStream::connect(address) {
                interrupt::check()?;
                if start.elapsed() > READY_WITHIN {
                    return Err(failed("reach nats-server")(error));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

impl Drop for BenchNats {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
