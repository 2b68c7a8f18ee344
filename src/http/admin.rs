//! What the admin listener answers: health, readiness, and what operators ask about topics.

mod readiness;
mod topics;

pub use self::topics::{AdminToken, Asking, TopicCall, answer, call};

use super::response::{TEXT, response};
use super::status::DaemonStatus;

/// Answers a request to the admin listener, but for the metrics; HEAD asks as GET.
#[must_use]
pub fn admin(asking: &Asking<'_>, status: &DaemonStatus) -> Vec<u8> {
    let (code, body) = match asking.path {
        _ if asking.method != "GET" => {
            return response(
                405,
                "Allow: GET, HEAD\r\n",
                TEXT,
                "Only GET and HEAD are answered here.\n",
            );
        }
        "/healthz" => readiness::health(status),
        "/readyz" => readiness::readiness(asking.query, status),
        _ => (404, "Here are /healthz, /readyz, /metrics and, with a token, /topics.\n".into()),
    };
    response(code, "", TEXT, &body)
}
