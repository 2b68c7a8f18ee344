//! `fanfare subscribe`: follows a WebSocket from a terminal.
//!
//! Events go to standard output, a line each and unchanged; answers, notices and the close go to standard
//! error. What is sent when, and what a message is, is decided by [`Conversation`], which sees no socket.
//! The token is shown nowhere, and neither is the query of the URL, where other dialects carry theirs.

use std::{
    env,
    io::{self, ErrorKind, Write},
    net::TcpStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use argh::FromArgs;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use tungstenite::{Error, Message, WebSocket, protocol::CloseFrame, stream::MaybeTlsStream};

use super::dial::{Target, connect, socket};
use super::{CliError, error::printable, paths, trust::Trust};

/// Follow a WebSocket: print what a daemon sends, one message a line.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "subscribe",
    example = "{command_name} ws://localhost:8080/john.doe/__event --token-file token.txt --type chat\n\
               {command_name} wss://localhost:8443/john.doe/__event --ca cert.pem --token-file token.txt\n\
               {command_name} 'ws://localhost:9502/?token=…' --send '{{\"op\":\"subscribe\",\"data\":{{\"event_name\":\"*\"}}}}'",
    note = "A URL whose path ends in /__event speaks to the Personium event bus: the token is sent, then the \
            subscription. Any other is only connected, and sent what --send says.",
    note = "Without --token and --token-file, the token is $FANFARE_TOKEN. A token on the command line can be \
            read by every user of the machine while the command runs."
)]
pub struct Subscribe {
    #[argh(
        positional,
        arg_name = "URL",
        description = "where to connect: ws://HOST[:PORT]/PATH, or wss:// for TLS"
    )]
    url: String,

    /// trust the certificates in this file (PEM), and what they have signed, instead of the machine's
    #[argh(option, arg_name = "file")]
    ca: Option<PathBuf>,

    /// with wss://, trust whoever answers
    #[argh(switch)]
    insecure: bool,

    /// the token for the event bus
    #[argh(option)]
    token: Option<String>,

    /// a file that holds the token
    #[argh(option, arg_name = "file")]
    token_file: Option<PathBuf>,

    /// follow events whose Type begins so; default: all (*)
    #[argh(option, long = "type", arg_name = "prefix")]
    type_prefix: Option<String>,

    /// follow events whose Object begins so; default: all (*)
    #[argh(option, long = "object", arg_name = "prefix")]
    object_prefix: Option<String>,

    /// send this message once connected (and subscribed); may be repeated
    #[argh(option, arg_name = "json")]
    send: Vec<String>,

    /// stop, with success, after this many events
    #[argh(option, arg_name = "N")]
    count: Option<u64>,
}

/// How long an answer may take before its absence is mentioned.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the daemon may take to answer our close; the events are complete by then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Characters of an answer or a reason that are shown.
const NOTICE_CHARS_MAX: usize = 2000;

impl Subscribe {
    /// Follows until the count is reached, the reader of standard output leaves, or the daemon closes.
    ///
    /// # Errors
    /// The URL is unusable, the connection fails, or it ends before the count is reached.
    pub fn run(mut self) -> Result<ExitCode, CliError> {
        let target = Target::parse(&self.url)?;
        let trust = Trust::of(self.ca.take(), self.insecure)?;
        if !target.is_tls && trust != Trust::Machine {
            return Err(CliError::new("--ca and --insecure are for wss://, and this URL is without TLS"));
        }
        let conversation = self.conversation(&target)?;
        if trust == Trust::Anybody {
            eprintln!(
                "warning: --insecure: whoever answers is taken for the daemon, and can read the token and every \
                 event; give its certificate with --ca FILE instead"
            );
        }
        let socket = connect(&target, &trust)?;
        eprintln!("connected to {}", target.shown);
        Follow { socket, conversation, target }.run()
    }

    fn conversation(self, target: &Target) -> Result<Conversation, CliError> {
        if !target.event_bus {
            let ours = [
                ("--token", self.token.is_some()),
                ("--token-file", self.token_file.is_some()),
                ("--type", self.type_prefix.is_some()),
                ("--object", self.object_prefix.is_some()),
            ];
            if let Some((name, _)) = ours.iter().find(|(_, given)| *given) {
                return Err(CliError::new(format!(
                    "{name} is for the event bus, whose URL ends in /__event; for other paths give what the \
                     daemon expects in the URL or with --send"
                )));
            }
            return Ok(Conversation::plain(self.send, self.count));
        }
        let token = token(self.token, self.token_file)?;
        let any = || String::from("*");
        let rule = Rule {
            r#type: self.type_prefix.unwrap_or_else(any),
            object: self.object_prefix.unwrap_or_else(any),
        };
        Ok(Conversation::event_bus(token, &rule, self.send, self.count))
    }
}

/// The token: from the arguments, else from the environment; none is allowed, for anonymous listeners.
fn token(given: Option<String>, file: Option<PathBuf>) -> Result<Option<String>, CliError> {
    let token = match (given, file) {
        (Some(_), Some(_)) => return Err(CliError::new("--token and --token-file exclude each other")),
        (Some(token), None) => token,
        (None, Some(path)) => String::from_utf8(paths::read_small(&path, "the token")?)
            .map_err(|_| CliError::new(format!("{} holds no token: it is not text", path.display())))?,
        (None, None) => match env::var("FANFARE_TOKEN") {
            Ok(token) => token,
            Err(env::VarError::NotPresent) => return Ok(None),
            Err(env::VarError::NotUnicode(_)) => return Err(CliError::new("$FANFARE_TOKEN is not text")),
        },
    };
    let token = token.trim();
    if token.is_empty() {
        return Err(CliError::new("the token is empty; `fanfare token --cell NAME` makes one"));
    }
    Ok(Some(token.into()))
}

/// What a subscription asks for, in the spelling of the event bus.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    r#type: String,
    object: String,
}

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// The token was sent.
    Token,
    /// The subscription was sent.
    Subscription,
    /// Events may come.
    Following,
}

/// What we say and what we make of the answers; knows no socket.
struct Conversation {
    event_bus: bool,
    stage: Stage,
    token: Option<String>,
    /// The subscription to send once the token was accepted.
    subscribe: String,
    /// Messages to send once subscribed.
    send: Vec<String>,
    events: u64,
    count: Option<u64>,
}

/// What to do about a message.
#[derive(Debug, PartialEq)]
enum Step {
    /// An event: print it as it is.
    Event,
    /// Tell the person, and send these.
    Notice(String, Vec<String>),
    /// Nothing more will come of this.
    Fail(String),
}

/// The keys by which the event bus' messages are told apart, in both of its spellings.
#[derive(Deserialize)]
struct Keys {
    #[serde(rename = "Type")]
    event_type: Option<IgnoredAny>,
    #[serde(alias = "Response")]
    response: Option<String>,
    #[serde(alias = "Result")]
    result: Option<String>,
    #[serde(alias = "Reason")]
    reason: Option<String>,
    #[serde(alias = "AccessToken")]
    access_token: Option<IgnoredAny>,
}

impl Conversation {
    fn plain(send: Vec<String>, count: Option<u64>) -> Self {
        Conversation {
            event_bus: false,
            stage: Stage::Following,
            token: None,
            subscribe: String::new(),
            send,
            events: 0,
            count,
        }
    }

    fn event_bus(token: Option<String>, rule: &Rule, send: Vec<String>, count: Option<u64>) -> Self {
        let stage = if token.is_some() { Stage::Token } else { Stage::Subscription };
        let subscribe = format!("{{\"subscribe\":{}}}", json(rule));
        Conversation { event_bus: true, stage, token, subscribe, send, events: 0, count }
    }

    /// The first messages to send.
    fn open(&mut self) -> Vec<String> {
        match (self.stage, &self.token) {
            (Stage::Token, Some(token)) => vec![format!("{{\"access_token\":{}}}", json(token))],
            (Stage::Following, _) => std::mem::take(&mut self.send),
            _ => vec![self.subscribe.clone()],
        }
    }

    /// Whether as many events came as were asked for.
    fn complete(&self) -> bool {
        self.stage == Stage::Following && self.count.is_some_and(|count| self.events >= count)
    }

    fn handle(&mut self, text: &str) -> Step {
        let keys = if self.event_bus { serde_json::from_str::<Keys>(text).ok() } else { None };
        match keys {
            Some(keys) if keys.access_token.is_some() => {
                Step::Notice("(a message with an access token, not shown)".into(), Vec::new())
            }
            Some(Keys { event_type: None, response: Some(response), result, reason, .. }) => {
                let failed = [Some(&response), result.as_ref()].into_iter().flatten();
                let failed = failed.into_iter().any(|word| word.eq_ignore_ascii_case("error"));
                self.answer(text, failed.then(|| reason.unwrap_or_default()))
            }
            _ => {
                self.events += 1;
                Step::Event
            }
        }
    }

    /// An answer to what we sent; `refused` holds the reason if it is one of refusal.
    fn answer(&mut self, text: &str, refused: Option<String>) -> Step {
        let shown = printable(text, NOTICE_CHARS_MAX);
        if self.stage == Stage::Following {
            return Step::Notice(shown, Vec::new());
        }
        if let Some(reason) = refused {
            let reason = printable(&reason, NOTICE_CHARS_MAX);
            return Step::Fail(if self.token.is_none() {
                format!(
                    "the daemon refused the subscription ({reason}): no token was given; use --token-file or \
                     FANFARE_TOKEN, and `fanfare token --cell NAME` to make one"
                )
            } else {
                format!("the daemon refused: {reason}")
            });
        }
        if self.stage == Stage::Token {
            self.stage = Stage::Subscription;
            return Step::Notice(format!("token accepted: {shown}"), vec![self.subscribe.clone()]);
        }
        self.stage = Stage::Following;
        Step::Notice(format!("subscribed: {shown}"), std::mem::take(&mut self.send))
    }

    /// What a close with this code probably means, and what to do.
    fn meaning(&self, code: u16) -> &'static str {
        match code {
            1000 if self.stage == Stage::Token => {
                "the token was refused: is it expired, signed with another secret, for another cell, or \
                 without the scope event-read?"
            }
            1000 if self.event_bus => {
                "the session ended: the token expired or a later one was refused; connect again with a new token"
            }
            1000 => "the daemon ended the session; nothing is wrong with the connection",
            1001 => "the daemon is stopping; connect again later",
            1002 | 1007 => "the daemon found our WebSocket frames faulty; is there a proxy between?",
            1008 => {
                "the daemon's policy does not allow this session; check the token and the listener's settings"
            }
            1009 => "a message that we sent is longer than the daemon takes; see --send",
            1011 => "the daemon met an error of its own; see its log",
            1013 => "we read too slowly or the daemon is overloaded; connect again",
            4000.. => "a code of the dialect's own; see its documentation, and check the token first",
            _ => "no usual code; see the daemon's log",
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings become JSON without fail")
}

/// A conversation with its socket.
struct Follow {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    conversation: Conversation,
    target: Target,
}

impl Follow {
    fn run(mut self) -> Result<ExitCode, CliError> {
        let waiting = self.conversation.stage != Stage::Following;
        self.limit_reads(waiting.then_some(ANSWER_TIMEOUT));
        let first = self.conversation.open();
        self.send(first)?;
        while !self.conversation.complete() {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::Io(error)) if timed_out(&error) => {
                    eprintln!("no answer yet; does this path speak the event bus?");
                    self.limit_reads(None);
                    continue;
                }
                Err(error) => return Err(self.lost(&error)),
            };
            match message {
                Message::Text(text) => {
                    if !self.text(&text)? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Message::Binary(bytes) => {
                    self.conversation.events += 1;
                    eprintln!("(a binary message of {} bytes, not shown)", bytes.len());
                }
                Message::Close(frame) => return Err(self.closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        self.leave();
        Ok(ExitCode::SUCCESS)
    }

    /// Deals with one text message; false when nobody reads standard output any more.
    fn text(&mut self, text: &str) -> Result<bool, CliError> {
        match self.conversation.handle(text) {
            Step::Event => match print(text) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
                Err(error) => Err(CliError::new(format!("cannot write to standard output: {error}"))),
            },
            Step::Notice(notice, send) => {
                eprintln!("{notice}");
                if self.conversation.stage == Stage::Following {
                    self.limit_reads(None);
                }
                self.send(send)?;
                Ok(true)
            }
            Step::Fail(message) => {
                self.leave();
                Err(CliError::new(message))
            }
        }
    }

    fn send(&mut self, messages: Vec<String>) -> Result<(), CliError> {
        for message in messages {
            match self.socket.send(Message::text(message)) {
                // The close that explains this is still to be read.
                Err(Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                sent => sent.map_err(|error| self.lost(&error))?,
            }
        }
        Ok(())
    }

    /// Says goodbye. Whatever goes wrong here no longer matters: what was asked for is done.
    fn leave(&mut self) {
        self.limit_reads(Some(CLOSE_TIMEOUT));
        let _ = self.socket.close(None);
        while self.socket.read().is_ok_and(|message| !message.is_close()) {}
        let _ = self.socket.flush();
    }

    fn limit_reads(&self, limit: Option<Duration>) {
        // It fails only for a limit of zero, or on a socket that the next read finds broken anyway.
        let _ = socket(self.socket.get_ref()).map(|socket| socket.set_read_timeout(limit));
    }

    /// The error for a close that came before the end of what was asked for.
    fn closed(&mut self, frame: Option<CloseFrame>) -> CliError {
        let _ = self.socket.flush();
        let events = self.conversation.events;
        CliError::new(match frame {
            Some(frame) => {
                let code = u16::from(frame.code);
                let reason = printable(&frame.reason, NOTICE_CHARS_MAX);
                let reason =
                    if reason.is_empty() { "no reason".into() } else { format!("reason \"{reason}\"") };
                let meaning = self.conversation.meaning(code);
                format!("closed by the daemon after {events} events: code {code}, {reason} ({meaning})")
            }
            None => format!("closed by the daemon after {events} events: no code, no reason"),
        })
    }

    fn lost(&self, error: &Error) -> CliError {
        CliError::new(format!(
            "the connection to {} was lost without a close, after {} events ({error}): \
             did the daemon die, or a proxy lose patience?",
            self.target.shown, self.conversation.events
        ))
    }
}

/// Prints a message at once; standard output is a pipe as often as a terminal.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(token: Option<&str>, send: &[&str], count: Option<u64>) -> Conversation {
        let rule = Rule { r#type: "chat\"".into(), object: "*".into() };
        let send = send.iter().map(|&text| text.into()).collect();
        Conversation::event_bus(token.map(String::from), &rule, send, count)
    }

    const ACCEPTED: &str = r#"{"response":"success","expires_in":3600,"timestamp":1}"#;
    const SUBSCRIBED: &str = r#"{"response":"success","timestamp":1}"#;
    const EVENT: &str = r#"{"Type":"chat","Object":"general","Info":"Hello","response":"success"}"#;

    #[test]
    fn the_event_bus_gets_the_token_then_the_subscription_then_the_rest() {
        let mut talk = bus(Some("a\"b"), &["{\"state\":\"all\"}"], Some(1));
        assert_eq!(talk.open(), [r#"{"access_token":"a\"b"}"#]);
        let Step::Notice(_, send) = talk.handle(ACCEPTED) else { panic!("no notice") };
        assert_eq!(send, [r#"{"subscribe":{"Type":"chat\"","Object":"*"}}"#]);
        let Step::Notice(_, send) = talk.handle(SUBSCRIBED) else { panic!("no notice") };
        assert_eq!(send, [r#"{"state":"all"}"#]);
        assert!(!talk.complete());
        assert_eq!(talk.handle(EVENT), Step::Event);
        assert!(talk.complete());
    }

    #[test]
    fn answers_of_both_spellings_are_no_events() {
        let mut talk = bus(Some("t"), &[], None);
        let current = r#"{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":1,"Result":"Success"}"#;
        assert!(matches!(talk.handle(current), Step::Notice(_, send) if send.len() == 1));
        assert!(matches!(talk.handle(SUBSCRIBED), Step::Notice(..)));
        let error = r#"{"Response":"Subscribe","Timestamp":1,"Reason":"Format error","Result":"Error"}"#;
        assert!(matches!(talk.handle(error), Step::Notice(..)));
        assert_eq!(talk.handle("{\"Type\":null}"), Step::Event);
        assert_eq!(talk.handle("not JSON"), Step::Event);
        assert_eq!(talk.events, 2);
    }

    #[test]
    fn a_refusal_ends_the_conversation_with_its_reason() {
        let unauthorized = r#"{"reason":"unauthorized","response":"error","timestamp":1}"#;
        let mut talk = bus(None, &[], None);
        assert!(talk.open()[0].starts_with("{\"subscribe\""));
        let Step::Fail(message) = talk.handle(unauthorized) else { panic!("no failure") };
        assert!(message.contains("unauthorized") && message.contains("no token was given"));
        let mut talk = bus(Some("t"), &[], None);
        talk.handle(ACCEPTED);
        let format_error = r#"{"reason":"format error","response":"error","timestamp":1}"#;
        assert_eq!(talk.handle(format_error), Step::Fail("the daemon refused: format error".into()));
    }

    #[test]
    fn a_token_that_is_echoed_back_is_not_shown() {
        let mut talk = bus(Some("hunter2"), &[], None);
        let echo = talk.open().remove(0);
        let Step::Notice(notice, _) = talk.handle(&echo) else { panic!("no notice") };
        assert!(!notice.contains("hunter2"));
        assert_eq!(talk.stage, Stage::Token);
    }

    #[test]
    fn other_paths_get_what_was_asked_for_and_every_message_counts() {
        let mut talk = Conversation::plain(vec!["a".into(), "b".into()], Some(1));
        assert_eq!(talk.open(), ["a", "b"]);
        assert_eq!(talk.handle(SUBSCRIBED), Step::Event);
        assert!(talk.complete());
    }

    #[test]
    fn the_close_right_after_the_token_is_explained() {
        let mut talk = bus(Some("t"), &[], None);
        assert!(talk.meaning(1000).contains("another cell"));
        talk.handle(ACCEPTED);
        assert!(talk.meaning(1000).contains("expired"));
        assert!(talk.meaning(1001).contains("stopping"));
        assert!(Conversation::plain(Vec::new(), None).meaning(4002).contains("dialect"));
    }

    #[test]
    fn options_of_the_event_bus_are_refused_elsewhere() {
        let command = Subscribe::from_args(&["subscribe"], &["ws://h/", "--type", "x"]).unwrap();
        let target = Target::parse(&command.url).unwrap();
        assert!(command.conversation(&target).err().unwrap().to_string().starts_with("--type is for"));
    }
}
