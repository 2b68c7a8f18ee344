//! Configurations that parse and cannot work, each with advice.

use super::tables::{AdminTable, Config, TlsTable};
use crate::cluster::ClusterSettings;
use crate::dialect::RedisChannels;
use crate::dialect::config_table::DialectTable;
use crate::dialect::{ClaimedPaths, Kind};
use crate::feed::unix;
use crate::http::AdminToken;
use std::net::SocketAddr;

/// Maximum number of listeners.
const LISTENERS_MAX: usize = 64;

impl Config {
    /// The problems of a configuration that parses and cannot work, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.listen.is_empty() {
            problems.push("no listener: add a [[listen]] with address and dialects".into());
        }
        if self.listen.len() > LISTENERS_MAX {
            problems.push(format!("more than {LISTENERS_MAX} listeners: remove some"));
        }

        let mut spoken = Vec::new();
        for listen in &self.listen {
            match listen.kinds() {
                Err(problem) => problems.push(problem),
                Ok(kinds) if kinds.is_empty() => problems
                    .push(format!("[[listen]] {}: no dialects: name at least one", listen.address)),
                Ok(kinds) => {
                    // One path for two dialects: the first would get every client of the second.
                    problems.extend(rivals(&kinds).map(|names| {
                        format!(
                            "[[listen]] {}: {names} both take /?token=…: give each a listener of \
                             its own",
                            listen.address
                        )
                    }));
                    spoken.extend(kinds);
                }
            }
            problems.extend(listen.tls.iter().flat_map(|tls| tls.problems(listen.address)));
            if listen.proxy_protocol && self.trusted_proxies.is_empty() {
                problems.push(format!(
                    "[[listen]] {}: proxy_protocol needs trusted_proxies: name the addresses of \
                     the proxies, or any client could forge its address",
                    listen.address
                ));
            }
        }

        for table in self.dialects() {
            // What is missing matters only where the dialect is spoken.
            let is_spoken = Kind::of_table(table).any(|kind| spoken.contains(&kind));
            problems.extend(table.problems(is_spoken));
        }

        let with_topics = spoken.iter().find(|kind| kind.has_topics());
        problems.extend(self.store.problems(with_topics.map(|kind| kind.name())));
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
        problems.extend(self.cluster.iter().flat_map(ClusterSettings::problems));
        problems.extend(self.without_cluster());
        problems.extend(self.beside_cluster(&spoken));
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
    /// Settings that need a Redis while none is configured.
    fn without_redis(&self) -> Vec<String> {
        let redis = &self.feed.redis;
        if redis.url.is_some() || redis.url_file.is_some() {
            return Vec::new();
        }
        let uses = self.dialects().into_iter().filter_map(DialectTable::redis);
        uses.filter_map(|redis| redis.needed_by)
            .map(|key| {
                format!(
                    "{key} needs a Redis: set feed.redis.url or feed.redis.url_file, or remove it"
                )
            })
            .collect()
    }

    /// Settings that need other daemons while there are none.
    fn without_cluster(&self) -> Vec<String> {
        if self.cluster.is_some() {
            return Vec::new();
        }
        let needed = self.dialects().into_iter().filter_map(DialectTable::needs_cluster);
        needed
            .map(|key| format!("{key} needs other daemons: add [cluster], or remove it"))
            .collect()
    }

    /// Dialects that are spoken, and cannot be on the nodes of a cluster.
    fn beside_cluster(&self, spoken: &[Kind]) -> Vec<String> {
        if self.cluster.is_none() {
            return Vec::new();
        }
        let tables = self.dialects().into_iter();
        tables
            .filter(|table| Kind::of_table(*table).any(|kind| spoken.contains(&kind)))
            .filter_map(DialectTable::cluster_problem)
            .collect()
    }

    /// The prefixes of two applications of one Redis of which one begins like the other: events
    /// under the longer one also match the shorter one.
    fn entangled_prefixes(&self, spoken: &[Kind]) -> Option<String> {
        let mut prefixes: Vec<(String, String)> = Vec::new();
        for table in self.dialects() {
            let Some(redis) = table.redis() else { continue };
            let is_spoken = Kind::of_table(table).any(|kind| spoken.contains(&kind));
            match redis.source.map(|source| source.channels) {
                // The relay uses the feed's prefix even where the dialect has no listener.
                Some(RedisChannels::Named(_)) if is_spoken || redis.relay.is_some() => {
                    prefixes.push(("feed.redis.prefix".into(), self.feed.redis.prefix.clone()));
                }
                Some(RedisChannels::Under(prefix, _)) if is_spoken => {
                    prefixes.push((format!("{}.redis.prefix", table.name()), prefix));
                }
                _ => {}
            }
        }

        // Equal prefixes are one application, which two dialects may serve.
        let mut pairs = prefixes.iter().enumerate().flat_map(|(place, first)| {
            prefixes[place + 1..].iter().map(move |second| (first, second))
        });
        let ((key, prefix), (other_key, other)) =
            pairs.find(|((_, a), (_, b))| a != b && (a.starts_with(b) || b.starts_with(a)))?;
        Some(format!(
            "{key} = {prefix:?} and {other_key} = {other:?}: one begins like the other, so \
             events of one application could reach pages of the other; use the same prefix for \
             one application, or another REDIS_PREFIX for one of two"
        ))
    }

    /// Limits that contradict each other.
    fn senseless_sizes(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let partial_bytes_max = self.limits.partial_bytes_max;

        // A message is held until it is complete, and all of these share one budget.
        let head = ("limits.head_bytes_max", self.limits.head_bytes_max);
        let of_dialects = self.dialects().into_iter().flat_map(DialectTable::longest_messages);
        let longest = std::iter::once(head).chain(of_dialects);

        if let Some((key, value)) = longest.into_iter().find(|it| it.1 > partial_bytes_max) {
            problems.push(format!(
                "limits.partial_bytes_max ({partial_bytes_max}) is less than {key} ({value}): no \
                 message of that length could be received; raise it"
            ));
        }

        let outbox = self.limits.outbox_bytes_max;
        let line = self.feed.unix.line_bytes_max;
        // An event is about as long as its line, and a client whose outbox overflows is closed.
        if outbox < line {
            problems.push(format!(
                "limits.outbox_bytes_max ({outbox}) is less than feed.unix.line_bytes_max \
                 ({line}): one event could close every client; raise it, or lower the other"
            ));
        }
        problems
    }

    /// Addresses of two listeners.
    fn taken_twice(&self) -> Option<String> {
        let mut addresses: Vec<SocketAddr> =
            self.listen.iter().map(|listen| listen.address).collect();
        addresses.extend(self.admin.as_ref().map(|admin| admin.address));
        // Port 0 is a free port each time.
        addresses.retain(|address| address.port() != 0);
        addresses.sort();
        let twice = addresses.windows(2).find(|pair| pair[0] == pair[1])?;
        Some(format!(
            "two of [[listen]] and [admin] have the address {}: give each a port of its own",
            twice[0]
        ))
    }
}

/// The names of two dialects that one listener cannot tell apart, because both take `/`.
fn rivals(kinds: &[Kind]) -> Option<String> {
    let mut rivals = kinds.iter().filter(|kind| kind.paths() != ClaimedPaths::Own);
    let (first, second) = (rivals.next()?, rivals.next()?);
    Some(format!("{} and {}", second.name(), first.name()))
}

impl AdminTable {
    /// Problems of its token.
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
    /// Missing files, each with what to do.
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
                "[[listen]] {listen}: tls.client_certificate without tls.client_ca: name the \
                 file of the authority that signs the certificates of clients"
            ));
        }
        problems
    }
}
