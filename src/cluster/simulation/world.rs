//! The clock, the network, and what nodes put out.

use super::super::boundary::Destination;
use super::super::{ClusterHost, ClusterInput, ClusterOutput, JournalCall, JournalOutcome};
use super::engine::SimJournal;
use super::node::SimNode;
use super::random::Random;
use super::voice::SimVoice;
use crate::service::presence::{PresenceAnswer, PresenceQuestion, PresenceVoice};
use crate::service::webhook::{Webhook, WebhookReceipt};
use crate::service::{Answer, ConnectionRef, DialectId, Effect, Question};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The last lines that are told of a failure.
const TRACE_LINES: usize = 60;
/// Time (ms) after which a call without an answer has failed.
const CALL_MS: u64 = 2000;

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum SimEvent {
    /// A message arrives.
    Deliver(Vec<u8>),
    /// The outcome of a call arrives.
    Outcome(JournalOutcome),
    Tick,
    /// The engine's client tells that it is connected.
    Connected,
    Lost,
    /// A webhook is told.
    Tell(WebhookReceipt),
    Settled(WebhookReceipt),
    Drain,
    Stop,
}

/// A call on its way to the engine, or a late copy of one.
#[derive(Debug)]
pub(super) struct EngineCall {
    pub(super) node: usize,
    pub(super) incarnation: u64,
    pub(super) call: JournalCall,
    pub(super) sent_ms: u64,
    pub(super) is_late: bool,
}

#[derive(Debug)]
enum Scheduled {
    /// For a run of a node.
    Node(usize, u64, SimEvent),
    Engine(EngineCall),
}

/// An input of a node, that a step has led to.
#[derive(Debug)]
pub(super) enum SimInput {
    Heard(Vec<u8>),
    Outcome(JournalOutcome),
    Asked(ConnectionRef, PresenceQuestion),
    Settled(WebhookReceipt),
    Connected,
    Lost,
    Drain,
    Stop,
    Tick,
}

/// How unreliable things are at present, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) message_lost: u64,
    pub(super) answer_lost: u64,
    pub(super) call_late: u64,
}

/// All nodes, the network, and the engine.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Scheduled>,
    last_event: u64,
    pub(super) nodes: Vec<SimNode>,
    /// Whether messages from one node to another are lost.
    pub(super) blocked: Vec<Vec<bool>>,
    /// When the last message from one node to another arrives, of those to all and of those to one:
    /// they overtake each other.
    arrivals: BTreeMap<(usize, usize, bool), u64>,
    calls: BTreeMap<(usize, u8), u64>,
    pub(super) journals: Vec<SimJournal>,
    pub(super) weather: Weather,
    inputs: VecDeque<(usize, SimInput)>,
    /// Webhooks that were told, each with the runs of nodes that told it.
    pub(super) told: BTreeMap<WebhookReceipt, Vec<(usize, u64)>>,
    /// Webhooks that were handed over by an owner in an epoch.
    pub(super) handed: BTreeSet<(WebhookReceipt, usize, u64, u64)>,
    pub(super) inquiries: super::sessions::SimInquiries,
    pub(super) last_info: u64,
    /// Whether a session has been told anything since the start, by kind, to see that the test
    /// tests something.
    pub(super) seen: BTreeMap<&'static str, u64>,
    pub(super) fault: Option<String>,
    pub(super) trace: VecDeque<String>,
    /// All messages that were sent, if they are wanted.
    pub(super) sent: Option<Vec<Vec<u8>>>,
}

impl World {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let mut random = Random::new(seed);
        let names = ["a", "b", "c", "d"];
        let nodes: Vec<SimNode> = names[..nodes]
            .iter()
            .map(|name| SimNode::new(name, random.range(0, 1_000_000)))
            .collect();
        let count = nodes.len();
        Self {
            random,
            now: 0,
            queue: BTreeMap::new(),
            last_event: 0,
            nodes,
            blocked: vec![vec![false; count]; count],
            arrivals: BTreeMap::new(),
            calls: BTreeMap::new(),
            journals: (0..16).map(|_| SimJournal::default()).collect(),
            weather: Weather::default(),
            inputs: VecDeque::new(),
            told: BTreeMap::new(),
            handed: BTreeSet::new(),
            inquiries: super::sessions::SimInquiries::default(),
            last_info: 0,
            seen: BTreeMap::new(),
            fault: None,
            trace: VecDeque::new(),
            sent: None,
        }
    }

    /// Notes something for the account of a failure.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() >= TRACE_LINES {
            self.trace.pop_front();
        }
        let line = format!("{:6} {}", self.now, text());
        self.trace.push_back(line);
    }

    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Notes that a promise is broken.
    pub(super) fn broken(&mut self, what: String) {
        if self.fault.is_none() {
            self.fault = Some(format!("at {} ms: {what}", self.now));
        }
    }

    pub(super) fn schedule(&mut self, at: u64, node: usize, event: SimEvent) {
        let incarnation = self.nodes[node].incarnation;
        self.push(at, Scheduled::Node(node, incarnation, event));
    }

    fn push(&mut self, at: u64, scheduled: Scheduled) {
        self.last_event += 1;
        self.queue.insert((at, self.last_event), scheduled);
    }

    /// Lets everything happen until a moment.
    pub(super) fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            if self.fault.is_some() {
                return;
            }
            let ((at, _), scheduled) = entry.remove_entry();
            self.now = self.now.max(at);
            match scheduled {
                Scheduled::Engine(call) => self.at_engine(call),
                Scheduled::Node(node, incarnation, event) => {
                    let known = &self.nodes[node];
                    if known.incarnation != incarnation || !known.is_up() {
                        continue;
                    }
                    if known.paused_until > self.now {
                        let until = known.paused_until;
                        self.push(until, Scheduled::Node(node, incarnation, event));
                        continue;
                    }
                    self.happen(node, event);
                }
            }
        }
        self.now = end;
    }

    fn happen(&mut self, node: usize, event: SimEvent) {
        match event {
            SimEvent::Deliver(_) if self.nodes[node].is_cut => {}
            SimEvent::Deliver(bytes) => self.input(node, SimInput::Heard(bytes)),
            SimEvent::Outcome(outcome) => self.input(node, SimInput::Outcome(outcome)),
            SimEvent::Tick => {
                self.input(node, SimInput::Tick);
                self.schedule(self.now + 100, node, SimEvent::Tick);
            }
            SimEvent::Connected => {
                if !self.nodes[node].is_cut && !self.nodes[node].is_connected {
                    self.nodes[node].is_connected = true;
                    self.input(node, SimInput::Connected);
                }
            }
            SimEvent::Lost => {
                // A short outage is over before anyone notices.
                let sim = &mut self.nodes[node];
                if sim.is_cut && std::mem::replace(&mut sim.is_connected, false) {
                    self.input(node, SimInput::Lost);
                }
            }
            SimEvent::Tell(receipt) => {
                if self.nodes[node].webhooks.contains(&receipt) {
                    self.check_teller(node, receipt);
                    let run = (node, self.nodes[node].incarnation);
                    self.told.entry(receipt).or_default().push(run);
                    let at = self.now + self.random.range(1, 50);
                    self.schedule(at, node, SimEvent::Settled(receipt));
                }
            }
            SimEvent::Settled(receipt) => {
                if self.nodes[node].webhooks.remove(&receipt) {
                    self.input(node, SimInput::Settled(receipt));
                }
            }
            SimEvent::Drain => self.input(node, SimInput::Drain),
            SimEvent::Stop => {
                self.input(node, SimInput::Stop);
                self.nodes[node].kill();
            }
        }
    }

    /// Gives a node an input, and all inputs that follow from it at once.
    pub(super) fn input(&mut self, node: usize, input: SimInput) {
        self.inputs.push_back((node, input));
        self.drain_inputs();
    }

    /// Handles the inputs that are queued, and what follows from them.
    pub(super) fn drain_inputs(&mut self) {
        while let Some((node, input)) = self.inputs.pop_front() {
            self.step(node, input);
        }
    }

    /// Queues an input that follows from what a node has put out.
    pub(super) fn follow(&mut self, node: usize, input: SimInput) {
        self.inputs.push_back((node, input));
    }

    fn step(&mut self, node: usize, input: SimInput) {
        let sim = &mut self.nodes[node];
        let now = sim.now(self.now);
        let Some(cluster) = &mut sim.cluster else { return };
        let mut out = Vec::new();
        let voice = |_: DialectId| -> Option<&dyn PresenceVoice> { Some(&SimVoice) };
        let mut host = ClusterHost {
            voice: &voice,
            draft: &mut sim.draft,
            outbox_bytes_max: 1 << 20,
            connections: &Vec::new,
            misses: &mut |topic, _, _| sim.missed.insert(topic.to_vec()),
            out: &mut out,
        };
        match input {
            SimInput::Heard(bytes) => cluster.handle(ClusterInput::Heard(&bytes), now, &mut host),
            SimInput::Outcome(outcome) => {
                cluster.handle(ClusterInput::Journal(outcome), now, &mut host);
            }
            SimInput::Asked(from, question) => {
                cluster.handle(ClusterInput::Asked(from, Box::new(question)), now, &mut host);
            }
            SimInput::Settled(receipt) => {
                cluster.handle(ClusterInput::Settled(vec![receipt]), now, &mut host);
            }
            SimInput::Connected => cluster.handle(ClusterInput::Connected, now, &mut host),
            SimInput::Lost => cluster.handle(ClusterInput::Lost, now, &mut host),
            SimInput::Drain => cluster.handle(ClusterInput::Drain, now, &mut host),
            SimInput::Stop => cluster.handle(ClusterInput::Stop, now, &mut host),
            SimInput::Tick => cluster.tick(now, &mut host),
        }
        for output in out {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: usize, output: ClusterOutput) {
        match output {
            ClusterOutput::Effect(Effect::Publication(publication)) => {
                self.published(node, &publication);
            }
            ClusterOutput::Effect(Effect::Answer(connection, Answer::Presence(answer))) => {
                self.answered(node, connection, answer);
            }
            ClusterOutput::Effect(Effect::Ask(Question::Webhook(webhook))) => {
                let Webhook::Event(event) = *webhook else { panic!("not an event") };
                self.webhook(node, event.receipt.unwrap(), &event.json);
            }
            ClusterOutput::Effect(other) => panic!("{other:?}"),
            ClusterOutput::Send(Destination::All, bytes) => {
                for to in 0..self.nodes.len() {
                    self.send(node, to, bytes.clone(), true);
                }
            }
            ClusterOutput::Send(Destination::Node(name), bytes) => {
                let to = self.nodes.iter().position(|other| other.name == name.as_str());
                // A mutated message may have the name of a node that there is not.
                to.into_iter().for_each(|to| self.send(node, to, bytes.clone(), false));
            }
            ClusterOutput::Journal(call) => self.call(node, call),
            ClusterOutput::WebhooksLost(partition, lost) => {
                self.broken(format!("partition {partition} has lost {lost} webhooks"));
            }
            ClusterOutput::ForgetWebhooks(partition) => {
                self.nodes[node].webhooks.retain(|receipt| receipt.partition != partition);
            }
            ClusterOutput::News(_, text) => {
                let name = self.nodes[node].name;
                self.note(|| format!("{name}: {text}"));
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>, is_to_all: bool) {
        if let Some(sent) = &mut self.sent {
            sent.push(bytes.clone());
        }
        if from == to || self.nodes[from].is_cut || self.blocked[from][to] {
            return;
        }
        if self.random.percent(self.weather.message_lost) {
            return;
        }
        let slow = if self.random.percent(2) { 150 } else { 5 };
        let at = self.now + self.random.range(0, slow);
        let last = self.arrivals.entry((from, to, is_to_all)).or_default();
        *last = at.max(*last);
        let at = *last;
        self.schedule(at, to, SimEvent::Deliver(bytes));
    }

    fn call(&mut self, node: usize, call: JournalCall) {
        let incarnation = self.nodes[node].incarnation;
        let sent_ms = self.now;
        let is_read = matches!(call, JournalCall::Load { .. } | JournalCall::Look { .. });
        let sim = &self.nodes[node];
        if sim.is_cut || sim.is_barred || (sim.is_read_only && !is_read) {
            return self.fail(node, incarnation, &call, sent_ms);
        }
        let key = (node, partition_of(&call).0);
        let at = self.now + self.random.range(0, 4);
        let last = self.calls.entry(key).or_default();
        *last = at.max(*last);
        let at = *last;
        let call = EngineCall { node, incarnation, call, sent_ms, is_late: false };
        self.push(at, Scheduled::Engine(call));
    }

    fn fail(&mut self, node: usize, incarnation: u64, call: &JournalCall, sent_ms: u64) {
        let (partition, Some(call)) = partition_of(call) else { return };
        let outcome = JournalOutcome::Failed { partition, call };
        let event = SimEvent::Outcome(outcome);
        self.push(sent_ms + CALL_MS, Scheduled::Node(node, incarnation, event));
    }

    /// A call arrives at the engine.
    fn at_engine(&mut self, call: EngineCall) {
        let journal = &self.journals[usize::from(partition_of(&call.call).0)];
        let away_until = journal.away_until;
        if !call.is_late {
            let is_away = away_until > self.now;
            if is_away || self.random.percent(self.weather.call_late) {
                self.fail(call.node, call.incarnation, &call.call, call.sent_ms);
                // Some are stored after all, when a leader is there again.
                if self.random.percent(50) {
                    let at = away_until.max(self.now) + self.random.range(0, 3000);
                    self.push(at, Scheduled::Engine(EngineCall { is_late: true, ..call }));
                }
                return;
            }
        } else if away_until > self.now {
            return self.push(away_until, Scheduled::Engine(call));
        }

        let removed = self.check_removals(&call.call);
        if let JournalCall::Purge { .. } = call.call {
            self.saw("snapshot");
        }
        let journal = &mut self.journals[usize::from(partition_of(&call.call).0)];
        let outcome = match journal.apply((call.node, call.incarnation), &call.call) {
            Ok(outcome) => outcome,
            Err(fault) => return self.broken(format!("journal: {fault}")),
        };
        if let (Some(removed), Some(JournalOutcome::Stored { .. })) = (removed, &outcome) {
            self.broken(removed);
        }
        let Some(outcome) = outcome.filter(|_| !call.is_late) else { return };
        if self.nodes[call.node].is_cut || self.random.percent(self.weather.answer_lost) {
            return self.fail(call.node, call.incarnation, &call.call, call.sent_ms);
        }
        let at = self.now + self.random.range(0, 4);
        let event = SimEvent::Outcome(outcome);
        self.push(at, Scheduled::Node(call.node, call.incarnation, event));
    }

    fn webhook(&mut self, node: usize, receipt: WebhookReceipt, json: &str) {
        let recorded =
            self.journals[usize::from(receipt.partition)].announced.webhooks.get(&receipt.number);
        if recorded.map(String::as_str) != Some(json) {
            return self.broken(format!("webhook {receipt:?} is told before it is stored: {json}"));
        }
        if self.journals[usize::from(receipt.partition)].announced.settled.contains(&receipt.number)
        {
            return self.broken(format!("webhook {receipt:?} is handed over again"));
        }
        let sim = &self.nodes[node];
        let status = sim.cluster.as_ref().unwrap().status(sim.now(self.now));
        let epoch = status.partitions[usize::from(receipt.partition)].epoch;
        if !self.handed.insert((receipt, node, sim.incarnation, epoch)) {
            return self.broken(format!("webhook {receipt:?} is handed over twice by one owner"));
        }
        self.nodes[node].webhooks.insert(receipt);
        let at = self.now + self.random.range(20, 2500);
        self.schedule(at, node, SimEvent::Tell(receipt));
        self.saw("webhook");
    }

    /// An answer for a connection: of a session, or of an HTTP client.
    fn answered(&mut self, node: usize, connection: ConnectionRef, answer: PresenceAnswer) {
        if connection.shard == super::sessions::HTTP {
            self.inquired(node, connection, answer);
        } else {
            self.session_answered(node, connection, answer);
        }
    }
}

/// The partition and the number of a call; a purge has none.
fn partition_of(call: &JournalCall) -> (u8, Option<u64>) {
    match call {
        JournalCall::Take { partition, call, .. }
        | JournalCall::Load { partition, call }
        | JournalCall::Append { partition, call, .. }
        | JournalCall::Look { partition, call, .. } => (*partition, Some(*call)),
        JournalCall::Purge { partition, .. } => (*partition, None),
    }
}
