//! Metrics and ended sessions as OTLP, the protocol of OpenTelemetry, in its JSON encoding.
//!
//! The metrics are those of the page of metrics, read from its OpenMetrics text, so that no metric
//! is declared twice; names and units follow OpenTelemetry's mapping of OpenMetrics ("Prometheus and
//! OpenMetrics Compatibility"). The JSON is the mapping of protobuf with ids in hexadecimal digits
//! (OTLP 1.0, "JSON Protobuf Encoding").

mod collector;

pub use self::collector::{Otlp, OtlpSettings};

use super::metrics::Facts;
use super::status::DaemonStatus;
use crate::dialect::Kind;
use crate::digest;
use crate::inspect::SessionEnd;
use serde_json::{Map, Value, json};
use std::fmt;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: a value counts from the start.
const CUMULATIVE: u32 = 2;
/// `SPAN_KIND_SERVER`.
const SERVER: u32 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// What all exports of a process say about it.
#[derive(Clone, Debug)]
pub struct OtlpResource {
    /// `service.instance.id`: distinguishes it from other daemons, and from earlier processes.
    pub instance: Box<str>,
    /// Its start, in nanoseconds of unix time.
    pub started_ns: u64,
}

impl OtlpResource {
    fn json(&self) -> Value {
        json!({ "attributes": [
            text("service.name", "fanfare"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &self.instance),
        ] })
    }
}

/// The body of a request to `/v1/metrics`: all metrics at this moment, in nanoseconds of unix time.
///
/// # Errors
/// When the page of metrics cannot be written.
pub fn metrics(
    status: &DaemonStatus,
    facts: &Facts,
    resource: &OtlpResource,
    now_ns: u64,
) -> Result<String, fmt::Error> {
    let page = super::metrics::openmetrics(status, facts)?;
    let scope =
        json!({ "scope": scope(), "metrics": families(&page, resource.started_ns, now_ns) });
    let body =
        json!({ "resourceMetrics": [{ "resource": resource.json(), "scopeMetrics": [scope] }] });
    Ok(body.to_string())
}

/// The body of a request to `/v1/traces`: a span for each ended session, and for each refusal.
#[must_use]
pub fn spans(ends: &[SessionEnd], resource: &OtlpResource) -> String {
    let spans: Vec<Value> = ends.iter().map(|end| span(end, resource)).collect();
    let scope = json!({ "scope": scope(), "spans": spans });
    json!({ "resourceSpans": [{ "resource": resource.json(), "scopeSpans": [scope] }] }).to_string()
}

fn scope() -> Value {
    json!({ "name": "fanfare", "version": env!("CARGO_PKG_VERSION") })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn whole(key: &str, value: u64) -> Value {
    // 64 bits are a string in JSON, whose numbers are not exact.
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn span(end: &SessionEnd, resource: &OtlpResource) -> Value {
    let (end_ns, age_ns) = (end.at_ms * 1_000_000, u64::from(end.age_s) * 1_000_000_000);
    // From what distinguishes the session, so that a repeated request repeats the ids.
    let id = end.id.map(|id| id.to_string()).unwrap_or_default();
    let remote = end.remote.map(|remote| remote.to_string()).unwrap_or_default();
    let name = format!("{} {id} {remote} {end_ns} {}", resource.instance, end.reason.name());
    let digest = digest::sha256(name.as_bytes());

    let mut attributes = vec![text("fanfare.reason", end.reason.name())];
    attributes.extend(end.kind.map(|kind| text("fanfare.dialect", kind.name())));
    attributes.extend(end.id.map(|_| text("session.id", &id)));
    attributes.extend(end.remote.map(|remote| text("client.address", &remote.ip.to_string())));
    if !end.subject.is_empty() {
        attributes.push(text("enduser.id", &end.subject));
    }
    if !end.is_refusal {
        attributes.push(whole("fanfare.sent_bytes", end.bytes_out.into()));
    }
    attributes.extend(end.code.map(|code| whole("fanfare.code", code.into())));

    let dialect = end.kind.map_or("connection", Kind::name);
    let mut span = json!({
        "traceId": hex(&digest[..16]),
        "spanId": hex(&digest[16..24]),
        "name": format!("{dialect} {}", if end.is_refusal { "refusal" } else { "session" }),
        "kind": SERVER,
        "startTimeUnixNano": (end_ns - age_ns.min(end_ns)).to_string(),
        "endTimeUnixNano": end_ns.to_string(),
        "attributes": attributes,
    });
    if end.is_refusal {
        span["status"] = json!({ "code": ERROR, "message": end.why() });
    }
    span
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A family of metrics on the page.
#[derive(Default)]
struct MetricFamily<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    unit: &'a str,
    samples: Vec<MetricSample<'a>>,
}

/// A line of the page: what follows the family's name, the labels and the value.
struct MetricSample<'a> {
    suffix: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

/// The metrics of a page in OpenMetrics.
fn families(page: &str, started_ns: u64, now_ns: u64) -> Vec<Value> {
    let mut metrics = Vec::new();
    let mut family = MetricFamily::default();
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), rest) => {
                if name != family.name {
                    metrics.extend(std::mem::take(&mut family).json(started_ns, now_ns));
                    family.name = name;
                }
                match what {
                    "HELP" => family.help = rest.unwrap_or_default(),
                    "TYPE" => family.kind = rest.unwrap_or_default(),
                    _ => family.unit = rest.unwrap_or_default(),
                }
            }
            _ => {
                if let Some(rest) = line.strip_prefix(family.name) {
                    family.samples.extend(MetricSample::read(rest));
                }
            }
        }
    }
    metrics.extend(family.json(started_ns, now_ns));
    metrics
}

impl<'a> MetricSample<'a> {
    /// Reads a line without the family's name: `_total{label="value"} 7`.
    fn read(line: &'a str) -> Option<Self> {
        let (head, value) = line.rsplit_once(' ')?;
        let (suffix, mut rest) = head.split_once('{').unwrap_or((head, "}"));
        let mut labels = Vec::new();
        while let Some((label, after)) = rest.split_once("=\"") {
            let (value, length) = quoted(after)?;
            labels.push((label.trim_start_matches(','), value));
            rest = &after[length..];
        }
        Some(Self { suffix, labels, value })
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }

    /// The attributes and times of a data point.
    fn point(&self, started_ns: u64, now_ns: u64) -> Map<String, Value> {
        let attributes: Vec<Value> =
            self.labels.iter().map(|(label, value)| text(label, value)).collect();
        let mut point = Map::new();
        point.insert("attributes".into(), attributes.into());
        point.insert("startTimeUnixNano".into(), started_ns.to_string().into());
        point.insert("timeUnixNano".into(), now_ns.to_string().into());
        point
    }
}

/// The value of a label, up to its closing quote, and its length with the quote.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, index + 1)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            _ => value.push(character),
        }
    }
    None
}

impl MetricFamily<'_> {
    /// The metric; `None` for a family without samples, as the end of the page is.
    fn json(self, started_ns: u64, now_ns: u64) -> Option<Value> {
        let number = |sample: &MetricSample<'_>| {
            let mut point = sample.point(started_ns, now_ns);
            match sample.value.parse::<i64>() {
                Ok(_) => point.insert("asInt".into(), sample.value.into()),
                Err(_) => point.insert("asDouble".into(), sample.value.parse::<f64>().ok()?.into()),
            };
            Some(Value::from(point))
        };
        let data = match self.kind {
            _ if self.samples.is_empty() => return None,
            "counter" => {
                let points: Vec<Value> = self.samples.iter().filter_map(number).collect();
                let sum = json!({
                    "aggregationTemporality": CUMULATIVE,
                    "isMonotonic": true,
                    "dataPoints": points,
                });
                ("sum", sum)
            }
            "histogram" => ("histogram", self.histogram(started_ns, now_ns)),
            _ => {
                let points: Vec<Value> = self.samples.iter().filter_map(number).collect();
                ("gauge", json!({ "dataPoints": points }))
            }
        };

        let mut metric = Map::new();
        metric.insert("name".into(), self.name.into());
        metric.insert("description".into(), self.help.trim_end_matches('.').into());
        metric.insert("unit".into(), unit(self.unit).into());
        metric.insert(data.0.into(), data.1);
        Some(metric.into())
    }

    /// A histogram without labels of its own, whose buckets the page accumulates.
    fn histogram(&self, started_ns: u64, now_ns: u64) -> Value {
        let (mut bounds, mut counts, mut before) = (Vec::new(), Vec::new(), 0);
        let mut point = Map::new();
        for sample in &self.samples {
            match (sample.suffix, sample.label("le")) {
                ("_bucket", Some(bound)) => {
                    let count: u64 = sample.value.parse().unwrap_or(before);
                    counts.push((count - before).to_string());
                    before = count;
                    // The last bucket is all above the highest bound.
                    bounds.extend(bound.parse::<f64>().ok().filter(|bound| bound.is_finite()));
                }
                ("_count", _) => {
                    point.append(&mut sample.point(started_ns, now_ns));
                    point.insert("count".into(), sample.value.into());
                }
                ("_sum", _) => {
                    let sum = sample.value.parse::<f64>().unwrap_or_default();
                    point.insert("sum".into(), sum.into());
                }
                _ => {}
            }
        }
        point.insert("explicitBounds".into(), bounds.into());
        point.insert("bucketCounts".into(), counts.into());
        json!({ "aggregationTemporality": CUMULATIVE, "dataPoints": [point] })
    }
}

/// A unit of OpenMetrics in the words of UCUM, which OpenTelemetry uses.
fn unit(open: &str) -> &str {
    match open {
        "seconds" => "s",
        "bytes" => "By",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Remote;
    use crate::reason::Reason;
    use crate::service::ConnectionRef;

    const PAGE: &str = "\
# HELP fanfare_events Events received, by feed and outcome.
# TYPE fanfare_events counter
fanfare_events_total{feed=\"unix\",outcome=\"a \\\"b\\\\\\nc, d=\"} 7
fanfare_events_total{feed=\"http\",outcome=\"ok\"} 9
# HELP fanfare_outbox_bytes Bytes that wait.
# TYPE fanfare_outbox_bytes gauge
# UNIT fanfare_outbox_bytes bytes
fanfare_outbox_bytes 12
# HELP fanfare_write_seconds Time.
# TYPE fanfare_write_seconds histogram
# UNIT fanfare_write_seconds seconds
fanfare_write_seconds_sum 0.5
fanfare_write_seconds_count 6
fanfare_write_seconds_bucket{le=\"0.001\"} 1
fanfare_write_seconds_bucket{le=\"0.01\"} 4
fanfare_write_seconds_bucket{le=\"+Inf\"} 6
# TYPE process_cpu_seconds counter
# UNIT process_cpu_seconds seconds
process_cpu_seconds_total 1.25
# EOF
";

    #[test]
    fn a_page_of_metrics_becomes_the_metrics_of_otlp() {
        let metrics = families(PAGE, 1, 2);
        let names: Vec<&str> = metrics.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "fanfare_events",
                "fanfare_outbox_bytes",
                "fanfare_write_seconds",
                "process_cpu_seconds"
            ]
        );

        let points = &metrics[0]["sum"]["dataPoints"];
        assert_eq!(points[0]["asInt"], "7");
        assert_eq!(points[0]["attributes"][1], text("outcome", "a \"b\\\nc, d="));
        assert_eq!(
            (&points[1]["startTimeUnixNano"], &points[1]["timeUnixNano"]),
            (&"1".into(), &"2".into())
        );
        assert_eq!(metrics[0]["description"], "Events received, by feed and outcome");
        assert_eq!(metrics[1]["gauge"]["dataPoints"][0]["asInt"], "12");
        assert_eq!(metrics[1]["unit"], "By");
        assert_eq!(metrics[3]["sum"]["dataPoints"][0]["asDouble"], 1.25);
    }

    #[test]
    fn buckets_count_what_is_in_each_alone() {
        let metrics = families(PAGE, 1, 2);
        let point = &metrics[2]["histogram"]["dataPoints"][0];
        assert_eq!(point["bucketCounts"], json!(["1", "3", "2"]));
        assert_eq!(point["explicitBounds"], json!([0.001, 0.01]));
        assert_eq!((&point["count"], &point["sum"]), (&"6".into(), &0.5.into()));
    }

    #[test]
    fn a_session_is_a_span_whose_ids_are_its_own() {
        let resource = OtlpResource { instance: "one".into(), started_ns: 1 };
        let id = |serial| Some(ConnectionRef { shard: 0, id: 7, serial });
        let end = |serial| SessionEnd {
            id: id(serial),
            at_ms: 90_000,
            kind: Some(Kind::ALL[0]),
            remote: Some(Remote::at([192, 0, 2, 1].into())),
            subject: "ann".into(),
            reason: Reason::Slow,
            detail: "".into(),
            code: Some(1013),
            age_s: 60,
            bytes_out: 512,
            is_refusal: false,
        };
        let body: Value = serde_json::from_str(&spans(&[end(1), end(2)], &resource)).unwrap();
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["startTimeUnixNano"], "30000000000");
        assert_eq!(spans[0]["endTimeUnixNano"], "90000000000");
        assert_eq!(spans[0]["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(spans[0]["spanId"].as_str().unwrap().len(), 16);
        assert_ne!(spans[0]["traceId"], spans[1]["traceId"]);
        assert!(spans[0].get("status").is_none(), "an end is no error");

        let again: Value = serde_json::from_str(&super::spans(&[end(1)], &resource)).unwrap();
        assert_eq!(again["resourceSpans"][0]["scopeSpans"][0]["spans"][0], spans[0]);
    }

    #[test]
    fn a_refusal_is_a_span_with_an_error() {
        let resource = OtlpResource { instance: "one".into(), started_ns: 1 };
        let refusal = SessionEnd {
            id: None,
            at_ms: 5,
            kind: None,
            remote: None,
            subject: "".into(),
            reason: Reason::NotFound,
            detail: "no such path".into(),
            code: Some(404),
            age_s: 1,
            bytes_out: 0,
            is_refusal: true,
        };
        let span = span(&refusal, &resource);
        assert_eq!(span["status"], json!({ "code": ERROR, "message": "no such path" }));
        assert_eq!(span["startTimeUnixNano"], "0", "no time is before that of unix");
        assert_eq!(span["name"], "connection refusal");
    }
}
