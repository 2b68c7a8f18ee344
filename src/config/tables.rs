//! The tables of the configuration file. The settings of each module and dialect are declared
//! beside its code.

use super::words::suggestion;
use crate::cluster::ClusterSettings;
use crate::dialect::config_table::DialectTable;
use crate::dialect::{Kind, Settings, with_dialects};
use crate::feed::amqp::AmqpFeedSettings;
use crate::feed::redis::RedisFeedSettings;
use crate::feed::unix::UnixFeedSettings;
use crate::http::AdminToken;
use crate::http::otlp::OtlpSettings;
use crate::io::runtime::Driver;
use crate::io::store;
use crate::proxy::Networks;
use crate::shard::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::mem::take;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Most threads: beyond any machine's CPUs, so more is a typing error.
const THREADS_MAX: usize = 1024;

/// Makes the configuration from the list of protocols.
macro_rules! config {
    ([] $(
        $(#[$attribute:meta])*
        $variant:ident: $session:ty $(, [$table:ident] $($settings:ident)::+)?;
    )+) => {
        /// The configuration of fanfare.
        // Tables are documented where they are declared.
        #[allow(missing_docs)]
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            /// Shards, one thread each; 0 is one per CPU that the daemon may use.
            #[schemars(range(max = THREADS_MAX), extend("x-restart" = true))]
            pub threads: usize,
            /// The CPUs of the shards, in order, as in [2, 3]; empty means all that the daemon may
            /// use.
            #[schemars(extend("x-restart" = true))]
            pub cpus: Vec<usize>,
            /// Whether each shard is pinned to its CPU. Set it to false where other busy programs
            /// share the CPUs.
            #[schemars(extend("x-restart" = true))]
            pub pin: bool,
            /// "io_uring", "epoll", or "auto": io_uring, or epoll where the kernel (before Linux
            /// 6.0) or a sandbox refuses io_uring.
            #[schemars(extend("x-restart" = true))]
            pub driver: Driver,
            /// Maximum number of clients of the whole daemon, at most the descriptor limit less
            /// what the daemon itself needs, which 0 means. More get a 503.
            pub max_connections: usize,
            /// Trusted proxies: addresses and networks, like ["127.0.0.1", "10.0.0.0/8",
            /// "2001:db8::/32"]. What they report of their clients (X-Forwarded-For, Forwarded, the
            /// PROXY protocol) is believed; from other peers it is ignored.
            #[schemars(with = "Vec<String>", extend("default" = []))]
            pub trusted_proxies: Networks,
            /// Seconds that clients have to close their connections when the daemon stops. Keep
            /// TimeoutStopSec= of the unit above it.
            pub drain_s: u32,
            /// Seconds over which clients are told so, a few at a time, because they come back at
            /// once: half of drain_s at most; 0 tells all of them at once.
            pub drain_spread_s: u32,
            pub listen: Vec<ListenTable>,
            #[schemars(extend("x-restart" = true))]
            pub admin: Option<AdminTable>,
            pub feed: FeedTable,
            #[schemars(extend("x-restart" = true))]
            pub cluster: Option<ClusterSettings>,
            #[schemars(extend("x-restart" = true))]
            pub otlp: Option<OtlpSettings>,
            pub limits: Limits,
            pub log: LogTable,
            $($(pub $table: crate::dialect::$($settings)::+,)?)+
            #[schemars(extend("x-restart" = true, "x-before" = tables_with_topics()))]
            pub store: store::StoreSettings,
            /// What is out of its range.
            #[serde(skip)]
            pub(super) out_of_range: Vec<String>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    threads: 0,
                    cpus: vec![],
                    pin: true,
                    driver: Driver::Auto,
                    max_connections: 0,
                    trusted_proxies: Networks::default(),
                    drain_s: 10,
                    drain_spread_s: 3,
                    listen: vec![],
                    admin: None,
                    feed: FeedTable::default(),
                    cluster: None,
                    otlp: None,
                    limits: Limits::default(),
                    log: LogTable::default(),
                    $($($table: Default::default(),)?)+
                    store: store::StoreSettings::default(),
                    out_of_range: vec![],
                }
            }
        }

        impl Config {
            /// The tables of the dialects.
            #[must_use]
            pub fn dialects(&self) -> Vec<&dyn DialectTable> {
                vec![$($(&self.$table,)?)+]
            }

            /// The tables of the dialects, to be completed with the contents of their files.
            pub fn dialects_mut(&mut self) -> Vec<&mut dyn DialectTable> {
                vec![$($(&mut self.$table,)?)+]
            }

            /// Takes out the settings that sessions get.
            #[must_use]
            pub fn take_settings(&mut self) -> Settings {
                Settings {
                    $($($table: take(&mut self.$table),)?)+
                    trusted_proxies: take(&mut self.trusted_proxies),
                }
            }
        }
    };
}

with_dialects!(config);

/// The names of the tables whose dialects have durable topics. The store's table precedes them.
fn tables_with_topics() -> Vec<&'static str> {
    let settings = Settings::default();
    let tables = settings.tables();
    let with_topics = tables.filter(|table| Kind::of_table(*table).any(Kind::has_topics));
    with_topics.map(DialectTable::name).collect()
}

/// Where clients connect; as many [[listen]] as there are addresses.
// The sample has this text, where brackets are those of TOML.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTable {
    /// The address to listen on. "[::]:8080" accepts IPv6 and, where the system allows it
    /// (net.ipv6.bindv6only = 0), IPv4.
    #[schemars(extend("x-sample" = "0.0.0.0:8080"))]
    pub address: SocketAddr,
    /// The protocols spoken there. Wazo takes any path that no other dialect takes, so give it a
    /// port of its own; its clients expect 9502. It cannot share a port with channel.
    #[schemars(extend(
        "items" = { "enum": dialect_names() },
        "x-sample" = ["personium-event", "personium-topic"]
    ))]
    pub dialects: Vec<String>,
    /// Whether every connection comes from one of trusted_proxies and begins with the PROXY
    /// protocol, version 1 or 2.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// With a certificate the listener speaks TLS and nothing else.
    pub tls: Option<TlsTable>,
}

/// `tls` of a `[[listen]]`. The files are read by the program that starts the daemon.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsTable {
    /// The certificate chain in PEM, the listener's own first. A reload reads a renewed one.
    #[schemars(example = &"/etc/fanfare/tls.pem")]
    pub certificate: PathBuf,
    /// The certificate's private key in PEM. Let the file belong to the daemon's user with mode
    /// 0400.
    #[schemars(example = &"/etc/fanfare/tls.key")]
    pub key: PathBuf,
    /// The authority that signs client certificates, in PEM; without it, clients are not asked for
    /// one.
    #[schemars(example = &"/etc/fanfare/clients.pem")]
    pub client_ca: Option<PathBuf>,
    /// "required", or "optional": a client may connect without one, but one that it presents must
    /// be valid.
    #[schemars(example = &"required")]
    pub client_certificate: Option<ClientCertificate>,
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// No handshake without.
    Required,
    /// One that is shown must be good.
    Optional,
}

impl TlsTable {
    /// Whether the files are named.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        [&self.certificate, &self.key].iter().all(|path| !path.as_os_str().is_empty())
    }
}

/// Health and metrics, without a password: keep them on loopback. No [admin], no listener.
// The sample has this text, where brackets are those of TOML.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminTable {
    /// The address of /healthz, /readyz and /metrics, and of operators' requests: those of `fanfare
    /// sessions`, `fanfare topics` and others.
    #[schemars(extend("x-sample" = "127.0.0.1:9500"))]
    pub address: SocketAddr,
    /// The file with the token of operators' requests: at least 16 characters, as `openssl rand
    /// -hex 32` makes them. Without it, the address answers about health and metrics only. Let the
    /// file belong to the daemon's user with mode 0400.
    #[schemars(example = &"/etc/fanfare/admin.token")]
    pub token_file: Option<PathBuf>,
    /// The same, in this file, which is then a secret too.
    pub token: Option<AdminToken>,
    /// The file with another token, for publishing over HTTP (POST /v1/publish) and nothing else.
    #[schemars(example = &"/etc/fanfare/publish.token")]
    pub publish_token_file: Option<PathBuf>,
    /// The names by which browsers open /console, such as that of a proxy in front; IP addresses and
    /// localhost need none.
    #[serde(default)]
    #[schemars(example = &["fanfare.example.net"])]
    pub console_hosts: Vec<String>,
    /// The path of a socket that answers the same. Only root and the daemon's user can connect to
    /// it, and need no token.
    #[schemars(
        example = &"/run/fanfare/admin.sock",
        extend("x-sample" = "/run/fanfare/admin.sock")
    )]
    pub socket: Option<PathBuf>,
}

/// The table `[feed]`: where events come from.
// As in the whole file.
#[allow(missing_docs)]
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FeedTable {
    pub unix: UnixFeedSettings,
    #[schemars(extend("x-restart" = true))]
    pub amqp: AmqpFeedSettings,
    #[schemars(extend("x-restart" = true))]
    pub redis: RedisFeedSettings,
}

/// What is logged, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogTable {
    /// "error", "warn", "info" or "debug".
    pub level: Level,
    /// "text" or "json" on standard error, "journald", or "auto": journald under systemd, else
    /// text.
    #[schemars(extend("x-restart" = true))]
    pub format: Format,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Auto }
    }
}

/// A level of severity, the most severe first.
#[derive(
    Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The journal under systemd, else text.
    Auto,
    /// Lines on standard error.
    Text,
    /// JSON lines on standard error.
    Json,
    /// systemd's journal, with fields.
    Journald,
}

impl ListenTable {
    /// The dialects, in the order they are asked.
    ///
    /// # Errors
    /// When a name is not a dialect's.
    pub fn kinds(&self) -> Result<Vec<Kind>, String> {
        let mut kinds = Vec::new();
        for name in &self.dialects {
            let kind = Kind::named(name).ok_or_else(|| {
                let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                format!(
                    "[[listen]] {}: there is no dialect \"{name}\"{}; this build has: {}",
                    self.address,
                    suggestion(name, known.iter().copied()),
                    known.join(", ")
                )
            })?;
            kinds.push(kind);
        }

        // The order in which dialects are asked for a path is theirs, not the file's.
        kinds.sort();
        kinds.dedup();
        Ok(kinds)
    }
}

fn dialect_names() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.name()).collect()
}
