//! The configuration: one TOML file, composed of the settings that each module declares beside its code.
//!
//! Every key can be overridden from the environment: `FANFARE_FEED_UNIX_PATH` is `feed.unix.path`, and
//! `FANFARE_LISTEN_0_ADDRESS` the address of the first listener. What is not a key is refused, with the
//! nearest that is. Files that the configuration names are read by whoever starts the daemon, not here.

use crate::dialect::{Kind, personium, personium_topic, wazo};
use crate::feed::{amqp, unix};
use crate::io::runtime::Driver;
use crate::shard::Limits;
use crate::token::TokenSettings;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::{Table, Value};

/// Starts the name of an environment variable that overrides a key.
pub const ENVIRONMENT_PREFIX: &str = "FANFARE_";

/// Threads that may be asked for; more than any machine's CPUs is a slip of the pen.
const THREADS_MAX: usize = 1024;
/// Largest event and message that may be allowed. Escaping can make six bytes of one and a turn takes many,
/// while positions in a turn's tables have 32 bits.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Listeners that may be asked for.
const LISTENERS_MAX: usize = 64;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shards; one per available CPU when 0.
    pub threads: usize,
    /// The CPUs that shards are pinned to, in order; those that the process may use when empty.
    pub cpus: Vec<usize>,
    /// Whether shards are pinned at all.
    pub pin: bool,
    /// How the shards wait.
    pub driver: Driver,
    /// Connections of the whole daemon; as many as there are descriptors when 0.
    pub max_connections: usize,
    /// Seconds that a stop may take.
    pub drain_s: u32,
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Where health and metrics are told.
    pub admin: Option<Admin>,
    /// Where events come from.
    pub feed: Feed,
    /// The shards' bounds.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// The dialects `personium-event` and `personium-topic`.
    pub personium: personium::Settings,
    /// The dialect `wazo`.
    pub wazo: wazo::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: 0,
            cpus: vec![],
            pin: true,
            driver: Driver::Auto,
            max_connections: 0,
            drain_s: 10,
            listen: vec![],
            admin: None,
            feed: Feed::default(),
            limits: Limits::default(),
            log: Log::default(),
            personium: personium::Settings::default(),
            wazo: wazo::Settings::default(),
        }
    }
}

/// One `[[listen]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// Names of dialects.
    pub dialects: Vec<String>,
    /// Where TLS is spoken.
    pub tls: Option<Tls>,
}

/// `tls` of a `[[listen]]`. What these files hold is read by whoever starts the daemon.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those between it and the root, in PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub key: PathBuf,
    /// Whoever has signed the certificates of clients, in PEM; without it no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may do without.
    pub client_certificate: Option<ClientCertificate>,
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// No handshake without.
    Required,
    /// One that is shown must be good.
    Optional,
}

impl Tls {
    /// Whether the files are named.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        [&self.certificate, &self.key].iter().all(|path| !path.as_os_str().is_empty())
    }

    /// What is missing, each with what to do.
    fn problems(&self, listen: SocketAddr) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, path, what) in [
            ("certificate", &self.certificate, "the certificate"),
            ("key", &self.key, "the certificate's private key"),
        ] {
            if path.as_os_str().is_empty() {
                problems.push(format!("[[listen]] {listen}: tls.{key} is missing: name the file of {what}"));
            }
        }
        if self.client_certificate.is_some() && self.client_ca.is_none() {
            problems.push(format!(
                "[[listen]] {listen}: tls.client_certificate without tls.client_ca: name the file of whoever \
                 signs the certificates of clients"
            ));
        }
        problems
    }
}

/// `[admin]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port.
    pub address: SocketAddr,
}

/// `[feed]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feed {
    /// `[feed.unix]`.
    pub unix: unix::Settings,
    /// `[feed.amqp]`.
    pub amqp: amqp::Settings,
}

/// `[log]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
    /// The shape of a line.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Auto }
    }
}

/// A level of severity.
#[derive(Clone, Copy, Debug, Deserialize)]
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
#[derive(Clone, Copy, Debug, Deserialize)]
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

/// Every key that the environment may override; a number stands for a listener's place.
pub const KEYS: &[&str] = &[
    "threads",
    "cpus",
    "pin",
    "driver",
    "max_connections",
    "drain_s",
    "listen.0.address",
    "listen.0.dialects",
    "listen.0.tls.certificate",
    "listen.0.tls.key",
    "listen.0.tls.client_ca",
    "listen.0.tls.client_certificate",
    "admin.address",
    "feed.unix.path",
    "feed.unix.mode",
    "feed.unix.group",
    "feed.unix.allow_uids",
    "feed.unix.allow_gids",
    "feed.unix.line_bytes_max",
    "feed.unix.publishers_max",
    "feed.amqp.url",
    "feed.amqp.url_file",
    "feed.amqp.exchange",
    "feed.amqp.exchange_type",
    "feed.amqp.origin_uuid",
    "feed.amqp.prefetch",
    "feed.amqp.ca_file",
    "feed.amqp.on_bus_loss",
    "limits.outbox_bytes_max",
    "limits.subscriptions_max",
    "limits.handshake_timeout_s",
    "limits.head_bytes_max",
    "limits.close_timeout_s",
    "log.level",
    "log.format",
    "personium.anonymous",
    "personium.session_s_max",
    "personium.token_timeout_s",
    "personium.ping_interval_s",
    "personium.ping_misses_max",
    "personium.text_bytes_max",
    "personium.subscriptions_max",
    "personium.topics",
    "personium.token.jwt.algorithms",
    "personium.token.jwt.secret",
    "personium.token.jwt.secret_file",
    "personium.token.jwt.public_key_file",
    "personium.token.jwt.jwks_file",
    "personium.token.jwt.leeway_s",
    "personium.token.static.file",
    "personium.token.introspection.url",
    "personium.token.introspection.client_id",
    "personium.token.introspection.client_secret",
    "personium.token.introspection.client_secret_file",
    "personium.token.introspection.recheck_s",
    "personium.token.introspection.timeout_ms",
    "personium.token.introspection.concurrency_max",
    "personium.token.introspection.cache_s",
    "personium.token.introspection.grace_s",
    "personium.token.introspection.ca_file",
    "wazo.anonymous",
    "wazo.master_tenant_uuid",
    "wazo.ping_interval_s",
    "wazo.ping_misses_max",
    "wazo.message_bytes_max",
    "wazo.subscriptions_max",
    "wazo.token.jwt.algorithms",
    "wazo.token.jwt.secret",
    "wazo.token.jwt.secret_file",
    "wazo.token.jwt.public_key_file",
    "wazo.token.jwt.jwks_file",
    "wazo.token.jwt.leeway_s",
    "wazo.token.static.file",
    "wazo.token.wazo_auth.url",
    "wazo.token.wazo_auth.auth_check",
    "wazo.token.wazo_auth.auth_check_interval_s",
    "wazo.token.wazo_auth.timeout_ms",
    "wazo.token.wazo_auth.concurrency_max",
    "wazo.token.wazo_auth.cache_s",
    "wazo.token.wazo_auth.grace_s",
    "wazo.token.wazo_auth.ca_file",
];

/// Why a configuration was not read.
#[derive(Debug)]
pub enum ConfigError {
    /// The file's text is wrong.
    Text(Box<toml::de::Error>),
    /// An environment variable is wrong; the message says which and why, without its value.
    Environment(String),
}

impl Config {
    /// Reads the text of a file with the overrides of an environment.
    ///
    /// # Errors
    /// When either is not a configuration. What is only contradictory is found by [`Config::problems`].
    pub fn read(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Text(Box::new(error)))?;
        let mut overrides: Vec<_> = environment
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX) && name != "FANFARE_TOKEN")
            .collect();
        if overrides.is_empty() {
            return Ok(config);
        }
        overrides.sort();
        let mut table: Table = toml::from_str(text).map_err(|error| ConfigError::Text(Box::new(error)))?;
        let mut config = config;
        for (name, value) in overrides {
            let path = path_of(&name)?;
            let mut with = |value| {
                put(&mut table, &path, value);
                Self::deserialize(Value::Table(table.clone()))
            };
            // What looks like a number may be a name or a secret.
            let read = with(typed(&value)).or_else(|_| with(Value::String(value)));
            config = read.map_err(|_| {
                ConfigError::Environment(format!(
                    "{name}: the value does not fit the key; see the sample configuration for its form"
                ))
            })?;
        }
        Ok(config)
    }

    /// The dialects of a listener, in the order they are asked.
    ///
    /// # Errors
    /// When a name is not a dialect's.
    pub fn kinds(listen: &Listen) -> Result<Vec<Kind>, String> {
        let kind = |name: &String| {
            Kind::named(name).ok_or_else(|| {
                let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                format!(
                    "[[listen]] {}: there is no dialect \"{name}\"{}; this build has: {}",
                    listen.address,
                    nearest(name, known.iter().copied()),
                    known.join(", ")
                )
            })
        };
        let mut kinds = listen.dialects.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        kinds.sort();
        kinds.dedup();
        Ok(kinds)
    }

    /// What is readable but cannot run, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.listen.is_empty() {
            problems.push("nothing to listen on: add a [[listen]] with address and dialects".into());
        }
        if self.listen.len() > LISTENERS_MAX {
            problems.push(format!("more than {LISTENERS_MAX} listeners"));
        }
        let mut spoken = Vec::new();
        for listen in &self.listen {
            match Self::kinds(listen) {
                Err(problem) => problems.push(problem),
                Ok(kinds) if kinds.is_empty() => {
                    problems.push(format!("[[listen]] {}: no dialects: name at least one", listen.address))
                }
                Ok(kinds) => spoken.extend(kinds),
            }
            problems.extend(listen.tls.iter().flat_map(|tls| tls.problems(listen.address)));
        }
        problems.extend(self.personium_problems(&spoken));
        problems.extend(self.wazo_problems(&spoken));
        problems.extend(self.taken_twice());
        if unix::mode(&self.feed.unix.mode).is_none() {
            problems.push(format!(
                "feed.unix.mode: \"{}\" is not a file mode: write it in octal, like \"0660\"",
                self.feed.unix.mode
            ));
        }
        problems.extend(self.feed.amqp.problems());
        problems.extend(self.senseless_sizes());
        if self.threads > THREADS_MAX {
            problems.push(format!("threads = {}: at most {THREADS_MAX}", self.threads));
        }
        problems
    }
}

impl Config {
    /// What is wrong with `[wazo]`, when the listeners speak these dialects.
    fn wazo_problems(&self, spoken: &[Kind]) -> Vec<String> {
        let wazo = &self.wazo;
        let mut problems = Vec::new();
        if spoken.contains(&Kind::Wazo) && wazo.token.is_none() && !wazo.anonymous {
            problems.push(
                "[wazo]: no token judge: add token = { wazo_auth = { … } }, { jwt = { … } } or { static = { … } }, or \
                 anonymous = true where everybody may see every event"
                    .into(),
            );
        }
        if let Some(Err(error)) = wazo.token.as_ref().map(|token| token.check()) {
            problems.push(format!("[wazo] token: {error}"));
        }
        if let Some(TokenSettings::Introspection(_)) = wazo.token {
            problems.push("[wazo] token: introspection tells no access list: use wazo_auth".into());
        }
        if wazo.ping_interval_s == 0 {
            problems.push("[wazo]: ping_interval_s must be at least 1".into());
        }
        problems
    }

    /// Limits that let nothing in, or too much.
    fn senseless_sizes(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, value) in [
            ("limits.subscriptions_max", self.limits.subscriptions_max),
            ("limits.head_bytes_max", self.limits.head_bytes_max),
            ("limits.handshake_timeout_s", self.limits.handshake_timeout_s as usize),
            ("feed.unix.line_bytes_max", self.feed.unix.line_bytes_max),
            ("feed.unix.publishers_max", self.feed.unix.publishers_max),
        ] {
            if value == 0 {
                problems.push(format!("{key} = 0 lets nothing in: write at least 1"));
            }
        }
        for (key, value) in [
            ("feed.unix.line_bytes_max", self.feed.unix.line_bytes_max),
            ("personium.text_bytes_max", self.personium.text_bytes_max),
            ("wazo.message_bytes_max", self.wazo.message_bytes_max),
        ] {
            if value > MESSAGE_BYTES_MAX {
                problems.push(format!("{key} = {value}: at most {MESSAGE_BYTES_MAX}"));
            }
        }
        if self.limits.outbox_bytes_max < self.feed.unix.line_bytes_max {
            problems.push(format!(
                "limits.outbox_bytes_max ({}) is less than feed.unix.line_bytes_max ({}): one event could close every client",
                self.limits.outbox_bytes_max, self.feed.unix.line_bytes_max
            ));
        }
        problems
    }

    /// What is wrong with `[personium]`, when the listeners speak these dialects.
    fn personium_problems(&self, spoken: &[Kind]) -> Vec<String> {
        let personium = &self.personium;
        let mut problems = Vec::new();
        let is_spoken = spoken.contains(&Kind::PersoniumEvent) || spoken.contains(&Kind::PersoniumTopic);
        if is_spoken && personium.token.is_none() && !personium.anonymous {
            problems.push(
                "[personium]: no token judge: add token = { jwt = { … } }, { introspection = { … } } or { static = { … } }, or \
                 anonymous = true where everybody may read"
                    .into(),
            );
        }
        if let Some(Err(error)) = personium.token.as_ref().map(|token| token.check()) {
            problems.push(format!("[personium] token: {error}"));
        }
        if let Some(TokenSettings::WazoAuth(_)) = personium.token {
            problems.push("[personium] token: wazo_auth knows no cells: use introspection".into());
        }
        if personium.ping_interval_s == 0 || personium.session_s_max == 0 {
            problems.push("[personium]: ping_interval_s and session_s_max must be at least 1".into());
        }
        let globs = personium.topics.as_deref().unwrap_or_default();
        if globs.len() > personium_topic::GLOBS_MAX {
            problems.push(format!(
                "[personium] topics: more than {}; say more with a *, as in \"cell1/box1/*\"",
                personium_topic::GLOBS_MAX
            ));
        }
        if let Some(glob) = globs.iter().find(|glob| !personium_topic::is_glob(glob)) {
            problems.push(format!(
                "[personium] topics: {:?} matches no topic: write CELL/BOX/PATH, where * stands for any text \
                 without a slash",
                glob.chars().take(64).collect::<String>()
            ));
        }
        problems
    }

    /// Addresses that are given to two listeners.
    fn taken_twice(&self) -> Option<String> {
        let mut addresses: Vec<SocketAddr> = self.listen.iter().map(|listen| listen.address).collect();
        addresses.extend(self.admin.as_ref().map(|admin| admin.address));
        // Port 0 is another one each time.
        addresses.retain(|address| address.port() != 0);
        addresses.sort();
        let twice = addresses.windows(2).find(|pair| pair[0] == pair[1])?;
        Some(format!("{} stands in two of [[listen]] and [admin]: give each a port of its own", twice[0]))
    }
}

/// The key that an environment variable means.
fn path_of(name: &str) -> Result<Vec<String>, ConfigError> {
    let wanted = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase();
    let mut words: Vec<&str> = wanted.split('_').collect();
    let mut place = None;
    if words.len() > 2 && words[0] == "listen" && words[1].parse::<usize>().is_ok_and(|n| n < LISTENERS_MAX) {
        place = Some(std::mem::replace(&mut words[1], "0").to_owned());
    }
    let wanted = words.join("_");
    let variable = |key: &str| key.replace('.', "_");
    match KEYS.iter().find(|key| variable(key) == wanted) {
        Some(key) => {
            let mut path: Vec<String> = key.split('.').map(str::to_owned).collect();
            if let Some(place) = place {
                path[1] = place;
            }
            Ok(path)
        }
        None => {
            let near = nearest(
                &wanted,
                KEYS.iter().map(|key| variable(key)).collect::<Vec<_>>().iter().map(String::as_str),
            );
            let near = near
                .to_ascii_uppercase()
                .replace("DID YOU MEAN \"", &format!("did you mean \"{ENVIRONMENT_PREFIX}"));
            Err(ConfigError::Environment(format!("{name} is not a setting{near}")))
        }
    }
}

/// `; did you mean "…"?`, or nothing when nothing is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match near {
        Some((distance, known)) if distance <= 1 + name.len() / 3 => format!("; did you mean \"{known}\"?"),
        _ => String::new(),
    }
}

/// Numbers, booleans and lists as TOML writes them, everything else as text.
fn typed(value: &str) -> Value {
    let as_toml =
        toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
    match as_toml {
        Some(typed @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_))) => typed,
        _ => Value::String(value.into()),
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    if let [place, rest @ ..] = rest
        && let Ok(place) = place.parse::<usize>()
    {
        let list = table.entry(first.clone()).or_insert_with(|| Value::Array(vec![]));
        if let Value::Array(list) = list {
            while list.len() <= place {
                list.push(Value::Table(Table::new()));
            }
            if let Value::Table(inner) = &mut list[place] {
                put(inner, rest, value);
            }
        }
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        [[listen]]
        address = "127.0.0.1:8080"
        dialects = ["personium-event"]
        [personium]
        anonymous = true
    "#;

    fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::read(MINIMAL, variables)
    }

    #[test]
    fn a_minimal_configuration_can_run() {
        assert_eq!(with(&[]).unwrap().problems(), Vec::<String>::new());
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = with(&[
            ("FANFARE_FEED_UNIX_PATH", "/run/x.sock"),
            ("FANFARE_LISTEN_0_ADDRESS", "127.0.0.1:9"),
            ("FANFARE_LISTEN_0_TLS_CERTIFICATE", "/cert.pem"),
            ("FANFARE_LISTEN_0_TLS_KEY", "/key.pem"),
            ("FANFARE_LISTEN_0_TLS_CLIENT_CA", "/ca.pem"),
            ("FANFARE_LISTEN_0_TLS_CLIENT_CERTIFICATE", "optional"),
            ("FANFARE_LIMITS_OUTBOX_BYTES_MAX", "2097152"),
            ("FANFARE_FEED_UNIX_ALLOW_UIDS", "[1, 2]"),
            ("FANFARE_PIN", "false"),
            ("FANFARE_DRIVER", "io_uring"),
            ("FANFARE_FEED_UNIX_GROUP", "1000"),
            ("FANFARE_FEED_UNIX_MODE", "660"),
            ("FANFARE_PERSONIUM_TOKEN_STATIC_FILE", "/tokens"),
            ("FANFARE_PERSONIUM_TOPICS", "[\"cell1/box1/*\"]"),
            ("OTHER", "ignored"),
        ])
        .unwrap();
        assert_eq!(config.feed.unix.path.unwrap().to_str(), Some("/run/x.sock"));
        assert_eq!(config.listen[0].address.port(), 9);
        assert_eq!(config.listen[0].dialects, ["personium-event"]);
        let tls = config.listen[0].tls.as_ref().unwrap();
        assert_eq!(
            [&tls.certificate, &tls.key].map(|path| path.to_str().unwrap()),
            ["/cert.pem", "/key.pem"]
        );
        assert_eq!(tls.client_ca.as_ref().unwrap().to_str(), Some("/ca.pem"));
        assert_eq!(tls.client_certificate, Some(ClientCertificate::Optional));
        assert_eq!(config.limits.outbox_bytes_max, 2_097_152);
        assert_eq!(config.feed.unix.allow_uids, [1, 2]);
        assert!(!config.pin);
        assert_eq!((config.feed.unix.group.as_deref(), &config.feed.unix.mode[..]), (Some("1000"), "660"));
        assert_eq!(config.driver, Driver::IoUring);
        assert!(config.personium.token.is_some());
        assert_eq!(config.personium.topics.as_deref(), Some(&["cell1/box1/*".to_owned()][..]));
    }

    #[test]
    fn a_wrong_variable_is_named_with_the_nearest_and_without_its_value() {
        let Err(ConfigError::Environment(message)) = with(&[("FANFARE_FEED_UNIX_PAHT", "/run/x.sock")])
        else {
            panic!("accepted");
        };
        assert_eq!(
            message,
            "FANFARE_FEED_UNIX_PAHT is not a setting; did you mean \"FANFARE_FEED_UNIX_PATH\"?"
        );
        let Err(ConfigError::Environment(message)) = with(&[("FANFARE_DRAIN_S", "hush")]) else {
            panic!("accepted");
        };
        assert!(message.starts_with("FANFARE_DRAIN_S") && !message.contains("hush"), "{message}");
    }

    #[test]
    fn every_key_of_the_list_is_a_key() {
        let known_only_with_their_table = ["personium.token.jwt", "wazo.token.jwt", "admin"];
        for key in
            KEYS.iter().filter(|key| !known_only_with_their_table.iter().any(|start| key.starts_with(start)))
        {
            let mut table: Table = toml::from_str(MINIMAL).unwrap();
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            put(&mut table, &path, Value::String("no value of any key but a text's".into()));
            if let Err(error) = Config::deserialize(Value::Table(table)) {
                assert!(!error.to_string().contains("unknown field"), "{key}: {error}");
            }
        }
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        let problems = |text: &str| Config::read(text, std::iter::empty()).unwrap().problems().join("\n");
        assert!(problems("").contains("nothing to listen on"));
        let listen = "[[listen]]\naddress = \"127.0.0.1:1\"\ndialects = [\"personium-evnt\"]\n";
        assert!(problems(listen).contains("did you mean \"personium-event\"?"));
        let listen = "[[listen]]\naddress = \"127.0.0.1:1\"\ndialects = [\"personium-event\"]\n";
        assert!(problems(listen).contains("[personium]: no token judge"));
        assert!(problems(&listen.replace("personium-event", "wazo")).contains("[wazo]: no token judge"));
        assert!(problems(&listen.replace("event", "topic")).contains("no token judge"));
        let topics = format!("{MINIMAL}topics = {:?}", vec!["c/b/*"; 1025]);
        assert!(problems(&topics).contains("[personium] topics: more than 1024"));
        let topics = |glob| format!("{MINIMAL}topics = [\"c/b/*\", \"{glob}\"]");
        assert_eq!(problems(&topics("c/*/*.topic.*")), "");
        assert!(problems(&topics("c/*")).contains("[personium] topics: \"c/*\" matches no topic"));
        let url = "[personium]\ntoken = { introspection = { url = 'issuer.example' } }";
        assert!(problems(&format!("{listen}{url}")).contains("[personium] token: url begins with neither"));
        assert!(problems(&format!("{MINIMAL}[feed.unix]\nmode = \"0999\"")).contains("in octal"));
        let twice = problems(&format!("{MINIMAL}[admin]\naddress = \"127.0.0.1:8080\""));
        assert!(twice.contains("127.0.0.1:8080 stands in two"), "{twice}");
        let tls = "tls = { certificate = \"c\", client_certificate = \"optional\" }";
        let tls = problems(&format!("{listen}{tls}"));
        assert!(tls.contains("tls.key is missing") && tls.contains("without tls.client_ca"), "{tls}");
        let none = problems(&format!("{MINIMAL}[limits]\nhead_bytes_max = 0"));
        assert!(none.contains("limits.head_bytes_max = 0"), "{none}");
    }
}
