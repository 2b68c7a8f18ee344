//! Servers of NATS, each on a host of its own: one cluster with JetStream.

use crate::engine::NatsClient;
use crate::harness::{clean, eventually, http, skip, tools};
use crate::network::Host;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Who the daemons are to the servers.
pub(crate) const USER: &str = "fanfare";
/// The password.
pub(crate) const PASSWORD: &str = "only-the-tests-know-this-one";

/// What a test may want to be different in all servers.
#[derive(Clone)]
pub(crate) struct ServerWish {
    /// Whether there is JetStream.
    pub(crate) has_jetstream: bool,
    /// The longest message, in bytes.
    pub(crate) payload_bytes_max: u32,
    /// A disk of so many MiB for the streams of each server; for root.
    pub(crate) disk_mib: Option<u32>,
    /// Who may connect, in the words of the configuration, instead of the user with the password.
    pub(crate) accounts: Option<String>,
    /// More of the configuration.
    pub(crate) more: String,
}

impl Default for ServerWish {
    fn default() -> Self {
        Self {
            has_jetstream: true,
            payload_bytes_max: 8 * 1024 * 1024,
            disk_mib: None,
            accounts: None,
            more: String::new(),
        }
    }
}

/// The program; `None`, and a note, where it is not installed.
pub(crate) fn program() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
    let found = named.unwrap_or_else(|| tools().join("python/bin/nats-server"));
    if found.exists() {
        return Some(found);
    }
    skip("a cluster", "nats-server is not installed; tests/run does it");
    None
}

/// A server, and what it takes to start it again in the same place.
pub(crate) struct NatsServer {
    /// Its host.
    pub(crate) host: Host,
    program: PathBuf,
    directory: PathBuf,
    child: Option<Child>,
}

impl NatsServer {
    /// One that does not run yet, of a cluster of which these are all the addresses.
    pub(crate) fn new(
        program: &Path,
        host: Host,
        directory: PathBuf,
        all: &[Ipv4Addr],
        wish: &ServerWish,
    ) -> Self {
        let store = directory.join("store");
        std::fs::create_dir_all(&store).unwrap();
        if let Some(mib) = wish.disk_mib {
            host.mount(&store, mib);
        }
        let address = host.address;
        let routes: Vec<String> = all.iter().map(|to| format!("\"nats://{to}:6222\"")).collect();
        let jetstream = if wish.has_jetstream {
            format!("jetstream {{ store_dir: {store:?}, max_mem: 64M, max_file: 4G }}\n")
        } else {
            String::new()
        };
        let account = if wish.has_jetstream { "jetstream: enabled, " } else { "" };
        let accounts = wish.accounts.clone().unwrap_or_else(|| {
            format!(
                "accounts {{\n\
                 FANFARE: {{ {account}users: [{{ user: {USER}, password: {PASSWORD:?} }}] }}\n\
                 $SYS: {{ users: [{{ user: system, password: {PASSWORD:?} }}] }}\n}}\n"
            )
        });
        let configuration = format!(
            "server_name: \"{address}\"\nlisten: \"{address}:4222\"\nhttp: \"{address}:8222\"\n\
             max_payload: {}\n{jetstream}\
             cluster {{ name: tests, listen: \"{address}:6222\", routes: [{}] }}\n\
             {accounts}{}",
            wish.payload_bytes_max,
            routes.join(", "),
            wish.more,
        );
        std::fs::write(directory.join("nats.conf"), configuration).unwrap();
        Self { host, program: program.into(), directory, child: None }
    }

    /// Starts it; it takes connections a little later.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        let configuration = self.directory.join("nats.conf").display().to_string();
        let mut words = self.host.wrapper();
        words.extend([self.program.to_str().unwrap(), "-c", &configuration]);
        let mut command: Command = clean(words[0], &words[1..]);
        let log = File::options().create(true).append(true).open(self.directory.join("log"));
        let log = log.unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop, and waits for that.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().unwrap();
        eventually("the server has ended", || child.try_wait().unwrap().is_some());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// A connection of the test's own.
    pub(crate) fn connect(&self) -> std::io::Result<NatsClient> {
        NatsClient::connect(self.host.address)
    }

    /// Waits until it does what the cluster is there for.
    #[track_caller]
    pub(crate) fn await_ready(&mut self, wish: &ServerWish) {
        eventually(&format!("the server at {} is ready", self.host.address), || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", self.log());
            self.is_ready(wish)
        });
    }

    fn is_ready(&self, wish: &ServerWish) -> bool {
        // It may let in no client of the tests.
        if wish.accounts.is_some() || !wish.more.is_empty() {
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let place = (self.host.address, 8222);
            // It listens there before anything else.
            let is_there = std::net::TcpStream::connect(place).is_ok();
            return is_there && http(place.into(), request).0 == 200;
        }
        let Ok(mut client) = self.connect() else { return false };
        if !wish.has_jetstream {
            return true;
        }
        client.patience(std::time::Duration::from_secs(1));
        let answer = client.ask_jetstream("INFO", &json!(null));
        answer.is_ok_and(|answer| answer["error"].is_null()) && self.is_current()
    }

    /// Whether it has all that the others have of its streams: before that, the loss of another server may be that of
    /// the last copy but one.
    fn is_current(&self) -> bool {
        let monitor = (self.host.address, 8222).into();
        http(monitor, b"GET /healthz HTTP/1.1\r\nHost: nats\r\nConnection: close\r\n\r\n").0 == 200
    }

    /// Where its streams are.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.host.unmount(&self.store());
    }
}
