//! The floor's child process: a server that makes the system calls of a fan-out and does nothing
//! else.
//!
//! It accepts connections and answers each with canned bytes, so that the same subscribers can
//! connect to it as to the daemon. From the moment that all are there it obeys commands on its
//! standard input: one `send(2)` of ready frames per connection. Its processor time is the least
//! that any server of this kind can need.

use super::connect::upgrade_answer;
use super::error::failed;
use super::options::{BenchOptions, USUAL};
use super::wire::{self, Sampled, Template, own_site};
use crate::cli::CliError;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Ipv4Addr, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType,
    accept_with, bind, getsockname, listen, recv, send, socket,
};
use std::io::{Read, Write};
use std::net::SocketAddr;

/// Connections that may wait to be accepted: more than are ever opened at once.
const BACKLOG: i32 = 4096;

/// Bytes of one command on the standard input.
pub(super) const COMMAND_BYTES: usize = 20;

const LISTENER: u64 = u64::MAX;
const COMMANDS: u64 = u64::MAX - 1;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SenderCommand {
    /// `frames` events numbered from `first`, all in one send, to every connection.
    Burst { first: u64, frames: u32 },
    /// One event to each of the next `sends` connections, numbered from `first` in steps of `step`.
    Walk { first: u64, step: u32, sends: u32 },
}

impl SenderCommand {
    /// The command as it goes through the pipe.
    pub(super) fn to_bytes(self) -> [u8; COMMAND_BYTES] {
        let (kind, first, a, b) = match self {
            SenderCommand::Burst { first, frames } => (0u32, first, frames, 0),
            SenderCommand::Walk { first, step, sends } => (1, first, step, sends),
        };
        let mut bytes = [0; COMMAND_BYTES];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..12].copy_from_slice(&first.to_le_bytes());
        bytes[12..16].copy_from_slice(&a.to_le_bytes());
        bytes[16..].copy_from_slice(&b.to_le_bytes());
        bytes
    }

    /// The command in `bytes`.
    pub(super) fn from_bytes(bytes: &[u8; COMMAND_BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let words: [u32; COMMAND_BYTES / 4] =
            std::array::from_fn(|at| u32::from_le_bytes(words[at]));
        let first = u64::from(words[1]) | u64::from(words[2]) << 32;
        match words[0] {
            0 => SenderCommand::Burst { first, frames: words[3] },
            _ => SenderCommand::Walk { first, step: words[3], sends: words[4] },
        }
    }
}

/// Serves so many subscribers with events until the standard input ends. With topics of their own
/// the connections are visited in a shuffled order, as the events of many topics would.
pub(super) fn run(options: &BenchOptions) -> Result<(), CliError> {
    let &BenchOptions { connections, size, own_topics: topics, .. } = options;
    let listener =
        socket(AddressFamily::INET, SocketType::STREAM, None).map_err(failed("open a socket"))?;
    // It is accepted from until nothing waits any more.
    rustix::io::ioctl_fionbio(&listener, true).map_err(failed("set up a listener"))?;
    let any_port = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    bind(&listener, &any_port).map_err(failed("bind a listener"))?;
    listen(&listener, BACKLOG).map_err(failed("listen"))?;
    let address = getsockname(&listener).map_err(failed("read the listener's port"))?;
    let address = SocketAddr::try_from(address).map_err(failed("read the listener's port"))?;
    let told = writeln!(std::io::stdout(), "{}", address.port());
    told.map_err(failed("tell the port"))?;

    // The generator has gone, and with it the reason to go on.
    let Some(mut sockets) = accept_all(&listener, connections)? else { return Ok(()) };
    if topics {
        shuffle(&mut sockets);
    }
    let frame = Sampled::new(USUAL.client(), &own_site(), size, topics)?.event.frame();
    obey(&sockets, &frame)
}

/// Accepts and answers until all connections stand; `None` when the parent has gone before.
fn accept_all(listener: &OwnedFd, connections: usize) -> Result<Option<Vec<OwnedFd>>, CliError> {
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("create an epoll set"))?;
    watch(&epoll, listener, LISTENER)?;
    watch(&epoll, std::io::stdin(), COMMANDS)?;
    let answers = [upgrade_answer(), canned_replies()];
    let mut sockets: Vec<OwnedFd> = Vec::with_capacity(connections);
    let mut stages = vec![0usize; connections];
    let mut ready = 0;
    let mut scratch = [0; 4096];
    let mut events = Vec::with_capacity(256);
    while ready < connections {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failed("wait for sockets")(error)),
        }
        for event in &events {
            let event: epoll::Event = *event;
            match event.data.u64() {
                // No command comes before all connections stand, so this is the end of the input.
                COMMANDS => return Ok(None),
                LISTENER => accept_waiting(listener, &mut sockets, connections, &epoll)?,
                index => {
                    let index = index as usize;
                    match recv(&sockets[index], &mut scratch, RecvFlags::DONTWAIT) {
                        Ok((length, _)) if length > 0 => {}
                        // A subscriber that leaves before the start ends the measurement, whose
                        // error the generator tells.
                        _ => return Ok(None),
                    }
                    // Behind the greeting a subscriber only sends pongs and a close.
                    let Some(answer) = answers.get(stages[index]) else { continue };
                    send_all(&sockets[index], answer)?;
                    stages[index] += 1;
                    ready += usize::from(stages[index] == answers.len());
                }
            }
        }
    }
    Ok(Some(sockets))
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, data: u64) -> Result<(), CliError> {
    epoll::add(epoll, fd, EventData::new_u64(data), EventFlags::IN)
        .map_err(failed("watch a socket"))
}

fn accept_waiting(
    listener: &OwnedFd,
    sockets: &mut Vec<OwnedFd>,
    connections: usize,
    epoll: &OwnedFd,
) -> Result<(), CliError> {
    while sockets.len() < connections {
        match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                watch(epoll, &socket, sockets.len() as u64)?;
                sockets.push(socket);
            }
            Err(Errno::AGAIN) => break,
            // The client gave up while it waited; the others do not mind.
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(failed("accept a connection")(error)),
        }
    }
    Ok(())
}

fn canned_replies() -> Vec<u8> {
    let mut bytes = Vec::new();
    let token = r#"{"response":"success","expires_in":3600,"timestamp":1700000000}"#;
    wire::server_text(token.as_bytes(), &mut bytes);
    wire::server_text(br#"{"response":"success","timestamp":1700000000}"#, &mut bytes);
    bytes
}

fn obey(sockets: &[OwnedFd], frame: &Template) -> Result<(), CliError> {
    let mut input = [0; 4096];
    let mut filled = 0;
    let mut cursor = 0;
    let mut bytes = Vec::new();
    let mut stdin = std::io::stdin().lock();
    loop {
        let length = match stdin.read(&mut input[filled..]) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read commands")(error)),
        };
        filled += length;
        let (commands, _) = input[..filled].as_chunks::<COMMAND_BYTES>();
        for command in commands {
            match SenderCommand::from_bytes(command) {
                SenderCommand::Burst { first, frames } => {
                    bytes.clear();
                    (first..first + u64::from(frames)).for_each(|n| frame.append(0, n, &mut bytes));
                    for socket in sockets {
                        send_all(socket, &bytes)?;
                    }
                }
                SenderCommand::Walk { first, step, sends } => {
                    for n in 0..u64::from(sends) {
                        bytes.clear();
                        frame.append(cursor, first + n * u64::from(step), &mut bytes);
                        send_all(&sockets[cursor], &bytes)?;
                        cursor = (cursor + 1) % sockets.len();
                    }
                }
            }
        }
        let used = commands.len() * COMMAND_BYTES;
        // The pipe may have cut a command.
        input.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// One send; only when the peer's window is full, more.
fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> Result<(), CliError> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                poll(&mut fds, None).map_err(failed("wait for a socket"))?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("send to a connection")(error)),
        }
    }
    Ok(())
}

/// A fixed shuffle (xorshift): the same in each run.
pub(super) fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(last, (state % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_out_of_the_pipe_as_it_went_in() {
        for command in [
            SenderCommand::Burst { first: 1 << 40, frames: 16 },
            SenderCommand::Walk { first: 7, step: 2, sends: 64 },
        ] {
            assert_eq!(SenderCommand::from_bytes(&command.to_bytes()), command);
        }
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_moves_most() {
        let mut items: Vec<usize> = (0..1000).collect();
        shuffle(&mut items);
        assert!(items.iter().enumerate().filter(|&(at, &item)| at == item).count() < 20);
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
