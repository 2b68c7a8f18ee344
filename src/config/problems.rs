//! What is readable but cannot run, each with what to do.

use super::tables::{AdminTable, Config, TlsTable};
use crate::dialect::Kind;
use crate::dialect::channel::Relay;
use crate::dialect::table::DialectTable;
use crate::feed::redis::PAYLOAD_BYTES_MAX;
use crate::feed::unix;
use crate::http::AdminToken;
use std::net::SocketAddr;

/// Maximum number of listeners.
const LISTENERS_MAX: usize = 64;
/// Longest message of a client that is relayed: around it stand the channel's and the sender's name, and a token is
/// hardly longer than what is left for them.
const RELAYED_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 128 * 1024;

impl Config {
    /// What is readable but cannot run, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.listen.is_empty() {
            problems
                .push("nothing to listen on: add a [[listen]] with address and dialects".into());
        }
        if self.listen.len() > LISTENERS_MAX {
            problems.push(format!("more than {LISTENERS_MAX} listeners"));
        }
        let mut spoken = Vec::new();
        for listen in &self.listen {
            match listen.kinds() {
                Err(problem) => problems.push(problem),
                Ok(kinds) if kinds.is_empty() => problems
                    .push(format!("[[listen]] {}: no dialects: name at least one", listen.address)),
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
        for table in self.dialects() {
            problems.extend(
                table.problems(spoken.iter().any(|kind| table.dialects().contains(&kind.name()))),
            );
        }
        problems.extend(self.store.problems(spoken.iter().any(|kind| kind.has_topics())));
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
        problems.extend(self.out_of_range.iter().cloned());
        problems
    }
}

impl Config {
    /// What is to go over Redis and has none, or is more than goes over it.
    fn without_redis(&self) -> Vec<String> {
        let (channel, redis) = (&self.channel, &self.feed.redis);
        let relays = channel.relay == Relay::Redis;
        let mut problems = Vec::new();
        if redis.url.is_none() && redis.url_file.is_none() {
            let wanting = [
                (relays, "channel.relay = \"redis\""),
                (self.echo.redis.is_some(), "[echo.redis]"),
            ];
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

    /// Limits that contradict each other.
    fn senseless_sizes(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let partial_bytes_max = self.limits.partial_bytes_max;
        let head = ("limits.head_bytes_max", self.limits.head_bytes_max);
        let of_dialects = self.dialects().into_iter().flat_map(DialectTable::longest_messages);
        let longest = std::iter::once(head).chain(of_dialects);
        if let Some((key, value)) = longest.into_iter().find(|it| it.1 > partial_bytes_max) {
            problems.push(format!(
                "limits.partial_bytes_max ({partial_bytes_max}) is less than {key} ({value}): nothing so long could \
                 come whole; raise it"
            ));
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

    /// Addresses that are given to two listeners.
    fn taken_twice(&self) -> Option<String> {
        let mut addresses: Vec<SocketAddr> =
            self.listen.iter().map(|listen| listen.address).collect();
        addresses.extend(self.admin.as_ref().map(|admin| admin.address));
        // Port 0 is another one each time.
        addresses.retain(|address| address.port() != 0);
        addresses.sort();
        let twice = addresses.windows(2).find(|pair| pair[0] == pair[1])?;
        Some(format!(
            "{} stands in two of [[listen]] and [admin]: give each a port of its own",
            twice[0]
        ))
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
                problems.push(format!(
                    "[[listen]] {listen}: tls.{key} is missing: name the file of {what}"
                ));
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
