//! The connection to NATS: its options, whether it is there, and whether its server will do.

use super::place::Nats;
use super::server_choice::ServerChoice;
use crate::cluster::NatsLogin;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, ServerInfo, Subscriber};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The oldest version of NATS that clustered streams with expected sequences work on.
const VERSION_MIN: (u64, u64) = (2, 12);
/// The longest message that a server must take: an event of 1 MiB in each of two forms, of which
/// JSON may make more.
const PAYLOAD_BYTES_MIN: usize = 4 * 1024 * 1024;
/// The interval of pings. A server that misses two is given up, so it takes three to notice one
/// that was cut off.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Longest attempt to connect to one server.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Messages that the client holds for one subscription: more than it reads from the socket before
/// this thread takes them. It drops what comes beyond, which is counted as lost.
const RECEIVED_MAX: usize = 64 * 1024;
/// Messages that the client holds to be sent. They survive a lost connection, and few of them are
/// few late ones.
const SENDING_MAX: usize = 16;
/// Interval of attempts with another server while one will not do.
const RETRY: Duration = Duration::from_secs(10);

/// The connection to NATS.
pub(super) struct Engine {
    pub(super) client: Client,
    /// What is published for all nodes.
    all: Subscriber,
    /// What is published for this node.
    own: Subscriber,
    news: Arc<EngineNews>,
    choice: Arc<ServerChoice>,
    /// The connections that the client has made, as of the last look.
    connects: u64,
    /// Whether the connection of the last look could be used.
    is_good: bool,
    /// When the server's refusal makes it time to try another.
    retry_at: Option<Instant>,
}

/// What the client says of the connection.
#[derive(Default)]
pub(super) struct EngineNews {
    changed: Notify,
    errors: Mutex<EngineErrors>,
}

/// The last errors of the connection, with what to do.
#[derive(Default)]
struct EngineErrors {
    /// Why it is not there.
    last: Option<String>,
    /// Whether that has not been told yet.
    is_new: bool,
    /// Whether all servers have been tried in vain: one of several that is away is no news.
    is_general: bool,
    /// What the server does not permit.
    refusal: Option<String>,
}

/// A change of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EngineChange {
    /// It can be used.
    Connected,
    /// It is gone.
    Lost,
    /// It is gone, and there is a new one that can be used.
    Replaced,
    /// It is gone or was never there, and the server that is connected will not do.
    Refused(String),
}

impl Engine {
    /// Starts to connect, and goes on trying for ever.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub(super) async fn start(nats: &Nats, subjects: &Subjects) -> io::Result<Self> {
        let news = Arc::new(EngineNews::default());
        let for_client = Arc::clone(&news);
        let options = options(nats)?.event_callback(move |event| {
            for_client.tell(&event);
            std::future::ready(())
        });
        let options = options.custom_inbox_prefix(&subjects.inbox);
        let (for_choice, choice) = (Arc::clone(&news), Arc::<ServerChoice>::default());
        let chooser = Arc::clone(&choice);
        let options = options.reconnect_to_server_callback(move |servers, _| {
            let (chosen, is_over) = chooser.next(&servers);
            for_choice.errors().is_general |= is_over;
            std::future::ready(chosen)
        });

        let servers = nats.servers.urls();
        let servers: Result<Vec<ServerAddr>, _> = servers.iter().map(|url| url.parse()).collect();
        let client = options.connect(servers?).await.map_err(io::Error::other)?;
        Ok(Self {
            all: client.subscribe(subjects.all.clone()).await.map_err(io::Error::other)?,
            own: client.subscribe(subjects.own.clone()).await.map_err(io::Error::other)?,
            client,
            news,
            choice,
            connects: 0,
            is_good: false,
            retry_at: None,
        })
    }

    /// What is published for all nodes and for this one, and what the client says.
    pub(super) fn parts(&mut self) -> (&mut Subscriber, &mut Subscriber, &EngineNews) {
        (&mut self.all, &mut self.own, &self.news)
    }

    /// Whether the connection of the last look can be used.
    pub(super) fn is_good(&self) -> bool {
        self.is_good
    }

    /// Looks at the connection.
    pub(super) fn look(&mut self) -> Option<EngineChange> {
        let is_connected = self.client.connection_state() == State::Connected;
        let connects = self.client.statistics().connects.load(Relaxed);
        let was_good = self.is_good;
        if !is_connected {
            self.is_good = false;
            self.retry_at = None;
            return was_good.then_some(EngineChange::Lost);
        }

        let refusal = self.news.errors().refusal.take();
        if connects == self.connects {
            return refusal.map(|refusal| self.refuse(refusal));
        }
        // Each connection is looked at once: it may be one to another server.
        self.connects = connects;
        *self.news.errors() = EngineErrors::default();
        if let Some(objection) = objection(&self.client.server_info()).or(refusal) {
            return Some(self.refuse(objection));
        }
        self.is_good = true;
        Some(if was_good { EngineChange::Replaced } else { EngineChange::Connected })
    }

    fn refuse(&mut self, objection: String) -> EngineChange {
        self.is_good = false;
        self.retry_at = Some(Instant::now() + RETRY);
        EngineChange::Refused(objection)
    }

    /// Whether it is time to try another server than the one that will not do.
    pub(super) fn wants_another(&mut self) -> bool {
        self.retry_at.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Connects to another server, if one is in reach.
    pub(super) fn change_server(&self) {
        let (client, choice) = (self.client.clone(), Arc::clone(&self.choice));
        tokio::spawn(async move { choice.change(&client).await });
    }

    /// Why there is no connection.
    pub(super) fn error(&self) -> Option<String> {
        self.news.errors().last.clone()
    }

    /// The same, if it is so at all servers and has not been told yet.
    pub(super) fn new_error(&self) -> Option<String> {
        let mut errors = self.news.errors();
        let is_told = errors.is_general && std::mem::take(&mut errors.is_new);
        if is_told { errors.last.clone() } else { None }
    }
}

impl EngineNews {
    /// Waits until the client says something of the connection.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::ServerError(error) => {
                let text = error.to_string();
                if text.to_ascii_lowercase().contains("permissions violation") {
                    self.errors().refusal = Some(format!(
                        "{text}: let the user of cluster.url publish and subscribe to \
                         \"ff.NAME.>\" and \"$JS.API.>\", NAME being cluster.name"
                    ));
                } else {
                    self.fail(&text);
                }
            }
            Event::ClientError(error) => self.fail(&error.to_string()),
            _ => {}
        }
        self.changed.notify_one();
    }

    fn fail(&self, text: &str) {
        let text = format!("{text}{}", advice(text));
        let mut errors = self.errors();
        // A server that is away for hours would fill the log.
        errors.is_new |= errors.last.as_ref() != Some(&text);
        errors.last = Some(text);
    }

    fn errors(&self) -> MutexGuard<'_, EngineErrors> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about an error of the client, by its words: it gives no more than these.
fn advice(text: &str) -> &'static str {
    let text = text.to_ascii_lowercase();
    let known = [
        ("authorization", ": check the user and password in cluster.url, or credentials_file"),
        ("authentication", ": check cluster.credentials_file"),
        ("tls", ": the server's certificate is not trusted, or it speaks no TLS: check ca_file"),
        ("dns", ": no server has such a name: check cluster.url"),
        ("timed out", ": no answer from there: check cluster.url and the network"),
        (
            "io error",
            ": nothing listens there, it is out of reach, or with tls:// one side does not trust \
             the other's certificate: check cluster.url and ca_file",
        ),
    ];
    known.iter().find(|(word, _)| text.contains(word)).map_or("", |(_, advice)| advice)
}

/// The subjects of a service, as one node uses them.
pub(super) struct Subjects {
    /// The packets of live events.
    pub(super) live: String,
    /// The control messages for all nodes.
    pub(super) notes: String,
    /// Both.
    all: String,
    /// What is for this node.
    own: String,
    /// What is for one node begins with it.
    pub(super) to: String,
    inbox: String,
}

impl Subjects {
    pub(super) fn new(nats: &Nats) -> Self {
        let (name, node) = (&nats.settings.name, &nats.node);
        Self {
            live: format!("ff.{name}.all.l"),
            notes: format!("ff.{name}.all.n"),
            all: format!("ff.{name}.all.>"),
            own: format!("ff.{name}.to.{node}"),
            to: format!("ff.{name}.to."),
            inbox: format!("ff.{name}.inbox.{node}"),
        }
    }
}

fn options(nats: &Nats) -> io::Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name(format!("fanfare {} of {}", nats.node, nats.settings.name))
        // What this node says is not for itself.
        .no_echo()
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_MAX)
        .subscription_capacity(RECEIVED_MAX)
        .client_capacity(SENDING_MAX)
        // Subjects are made of names that were checked.
        .skip_subject_validation(true)
        .retry_on_initial_connect();
    options = match nats.servers.login() {
        None => options,
        Some(NatsLogin::User(user, password)) => {
            options.user_and_password(user.clone(), password.0.clone())
        }
        Some(NatsLogin::Token(token)) => options.token(token.0.clone()),
    };
    if let Some(credentials) = &nats.credentials {
        // The client looks for the end of the last line, which texts of files here come without.
        options = options.credentials(&format!("{}\n", credentials.0)).map_err(|error| {
            io::Error::other(format!(
                "cluster.credentials_file: {error}: give a file as `nsc generate creds` makes it"
            ))
        })?;
    }
    if let Some(trust) = &nats.trust {
        options = options.require_tls(true).tls_client_config((**trust).clone());
    }
    Ok(options)
}

/// What makes a server unfit, with what to do about it.
fn objection(server: &ServerInfo) -> Option<String> {
    let ServerInfo { version, max_payload, jetstream, server_name, .. } = server;
    let mut numbers = version.split('.').map(|number| number.parse::<u64>());
    let is_new = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= VERSION_MIN,
        _ => false,
    };
    let (major, minor) = VERSION_MIN;
    if !is_new {
        return Some(format!(
            "the server {server_name} is NATS {version}, and {major}.{minor} or later is needed: \
             update it"
        ));
    }
    if *max_payload < PAYLOAD_BYTES_MIN {
        return Some(format!(
            "the server {server_name} takes messages of {max_payload} bytes, and \
             {PAYLOAD_BYTES_MIN} are needed: set max_payload = 4MB in its configuration"
        ));
    }
    (!jetstream).then(|| {
        format!(
            "the server {server_name} has no JetStream: add jetstream {{ store_dir = … }} to its \
             configuration"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, max_payload: usize, jetstream: bool) -> ServerInfo {
        ServerInfo { version: version.into(), max_payload, jetstream, ..ServerInfo::default() }
    }

    #[test]
    fn a_server_that_will_not_do_is_refused_with_what_to_do() {
        for version in ["2.12.0", "2.15.1", "3.0.0-RC.1"] {
            assert_eq!(objection(&server(version, PAYLOAD_BYTES_MIN, true)), None, "{version}");
        }
        for version in ["2.9.10", "2.11.99", "1.99.0", "", "x.y"] {
            let told = objection(&server(version, PAYLOAD_BYTES_MIN, true)).unwrap();
            assert!(told.contains("2.12 or later is needed: update it"), "{told}");
        }
        let small = objection(&server("2.12.0", 1_048_576, true)).unwrap();
        assert!(small.contains("max_payload = 4MB"), "{small}");
        let plain = objection(&server("2.12.0", PAYLOAD_BYTES_MIN, false)).unwrap();
        assert!(plain.contains("jetstream {"), "{plain}");
    }

    #[test]
    fn errors_are_told_once_with_what_to_do_and_a_refusal_apart() {
        let news = EngineNews::default();
        news.tell(&Event::ClientError(async_nats::ClientError::Other("IO error".into())));
        assert!(news.errors().last.as_ref().unwrap().contains("nothing listens there"));
        assert!(news.errors().is_new && news.errors().refusal.is_none());
        let text = "Permissions Violation for Subscription to \"ff.main.all.>\"";
        news.tell(&Event::ServerError(async_nats::ServerError::Other(text.into())));
        assert!(news.errors().refusal.as_ref().unwrap().contains("\"ff.NAME.>\""));
        assert!(advice("nats: authorization violation").contains("user and password"));
    }
}
