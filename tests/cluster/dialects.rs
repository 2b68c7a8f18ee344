//! Every dialect on every node: followers of each, and the ways by which numbered events come in.

use crate::harness::{
    Client, Daemon, Echo, PATH, SECRET, Setup, eventually, post, token, token_with, with_apps,
};
use crate::network::Host;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare::dialect::client::ClientWish;
use fanfare::token::{Algorithm, mint};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// The app of the tests' own clients, among those of the pages.
pub(crate) const APP: &str = "app-id";

/// The channel of Echo that followers are in.
pub(crate) const ROOM: &str = "private-room";

/// The six dialects, and the channels of Laravel on a port of their own, since another takes their path.
pub(crate) fn every_dialect(setup: Setup, host: &Host) -> Setup {
    let secret = shared_secret();
    let store = setup.path("store").display().to_string();
    with_apps(setup)
        .set("threads", 2)
        .set(
            "listen.0.dialects",
            r#"["personium-event", "personium-topic", "wazo", "echo", "pulsar"]"#,
        )
        .set("listen.1.address", format!("{}:8081", host.address))
        .set("listen.1.dialects", r#"["channel"]"#)
        .set("personium.token.jwt.secret_file", &secret)
        .set("wazo.token.jwt.algorithms", "[\"HS256\"]")
        .set("wazo.token.jwt.secret_file", &secret)
        .set("channel.token.jwt.secret_file", &secret)
        .set("channel.relay", "cluster")
        .set("pulsar.anonymous", true)
        .set("pulsar.local", true)
        .set("store.path", store)
        .set("echo.app.0.client_events_per_s_max", 10_000)
        .set("limits.outbox_bytes_max", 64 * 1024 * 1024)
        // The followers here answer no pings.
        .set("echo.app.0.activity_timeout_s", 3_600)
        .set("personium.ping_interval_s", 3_600)
}

/// A file with the secret of tokens that all daemons share: settings with other paths are different settings.
fn shared_secret() -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster.secret");
    if !file.exists() {
        // Another test may be about to read it.
        let new = file.with_extension(std::process::id().to_string());
        std::fs::write(&new, SECRET).unwrap();
        std::fs::rename(&new, &file).unwrap();
    }
    file.display().to_string()
}

/// Where a daemon of [`every_dialect`] speaks `channel`.
pub(crate) fn channel_address(daemon: &Daemon) -> SocketAddr {
    SocketAddr::new(daemon.address.ip(), 8081)
}

/// A token for everything that the dialect wants to see.
fn signed(mut claims: Value) -> String {
    claims["exp"] = 4_000_000_000u64.into();
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

/// The token of a user of the channel that followers are in.
fn chat_token(id: u64) -> String {
    signed(json!({ "channel": "chat:1", "id": id, "name": "Ann" }))
}

/// A token for Wazo's events of a pattern.
pub(crate) fn wazo_token(pattern: &str) -> String {
    signed(json!({ "acl": ["websocketd", pattern], "sub": "ann" }))
}

/// The dialects, in the order of everything here.
pub(crate) const DIALECTS: [&str; 6] =
    ["personium-event", "personium-topic", "wazo", "echo", "channel", "pulsar"];

/// The line of the unix feed with a numbered event of a dialect.
pub(crate) fn line(dialect: &str, number: u64) -> String {
    match dialect {
        "personium-event" => {
            format!(r#"event/demo {{"Type":"t","Object":"o","Info":"|{number}|"}}"#)
        }
        "personium-topic" => format!(
            r#"topic/demo/box/stream.topic.chat {{"From":"https://demo.example/","Body":"|{number}|"}}"#
        ),
        "wazo" => {
            format!(r#"wazo {{"name":"n","required_acl":"events.n","data":"|{number}|"}}"#)
        }
        "echo" => {
            format!(r#"echo/{APP} {{"name":"e","channels":["{ROOM}"],"data":"|{number}|"}}"#)
        }
        "channel" => format!(
            r#"channel {{"channel":"chat:1","data":{{"message":"|{number}|","name":"System"}}}}"#
        ),
        "pulsar" => format!(
            r#"pulsar/non-persistent/public/default/t {{"payload":"{}"}}"#,
            STANDARD.encode(format!("|{number}|"))
        ),
        _ => unreachable!("{dialect}"),
    }
}

/// A client that follows numbered events.
pub(crate) struct Follower {
    pub(crate) client: Client,
    /// Its dialect.
    pub(crate) dialect: &'static str,
}

impl Follower {
    /// A client of a dialect on a node, whose subscription is confirmed.
    #[track_caller]
    pub(crate) fn of(dialect: &'static str, daemon: &Daemon) -> Self {
        let following = |path: &str, wish| Client::following(daemon.address, dialect, path, wish);
        let with = |token: String| ClientWish { token: Some(token), ..ClientWish::default() };
        let client = match dialect {
            "personium-event" => following(PATH, with(token())),
            "personium-topic" => following(
                "/demo/__topic/box/stream.topic.chat",
                with(token_with(SECRET, "read stream-receive")),
            ),
            "wazo" => following(
                "/",
                ClientWish { names: vec!["*".into()], ..with(wazo_token("events.#")) },
            ),
            "echo" => {
                let mut echo = Echo::connect(daemon);
                echo.join(ROOM, None);
                echo.client
            }
            "channel" => {
                Client::upgraded(channel_address(daemon), &format!("/?token={}", chat_token(2)))
            }
            "pulsar" => Client::upgraded(
                daemon.address,
                "/ws/v2/consumer/non-persistent/public/default/t/s?receiverQueueSize=100000",
            ),
            _ => unreachable!("{dialect}"),
        };
        Self { client, dialect }
    }

    /// One of each dialect.
    pub(crate) fn of_each(daemon: &Daemon) -> Vec<Self> {
        DIALECTS.into_iter().map(|dialect| Self::of(dialect, daemon)).collect()
    }

    /// The number of the next event; anything else is passed over.
    #[track_caller]
    pub(crate) fn next(&mut self) -> u64 {
        loop {
            let what = format!("a client of {} gets something", self.dialect);
            eventually(&what, || self.client.has_news());
            if let Some(number) = number(&self.client.text()) {
                return number;
            }
        }
    }

    /// The number of an event that has come already, if the next message is one.
    #[track_caller]
    pub(crate) fn look(&mut self) -> Option<u64> {
        if !self.client.has_news() {
            return None;
        }
        let frame = self.client.next().expect("the connection stays");
        assert_ne!(frame.first, 0x88, "{}: {:?}", self.dialect, frame.payload);
        number(std::str::from_utf8(&frame.payload).unwrap())
    }

    /// The next events have these numbers.
    #[track_caller]
    pub(crate) fn assert_next(&mut self, wanted: impl IntoIterator<Item = u64>) {
        for wanted in wanted {
            assert_eq!(self.next(), wanted, "{}", self.dialect);
        }
    }
}

/// The number that an event has, as a client sees it.
pub(crate) fn number(text: &str) -> Option<u64> {
    let between = |text: &str| text.split('|').nth(1)?.parse().ok();
    if let Some((_, payload)) = text.split_once(r#""payload":""#) {
        let bytes = STANDARD.decode(payload.split('"').next()?).ok()?;
        return between(&String::from_utf8(bytes).ok()?);
    }
    between(text)
}

/// A way by which clients and applications publish numbered events, besides the unix feed.
pub(crate) enum Way {
    /// The HTTP API of Echo.
    Http(Client),
    /// A client of Personium, of `channel`, of Echo, or a producer of Pulsar.
    Client(&'static str, Client),
}

impl Way {
    /// All of them, on a node.
    pub(crate) fn all(daemon: &Daemon) -> Vec<Self> {
        let mut personium = Client::connect(daemon.address);
        let answer = personium.ask(&json!({ "AccessToken": token() }).to_string());
        assert!(answer.contains("Success"), "{answer}");
        let channel =
            Client::upgraded(channel_address(daemon), &format!("/?token={}", chat_token(1)));
        let mut whisperer = Echo::connect(daemon);
        whisperer.join(ROOM, None);
        let producer =
            Client::upgraded(daemon.address, "/ws/v2/producer/non-persistent/public/default/t");
        vec![
            Self::Http(Client::raw(daemon.address)),
            Self::Client("personium-event", personium),
            Self::Client("channel", channel),
            Self::Client("echo", whisperer.client),
            Self::Client("pulsar", producer),
        ]
    }

    /// The dialect of those who get it.
    pub(crate) fn dialect(&self) -> &'static str {
        match self {
            Self::Http(_) => "echo",
            Self::Client(dialect, _) => dialect,
        }
    }

    /// Publishes, and waits for the answer where there is one.
    #[track_caller]
    pub(crate) fn publish(&mut self, number: u64) {
        let mark = format!("|{number}|");
        match self {
            Self::Http(client) => trigger(client, &[ROOM], &mark),
            Self::Client("personium-event", client) => {
                client.say(&json!({ "Type": "t", "Object": "o", "Info": mark }).to_string())
            }
            Self::Client("channel", client) => {
                client.say(&json!({ "data": { "message": mark, "name": "Ann" } }).to_string());
            }
            Self::Client("echo", client) => client
                .say(&json!({ "event": "client-e", "channel": ROOM, "data": mark }).to_string()),
            Self::Client(_, client) => {
                client.say(&json!({ "payload": STANDARD.encode(mark) }).to_string());
                assert!(client.text().contains("\"ok\""));
            }
        }
    }
}

/// Publishes an event on channels of Echo by the HTTP API, over a connection that stays.
#[track_caller]
pub(crate) fn trigger(client: &mut Client, channels: &[&str], data: &str) {
    let body = json!({ "name": "e", "channels": channels, "data": data }).to_string();
    let head = format!("Content-Length: {}\r\n", body.len());
    client.bytes(post(&format!("/apps/{APP}/events"), &body, &head).as_bytes());
    let (status, _, answer) = crate::harness::answer(client);
    assert_eq!(status, 200, "{answer}");
}
