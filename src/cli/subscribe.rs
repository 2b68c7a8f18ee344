//! `fanfare subscribe`: follows a WebSocket from a terminal.
//!
//! Events go to standard output, a line each and unchanged; answers, notices and the close go to standard
//! error. What is sent when, and what a message is, is decided by [`Conversation`], which sees no socket.
//! The token is shown nowhere, and neither is the query of the URL, where other dialects carry theirs.

mod conversation;

use std::{
    env,
    io::{self, ErrorKind, Write},
    net::{TcpStream, ToSocketAddrs},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use argh::FromArgs;
use tungstenite::{
    Error, HandshakeError, Message, WebSocket,
    client::IntoClientRequest,
    http::{HeaderValue, StatusCode, Uri},
    protocol::CloseFrame,
};

use self::conversation::{Conversation, Protocol, Rule, Stage, Step};
use super::{CliError, error::printable, paths};

/// Follow a WebSocket: print what a daemon sends, one message a line.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "subscribe",
    example = "{command_name} ws://localhost:8080/john.doe/__event --token-file token.txt --type chat\n\
               {command_name} ws://localhost:9502/ --event call_created --event call_ended\n\
               {command_name} 'ws://localhost:9502/?token=…' --send '{{\"op\":\"start\"}}'",
    note = "A URL whose path ends in /__event speaks to the Personium event bus: the token is sent, then the \
            subscription. One with /__topic/ follows that Personium topic: the token is sent. With --event the URL \
            is a Wazo websocketd: the token goes into the request. Any other is only connected, and sent what \
            --send says.",
    note = "Without --token and --token-file, the token is $FANFARE_TOKEN. A token on the command line can be \
            read by every user of the machine while the command runs."
)]
pub struct Subscribe {
    #[argh(positional, arg_name = "URL", description = "where to connect: ws://HOST[:PORT]/PATH")]
    url: String,

    /// the token for the event bus, the topic or Wazo
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

    /// send this message once connected (and subscribed); may be repeated
    #[argh(option, arg_name = "json")]
    send: Vec<String>,

    /// stop, with success, after this many events
    #[argh(option, arg_name = "N")]
    count: Option<u64>,
}

/// How long one address may take to answer the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the handshake may take, and how long an answer before its absence is mentioned.
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
    pub fn run(self) -> Result<ExitCode, CliError> {
        let mut target = Target::parse(&self.url)?;
        if !self.event.is_empty() {
            target.protocol = Protocol::Wazo;
        }
        let (conversation, token) = self.conversation(&target)?;
        let socket = connect(&target, token.as_deref())?;
        eprintln!("connected to {}", target.shown);
        Follow { socket, conversation, target }.run()
    }

    /// The conversation, and the token if it goes into the request.
    fn conversation(self, target: &Target) -> Result<(Conversation, Option<String>), CliError> {
        self.check_options(target)?;
        if target.protocol == Protocol::Other {
            return Ok((Conversation::plain(self.send, self.count), None));
        }
        let token = token(self.token, self.token_file)?;
        if target.protocol == Protocol::Wazo {
            return Ok((Conversation::wazo(&self.event, self.send, self.count), token));
        }
        if target.protocol == Protocol::Topic {
            let token = token.ok_or_else(|| {
                CliError::new(
                    "no token was given, and a topic begins with one; use --token-file or FANFARE_TOKEN, and \
                     `fanfare token --cell NAME --scope 'read stream-receive'` to make one",
                )
            })?;
            return Ok((Conversation::topic(token, self.send, self.count), None));
        }
        let any = || String::from("*");
        let rule = Rule {
            r#type: self.type_prefix.unwrap_or_else(any),
            object: self.object_prefix.unwrap_or_else(any),
        };
        Ok((Conversation::event_bus(token, &rule, self.send, self.count), None))
    }

    /// Refuses options that the target has no use for.
    fn check_options(&self, target: &Target) -> Result<(), CliError> {
        let (takes_rules, takes_tokens) = match target.protocol {
            Protocol::EventBus => (true, true),
            Protocol::Topic | Protocol::Wazo => (false, true),
            Protocol::Other => (false, false),
        };
        let given = [
            ("--token", takes_tokens, self.token.is_some()),
            ("--token-file", takes_tokens, self.token_file.is_some()),
            ("--type", takes_rules, self.type_prefix.is_some()),
            ("--object", takes_rules, self.object_prefix.is_some()),
        ];
        match given.iter().find(|(_, taken, given)| *given && !taken) {
            None => Ok(()),
            Some((name, ..)) if takes_tokens => Err(CliError::new(format!(
                "{name} is for the event bus, whose URL ends in /__event; a topic has no subscriptions, and Wazo's \
                 are named with --event"
            ))),
            Some((name, ..)) => Err(CliError::new(format!(
                "{name} is for the event bus, whose URL ends in /__event; for other paths give what the daemon \
                 expects in the URL or with --send"
            ))),
        }
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

/// Where to connect.
#[derive(Debug, PartialEq)]
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    /// The URL as it may be shown: without user and query.
    shown: String,
    protocol: Protocol,
}

impl Target {
    fn parse(url: &str) -> Result<Self, CliError> {
        let unusable = |why: &str| {
            CliError::new(format!("{why}; a URL looks like ws://localhost:8080/john.doe/__event"))
        };
        let uri: Uri = url.parse().map_err(|error| unusable(&format!("this is no URL ({error})")))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => {
                return Err(CliError::new(
                    "wss:// needs TLS, which is not built into this command yet; use ws:// to a listener \
                     without TLS, or a TLS tunnel such as stunnel or socat",
                ));
            }
            Some("http") => return Err(unusable("write ws:// instead of http://")),
            Some("https") => {
                return Err(unusable("https:// is not a WebSocket, and TLS is not built in yet"));
            }
            _ => return Err(unusable("the URL must begin with ws://")),
        }
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| unusable("the URL has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(80);
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = uri.path();
        let shown = format!("ws://{authority}{path}");
        let protocol = Protocol::of_path(path);
        Ok(Target { host, port, shown, protocol, uri })
    }
}

/// A conversation with its socket.
struct Follow {
    socket: WebSocket<TcpStream>,
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
                    eprintln!("no answer yet; does this path speak what its name says?");
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
        let _ = self.socket.get_ref().set_read_timeout(limit);
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

/// Connects, and upgrades the connection to a WebSocket.
fn connect(target: &Target, token: Option<&str>) -> Result<WebSocket<TcpStream>, CliError> {
    let stream = connect_tcp(target)?;
    let refused = |error: Error| CliError::new(refusal(target, &error));
    // A peer that vanishes without a word is found out by the kernel, within about two hours.
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(ANSWER_TIMEOUT)))
        .and_then(|()| Ok(rustix::net::sockopt::set_socket_keepalive(&stream, true)?));
    prepared.map_err(|error| refused(error.into()))?;
    let mut request = target.uri.clone().into_client_request().map_err(refused)?;
    if let Some(token) = token {
        let value = HeaderValue::from_str(token);
        let value = value.map_err(|_| CliError::new("the token has characters that no request can carry"))?;
        request.headers_mut().insert("X-Auth-Token", value);
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(refused(error)),
        Err(HandshakeError::Interrupted(_)) => Err(CliError::new(format!(
            "{} did not answer the WebSocket handshake within {} s; is it a WebSocket server?",
            target.shown,
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

fn connect_tcp(target: &Target) -> Result<TcpStream, CliError> {
    let (host, port) = (target.host.as_str(), target.port);
    let addresses = (host, port).to_socket_addrs().map_err(|error| {
        CliError::new(format!("the host \"{}\" is not known ({error})", printable(host, NOTICE_CHARS_MAX)))
    })?;
    let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(CliError::new(match last.kind() {
        ErrorKind::ConnectionRefused => format!(
            "nothing listens on {host} port {port}: is the daemon running? start it with `fanfare serve`, \
             or check the port against [[listen]]"
        ),
        _ => format!("cannot connect to {host} port {port}: {last}"),
    }))
}

/// Why the handshake failed.
fn refusal(target: &Target, error: &Error) -> String {
    let shown = &target.shown;
    let Error::Http(response) = error else {
        return format!("{shown} does not complete a WebSocket handshake ({error}); is the port right?");
    };
    let status = response.status();
    let advice = match status {
        StatusCode::NOT_FOUND => {
            "no dialect of this listener takes the path; check the URL and [[listen]] dialects"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "the token in the URL is missing or refused",
        StatusCode::UPGRADE_REQUIRED => "it speaks another version of WebSocket",
        StatusCode::SERVICE_UNAVAILABLE => "it is full or stopping; try again",
        status if status.is_redirection() => "it points elsewhere, and redirections are not followed",
        _ => "see its log",
    };
    format!("{shown} refused the WebSocket with HTTP status {status}: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_tells_host_port_and_dialect_and_is_shown_without_secrets() {
        let target = Target::parse("ws://ann:pw@localhost:8080/john.doe/__event/?token=t").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.protocol),
            ("localhost", 8080, Protocol::EventBus)
        );
        assert_eq!(target.shown, "ws://localhost:8080/john.doe/__event/");
        let target = Target::parse("ws://[::1]/x__event").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.protocol), ("::1", 80, Protocol::Other));
        let error = |url| Target::parse(url).unwrap_err().to_string();
        assert!(error("wss://localhost/").contains("TLS"));
        assert!(error("http://localhost/").contains("ws://"));
        assert!(error("localhost:8080/a").contains("ws://"));
        assert!(error("localhost").contains("ws://"));
        assert!(!error("ws://localhost/a b?token=hunter2").contains("hunter2"));
    }

    #[test]
    fn options_of_the_event_bus_are_refused_elsewhere() {
        let command = Subscribe::from_args(&["subscribe"], &["ws://h/", "--type", "x"]).unwrap();
        let target = Target::parse(&command.url).unwrap();
        assert!(command.conversation(&target).err().unwrap().to_string().starts_with("--type is for"));
        let command =
            Subscribe::from_args(&["subscribe"], &["ws://h/__topic/b/c.topic.n", "--object", "x"]).unwrap();
        let target = Target::parse(&command.url).unwrap();
        assert!(
            command.conversation(&target).err().unwrap().to_string().contains("a topic has no subscriptions")
        );
    }
}
