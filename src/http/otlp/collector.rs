//! The collector that is exported to, from the configuration's table.

use crate::endpoint::Endpoint;
use core::time::Duration;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use schemars::JsonSchema;
use std::path::PathBuf;

/// Headers of a request: a collector wants a token, and a proxy before it perhaps another.
const HEADERS_MAX: usize = 16;

/// The collector of OpenTelemetry, to which metrics and ended sessions are sent. No [otlp], no
/// export.
// The sample has this text, where brackets are those of TOML.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpSettings {
    /// The URL of its OTLP receiver over HTTP; /v1/metrics and /v1/traces are added.
    #[schemars(example = &"http://127.0.0.1:4318")]
    pub url: String,
    /// Seconds between exports.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default = "interval_s")]
    pub interval_s: u32,
    /// Whether each ended session, and each refusal, is sent as a span.
    #[serde(default)]
    pub traces: bool,
    /// A file with headers for each request, a line for each, such as `Authorization: Bearer …`.
    /// Let it belong to the daemon's user with mode 0400.
    #[schemars(example = &"/etc/fanfare/otlp.headers")]
    pub headers_file: Option<PathBuf>,
}

fn interval_s() -> u32 {
    15
}

/// The collector, and what is sent to it.
pub struct Otlp {
    /// The URL that the paths of OTLP are below.
    pub endpoint: Endpoint,
    /// Headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The time between exports.
    pub interval: Duration,
    /// Whether it gets ended sessions too.
    pub traces: bool,
}

impl Otlp {
    /// An exporter by its settings and the text of its file of headers.
    ///
    /// # Errors
    /// What is wrong with them; a header's value is not quoted.
    pub fn new(settings: &OtlpSettings, headers: Option<&str>) -> Result<Self, String> {
        let endpoint = Endpoint::new(&settings.url).map_err(|error| format!("otlp.{error}"))?;
        if endpoint.has_query() {
            return Err("otlp.url has a query (?); leave it out, fanfare adds its own path".into());
        }

        let lines = headers.unwrap_or_default().lines().filter(|line| !line.trim().is_empty());
        let headers = lines.enumerate().map(|(index, line)| {
            let problem =
                || format!("otlp.headers_file: line {} is no header; write Name: value", index + 1);
            let (name, value) = line.split_once(':').ok_or_else(problem)?;
            let mut value: HeaderValue = value.trim().parse().map_err(|_| problem())?;
            value.set_sensitive(true);
            Ok((name.trim().parse().map_err(|_| problem())?, value))
        });
        let headers = headers.collect::<Result<Vec<_>, String>>()?;
        if headers.len() > HEADERS_MAX {
            return Err(format!("otlp.headers_file has more than {HEADERS_MAX} headers"));
        }
        let interval = Duration::from_secs(settings.interval_s.into());
        Ok(Self { endpoint, headers, interval, traces: settings.traces })
    }

    /// The request that sends a body to a path of OTLP.
    ///
    /// # Errors
    /// When the URL with the path is none.
    pub fn request(&self, path: &str, body: String) -> Result<Request<String>, http::Error> {
        let mut request =
            Request::post(self.endpoint.below(path)).header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str, headers: &str) -> String {
        let settings =
            OtlpSettings { url: url.into(), interval_s: 15, traces: false, headers_file: None };
        Otlp::new(&settings, Some(headers)).err().unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_told_without_what_is_secret() {
        let url = "http://127.0.0.1:4318";
        assert_eq!(problem(url, "Authorization: Bearer x\n\nX-Scope:y\n"), "");
        assert!(problem("127.0.0.1:4318", "").starts_with("otlp.url begins with neither"));
        assert!(problem("http://h:1/?a=b", "").contains("otlp.url has a query"));
        let wrong = problem(url, "Authorization: ok\nBearer secret\n");
        assert_eq!(wrong, "otlp.headers_file: line 2 is no header; write Name: value");
        assert!(problem(url, "A: b\u{1}secret").contains("line 1 is no header"));
        assert!(problem(url, &"A: b\n".repeat(HEADERS_MAX + 1)).contains("more than 16 headers"));
    }
}
