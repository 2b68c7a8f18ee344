//! `fanfare subscribe`: follows a WebSocket from a terminal.
//!
//! Events go to standard output, a line each and unchanged; answers and the close go to standard
//! error. What is said when, and what a message is, is known to the protocol's client (see
//! [`client`](crate::dialect::client)). The token is shown nowhere, and neither is the query of the
//! URL, where some protocols carry theirs.

use std::{
    env,
    io::{self, ErrorKind},
    net::TcpStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use argh::{ArgsInfo, FromArgs};
use tungstenite::{Error, Message, WebSocket, protocol::CloseFrame, stream::MaybeTlsStream};

use super::dial::{DialTarget, connect, socket};
use super::error::{CliStatus, printable};
use super::output::{note, print};
use super::{CliError, paths, trust::Trust};
use crate::dialect::Kind;
use crate::dialect::client::{
    ClientHeard, ClientStage, ClientTalk, ClientWish, DialectClient, TokenPlace, usual_meaning,
};

/// Follow a WebSocket: print what a daemon sends, one message a line.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "subscribe",
    example = "{command_name} ws://localhost:8080/john.doe/__event --token-file token.txt --type \
               chat\n\
               {command_name} wss://localhost:8443/john.doe/__event --ca cert.pem --token-file \
               token.txt\n\
               {command_name} ws://localhost:9502/ --event call_created --event call_ended\n\
               {command_name} ws://localhost:8080/ --channel --token-file token.txt\n\
               {command_name} \
               ws://localhost:8080/ws/v2/consumer/persistent/public/default/demo/my-sub\n\
               {command_name} ws://localhost:8080/app/app-key --echo room --echo private-chat \
               --secret-file secret\n\
               {command_name} 'ws://localhost:9502/?token=…' --send '{{\"op\":\"start\"}}'",
    note = "A URL whose path ends in /__event speaks to the Personium event bus: the token is \
            sent, then the subscription. One with /__topic/ follows that Personium topic: the \
            token is sent. With --event the URL is a Wazo websocketd: the token goes into the \
            request. With --channel it is a channel of a Laravel application: the token goes into \
            the URL. With --echo these are channels of Laravel Echo. A consumer's or reader's URL \
            of Pulsar has the token put into it, and its messages are acknowledged. Any other is \
            only connected, and sent what --send says.",
    note = "Without --token and --token-file, the token is $FANFARE_TOKEN. A token on the command \
            line can be read by every user of the machine while the command runs."
)]
pub struct SubscribeCommand {
    #[argh(
        positional,
        arg_name = "URL",
        description = "where to connect: ws://HOST[:PORT]/PATH, or wss:// for TLS"
    )]
    url: String,

    /// trust the certificates in this file (PEM), and what they have signed, instead of the
    /// machine's
    #[argh(option, arg_name = "file")]
    ca: Option<PathBuf>,

    /// with wss://, trust any certificate
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

/// Closes after which the same command may succeed: the daemon goes, fails at something, restarts
/// or is full.
const AGAIN: [u16; 4] = [1001, 1011, 1012, 1013];

/// How long the daemon may take to answer our close; the events are complete by then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Characters of an answer or a reason that are shown.
const NOTICE_CHARS_MAX: usize = 2000;

impl SubscribeCommand {
    /// Follows until the count is reached, the reader of standard output leaves, or the daemon
    /// closes.
    ///
    /// # Errors
    /// The URL is unusable, the connection fails, or it ends before the count is reached.
    pub fn run(mut self) -> Result<ExitCode, CliError> {
        let target = DialTarget::parse(&self.url)?;
        let trust = Trust::of(self.ca.take(), self.insecure)?;
        // They would give a false sense of safety.
        if !target.is_tls && trust != Trust::Machine {
            return Err(CliError::usage(
                "--ca and --insecure are for wss://, and this URL is without TLS",
            ));
        }
        let client = self.client(target.path())?;
        self.check_options(client)?;
        let wish = self.wish(client, target.path())?;

        let profile = client.map(DialectClient::profile);
        let (url, header) = match &profile {
            Some(profile) => profile.request(&self.url, wish.token.as_deref()),
            None => (self.url.clone(), None),
        };
        // Again: the token may have become part of it.
        let target = DialTarget::parse(&url)?;
        if trust == Trust::Anybody {
            note(
                "warning: --insecure: any server that answers is taken for the daemon, and can \
                 read the token and every event; give its certificate with --ca FILE instead",
            );
        }
        let socket = connect(&target, &trust, header)?;
        note(&format!("connected to {}", target.shown));
        let talk = client.map(|client| ClientTalk::new(client, wish));
        Follow { socket, talk, send: self.send, count: self.count, events: 0, target }.run()
    }

    /// The protocol that an option or the path chooses; `None` where neither does.
    fn client(&self, path: &str) -> Result<Option<&'static dyn DialectClient>, CliError> {
        let clients: Vec<_> = Kind::ALL.iter().map(|kind| kind.client()).collect();
        let given = [
            ("--event", !self.event.is_empty()),
            ("--channel", self.channel),
            ("--echo", !self.echo.is_empty()),
        ];
        let mut chosen = clients.iter().copied().filter_map(|client| {
            let option = client.profile().option?;
            given.contains(&(option, true)).then_some((option, client))
        });
        let of_path = clients.iter().copied().find(|client| (client.profile().owns)(path));
        let Some((option, client)) = chosen.next() else { return Ok(of_path) };
        let whose = client.profile().whose;

        // Each option means a protocol, and a connection speaks one.
        if let Some((other, client)) = chosen.next() {
            let others = client.profile().whose;
            return Err(CliError::usage(format!(
                "{option} is for {whose}, and {other} is for {others}"
            )));
        }
        match of_path {
            None => Ok(Some(client)),
            Some(owner) => {
                let owner = owner.profile().whose;
                Err(CliError::usage(format!(
                    "{option} is for {whose}, and this is a path of {owner}'s"
                )))
            }
        }
    }

    /// Refuses options that the protocol has no use for.
    fn check_options(&self, client: Option<&'static dyn DialectClient>) -> Result<(), CliError> {
        let profile = client.map(DialectClient::profile);
        let takes_tokens = profile.is_some_and(|profile| profile.token != TokenPlace::Nowhere);
        let has_rules = profile.is_some_and(|profile| profile.has_rules);
        if self.secret_file.is_some() && !profile.is_some_and(|profile| profile.has_secret) {
            return Err(CliError::usage(
                "--secret-file is for Laravel Echo, whose channels are named with --echo",
            ));
        }
        let given = [
            ("--token", takes_tokens, self.token.is_some()),
            ("--token-file", takes_tokens, self.token_file.is_some()),
            ("--type", has_rules, self.type_prefix.is_some()),
            ("--object", has_rules, self.object_prefix.is_some()),
        ];
        match given.iter().find(|(_, taken, given)| *given && !taken) {
            None => Ok(()),
            Some((name, ..)) if takes_tokens => Err(CliError::usage(format!(
                "{name} is for the event bus, whose URL ends in /__event; a topic has no \
                 subscriptions, nor has a channel, and Wazo's are named with --event"
            ))),
            Some((name, ..)) => Err(CliError::usage(format!(
                "{name} is for the event bus, whose URL ends in /__event, for topics, whose path \
                 has /__topic/, for Wazo with --event NAME, for channels with --channel and for \
                 consumers and readers of Pulsar; for other paths give what the daemon expects in \
                 the URL or with --send"
            ))),
        }
    }

    /// What the options ask for, completed by the protocol from the path.
    fn wish(
        &mut self,
        client: Option<&'static dyn DialectClient>,
        path: &str,
    ) -> Result<ClientWish, CliError> {
        let Some(client) = client else { return Ok(ClientWish::default()) };
        let token = match client.profile().token {
            TokenPlace::Nowhere => None,
            _ => token(self.token.take(), self.token_file.as_deref())?,
        };
        let secret =
            self.secret_file.as_deref().map(|path| paths::read_text(path, "the app's secret"));
        let mut wish = ClientWish {
            token,
            names: [std::mem::take(&mut self.event), std::mem::take(&mut self.echo)].concat(),
            type_prefix: self.type_prefix.take(),
            object_prefix: self.object_prefix.take(),
            key: String::new(),
            secret: secret.transpose()?,
        };
        client.prepare(path, &mut wish).map_err(CliError::usage)?;
        Ok(wish)
    }
}

/// The token: from the arguments, else from the environment; none is allowed, for anonymous
/// listeners.
fn token(given: Option<String>, file: Option<&Path>) -> Result<Option<String>, CliError> {
    let token = match (given, file) {
        (Some(_), Some(_)) => {
            return Err(CliError::usage("--token and --token-file exclude each other"));
        }
        (Some(token), None) => token,
        (None, Some(path)) => paths::read_text(path, "the token")?,
        (None, None) => match env::var("FANFARE_TOKEN") {
            Ok(token) => token,
            Err(env::VarError::NotPresent) => return Ok(None),
            Err(env::VarError::NotUnicode(_)) => {
                return Err(CliError::usage("$FANFARE_TOKEN is not text"));
            }
        },
    };
    let token = token.trim();
    if token.is_empty() {
        return Err(CliError::usage("the token is empty; `fanfare token --cell NAME` makes one"));
    }
    Ok(Some(token.into()))
}

/// A conversation with its socket.
struct Follow {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    /// What is said and heard; `None` where the protocol is not known.
    talk: Option<ClientTalk>,
    /// Messages to send once subscribed.
    send: Vec<String>,
    /// Events after which to stop.
    count: Option<u64>,
    events: u64,
    target: DialTarget,
}

impl Follow {
    fn run(mut self) -> Result<ExitCode, CliError> {
        let first = self.talk.as_mut().map(ClientTalk::open).unwrap_or_default();
        // Events may take for ever, an answer may not.
        if !self.is_following() {
            self.limit_reads(Some(ANSWER_TIMEOUT));
        }
        self.send(first)?;
        self.greet()?;
        while !(self.is_following() && self.count.is_some_and(|count| self.events >= count)) {
            let message = match self.socket.read() {
                Ok(message) => message,
                // A slow verifier is no failure; the daemon ends a session that it gives up.
                Err(Error::Io(error)) if timed_out(&error) => {
                    note("no answer yet; does this path speak what its name says?");
                    self.limit_reads(None);
                    continue;
                }
                Err(error) => return Err(self.lost(&error)),
            };
            match message {
                Message::Text(text) => self.text(&text)?,
                Message::Binary(bytes) => {
                    self.events += 1;
                    note(&format!("(a binary message of {} bytes, not shown)", bytes.len()));
                }
                Message::Close(frame) => return Err(self.closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        self.leave();
        Ok(ExitCode::SUCCESS)
    }

    fn is_following(&self) -> bool {
        self.talk.as_ref().is_none_or(|talk| talk.stage() == ClientStage::Following)
    }

    /// Deals with one text message.
    fn text(&mut self, text: &str) -> Result<(), CliError> {
        let Some(talk) = &mut self.talk else { return self.event(text, None) };
        let (heard, say) = talk.hear(text);
        match heard {
            ClientHeard::Event => {
                let acknowledgement = talk.client().acknowledgement(text);
                return self.event(text, acknowledgement);
            }
            ClientHeard::Success("") | ClientHeard::Note => {
                note(&printable(text, NOTICE_CHARS_MAX))
            }
            ClientHeard::Success(word) => {
                note(&format!("{word}: {}", printable(text, NOTICE_CHARS_MAX)))
            }
            ClientHeard::Secret => note("(a message with an access token, not shown)"),
            ClientHeard::Question(_) => {}
            ClientHeard::Refusal(reason) => {
                // The daemon may keep a connection whose command it refused; there is nothing to
                // wait for.
                let refusal = talk.refusal(&printable(&reason, NOTICE_CHARS_MAX));
                self.leave();
                return Err(CliError::new(refusal));
            }
        }
        self.send(say)?;
        self.greet()
    }

    fn event(&mut self, text: &str, acknowledgement: Option<String>) -> Result<(), CliError> {
        self.events += 1;
        print(&format!("{text}\n"))?;
        // A message is acknowledged once it was written out: one that was not comes again.
        self.send(acknowledgement.into_iter().collect())
    }

    /// Once subscribed, sends what was asked for, and waits for events as long as they take.
    fn greet(&mut self) -> Result<(), CliError> {
        if !self.is_following() {
            return Ok(());
        }
        self.limit_reads(None);
        let send = std::mem::take(&mut self.send);
        self.send(send)
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
        let events = self.events;
        let status = match frame.as_ref().map(|frame| u16::from(frame.code)) {
            // A script may connect again after these alone.
            Some(code) if AGAIN.contains(&code) => CliStatus::TryAgain,
            _ => CliStatus::Failure,
        };
        let message = match frame {
            Some(frame) => {
                let code = u16::from(frame.code);
                let reason = printable(&frame.reason, NOTICE_CHARS_MAX);
                let reason = if reason.is_empty() {
                    "no reason".into()
                } else {
                    format!("reason \"{reason}\"")
                };
                let meaning = self
                    .talk
                    .as_ref()
                    .map_or_else(|| usual_meaning(code), |talk| talk.meaning(code));
                format!(
                    "closed by the daemon after {events} events: code {code}, {reason} ({meaning})"
                )
            }
            None => format!("closed by the daemon after {events} events: no code, no reason"),
        };
        CliError::new(message).with(status)
    }

    fn lost(&self, error: &Error) -> CliError {
        CliError::try_again(format!(
            "the connection to {} was lost without a close, after {} events ({error}): \
             did the daemon die, or a proxy lose patience?",
            self.target.shown, self.events
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
    fn an_option_or_the_path_chooses_the_protocol() {
        let whose = |arguments: &[&str]| {
            let command = SubscribeCommand::from_args(&["subscribe"], arguments).unwrap();
            let client = command.client(DialTarget::parse(arguments[0]).unwrap().path())?;
            command.check_options(client)?;
            Ok::<_, CliError>(client.map_or("nobody", |client| client.profile().whose))
        };
        for (path, owner) in [
            ("john.doe/__event", "Personium"),
            ("__event/", "Personium"),
            ("x__event", "nobody"),
            ("cell/__topic/box/c.topic.n", "Personium"),
            ("__topic/box/c.topic.n", "Personium"),
            ("__topic", "nobody"),
            ("ws/v2/reader/persistent/t/n/x", "Pulsar"),
            ("", "nobody"),
        ] {
            assert_eq!(whose(&[&format!("ws://h/{path}")]).unwrap(), owner, "{path}");
        }
        assert_eq!(whose(&["ws://h/", "--channel"]).unwrap(), "a Laravel application");
        assert_eq!(whose(&["ws://h/", "--event", "*"]).unwrap(), "Wazo");
        let refused = |arguments: &[&str]| whose(arguments).unwrap_err().to_string();
        assert!(refused(&["ws://h/", "--channel", "--event", "*"]).contains("--event is for Wazo"));
        assert!(refused(&["ws://h/c/__event", "--channel"]).contains("a path of Personium's"));
        assert!(refused(&["ws://h/", "--type", "x"]).starts_with("--type is for"));
        assert!(
            refused(&["ws://h/__topic/b/c", "--object", "x"])
                .contains("a topic has no subscriptions")
        );
        assert!(refused(&["ws://h/", "--secret-file", "x"]).contains("--echo"));
    }
}
