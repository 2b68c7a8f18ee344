//! Where the admin listener is and what it wants to see, and one request to it.

use super::answer::{HttpAnswer, exchange};
use super::dial::connect_to;
use super::error::{CliStatus, printable};
use super::locate::{ADDRESS_FILE, Located, TOKEN_FILE};
use super::{CliError, load, paths};
use crate::http::AdminToken;
use crate::json;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::env;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may be silent. A backup takes as long as the disk does, and the daemon gives
/// up after an hour.
const SILENCE: Duration = Duration::from_secs(3700);
/// The same in a stream, which has a sign of life every 15 seconds.
const STREAM_SILENCE: Duration = Duration::from_secs(40);
/// Longest head of a stream's answer, and longest answer that refuses it, in bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Longest line of a stream in bytes: one with an event has up to 64 KiB of it, written as JSON.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Characters of a sentence that are shown; a topic in it has up to 1024.
const SENTENCE_CHARS_MAX: usize = 4000;
/// Characters of an address that are shown.
const PLACE_CHARS_MAX: usize = 300;

/// Declares a command with the options that say where the admin listener is, which can stand behind
/// its name only if it has them itself. One that `shows` what the daemon says may print it as JSON;
/// one that is `pub`, and so none of several below one name, says where the listener is looked for.
macro_rules! admin_command {
    ($(#[$about:meta])* pub $name:ident shows $fields:tt) => {
        admin_command! { noted [shown] $(#[$about])* $name $fields }
    };
    ($(#[$about:meta])* pub $name:ident $fields:tt) => {
        admin_command! { noted [] $(#[$about])* $name $fields and {} }
    };
    (noted [$($shown:tt)*] $(#[$about:meta])* $name:ident $($fields:tt)*) => {
        admin_command! {
            #[argh(
                note = "It takes --admin and --token-file, or --config; without them \
                        $FANFARE_ADMIN_ADDRESS and $FANFARE_ADMIN_TOKEN_FILE, else the development \
                        daemon (`fanfare serve`) if it runs, else the system service \
                        (/etc/fanfare/fanfare.toml)."
            )]
            $(#[$about])*
            $($shown)* pub $name $($fields)*
        }
    };
    ($(#[$about:meta])* $name:ident shows { $($fields:tt)* }) => {
        admin_command! { $(#[$about])* shown $name { $($fields)* } }
    };
    ($(#[$about:meta])* shown $vis:vis $name:ident { $($fields:tt)* }) => {
        admin_command! {
            $(#[$about])*
            $vis $name { $($fields)* } and {
                /// print what the daemon says
                #[argh(switch)]
                json: bool,
            }
        }
    };
    ($(#[$about:meta])* $vis:vis $name:ident { $($fields:tt)* }) => {
        admin_command! { $(#[$about])* $vis $name { $($fields)* } and {} }
    };
    ($(#[$about:meta])* $vis:vis $name:ident { $($fields:tt)* } and { $($last:tt)* }) => {
        #[derive(argh::ArgsInfo, argh::FromArgs, Debug)]
        $(#[$about])*
        $vis struct $name {
            $($fields)*
            /// the admin listener, as HOST:PORT or as the path of its socket
            #[argh(option, arg_name = "address")]
            admin: Option<String>,
            /// the file that holds the token of the admin listener
            #[argh(option, arg_name = "file")]
            token_file: Option<std::path::PathBuf>,
            /// take both from this configuration
            #[argh(option, arg_name = "file")]
            config: Option<std::path::PathBuf>,
            $($last)*
        }

        impl $name {
            /// The admin listener that the options mean.
            fn reach(&self) -> Result<$crate::cli::reach::AdminReach, $crate::cli::CliError> {
                $crate::cli::reach::AdminReach::find(
                    self.admin.as_deref(),
                    self.token_file.as_deref(),
                    self.config.as_deref(),
                )
            }
        }
    };
}

pub(super) use admin_command;

/// A connection to an admin listener.
trait AdminSocket: Read + Write {}

impl<T: Read + Write> AdminSocket for T {}

/// A daemon's admin listener.
#[derive(Debug)]
pub(super) struct AdminReach {
    place: AdminPlace,
    token: Option<AdminToken>,
    /// How long the daemon may be silent.
    silence: Duration,
}

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AdminPlace {
    /// A host and a port.
    Address(String),
    /// The path of a socket.
    Socket(PathBuf),
}

impl AdminPlace {
    /// A place as people write it.
    fn named(text: &str) -> Self {
        if text.starts_with('/') {
            return Self::Socket(text.into());
        }
        Self::Address(text.trim_start_matches("http://").trim_end_matches('/').to_owned())
    }
}

impl fmt::Display for AdminPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(&printable(address, PLACE_CHARS_MAX)),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An admin listener as a configuration describes it.
#[derive(Default)]
struct FoundAdmin {
    place: Option<AdminPlace>,
    token: Option<String>,
}

impl AdminReach {
    /// What the options say; what they do not is taken from the configuration, the environment, or
    /// the daemon that is meant where none is named.
    pub(super) fn find(
        admin: Option<&str>,
        token_file: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<Self, CliError> {
        let named = admin.map(str::to_owned).or_else(address_variable);
        let named = named.as_deref().map(AdminPlace::named);
        let FoundAdmin { mut place, mut token } = match config {
            Some(path) => configured(path)?,
            // The development daemon's token is not for an address that the environment names.
            None if named.is_some() => FoundAdmin::default(),
            None => found()?,
        };
        // A token that was found is for its own daemon alone: elsewhere it would be given away.
        if config.is_none() || admin.is_some() {
            place = named.or(place);
        }
        if let Some(file) = token_file {
            token = Some(token_in(file)?);
        } else if token.is_none() || config.is_none() {
            // A configuration that was named comes before the environment.
            let file = variable("FANFARE_ADMIN_TOKEN_FILE")
                .map(|file| token_in(Path::new(&file)))
                .transpose()?;
            token = variable("FANFARE_ADMIN_TOKEN").or(file).or(token);
        }
        let place = place.unwrap_or(AdminPlace::Address(String::new()));
        let is_development =
            || development_address().map(AdminPlace::Address) == Some(place.clone());
        if token.is_none() && config.is_none() && is_development() {
            token = token_in(&paths::state_dir().join(TOKEN_FILE)).ok();
        }
        let token = token.as_deref().map(AdminToken::new).transpose();
        let token =
            token.map_err(|problem| CliError::new(format!("the token of [admin] {problem}")))?;
        Ok(Self { place, token, silence: SILENCE })
    }

    /// The same with another patience.
    pub(super) fn patient_for(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    /// Makes a request and reads the whole answer.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<AdminAnswer, CliError> {
        self.send(method, path, parameters, b"")
    }

    /// Makes a request with a body, and reads the whole answer.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
        body: &[u8],
    ) -> Result<AdminAnswer, CliError> {
        let request = self.request(method, path, parameters, body);
        let answered = exchange(self.connect(self.silence)?, &request);
        self.read(&answered.map_err(|error| self.silent(&error))?)
    }

    /// Makes a request whose answer goes on, and hands each line of its body to `take`, until that
    /// returns false.
    pub(super) fn follow(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        take: &mut dyn FnMut(&str) -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let mut socket = self.connect(STREAM_SILENCE)?;
        let sent = socket.write_all(&self.request("GET", path, parameters, b""));
        sent.map_err(|error| self.silent(&error))?;

        let mut socket = BufReader::new(socket);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = Read::by_ref(&mut socket).take(HEAD_BYTES_MAX).read_until(b'\n', &mut head);
            if read.map_err(|error| self.silent(&error))? == 0 {
                break;
            }
        }
        if !head.starts_with(b"HTTP/1.1 200 ") {
            // A refusal has an end.
            let read = socket.take(HEAD_BYTES_MAX).read_to_end(&mut head);
            read.map_err(|error| self.silent(&error))?;
            return self.read(&head)?.good().map(drop);
        }

        loop {
            let mut line = Vec::new();
            let read = Read::by_ref(&mut socket).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error| self.silent(&error))? == 0 {
                return Err(CliError::try_again(format!("{} has ended the stream", self.place)));
            }
            if !take(String::from_utf8_lossy(&line).trim_end())? {
                return Ok(());
            }
        }
    }

    /// The bytes of a request.
    fn request(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let mut target = path.to_owned();
        // An empty value means that the option was not given.
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        for (index, (name, value)) in given.enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target += &format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        let authorization = self.token.as_ref();
        let authorization = authorization.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {}\r\n", token.reveal())
        });
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Length: \
             {}\r\nConnection: close\r\n\r\n",
            // A socket has no name that a Host header could have.
            match &self.place {
                AdminPlace::Address(address) => address,
                AdminPlace::Socket(_) => "localhost",
            },
            body.len()
        );
        [request.as_bytes(), body].concat()
    }

    /// A connection on which the daemon may be silent for so long.
    fn connect(&self, silence: Duration) -> Result<Box<dyn AdminSocket>, CliError> {
        let is_set;
        let socket: Box<dyn AdminSocket> = match &self.place {
            AdminPlace::Address(address) => {
                let socket = connect(address)?;
                is_set = socket.set_read_timeout(Some(silence));
                Box::new(socket)
            }
            AdminPlace::Socket(path) => {
                let socket = connect_local(path)?;
                is_set = socket.set_read_timeout(Some(silence));
                Box::new(socket)
            }
        };
        is_set.map_err(|error| self.silent(&error))?;
        Ok(socket)
    }

    fn silent(&self, error: &io::Error) -> CliError {
        CliError::try_again(format!("{} does not answer: {error}", self.place))
    }

    fn read(&self, bytes: &[u8]) -> Result<AdminAnswer, CliError> {
        let answer = HttpAnswer::read(bytes).ok().flatten().ok_or_else(|| {
            let place = &self.place;
            CliError::new(format!("what answers on {place} is not fanfare's admin listener"))
        })?;
        let body = &bytes[answer.head_bytes..];
        // The daemon ended, or the answer is longer than any that is read.
        if answer.body_bytes.is_some_and(|length| body.len() < length) {
            return Err(CliError::try_again(format!("the answer of {} is cut off", self.place)));
        }
        Ok(AdminAnswer { status: answer.status, body: body.to_vec(), place: self.place.clone() })
    }
}

/// What the daemon has said.
#[derive(Debug)]
pub(super) struct AdminAnswer {
    pub(super) status: u16,
    body: Vec<u8>,
    place: AdminPlace,
}

impl AdminAnswer {
    /// Itself, unless it is an error's.
    pub(super) fn good(self) -> Result<Self, CliError> {
        match self.status {
            200 => Ok(self),
            401 => Err(CliError::new(format!(
                "{} refuses the token: {}. Give --token-file, or --config with its configuration",
                self.place,
                self.sentence()
            ))),
            503 => Err(CliError::try_again(self.sentence())),
            _ => Err(CliError::new(self.sentence())),
        }
    }

    /// The sentence of an error.
    pub(super) fn sentence(&self) -> String {
        let said = String::from_utf8_lossy(&self.body);
        // The API writes it as the member of an object.
        let [error] = json::last(&said, ["error"]).unwrap_or_default();
        let error = error.and_then(json::text);
        let said = error.as_deref().unwrap_or(&said).trim().trim_end_matches('.');
        match said {
            "" => format!("{} answers with status {}", self.place, self.status),
            _ => printable(said, SENTENCE_CHARS_MAX),
        }
    }

    /// The body as it came, with the end of a line.
    pub(super) fn text(&self) -> Result<String, CliError> {
        let text = String::from_utf8(self.body.clone());
        text.map(|text| text.trim_end().to_owned() + "\n")
            .map_err(|_| CliError::new(format!("the answer of {} is no text", self.place)))
    }

    pub(super) fn json(&self) -> Result<Value, CliError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            CliError::new(format!("the answer of {} is no JSON: {error}", self.place))
        })
    }
}

/// Connects to an address.
fn connect(address: &str) -> Result<TcpStream, CliError> {
    let addresses = address.to_socket_addrs().map_err(|error| {
        CliError::usage(format!(
            "\"{}\" is no address such as 127.0.0.1:9500: {error}",
            printable(address, PLACE_CHARS_MAX)
        ))
    })?;
    connect_to(addresses).map_err(|error| {
        CliError::try_again(match error.kind() {
            ErrorKind::ConnectionRefused => format!(
                "nothing listens on {address}: is the daemon running, and is this the address of \
                 its [admin]? Give --admin, or --config with its configuration"
            ),
            _ => format!("cannot connect to {address}: {error}"),
        })
    })
}

/// Connects to a socket.
fn connect_local(path: &Path) -> Result<UnixStream, CliError> {
    UnixStream::connect(path).map_err(|error| {
        let path = path.display();
        CliError::try_again(match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => format!(
                "nothing listens on {path}: is the daemon running, and is this the socket of its \
                 [admin]?"
            ),
            ErrorKind::PermissionDenied => format!(
                "{path} is for root and for the daemon's user: use sudo, or give --admin HOST:PORT \
                 and --token-file"
            ),
            _ => format!("cannot connect to {path}: {error}"),
        })
    })
}

/// Place and token of a configuration, as it is for the daemon.
fn configured(path: &Path) -> Result<FoundAdmin, CliError> {
    let name = path.display().to_string();
    let text = paths::configuration(path)?;
    let (config, _) = load::config(&name, &text)?;
    // Without it the daemon has no listener that could be asked.
    let Some(admin) = config.admin else {
        return Err(CliError::configuration(format!(
            "{name} has no [admin]: give it an address and a token_file"
        )));
    };
    // It needs no token, whose file may not even be readable.
    if let Some(socket) = admin.socket.filter(|path| UnixStream::connect(path).is_ok()) {
        return Ok(FoundAdmin { place: Some(AdminPlace::Socket(socket)), token: None });
    }
    let in_file = admin.token_file.as_deref().map(token_in).transpose();
    let in_file = in_file.map_err(|error| error.with(CliStatus::Configuration))?;
    let token = admin.token.map(|token| token.reveal().to_owned()).or(in_file);
    Ok(FoundAdmin { place: Some(AdminPlace::Address(admin.address.to_string())), token })
}

/// Place and token of the daemon that is meant where none is named.
fn found() -> Result<FoundAdmin, CliError> {
    const INSTEAD: &str = "--config, or --admin with --token-file,";
    let located = Located::find();
    located.tell(INSTEAD);
    let found = match (located.configuration(), development_address()) {
        (Some(path), _) => configured(path),
        (None, Some(address)) if located.state().is_some() => {
            let token = token_in(&paths::state_dir().join(TOKEN_FILE)).ok();
            Ok(FoundAdmin { place: Some(AdminPlace::Address(address)), token })
        }
        _ => Err(CliError::try_again("where is the daemon's admin listener?")),
    };
    found.map_err(|error| located.about(&error, INSTEAD))
}

/// Where the development daemon has left that its admin listener is.
fn development_address() -> Option<String> {
    paths::read_text(&paths::state_dir().join(ADDRESS_FILE), "the admin listener's address").ok()
}

/// The address that the environment gives the daemon, unless it leaves the port to the daemon.
fn address_variable() -> Option<String> {
    variable("FANFARE_ADMIN_ADDRESS").filter(|address| !address.ends_with(":0"))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The token in a file, as an editor has left it.
fn token_in(path: &Path) -> Result<String, CliError> {
    Ok(paths::read_text(path, "the token of [admin]")?.trim().to_owned())
}
