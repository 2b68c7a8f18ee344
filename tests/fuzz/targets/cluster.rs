//! Messages of other nodes, which begin as their kinds do: whatever they are, the node goes on, what
//! comes of them is whole, and nothing of it is endless.

use super::{Input, NOW};
use fanfare::cluster::kept::answer;
use fanfare::cluster::{
    Cluster, ClusterHost, ClusterInput, ClusterOutput, ClusterPlan, KeptExchange, KeptPublications,
    KeptStamp, LivePacket, NodeId, NodeName,
};
use fanfare::dialect::echo::{App, AppSettings};
use fanfare::dialect::{Kind, Settings};
use fanfare::frame::{Draft, Publication};
use fanfare::setting::Secret;
use fanfare::wheel::Now;
use std::sync::Arc;

/// Bound of a group in this target.
const KEPT_MAX: usize = 3;

/// Each message has its length before it, in two bytes, the lowest first.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let (mut node, mut seconds) = (Node::new(), 0);
    while !input.0.is_empty() {
        let length = u16::from_le_bytes([input.byte(), input.byte()]);
        let message = input.take(length.into());
        seconds += 1;
        let now = Now { monotonic_ns: NOW.monotonic_ns + seconds * 1_000_000_000, ..NOW };
        match message.first() {
            Some(b'{') => node.control(message, now),
            _ if KeptExchange::is_for(message) => node.exchange(message, now),
            _ => node.live(message, now),
        }
        assert!(node.kept.len() <= KEPT_MAX * 256);
    }
}

struct Node {
    name: NodeName,
    settings: Settings,
    cluster: Cluster,
    kept: KeptPublications,
    exchange: KeptExchange,
}

impl Node {
    fn new() -> Self {
        let name = NodeName::new("a").unwrap();
        let app = AppSettings { id: "app".into(), key: "key".into(), ..AppSettings::default() };
        let mut settings = Settings::default();
        settings.echo.apps = vec![Arc::new(App::new(app, Secret("secret".into())))];
        let plan = ClusterPlan {
            has_presence: true,
            settings_hash: settings.shared_hash(),
            versions: vec![1],
        };
        let me = NodeId { name: name.clone(), incarnation: 7 };
        let mut node = Self {
            cluster: Cluster::new(me, plan, NOW),
            kept: KeptPublications::new(name.clone()),
            exchange: KeptExchange::new(name.clone()),
            name,
            settings,
        };
        node.step(NOW, |cluster, host| cluster.handle(ClusterInput::Connected, NOW, host));
        node.exchange.see([NodeName::new("b").unwrap()].into());
        node
    }

    fn control(&mut self, message: &[u8], now: Now) {
        self.step(now, |cluster, host| {
            cluster.handle(ClusterInput::Heard(message), now, host);
        });
    }

    /// A step of the cluster, and what is due after it.
    fn step(&mut self, now: Now, step: impl FnOnce(&mut Cluster, &mut ClusterHost<'_>)) {
        let (mut draft, mut out) = (Draft::default(), Vec::new());
        let Self { settings, kept, .. } = self;
        let mut host = ClusterHost {
            voice: &|dialect| Kind::of(dialect)?.presence(settings),
            draft: &mut draft,
            outbox_bytes_max: 1 << 20,
            connections: &Vec::new,
            misses: &mut |topic, entries_max, now| kept.miss(topic, entries_max, now),
            out: &mut out,
        };
        step(&mut self.cluster, &mut host);
        self.cluster.tick(now, &mut host);
        for output in out {
            if let ClusterOutput::Send(_, message) = output {
                assert!(serde_json::from_slice::<serde_json::Value>(&message).is_ok());
            }
        }
        let _ = self.cluster.status(now);
    }

    fn live(&mut self, message: &[u8], now: Now) {
        let Ok(packet) = LivePacket::read(message) else { return };
        let lost = self.cluster.heard_live(&packet.sender, packet.first, packet.events, now);
        if lost.is_none() {
            return;
        }
        for (publication, number) in packet.publications(message, now).flatten() {
            check(&publication);
            let stamp = KeptStamp { number, node: packet.sender.name.clone() };
            self.exchange.heard(&stamp);
            check(&self.kept.heard(publication, stamp, Some(KEPT_MAX), now));
        }
    }

    fn exchange(&mut self, message: &[u8], now: Now) {
        self.exchange.lost_of_some();
        let _ = self.exchange.next(now);
        let entries_max = |_: &[u8]| Some(KEPT_MAX);
        let news = self.exchange.take(message, &mut self.kept, &entries_max, now);
        news.iter().flatten().for_each(|publication| check(publication));
        if let Some((_, answer)) = answer(&self.name, message, &self.kept, 1 << 16, now) {
            assert!(KeptExchange::is_for(&answer));
        }
    }
}

/// A publication can be asked for all that sessions ask of it, and is written as it was read.
fn check(publication: &Publication) {
    let kind = Kind::of_topic(publication.topic()).expect("it is of a dialect");
    let _ = (publication.facet(), publication.meta());
    for form in 0..kind.forms() {
        let frame = publication.frame(form as u8);
        let bytes = frame.len();
        assert!(bytes >= 2 && bytes <= publication.weight());
    }
    let mut encoded = Vec::new();
    publication.encode(&mut encoded);
    let again = Publication::decode(&encoded, publication.accepted).expect("it was read before");
    let mut twice = Vec::new();
    again.encode(&mut twice);
    assert_eq!(encoded, twice);
}
