//! The floor: what one `send(2)` of the same frame to each of the same number of connections costs
//! on this machine.
//!
//! A child process per shard (`sender.rs`) on the processor of that shard holds the connections;
//! the generator receives from it exactly as from the daemon. Every measurement is also given as a
//! ratio to the floor of the same run, because two machines, or two minutes on a shared one, differ
//! by more than two servers do.

use super::connect::{ConnectPlan, Texts, upgrade_request};
use super::error::{failed, floor_ended};
use super::options::{BenchOptions, USUAL};
use super::proc::{self, Cpus};
use super::sender::SenderCommand;
use super::wire::{own_site, topic_name};
use crate::cli::CliError;
use crate::dialect::client::Subscriber;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Stdio};

/// The running senders.
#[derive(Debug)]
pub(super) struct SendFloor {
    senders: Vec<FloorSender>,
    /// With topics: each event goes to one connection, in turn.
    topics: bool,
    /// Events published together leave in one send per connection.
    pub(super) coalesce: bool,
}

#[derive(Debug)]
struct FloorSender {
    child: Child,
    commands: Option<ChildStdin>,
    address: SocketAddr,
}

impl SendFloor {
    /// Starts one sender on each processor of a shard, which share the connections.
    pub(super) fn start(options: &BenchOptions, cpus: &Cpus) -> Result<Self, CliError> {
        let (connections, count) = (options.connections, cpus.shards.len());
        let mut senders = Vec::with_capacity(count);
        for (index, cpu) in cpus.shards.iter().enumerate() {
            // The first senders take the rest of a division.
            let own = connections / count + usize::from(index < connections % count);
            senders.push(FloorSender::start(own, options, *cpu, cpus.generator)?);
        }
        Ok(Self { senders, topics: options.own_topics, coalesce: false })
    }

    /// The process numbers of the senders.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.senders.iter().map(|sender| sender.child.id()).collect()
    }

    /// How to connect to them; connection `n` belongs to sender `n % senders`.
    pub(super) fn plan(&self, connections: usize, concurrency: usize) -> ConnectPlan {
        // As long as a real token, so that reading it costs as much.
        let (token, site) = ("x".repeat(240), own_site());
        let (mut requests, mut greetings) = (Texts::default(), Texts::default());
        requests.push(|out| out.extend(upgrade_request("127.0.0.1", "/bench/__event", "")));
        let (client, mut answers) = (USUAL.client(), 0);
        for index in 0..connections {
            let topic = topic_name(Some(index));
            let subscriber = Subscriber { given: None, site: &site, index, topic: &topic };
            answers = greetings.greet(&subscriber, client, Some(token.clone()));
        }
        let addresses = self.senders.iter().map(|sender| sender.address).collect();
        ConnectPlan { addresses, requests, greetings, client, answers, concurrency, tls: None }
    }

    /// Has `count` events numbered from `first` sent.
    pub(super) fn publish(&mut self, first: u64, count: u64) -> Result<(), CliError> {
        let senders = self.senders.len() as u64;
        for (index, sender) in self.senders.iter_mut().enumerate() {
            let mut bytes = Vec::new();
            if self.topics {
                let (first, sends) = share(first, count, index as u64, senders);
                let step = senders as u32;
                // With few events some senders have none.
                if sends > 0 {
                    bytes.extend(SenderCommand::Walk { first, step, sends }.to_bytes());
                }
            } else if self.coalesce {
                bytes.extend(SenderCommand::Burst { first, frames: count as u32 }.to_bytes());
            } else {
                for first in first..first + count {
                    bytes.extend(SenderCommand::Burst { first, frames: 1 }.to_bytes());
                }
            }
            sender.command(&bytes)?;
        }
        Ok(())
    }
}

impl FloorSender {
    fn start(
        connections: usize,
        options: &BenchOptions,
        cpu: usize,
        generator_cpu: usize,
    ) -> Result<Self, CliError> {
        let program = std::env::current_exe().map_err(failed("find this program's own file"))?;
        let (count, size) = (connections.to_string(), options.size.to_string());
        let mut command = std::process::Command::new(program);
        command.args(["bench", "floor", "--sender", "--connections", &count, "--size", &size]);
        if options.own_topics {
            command.arg("--topics");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = proc::spawn_on(&mut command, &[cpu], generator_cpu)
            .map_err(failed("start the floor's sender"))?;

        let commands = child.stdin.take();
        let stdout = child.stdout.take();
        let mut sender = Self { child, commands, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let read = BufReader::new(stdout).read_line(&mut line);
            read.map_err(failed("read the floor's port"))?;
        }
        // Not a port: the sender has told the reason on standard error. Dropping it waits for its
        // end.
        sender.address.set_port(line.trim().parse().map_err(|_| floor_ended())?);
        Ok(sender)
    }

    fn command(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let commands = self.commands.as_mut().ok_or_else(floor_ended)?;
        commands.write_all(bytes).map_err(|_| floor_ended())
    }
}

impl Drop for FloorSender {
    /// The end of its commands ends the sender.
    fn drop(&mut self) {
        // Closed first: the sender ends when its input does, and waiting before would last for
        // ever.
        drop(self.commands.take());
        if self.child.wait().is_err() {
            let _ = self.child.kill();
        }
    }
}

/// Of `count` events numbered from `first` and dealt to `senders` in turn: the first of sender
/// `index`, and how many.
fn share(first: u64, count: u64, index: u64, senders: u64) -> (u64, u32) {
    let skip = (index + senders - (first - 1) % senders) % senders;
    let sends = count.saturating_sub(skip).div_ceil(senders);
    (first + skip, sends as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_dealt_to_the_senders_in_turn() {
        assert_eq!(share(1, 10, 0, 1), (1, 10));
        assert_eq!((share(1, 5, 0, 2), share(1, 5, 1, 2)), ((1, 3), (2, 2)));
        assert_eq!((share(4, 3, 0, 2), share(4, 3, 1, 2)), ((5, 1), (4, 2)));
        assert_eq!(share(4, 1, 0, 2), (5, 0));
    }
}
