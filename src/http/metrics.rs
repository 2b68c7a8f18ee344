//! The counters of all shards, added up, in the OpenMetrics text format or in the older one of Prometheus.

mod facts;
mod family;

pub use self::facts::{AppFacts, Facts, Process, Room};

use self::family::family;
use super::admin::Asking;
use super::response::{TEXT, response};
use super::status::DaemonStatus;
use crate::counter::Counter;
use crate::dialect::{Kind, Tally};
use crate::metrics::{Broker, LATENCY_BOUNDS_US, Metrics, Origin, Outcome, StatusClass};
use crate::reason::{Handshake, Reason};
use crate::service::verification::CheckOutcome;
use crate::service::webhook::{WebhookKind, WebhookOutcome};
use crate::throttle::LogLine;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::Error;
use std::sync::Arc;

/// A form of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which every parser reads.
    Prometheus,
}

impl Exposition {
    /// How many there are.
    pub const COUNT: usize = 2;

    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Asking<'_> {
    /// The form in which the metrics are asked for, if they are: OpenMetrics for whoever likes that at least as much as
    /// plain text (RFC 9110 section 12.5.1).
    #[must_use]
    pub fn exposition(&self) -> Option<Exposition> {
        let asks = self.path == "/metrics" && self.method == "GET";
        let likes = |types: &[&str]| {
            let ranges = self.accept.split(',').map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
                (name, quality.unwrap_or(1.0))
            });
            let ours =
                ranges.filter(|(name, _)| types.iter().any(|ours| name.eq_ignore_ascii_case(ours)));
            ours.fold(0.0, |most: f32, (_, quality)| most.max(quality))
        };
        let open = likes(&["application/openmetrics-text"]);
        let is_open = open > 0.0 && open >= likes(&["text/plain", "text/*", "*/*"]);
        asks.then_some(if is_open { Exposition::OpenMetrics } else { Exposition::Prometheus })
    }
}

/// The page of metrics.
#[must_use]
pub fn metrics(form: Exposition, status: &DaemonStatus, facts: &Facts) -> Vec<u8> {
    let text = match form {
        Exposition::OpenMetrics => text(status, facts),
        Exposition::Prometheus => text(status, facts).map(|text| classic(&text)),
    };
    match text {
        Ok(text) => response(200, "Vary: Accept\r\n", form.content_type(), &text),
        Err(error) => {
            response(500, "", TEXT, &format!("the metrics could not be written: {error}\n"))
        }
    }
}

/// The whole text, in OpenMetrics.
fn text(status: &DaemonStatus, facts: &Facts) -> Result<String, Error> {
    use prometheus_client::encoding::text::{encode_eof, encode_registry};
    let mut registry = Registry::with_prefix("fanfare");
    let (shards, waiting) = (status.shards.clone(), status.waiting);
    let hung = status.hung.len() as u64;
    registry.register_collector(Box::new(Snapshot { shards, waiting, hung }));
    registry.register_collector(Box::new(facts.clone()));
    // What every process tells has the same name everywhere.
    let mut everywhere = Registry::default();
    everywhere.register_collector(Box::new(facts.process.clone()));
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    encode_registry(&mut text, &everywhere)?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// The same in the older format: there a counter's family is named as its samples are, and units and the end are not
/// told.
fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                text += &format!("# HELP {name}{suffix} {help}\n");
            }
            text += &format!("# TYPE {name}{suffix} {kind}\n");
            continue;
        }
        text += line;
        text.push('\n');
    }
    text
}

#[derive(Debug)]
struct Snapshot {
    shards: Vec<Arc<Metrics>>,
    waiting: u64,
    hung: u64,
}

type Labels = Vec<(&'static str, &'static str)>;

impl Snapshot {
    fn sum(&self, number: impl Fn(&Metrics) -> &Counter) -> u64 {
        self.shards.iter().fold(0, |sum, metrics| sum.wrapping_add(number(metrics).get()))
    }

    fn one(&self, number: impl Fn(&Metrics) -> &Counter) -> Vec<(Labels, u64)> {
        vec![(vec![], self.sum(number))]
    }

    fn by_broker(&self, number: impl Fn(&Broker) -> &Counter) -> Vec<(Labels, u64)> {
        let of = |origin: Origin, value| (vec![("feed", Origin::ALL[origin as usize].1)], value);
        vec![
            of(Origin::Amqp, self.sum(|metrics| number(&metrics.amqp))),
            of(Origin::Redis, self.sum(|metrics| number(&metrics.redis))),
        ]
    }

    fn of_redis(&self, number: impl Fn(&Metrics) -> &Counter) -> Vec<(Labels, u64)> {
        vec![(vec![("feed", Origin::ALL[Origin::Redis as usize].1)], self.sum(number))]
    }

    fn by_dialect(&self, numbers: impl Fn(&Metrics) -> &[Counter]) -> Vec<(Labels, u64)> {
        let value = |kind: Kind| self.sum(|metrics| &numbers(metrics)[kind as usize]);
        Kind::ALL.iter().map(|&kind| (vec![("dialect", kind.name())], value(kind))).collect()
    }

    fn by_reason(&self, numbers: impl Fn(&Metrics) -> &[Counter]) -> Vec<(Labels, u64)> {
        let value = |reason: Reason| self.sum(|metrics| &numbers(metrics)[reason as usize]);
        Reason::ALL.iter().map(|&reason| (vec![("reason", reason.name())], value(reason))).collect()
    }

    fn gauges(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let gauge = MetricType::Gauge;
        family(out, gauge, None, "connections", "Open sockets", self.one(|m| &m.connections))?;
        family(
            out,
            gauge,
            None,
            "sessions",
            "WebSocket sessions",
            self.by_dialect(|m| &m.sessions),
        )?;
        family(
            out,
            gauge,
            None,
            "subscriptions",
            "Entries of the tries",
            self.one(|m| &m.subscriptions),
        )?;
        family(
            out,
            gauge,
            Some(&Unit::Bytes),
            "subscription",
            "Memory of the tries",
            self.one(|m| &m.subscription_bytes),
        )?;
        family(
            out,
            gauge,
            Some(&Unit::Bytes),
            "outbox",
            "Bytes waiting for slow sockets",
            self.one(|m| &m.outbox_bytes),
        )?;
        let about = "Memory for requests and messages that have come in part";
        family(out, gauge, Some(&Unit::Bytes), "partial", about, self.one(|m| &m.partial_bytes))?;
        family(
            out,
            gauge,
            None,
            "publishers",
            "Open connections of publishers",
            self.one(|m| &m.publishers),
        )?;
        // Without a broker there is nothing to be connected to, and nothing to be warned of.
        let configured =
            self.by_broker(|broker| &broker.configured).into_iter().map(|(_, value)| value > 0);
        let connected = self.by_broker(|broker| &broker.connected).into_iter().zip(configured);
        let connected =
            connected.filter_map(|(value, configured)| configured.then_some(value)).collect();
        family(
            out,
            gauge,
            None,
            "feed_connected",
            "Whether events come from the broker",
            connected,
        )?;
        let about = "Threads that have not turned for seconds";
        family(out, gauge, None, "hung_threads", about, facts::one(self.hung))?;
        family(
            out,
            gauge,
            None,
            "mailbox_depth",
            "Events waiting for shards",
            facts::one(self.waiting),
        )
    }

    fn counters(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let counter = MetricType::Counter;
        let mut events = Vec::new();
        for (origin, feed) in Origin::ALL {
            for (outcome, name) in Outcome::ALL {
                let value = self.sum(|m| &m.events[origin as usize][outcome as usize]);
                events.push((vec![("feed", feed), ("outcome", name)], value));
            }
        }
        family(out, counter, None, "events", "Events taken, by feed and outcome", events)?;
        family(
            out,
            counter,
            None,
            "deliveries",
            "Events handed to sessions",
            self.by_dialect(|m| &m.deliveries),
        )?;
        family(
            out,
            counter,
            None,
            "acl_denied",
            "Events that a token kept from a session",
            self.by_dialect(|m| &m.acl_denied),
        )?;
        family(
            out,
            counter,
            None,
            "messages",
            "Messages of clients",
            self.by_dialect(|m| &m.messages),
        )?;
        let handshakes = Handshake::ALL.map(|(end, name)| {
            (vec![("outcome", name)], self.sum(|m| &m.handshakes[end as usize]))
        });
        family(out, counter, None, "handshakes", "Handshakes, by outcome", handshakes.into())?;
        let ends = self.by_reason(|m| &m.ends);
        family(out, counter, None, "session_ends", "Sessions that have ended, by reason", ends)?;
        let about = "Connections, handshakes and requests that were refused, by reason";
        family(out, counter, None, "refusals", about, self.by_reason(|m| &m.refusals))?;
        let bytes = Some(&Unit::Bytes);
        family(
            out,
            counter,
            bytes,
            "sent",
            "Bytes given to sockets, before TLS",
            self.one(|m| &m.bytes_out),
        )?;
        family(
            out,
            counter,
            bytes,
            "received",
            "Bytes taken from sockets, after TLS",
            self.one(|m| &m.bytes_in),
        )?;
        family(
            out,
            counter,
            None,
            "accept_errors",
            "Accepts that failed for want of descriptors or memory",
            self.one(|m| &m.accept_errors),
        )?;
        let about = "Unfinished requests to the admin listener that were ended for newcomers";
        family(out, counter, None, "admin_displaced", about, self.one(|m| &m.admin_displaced))?;
        family(
            out,
            counter,
            None,
            "feed_replies_dropped",
            "Replies dropped because their publisher does not read",
            self.one(|m| &m.replies_dropped),
        )
    }

    fn brokers(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let counter = MetricType::Counter;
        let losses = self.by_broker(|broker| &broker.losses);
        family(
            out,
            counter,
            None,
            "feed_losses",
            "Connections to the broker that were lost",
            losses,
        )?;
        let reconnects = self.by_broker(|broker| &broker.reconnects);
        family(
            out,
            counter,
            None,
            "feed_reconnects",
            "Attempts to connect to the broker again",
            reconnects,
        )?;
        let about = "Messages of the feed that were meant for others";
        family(
            out,
            counter,
            None,
            "feed_messages_ignored",
            about,
            self.of_redis(|m| &m.messages_ignored),
        )?;
        let about = "Messages of the feed that were dropped because the shards had no room";
        family(
            out,
            counter,
            None,
            "feed_messages_dropped",
            about,
            self.of_redis(|m| &m.messages_dropped),
        )?;
        let about = "Messages of clients, for other daemons, by outcome";
        let outcome = |name, number| (vec![("outcome", name)], number);
        let sent = outcome("sent", self.sum(|m| &m.relays_sent));
        let lost = outcome("lost", self.sum(|m| &m.relays_lost));
        family(out, counter, None, "relays", about, vec![sent, lost])
    }

    fn refusals(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let counter = MetricType::Counter;
        let about = "Connections ended because all together had sent too much in part";
        family(out, counter, None, "partial_evictions", about, self.one(|m| &m.partial_evictions))?;
        let orphaned = self.one(|m| &m.orphaned_subscriptions);
        let about = "Events that met a subscription without a session, which is a fault of fanfare";
        family(out, counter, None, "orphaned_subscriptions", about, orphaned)?;
        let echo = ("dialect", Kind::Echo.name());
        let of = |tally: Tally| self.sum(|m| &m.tallies[tally as usize]);
        let about = "Messages of an unknown kind, which were ignored";
        family(
            out,
            counter,
            None,
            "messages_ignored",
            about,
            vec![(vec![echo], of(Tally::Ignored))],
        )?;
        let types = [
            ("AuthError", Tally::Unauthorized),
            ("InvalidChannel", Tally::BadName),
            ("LimitReached", Tally::OverLimit),
        ];
        let errors = types.map(|(name, tally)| (vec![echo, ("type", name)], of(tally)));
        let about = "Subscriptions that were refused, by the type that the client was told";
        family(out, counter, None, "subscription_errors", about, errors.into())?;
        let refused = vec![(vec![echo], of(Tally::ClientEvent))];
        let about = "Events of clients for other clients that were refused";
        family(out, counter, None, "client_events_refused", about, refused)
    }

    fn requests(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut requests = Vec::new();
        for kind in Kind::ALL {
            for (class, name) in StatusClass::ALL {
                let value = self.sum(|m| &m.requests[*kind as usize][class as usize]);
                requests.push((vec![("dialect", kind.name()), ("status", name)], value));
            }
        }
        family(
            out,
            MetricType::Counter,
            None,
            "requests",
            "HTTP requests that dialects answered",
            requests,
        )
    }

    fn verifiers(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        let outcomes = CheckOutcome::ALL.map(|(outcome, name)| {
            (vec![("outcome", name)], self.sum(|m| &m.verification.checks[outcome as usize]))
        });
        let about = "Questions of sessions for remote verifiers, by outcome";
        family(out, counter, None, "token_checks", about, outcomes.into())?;
        let about = "Requests to remote verifiers";
        family(
            out,
            counter,
            None,
            "token_check_requests",
            about,
            self.one(|m| &m.verification.requests),
        )?;
        let about = "Requests to remote verifiers without an answer that can be understood";
        family(
            out,
            counter,
            None,
            "token_check_failures",
            about,
            self.one(|m| &m.verification.failures),
        )?;
        let about = "Requests to remote verifiers under way";
        family(
            out,
            gauge,
            None,
            "token_check_requests_in_flight",
            about,
            self.one(|m| &m.verification.requests_in_flight),
        )?;
        let about = "Sessions that wait for a remote verifier or live on its grant";
        family(
            out,
            gauge,
            None,
            "token_check_sessions",
            about,
            self.one(|m| &m.verification.sessions),
        )?;
        let about = "Tokens that remote verifiers are asked about from time to time";
        family(
            out,
            gauge,
            None,
            "tokens_watched",
            about,
            self.one(|m| &m.verification.tokens_watched),
        )?;
        let about = "Sessions whose grant a remote verifier has taken back";
        family(
            out,
            counter,
            None,
            "token_revocations",
            about,
            self.one(|m| &m.verification.revocations),
        )
    }

    /// Not by app or webhook: there may be very many.
    fn webhooks(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut webhooks = Vec::new();
        for (kind, name) in WebhookKind::ALL {
            for (delivery, outcome) in WebhookOutcome::ALL {
                let value = self.sum(|m| &m.webhooks.outcomes[kind as usize][delivery as usize]);
                webhooks.push((vec![("kind", name), ("outcome", outcome)], value));
            }
        }
        let by_kind = |numbers: &dyn Fn(&Metrics) -> &[Counter]| {
            let value = |kind: WebhookKind| self.sum(|metrics| &numbers(metrics)[kind as usize]);
            WebhookKind::ALL.map(|(kind, name)| (vec![("kind", name)], value(kind))).to_vec()
        };
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        family(
            out,
            counter,
            None,
            "webhooks",
            "WaitingWebhooks to other services, by kind and outcome",
            webhooks,
        )?;
        let about = "Requests with webhooks that were made again";
        family(out, counter, None, "webhook_retries", about, by_kind(&|m| &m.webhooks.retries))?;
        let about = "WaitingWebhooks that wait or are under way";
        family(out, gauge, None, "webhooks_waiting", about, by_kind(&|m| &m.webhooks.waiting))
    }

    /// Nothing without a store.
    fn store(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        if self.sum(|m| &m.store.configured) == 0 {
            return Ok(());
        }
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        let about = "Whether the store of the durable topics cannot be written";
        // What one of several writers cannot store is enough.
        let is_failing = u64::from(self.sum(|m| &m.store.failing) > 0);
        family(out, gauge, None, "store_failing", about, vec![(Labels::new(), is_failing)])?;
        self.topics(out)?;
        let about = "Messages that were appended to durable topics";
        family(out, counter, None, "store_messages", about, self.one(|m| &m.store.messages))?;
        let bytes = Some(&Unit::Bytes);
        family(
            out,
            counter,
            bytes,
            "store_appended",
            "Bytes of them",
            self.one(|m| &m.store.bytes),
        )?;
        let about = "Bytes written for them and for everything else that the store keeps";
        family(out, counter, bytes, "store_written", about, self.one(|m| &m.store.written))?;
        let about = "Bytes of messages copied so that old segments could go";
        family(out, counter, bytes, "store_compacted", about, self.one(|m| &m.store.compacted))?;
        let about = "Places of the store that are damaged, where messages are left out";
        family(out, counter, None, "store_damages", about, self.one(|m| &m.store.damaged))?;
        let about = "From the end of a group of messages to its being safe";
        let counts = |m: &Metrics, index: usize| m.store.commits[index].get();
        self.histogram(out, ("store_commit", about), counts, self.sum(|m| &m.store.commits_sum_ns))
    }

    fn topics(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        let of = |name, value, number: &dyn Fn(&Metrics) -> &Counter| {
            (vec![(name, value)], self.sum(number))
        };
        let topics = vec![
            of("state", "stored", &|m| &m.store.topics),
            of("state", "loaded", &|m| &m.store.topics_loaded),
        ];
        family(out, gauge, None, "topics", "Durable topics, and those of them in memory", topics)?;
        let clients = vec![
            of("role", "producer", &|m| &m.store.producers),
            of("role", "consumer", &|m| &m.store.consumers),
        ];
        family(out, gauge, None, "topic_clients", "Who takes part in durable topics", clients)?;
        let expired = vec![
            of("what", "topic", &|m| &m.store.idle),
            of("what", "subscription", &|m| &m.store.expired),
        ];
        let about = "Topics and subscriptions that went by themselves because nobody used them";
        family(out, counter, None, "topic_expiries", about, expired)?;
        let messages = vec![
            of("outcome", "refused", &|m| &m.store.refused),
            of("outcome", "acknowledged", &|m| &m.store.acknowledged),
            of("outcome", "redelivered", &|m| &m.store.redelivered),
            of("outcome", "dead_letter", &|m| &m.store.dead),
        ];
        let about = "What has become of messages of durable topics";
        family(out, counter, None, "topic_messages", about, messages)
    }

    fn log(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let lines =
            LogLine::ALL.iter().map(|line| (vec![("line", line.name())], line.count())).collect();
        let about =
            "Occurrences of what is logged at a limited rate, whether a line was written or not";
        family(out, MetricType::Counter, None, "log_events", about, lines)
    }

    fn latency(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let about = "From taking an event to the end of a shard's last write of it";
        let counts = |m: &Metrics, index: usize| m.latency[index].get();
        self.histogram(out, ("publish_to_write", about), counts, self.sum(|m| &m.latency_sum_ns))
    }

    fn histogram(
        &self,
        out: &mut DescriptorEncoder<'_>,
        (name, about): (&str, &str),
        counts: impl Fn(&Metrics, usize) -> u64,
        sum_ns: u64,
    ) -> Result<(), Error> {
        let bounds =
            LATENCY_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let all = |index| {
            self.shards.iter().fold(0u64, |sum, metrics| sum.wrapping_add(counts(metrics, index)))
        };
        let counts = (0..=LATENCY_BOUNDS_US.len()).map(all);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|bucket| bucket.1).sum();
        out.encode_descriptor(name, about, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum_ns as f64 / 1e9, count, &buckets, None)
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        self.gauges(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.brokers(&mut encoder)?;
        self.refusals(&mut encoder)?;
        self.requests(&mut encoder)?;
        self.verifiers(&mut encoder)?;
        self.webhooks(&mut encoder)?;
        self.store(&mut encoder)?;
        self.log(&mut encoder)?;
        self.latency(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bucket_has_everything() {
        let shards = vec![std::sync::Arc::new(Metrics::default())];
        shards[0].latency(3_000_000);
        shards[0].latency(u64::MAX / 2);
        let status = DaemonStatus { shards, ..DaemonStatus::default() };
        let text = text(&status, &Facts::default()).unwrap();
        let all = "fanfare_publish_to_write_seconds_bucket{le=\"+Inf\"} 2";
        assert!(text.lines().any(|line| line == all), "{text}");
    }

    fn form(accept: &str) -> Option<Exposition> {
        Asking { method: "GET", path: "/metrics", accept, ..Asking::default() }.exposition()
    }

    #[test]
    fn the_form_is_the_one_that_is_liked_more() {
        use Exposition::{OpenMetrics, Prometheus};
        // What Prometheus 2 and 3 send, and what curl and browsers do.
        for (accept, expected) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Prometheus),
            ("text/plain;version=0.0.4", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6, */*; q=0.1",
                OpenMetrics,
            ),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.2", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
        ] {
            assert_eq!(form(accept), Some(expected), "{accept}");
        }
        assert_eq!(
            Asking { method: "GET", path: "/readyz", ..Asking::default() }.exposition(),
            None
        );
        assert_eq!(
            Asking { method: "POST", path: "/metrics", ..Asking::default() }.exposition(),
            None
        );
    }

    #[test]
    fn in_the_older_form_a_counter_is_named_as_its_samples() {
        let open = "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 1\n\
                    # HELP b B.\n# TYPE b gauge\nb{x=\"# EOF\"} 2\n# EOF\n";
        let classic = classic(open);
        let expected = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\na_bytes_total 1\n\
                        # HELP b B.\n# TYPE b gauge\nb{x=\"# EOF\"} 2\n";
        assert_eq!(classic, expected);
    }
}
