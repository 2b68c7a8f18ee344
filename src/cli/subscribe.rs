//! `fanfare subscribe`: follows a WebSocket from a terminal.
//!
//! Events go to standard output, a line each and unchanged; answers, webhooks and the close go to standard
//! error. What is sent when, and what a message is, is decided by [`Conversation`], which sees no socket.
//! The token is shown nowhere, and neither is the query of the URL, where other dialects carry theirs.

mod conversation;
mod echo;
mod pulsar;

use std::{
    env,
    io::{self, ErrorKind},
    net::TcpStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use argh::FromArgs;
use tungstenite::{Error, Message, WebSocket, protocol::CloseFrame, stream::MaybeTlsStream};

use self::conversation::{Conversation, Spoken, SubscriptionRule, TalkStage, TalkStep};
use self::echo::EchoWish;
use super::dial::{DialTarget, connect, socket};
use super::error::{CliStatus, printable};
use super::output::{note, print};
use super::{CliError, paths, trust::Trust};

/// Follow a WebSocket: print what a daemon sends, one message a line.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "subscribe",
    example = "{command_name} ws://localhost:8080/john.doe/__event --token-file token.txt --type chat\n\
               {command_name} wss://localhost:8443/john.doe/__event --ca cert.pem --token-file token.txt\n\
               {command_name} ws://localhost:9502/ --event call_created --event call_ended\n\
               {command_name} ws://localhost:8080/ --channel --token-file token.txt\n\
               {command_name} ws://localhost:8080/ws/v2/consumer/persistent/public/default/demo/my-sub\n\
               {command_name} ws://localhost:8080/app/app-key --echo room --echo private-chat --secret-file secret\n\
               {command_name} 'ws://localhost:9502/?token=…' --send '{{\"op\":\"start\"}}'",
    note = "A URL whose path ends in /__event speaks to the Personium event bus: the token is sent, then the \
            subscription. One with /__topic/ follows that Personium topic: the token is sent. With --event the URL \
            is a Wazo websocketd: the token goes into the request. With --channel it is a channel of a Laravel \
            application: the token goes into the URL. With --echo these are channels of Laravel Echo. A consumer's or reader's URL of \
            Pulsar has the token put into it, and its messages are acknowledged. Any other is only connected, and sent what --send says.",
    note = "Without --token and --token-file, the token is $FANFARE_TOKEN. A token on the command line can be \
            read by every user of the machine while the command runs."
)]
pub struct SubscribeCommand {
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

    /// the token for the event bus, the topic, Wazo, the channel or Pulsar
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

    /// follow Wazo's events of this name, all with '*'; may be repeated
    #[argh(option, arg_name = "name")]
    event: Vec<String>,

    /// follow the channel that the token names
    #[argh(switch)]
    channel: bool,

    /// follow this channel of Laravel Echo; may be repeated
    #[argh(option, arg_name = "channel")]
    echo: Vec<String>,

    /// a file that holds the secret of the app of Laravel Echo, for private and presence channels
    #[argh(option, arg_name = "file")]
    secret_file: Option<PathBuf>,

    /// send this message once connected (and subscribed); may be repeated
    #[argh(option, arg_name = "json")]
    send: Vec<String>,

    /// stop, with success, after this many events
    #[argh(option, arg_name = "N")]
    count: Option<u64>,
}

/// How long an answer may take before its absence is mentioned.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Closes after which the same command may succeed: the daemon goes, fails at something, restarts or is full.
const AGAIN: [u16; 4] = [1001, 1011, 1012, 1013];

/// How long the daemon may take to answer our close; the events are complete by then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Characters of an answer or a reason that are shown.
const NOTICE_CHARS_MAX: usize = 2000;

impl SubscribeCommand {
    /// Follows until the count is reached, the reader of standard output leaves, or the daemon closes.
    ///
    /// # Errors
    /// The URL is unusable, the connection fails, or it ends before the count is reached.
    pub fn run(mut self) -> Result<ExitCode, CliError> {
        let target = DialTarget::parse(&self.url)?;
        let trust = Trust::of(self.ca.take(), self.insecure)?;
        if !target.is_tls && trust != Trust::Machine {
            return Err(CliError::usage("--ca and --insecure are for wss://, and this URL is without TLS"));
        }
        let protocol = self.protocol(&target)?;
        let url = self.url.clone();
        let (conversation, token) = self.conversation(protocol)?;
        let (target, token) = match token {
            Some(token) if matches!(protocol, Spoken::Channel | Spoken::Pulsar) => {
                (DialTarget::parse(&with_token(&url, &token))?, None)
            }
            token => (target, token),
        };
        if trust == Trust::Anybody {
            note(
                "warning: --insecure: whoever answers is taken for the daemon, and can read the token and every \
                 event; give its certificate with --ca FILE instead",
            );
        }
        let socket = connect(&target, &trust, token.as_deref())?;
        note(&format!("connected to {}", target.shown));
        Follow { socket, conversation, target }.run()
    }

    /// What the path and the options say.
    fn protocol(&self, target: &DialTarget) -> Result<Spoken, CliError> {
        if !self.echo.is_empty() {
            return self.echo_protocol(target);
        }
        if self.secret_file.is_some() {
            return Err(CliError::usage(
                "--secret-file is for Laravel Echo, whose channels are named with --echo",
            ));
        }
        let option = match (self.event.is_empty(), self.channel) {
            (true, false) => return Ok(Spoken::of_path(target.path())),
            (false, true) => {
                return Err(CliError::usage("--event is for Wazo, and --channel for a Laravel application"));
            }
            (false, false) => ("--event is for Wazo", Spoken::Wazo),
            (true, true) => ("--channel is for a Laravel application", Spoken::Channel),
        };
        match (Spoken::of_path(target.path()), option) {
            (Spoken::Other, (_, protocol)) => Ok(protocol),
            (of_path, (option, _)) => {
                let whose = if of_path == Spoken::Pulsar { "Pulsar" } else { "Personium" };
                Err(CliError::usage(format!("{option}, and this is a path of {whose}'s")))
            }
        }
    }

    fn echo_protocol(&self, target: &DialTarget) -> Result<Spoken, CliError> {
        if self.channel || !self.event.is_empty() {
            return Err(CliError::usage(
                "--echo is for Laravel Echo, and goes with neither --channel nor --event",
            ));
        }
        match EchoWish::key_of(target.path()) {
            Some(_) => Ok(Spoken::Echo),
            None => Err(CliError::usage(
                "the URL of Laravel Echo ends in /app/KEY, as in ws://localhost:8080/app/app-key",
            )),
        }
    }

    /// What is wanted of Laravel Echo.
    fn wish(&mut self) -> Result<EchoWish, CliError> {
        let file = self.secret_file.take();
        let secret =
            file.map(|path| match String::from_utf8(paths::read_small(&path, "the app's secret")?) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(_) => Err(CliError::new(format!("{} holds no secret: it is not text", path.display()))),
            });
        let channels = std::mem::take(&mut self.echo);
        let path = DialTarget::parse(&self.url)?;
        let key = EchoWish::key_of(path.path()).unwrap_or_default().to_owned();
        let wish = EchoWish { channels, key, secret: secret.transpose()? };
        match wish.unsigned() {
            None => Ok(wish),
            Some(channel) => Err(CliError::usage(format!(
                "{channel} is for those who are let in: give the app's secret with --secret-file, which signs for it"
            ))),
        }
    }

    /// The conversation, and the token if it goes into the request.
    fn conversation(mut self, protocol: Spoken) -> Result<(Conversation, Option<String>), CliError> {
        self.check_options(protocol)?;
        if protocol == Spoken::Other {
            return Ok((Conversation::plain(self.send, self.count), None));
        }
        if protocol == Spoken::Echo {
            return Ok((Conversation::echo(self.wish()?, self.send, self.count), None));
        }
        let token = token(self.token, self.token_file)?;
        if protocol == Spoken::Wazo {
            return Ok((Conversation::wazo(&self.event, self.send, self.count), token));
        }
        if protocol == Spoken::Channel {
            return Ok((Conversation::channel(self.send, self.count), token));
        }
        if protocol == Spoken::Pulsar {
            return Ok((Conversation::pulsar(self.send, self.count), token));
        }
        if protocol == Spoken::Topic {
            let token = token.ok_or_else(|| {
                CliError::usage(
                    "no token was given, and a topic begins with one; use --token-file or FANFARE_TOKEN, and \
                     `fanfare token --cell NAME --scope 'read stream-receive'` to make one",
                )
            })?;
            return Ok((Conversation::topic(token, self.send, self.count), None));
        }
        let any = || String::from("*");
        let rule = SubscriptionRule {
            r#type: self.type_prefix.unwrap_or_else(any),
            object: self.object_prefix.unwrap_or_else(any),
        };
        Ok((Conversation::event_bus(token, &rule, self.send, self.count), None))
    }

    /// Refuses options that the protocol has no use for.
    fn check_options(&self, protocol: Spoken) -> Result<(), CliError> {
        let (takes_rules, takes_tokens) = match protocol {
            Spoken::EventBus => (true, true),
            Spoken::Topic | Spoken::Wazo | Spoken::Channel | Spoken::Pulsar => (false, true),
            Spoken::Echo | Spoken::Other => (false, false),
        };
        let given = [
            ("--token", takes_tokens, self.token.is_some()),
            ("--token-file", takes_tokens, self.token_file.is_some()),
            ("--type", takes_rules, self.type_prefix.is_some()),
            ("--object", takes_rules, self.object_prefix.is_some()),
        ];
        match given.iter().find(|(_, taken, given)| *given && !taken) {
            None => Ok(()),
            Some((name, ..)) if takes_tokens => Err(CliError::usage(format!(
                "{name} is for the event bus, whose URL ends in /__event; a topic has no subscriptions, nor has a channel, \
                 and Wazo's are named with --event"
            ))),
            Some((name, ..)) => Err(CliError::usage(format!(
                "{name} is for the event bus, whose URL ends in /__event, for topics, whose path has /__topic/, for Wazo \
                 with --event NAME, for channels with --channel and for consumers and readers of Pulsar; for other paths give what the daemon expects in the URL or with --send"
            ))),
        }
    }
}

/// The token: from the arguments, else from the environment; none is allowed, for anonymous listeners.
fn token(given: Option<String>, file: Option<PathBuf>) -> Result<Option<String>, CliError> {
    let token = match (given, file) {
        (Some(_), Some(_)) => return Err(CliError::usage("--token and --token-file exclude each other")),
        (Some(token), None) => token,
        (None, Some(path)) => String::from_utf8(paths::read_small(&path, "the token")?)
            .map_err(|_| CliError::new(format!("{} holds no token: it is not text", path.display())))?,
        (None, None) => match env::var("FANFARE_TOKEN") {
            Ok(token) => token,
            Err(env::VarError::NotPresent) => return Ok(None),
            Err(env::VarError::NotUnicode(_)) => return Err(CliError::usage("$FANFARE_TOKEN is not text")),
        },
    };
    let token = token.trim();
    if token.is_empty() {
        return Err(CliError::usage("the token is empty; `fanfare token --cell NAME` makes one"));
    }
    Ok(Some(token.into()))
}

/// The URL with the token in its query, after what is there.
fn with_token(url: &str, token: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair("token", token).finish();
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{query}")
}

/// A conversation with its socket.
struct Follow {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    conversation: Conversation,
    target: DialTarget,
}

impl Follow {
    fn run(mut self) -> Result<ExitCode, CliError> {
        let waiting = self.conversation.stage != TalkStage::Following;
        self.limit_reads(waiting.then_some(ANSWER_TIMEOUT));
        let first = self.conversation.open();
        self.send(first)?;
        while !self.conversation.complete() {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::Io(error)) if timed_out(&error) => {
                    note("no answer yet; does this path speak what its name says?");
                    self.limit_reads(None);
                    continue;
                }
                Err(error) => return Err(self.lost(&error)),
            };
            match message {
                Message::Text(text) => {
                    self.text(&text)?;
                }
                Message::Binary(bytes) => {
                    self.conversation.events += 1;
                    note(&format!("(a binary message of {} bytes, not shown)", bytes.len()));
                }
                Message::Close(frame) => return Err(self.closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        self.leave();
        Ok(ExitCode::SUCCESS)
    }

    /// Deals with one text message.
    fn text(&mut self, text: &str) -> Result<(), CliError> {
        match self.conversation.handle(text) {
            TalkStep::Event => print(&format!("{text}\n")),
            TalkStep::Acknowledge(acknowledgement) => {
                // What nobody has read is not acknowledged.
                print(&format!("{text}\n"))?;
                self.send(vec![acknowledgement])
            }
            TalkStep::Webhook(webhook, send) => {
                note(&webhook);
                if self.conversation.stage == TalkStage::Following {
                    self.limit_reads(None);
                }
                self.send(send)
            }
            TalkStep::Reply(send) => self.send(send),
            TalkStep::Fail(message) => {
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
        let status = match frame.as_ref().map(|frame| u16::from(frame.code)) {
            Some(code) if AGAIN.contains(&code) => CliStatus::TryAgain,
            _ => CliStatus::Failure,
        };
        let message = match frame {
            Some(frame) => {
                let code = u16::from(frame.code);
                let reason = printable(&frame.reason, NOTICE_CHARS_MAX);
                let reason =
                    if reason.is_empty() { "no reason".into() } else { format!("reason \"{reason}\"") };
                let meaning = self.conversation.meaning(code);
                format!("closed by the daemon after {events} events: code {code}, {reason} ({meaning})")
            }
            None => format!("closed by the daemon after {events} events: no code, no reason"),
        };
        CliError::new(message).with(status)
    }

    fn lost(&self, error: &Error) -> CliError {
        CliError::try_again(format!(
            "the connection to {} was lost without a close, after {} events ({error}): \
             did the daemon die, or a proxy lose patience?",
            self.target.shown, self.conversation.events
        ))
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_token_goes_into_the_url() {
        assert_eq!(with_token("ws://h/", "a.b-c_d"), "ws://h/?token=a.b-c_d");
        assert_eq!(with_token("ws://h/?a=1", "a b&c"), "ws://h/?a=1&token=a+b%26c");
        let protocol = |arguments: &[&str]| {
            let command = SubscribeCommand::from_args(&["subscribe"], arguments).unwrap();
            command.protocol(&DialTarget::parse(arguments[0]).unwrap())
        };
        assert_eq!(protocol(&["ws://h/", "--channel"]).unwrap(), Spoken::Channel);
        assert_eq!(protocol(&["ws://h/", "--event", "*"]).unwrap(), Spoken::Wazo);
        assert_eq!(protocol(&["ws://h/"]).unwrap(), Spoken::Other);
        assert!(protocol(&["ws://h/", "--channel", "--event", "*"]).is_err());
        assert!(protocol(&["ws://h/c/__event", "--channel"]).is_err());
    }

    #[test]
    fn options_of_the_event_bus_are_refused_elsewhere() {
        let command = SubscribeCommand::from_args(&["subscribe"], &["ws://h/", "--type", "x"]).unwrap();
        assert!(command.conversation(Spoken::Other).err().unwrap().to_string().starts_with("--type is for"));
        let command =
            SubscribeCommand::from_args(&["subscribe"], &["ws://h/__topic/b/c.topic.n", "--object", "x"])
                .unwrap();
        assert!(
            command
                .conversation(Spoken::Topic)
                .err()
                .unwrap()
                .to_string()
                .contains("a topic has no subscriptions")
        );
    }
}
