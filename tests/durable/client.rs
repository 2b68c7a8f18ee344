//! Producers, consumers and readers that say exactly what they are told.

use crate::harness::{Client, Daemon, Setup, head};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A daemon that speaks Pulsar to everybody, with a store in its directory.
pub(crate) fn setup() -> Setup {
    let setup = Setup::new();
    let store = setup.path("store");
    with_store(setup, &store)
}

/// What the admin listener wants to be shown.
pub(crate) const ADMIN_TOKEN: &str = "the-token-of-whoever-looks-after-topics";

/// The same with the store somewhere else.
pub(crate) fn with_store(setup: Setup, store: &std::path::Path) -> Setup {
    setup
        .set("listen.0.dialects", "[\"pulsar\"]")
        .set("pulsar.anonymous", true)
        .set("store.path", store.display())
        .set("store.writers", std::env::var("FANFARE_TEST_WRITERS").as_deref().unwrap_or("1"))
        .set("admin.token", ADMIN_TOKEN)
}

/// Both numbers of shards that a test has to hold on.
pub(crate) const SHARDS: [u32; 2] = [1, 3];

/// A payload as it travels.
pub(crate) fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// What a payload says.
pub(crate) fn decoded(text: &Value) -> String {
    String::from_utf8(STANDARD.decode(text.as_str().expect("a payload")).unwrap()).unwrap()
}

/// Ledger and entry of a message id: the two numbers that stand in its protobuf message.
pub(crate) fn place(id: &str) -> (u64, u64) {
    let bytes = STANDARD.decode(id).unwrap();
    let mut numbers = [None; 2];
    let mut rest = &bytes[..];
    while let Some((&tag, after)) = rest.split_first() {
        let (mut value, mut length) = (0, 0);
        while after[length] >= 128 {
            value |= u64::from(after[length] & 127) << (7 * length);
            length += 1;
        }
        value |= u64::from(after[length]) << (7 * length);
        if let Some(number) = numbers.get_mut(usize::from(tag >> 3) - 1) {
            *number = Some(value);
        }
        rest = &after[length + 1..];
    }
    (numbers[0].unwrap(), numbers[1].unwrap())
}

/// A connection of the API that was accepted.
pub(crate) struct Socket {
    pub(crate) client: Client,
}

impl Socket {
    /// Opens a path.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        Self::upgrade(Client::raw(address), path)
    }

    /// Opens a path on a connection that stands.
    #[track_caller]
    pub(crate) fn upgrade(mut client: Client, path: &str) -> Self {
        client.bytes(head(path).as_bytes());
        let (status, text) = client.accepted();
        assert_eq!(status, 101, "{path}: {text}");
        Self { client }
    }

    /// Opens a path that is not accepted: the status, and what was said with it.
    #[track_caller]
    pub(crate) fn refused(address: SocketAddr, path: &str) -> (u16, String) {
        let mut client = Client::raw(address);
        client.bytes(head(path).as_bytes());
        let (status, head) = client.accepted();
        assert_ne!(status, 101, "{path}");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
        });
        (status, String::from_utf8(client.exactly(length.unwrap_or(0))).unwrap())
    }

    /// Sends JSON.
    pub(crate) fn say(&mut self, message: &Value) {
        self.client.say(&message.to_string());
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Value {
        let text = self.client.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Code and reason of the close frame that comes next.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> (u16, String) {
        let frame = self.client.next().expect("the connection ended without a close frame");
        assert_eq!(frame.first, 0x88, "{}", String::from_utf8_lossy(&frame.payload));
        let (code, reason) = frame.payload.split_at(2);
        (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(reason.to_vec()).unwrap())
    }

    /// Answers a close frame and waits until the daemon has let go.
    pub(crate) fn leave_quietly(mut self) {
        self.client.try_bytes(b"\x88\x80\x00\x00\x00\x00");
        while self.client.next().is_some() {}
    }

    /// Leaves, and waits until the daemon has said good-bye.
    pub(crate) fn leave(mut self) {
        self.client.frame(0x88, b"\x03\xe8");
        while self.client.next().is_some_and(|frame| frame.first != 0x88) {}
    }
}

/// A message as a consumer gets it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) whole: Value,
}

/// A producer.
pub(crate) struct Producer(pub(crate) Socket);

impl Producer {
    /// A producer of `persistent://public/default/{topic}`; a query may follow.
    #[track_caller]
    pub(crate) fn new(daemon: &Daemon, topic: &str) -> Self {
        let path = format!("/ws/v2/producer/persistent/public/default/{topic}");
        Self(Socket::open(daemon.address, &path))
    }

    /// Sends a text and returns its message id.
    #[track_caller]
    pub(crate) fn send(&mut self, payload: &str) -> String {
        self.send_with(payload, &json!({}))
    }

    /// The same with more keys.
    #[track_caller]
    pub(crate) fn send_with(&mut self, payload: &str, more: &Value) -> String {
        let answer = self.ask(payload, more);
        assert_eq!(answer["result"], "ok", "{answer}");
        answer["messageId"].as_str().unwrap().to_owned()
    }

    /// Sends a text with more keys and returns the whole answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, payload: &str, more: &Value) -> Value {
        self.0.say(&message(payload, more));
        self.0.hear()
    }

    /// Sends texts in one go; their ids.
    #[track_caller]
    pub(crate) fn send_all<T: AsRef<str>>(
        &mut self,
        payloads: impl IntoIterator<Item = T>,
    ) -> Vec<String> {
        let mut sent = 0;
        for payload in payloads {
            self.0.say(&message(payload.as_ref(), &json!({})));
            sent += 1;
        }
        let mut ids = Vec::new();
        for _ in 0..sent {
            let answer = self.0.hear();
            assert_eq!(answer["result"], "ok", "{answer}");
            ids.push(answer["messageId"].as_str().unwrap().to_owned());
        }
        ids
    }
}

/// What a producer says to send a text.
pub(crate) fn message(payload: &str, more: &Value) -> Value {
    let mut message = json!({ "payload": encoded(payload) });
    for (key, value) in more.as_object().unwrap() {
        message[key] = value.clone();
    }
    message
}

/// A consumer or reader.
pub(crate) struct Consumer(pub(crate) Socket);

impl Consumer {
    /// A consumer of `persistent://public/default/{topic}`; the subscription may have a query.
    #[track_caller]
    pub(crate) fn new(daemon: &Daemon, topic: &str, subscription: &str) -> Self {
        let path = format!("/ws/v2/consumer/persistent/public/default/{topic}/{subscription}");
        Self(Socket::open(daemon.address, &path))
    }

    /// A reader of `persistent://public/default/{topic}`; a query may follow.
    #[track_caller]
    pub(crate) fn reader(daemon: &Daemon, topic: &str) -> Self {
        let path = format!("/ws/v2/reader/persistent/public/default/{topic}");
        Self(Socket::open(daemon.address, &path))
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Received {
        received(self.0.hear())
    }

    /// The next message, acknowledged.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Received {
        let message = self.next();
        self.ack(&message.id);
        message
    }

    /// The payloads of so many messages, acknowledged.
    #[track_caller]
    pub(crate) fn take_all(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.take().payload).collect()
    }

    /// Acknowledges a message.
    pub(crate) fn ack(&mut self, id: &str) {
        self.0.say(&json!({ "messageId": id }));
    }

    /// Says that a message is to come again.
    pub(crate) fn nack(&mut self, id: &str) {
        self.0.say(&json!({ "type": "negativeAcknowledge", "messageId": id }));
    }

    /// Pulls so many.
    pub(crate) fn permit(&mut self, count: i64) {
        self.0.say(&json!({ "type": "permit", "permitMessages": count }));
    }

    /// Whatever comes before the daemon, asked twice, has answered twice in a row: one question goes through the
    /// owner of the topics before a delivery of the same round, the second after it.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        let mut quiet = 0;
        while quiet < 3 {
            self.0.say(&json!({ "type": "isEndOfTopic" }));
            let before = all.len();
            loop {
                let heard = self.0.hear();
                if heard.get("endOfTopic").is_some() {
                    break;
                }
                all.push(received(heard));
            }
            quiet = if all.len() == before { quiet + 1 } else { 0 };
        }
        all
    }

    /// The payloads of all that comes, acknowledged, as [`Consumer::drain`] waits for it.
    #[track_caller]
    pub(crate) fn drain_acknowledged(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let more = self.drain();
            if more.is_empty() {
                return all;
            }
            more.iter().for_each(|message| self.ack(&message.id));
            all.extend(more.into_iter().map(|message| message.payload));
        }
    }

    /// Nothing has come that was not taken, and nothing is on its way.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        let more = self.drain();
        assert!(more.is_empty(), "{more:?}");
    }
}

#[track_caller]
fn received(whole: Value) -> Received {
    let id =
        whole["messageId"].as_str().unwrap_or_else(|| panic!("no message: {whole}")).to_owned();
    Received { id, payload: decoded(&whole["payload"]), whole }
}
