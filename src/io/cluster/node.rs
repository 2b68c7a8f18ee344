//! The cluster's thread: what it does in one turn, and what it waits for between two.

use super::super::{Hub, ROOM_PAUSE, clock};
use super::engine::{Engine, EngineChange, Subjects};
use super::farewell::Farewell;
use super::handle::{ClusterHandle, ClusterPost};
use super::inbound::Inbound;
use super::isolation::Isolation;
use super::journal::Journals;
use super::outbound::{ClusterOutbound, STALL_MAX};
use super::place::Nats;
use super::search::ServerSearch;
use crate::cluster::{
    Cluster, ClusterHost, ClusterInput, ClusterOutput, ClusterPlan, KeptExchange, KeptPublications,
    NodeId, NodeName, live,
};
use crate::dialect::{Kind, Settings};
use crate::frame::{Draft, Publication, PublicationScope};
use crate::metrics::ClusterMetrics;
use crate::service::{Effect, Question};
use crate::shard::{Limits, Outgoing};
use crate::throttle::LogLine;
use crate::wheel::{Now, SECOND_NS};
use async_nats::Subscriber;
use async_nats::message::Message;
use futures_core::Stream as _;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::{unconstrained, yield_now};
use tokio::time::{sleep, timeout};

/// Messages of the engine that one turn takes out of the client's queue, which holds four times as
/// many: some milliseconds of work. Their bytes are bounded by where they wait next.
const TURN_MESSAGES_MAX: usize = 16 * 1024;
/// Interval of the status, which is text that operators read.
const STATUS_NS: u64 = SECOND_NS / 2;

/// The thread's state.
pub(super) struct ClusterNode {
    pub(super) hub: Arc<Hub>,
    pub(super) handle: Arc<ClusterHandle>,
    pub(super) name: NodeName,
    pub(super) metrics: Arc<ClusterMetrics>,
    pub(super) settings: Arc<Settings>,
    pub(super) cluster: Cluster,
    pub(super) engine: Engine,
    pub(super) outbound: ClusterOutbound,
    pub(super) inbound: Inbound,
    posts: VecDeque<ClusterPost>,
    draft: Draft,
    outputs: Vec<ClusterOutput>,
    /// The end of a message to the whole engine, awaited after it had stopped to take any.
    probe: Option<EngineProbe>,
    /// The limit on bytes queued for one client, which may change with a reload.
    pub(super) outbox_bytes_max: usize,
    /// The retained events of all nodes.
    pub(super) kept: KeptPublications,
    /// What other nodes are asked for of them.
    pub(super) exchange: KeptExchange,
    /// Whether this node has got what the others retain, once.
    pub(super) has_kept: bool,
    pub(super) journals: Journals,
    /// What they suffer from.
    pub(super) fault: Option<String>,
    pub(super) servers: String,
    /// Whether the cluster's value holds the engine for connected.
    pub(super) is_connected: bool,
    /// What makes the connected server unfit.
    pub(super) objection: Option<String>,
    pub(super) isolation: Isolation,
    next_status_ns: u64,
    pub(super) search: ServerSearch,
    /// Whether this node is cut off together with the server that it is connected to.
    pub(super) is_cut_off: bool,
    farewell: Farewell,
}

type EngineProbe = Pin<Box<dyn Future<Output = bool> + Send>>;

impl ClusterNode {
    pub(super) async fn start(
        hub: Arc<Hub>,
        handle: Arc<ClusterHandle>,
        nats: &Nats,
        me: NodeId,
    ) -> io::Result<Self> {
        let subjects = Subjects::new(nats);
        let engine = Engine::start(nats, &subjects).await?;
        let settings = hub.settings();
        let plan = ClusterPlan {
            has_presence: hub.spoken.iter().any(|kind| kind.presence(&settings).is_some()),
            settings_hash: settings.shared_hash(),
            versions: vec![live::VERSION],
        };
        let (metrics, now) = (Arc::clone(&handle.metrics), clock::now());
        let node = Self {
            outbound: ClusterOutbound::new(
                engine.client.clone(),
                &subjects,
                me.clone(),
                Arc::clone(&metrics),
            ),
            cluster: Cluster::new(me, plan, now),
            journals: Journals::new(
                &engine.client,
                &nats.settings.name,
                nats.settings.replicas.into(),
            ),
            servers: nats.servers.to_string(),
            kept: KeptPublications::new(nats.node.clone()),
            exchange: KeptExchange::new(nats.node.clone()),
            has_kept: false,
            name: nats.node.clone(),
            outbox_bytes_max: Limits::default().outbox_bytes_max,
            fault: None,
            is_connected: false,
            objection: None,
            hub,
            handle,
            metrics,
            settings,
            engine,
            inbound: Inbound::default(),
            posts: VecDeque::new(),
            draft: Draft::default(),
            outputs: Vec::new(),
            probe: None,
            isolation: Isolation::new(&nats.settings),
            next_status_ns: 0,
            search: ServerSearch::default(),
            is_cut_off: false,
            farewell: Farewell::default(),
        };
        Ok(node)
    }

    /// Runs until the daemon has stopped.
    pub(super) async fn run(mut self) {
        while let Some(more) = self.turn(clock::now()) {
            self.wait(more).await;
        }
        // What the client was handed is on its way once this ends; there is nobody else to tell of
        // an engine that takes nothing.
        if self.is_connected {
            let _ = timeout(STALL_MAX, self.engine.client.flush()).await;
        }
    }

    /// Takes one turn. Returns whether there is more to do at once; `None` when the thread is to
    /// end.
    fn turn(&mut self, now: Now) -> Option<bool> {
        self.hub.pulses.cluster.beat(now);
        self.look(now);
        self.take_posts(now);
        let more = self.pass_on(now);
        if self.inbound.has_control() {
            self.cluster.excuse(now);
        }
        if now.monotonic_ns >= self.cluster.next_at_ns() {
            self.step(|cluster, host| cluster.tick(now, host));
            let lost = self.cluster.take_lost();
            if lost > 0 {
                self.lost(lost, now);
                self.exchange.lost_of_some();
            }
            self.ask_for_kept(now);
        }
        if now.monotonic_ns >= self.next_status_ns {
            self.next_status_ns = now.monotonic_ns + STATUS_NS;
            self.tell(now);
        }
        self.hub.bridge.lease_webhooks(self.cluster.confirmed_until_ns(), now);
        if self.farewell.is_handing_over() && self.farewell.is_due(&self.cluster.status(now)) {
            self.step(|cluster, host| cluster.handle(ClusterInput::Stop, now, host));
        }
        (!self.farewell.is_over(self.outbound.is_empty())).then_some(more)
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, more: bool) {
        let until_tick = self.cluster.next_at_ns().saturating_sub(clock::now().monotonic_ns);
        let mut pause = Duration::from_nanos(until_tick);
        if !self.inbound.is_empty() {
            pause = pause.min(ROOM_PAUSE);
        }

        let Self { engine, outbound, handle, probe, journals, .. } = self;
        let has_room = outbound.has_room();
        let (all, own, news) = engine.parts();
        let (mut probed, mut outcome) = (None, None);
        let message = tokio::select! {
            biased;
            () = outbound.run() => None,
            message = next(all) => message,
            message = next(own) => message,
            ended = journals.next() => {
                outcome = Some(ended);
                None
            }
            () = handle.posted(), if has_room => None,
            is_taken = ended(probe) => {
                probed = Some(is_taken);
                None
            }
            () = news.changed() => None,
            () = yield_now(), if more => None,
            () = sleep(pause) => None,
        };

        let now = clock::now();
        if let Some(is_taken) = probed {
            self.probed(is_taken, now);
        }
        if let Some(outcome) = outcome {
            let input = ClusterInput::Journal(outcome);
            self.step(|cluster, host| cluster.handle(input, now, host));
        }
        if let Some(message) = message {
            // A new connection brings messages before the client tells of it.
            if !self.is_connected {
                self.look(now);
            }
            self.receive(message, now);
        }
        for _ in 1..TURN_MESSAGES_MAX {
            let (all, own, _) = self.engine.parts();
            let Some(message) = waiting(all).or_else(|| waiting(own)) else { break };
            self.receive(message, now);
        }
    }

    /// Looks at the connection, and tells the cluster of its changes.
    fn look(&mut self, now: Now) {
        match self.engine.look() {
            None => {}
            Some(EngineChange::Lost) => {
                self.disconnect(now);
                tracing::warn!(
                    "the connection to NATS at {} is lost: until it is back, clients get this \
                     node's events only",
                    self.servers
                );
            }
            Some(EngineChange::Connected) => self.connect(now),
            Some(EngineChange::Replaced) => {
                self.disconnect(now);
                self.connect(now);
            }
            Some(EngineChange::Refused(objection)) => {
                self.disconnect(now);
                tracing::error!("no cluster: {objection}; trying again until that is mended");
                self.objection = Some(objection);
            }
        }
        if !self.is_connected
            && let Some(error) = self.engine.new_error()
        {
            LogLine::ClusterUnreachable.warn(now, || {
                format!("no cluster at {}: {error}; trying again for ever", self.servers)
            });
        }

        if self.engine.wants_another() {
            let client = self.engine.client.clone();
            tokio::spawn(async move { client.force_reconnect().await });
        }
        if self.is_connected && self.search.is_due(now) {
            self.engine.change_server();
        }
        if self.outbound.is_stalled() {
            tracing::warn!(
                "NATS takes nothing for {} s: what waits for it is given up",
                STALL_MAX.as_secs()
            );
            self.disconnect(now);
            let client = self.engine.client.clone();
            self.probe = Some(Box::pin(async move { client.flush().await.is_ok() }));
        }
    }

    fn connect(&mut self, now: Now) {
        tracing::info!("connected to NATS at {}", self.servers);
        (self.is_connected, self.objection, self.probe) = (true, None, None);
        self.metrics.connected.set(1);
        self.outbound.open();
        self.step(|cluster, host| cluster.handle(ClusterInput::Connected, now, host));
    }

    fn disconnect(&mut self, now: Now) {
        self.probe = None;
        if !std::mem::take(&mut self.is_connected) {
            return;
        }
        self.metrics.connected.set(0);
        self.metrics.reconnects.add(1);
        self.outbound.close(&mut self.cluster);
        self.exchange.disconnect();
        self.step(|cluster, host| cluster.handle(ClusterInput::Lost, now, host));
    }

    /// The engine has taken something again, or the client has ended.
    fn probed(&mut self, is_taken: bool, now: Now) {
        self.probe = None;
        if is_taken && self.engine.is_good() && !self.is_connected {
            self.connect(now);
        }
    }

    /// Takes what other threads have posted.
    fn take_posts(&mut self, now: Now) {
        // Until what was taken before has left, posts wait in their inbox, which bounds them.
        if !self.outbound.has_room() {
            return;
        }
        let mut posts = std::mem::take(&mut self.posts);
        self.handle.take(&mut posts);
        for post in posts.drain(..) {
            match post {
                ClusterPost::Live(publication) => self.send(&publication, 0, now),
                ClusterPost::Retained(publication) => self.retain(publication, now),
                post => {
                    self.outbound.seal(&mut self.cluster);
                    self.take_post(post, now);
                }
            }
        }
        self.outbound.seal(&mut self.cluster);
        // The memory of a burst is kept for the next.
        self.posts = posts;
    }

    fn take_post(&mut self, post: ClusterPost, now: Now) {
        let input = match post {
            ClusterPost::Live(_) | ClusterPost::Retained(_) => return,
            ClusterPost::Configure => {
                self.settings = self.hub.settings();
                let settings = &self.settings;
                self.kept.trim(|group| settings.retained_max(group));
                return self.cluster.configure(settings.shared_hash());
            }
            ClusterPost::Asked(from, question) => ClusterInput::Asked(from, question),
            ClusterPost::Settled(receipts) => ClusterInput::Settled(receipts),
            ClusterPost::Drain => ClusterInput::Drain,
            ClusterPost::Stop(end) => return self.farewell.begin(end),
        };
        self.step(|cluster, host| cluster.handle(input, now, host));
    }

    /// Sends an event to the other nodes.
    fn send(&mut self, publication: &Publication, stamp: u64, now: Now) {
        if self.outbound.add(publication, stamp, &mut self.cluster) {
            LogLine::ClusterTooLong.warn(now, || {
                format!(
                    "an event of {} bytes reaches this node's clients only: NATS takes messages of \
                     {} bytes (max_payload)",
                    publication.weight(),
                    self.engine.client.max_payload()
                )
            });
        }
    }

    /// Orders a retained event of this node among those of all, and publishes it to all.
    fn retain(&mut self, publication: Publication, now: Now) {
        let is_for_all = publication.scope == PublicationScope::Everywhere;
        let publication = Arc::new(publication.for_this_node());
        let entries_max = self.settings.retained_max(publication.topic());
        let stamp = self.kept.accept(&publication, entries_max, now);
        if is_for_all {
            self.send(&publication, stamp, now);
        }
        self.hub.broadcast_shared(vec![Arc::clone(&publication)]);
        if let Some(tally) = &publication.tally {
            // The part that kept it from being told before the shards had announced theirs.
            tally.add(0);
        }
    }

    /// Runs a step of the cluster's value, and carries out what comes of it.
    pub(super) fn step(&mut self, step: impl FnOnce(&mut Cluster, &mut ClusterHost<'_>)) {
        let Self { cluster, draft, outputs, settings, kept, .. } = self;
        let mut host = ClusterHost {
            voice: &|dialect| Kind::of(dialect)?.presence(settings),
            draft,
            outbox_bytes_max: self.outbox_bytes_max,
            connections: &|| {
                let apps = settings.tables().flat_map(|table| table.apps());
                apps.map(|app| ((*app.id).into(), app.connections)).collect()
            },
            misses: &mut |topic, entries_max, now| kept.miss(topic, entries_max, now),
            out: outputs,
        };
        step(cluster, &mut host);
        self.carry_out();
    }

    /// Carries out what the cluster's value has put out.
    fn carry_out(&mut self) {
        let (mut routed, mut webhooks) = (Vec::new(), Vec::new());
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                ClusterOutput::Effect(Effect::Publication(publication)) => {
                    routed.push(Outgoing::Publication(publication.for_this_node()));
                }
                ClusterOutput::Effect(Effect::Answer(connection, answer)) => {
                    routed.push(Outgoing::Answer(connection, answer));
                }
                ClusterOutput::Effect(Effect::Ask(Question::Webhook(webhook))) => {
                    webhooks.push(*webhook);
                }
                // Presence asks nothing else of anybody.
                ClusterOutput::Effect(Effect::Ask(_)) => {}
                ClusterOutput::Send(to, payload) => {
                    self.outbound.seal(&mut self.cluster);
                    self.outbound.send(&to, payload);
                }
                ClusterOutput::Journal(call) => self.journals.begin(call),
                ClusterOutput::ForgetWebhooks(partition) => {
                    // Those before it too.
                    self.hub.notify_for_cluster(std::mem::take(&mut webhooks));
                    self.hub.bridge.forget_webhooks(partition);
                }
                ClusterOutput::WebhooksLost(partition, lost) => {
                    self.hub.bridge.lose_webhooks(lost);
                    LogLine::ClusterWebhooksLost.warn(clock::now(), || {
                        format!(
                            "{lost} webhooks of echo are not sent: too many of partition \
                             {partition} wait; make sure that their URLs keep up"
                        )
                    });
                }
                ClusterOutput::News(true, text) => tracing::info!("cluster: {text}"),
                ClusterOutput::News(false, text) => tracing::warn!("cluster: {text}"),
            }
        }
        self.outputs = outputs;
        self.hub.notify_for_cluster(webhooks);
        if !routed.is_empty() {
            self.hub.route(routed, None);
        }
    }
}

/// The next message; never, once the client has ended.
async fn next(subscriber: &mut Subscriber) -> Option<Message> {
    match poll_fn(|cx| Pin::new(&mut *subscriber).poll_next(cx)).await {
        Some(message) => Some(message),
        None => std::future::pending().await,
    }
}

/// A message that is there already.
fn waiting(subscriber: &mut Subscriber) -> Option<Message> {
    let mut context = Context::from_waker(Waker::noop());
    // The client puts thousands there at a time, more than tokio lets a task take in one go.
    let next = unconstrained(poll_fn(|cx| Pin::new(&mut *subscriber).poll_next(cx)));
    match pin!(next).poll(&mut context) {
        Poll::Ready(message) => message,
        Poll::Pending => None,
    }
}

/// The outcome of a probe, if there is one.
async fn ended(probe: &mut Option<EngineProbe>) -> bool {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}
