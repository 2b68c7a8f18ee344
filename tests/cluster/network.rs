//! Hosts and their cables: a network namespace for each host, all on one bridge, at which the tests are too.
//! Without the rights for that, each host is an address of loopback, and its cables cannot be cut.
//!
//! A network has one of a few places, held by a lock that the kernel gives back when the process ends. Who
//! takes a place removes what a killed run has left there.

use crate::harness::{root, skip};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Networks on one machine at a time.
const PLACES: u8 = 8;

/// How many of a hundred packets of one host do not come in at another, by the name of its namespace.
#[derive(Clone, PartialEq)]
struct Dropped {
    from: Ipv4Addr,
    to: String,
    percent: u8,
}

/// A host.
#[derive(Clone)]
pub(crate) struct Host {
    /// Its address.
    pub(crate) address: Ipv4Addr,
    namespace: Option<String>,
}

impl Host {
    /// The words in front of a program that runs on this host. It is killed when the thread that starts it ends.
    pub(crate) fn wrapper(&self) -> Vec<&str> {
        let mut words = vec!["setpriv", "--pdeathsig", "KILL"];
        if let Some(namespace) = &self.namespace {
            words.extend(["ip", "netns", "exec", namespace]);
        }
        words
    }

    /// Makes a disk of so many MiB, in memory, of a directory; or makes it so large, if it is there already.
    pub(crate) fn mount(&self, directory: &Path, mib: u32) {
        let size = format!("size={mib}m");
        let place = directory.to_str().unwrap();
        let _ = run("mount", &["-o", &format!("remount,{size}"), place])
            .or_else(|_| run("mount", &["-t", "tmpfs", "-o", &size, &self.disk(), place]))
            .map_err(|error| panic!("{error}"));
    }

    /// Takes the disk away, if there is one.
    pub(crate) fn unmount(&self, directory: &Path) {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let place = directory.to_str().unwrap();
        if mounts.lines().any(|line| line.starts_with(&format!("{} {place} ", self.disk()))) {
            run("umount", &["-l", place]).unwrap();
        }
    }

    /// The name of its disks, by which those of a killed run are found.
    fn disk(&self) -> String {
        disk(self.address.octets()[2])
    }
}

/// Whether disks can be made here: in many a container root may not.
pub(crate) fn has_disks() -> bool {
    let directory = TempDir::new().unwrap();
    let place = directory.path().to_str().unwrap();
    let is_made = root() && run("mount", &["-t", "tmpfs", "none", place]).is_ok();
    if is_made {
        run("umount", &["-l", place]).unwrap();
    }
    is_made
}

/// The name of the disks of the network at a place.
fn disk(place: u8) -> String {
    format!("ffbed{place}")
}

/// A bridge with hosts.
pub(crate) struct Network {
    place: u8,
    _lock: UnixListener,
    has_namespaces: bool,
    drops: Vec<Dropped>,
}

impl Network {
    /// A network without hosts.
    pub(crate) fn new() -> Self {
        let (place, lock) = take_place();
        let mut network = Self { place, _lock: lock, has_namespaces: false, drops: Vec::new() };
        if !root() {
            skip("the faults of a cluster's cables", "network namespaces are for root");
            return network;
        }
        network.clean();
        network.has_namespaces = true;
        let (bridge, address) = (network.bridge(), network.address(1));
        let made = ip(&format!(
            "link add {bridge} type bridge\naddr add {address}/24 dev {bridge}\nlink set {bridge} up\n\
             netns add {bridge}-0"
        ));
        let drops = Command::new("nft").arg("--version").stdout(Stdio::null()).status();
        let missing = match &made {
            // The others repeat what was asked for.
            Err(error) => error.lines().next(),
            Ok(()) if !drops.is_ok_and(|status| status.success()) => Some("nft is not installed"),
            Ok(()) => None,
        };
        if let Some(missing) = missing {
            skip("the faults of a cluster's cables", missing);
            network.clean();
            network.has_namespaces = false;
        }
        network
    }

    /// Whether cables can be cut.
    pub(crate) fn has_cables(&self) -> bool {
        self.has_namespaces
    }

    /// Where the tests are.
    pub(crate) fn tests(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// One more host, with a number that no other has.
    pub(crate) fn host(&self, number: u8) -> Host {
        let address = self.address(number);
        if !self.has_namespaces {
            return Host { address, namespace: None };
        }
        let bridge = self.bridge();
        let (namespace, cable) = (format!("{bridge}-{number}"), format!("{bridge}c{number}"));
        ip(&format!(
            "netns add {namespace}\nlink add {cable} type veth peer name eth0 netns {namespace}\n\
             link set {cable} master {bridge}\nlink set {cable} up"
        ))
        .unwrap();
        let inside = format!("addr add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up");
        batch(&["-n", &namespace], &inside).unwrap();
        Host { address, namespace: Some(namespace) }
    }

    /// From now on nothing of one host reaches the other.
    pub(crate) fn cut(&mut self, from: &Host, to: &Host) {
        self.lose(from, to, 100);
    }

    /// From now on nothing passes between two hosts.
    pub(crate) fn part(&mut self, one: &Host, other: &Host) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// From now on so many of a hundred packets of one host do not reach the other.
    pub(crate) fn lose(&mut self, from: &Host, to: &Host, percent: u8) {
        let to = to.namespace.clone().expect("cables can be cut");
        self.drops.push(Dropped { from: from.address, to: to.clone(), percent });
        self.enforce(&to);
    }

    /// From now on everything passes.
    pub(crate) fn heal(&mut self) {
        for Dropped { to, .. } in std::mem::take(&mut self.drops) {
            self.enforce(&to);
        }
    }

    /// Puts in place what a host does not get; all at once.
    fn enforce(&self, namespace: &str) {
        let mut rules = String::from("add table ip fault\ndelete table ip fault\n");
        rules += "table ip fault { chain input { type filter hook input priority 0;\n";
        for Dropped { from, percent, .. } in self.drops.iter().filter(|drop| drop.to == namespace) {
            let some = match percent {
                100.. => String::new(),
                percent => format!("numgen random mod 100 < {percent} "),
            };
            rules += &format!("ip saddr {from} {some}drop\n");
        }
        rules += "}\n}\n";
        fed(Command::new("ip").args(["netns", "exec", namespace, "nft", "-f", "-"]), &rules)
            .unwrap();
    }

    /// The name of the bridge, with which the names of everything else begin.
    fn bridge(&self) -> String {
        format!("ffbed{}", self.place)
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        if self.has_namespaces {
            // For tests of networks (RFC 2544).
            Ipv4Addr::new(198, 18, self.place, number)
        } else {
            Ipv4Addr::new(127, 87, self.place, number)
        }
    }

    /// Removes hosts and bridge, and what still runs there.
    fn clean(&self) {
        let bridge = self.bridge();
        let listed = Command::new("ip").args(["netns", "list"]).output();
        let listed = listed.map(|output| String::from_utf8(output.stdout).unwrap());
        let listed = listed.unwrap_or_default();
        let names = listed.lines().filter_map(|line| line.split(' ').next());
        for name in names.filter(|name| name.starts_with(&format!("{bridge}-"))) {
            let pids = Command::new("ip").args(["netns", "pids", name]).output().unwrap();
            for pid in String::from_utf8(pids.stdout).unwrap().lines() {
                let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
                // One that has ended meanwhile is as good.
                let _ = pid
                    .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            }
            let _ = ip(&format!("netns del {name}"));
        }
        // The kernel takes the cables of a deleted host away some time later.
        let listed = Command::new("ip").args(["-o", "link"]).output();
        let listed = listed.map(|output| String::from_utf8(output.stdout).unwrap());
        let listed = listed.unwrap_or_default();
        let names = listed.lines().filter_map(|line| line.split([' ', '@']).nth(1));
        for cable in names.filter(|name| name.starts_with(&format!("{bridge}c"))) {
            let _ = ip(&format!("link del {cable}"));
        }
        let _ = ip(&format!("link del {bridge}"));
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let left = mounts.lines().filter_map(|line| {
            line.strip_prefix(&format!("{} ", disk(self.place)))?.split(' ').next()
        });
        for directory in left {
            let _ = run("umount", &["-l", directory]);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if root() {
            self.clean();
        }
    }
}

/// The first place that is free, as soon as there is one.
fn take_place() -> (u8, UnixListener) {
    loop {
        for place in 0..PLACES {
            let name = SocketAddr::from_abstract_name(format!("fanfare-cluster-{place}")).unwrap();
            if let Ok(lock) = UnixListener::bind_addr(&name) {
                return (place, lock);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs lines of `ip`, the first that fails being the last.
fn ip(lines: &str) -> Result<(), String> {
    batch(&[], lines)
}

fn batch(arguments: &[&str], lines: &str) -> Result<(), String> {
    fed(Command::new("ip").args(arguments).args(["-batch", "-"]), lines)
}

/// Runs a program.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    fed(Command::new(program).args(arguments), "")
}

/// Runs a program with this text as its input.
fn fed(command: &mut Command, text: &str) -> Result<(), String> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    // What it does not want to read it complains about itself.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {text}", String::from_utf8_lossy(&output.stderr)))
}
