//! A Redis of a test's own, on loopback, in a temporary directory, with a unix socket, a port for TLS and users. It
//! ends with the thread that started it, however that ends.

use super::broker::{bound, free_ports};
use super::{Authority, Signed, eventually};
use redis::{Client, Cmd, Connection, FromRedisValue, cmd, pipe};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use tempfile::TempDir;

/// Who there is: everybody without a password, somebody who may do what the feed needs, one more of those for whom
/// the connection is cut, and somebody who may not.
const USERS: &str = "user default on nopass ~* &* +@all\n\
    user reader on >hunter2 resetchannels &laravel-database-* -@all +subscribe +psubscribe +ping\n\
    user cut on >hunter2 resetchannels &laravel-database-* -@all +subscribe +psubscribe +ping\n\
    user limited on >hunter2 resetchannels &other -@all +subscribe +ping\n";

/// A Redis, and what it takes to start it again in the same place.
pub(crate) struct Redis {
    directory: TempDir,
    server: Option<Child>,
    port: u16,
    tls_port: u16,
}

impl Redis {
    /// A Redis that does not run yet; `None` where it is not installed.
    pub(crate) fn new() -> Option<Self> {
        if !std::env::split_paths(&std::env::var_os("PATH")?)
            .any(|path| path.join("redis-server").exists())
        {
            super::skip("Redis", "redis-server is not installed");
            return None;
        }
        let directory = TempDir::with_prefix("fanfare-redis-").unwrap();
        let [port, tls_port] = free_ports();
        let authority = Authority::new();
        let Signed { certificate, key } = authority.sign();
        for (name, text) in [
            ("authority.pem", authority.pem.as_str()),
            ("certificate.pem", &certificate),
            ("key.pem", &key),
            ("users.acl", USERS),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let file = |name: &str| directory.path().join(name).display().to_string();
        let configuration = format!(
            "bind 127.0.0.1\nport {port}\ntls-port {tls_port}\ntls-cert-file {}\ntls-key-file {}\n\
             tls-ca-cert-file {}\ntls-auth-clients no\nunixsocket {}\nunixsocketperm 700\naclfile {}\ndir {}\n\
             save \"\"\nappendonly no\n",
            file("certificate.pem"),
            file("key.pem"),
            file("authority.pem"),
            file("redis.sock"),
            file("users.acl"),
            directory.path().display(),
        );
        std::fs::write(directory.path().join("redis.conf"), configuration).unwrap();
        Some(Self { directory, server: None, port, tls_port })
    }

    /// A Redis that takes connections.
    pub(crate) fn started() -> Option<Self> {
        let mut redis = Self::new()?;
        redis.start();
        Some(redis)
    }

    /// Starts it and waits until it takes connections.
    pub(crate) fn start(&mut self) {
        let configuration = self.directory.path().join("redis.conf").display().to_string();
        let output = File::create(self.directory.path().join("output")).unwrap();
        let mut command = bound("redis-server", &[&configuration]);
        self.server =
            Some(command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap());
        eventually("Redis runs", || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "Redis ended: {}", self.log());
            Client::open(self.url()).unwrap().get_connection().is_ok()
        });
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.server.as_ref().unwrap()), signal).unwrap();
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its address for somebody.
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("redis://{user}@127.0.0.1:{}/3", self.port)
    }

    /// Its address for those who want TLS.
    pub(crate) fn url_with_tls(&self) -> String {
        format!("rediss://reader:hunter2@localhost:{}", self.tls_port)
    }

    /// The address of its socket.
    pub(crate) fn url_of_socket(&self) -> String {
        format!(
            "redis+unix://{}?user=reader&pass=hunter2",
            self.directory.path().join("redis.sock").display()
        )
    }

    /// Whoever has signed its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// A connection of the test's own.
    pub(crate) fn connect(&self) -> Connection {
        Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Asks for one thing.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query(&mut self.connect()).unwrap()
    }

    /// Publishes messages on a channel in their order. Each was for as many subscribers as are returned.
    pub(crate) fn publish(
        &self,
        channel: &str,
        messages: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Vec<u64> {
        let mut pipeline = pipe();
        for message in messages {
            pipeline.add_command(cmd("PUBLISH").arg(channel).arg(message.as_ref()).clone());
        }
        pipeline.query(&mut self.connect()).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            eprintln!("the log of Redis:\n{}", self.log());
        }
    }
}
