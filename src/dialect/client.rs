//! The client's end of every protocol: what it says and when, and how it reads the answers. There
//! is no socket here.
//!
//! Each dialect brings its own, as `Dialect::CLIENT`, in the file `client.rs` of its folder. It has
//! three users: `fanfare subscribe`, which follows what a person asks for; `fanfare bench`, which
//! makes large numbers of subscribers and the events for them; and the tests of the whole daemon. A
//! [`ClientTalk`] is one conversation; a user that does not wait for answers says everything
//! [`at_once`](ClientWish::at_once).

use serde::Serialize;
use serde_json::{Map, Value};

/// Width of the number of an event that a load generator makes: enough for 10¹² events, far beyond
/// any run.
pub const NUMBER_DIGITS: usize = 12;

/// A protocol as its clients speak it.
pub trait DialectClient: Sync {
    /// The facts by which a person chooses it, and the options it can use.
    fn profile(&self) -> ClientProfile;

    /// Completes a wish from the path of the URL.
    ///
    /// # Errors
    /// When it cannot be met: what to give instead, for a person at a terminal.
    fn prepare(&self, _path: &str, _wish: &mut ClientWish) -> Result<(), String> {
        Ok(())
    }

    /// The messages of a stage; `answer` is the one that ended the stage before. `None` when there
    /// is no such stage.
    fn step(&self, _stage: ClientStage, _wish: &ClientWish, _answer: &str) -> Option<ClientStep> {
        None
    }

    /// Classifies a message of the daemon.
    fn read(&self, _stage: ClientStage, _text: &str) -> ClientHeard {
        ClientHeard::Event
    }

    /// The acknowledgement of an event, where one is owed.
    fn acknowledgement(&self, _event: &str) -> Option<String> {
        None
    }

    /// A sentence about a refusal with this reason, with advice.
    fn refusal(&self, _wish: &ClientWish, reason: &str) -> String {
        format!("the daemon refused: {reason}")
    }

    /// The probable meaning of a close code, with advice, where the protocol has a meaning of its
    /// own.
    fn meaning(&self, _code: u16, _stage: ClientStage) -> Option<&'static str> {
        None
    }

    /// An example for the development set-up.
    fn example(&self) -> ClientExample;

    /// The dialect's own table in the development set-up; the file of a secret, as TOML, goes in.
    fn trial_table(&self, _secret_file: &str) -> Option<String> {
        None
    }

    /// What to paste where in the development set-up. The default shows a token: a protocol without
    /// tokens says its own.
    fn welcome(&self, trial: &TrialPlace<'_>) -> String {
        let ClientExample { path, options, place, event, .. } = self.example();
        let TrialPlace { name, address, program, socket, token, .. } = trial;
        let with_tls = trial.over_tls.map(|there| format!("  with TLS   wss://{there}{path}\n"));
        let with_tls = with_tls.unwrap_or_default();
        format!(
            "\n{name}\n  url        ws://{address}{path}\n{with_tls}  token      {token}\n\
             \n  follow it  {program} subscribe ws://{address}{path} {options}--token {token}\n\
             \n  publish    {program} publish{socket} {place} '{event}'\n"
        )
    }

    /// What a new configuration says of the dialect, commented, in parts: one that several dialects
    /// have word for word is written once.
    fn setup(&self, files: &SetupFiles) -> Vec<String>;

    /// The table of a configuration that sets up the dialect, with tokens or requests signed by
    /// `secret`; `[name]` alone where it needs nothing.
    fn table(&self, secret: &str) -> String;

    /// The claims of a subscriber's token, without its end; `None` where no token is needed.
    fn claims(&self, _subscriber: &Subscriber<'_>) -> Option<Map<String, Value>> {
        None
    }

    /// Path and query that a subscriber connects to, without its token: the given one as it is,
    /// else one for its topic.
    fn path(&self, subscriber: &Subscriber<'_>) -> String;

    /// An event for the subscribers of a topic. The load generator puts its number, directly behind
    /// a `"`, and padding (`x`) between head and tail, so that subscribers get exactly `size`
    /// bytes; the event and what is delivered of it are JSON. `size` itself matters only to
    /// protocols that encode the payload.
    fn sample(&self, site: &Site, topic: &str, size: usize) -> Sample;

    /// A message of about so many bytes that a client says to the subscribers of its topic, itself
    /// included, where the protocol has such. What they get ends with `}}`, and no other answer
    /// does.
    fn client_message(&self, _size: usize) -> Option<String> {
        None
    }

    /// A signer of requests that publish events, where the protocol has such requests.
    fn request_signer(&self, _secret: &str) -> Option<RequestSigner> {
        None
    }

    /// Whether messages are stored, and subscribers acknowledge them.
    fn stores(&self) -> bool {
        false
    }

    /// A producer of stored messages of a topic, where the protocol has such.
    fn producer(&self, _site: &Site, _topic: &str) -> Option<DurableProducer> {
        None
    }
}

/// A dialect's place in the development set-up.
#[derive(Clone, Copy)]
pub struct TrialPlace<'a> {
    /// The name of the dialect.
    pub name: &'a str,
    /// Address and port.
    pub address: &'a str,
    /// Address and port with TLS, if enabled.
    pub over_tls: Option<&'a str>,
    /// The command that calls this program.
    pub program: &'a str,
    /// The option of `fanfare publish` that names the feed, with a space before it; or nothing.
    pub socket: &'a str,
    /// A token for the example.
    pub token: &'a str,
    /// The secret of its own table, if it has one.
    pub secret: &'a str,
}

/// An example for the development set-up.
#[derive(Debug)]
pub struct ClientExample {
    /// The path that a client connects to.
    pub path: &'static str,
    /// The claims of its token, without its end; null where no token is needed.
    pub claims: Value,
    /// Options of `fanfare subscribe`, with a space behind each.
    pub options: &'static str,
    /// The address of an event for it in a feed.
    pub place: &'static str,
    /// The event, JSON.
    pub event: &'static str,
}

/// The facts by which a person chooses a protocol, and the options it can use.
#[derive(Clone, Copy, Debug)]
pub struct ClientProfile {
    /// Whose protocol it is, as in "--echo is for Laravel Echo".
    pub whose: &'static str,
    /// The option of `fanfare subscribe` that chooses it, where no path does; one of those in
    /// `cli/subscribe.rs`.
    pub option: Option<&'static str>,
    /// Whether a path belongs to this protocol alone.
    pub owns: fn(&str) -> bool,
    /// Where the token goes.
    pub token: TokenPlace,
    /// Whether prefixes of types and objects choose the events.
    pub has_rules: bool,
    /// Whether a secret can sign for what is not public.
    pub has_secret: bool,
}

impl ClientProfile {
    /// A profile without any options.
    #[must_use]
    pub const fn new(whose: &'static str, token: TokenPlace) -> Self {
        Self { whose, option: None, owns: |_| false, token, has_rules: false, has_secret: false }
    }

    /// Path and query, or a URL, with the token if it belongs there; or the token for the header
    /// `X-Auth-Token`.
    #[must_use]
    pub fn request<'t>(&self, target: &str, token: Option<&'t str>) -> (String, Option<&'t str>) {
        match (self.token, token) {
            (TokenPlace::Query, Some(token)) => (with_token(target, token), None),
            (TokenPlace::Header, token) => (target.to_owned(), token),
            _ => (target.to_owned(), None),
        }
    }
}

/// Where a client's token goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// There is none.
    Nowhere,
    /// Into a message.
    Message,
    /// Into the query, as `token`.
    Query,
    /// Into the header `X-Auth-Token`.
    Header,
}

/// The wishes for one connection.
#[derive(Clone, Default)]
pub struct ClientWish {
    /// The token; never shown.
    pub token: Option<String>,
    /// Events or channels, by name.
    pub names: Vec<String>,
    /// What the types of events begin with; `None` for all.
    pub type_prefix: Option<String>,
    /// What the objects of events begin with; `None` for all.
    pub object_prefix: Option<String>,
    /// The key of an app.
    pub key: String,
    /// Its secret, which signs what is not public; never shown.
    pub secret: Option<String>,
}

impl ClientWish {
    /// Everything that can be said without waiting for an answer, and the number of successes that
    /// make a subscriber.
    #[must_use]
    pub fn at_once(&self, client: &dyn DialectClient) -> ClientStep {
        // Without answers there is no socket id to sign for: of echo's channels only public ones
        // work.
        let mut all = ClientStep { say: Vec::new(), answers: 0 };
        let steps =
            ClientStage::BEFORE.into_iter().filter_map(|stage| client.step(stage, self, ""));
        for step in steps {
            all.say.extend(step.say);
            all.answers += step.answers;
        }
        all
    }
}

/// The progress of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStage {
    /// It is being let in.
    Token,
    /// It is subscribing.
    Subscription,
    /// Events may come.
    Following,
}

impl ClientStage {
    /// The stages before events may come, in order.
    const BEFORE: [Self; 2] = [Self::Token, Self::Subscription];
}

/// The messages of a stage.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientStep {
    /// The messages.
    pub say: Vec<String>,
    /// Successes that end the stage.
    pub answers: usize,
}

impl ClientStep {
    /// One message, which is answered once.
    #[must_use]
    pub fn ask(message: String) -> Option<Self> {
        Some(Self { say: vec![message], answers: 1 })
    }
}

/// The class of a message of the daemon.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientHeard {
    /// An event.
    Event,
    /// A request has succeeded; a word for it, or nothing.
    Success(&'static str),
    /// Something a person may want to see.
    Note,
    /// Something that contains a token and must not be shown.
    Secret,
    /// A question, with its answer.
    Question(&'static str),
    /// A request was refused, for this reason.
    Refusal(String),
}

/// One conversation.
pub struct ClientTalk {
    client: &'static dyn DialectClient,
    wish: ClientWish,
    stage: ClientStage,
    /// Successes that the stage still waits for.
    left: usize,
}

impl ClientTalk {
    /// A conversation that has not begun.
    #[must_use]
    pub fn new(client: &'static dyn DialectClient, wish: ClientWish) -> Self {
        Self { client, wish, stage: ClientStage::Token, left: 0 }
    }

    /// The protocol.
    #[must_use]
    pub fn client(&self) -> &'static dyn DialectClient {
        self.client
    }

    /// Its progress.
    #[must_use]
    pub fn stage(&self) -> ClientStage {
        self.stage
    }

    /// The first messages.
    pub fn open(&mut self) -> Vec<String> {
        self.advance(&ClientStage::BEFORE, "")
    }

    /// Reads a message of the daemon: its class, and the messages in reply.
    pub fn hear(&mut self, text: &str) -> (ClientHeard, Vec<String>) {
        let told = self.client.read(self.stage, text);
        let say = match told {
            // Later successes belong to messages that the person has sent.
            ClientHeard::Success(_) if self.stage != ClientStage::Following => {
                self.left = self.left.saturating_sub(1);
                let is_first = self.stage == ClientStage::Token;
                match (self.left, is_first) {
                    (0, true) => self.advance(&ClientStage::BEFORE[1..], text),
                    (0, false) => self.advance(&[], text),
                    _ => Vec::new(),
                }
            }
            ClientHeard::Question(answer) => vec![answer.to_owned()],
            _ => Vec::new(),
        };
        (told, say)
    }

    /// A sentence about a refusal.
    #[must_use]
    pub fn refusal(&self, reason: &str) -> String {
        self.client.refusal(&self.wish, reason)
    }

    /// The probable meaning of a close code, with advice.
    #[must_use]
    pub fn meaning(&self, code: u16) -> &'static str {
        self.client.meaning(code, self.stage).unwrap_or_else(|| usual_meaning(code))
    }

    /// Enters the first of these stages that the protocol has, or else follows.
    fn advance(&mut self, stages: &[ClientStage], answer: &str) -> Vec<String> {
        let found = stages
            .iter()
            .find_map(|&stage| Some((stage, self.client.step(stage, &self.wish, answer)?)));
        // No stage is left to wait for: the events come by themselves.
        let Some((stage, step)) = found else {
            self.stage = ClientStage::Following;
            return Vec::new();
        };
        (self.stage, self.left) = (stage, step.answers);
        step.say
    }
}

/// The probable meaning of a close code in any protocol, with advice.
#[must_use]
pub fn usual_meaning(code: u16) -> &'static str {
    match code {
        1000 => "the daemon ended the session; nothing is wrong with the connection",
        1001 => "the daemon is stopping; connect again later",
        1002 | 1007 => "the daemon found our WebSocket frames faulty; is there a proxy between?",
        1008 => {
            "the daemon's policy does not allow this session; check the token, and that it is \
             for the protocol of this listener"
        }
        1009 => "a message that we sent is longer than the daemon takes; see --send",
        1011 => "the daemon met an error of its own; see its log",
        1013 => "we read too slowly or the daemon is overloaded; connect again",
        4000.. => "a code of the dialect's own; see its documentation, and check the token first",
        _ => "no usual code; see the daemon's log",
    }
}

/// The site of the events of a URL's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The cell.
    pub cell: String,
    /// The box in it.
    pub folder: String,
}

impl Site {
    /// Reads a URL's path: `/{cell}/…` or `/{cell}/__topic/{box}/…`.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let mut parts = path.split('/').skip(1).map(str::to_owned);
        let cell = parts.next().unwrap_or_default();
        Self { cell, folder: parts.nth(1).unwrap_or_default() }
    }
}

/// One of the many subscribers of a load generator.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber<'a> {
    /// Path and query of the URL that was given, if one was.
    pub given: Option<&'a str>,
    /// The site of the events.
    pub site: &'a Site,
    /// Its number.
    pub index: usize,
    /// The topic that it follows.
    pub topic: &'a str,
}

impl Subscriber<'_> {
    /// Its wishes.
    #[must_use]
    pub fn wish(&self, token: Option<String>) -> ClientWish {
        ClientWish {
            token,
            names: vec![self.topic.to_owned()],
            type_prefix: Some("t".into()),
            object_prefix: Some(self.topic.to_owned()),
            ..ClientWish::default()
        }
    }
}

/// An event of a load generator. Its number of [`NUMBER_DIGITS`] digits, and padding, go between
/// head and tail.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The address of its feed line.
    pub address: String,
    /// Head and tail as fed.
    pub fed: (String, &'static str),
    /// Head and tail as delivered to subscribers.
    pub delivered: (String, &'static str),
    /// Whether the head is longer as delivered, because subscribers get more of it.
    pub is_wrapped: bool,
}

impl Sample {
    /// An event that is delivered as it is fed.
    #[must_use]
    pub fn unchanged(address: String, head: String, tail: &'static str) -> Self {
        let text = (head, tail);
        Self { address, fed: text.clone(), delivered: text, is_wrapped: false }
    }
}

/// A string, or a type that serializes as one, as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings become JSON without fail")
}

/// A table of a configuration that verifies tokens signed by `secret`.
pub(super) fn token_table(name: &str, secret: &str) -> String {
    format!("[{name}]\ntoken = {{ jwt = {{ algorithms = [\"HS256\"], secret = \"{secret}\" }} }}")
}

/// The files of secrets that a new configuration may name, each as TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupFiles {
    /// The secret that tokens are signed with.
    pub tokens: String,
    /// A secret of the dialect's own.
    pub own: String,
}

/// The part of a new configuration that verifies tokens.
pub(super) fn token_setup(name: &str, files: &SetupFiles) -> String {
    format!(
        "# Tokens are signed with the secret in this file; \"fanfare help tokens\" has other ways.\n\
         [{name}.token.jwt]\nalgorithms = [\"HS256\"]\nsecret_file = {}\n",
        files.tokens
    )
}

/// The part of a new configuration for what Laravel publishes.
pub(super) const REDIS_SETUP: &str = "# What Laravel publishes on Redis; \
    \"fanfare help feeds\" has the rest.\n\
    #[feed.redis]\n\
    #url = \"redis://127.0.0.1:6379\"\n\
    #prefix = \"laravel-database-\"\n";

/// Path and query of a request with this body made at this time (unix time in s).
pub type RequestSigner = Box<dyn Fn(&[u8], u64) -> String>;

/// A producer of stored messages.
#[derive(Clone, Debug)]
pub struct DurableProducer {
    /// The path that it connects to.
    pub path: String,
    /// A message with this payload.
    pub message: fn(&[u8]) -> String,
    /// Head and tail of such a message in a feed line; the number goes between them.
    pub numbered: fn(&[u8]) -> (String, &'static str),
    /// The beginning of the answer to a stored message.
    pub stored: &'static str,
}

/// A path or URL with the token added to its query.
fn with_token(target: &str, token: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair("token", token).finish();
    let joint = if target.contains('?') { '&' } else { '?' };
    format!("{target}{joint}{query}")
}

/// Claims written as JSON.
pub(super) fn claims(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_into_the_query_after_what_is_there() {
        assert_eq!(with_token("ws://h/", "a.b-c_d"), "ws://h/?token=a.b-c_d");
        assert_eq!(with_token("ws://h/?a=1", "a b&c"), "ws://h/?a=1&token=a+b%26c");
    }

    #[test]
    fn a_site_is_read_from_a_path() {
        let site = |cell: &str, folder: &str| Site { cell: cell.into(), folder: folder.into() };
        assert_eq!(Site::of_path("/c/__topic/b/x.topic.y"), site("c", "b"));
        assert_eq!(Site::of_path("/c/__event").cell, "c");
        assert_eq!(Site::of_path("/"), site("", ""));
    }
}
