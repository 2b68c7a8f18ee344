//! An HAProxy of a test's own, on loopback, in a temporary directory, that passes bytes on to one daemon. It ends with
//! the thread that started it, however that ends.

use super::broker::{bound, free_ports};
use super::eventually;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use tempfile::TempDir;

/// A proxy.
pub(crate) struct Haproxy {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// All addresses where clients connect, in the order of the configuration.
    pub(crate) addresses: Vec<SocketAddr>,
    directory: TempDir,
    server: Child,
}

impl Haproxy {
    /// A proxy in front of a daemon that takes connections, in this mode and with these words after the server's
    /// address; `None` where HAProxy is not installed.
    pub(crate) fn before(daemon: SocketAddr, mode: &str, words: &str) -> Option<Self> {
        Self::of(&format!(
            "defaults\nmode {mode}\ntimeout connect 5s\ntimeout client 60s\ntimeout server 60s\n\
             timeout tunnel 60s\nfrontend clients\nbind :443\ndefault_backend daemon\nbackend daemon\n\
             server daemon {daemon} {words}\n"
        ))
    }

    /// A proxy with this configuration. Each port that it binds is replaced by a free one of loopback.
    pub(crate) fn of(configuration: &str) -> Option<Self> {
        // Debian has it where only root looks.
        let path = std::env::var_os("PATH")?;
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) =
            places.map(|place| place.join("haproxy")).find(|program| program.exists())
        else {
            super::skip("HAProxy", "haproxy is not installed");
            return None;
        };
        let directory = TempDir::with_prefix("fanfare-haproxy-").unwrap();
        let mut addresses = Vec::new();
        let mut text = String::from("global\nmaxconn 200\n");
        for line in configuration.lines() {
            let Some((margin, _)) = line.split_once("bind :") else {
                text += &format!("{line}\n");
                continue;
            };
            let [port] = free_ports();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            text += &format!("{margin}bind {address}\n");
            addresses.push(address);
        }
        let address = addresses[0];
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let output = File::create(directory.path().join("output")).unwrap();
        let mut command = bound(program.to_str().unwrap(), &["-db", "-f", file.to_str().unwrap()]);
        let server = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let mut haproxy = Self { address, addresses, directory, server };
        eventually("HAProxy runs", || {
            let ended = haproxy.server.try_wait().unwrap();
            assert!(ended.is_none(), "HAProxy ended: {}", haproxy.log());
            TcpStream::connect(address).is_ok()
        });
        Some(haproxy)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("the log of HAProxy:\n{}", self.log());
        }
    }
}
