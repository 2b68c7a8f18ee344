//! What a session must be told, worked out the slow way: no trie, no wheel, no shared lists.

use fanfare::frame;
use fanfare::reason::Reason;
use fanfare::wheel::{NEVER, Now, TICK_MS, Tick, ticks};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

pub(crate) const OUTBOX_BYTES_MAX: usize = 8 * 1024;
/// What an outbox counts for a frame that it keeps beyond its turn, beside the bytes.
const KEPT_OVERHEAD_BYTES: usize = 32;
pub(crate) const HANDSHAKE_S: u32 = 10;
pub(crate) const CLOSE_S: u32 = 5;
const LINGER_S: u64 = 2;
/// For a peer that has not read on, once the daemon stops.
const LEAVING_S: u64 = 1;
pub(crate) const SESSION_S: u32 = 120;
pub(crate) const TOKEN_S: u32 = 30;
pub(crate) const PING_S: u32 = 20;
pub(crate) const PING_MISSES: u8 = 3;
pub(crate) const RULES_MAX: usize = 6;

/// Reasons for ends, in the order of the metrics.
pub(crate) const DIALECT: usize = Reason::Dialect as usize;
const SLOW: usize = Reason::Slow as usize;
const UNANSWERED: usize = Reason::Unanswered as usize;
const VIOLATION: usize = Reason::Violation as usize;
/// Those that a long run sees.
pub(crate) const ENDS: [usize; 4] = [DIALECT, SLOW, UNANSWERED, VIOLATION];
pub(crate) const DRAIN: usize = Reason::Drain as usize;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    Head,
    Open,
    Closing,
    Ending,
    Over,
    Gone,
}

/// Something that a client says.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// One that lasts until a second of the clock; `None` is no token of ours.
    Token {
        until_s: Option<u64>,
        writes: bool,
    },
    Subscribe(Rule),
    Unsubscribe(Rule),
    State,
    Publish {
        kind: String,
        object: String,
        info: String,
    },
    Noise,
    Ping(Vec<u8>),
    Pong,
    Close,
    /// A frame without a mask.
    Garbage,
}

/// Type and Object.
pub(crate) type Rule = (String, String);

/// An event with the frames that sessions of either spelling get.
#[derive(Clone)]
pub(crate) struct Occasion {
    pub(crate) cell: String,
    pub(crate) kind: Option<String>,
    pub(crate) object: Option<String>,
    pub(crate) frames: [Rc<[u8]>; 2],
}

pub(crate) struct Frame {
    pub(crate) bytes: Rc<[u8]>,
    /// Whether it was left over at the end of a turn.
    pub(crate) kept: bool,
    /// Whether it is for this client alone.
    own: bool,
}

struct Live {
    expires_ms: u64,
    expired: bool,
    writes: bool,
}

/// One connection, and what is still to be written to it.
pub(crate) struct Session {
    pub(crate) cell: String,
    pub(crate) current: bool,
    pub(crate) phase: Phase,
    pub(crate) pending: VecDeque<Frame>,
    /// How much of the first pending frame has left.
    pub(crate) begun: usize,
    /// Whether the socket has refused bytes and not been found writable since.
    pub(crate) blocked: bool,
    live: Option<Live>,
    pub(crate) rules: Vec<Rule>,
    deadline: Tick,
    ping_at: Tick,
    misses: u8,
    is_leaving: bool,
    /// Whether the socket has taken bytes in this turn.
    pub(crate) reads: bool,
}

/// What all sessions of a shard count together.
pub(crate) struct DialectTally {
    pub(crate) ends: [u64; Reason::COUNT],
    pub(crate) deliveries: u64,
}

impl Default for DialectTally {
    fn default() -> Self {
        Self { ends: [0; Reason::COUNT], deliveries: 0 }
    }
}

pub(crate) fn text_frame(text: &str) -> Rc<[u8]> {
    let mut bytes = Vec::new();
    frame::put_frame(OpCode::Data(Data::Text), text.as_bytes(), &mut bytes);
    bytes.into()
}

pub(crate) fn control_frame(control: Control, payload: &[u8]) -> Rc<[u8]> {
    let mut bytes = Vec::new();
    frame::put_frame(OpCode::Control(control), payload, &mut bytes);
    bytes.into()
}

fn ms(now: Now) -> u64 {
    now.monotonic_ns / 1_000_000
}

fn tick_after(at_ms: u64) -> Tick {
    at_ms.div_ceil(TICK_MS) as Tick
}

/// `*` alone is the empty prefix.
fn prefix(pattern: &str) -> &str {
    if pattern == "*" { "" } else { pattern }
}

impl Session {
    pub(crate) fn new(cell: &str, current: bool, now: Now) -> Self {
        Self {
            cell: cell.to_owned(),
            current,
            phase: Phase::Head,
            pending: VecDeque::new(),
            begun: 0,
            blocked: false,
            live: None,
            rules: Vec::new(),
            deadline: now.tick() + ticks(HANDSHAKE_S.into()),
            ping_at: NEVER,
            misses: 0,
            is_leaving: false,
            reads: false,
        }
    }

    /// Entries of the trie.
    pub(crate) fn subscriptions(&self) -> usize {
        match &self.live {
            None => 0,
            Some(live) if live.expired => 1,
            Some(_) => self
                .rules
                .iter()
                .map(|rule| (prefix(&rule.0), prefix(&rule.1)))
                .collect::<BTreeSet<_>>()
                .len(),
        }
    }

    /// What the outbox holds beyond the turn.
    pub(crate) fn kept_bytes(&self) -> usize {
        let kept = self.pending.iter().filter(|frame| frame.kept);
        kept.map(|frame| frame.bytes.len() + KEPT_OVERHEAD_BYTES).sum()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// What a handshake that is claimed has for an answer.
    pub(crate) fn upgraded(&mut self, response: &[u8], now: Now, tally: &mut DialectTally) {
        self.phase = Phase::Open;
        self.push(response.into(), true, now, tally);
        if self.phase == Phase::Open {
            self.deadline = tick_after(ms(now) + u64::from(TOKEN_S) * 1000);
            self.ping_at = now.tick() + ticks(PING_S.into());
        }
    }

    pub(crate) fn refused(&mut self, status: u16, now: Now, tally: &mut DialectTally) {
        self.push(fanfare::http::refusal(status).into(), true, now, tally);
        self.finish(now);
    }

    fn push(&mut self, bytes: Rc<[u8]>, own: bool, now: Now, tally: &mut DialectTally) {
        self.pending.push_back(Frame { bytes, kept: false, own });
        let turn = |own: bool| {
            let frames =
                self.pending.iter().filter(move |frame| !frame.kept && (frame.own || !own));
            frames.map(|frame| frame.bytes.len()).sum::<usize>()
        };
        let kept = self.kept_bytes();
        let held = if kept > 0 { kept + turn(false) } else { turn(true) };
        if held > OUTBOX_BYTES_MAX && self.phase == Phase::Open {
            // What has begun to leave has to be finished; without such, the socket is tried afresh.
            self.pending.truncate(usize::from(self.begun > 0));
            self.blocked &= self.begun > 0;
            self.close(1013, "too slow", SLOW, now, tally);
        }
    }

    pub(crate) fn close(
        &mut self,
        code: u16,
        reason: &str,
        end: usize,
        now: Now,
        tally: &mut DialectTally,
    ) {
        match self.phase {
            Phase::Head => self.refused(503, now, tally),
            Phase::Open => {
                tally.ends[end] += 1;
                self.phase = Phase::Closing;
                self.live = None;
                self.push(frame::close(code, reason).into(), true, now, tally);
                self.deadline = self.patience(CLOSE_S.into(), now);
                self.ping_at = NEVER;
            }
            _ => {}
        }
    }

    /// The daemon stops.
    pub(crate) fn stop(&mut self, now: Now, tally: &mut DialectTally) {
        self.is_leaving = true;
        if matches!(self.phase, Phase::Closing | Phase::Ending | Phase::Over) {
            self.deadline = self.deadline.min(now.tick() + ticks(LEAVING_S));
        }
        self.close(1001, "the server is stopping", DRAIN, now, tally);
    }

    fn patience(&self, seconds: u64, now: Now) -> Tick {
        now.tick() + ticks(if self.is_leaving { LEAVING_S.min(seconds) } else { seconds })
    }

    fn finish(&mut self, now: Now) {
        self.live = None;
        if !matches!(self.phase, Phase::Ending | Phase::Over) {
            self.phase = Phase::Ending;
            self.deadline = self.patience(CLOSE_S.into(), now);
            self.ping_at = NEVER;
        }
    }

    /// The end of a turn: what is left is kept. Returns whether everything has been said for good.
    pub(crate) fn turned(&mut self, now: Now) -> bool {
        self.pending.iter_mut().for_each(|frame| frame.kept = true);
        let reads = std::mem::take(&mut self.reads);
        if self.is_leaving && reads && matches!(self.phase, Phase::Closing | Phase::Ending) {
            self.deadline = now.tick() + ticks(LEAVING_S);
        }
        let over = self.phase == Phase::Ending && self.pending.is_empty();
        if over {
            self.phase = Phase::Over;
            self.deadline = self.patience(LINGER_S, now);
        }
        over
    }

    pub(crate) fn tick(&mut self, now: Now, tally: &mut DialectTally) {
        if self.deadline <= now.tick() {
            self.deadline = NEVER;
            match self.phase {
                Phase::Head => self.refused(408, now, tally),
                Phase::Open => self.expire(now, tally),
                _ => return self.phase = Phase::Gone,
            }
        }
        if self.ping_at <= now.tick() {
            if self.misses >= PING_MISSES {
                return self.close(1000, "", UNANSWERED, now, tally);
            }
            self.misses += 1;
            self.ping_at = now.tick() + ticks(PING_S.into());
            self.push(control_frame(Control::Ping, &[1, 2, 3]), true, now, tally);
        }
    }

    fn expire(&mut self, now: Now, tally: &mut DialectTally) {
        match &mut self.live {
            Some(live) if live.expires_ms > ms(now) => self.deadline = tick_after(live.expires_ms),
            Some(live) if !live.expired => {
                live.expired = true;
                self.deadline = tick_after(ms(now) + u64::from(TOKEN_S) * 1000);
            }
            _ => self.close(1000, "", DIALECT, now, tally),
        }
    }

    pub(crate) fn deliver(&mut self, occasion: &Occasion, now: Now, tally: &mut DialectTally) {
        let Some(live) = self.live.as_ref().filter(|_| self.phase == Phase::Open) else { return };
        let selected = live.expired || self.rules.iter().any(|rule| selects(rule, occasion));
        if self.cell != occasion.cell || !selected {
            return;
        }
        if live.expires_ms <= ms(now) {
            return self.close(1000, "", DIALECT, now, tally);
        }
        tally.deliveries += 1;
        self.push(Rc::clone(&occasion.frames[usize::from(self.current)]), false, now, tally);
    }

    /// Hears something whole. Returns what it publishes.
    pub(crate) fn hear(
        &mut self,
        say: &Say,
        now: Now,
        tally: &mut DialectTally,
    ) -> Option<Occasion> {
        // Whatever comes shows that the peer lives.
        if !matches!(say, Say::Garbage) {
            self.misses = 0;
        }
        match say {
            Say::Garbage if matches!(self.phase, Phase::Open | Phase::Closing) => {
                self.close(1002, "protocol error", VIOLATION, now, tally);
                self.finish(now);
            }
            Say::Close if self.phase == Phase::Closing => self.finish(now),
            _ if self.phase != Phase::Open => {}
            Say::Close => {
                self.push(control_frame(Control::Close, &[3, 232]), true, now, tally);
                self.finish(now);
            }
            Say::Ping(payload) => {
                self.push(control_frame(Control::Pong, payload), true, now, tally)
            }
            Say::Pong => {}
            command => return self.command(command, now, tally),
        }
        None
    }

    fn command(&mut self, say: &Say, now: Now, tally: &mut DialectTally) -> Option<Occasion> {
        if let Say::Token { until_s, writes } = say {
            let remaining_ms =
                until_s.map_or(0, |until_s| (until_s * 1000).saturating_sub(now.unix_ms));
            if remaining_ms == 0 {
                self.close(1000, "", DIALECT, now, tally);
            } else {
                self.begin(remaining_ms.min(u64::from(SESSION_S) * 1000), *writes, now, tally);
            }
            return None;
        }
        let Some(live) = &self.live else {
            if !matches!(say, Say::Noise) {
                self.reply(Err(("AccessToken", "Unauthorized")), now, tally);
            }
            return None;
        };
        if live.expires_ms <= ms(now) {
            self.close(1000, "", DIALECT, now, tally);
            return None;
        }
        match say {
            Say::Subscribe(rule) if self.rules.len() < RULES_MAX => {
                self.rules.push(rule.clone());
                self.reply(Ok("Subscribe"), now, tally);
            }
            Say::Subscribe(_) => self.reply(Err(("Subscribe", "Format error")), now, tally),
            Say::Unsubscribe(rule) => match self.rules.iter().position(|other| other == rule) {
                Some(index) => {
                    self.rules.remove(index);
                    self.reply(Ok("Unsubscribe"), now, tally);
                }
                None => self.reply(Err(("Unsubscribe", "Subscriptions not found")), now, tally),
            },
            Say::State => self.state(now, tally),
            Say::Publish { kind, object, info } if self.current => {
                return live.writes.then(|| self.publish(kind, object, info, now));
            }
            _ => self.reply(Err(("", "Format error")), now, tally),
        }
        None
    }

    fn begin(&mut self, length_ms: u64, writes: bool, now: Now, tally: &mut DialectTally) {
        let (expires_ms, length_s) = (ms(now) + length_ms, length_ms / 1000);
        self.live = Some(Live { expires_ms, expired: false, writes });
        self.push(
            text_frame(&if self.current {
                format!(
                    r#"{{"Response":"AccessToken","ExpiresIn":{length_s},"Timestamp":{},"Result":"Success"}}"#,
                    now.unix_ms
                )
            } else {
                let seconds = now.unix_ms / 1000;
                format!(r#"{{"response":"success","expires_in":{length_s},"timestamp":{seconds}}}"#)
            }),
            true,
            now,
            tally,
        );
        if self.phase == Phase::Open {
            self.deadline = tick_after(expires_ms);
            self.ping_at = now.tick() + ticks(PING_S.into());
            self.misses = 0;
        }
    }

    fn reply(&mut self, reply: Result<&str, (&str, &str)>, now: Now, tally: &mut DialectTally) {
        let (ms, seconds) = (now.unix_ms, now.unix_ms / 1000);
        let text = match (self.current, reply) {
            (true, Ok(done)) => {
                format!(r#"{{"Response":"{done}","Timestamp":{ms},"Result":"Success"}}"#)
            }
            (true, Err((command, reason))) => {
                let command =
                    if command.is_empty() { "null".into() } else { format!(r#""{command}""#) };
                format!(
                    r#"{{"Response":{command},"Timestamp":{ms},"Reason":"{reason}","Result":"Error"}}"#
                )
            }
            (false, Ok(_)) => format!(r#"{{"response":"success","timestamp":{seconds}}}"#),
            (false, Err((_, reason))) => {
                let reason = reason.to_lowercase();
                format!(r#"{{"reason":"{reason}","response":"error","timestamp":{seconds}}}"#)
            }
        };
        self.push(text_frame(&text), true, now, tally);
    }

    fn state(&mut self, now: Now, tally: &mut DialectTally) {
        let [kind, object] = if self.current { ["Type", "Object"] } else { ["type", "object"] };
        let rules = self
            .rules
            .iter()
            .map(|rule| format!(r#"{{"{kind}":"{}","{object}":"{}"}}"#, rule.0, rule.1));
        let rules = rules.collect::<Vec<_>>().join(",");
        let text = if self.current {
            format!(
                r#"{{"Response":"State","Subscriptions":[{rules}],"Timestamp":{},"Result":"Success"}}"#,
                now.unix_ms
            )
        } else {
            let seconds = now.unix_ms / 1000;
            format!(r#"{{"subscriptions":[{rules}],"response":"success","timestamp":{seconds}}}"#)
        };
        self.push(text_frame(&text), true, now, tally);
    }

    fn publish(&self, kind: &str, object: &str, info: &str, now: Now) -> Occasion {
        let common = |schema: &str| {
            format!(
                r#"{{"Type":"{kind}","RequestKey":"PCS-{}","Schema":{schema},"External":true,"Object":"{object}","Info":"{info}""#,
                now.unix_ms
            )
        };
        let classic = format!(r#"{},"cellId":"{}","Subject":null}}"#, common(r#""""#), self.cell);
        let current = format!(r#"{},"Timestamp":{},"Subject":null}}"#, common("null"), now.unix_ms);
        Occasion {
            cell: self.cell.clone(),
            kind: Some(kind.to_owned()),
            object: Some(object.to_owned()),
            frames: [text_frame(&classic), text_frame(&current)],
        }
    }
}

fn selects(rule: &Rule, occasion: &Occasion) -> bool {
    let starts = |value: &Option<String>, pattern: &str| {
        value.as_ref().is_some_and(|value| value.starts_with(prefix(pattern)))
    };
    starts(&occasion.kind, &rule.0) && starts(&occasion.object, &rule.1)
}
