//! What is readable but cannot run, each with what to do.

use super::tables::{AdminTable, Config, TlsTable};
use crate::dialect::RedisChannels;
use crate::dialect::table::DialectTable;
use crate::dialect::{ClaimedPaths, Kind};
use crate::feed::unix;
use crate::http::AdminToken;
use std::net::SocketAddr;

/// Maximum number of listeners.
const LISTENERS_MAX: usize = 64;

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
                Ok(kinds) => {
                    problems.extend(rivals(&kinds).map(|names| {
                        format!(
                            "[[listen]] {}: {names} both take /?token=…: give each a listener of its own",
                            listen.address
                        )
                    }));
                    spoken.extend(kinds);
                }
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
        let outbox_bytes_max = self.limits.outbox_bytes_max;
        let tables = self.dialects().into_iter();
        problems.extend(tables.flat_map(|table| table.outbox_problems(outbox_bytes_max)));
        problems.extend(self.senseless_sizes());
        problems.extend(self.out_of_range.iter().cloned());
        problems
    }
}

impl Config {
    /// What is to go over Redis and has none.
    fn without_redis(&self) -> Vec<String> {
        let redis = &self.feed.redis;
        if redis.url.is_some() || redis.url_file.is_some() {
            return Vec::new();
        }
        let wanting = self.dialects().into_iter().filter_map(DialectTable::needs_redis);
        let problem = |key: &str| {
            format!(
                "{key} needs a Redis: write feed.redis.url or feed.redis.url_file, or leave it out"
            )
        };
        wanting.map(problem).collect()
    }

    /// Prefixes of two applications of one Redis, of which one begins like the other: what is published under the longer
    /// one comes under the shorter one too.
    fn entangled_prefixes(&self, spoken: &[Kind]) -> Option<String> {
        let mut prefixes: Vec<(String, String)> = Vec::new();
        for table in self.dialects() {
            let is_spoken = Kind::of_table(table).any(|kind| spoken.contains(&kind));
            match table.redis_source().map(|source| source.channels) {
                Some(RedisChannels::Named(_)) if is_spoken || table.relay().is_some() => {
                    prefixes.push(("feed.redis.prefix".into(), self.feed.redis.prefix.clone()));
                }
                Some(RedisChannels::Under(prefix, _)) if is_spoken => {
                    prefixes.push((format!("{}.redis.prefix", table.name()), prefix));
                }
                _ => {}
            }
        }
        let entangled = |a: &str, b: &str| a != b && (a.starts_with(b) || b.starts_with(a));
        let mut pairs = prefixes.iter().enumerate().flat_map(|(place, first)| {
            prefixes[place + 1..].iter().map(move |second| (first, second))
        });
        let ((key, prefix), (other_key, other)) =
            pairs.find(|(first, second)| entangled(&first.1, &second.1))?;
        Some(format!(
            "{key} = {prefix:?} and {other_key} = {other:?}: one begins like the other, so events of one application \
             could reach pages of the other; write the same where it is one application, and otherwise give one of \
             them another REDIS_PREFIX"
        ))
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
        let line = self.feed.unix.line_bytes_max;
        if outbox < line {
            problems.push(format!(
                "limits.outbox_bytes_max ({outbox}) is less than feed.unix.line_bytes_max ({line}): one event could \
                 close every client"
            ));
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

/// The names of two dialects that one listener cannot tell apart: both take `/`.
fn rivals(kinds: &[Kind]) -> Option<String> {
    let mut rivals = kinds.iter().filter(|kind| kind.paths() != ClaimedPaths::Own);
    let (first, second) = (rivals.next()?, rivals.next()?);
    Some(format!("{} and {}", second.name(), first.name()))
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
