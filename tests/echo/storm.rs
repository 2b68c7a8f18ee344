//! Storms of joins and leaves over several shards: whoever is in a presence channel knows who else is, whatever
//! order the shards' mailboxes are emptied in.
//!
//! Every client is held against what it may be told: each wish is answered once unless it was taken back, no event
//! stands before the answer or after the leave, nobody is added twice or removed without being there. The owner is
//! held against a list of who has come and gone. When everything is quiet, all views are one, and the truth.

use crate::{APP, app_settings, settings, sign};
use fanfare::dialect::echo::{AppSettings, EchoSettings};
use fanfare::dialect::{Kind, Settings, Upgrade};
use fanfare::frame::Publication;
use fanfare::message::Received;
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::service::presence::{
    ChannelCounts, ChannelInquiry, PresenceAnswer, PresenceQuestion, PresenceRequest, WantedCounts,
};
use fanfare::service::{Answer, ConnectionRef, Question};
use fanfare::shard::{Id, Limits, Outgoing, Shard};
use fanfare::wheel::Now;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const CLIENTS: usize = 7;
const CHANNELS: [&str; 2] = ["presence-a", "presence-cache-b"];
const ROOM: &str = "room";

/// Who is there, and what is shown of each.
type View = BTreeMap<String, Value>;

enum Parcel {
    Publication(Arc<Publication>),
    Presence(ConnectionRef, PresenceQuestion),
    Answer(ConnectionRef, Answer),
}

/// One channel of one client, as it may be.
#[derive(Default)]
struct Mine {
    /// Who it wanted to be, for each wish that was not answered.
    wishes: VecDeque<String>,
    joined: Option<(String, View)>,
}

struct Client {
    shard: usize,
    id: Option<Id>,
    socket: String,
    mine: BTreeMap<&'static str, Mine>,
    /// Whether it is in the room, and how many it was told to be there.
    in_room: bool,
    count: Option<u64>,
}

struct World {
    shards: Vec<Shard>,
    metrics: Vec<Arc<Metrics>>,
    mailboxes: Vec<VecDeque<Parcel>>,
    settings: Arc<Settings>,
    clients: Vec<Client>,
    now: Now,
    members_max: usize,
    /// Who is in a channel by the order in which the owner was told.
    members: BTreeMap<String, Vec<(ConnectionRef, String, Value)>>,
    /// What each is to be answered, by channel: each has an owner of its own.
    due: HashMap<(ConnectionRef, String), VecDeque<Option<View>>>,
    answers: Vec<ChannelCounts>,
}

impl World {
    fn new(shards: usize, members_max: u32) -> Self {
        let app = AppSettings {
            presence_members_max: members_max,
            subscription_count: true,
            ..app_settings()
        };
        let settings = Arc::new(settings(app));
        let now = Now { monotonic_ns: 5_000_000_000, unix_ms: 0 };
        let metrics: Vec<Arc<Metrics>> = (0..shards).map(|_| Arc::default()).collect();
        let shard = |number: usize| {
            let mut drawn = (number as u64) << 40;
            let shard = Shard::new(
                Arc::clone(&settings),
                Limits::default(),
                Arc::clone(&metrics[number]),
                now,
            );
            shard.numbered(number as u16, shards).drawing(Box::new(move || {
                drawn += 1;
                drawn
            }))
        };
        let client = |number: usize| Client {
            shard: number % shards,
            id: None,
            socket: String::new(),
            mine: CHANNELS.iter().map(|channel| (*channel, Mine::default())).collect(),
            in_room: false,
            count: None,
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            mailboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            metrics,
            settings,
            now,
            members_max: members_max as usize,
            members: BTreeMap::new(),
            due: HashMap::new(),
            answers: Vec::new(),
        }
    }

    fn connect(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if client.id.is_some() {
            return;
        }
        let at = client.shard;
        let shard = &mut self.shards[at];
        let id = shard.accept(self.now);
        client.id = Some(id);
        let upgrade = Upgrade { path: "/app/app-key", ..Upgrade::default() };
        assert!(shard.upgrade(id, &upgrade, Kind::ALL, b"HTTP/1.1 101\r\n\r\n", self.now));
        self.settle(at);
    }

    fn disconnect(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some(id) = client.id.take() else { return };
        client.mine.values_mut().for_each(|mine| *mine = Mine::default());
        (client.in_room, client.count) = (false, None);
        let at = client.shard;
        self.shards[at].lost(id, self.now);
        self.settle(at);
    }

    fn say(&mut self, number: usize, message: &Value) {
        let client = &self.clients[number];
        let (Some(id), at) = (client.id, client.shard) else { return };
        self.shards[at].receive(id, Received::Text(&message.to_string()), self.now);
        self.settle(at);
    }

    fn subscribe(&mut self, number: usize, channel: &'static str, user: u8, info: u8) {
        let client = &mut self.clients[number];
        if client.id.is_none() {
            return;
        }
        let data = json!({"user_id": user.to_string(), "user_info": info}).to_string();
        let auth = sign(&format!("{}:{channel}:{data}", client.socket));
        client.mine.get_mut(channel).unwrap().wishes.push_back(user.to_string());
        let data = json!({"channel": channel, "auth": auth, "channel_data": data});
        self.say(number, &json!({"event": "pusher:subscribe", "data": data}));
    }

    fn unsubscribe(&mut self, number: usize, channel: &'static str) {
        *self.clients[number].mine.get_mut(channel).unwrap() = Mine::default();
        self.say(number, &json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}));
    }

    fn room(&mut self, number: usize, enters: bool) {
        let client = &mut self.clients[number];
        if client.id.is_some() && client.in_room != enters {
            (client.in_room, client.count) = (enters, None);
        }
        let event = if enters { "pusher:subscribe" } else { "pusher:unsubscribe" };
        self.say(number, &json!({"event": event, "data": {"channel": ROOM}}));
    }

    /// A shard takes so many parcels of its mailbox.
    fn deliver(&mut self, at: usize, parcels: usize) {
        for _ in 0..parcels {
            let Some(parcel) = self.mailboxes[at].pop_front() else { break };
            match parcel {
                Parcel::Publication(publication) => self.shards[at].deliver(&publication, self.now),
                Parcel::Presence(connection, question) => {
                    self.expect(connection, &question.request);
                    self.shards[at].ask_presence(connection, question, self.now);
                }
                Parcel::Answer(connection, answer) => {
                    self.compare(connection, &answer);
                    self.shards[at].answer(connection, answer, self.now);
                }
            }
        }
        self.settle(at);
    }

    /// What a plain list of who is there says to a note.
    fn expect(&mut self, connection: ConnectionRef, request: &PresenceRequest) {
        match request {
            PresenceRequest::Join { channel, user, info } => {
                let members = self.members.entry(channel.to_string()).or_default();
                let known = members
                    .iter()
                    .find(|(_, other, _)| **other == **user)
                    .map(|(_, _, info)| info.clone());
                let view = view(members);
                if members.iter().all(|(other, ..)| *other != connection) {
                    if known.is_none() && self.members_max > 0 && view.len() >= self.members_max {
                        return self
                            .due
                            .entry((connection, channel.to_string()))
                            .or_default()
                            .push_back(None);
                    }
                    let info = known.unwrap_or_else(|| serde_json::from_str(info).unwrap());
                    members.push((connection, user.to_string(), info));
                }
                let view = self::view(members);
                self.due
                    .entry((connection, channel.to_string()))
                    .or_default()
                    .push_back(Some(view));
            }
            PresenceRequest::Leave(channel) => {
                if let Some(members) = self.members.get_mut(&**channel) {
                    members.retain(|(other, ..)| *other != connection);
                }
            }
            PresenceRequest::Enter(_) | PresenceRequest::Miss(_) | PresenceRequest::Inquire(_) => {}
        }
    }

    fn compare(&mut self, connection: ConnectionRef, answer: &Answer) {
        let (channel, got) = match answer {
            Answer::Presence(PresenceAnswer::Full(channel)) => (channel, None),
            Answer::Presence(PresenceAnswer::Present { channel, list }) => {
                (channel, Some(listed(list)))
            }
            Answer::Presence(PresenceAnswer::Channels(channels)) => {
                return self.answers.extend(channels.iter().cloned());
            }
            answer => panic!("{answer:?}"),
        };
        let due = self.due.get_mut(&(connection, channel.to_string()));
        assert_eq!(due.and_then(VecDeque::pop_front), Some(got));
    }

    /// Hands on what a shard has for the others, and hears what it has said to clients.
    fn settle(&mut self, at: usize) {
        for outgoing in self.shards[at].take_outgoing() {
            match outgoing {
                Outgoing::Publication(publication) => {
                    let publication = Arc::new(publication);
                    let all = self.mailboxes.iter_mut();
                    all.for_each(|mailbox| {
                        mailbox.push_back(Parcel::Publication(Arc::clone(&publication)))
                    });
                }
                Outgoing::Answer(connection, answer) => {
                    self.mailboxes[usize::from(connection.shard)]
                        .push_back(Parcel::Answer(connection, answer));
                }
            }
        }
        let shards = self.shards.len();
        for (from, question) in self.shards[at].take_questions() {
            match question {
                Question::Presence(question) => {
                    let owner = question.owner(shards);
                    for (number, mailbox) in self.mailboxes.iter_mut().enumerate() {
                        if owner.is_none_or(|owner| owner == number) {
                            mailbox.push_back(Parcel::Presence(from, (*question).clone()));
                        }
                    }
                }
                question => panic!("{question:?}"),
            }
        }
        let mut wires: Vec<(Id, Vec<u8>)> = Vec::new();
        self.shards[at].flush(self.now, &mut |id: Id, bytes: &[u8]| {
            wires.push((id, bytes.to_vec()));
            Sent::Bytes(bytes.len())
        });
        self.shards[at].take_events().for_each(drop);
        for (id, wire) in wires {
            let here = |client: &&mut Client| client.shard == at && client.id == Some(id);
            let client =
                self.clients.iter_mut().find(here).expect("only those who are there are told");
            frames(&wire).iter().for_each(|frame| client.hear(frame));
        }
    }

    fn calm(&mut self) {
        while self.mailboxes.iter().any(|mailbox| !mailbox.is_empty()) {
            (0..self.shards.len()).for_each(|at| self.deliver(at, usize::MAX));
        }
    }

    /// What the owners say of all channels: users and subscriptions of each.
    fn inquire(&mut self) -> BTreeMap<String, (Option<u32>, u32)> {
        let wanted = WantedCounts { users: true, subscriptions: true, kept: false };
        let inquiry = ChannelInquiry::Channels { prefix: "".into(), wanted };
        let request = PresenceRequest::Inquire(inquiry);
        let question = PresenceQuestion { dialect: Kind::Echo.id(), app: APP.into(), request };
        let connection = ConnectionRef { shard: 0, id: u32::MAX, serial: 0 };
        for mailbox in &mut self.mailboxes {
            mailbox.push_back(Parcel::Presence(connection, question.clone()));
        }
        self.calm();
        let answers = self.answers.drain(..);
        answers
            .map(|channel| (channel.name.into(), (channel.users, channel.subscriptions)))
            .collect()
    }

    fn check(&mut self) {
        self.calm();
        let mut expected = BTreeMap::new();
        for channel in CHANNELS {
            let mine = self.clients.iter().map(|client| &client.mine[channel]);
            assert!(mine.clone().all(|mine| mine.wishes.is_empty()), "every wish is answered");
            let joined: Vec<_> = mine.filter_map(|mine| mine.joined.as_ref()).collect();
            let truth: BTreeMap<&String, ()> = joined.iter().map(|(user, _)| (user, ())).collect();
            for (_, view) in &joined {
                assert_eq!(
                    view.keys().collect::<Vec<_>>(),
                    truth.keys().copied().collect::<Vec<_>>()
                );
                assert_eq!(view, &joined[0].1, "all have been told the same");
            }
            assert!(self.members_max == 0 || truth.len() <= self.members_max);
            if !joined.is_empty() {
                expected.insert(channel.into(), (Some(truth.len() as u32), joined.len() as u32));
            }
        }
        let in_room: Vec<_> = self.clients.iter().filter(|client| client.in_room).collect();
        for client in &in_room {
            assert_eq!(client.count, Some(in_room.len() as u64), "the room's count is exact");
        }
        if !in_room.is_empty() {
            expected.insert(ROOM.into(), (None, in_room.len() as u32));
        }
        assert_eq!(self.inquire(), expected);
    }

    /// Everybody goes; nothing is to be left.
    fn end(&mut self) {
        (0..CLIENTS).for_each(|number| self.disconnect(number));
        self.calm();
        assert_eq!(self.inquire(), BTreeMap::new());
        assert!(self.members.values().all(Vec::is_empty));
        for (shard, metrics) in self.shards.iter_mut().zip(&self.metrics) {
            shard.tick(self.now);
            assert!(shard.is_empty() && !shard.holds_back());
            assert_eq!((metrics.subscriptions.get(), metrics.outbox_bytes.get()), (0, 0));
            assert_eq!(metrics.sessions[Kind::Echo as usize].get(), 0);
        }
        assert_eq!(self.settings.echo.apps[0].connections.load(Relaxed), 0);
    }
}

impl Client {
    fn hear(&mut self, frame: &Value) {
        let channel = frame["channel"].as_str().unwrap_or_default();
        let event = frame["event"].as_str().unwrap();
        let data = || -> Value { serde_json::from_str(frame["data"].as_str().unwrap()).unwrap() };
        let user = || data()["user_id"].as_str().unwrap().to_owned();
        if event == "pusher:connection_established" {
            return self.socket = data()["socket_id"].as_str().unwrap().to_owned();
        }
        if channel == ROOM {
            assert!(self.in_room, "{frame}");
            if event == "pusher_internal:subscription_count" {
                self.count = data()["subscription_count"].as_u64();
            }
            return;
        }
        let Some(mine) = self.mine.get_mut(channel) else { return };
        match event {
            "pusher_internal:subscription_succeeded" => {
                let wish = mine.wishes.pop_front().expect("an answer to a wish that stands");
                let view = listed(frame["data"].as_str().unwrap());
                match &mut mine.joined {
                    Some((_, known)) => {
                        assert_eq!(*known, view, "a second list says what is known")
                    }
                    joined => *joined = Some((wish, view)),
                }
                let (user, view) = mine.joined.as_ref().unwrap();
                assert!(view.contains_key(user), "the newcomer is in its own list");
            }
            "pusher:subscription_error" => {
                assert_eq!(frame["data"]["status"], 429);
                mine.wishes.pop_front().expect("an answer to a wish that stands");
                assert!(mine.joined.is_none());
            }
            "pusher_internal:member_added" => {
                let (_, view) = mine.joined.as_mut().expect("nothing comes before the list");
                assert!(view.insert(user(), data()["user_info"].clone()).is_none(), "{frame}");
            }
            "pusher_internal:member_removed" => {
                let (own, view) = mine.joined.as_mut().expect("nothing comes before the list");
                assert_ne!(*own, user(), "nobody sees itself leave");
                assert!(view.remove(&user()).is_some(), "{frame}");
            }
            "pusher:cache_miss" => assert!(mine.joined.is_some()),
            other => panic!("{other}"),
        }
    }
}

fn view(members: &[(ConnectionRef, String, Value)]) -> View {
    members.iter().map(|(_, user, info)| (user.clone(), info.clone())).collect()
}

/// The members that a list names, which has to agree with itself.
fn listed(data: &str) -> View {
    let data: Value = serde_json::from_str(data).unwrap();
    let presence = &data["presence"];
    let view: View = serde_json::from_value(presence["hash"].clone()).unwrap();
    assert_eq!(presence["count"], view.len());
    assert_eq!(presence["ids"], json!(view.keys().collect::<Vec<_>>()));
    view
}

/// The frames that were written, after the answer to the handshake.
fn frames(wire: &[u8]) -> Vec<Value> {
    let mut rest = wire.strip_prefix(b"HTTP/1.1 101\r\n\r\n").unwrap_or(wire);
    let mut frames = Vec::new();
    while let [0x81, length, tail @ ..] = rest {
        let (length, tail) = match length {
            126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
            127 => panic!("a long frame"),
            short => (usize::from(*short), tail),
        };
        frames.push(serde_json::from_slice(&tail[..length]).unwrap());
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "{rest:?}");
    frames
}

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Disconnect(usize),
    Subscribe(usize, usize, u8, u8),
    Unsubscribe(usize, usize),
    Room(usize, bool),
    Ping(usize),
    Refused(usize, usize),
    Deliver(usize, usize),
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let channel = 0..CHANNELS.len();
    prop_oneof![
        3 => client.clone().prop_map(Step::Connect),
        1 => client.clone().prop_map(Step::Disconnect),
        8 => (client.clone(), channel.clone(), 0u8..4, 0u8..9)
            .prop_map(|(client, channel, user, info)| Step::Subscribe(client, channel, user, info)),
        5 => (client.clone(), channel.clone()).prop_map(|(client, channel)| Step::Unsubscribe(client, channel)),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, enters)| Step::Room(client, enters)),
        1 => client.clone().prop_map(Step::Ping),
        1 => (client, channel).prop_map(|(client, channel)| Step::Refused(client, channel)),
        10 => (0usize..4, 1usize..5).prop_map(|(shard, parcels)| Step::Deliver(shard, parcels)),
        1 => Just(Step::Check),
    ]
}

fn run(world: &mut World, step: &Step) {
    match *step {
        Step::Connect(client) => world.connect(client),
        Step::Disconnect(client) => world.disconnect(client),
        Step::Subscribe(client, channel, user, info) => {
            world.subscribe(client, CHANNELS[channel], user, info)
        }
        Step::Unsubscribe(client, channel) => world.unsubscribe(client, CHANNELS[channel]),
        Step::Room(client, enters) => world.room(client, enters),
        Step::Ping(client) => world.say(client, &json!({"event": "pusher:ping"})),
        Step::Refused(client, channel) => {
            // A client event of one that is not in, or of one that is: neither moves anybody.
            let event = json!({"event": "pusher:x", "channel": CHANNELS[channel], "data": {}});
            world.say(client, &event);
        }
        Step::Deliver(shard, parcels) => world.deliver(shard % world.shards.len(), parcels),
        Step::Check => world.check(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whoever_is_in_a_presence_channel_knows_who_else_is(
        shards in 1usize..5, members_max in 0u32..4, steps in proptest::collection::vec(step(), 0..200)
    ) {
        let mut world = World::new(shards, members_max);
        (0..CLIENTS).for_each(|number| world.connect(number));
        steps.iter().for_each(|step| run(&mut world, step));
        world.check();
        world.end();
    }
}

#[test]
fn wishes_that_are_taken_back_and_made_again_are_answered_once_each() {
    let mut world = World::new(2, 0);
    (0..2).for_each(|number| world.connect(number));
    world.subscribe(0, CHANNELS[0], 7, 0);
    world.check();
    for _ in 0..30 {
        world.subscribe(1, CHANNELS[0], 8, 1);
        world.unsubscribe(1, CHANNELS[0]);
    }
    world.subscribe(1, CHANNELS[0], 9, 2);
    world.subscribe(1, CHANNELS[0], 8, 3);
    assert_eq!(world.clients[1].mine[CHANNELS[0]].wishes.len(), 2, "nothing is answered yet");
    world.check();
    let (user, view) = world.clients[1].mine[CHANNELS[0]].joined.as_ref().unwrap();
    assert_eq!((user.as_str(), view.len()), ("9", 2), "the first identity stands");
    world.end();
}

#[test]
fn a_newcomer_costs_a_channel_of_a_thousand_one_publication() {
    let app = AppSettings { presence_members_max: 0, ..app_settings() };
    let echo = EchoSettings { ..settings(app).echo };
    let now = Now { monotonic_ns: 5_000_000_000, unix_ms: 0 };
    let settings = Arc::new(Settings { echo, ..Settings::default() });
    let mut shard = Shard::new(settings, Limits::default(), Arc::default(), now);
    let mut last = Vec::new();
    for user in 0..1001u64 {
        let id = shard.accept(now);
        let upgrade = Upgrade { path: "/app/app-key", ..Upgrade::default() };
        assert!(shard.upgrade(id, &upgrade, Kind::ALL, b"", now));
        let data = format!(r#"{{"user_id":{user}}}"#);
        let auth = sign(&format!("0.{}:presence-a:{data}", user + 1));
        let data = json!({"channel": "presence-a", "auth": auth, "channel_data": data});
        let text = json!({"event": "pusher:subscribe", "data": data}).to_string();
        shard.receive(id, Received::Text(&text), now);
        for (from, question) in shard.take_questions() {
            let Question::Presence(question) = question else { panic!("{question:?}") };
            shard.ask_presence(from, *question, now);
        }
        last.clear();
        for outgoing in shard.take_outgoing() {
            match outgoing {
                Outgoing::Publication(publication) => {
                    shard.flush(now, &mut |_: u32, bytes: &[u8]| Sent::Bytes(bytes.len()));
                    let publication = Arc::new(publication);
                    shard.deliver(&publication, now);
                    last.push(publication);
                }
                Outgoing::Answer(connection, answer) => shard.answer(connection, answer, now),
            }
        }
    }
    assert_eq!(last.len(), 1, "one publication a join");
    let mut told = 0;
    shard.flush(now, &mut |id: Id, bytes: &[u8]| {
        if id == 1000 {
            assert!(bytes.len() > 10_000, "the newcomer has the list");
        } else {
            assert_eq!(bytes, last[0].frame(0));
            told += 1;
        }
        Sent::Bytes(bytes.len())
    });
    assert_eq!(told, 1000);
}
