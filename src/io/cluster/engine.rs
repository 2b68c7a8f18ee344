//! The connection to NATS: its options, whether it is there, and whether its server will do.

use super::place::Nats;
use crate::cluster::NatsLogin;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, ServerInfo, Subscriber};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// The last error.
    error: Mutex<Option<String>>,
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

        let servers = nats.servers.urls();
        let servers: Result<Vec<ServerAddr>, _> = servers.iter().map(|url| url.parse()).collect();
        let client = options.connect(servers?).await.map_err(io::Error::other)?;
        Ok(Self {
            all: client.subscribe(subjects.all.clone()).await.map_err(io::Error::other)?,
            own: client.subscribe(subjects.own.clone()).await.map_err(io::Error::other)?,
            client,
            news,
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
        if connects == self.connects {
            return None;
        }

        // Each connection is judged once: it may be one to another server.
        self.connects = connects;
        let objection = objection(&self.client.server_info());
        self.is_good = objection.is_none();
        self.retry_at = objection.is_some().then(|| Instant::now() + RETRY);
        *self.news.error() = None;
        Some(match objection {
            Some(objection) => EngineChange::Refused(objection),
            None if was_good => EngineChange::Replaced,
            None => EngineChange::Connected,
        })
    }

    /// Whether it is time to try another server than the one that will not do.
    pub(super) fn wants_another(&mut self) -> bool {
        self.retry_at.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// The last error of the connection, if it was never good since.
    pub(super) fn error(&self) -> Option<String> {
        self.news.error().clone()
    }
}

impl EngineNews {
    /// Waits until the client says something of the connection.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::ServerError(error) => *self.error() = Some(error.to_string()),
            Event::ClientError(error) => *self.error() = Some(error.to_string()),
            _ => {}
        }
        self.changed.notify_one();
    }

    fn error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        options = options.credentials(&credentials.0)?;
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
}
