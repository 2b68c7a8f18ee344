//! What is readable but cannot run, each with what to do.

use super::{AdminTable, Config, LISTENERS_MAX, TlsTable};
use crate::api::AdminToken;
use crate::dialect::channel::Relay;
use crate::dialect::{Kind, personium_topic};
use crate::feed::redis::PAYLOAD_BYTES_MAX;
use crate::feed::unix;
use crate::text::start;
use crate::token::TokenSettings;
use std::net::SocketAddr;

/// Threads that may be asked for; more than any machine's CPUs is a slip of the pen.
const THREADS_MAX: usize = 1024;
/// Largest event and message that may be allowed. Escaping can make six bytes of one and a turn takes many,
/// while positions in a turn's tables have 32 bits.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest message of a client that is relayed: around it stand the channel's and the sender's name, and a token is
/// hardly longer than what is left for them.
const RELAYED_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 128 * 1024;

impl Config {
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
                Ok(kinds) if kinds.contains(&Kind::Channel) && kinds.contains(&Kind::Wazo) => {
                    problems.push(format!(
                        "[[listen]] {}: wazo and channel both take /?token=…: give each a listener of its own",
                        listen.address
                    ));
                    spoken.extend(kinds);
                }
                Ok(kinds) => spoken.extend(kinds),
            }
            problems.extend(listen.tls.iter().flat_map(|tls| tls.problems(listen.address)));
            if listen.proxy_protocol && self.trusted_proxies.is_empty() {
                problems.push(format!(
                    "[[listen]] {}: proxy_protocol needs trusted_proxies: name the addresses of the proxies, or any \
                     client could name any address as its own",
                    listen.address
                ));
            }
        }
        problems.extend(self.personium_problems(&spoken));
        problems.extend(self.wazo_problems(&spoken));
        problems.extend(self.channel.problems(spoken.contains(&Kind::Channel)));
        problems.extend(self.echo.problems(spoken.contains(&Kind::Echo)));
        problems.extend(self.store.problems(spoken.contains(&Kind::Pulsar)));
        problems.extend(self.pulsar.problems(spoken.contains(&Kind::Pulsar)));
        problems.extend(self.taken_twice());
        problems.extend(self.admin.iter().flat_map(AdminTable::problems));
        if unix::mode(&self.feed.unix.mode).is_none() {
            problems.push(format!(
                "feed.unix.mode: \"{}\" is not a file mode: write it in octal, like \"0660\"",
                self.feed.unix.mode
            ));
        }
        problems.extend(self.feed.amqp.problems());
        problems.extend(self.feed.redis.problems());
        problems.extend(self.without_redis());
        problems.extend(self.entangled_prefixes(&spoken));
        problems.extend(self.unsendable());
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
                "[wazo]: no token verifier: add token = { wazo_auth = { … } }, { jwt = { … } } or { static = { … } }, or \
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

    /// What is to go over Redis and has none, or is more than goes over it.
    fn without_redis(&self) -> Vec<String> {
        let (channel, redis) = (&self.channel, &self.feed.redis);
        let relays = channel.relay == Relay::Redis;
        let mut problems = Vec::new();
        if redis.url.is_none() && redis.url_file.is_none() {
            let wanting =
                [(relays, "channel.relay = \"redis\""), (self.echo.redis.is_some(), "[echo.redis]")];
            problems.extend(wanting.into_iter().filter(|(wants, _)| *wants).map(|(_, key)| {
                format!("{key} needs a Redis: write feed.redis.url or feed.redis.url_file, or leave it out")
            }));
        }
        if relays && channel.message_bytes_max > RELAYED_BYTES_MAX {
            problems.push(format!(
                "channel.message_bytes_max = {}: with relay = \"redis\" at most {RELAYED_BYTES_MAX}, or other daemons \
                 take no long messages",
                channel.message_bytes_max
            ));
        }
        problems
    }

    /// Prefixes of two applications of one Redis, of which one begins like the other: what is published under the longer
    /// one comes under the shorter one too.
    fn entangled_prefixes(&self, spoken: &[Kind]) -> Option<String> {
        let (channel, echo) = (&self.feed.redis.prefix, &self.echo.redis.as_ref()?.prefix);
        let has_channel = spoken.contains(&Kind::Channel) || self.channel.relay == Relay::Redis;
        let begins = channel.starts_with(echo.as_str()) || echo.starts_with(channel.as_str());
        (has_channel && spoken.contains(&Kind::Echo) && channel != echo && begins).then(|| {
            format!(
                "feed.redis.prefix = {channel:?} and echo.redis.prefix = {echo:?}: one begins like the other, so events \
                 of one application could reach pages of the other; write the same where it is one application, and \
                 otherwise give one of them another REDIS_PREFIX"
            )
        })
    }

    /// Limits of Echo's apps that promise what no client could be sent.
    fn unsendable(&self) -> Vec<String> {
        let outbox = self.limits.outbox_bytes_max;
        let mut problems = Vec::new();
        for app in &self.echo.app {
            let name = format!("[[echo.app]] {:?}", app.id);
            let list = app.list_bytes();
            if list > outbox {
                problems.push(format!(
                    "{name}: the list of {} members of {} bytes each may come to {list} bytes, but limits.outbox_bytes_max \
                     is {outbox}: raise that, or lower presence_members_max or member_bytes_max",
                    app.presence_members_max, app.member_bytes_max
                ));
            }
            let event = app.event_bytes();
            if event > outbox {
                problems.push(format!(
                    "{name}: an event may come to {event} bytes, but limits.outbox_bytes_max is {outbox}, so one event \
                     could close every client: raise that, or lower data_bytes_max or request_bytes_max"
                ));
            }
        }
        problems
    }

    /// Limits that let nothing in, or too much.
    fn senseless_sizes(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let partial_bytes_max = self.limits.partial_bytes_max;
        let of_apps = self.echo.app.iter().flat_map(|app| {
            [
                ("echo.app.message_bytes_max", app.message_bytes_max),
                ("echo.app.request_bytes_max", app.request_bytes_max),
            ]
        });
        let longest = [
            ("limits.head_bytes_max", self.limits.head_bytes_max),
            ("personium.text_bytes_max", self.personium.text_bytes_max),
            ("wazo.message_bytes_max", self.wazo.message_bytes_max),
            ("channel.message_bytes_max", self.channel.message_bytes_max),
        ];
        if let Some((key, value)) = longest.into_iter().chain(of_apps).find(|it| it.1 > partial_bytes_max) {
            problems.push(format!(
                "limits.partial_bytes_max ({partial_bytes_max}) is less than {key} ({value}): nothing so long could \
                 come whole; raise it"
            ));
        }
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
            ("channel.message_bytes_max", self.channel.message_bytes_max),
        ] {
            if value > MESSAGE_BYTES_MAX {
                problems.push(format!("{key} = {value}: at most {MESSAGE_BYTES_MAX}"));
            }
        }
        let outbox = self.limits.outbox_bytes_max;
        for (key, value) in [
            ("feed.unix.line_bytes_max", self.feed.unix.line_bytes_max),
            ("channel.message_bytes_max", self.channel.message_bytes_max),
        ] {
            if outbox < value {
                problems.push(format!(
                    "limits.outbox_bytes_max ({outbox}) is less than {key} ({value}): one event could close every client"
                ));
            }
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
                "[personium]: no token verifier: add token = { jwt = { … } }, { introspection = { … } } or { static = { … } }, or \
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
                start(glob, 64)
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

impl AdminTable {
    /// What is wrong with its token.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.token.is_some() && self.token_file.is_some() {
            problems.push("[admin] has both token and token_file: keep one".into());
        }
        if let Some(Err(problem)) = self.token.as_ref().map(AdminToken::check) {
            problems.push(format!("[admin] token {problem}"));
        }
        problems
    }
}

impl TlsTable {
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
