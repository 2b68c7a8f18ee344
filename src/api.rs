//! What the daemon says over HTTP: refusals of handshakes, health, readiness, metrics, and what operators may ask.
//!
//! Requests in, responses out; who listens and who writes is `io`'s business.

mod exposition;
mod readiness;
mod response;
mod status;
mod topics;

pub use self::exposition::{AppFacts, Exposition, Facts, Process, Room, metrics};
pub use self::response::{
    AnswerForm, CONTINUE, Persistence, content_type, put_answer, put_not_allowed, refusal, refusal_saying,
    response, speaks_tls, unserved, wants_proxy, without_body,
};
pub use self::status::{DaemonStatus, Gap};
pub use self::topics::{AdminToken, Asking, TopicCall, answer, call};

use self::response::TEXT;

/// Answers a request to the admin listener, but for the metrics; HEAD asks as GET.
#[must_use]
pub fn admin(asking: &Asking<'_>, status: &DaemonStatus) -> Vec<u8> {
    let (code, body) = match asking.path {
        _ if asking.method != "GET" => {
            return response(405, "Allow: GET, HEAD\r\n", TEXT, "Only GET and HEAD are answered here.\n");
        }
        "/healthz" => readiness::health(status),
        "/readyz" => readiness::readiness(asking.query, status),
        _ => (404, "Here are /healthz, /readyz, /metrics and, with a token, /topics.\n".into()),
    };
    response(code, "", TEXT, &body)
}
