//! What goes wrong, and heals.

use super::random::Random;
use super::sessions::STEADY_MS;
use super::world::{SimEvent, Weather, World};

/// Time (ms) after a fault until a node has nothing to do with it any more: it is known again, and
/// all its links are whole.
const AFTERMATH_MS: u64 = 13_000;

/// A fault, which heals at a moment.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) until: u64,
    pub(super) kind: FaultKind,
}

#[derive(Debug)]
pub(super) enum FaultKind {
    /// A node is killed, and started again when it heals.
    Killed(usize),
    /// A node is drained, stopped, and started again when it heals.
    Stopped(usize),
    /// A node is drained and goes on, and is started again when it heals.
    Drained(usize),
    /// Messages from one node to another are lost.
    Blocked(usize, usize),
    /// Two nodes do not hear each other.
    Parted(usize, usize),
    /// A node has no connection to the engine.
    Cut(usize),
    /// Messages and answers get lost or late.
    Weather,
}

impl World {
    pub(super) fn start_node(&mut self, node: usize) {
        let incarnation = self.random.next();
        self.nodes[node].start(incarnation, self.now);
        let at = self.now + self.random.range(20, 400);
        self.schedule(at, node, SimEvent::Connected);
        self.schedule(self.now + 1, node, SimEvent::Tick);
        self.nodes[node].calm_from = self.now + AFTERMATH_MS;
    }

    /// Something goes wrong. Returns it if it has to be healed.
    pub(super) fn go_wrong(&mut self, faults: &[Fault]) -> Option<Fault> {
        let node = self.random.below(self.nodes.len());
        let other = (node + 1 + self.random.below(self.nodes.len() - 1)) % self.nodes.len();
        let until = self.now + self.random.range(300, 11_000);
        let is_involved = |node: usize| faults.iter().any(|fault| fault.involves(node));
        let kind = match self.random.below(100) {
            // Its sessions are gone with it.
            0..20 if self.nodes[node].is_up() && !is_involved(node) => {
                self.nodes[node].kill();
                FaultKind::Killed(node)
            }
            20..24 if self.nodes[node].is_up() && !is_involved(node) => {
                self.schedule(self.now, node, SimEvent::Drain);
                FaultKind::Drained(node)
            }
            24..30 if self.nodes[node].is_up() && !is_involved(node) => {
                self.stop(node);
                let until = self.now + self.random.range(1500, 6000);
                return Some(Fault { until, kind: FaultKind::Stopped(node) });
            }
            30..42 if self.nodes[node].is_up() => {
                self.nodes[node].paused_until = until;
                self.nodes[node].calm_from = until + AFTERMATH_MS;
                self.note(|| format!("node {node} pauses until {until}"));
                return None;
            }
            42..52 if !is_involved(node) && !is_involved(other) => {
                self.blocked[node][other] = true;
                FaultKind::Blocked(node, other)
            }
            52..62 if !is_involved(node) && !is_involved(other) => {
                (self.blocked[node][other], self.blocked[other][node]) = (true, true);
                FaultKind::Parted(node, other)
            }
            62..74 if self.nodes[node].is_up() && !is_involved(node) => {
                self.nodes[node].is_cut = true;
                let at = self.now + self.random.range(100, 2500);
                self.schedule(at, node, SimEvent::Lost);
                FaultKind::Cut(node)
            }
            74..84 => {
                self.weather = some_weather(&mut self.random);
                FaultKind::Weather
            }
            _ => {
                self.elect();
                return None;
            }
        };
        let fault = Fault { until, kind };
        self.disturb(&fault, u64::MAX);
        self.note(|| format!("{fault:?}"));
        Some(fault)
    }

    /// A fault ends.
    pub(super) fn heal(&mut self, fault: &Fault) {
        self.note(|| format!("heals: {fault:?}"));
        match fault.kind {
            FaultKind::Killed(node) | FaultKind::Stopped(node) | FaultKind::Drained(node) => {
                self.nodes[node].kill();
                self.start_node(node);
            }
            FaultKind::Blocked(from, to) => self.blocked[from][to] = false,
            FaultKind::Parted(one, other) => {
                (self.blocked[one][other], self.blocked[other][one]) = (false, false);
            }
            FaultKind::Cut(node) => {
                self.nodes[node].is_cut = false;
                let at = self.now + self.random.range(50, 900);
                self.schedule(at, node, SimEvent::Connected);
            }
            FaultKind::Weather => self.weather = Weather::default(),
        }
        self.disturb(fault, self.now + AFTERMATH_MS);
    }

    /// Notes until when nodes are not to be counted on.
    fn disturb(&mut self, fault: &Fault, until: u64) {
        // What was decided because of it is stored when the elections are over.
        let elected = self.journals.iter().map(|journal| journal.away_until).max();
        let until = until.max(elected.unwrap_or_default() + AFTERMATH_MS);
        for node in 0..self.nodes.len() {
            if fault.involves(node) {
                let paused = self.nodes[node].paused_until + AFTERMATH_MS;
                self.nodes[node].calm_from = until.max(paused + STEADY_MS);
            }
        }
    }

    fn stop(&mut self, node: usize) {
        self.note(|| format!("node {node} is drained"));
        self.nodes[node].calm_from = u64::MAX;
        self.schedule(self.now, node, SimEvent::Drain);
        let at = self.now + self.random.range(300, 1000);
        self.schedule(at, node, SimEvent::Stop);
    }

    /// Some partitions have no leader for a while.
    fn elect(&mut self) {
        let is_all = self.random.percent(30);
        let until = self.now + self.random.range(1000, 9000);
        self.note(|| format!("elections until {until}, of all: {is_all}"));
        for node in &mut self.nodes {
            if node.calm_from > self.now {
                node.calm_from = node.calm_from.max(until + AFTERMATH_MS);
            }
        }
        for number in 0..self.journals.len() {
            if is_all || self.random.percent(30) {
                self.journals[number].away_until = until;
            }
        }
    }
}

impl Fault {
    fn involves(&self, node: usize) -> bool {
        match self.kind {
            FaultKind::Killed(known)
            | FaultKind::Stopped(known)
            | FaultKind::Drained(known)
            | FaultKind::Cut(known) => known == node,
            FaultKind::Blocked(one, other) | FaultKind::Parted(one, other) => {
                one == node || other == node
            }
            FaultKind::Weather => true,
        }
    }
}

fn some_weather(random: &mut Random) -> Weather {
    Weather {
        message_lost: *random.pick(&[0, 1, 5, 20]),
        answer_lost: *random.pick(&[0, 5, 30]),
        call_late: *random.pick(&[0, 5, 20]),
    }
}
