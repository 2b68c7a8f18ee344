//! Publishers and clients together, over the shards of one daemon: a request or a line of the feed on one of them is
//! what clients of each are told, and clients on each are what a request is answered with.

use crate::conversation::Client;
use crate::rest::{NOW_S, sign as sign_request};
use crate::{APP, HOST, PATH, app_settings, settings, sign, subscription};
use fanfare::dialect::echo::AppSettings;
use fanfare::dialect::{Kind, Request, Settings, Upgrade};
use fanfare::feed::Intake;
use fanfare::frame::Publication;
use fanfare::handover::{self, FrozenConnection, HandoverHeader, HandoverRecord, RecordPlace};
use fanfare::http::Persistence;
use fanfare::message::Received;
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::service::presence::PresenceQuestion;
use fanfare::service::webhook::Webhook;
use fanfare::service::{Answer, ConnectionRef, NewRefs, Question};
use fanfare::shard::{Id, Limits, Outgoing, Shard};
use fanfare::wheel::Now;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const SHARDS: usize = 2;
/// The socket that the worked examples are signed for.
const SOCKET: u64 = 1234 << 32 | 1234;

enum Parcel {
    Publication(Arc<Publication>),
    Presence(ConnectionRef, PresenceQuestion),
    Answer(ConnectionRef, Answer),
}

/// Two shards with their mailboxes, as `io` would run them.
struct Daemon {
    settings: Arc<Settings>,
    shards: Vec<Shard>,
    mailboxes: Vec<VecDeque<Parcel>>,
    now: Now,
    /// By name, with the shard of each.
    clients: BTreeMap<&'static str, (usize, Client)>,
    /// What came for connections that ask, by shard and number.
    pages: BTreeMap<(usize, Id), String>,
    webhooks: Vec<Webhook>,
}

impl Daemon {
    fn new(change: impl FnOnce(&mut AppSettings)) -> Self {
        let mut app = app_settings();
        change(&mut app);
        let settings = Arc::new(settings(app));
        let now = Now { monotonic_ns: 5_000_000_000, unix_ms: NOW_S * 1000 };
        Self {
            shards: (0..SHARDS).map(|number| shard(number, SHARDS, &settings, now)).collect(),
            mailboxes: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            settings,
            now,
            clients: BTreeMap::new(),
            pages: BTreeMap::new(),
            webhooks: Vec::new(),
        }
    }

    /// Another process, with so many shards, takes over.
    fn hand_over(&mut self, shards: usize) {
        let (release, boot_id) = (String::new(), String::new());
        let mut state = Vec::new();
        handover::begin(&HandoverHeader { release, boot_id, shards: 2 }, &mut state);
        let names: Vec<&str> = self.clients.keys().copied().collect();
        for (at, shard) in self.shards.iter_mut().enumerate() {
            assert!(shard.is_settled());
            let shared = shard.freeze_shared();
            shared.iter().for_each(|record| handover::write(record, &mut state));
            for (fd, name) in (0..).zip(&names).filter(|(_, name)| self.clients[*name].0 == at) {
                let session = shard.freeze(self.clients[name].1.id).unwrap();
                let listener = ([127, 0, 0, 1], 80).into();
                let connection = FrozenConnection::new(fd, listener, session);
                handover::write(&HandoverRecord::Connection(Box::new(connection)), &mut state);
            }
        }
        handover::end(&mut state);

        self.shards = (0..shards).map(|at| shard(at, shards, &self.settings, self.now)).collect();
        self.mailboxes = (0..shards).map(|_| VecDeque::new()).collect();
        let (mut refs, mut later) = (NewRefs::default(), Vec::new());
        let (_, mut rest) = handover::open(&state).unwrap();
        while !rest.is_empty() {
            let (record, behind) = handover::read(rest).unwrap();
            rest = behind;
            match (record.place(shards), record) {
                (RecordPlace::Shard(at), HandoverRecord::Connection(connection)) => {
                    let client = self.clients.get_mut(names[connection.fd as usize]).unwrap();
                    let new = self.shards[at].adopt(connection.session, self.now).unwrap();
                    (client.0, client.1.id) = (at, new.id);
                }
                (_, record) => later.push(record),
            }
        }
        self.shards.iter_mut().for_each(|shard| refs.merge(shard.take_new_refs()));
        for record in later {
            match record.place(shards) {
                RecordPlace::Shard(at) => self.shards[at].adopt_shared(record, &refs, self.now),
                RecordPlace::Nowhere => assert!(matches!(record, HandoverRecord::End)),
                place => panic!("{place:?}"),
            }
        }
        (0..shards).for_each(|at| self.settle(at));
        self.calm();
    }

    /// A client comes to a shard. Returns its socket id.
    fn come(&mut self, name: &'static str, at: usize) -> String {
        let id = self.shards[at].accept(self.now);
        let (path, query) = PATH.split_once('?').unwrap();
        let upgrade = Upgrade { path, query, host: HOST, ..Upgrade::default() };
        let response = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert!(self.shards[at].upgrade(id, &upgrade, &[Kind::Echo], response, self.now));
        let mut client = Client::default();
        client.id = id;
        self.clients.insert(name, (at, client));
        self.settle(at);
        let heard = self.heard(name);
        let (_, socket) = heard[1].split_once(r#"\"socket_id\":\""#).unwrap();
        socket.split_once('\\').unwrap().0.to_owned()
    }

    fn say(&mut self, name: &str, text: &str) {
        let (at, id) = (self.clients[name].0, self.clients[name].1.id);
        self.shards[at].receive(id, Received::Text(text), self.now);
        self.settle(at);
        self.calm();
    }

    fn heard(&mut self, name: &str) -> Vec<String> {
        self.clients.get_mut(name).unwrap().1.heard()
    }

    /// A request as it is, on a shard. Returns the status and the body.
    fn ask(&mut self, at: usize, method: &str, target: &str, body: &str) -> (u16, String) {
        let id = self.shards[at].accept(self.now);
        let (path, query) = target.split_once('?').unwrap();
        let request = Request { method, path, query, body: body.as_bytes(), ..Request::default() };
        self.shards[at].serve(id, Kind::Echo, &request, Persistence::Stays, self.now);
        self.settle(at);
        self.calm();
        self.shards[at].lost(id, self.now);
        let page = self.pages.remove(&(at, id)).unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), body.to_owned())
    }

    /// The same, signed, on each shard's connection in turn. All answer alike.
    fn get(&mut self, target: &str) -> String {
        let answers: Vec<String> = (0..self.shards.len())
            .map(|at| {
                let target = sign_request("GET", target, "", crate::SECRET);
                let (status, body) = self.ask(at, "GET", &target, "");
                assert_eq!(status, 200, "{target}: {body}");
                body
            })
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        answers[0].clone()
    }

    fn post(&mut self, at: usize, path: &str, body: &str) -> String {
        let target = sign_request("POST", &format!("/apps/{APP}/{path}"), body, crate::SECRET);
        let (status, answer) = self.ask(at, "POST", &target, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A line of the unix feed.
    fn feed(&mut self, line: &str) {
        let (address, json) = line.split_once(' ').unwrap();
        let mut intake = Intake::new(vec![Kind::Echo], Arc::clone(&self.settings));
        let publish = &mut |publication| {
            let publication = Arc::new(publication);
            for mailbox in &mut self.mailboxes {
                mailbox.push_back(Parcel::Publication(Arc::clone(&publication)));
            }
        };
        intake.take(address, json.as_bytes(), self.now, publish).unwrap();
        self.calm();
    }

    /// What `io` does at the end of a turn.
    fn settle(&mut self, at: usize) {
        let (shards, shard) = (self.shards.len(), &mut self.shards[at]);
        for outgoing in shard.take_outgoing() {
            match outgoing {
                Outgoing::Publication(publication) => {
                    let publication = Arc::new(publication);
                    for mailbox in &mut self.mailboxes {
                        mailbox.push_back(Parcel::Publication(Arc::clone(&publication)));
                    }
                }
                Outgoing::Answer(connection, answer) => {
                    self.mailboxes[usize::from(connection.shard)]
                        .push_back(Parcel::Answer(connection, answer));
                }
            }
        }
        for (from, question) in shard.take_questions() {
            match question {
                Question::Presence(question) => {
                    let owner = question.owner(shards);
                    for (number, mailbox) in self.mailboxes.iter_mut().enumerate() {
                        if owner.is_none_or(|owner| owner == number) {
                            mailbox.push_back(Parcel::Presence(from, (*question).clone()));
                        }
                    }
                }
                Question::Webhook(webhook) => self.webhooks.push(*webhook),
                question => panic!("{question:?}"),
            }
        }
        let (clients, pages) = (&mut self.clients, &mut self.pages);
        shard.flush(self.now, &mut |id: Id, bytes: &[u8]| {
            match clients.values_mut().find(|(shard, client)| (*shard, client.id) == (at, id)) {
                Some((_, client)) => client.listen(bytes),
                None => {
                    pages.entry((at, id)).or_default().push_str(std::str::from_utf8(bytes).unwrap())
                }
            }
            Sent::Bytes(bytes.len())
        });
        shard.take_events().for_each(drop);
    }

    /// The shards take what waits for them until nothing does.
    fn calm(&mut self) {
        while self.mailboxes.iter().any(|mailbox| !mailbox.is_empty()) {
            for at in 0..self.shards.len() {
                while let Some(parcel) = self.mailboxes[at].pop_front() {
                    match parcel {
                        Parcel::Publication(publication) => {
                            self.shards[at].deliver(&publication, self.now)
                        }
                        Parcel::Presence(from, question) => {
                            self.shards[at].ask_presence(from, question, self.now);
                        }
                        Parcel::Answer(connection, answer) => {
                            self.shards[at].answer(connection, answer, self.now);
                        }
                    }
                }
                self.settle(at);
            }
        }
    }

    /// New settings come to a shard.
    fn configure(&mut self, at: usize, settings: &Arc<Settings>) {
        self.shards[at].configure(Arc::clone(settings), Limits::default(), self.now);
        self.settle(at);
        self.calm();
    }

    /// A client comes and joins a presence channel.
    fn join(&mut self, name: &'static str, at: usize, channel: &str, member: &str) {
        let socket = self.come(name, at);
        self.say(name, &subscription(&socket, channel, Some(member)));
        assert!(self.heard(name)[0].contains("subscription_succeeded"));
    }

    /// A client comes and signs in. Returns its socket id.
    fn sign_in(&mut self, name: &'static str, at: usize, user_data: &str) -> String {
        let socket = self.come(name, at);
        let auth = sign(&format!("{socket}::user::{user_data}"));
        let data = json!({"auth": auth, "user_data": user_data});
        self.say(name, &json!({"event": "pusher:signin", "data": data}).to_string());
        assert!(self.heard(name)[0].contains("signin_success"));
        socket
    }
}

/// A shard among so many, whose clients have socket ids of their own.
fn shard(number: usize, shards: usize, settings: &Arc<Settings>, now: Now) -> Shard {
    let mut drawn = SOCKET + ((number as u64) << 20);
    let metrics = Arc::new(Metrics::default());
    let shard = Shard::new(Arc::clone(settings), Limits::default(), metrics, now);
    shard.numbered(number as u16, shards).drawing(Box::new(move || {
        drawn += 1;
        drawn - 1
    }))
}

#[test]
fn the_worked_examples_go_from_a_publisher_to_the_pages() {
    let chat = r#"{"name":"App\\Events\\ChatMessageSent","data":"{\"message\":\"hi\",\"user\":{\"id\":1,\"name\":\"Ann\"}}","channel":"private-Chat.1"}"#;
    let sample = r#"{"name":"App\\Events\\MessageSent","data":"{\"message\":\"m\",\"id\":3}","channel":"private-TestChannel.3"}"#;
    for (subscribe, succeeded, digests, body, frame) in [
        (
            r#"{"event":"pusher:subscribe","data":{"auth":"app-key:138cad1ae9a9977bb38b9b4df13c4bc69aeea8db94776e47190df96767284dda","channel":"private-Chat.1"}}"#,
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-Chat.1","data":"{}"}"#,
            "body_md5=a30445c6d8d51d0e6af0889c24608ce2&auth_signature=8d11c8eadafe1a1d7bbcfb7304179ecbcc6def19c4ceaad761409b6b8ac5a50f",
            chat,
            r#"{"event":"App\\Events\\ChatMessageSent","channel":"private-Chat.1","data":"{\"message\":\"hi\",\"user\":{\"id\":1,\"name\":\"Ann\"}}"}"#,
        ),
        (
            r#"{"event":"pusher:subscribe","data":{"auth":"app-key:79eb89dc183d5839679ef1b0409f8e23ad77f2bda9da4b221aef4705f47cbbec","channel":"private-TestChannel.3"}}"#,
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-TestChannel.3","data":"{}"}"#,
            "body_md5=d39c850c8b731d4db00f781f1276c941&auth_signature=1391b250d244cd003903c252b03c87f6cf38e82067c8bdc3ad72722ae76d3411",
            sample,
            r#"{"event":"App\\Events\\MessageSent","channel":"private-TestChannel.3","data":"{\"message\":\"m\",\"id\":3}"}"#,
        ),
    ] {
        let mut daemon = Daemon::new(|_| {});
        assert_eq!(daemon.come("page", 0), "1234.1234");
        daemon.say("page", subscribe);
        assert_eq!(daemon.heard("page"), [succeeded]);
        let query =
            format!("auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0&{digests}");
        for at in [0, 1] {
            let answer = daemon.ask(at, "POST", &format!("/apps/app-id/events?{query}"), body);
            assert_eq!(answer, (200, "{}".into()));
            assert_eq!(daemon.heard("page"), [frame]);
        }
        let fed = body.replace(r#""channel":"#, r#""socket_id":null,"channels":["#);
        daemon.feed(&format!("echo/app-id {}]}}", fed.strip_suffix('}').unwrap()));
        assert_eq!(daemon.heard("page"), [frame], "the same, fed");
        // toOthers()
        let others = format!(r#"{},"socket_id":"1234.1234"}}"#, body.strip_suffix('}').unwrap());
        assert_eq!(daemon.post(1, "events", &others), "{}");
        assert!(daemon.heard("page").is_empty());
    }
}

#[test]
fn whoever_asks_is_told_who_is_there_on_every_shard() {
    let mut daemon = Daemon::new(|_| {});
    assert_eq!(daemon.get("/apps/app-id/channels"), r#"{"channels":{}}"#);
    for (name, at, user) in [("a", 0, "1"), ("b", 1, "1"), ("c", 1, "\\\"2")] {
        daemon.join(name, at, "presence-a", &format!(r#"{{"user_id":"{user}"}}"#));
    }
    daemon.come("d", 0);
    daemon.say("d", r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#);
    daemon.sign_in("e", 1, r#"{"id":"7"}"#);
    daemon.say("e", r##"{"event":"pusher:subscribe","data":{"channel":"#server-to-user-7"}}"##);
    for (target, answer) in [
        ("channels", r#"{"channels":{"presence-a":{},"room":{}}}"#),
        (
            "channels?info=subscription_count",
            r#"{"channels":{"presence-a":{"subscription_count":3},"room":{"subscription_count":1}}}"#,
        ),
        (
            "channels?filter_by_prefix=presence-&info=user_count",
            r#"{"channels":{"presence-a":{"user_count":2}}}"#,
        ),
        (
            "channels/presence-a?info=subscription_count,user_count",
            r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
        ),
        ("channels/room", r#"{"occupied":true}"#),
        ("channels/presence-none?info=user_count", r#"{"occupied":false,"user_count":0}"#),
        ("channels/presence-a/users", r#"{"users":[{"id":"\"2"},{"id":"1"}]}"#),
        ("channels/presence-none/users", r#"{"users":[]}"#),
    ] {
        assert_eq!(daemon.get(&format!("/apps/app-id/{target}")), answer, "{target}");
    }
    let event = r#"{"name":"e","data":"d","channels":["room","presence-a","room"],"info":"user_count,subscription_count"}"#;
    let counts = r#"{"channels":{"room":{"subscription_count":1},"presence-a":{"user_count":2,"subscription_count":3}}}"#;
    assert_eq!(daemon.post(0, "events", event), counts);
    let batch = r#"{"batch":[{"name":"e","data":"d","channel":"presence-a","info":"user_count"},{"name":"e","data":"d","channel":"room"}]}"#;
    assert_eq!(daemon.post(1, "batch_events", batch), r#"{"batch":[{"user_count":2},{}]}"#);
    let heard: Vec<String> = daemon.heard("d");
    assert_eq!(
        heard[1..],
        [r#"{"event":"e","channel":"room","data":"d"}"#; 2],
        "once of each: {heard:?}"
    );
    for name in ["a", "b", "c"] {
        let (at, client) = daemon.clients.remove(name).unwrap();
        daemon.shards[at].lost(client.id, daemon.now);
        daemon.settle(at);
    }
    daemon.calm();
    assert_eq!(daemon.get("/apps/app-id/channels"), r#"{"channels":{"room":{}}}"#);
}

#[test]
fn an_app_ends_the_connections_of_a_user_on_every_shard() {
    let mut daemon = Daemon::new(|_| {});
    for (name, at, user) in
        [("a", 0, r#"{"id":"7"}"#), ("b", 1, r#"{"id":"7"}"#), ("c", 1, r#"{"id":"8"}"#)]
    {
        let socket = daemon.sign_in(name, at, user);
        daemon.say(name, &subscription(&socket, "presence-r", None));
        assert!(daemon.heard(name)[0].contains("subscription_succeeded"), "{name}");
    }
    ["a", "b", "c"].iter().for_each(|name| drop(daemon.heard(name)));
    let event = r##"{"name":"e","data":"d","channel":"#server-to-user-7"}"##;
    assert_eq!(daemon.post(0, "events", event), "{}");
    for (name, count) in [("a", 1), ("b", 1), ("c", 0)] {
        let frame = r##"{"event":"e","channel":"#server-to-user-7","data":"d"}"##;
        assert_eq!(daemon.heard(name), vec![frame; count]);
    }
    assert_eq!(daemon.post(1, "users/7/terminate_connections", "{}"), "{}");
    let error = r#"{"event":"pusher:error","data":{"code":4009,"message":"Connection terminated by the app."}}"#;
    for name in ["a", "b"] {
        assert_eq!(daemon.heard(name), [error, "close 4009 Connection terminated by the app."]);
    }
    let removed = r#"{"event":"pusher_internal:member_removed","channel":"presence-r","data":"{\"user_id\":\"7\"}"}"#;
    assert_eq!(daemon.heard("c"), [removed]);
    assert_eq!(daemon.get("/apps/app-id/channels/presence-r/users"), r#"{"users":[{"id":"8"}]}"#);
}

#[test]
fn an_app_ends_the_connections_of_a_user_who_is_known_from_presence_alone() {
    let mut daemon = Daemon::new(|_| {});
    for (name, at, user) in [("a", 0, "7"), ("b", 1, "7"), ("c", 1, "8")] {
        let socket = daemon.come(name, at);
        for channel in ["presence-r", "presence-s"] {
            let member = format!(r#"{{"user_id":{user}}}"#);
            daemon.say(name, &subscription(&socket, channel, Some(&member)));
        }
    }
    // One that has signed in and is a member hears of it twice, and is told once.
    let socket = daemon.sign_in("d", 0, r#"{"id":7}"#);
    daemon.say("d", &subscription(&socket, "presence-r", None));
    ["a", "b", "c", "d"].iter().for_each(|name| drop(daemon.heard(name)));
    assert_eq!(daemon.post(1, "users/7/terminate_connections", "{}"), "{}");
    let error = r#"{"event":"pusher:error","data":{"code":4009,"message":"Connection terminated by the app."}}"#;
    for name in ["a", "b", "d"] {
        let heard = daemon.heard(name);
        let end = [error, "close 4009 Connection terminated by the app."];
        assert!(heard.ends_with(&end.map(String::from)), "{name}: {heard:?}");
        assert_eq!(heard.iter().filter(|frame| *frame == error).count(), 1, "{name}: {heard:?}");
    }
    let heard = daemon.heard("c");
    assert_eq!(
        heard.iter().filter(|frame| frame.contains("member_removed")).count(),
        2,
        "{heard:?}"
    );
    assert_eq!(heard.len(), 2);
    assert_eq!(daemon.get("/apps/app-id/channels/presence-r/users"), r#"{"users":[{"id":"8"}]}"#);
}

#[test]
fn a_webhook_hears_once_of_a_cache_channel_that_is_missed_on_several_shards() {
    let webhook = toml::from_str("url = 'http://127.0.0.1:9/'").unwrap();
    let mut daemon = Daemon::new(|app| app.webhook = vec![webhook]);
    let subscribe = r#"{"event":"pusher:subscribe","data":{"channel":"cache-c"}}"#;
    for (name, at) in [("a", 0), ("b", 1), ("c", 0)] {
        daemon.come(name, at);
        daemon.say(name, subscribe);
        let miss = r#"{"event":"pusher:cache_miss","channel":"cache-c"}"#;
        assert_eq!(daemon.heard(name)[1..], [miss], "{name}");
    }
    let missed = |daemon: &mut Daemon| {
        let webhooks = std::mem::take(&mut daemon.webhooks).into_iter();
        webhooks.filter(|webhook| format!("{webhook:?}").contains("CacheMiss")).count()
    };
    assert_eq!(missed(&mut daemon), 1);
    daemon.post(1, "events", r#"{"name":"e","data":"1","channel":"cache-c"}"#);
    daemon.now.monotonic_ns += 1_800_000_000_000;
    daemon.say("b", subscribe);
    daemon.say("a", subscribe);
    assert_eq!(missed(&mut daemon), 1, "it was filled, and that is over");
}

#[test]
fn an_app_is_told_how_many_connections_it_has_on_all_shards() {
    let mut daemon = Daemon::new(|_| {});
    assert_eq!(daemon.get("/apps/app-id/connections"), r#"{"connections":0}"#);
    for (name, at) in [("a", 0), ("b", 1), ("c", 1)] {
        daemon.come(name, at);
    }
    assert_eq!(daemon.get("/apps/app-id/connections"), r#"{"connections":3}"#);
    let (at, client) = daemon.clients.remove("b").unwrap();
    daemon.shards[at].lost(client.id, daemon.now);
    assert_eq!(daemon.get("/apps/app-id/connections"), r#"{"connections":2}"#);
}

#[test]
fn nobody_is_ended_for_a_user_whose_id_only_begins_like_theirs() {
    let mut daemon = Daemon::new(|_| {});
    daemon.sign_in("a", 0, r#"{"id":"7"}"#);
    for user in ["7%00", "7%00x", "70", "77", "%00"] {
        let path = format!("/apps/app-id/users/{user}/terminate_connections");
        let target = sign_request("POST", &path, "{}", crate::SECRET);
        let (status, _) = daemon.ask(1, "POST", &target, "{}");
        assert_eq!(status, if user.contains('%') { 400 } else { 200 }, "{user}");
        assert!(daemon.heard("a").is_empty(), "{user}");
    }
}

#[test]
fn what_a_publisher_leaves_in_a_cache_channel_is_shown_to_whoever_comes_later() {
    let mut daemon = Daemon::new(|_| {});
    let socket = daemon.come("a", 0);
    let subscribe = r#"{"event":"pusher:subscribe","data":{"channel":"cache-c"}}"#;
    daemon.say("a", subscribe);
    assert!(daemon.heard("a")[1].contains("pusher:cache_miss"));
    let event = format!(
        r#"{{"name":"e","data":"\u00e9","channels":["cache-c","room"],"socket_id":"{socket}"}}"#
    );
    daemon.post(1, "events", &event);
    assert!(daemon.heard("a").is_empty());
    let frame = r#"{"event":"e","channel":"cache-c","data":"\u00e9"}"#;
    for (name, at) in [("b", 0), ("c", 1)] {
        daemon.come(name, at);
        daemon.say(name, subscribe);
        assert_eq!(daemon.heard(name)[1..], [frame], "{name}");
    }
    let batch = r#"{"batch":[{"name":"f","data":"1","channel":"cache-c"},{"name":"pusher:x","data":"2","channel":"cache-c"}]}"#;
    let target = sign_request("POST", "/apps/app-id/batch_events", batch, crate::SECRET);
    assert_eq!(daemon.ask(0, "POST", &target, batch).0, 400);
    daemon.say("a", subscribe);
    assert_eq!(daemon.heard("a")[1..], [frame], "a batch with a bad event leaves nothing");
    // Whoever asks is told it too, with the seconds that it has left.
    daemon.now.monotonic_ns += 100_500_000_000;
    let kept =
        r#"{"occupied":true,"cache":{"event":"e","channel":"cache-c","data":"\u00e9","ttl":1700}}"#;
    assert_eq!(daemon.get("/apps/app-id/channels/cache-c?info=cache"), kept);
    assert_eq!(daemon.get("/apps/app-id/channels/cache-none?info=cache"), r#"{"occupied":false}"#);
}

#[test]
fn an_app_that_is_removed_leaves_nobody_whichever_shard_hears_of_it_first() {
    for first in [0, 1] {
        let mut daemon = Daemon::new(|_| {});
        for (name, at) in [("a", 0), ("b", 1)] {
            daemon.join(name, at, "presence-a", &format!(r#"{{"user_id":"{name}"}}"#));
        }
        ["a", "b"].iter().for_each(|name| drop(daemon.heard(name)));
        let (with, without) = (Arc::clone(&daemon.settings), Arc::new(Settings::default()));
        let (one, other) = if first == 0 { ("a", "b") } else { ("b", "a") };
        daemon.configure(first, &without);
        let error =
            r#"{"event":"pusher:error","data":{"code":4003,"message":"The app is not enabled."}}"#;
        assert_eq!(daemon.heard(one), [error, "close 4003 The app is not enabled."]);
        let heard = daemon.heard(other);
        assert!(heard.len() == 1 && heard[0].contains("member_removed"), "{heard:?}");
        // Somebody comes where the app is still served.
        daemon.join("late", 1 - first, "presence-a", r#"{"user_id":"late"}"#);
        daemon.configure(1 - first, &without);
        assert_eq!(daemon.heard("late").last().unwrap(), "close 4003 The app is not enabled.");
        (0..SHARDS).for_each(|at| daemon.configure(at, &with));
        assert_eq!(daemon.get("/apps/app-id/channels"), r#"{"channels":{}}"#);
    }
}

#[test]
fn a_process_with_another_number_of_shards_takes_all_channels_over() {
    let mut daemon = Daemon::new(|_| {});
    for (name, at, user) in [("a", 0, "1"), ("b", 1, "1"), ("c", 1, "2"), ("d", 0, "3")] {
        daemon.join(name, at, "presence-a", &format!(r#"{{"user_id":"{user}"}}"#));
    }
    for name in ["a", "c", "d"] {
        daemon.say(name, r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#);
    }
    ["a", "b", "c", "d"].iter().for_each(|name| drop(daemon.heard(name)));
    daemon.webhooks.clear();

    let all = "/apps/app-id/channels?info=subscription_count";
    let counts =
        r#"{"channels":{"presence-a":{"subscription_count":4},"room":{"subscription_count":3}}}"#;
    for shards in [3, 1, 2, 5] {
        daemon.hand_over(shards);
        assert!(["a", "b", "c", "d"].iter().all(|name| daemon.heard(name).is_empty()));
        assert_eq!(daemon.get(all), counts, "{shards} shards");
        let users = daemon.get("/apps/app-id/channels/presence-a/users");
        assert_eq!(users, r#"{"users":[{"id":"1"},{"id":"2"},{"id":"3"}]}"#);
    }
    assert!(daemon.webhooks.is_empty(), "no one has come or gone: {:?}", daemon.webhooks);

    daemon.post(1, "events", r#"{"name":"e","channels":["room"],"data":"x"}"#);
    assert_eq!(["a", "b", "c", "d"].map(|name| daemon.heard(name).len()), [1, 0, 1, 1]);
    let leave = r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-a"}}"#;
    daemon.say("a", leave);
    assert!(daemon.heard("c").is_empty(), "the user has another tab");
    daemon.say("b", leave);
    assert!(daemon.heard("c")[0].contains("member_removed"));
}
