//! Three servers, and daemons: each on a host of its own.

use crate::harness::{Daemon, Setup, eventually, eventually_within};
use crate::network::{Host, Network};
use crate::server::{NatsServer, PASSWORD, ServerWish, USER, program};
use rustix::process::Signal;
use std::net::Ipv4Addr;
use std::time::Duration;
use tempfile::TempDir;

/// Servers of a bed.
pub(crate) const SERVERS: usize = 3;

/// The names of its daemons.
pub(crate) const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// How long a cluster may take to become whole: elections of NATS take up to nine seconds.
pub(crate) const SETTLING: Duration = Duration::from_secs(60);

/// Servers, daemons and their cables. Everything ends with the thread that made it. Start what is started again in
/// that thread.
pub(crate) struct Bed {
    nodes: Vec<Node>,
    /// The servers.
    pub(crate) servers: Vec<NatsServer>,
    /// The cables.
    pub(crate) network: Network,
    wish: ServerWish,
    _directory: TempDir,
}

/// A daemon's host, and the daemon, or what it takes to start it.
struct Node {
    host: Host,
    daemon: Option<Daemon>,
}

impl Bed {
    /// Servers that are ready, and no daemon; `None` where there is no server.
    pub(crate) fn engine(wish: &ServerWish) -> Option<Self> {
        let mut bed = Self::new(wish)?;
        bed.start_servers();
        Some(bed)
    }

    /// Servers that do not run yet.
    pub(crate) fn new(wish: &ServerWish) -> Option<Self> {
        let program = program()?;
        let network = Network::new();
        let directory = TempDir::with_prefix("fanfare-cluster-").unwrap();
        let hosts: Vec<Host> = (0..SERVERS).map(|index| network.host(11 + index as u8)).collect();
        let all: Vec<Ipv4Addr> = hosts.iter().map(|host| host.address).collect();
        let server = |(index, host): (usize, Host)| {
            let place = directory.path().join(format!("nats-{index}"));
            NatsServer::new(&program, host, place, &all, wish)
        };
        let servers = hosts.into_iter().enumerate().map(server).collect();
        Some(Self {
            nodes: Vec::new(),
            servers,
            network,
            wish: wish.clone(),
            _directory: directory,
        })
    }

    /// Starts the servers and waits for them.
    pub(crate) fn start_servers(&mut self) {
        self.servers.iter_mut().for_each(NatsServer::start);
        self.await_servers();
    }

    /// Waits until all servers are ready.
    pub(crate) fn await_servers(&mut self) {
        let wish = &self.wish;
        self.servers.iter_mut().for_each(|server| server.await_ready(wish));
    }

    /// Servers and so many daemons, all of them ready. `change` makes of a setup what the daemon on a host is to be.
    pub(crate) fn start(count: usize, change: impl Fn(Setup, &Host) -> Setup) -> Option<Self> {
        let mut bed = Self::engine(&ServerWish::default())?;
        for _ in 0..count {
            bed.add(&change);
        }
        bed.await_whole();
        Some(bed)
    }

    /// Starts one more daemon; returns its number.
    pub(crate) fn add(&mut self, change: impl FnOnce(Setup, &Host) -> Setup) -> usize {
        let index = self.nodes.len();
        let host = self.network.host(21 + index as u8);
        let setup = change(self.setup(&host, NAMES[index]), &host);
        self.nodes.push(Node { host, daemon: Some(setup.start()) });
        index
    }

    /// A daemon's setup for a host, without a dialect's.
    pub(crate) fn setup(&self, host: &Host, name: &str) -> Setup {
        let setup = Setup::new();
        let urls = setup.path("nats.url");
        std::fs::write(&urls, self.urls(PASSWORD)).unwrap();
        setup
            .by(&host.wrapper())
            .set("listen.0.address", format!("{}:8080", host.address))
            .set("admin.address", format!("{}:9500", host.address))
            .set("cluster.name", "tests")
            .set("cluster.node", name)
            .set("cluster.url_file", urls.display())
    }

    /// What the file of `cluster.url_file` holds.
    pub(crate) fn urls(&self, password: &str) -> String {
        let url =
            |server: &NatsServer| format!("nats://{USER}:{password}@{}:4222", server.host.address);
        self.servers.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// The host of a daemon.
    pub(crate) fn host_of(&self, index: usize) -> &Host {
        &self.nodes[index].host
    }

    /// A daemon that runs, or has ended by itself.
    #[track_caller]
    pub(crate) fn node(&self, index: usize) -> &Daemon {
        self.nodes[index].daemon.as_ref().expect("the daemon has been started")
    }

    /// All daemons that run.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Daemon> {
        self.nodes.iter().filter_map(|node| node.daemon.as_ref())
    }

    /// Kills a daemon with SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        let daemon = self.nodes[index].daemon.as_mut().unwrap();
        daemon.signal(Signal::KILL);
        daemon.wait();
    }

    /// Stops a daemon as systemd does.
    #[track_caller]
    pub(crate) fn stop(&mut self, index: usize) {
        let daemon = self.nodes[index].daemon.as_mut().unwrap();
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success());
    }

    /// Starts a daemon again that has ended.
    pub(crate) fn again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.daemon = node.daemon.take().map(Daemon::again);
    }

    /// Waits until every daemon that runs is ready and knows every other.
    #[track_caller]
    pub(crate) fn await_whole(&self) {
        let count = self.nodes.len() as u64;
        for daemon in self.nodes() {
            eventually_within(SETTLING, "the daemon knows all others and is ready", || {
                daemon.metric("cluster_peers") == count - 1 && daemon.page("/readyz").0 == 200
            });
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Without servers the daemons would complain while they end.
        self.nodes.clear();
        if std::thread::panicking() {
            for server in &self.servers {
                let log = server.log();
                // A server that is down has the others try to reach it, several times a second.
                let lines = log.lines().filter(|line| !line.contains("trying to connect to route"));
                let lines: Vec<&str> = lines.collect();
                let last = &lines[lines.len().saturating_sub(30)..];
                eprintln!("the log of {} ends:\n{}", server.host.address, last.join("\n"));
            }
        }
    }
}

#[test]
fn servers_on_their_hosts_are_one_cluster_whose_cables_can_be_cut() {
    use serde_json::json;
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    let mut client = bed.servers[0].connect().unwrap();
    let wanted = json!({"name": "s", "subjects": ["s.>"], "num_replicas": 3});
    let made = client.ask_jetstream("STREAM.CREATE.s", &wanted).unwrap();
    assert_eq!(made["config"]["num_replicas"], 3, "{made}");
    let stored = client.ask("s.x", "one").unwrap();
    assert_eq!(stored.payload, br#"{"stream":"s","seq":1}"#, "{stored:?}");

    // A cluster goes on without one of three.
    bed.servers[1].kill();
    let stores = |client: &mut crate::engine::NatsClient| {
        client.patience(Duration::from_secs(2));
        client.ask("s.x", "more").is_ok_and(|answer| answer.payload.starts_with(br#"{"stream""#))
    };
    eventually("what remains stores", || {
        bed.servers[0].connect().is_ok_and(|mut client| stores(&mut client))
    });
    bed.servers[1].start();
    bed.await_servers();

    if !bed.network.has_cables() {
        return;
    }
    let hosts: Vec<Host> = bed.servers.iter().map(|server| server.host.clone()).collect();
    bed.network.part(&hosts[0], &hosts[1]);
    bed.network.part(&hosts[0], &hosts[2]);
    let mut client = bed.servers[0].connect().unwrap();
    assert!(!stores(&mut client), "a server that is alone stores");
    bed.network.heal();
    eventually("they have found each other", || {
        bed.servers[0].connect().is_ok_and(|mut client| stores(&mut client))
    });
}
