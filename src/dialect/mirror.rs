//! Sends every message back, for the conformance tests of WebSocket itself; only with the feature
//! `conformance`.
//!
//! A message is published under a topic to which only its own connection subscribes. So it goes the
//! way of every event: handshake, reader, trie, outbox, writer and frames are those of the other
//! protocols.

use crate::dialect::client::{
    ClientExample, ClientProfile, DialectClient, Sample, SetupFiles, Site, Subscriber, TokenPlace,
};
use crate::dialect::{
    Action, Actions, Admission, Context, Dialect, FeedAddress, Input, Settings, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::wheel::Now;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// The byte that starts this dialect's topics.
const TOPIC: u8 = b'm';
/// The only path.
const PATH: &str = "/mirror";
/// Longest message: the longest that the Autobahn test suite sends (cases 9.1.6, 9.2.6).
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One connection.
pub struct Mirror {
    /// Names the connection's topic.
    id: u64,
}

impl Mirror {
    /// All topics have one length, so none is a prefix of another.
    fn topic(&self) -> [u8; 9] {
        let mut topic = [TOPIC; 9];
        topic[1..].copy_from_slice(&self.id.to_be_bytes());
        topic
    }

    /// Publishes a message in the form that `fill` makes of it.
    fn reflect(&self, fill: impl FnOnce(&mut Draft), context: &mut Context<'_>, out: &mut Actions) {
        context.draft.address(&[&self.topic()], b"");
        fill(context.draft);
        out.push(Action::Publish(Box::new(context.draft.finish(context.now))));
    }
}

impl Dialect for Mirror {
    const NAME: &'static str = "mirror";
    const FEED: FeedAddress =
        FeedAddress { word: "mirror", parts: (0, 0), shape: "nothing is fed to a mirror" };
    const TOPIC: u8 = TOPIC;
    const CLIENT: &'static dyn DialectClient = &MirrorClient;
    const PING: &'static [u8] = b"";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1001, "ping timeout");

    fn message_bytes_max(_: &Settings) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        if upgrade.path != PATH {
            return None;
        }
        let session = Self { id: (context.rng)() };
        out.push(Action::Accept);
        out.subscribe(&[&session.topic()], b"");
        Some(session)
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        match input {
            Input::Text(text) => {
                let text = text.as_bytes();
                self.reflect(|draft| draft.text(|out| out.extend_from_slice(text)), context, out);
            }
            Input::Binary(bytes) => {
                self.reflect(|draft| draft.frame(OpCode::Data(Data::Binary), bytes), context, out);
            }
            Input::Gone => out.unsubscribe(&[&self.topic()], b""),
            _ => {}
        }
    }

    fn admits(&self, _: &Publication, _: Now) -> Admission {
        Admission::Form(0)
    }

    fn publish(
        _: &str,
        _: &Event<'_, '_>,
        _: &Settings,
        _: Now,
        _: &mut Draft,
        _: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        Err(Unusable("nothing is fed to a mirror".into()))
    }
}

/// A client of the mirror.
struct MirrorClient;

impl DialectClient for MirrorClient {
    fn profile(&self) -> ClientProfile {
        let profile = ClientProfile::new("a test of WebSocket", TokenPlace::Nowhere);
        ClientProfile { owns: |path| path == PATH, ..profile }
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/mirror",
            claims: serde_json::Value::Null,
            options: "",
            place: "mirror",
            event: "{}",
        }
    }

    fn setup(&self, _: &SetupFiles) -> Vec<String> {
        Vec::new()
    }

    fn table(&self, _: &str) -> String {
        String::new()
    }

    fn path(&self, _: &Subscriber<'_>) -> String {
        PATH.to_owned()
    }

    /// Nothing can be fed to a mirror.
    fn sample(&self, _: &Site, _: &str, _: usize) -> Sample {
        Sample {
            address: "mirror".into(),
            fed: Default::default(),
            delivered: Default::default(),
            is_wrapped: false,
        }
    }
}
