//! A client and its socket: what the socket takes, what the client reads of it, and what it sends back.

use crate::model::{DialectTally, Occasion, Phase, Say, Session};
use fanfare::frame;
use fanfare::message::{self, Interest, MessageInbox};
use fanfare::outbox::Sent;
use fanfare::shard::{Id, Shard};
use fanfare::wheel::Now;
use std::collections::VecDeque;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Reading,
    /// Its socket fills up, and it answers nothing.
    Stalled,
    /// Its socket refuses the next write for good.
    Broken,
}

pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) mode: Mode,
    /// Answers no pings.
    pub(crate) silent: bool,
    /// Whether it was written to in this turn.
    pub(crate) written: bool,
    /// What the socket holds, and how much it can.
    buffer: Vec<u8>,
    capacity: usize,
    /// What the client has read and not understood yet.
    received: Vec<u8>,
    answered: bool,
    /// On its way to the daemon, with what it means and where each ends.
    outgoing: Vec<u8>,
    says: VecDeque<(usize, Say)>,
    arrived: usize,
    pub(crate) inbox: Option<Box<MessageInbox>>,
}

impl Client {
    pub(crate) fn new(session: Session, capacity: usize) -> Self {
        Self {
            session,
            mode: Mode::Reading,
            silent: false,
            written: false,
            buffer: Vec::new(),
            capacity,
            received: Vec::new(),
            answered: false,
            outgoing: Vec::new(),
            says: VecDeque::new(),
            arrived: 0,
            inbox: None,
        }
    }

    /// The daemon writes: these have to be the bytes that are due, all of them at once.
    pub(crate) fn take(&mut self, id: Id, bytes: &[u8]) -> Sent {
        assert!(!std::mem::replace(&mut self.written, true), "{id} is written twice in a turn");
        let session = &mut self.session;
        assert!(!session.blocked, "{id} is written though its socket is full");
        let due: Vec<u8> =
            session.pending.iter().flat_map(|frame| frame.bytes.iter().copied()).collect();
        assert!(
            bytes == &due[session.begun..],
            "{id} gets {:?}, due is {:?}",
            shown(bytes),
            shown(&due)
        );
        if self.mode == Mode::Broken {
            session.phase = Phase::Gone;
            return Sent::Broken;
        }
        let taken = bytes.len().min(self.capacity - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        session.blocked = taken < bytes.len();
        session.begun += taken;
        session.reads |= taken > 0;
        while let Some(front) = session.pending.front() {
            if session.begun < front.bytes.len() {
                break;
            }
            session.begun -= front.bytes.len();
            session.pending.pop_front();
        }
        if taken == 0 { Sent::Blocked } else { Sent::Bytes(taken) }
    }

    /// Reads what the socket holds; pings and closes are answered.
    pub(crate) fn read(&mut self) {
        self.received.append(&mut self.buffer);
        if !self.answered {
            let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n")
            else {
                return;
            };
            self.answered = self.received.starts_with(b"HTTP/1.1 101");
            self.received.drain(..end + 4);
        }
        while self.answered {
            let (header, length) = match self.received[..] {
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                [_, length @ 0..126, ..] => (2, usize::from(length)),
                _ => return,
            };
            if self.received.len() < header + length {
                return;
            }
            let frame: Vec<u8> = self.received.drain(..header + length).collect();
            match frame[0] {
                0x88 if self.session.phase == Phase::Closing => self.say(Say::Close, 0),
                0x89 if !self.silent => self.say(Say::Pong, 1),
                _ => {}
            }
        }
    }

    /// Puts something on its way to the daemon.
    pub(crate) fn say(&mut self, say: Say, mask: u32) {
        let current = self.session.current;
        let (opcode, payload) = match &say {
            Say::Ping(payload) => (OpCode::Control(Control::Ping), payload.clone()),
            Say::Pong => (OpCode::Control(Control::Pong), vec![1, 2, 3]),
            Say::Close => (OpCode::Control(Control::Close), vec![3, 232]),
            // Refused by its header, so there is nothing more.
            Say::Garbage => (OpCode::Data(Data::Text), Vec::new()),
            command => (OpCode::Data(Data::Text), text(command, current).into_bytes()),
        };
        let mut bytes = Vec::new();
        frame::put_frame(opcode, &payload, &mut bytes);
        if !matches!(say, Say::Garbage) {
            let header = bytes.len() - payload.len();
            message::unmask(&mut bytes[header..], mask.to_be_bytes());
            bytes[1] |= 0x80;
            bytes.splice(header..header, mask.to_be_bytes());
        }
        self.outgoing.extend(bytes);
        self.says.push_back((self.arrived + self.outgoing.len(), say));
    }

    /// So many bytes arrive, which may end in the middle of a frame.
    pub(crate) fn arrive(
        &mut self,
        count: usize,
        id: Id,
        shard: &mut Shard,
        now: Now,
        tally: &mut DialectTally,
        published: &mut Vec<Occasion>,
    ) {
        let mut bytes: Vec<u8> = self.outgoing.drain(..count.min(self.outgoing.len())).collect();
        self.arrived += bytes.len();
        let interest = shard.interest(id);
        if interest != Interest::Nothing {
            let read = message::read(&mut self.inbox, &mut bytes, interest, |received| {
                shard.receive(id, received, now);
                shard.interest(id)
            });
            if let Err(violation) = read {
                self.inbox = None;
                shard.violate(id, violation, now);
            }
        }
        while self.says.front().is_some_and(|(end, _)| *end <= self.arrived) {
            let Some((_, say)) = self.says.pop_front() else { return };
            published.extend(self.session.hear(&say, now, tally));
        }
    }
}

/// The start of some bytes, for a reader.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

fn text(say: &Say, current: bool) -> String {
    let key = |classic: &'static str, other: &'static str| if current { other } else { classic };
    let rule = |key: &str, (kind, object): &(String, String)| {
        format!(r#"{{"{key}":{{"Type":"{kind}","Object":"{object}"}}}}"#)
    };
    match say {
        Say::Token { until_s, writes } => {
            let letter = if *writes { 'w' } else { 'r' };
            let token =
                until_s.map_or("unknown".to_owned(), |until_s| format!("{letter}{until_s}"));
            format!(r#"{{"{}":"{token}"}}"#, key("access_token", "AccessToken"))
        }
        Say::Subscribe(it) => rule(key("subscribe", "Subscribe"), it),
        Say::Unsubscribe(it) => rule(key("unsubscribe", "Unsubscribe"), it),
        Say::State => {
            format!(
                r#"{{"{}":"{}"}}"#,
                key("state", "State"),
                key("subscriptions", "Subscriptions")
            )
        }
        Say::Publish { kind, object, info } => {
            format!(r#"{{"Type":"{kind}","Object":"{object}","Info":"{info}"}}"#)
        }
        _ => "noise".to_owned(),
    }
}
