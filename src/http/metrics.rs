//! The page of metrics: the counters of all threads added up, in OpenMetrics or in the older format
//! of Prometheus.

mod cluster;
mod facts;
mod family;

pub use self::facts::{ExportFacts, Facts, Process, Room};

use self::cluster::ClusterSnapshot;
use self::family::{Families, MetricValues};
use super::admin::AdminRequest;
use super::response::{TEXT, response};
use super::status::DaemonStatus;
use crate::counter::Counter;
use crate::dialect::{DialectTally, Kind};
use crate::metrics::{
    Broker, HandoverOutcome, LATENCY_BOUNDS_US, Metrics, Origin, Outcome, StatusClass,
};
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

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which every parser reads.
    Prometheus,
}

impl Exposition {
    /// The number of formats.
    pub const COUNT: usize = 2;

    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl AdminRequest<'_> {
    /// The format that a request for metrics asks for: OpenMetrics where `Accept` prefers it at
    /// least as much as plain text (RFC 9110 section 12.5.1). `None` when the request is for
    /// something else.
    #[must_use]
    pub fn exposition(&self) -> Option<Exposition> {
        if self.path != "/metrics" || self.method != "GET" {
            return None;
        }

        let open = quality(self.accept, &["application/openmetrics-text"]);
        // Without Accept both are 0: such a client may know the older format alone.
        let is_open = open > 0.0 && open >= quality(self.accept, &["text/plain", "text/*", "*/*"]);
        Some(if is_open { Exposition::OpenMetrics } else { Exposition::Prometheus })
    }
}

/// The highest quality that an `Accept` header gives any of these types; 0 when it has none of
/// them.
fn quality(accept: &str, types: &[&str]) -> f32 {
    let mut highest = 0f32;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if types.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            let given = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            highest = highest.max(given.unwrap_or(1.0));
        }
    }
    highest
}

/// The response with the page of metrics.
#[must_use]
pub fn metrics(form: Exposition, status: &DaemonStatus, facts: &Facts) -> Vec<u8> {
    let text = match form {
        Exposition::OpenMetrics => openmetrics(status, facts),
        Exposition::Prometheus => openmetrics(status, facts).map(|text| classic(&text)),
    };
    match text {
        Ok(text) => response(200, "Vary: Accept\r\n", form.content_type(), &text),
        Err(error) => {
            response(500, "", TEXT, &format!("the metrics could not be written: {error}\n"))
        }
    }
}

/// The page in OpenMetrics.
pub(super) fn openmetrics(status: &DaemonStatus, facts: &Facts) -> Result<String, Error> {
    use prometheus_client::encoding::text::{encode_eof, encode_registry};

    let mut registry = Registry::with_prefix("fanfare");
    let (threads, waiting) = (status.threads.clone(), status.waiting);
    let hung = status.hung.len() as u64;
    registry.register_collector(Box::new(Snapshot { threads, waiting, hung }));
    if let Some(cluster) = &status.cluster {
        registry.register_collector(Box::new(ClusterSnapshot(Arc::clone(cluster))));
    }
    registry.register_collector(Box::new(facts.clone()));
    // Dashboards expect `process_…` without a prefix.
    let mut everywhere = Registry::default();
    everywhere.register_collector(Box::new(facts.process.clone()));

    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    encode_registry(&mut text, &everywhere)?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// An OpenMetrics page in the older format, in which a counter's family has the name of its
/// samples, and neither units nor an end are written.
fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Held until the type tells whether the name needs the suffix.
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            // A description belongs to the family that follows it, and a family may have none.
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

/// The counters at the moment of a scrape, which the registry encodes through [`Collector`].
#[derive(Debug)]
struct Snapshot {
    threads: Vec<Arc<Metrics>>,
    waiting: u64,
    hung: u64,
}

impl Snapshot {
    fn sum(&self, number: impl Fn(&Metrics) -> &Counter) -> u64 {
        // Wrapping, as the counters are: one that is written by differences may be negative for a
        // moment.
        self.threads.iter().fold(0, |sum, metrics| sum.wrapping_add(number(metrics).get()))
    }

    fn one(&self, number: impl Fn(&Metrics) -> &Counter) -> MetricValues {
        family::one(self.sum(number))
    }

    fn by_broker(&self, number: impl Fn(&Broker) -> &Counter) -> MetricValues {
        let amqp = self.sum(|metrics| number(&metrics.amqp));
        let redis = self.sum(|metrics| number(&metrics.redis));
        vec![
            labelled("feed", Origin::Amqp.name(), amqp),
            labelled("feed", Origin::Redis.name(), redis),
        ]
    }

    fn of_redis(&self, number: impl Fn(&Metrics) -> &Counter) -> MetricValues {
        vec![labelled("feed", Origin::Redis.name(), self.sum(number))]
    }

    fn by_dialect(&self, numbers: impl Fn(&Metrics) -> &[Counter]) -> MetricValues {
        Kind::ALL
            .iter()
            .map(|kind| labelled("dialect", kind.name(), self.sum(|m| &numbers(m)[*kind as usize])))
            .collect()
    }

    /// What the sessions of each dialect have counted of these, by the word that the client was
    /// told, if it was.
    fn by_tally(&self, tallies: &[DialectTally]) -> MetricValues {
        let mut values = Vec::new();
        for kind in Kind::ALL {
            let counted = kind.tallies().iter().filter(|(tally, _)| tallies.contains(tally));
            for (tally, word) in counted {
                let word = Some(("type", *word)).filter(|(_, word)| !word.is_empty());
                let labels = [("dialect", kind.name())].into_iter().chain(word).collect();
                values.push((labels, self.sum(|m| &m.tallies[*kind as usize][*tally as usize])));
            }
        }
        values
    }

    fn by_reason(&self, numbers: impl Fn(&Metrics) -> &[Counter]) -> MetricValues {
        Reason::ALL
            .iter()
            .map(|reason| {
                labelled("reason", reason.name(), self.sum(|m| &numbers(m)[*reason as usize]))
            })
            .collect()
    }

    fn by_webhook(&self, numbers: impl Fn(&Metrics) -> &[Counter]) -> MetricValues {
        WebhookKind::ALL
            .iter()
            .map(|(kind, name)| labelled("kind", name, self.sum(|m| &numbers(m)[*kind as usize])))
            .collect()
    }

    fn gauges(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        out.gauge("connections", "Open sockets", self.sum(|m| &m.connections))?;
        let sessions = self.by_dialect(|m| &m.sessions);
        out.family(MetricType::Gauge, None, "sessions", "WebSocket sessions", sessions)?;
        out.gauge("subscriptions", "Subscriptions of sessions", self.sum(|m| &m.subscriptions))?;
        out.byte_gauge(
            "subscription",
            "Memory of subscriptions",
            self.sum(|m| &m.subscription_bytes),
        )?;
        let about = "Bytes that wait to be sent";
        out.byte_gauge("outbox", about, self.sum(|m| &m.outbox_bytes))?;
        let about = "Memory of incomplete requests and messages";
        out.byte_gauge("partial", about, self.sum(|m| &m.partial_bytes))?;
        out.gauge("publishers", "Open connections of publishers", self.sum(|m| &m.publishers))?;

        // Without a broker there is no connection that an alert could be about.
        let configured = self.by_broker(|broker| &broker.configured);
        let connected = self.by_broker(|broker| &broker.connected).into_iter().zip(configured);
        let connected = connected.filter(|(_, (_, configured))| *configured > 0);
        let connected = connected.map(|(connected, _)| connected).collect();
        let about = "Whether the feed is connected to its broker";
        out.family(MetricType::Gauge, None, "feed_connected", about, connected)?;

        out.gauge("hung_threads", "Hung threads", self.hung)?;
        out.gauge(
            "mailbox_depth",
            "Publications and messages between threads that wait for shards",
            self.waiting,
        )
    }

    fn counters(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let mut events = Vec::new();
        for (origin, feed) in Origin::ALL {
            for (outcome, name) in Outcome::ALL {
                let value = self.sum(|m| &m.events[origin as usize][outcome as usize]);
                events.push((vec![("feed", feed), ("outcome", name)], value));
            }
        }
        out.counter("events", "Events received, by feed and outcome", events)?;
        let deliveries = self.by_dialect(|m| &m.deliveries);
        out.counter("deliveries", "Events delivered to sessions", deliveries)?;
        let denied = self.by_dialect(|m| &m.acl_denied);
        out.counter("acl_denied", "Deliveries denied by the access rules of a token", denied)?;
        out.counter(
            "messages",
            "Messages received from clients",
            self.by_dialect(|m| &m.messages),
        )?;

        let handshakes = Handshake::ALL.map(|(end, name)| {
            labelled("outcome", name, self.sum(|m| &m.handshakes[end as usize]))
        });
        out.counter("handshakes", "Handshakes, by outcome", handshakes.into())?;
        let ends = self.by_reason(|m| &m.ends);
        out.counter("session_ends", "Ended sessions, by reason", ends)?;
        let about = "Refused connections, handshakes and requests, by reason";
        out.counter("refusals", about, self.by_reason(|m| &m.refusals))?;

        let about = "Bytes sent, before encryption";
        out.byte_counter("sent", about, self.sum(|m| &m.bytes_out))?;
        let about = "Bytes received, after decryption";
        out.byte_counter("received", about, self.sum(|m| &m.bytes_in))?;
        let about = "Failed accepts for lack of descriptors or memory";
        out.counter("accept_errors", about, self.one(|m| &m.accept_errors))?;
        let about = "Requests to the admin listener displaced by newer ones";
        out.counter("admin_displaced", about, self.one(|m| &m.admin_displaced))?;
        let about =
            "Connections ended because incomplete requests and messages took too much memory";
        out.counter("partial_evictions", about, self.one(|m| &m.partial_evictions))?;
        let about = "Deliveries to a subscription without a session, which is a bug in fanfare";
        out.counter("orphaned_subscriptions", about, self.one(|m| &m.orphaned_subscriptions))?;
        let about = "Replies dropped because their publisher does not read";
        out.counter("feed_replies_dropped", about, self.one(|m| &m.replies_dropped))
    }

    fn handovers(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let outcomes =
            [(HandoverOutcome::Taken, "taken"), (HandoverOutcome::GivenBack, "given_back")];
        let outcomes = outcomes.map(|(outcome, name)| {
            labelled("outcome", name, self.sum(|m| &m.handovers[outcome as usize]))
        });
        out.counter("handover", "Hand-overs, by outcome", outcomes.into())?;
        let sessions = vec![
            labelled("outcome", "passed", self.sum(|m| &m.handover_passed)),
            labelled("outcome", "told", self.sum(|m| &m.handover_told)),
        ];
        let about = "Connections at the start by a hand-over: passed, or told to come back";
        out.counter("handover_sessions", about, sessions)?;
        let about = "Pause of all clients at the start by a hand-over";
        out.time_gauge("handover_pause", about, self.sum(|m| &m.handover_pause_us))
    }

    fn brokers(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let about = "Lost connections to the broker";
        out.counter("feed_losses", about, self.by_broker(|broker| &broker.losses))?;
        let about = "Attempts to reconnect to the broker";
        out.counter("feed_reconnects", about, self.by_broker(|broker| &broker.reconnects))?;
        let about = "Messages of the feed that belong to no dialect";
        out.counter("feed_messages_ignored", about, self.of_redis(|m| &m.messages_ignored))?;
        let about = "Messages of the feed dropped because shards had no room";
        out.counter("feed_messages_dropped", about, self.of_redis(|m| &m.messages_dropped))?;
        let relays = vec![
            labelled("outcome", "sent", self.sum(|m| &m.relays_sent)),
            labelled("outcome", "lost", self.sum(|m| &m.relays_lost)),
        ];
        out.counter("relays", "Messages of clients relayed to other daemons, by outcome", relays)
    }

    fn tallies(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let about = "Ignored messages of an unknown kind";
        out.counter("messages_ignored", about, self.by_tally(&[DialectTally::Ignored]))?;
        let errors = self.by_tally(&[
            DialectTally::Unauthorized,
            DialectTally::BadName,
            DialectTally::OverLimit,
        ]);
        let about = "Refused subscriptions, by the error type that the client got";
        out.counter("subscription_errors", about, errors)?;
        let about = "Refused client events";
        out.counter("client_events_refused", about, self.by_tally(&[DialectTally::ClientEvent]))
    }

    fn requests(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let mut requests = Vec::new();
        for kind in Kind::ALL {
            for (class, name) in StatusClass::ALL {
                let value = self.sum(|m| &m.requests[*kind as usize][class as usize]);
                requests.push((vec![("dialect", kind.name()), ("status", name)], value));
            }
        }
        out.counter("requests", "HTTP requests answered by dialects, by status", requests)
    }

    fn verifiers(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let outcomes = CheckOutcome::ALL.map(|(outcome, name)| {
            labelled("outcome", name, self.sum(|m| &m.verification.checks[outcome as usize]))
        });
        let about = "Token checks by remote verifiers, by outcome";
        out.counter("token_checks", about, outcomes.into())?;
        let requests = self.one(|m| &m.verification.requests);
        out.counter("token_check_requests", "Requests to remote verifiers", requests)?;
        let about = "Requests to remote verifiers that failed";
        out.counter("token_check_failures", about, self.one(|m| &m.verification.failures))?;
        let in_flight = self.sum(|m| &m.verification.requests_in_flight);
        let about = "Requests to remote verifiers in flight";
        out.gauge("token_check_requests_in_flight", about, in_flight)?;
        let about = "Sessions whose token a remote verifier checks or has granted";
        out.gauge("token_check_sessions", about, self.sum(|m| &m.verification.sessions))?;
        let about = "Tokens that remote verifiers check again from time to time";
        out.gauge("tokens_watched", about, self.sum(|m| &m.verification.tokens_watched))?;
        let about = "Sessions whose token a remote verifier has revoked";
        out.counter("token_revocations", about, self.one(|m| &m.verification.revocations))
    }

    /// Not labelled by app or webhook, of which there may be very many.
    fn webhooks(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let mut webhooks = Vec::new();
        for (kind, name) in WebhookKind::ALL {
            for (delivery, outcome) in WebhookOutcome::ALL {
                let value = self.sum(|m| &m.webhooks.outcomes[kind as usize][delivery as usize]);
                webhooks.push((vec![("kind", name), ("outcome", outcome)], value));
            }
        }
        out.counter("webhooks", "Webhooks, by kind and outcome", webhooks)?;
        let retries = self.by_webhook(|m| &m.webhooks.retries);
        out.counter("webhook_retries", "Retried requests with webhooks", retries)?;
        let waiting = self.by_webhook(|m| &m.webhooks.waiting);
        let about = "Webhooks waiting or in flight";
        out.family(MetricType::Gauge, None, "webhooks_waiting", about, waiting)
    }

    /// The metrics of the store, if there is one.
    fn store(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        if self.sum(|m| &m.store.configured) == 0 {
            return Ok(());
        }

        // One failing writer of several is enough.
        let is_failing = u64::from(self.sum(|m| &m.store.failing) > 0);
        let about = "Whether writing to the store of durable topics fails";
        out.gauge("store_failing", about, is_failing)?;
        self.topics(out)?;
        let about = "Messages appended to durable topics";
        out.counter("store_messages", about, self.one(|m| &m.store.messages))?;
        out.byte_counter(
            "store_appended",
            "Bytes of messages appended to durable topics",
            self.sum(|m| &m.store.bytes),
        )?;
        let about = "Bytes written to the store";
        out.byte_counter("store_written", about, self.sum(|m| &m.store.written))?;
        let about = "Bytes of messages copied to delete old segments";
        out.byte_counter("store_compacted", about, self.sum(|m| &m.store.compacted))?;
        let about = "Damaged places of the store, whose messages are skipped";
        out.counter("store_damages", about, self.one(|m| &m.store.damaged))?;

        let about = "Time to commit a group of messages to the disk";
        let counts = |m: &Metrics, index: usize| m.store.commits[index].get();
        self.histogram(out, ("store_commit", about), counts, self.sum(|m| &m.store.commits_sum_ns))
    }

    fn topics(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let topics = vec![
            labelled("state", "stored", self.sum(|m| &m.store.topics)),
            labelled("state", "loaded", self.sum(|m| &m.store.topics_loaded)),
        ];
        let about = "Durable topics: all, and those loaded into memory";
        out.family(MetricType::Gauge, None, "topics", about, topics)?;
        let clients = vec![
            labelled("role", "producer", self.sum(|m| &m.store.producers)),
            labelled("role", "consumer", self.sum(|m| &m.store.consumers)),
        ];
        let about = "Producers and consumers of durable topics";
        out.family(MetricType::Gauge, None, "topic_clients", about, clients)?;
        let expired = vec![
            labelled("what", "topic", self.sum(|m| &m.store.idle)),
            labelled("what", "subscription", self.sum(|m| &m.store.expired)),
        ];
        let about = "Unused topics and subscriptions that were deleted";
        out.counter("topic_expiries", about, expired)?;
        let messages = vec![
            labelled("outcome", "refused", self.sum(|m| &m.store.refused)),
            labelled("outcome", "acknowledged", self.sum(|m| &m.store.acknowledged)),
            labelled("outcome", "redelivered", self.sum(|m| &m.store.redelivered)),
            labelled("outcome", "dead_letter", self.sum(|m| &m.store.dead)),
        ];
        out.counter("topic_messages", "Messages of durable topics, by outcome", messages)
    }

    fn log(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let lines = LogLine::ALL.iter().map(|line| labelled("line", line.name(), line.count()));
        let about = "Occurrences of rate-limited log lines, whether written or not";
        out.counter("log_events", about, lines.collect())
    }

    fn latency(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let about = "Time from receiving an event to a shard's last write of it";
        let counts = |m: &Metrics, index: usize| m.latency[index].get();
        self.histogram(out, ("publish_to_write", about), counts, self.sum(|m| &m.latency_sum_ns))
    }

    fn histogram(
        &self,
        out: &mut Families<'_, '_>,
        (name, about): (&str, &str),
        counts: impl Fn(&Metrics, usize) -> u64,
        sum_ns: u64,
    ) -> Result<(), Error> {
        // The encoder accumulates the buckets itself; the last one is all above the highest bound.
        let bounds = LATENCY_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6);
        let counts = (0..=LATENCY_BOUNDS_US.len()).map(|index| {
            self.threads.iter().fold(0u64, |sum, metrics| sum.wrapping_add(counts(metrics, index)))
        });
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|bucket| bucket.1).sum();
        out.0
            .encode_descriptor(name, about, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum_ns as f64 / 1e9, count, &buckets, None)
    }
}

/// A value with one label.
fn labelled(
    label: &'static str,
    name: &'static str,
    value: u64,
) -> (Vec<(&'static str, &'static str)>, u64) {
    (vec![(label, name)], value)
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let out = &mut Families(&mut encoder);
        self.gauges(out)?;
        self.counters(out)?;
        self.handovers(out)?;
        self.brokers(out)?;
        self.tallies(out)?;
        self.requests(out)?;
        self.verifiers(out)?;
        self.webhooks(out)?;
        self.store(out)?;
        self.log(out)?;
        self.latency(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bucket_has_everything() {
        let threads = vec![std::sync::Arc::new(Metrics::default())];
        threads[0].latency(3_000_000);
        threads[0].latency(u64::MAX / 2);
        let status = DaemonStatus { threads, ..DaemonStatus::default() };
        let text = openmetrics(&status, &Facts::default()).unwrap();
        let all = "fanfare_publish_to_write_seconds_bucket{le=\"+Inf\"} 2";
        assert!(text.lines().any(|line| line == all), "{text}");
    }

    fn form(accept: &str) -> Option<Exposition> {
        AdminRequest { method: "GET", path: "/metrics", accept, ..AdminRequest::default() }
            .exposition()
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
            AdminRequest { method: "GET", path: "/readyz", ..AdminRequest::default() }.exposition(),
            None
        );
        assert_eq!(
            AdminRequest { method: "POST", path: "/metrics", ..AdminRequest::default() }
                .exposition(),
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
