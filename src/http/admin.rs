//! The admin listener's answers: health, readiness, operators' questions about topics and the
//! cluster, and their API.

mod access;
mod cluster;
mod console;
mod readiness;
mod request;
mod topics;
pub mod v1;

pub use self::access::{AdminToken, AdminTokens, answer};
pub use self::cluster::ClusterCall;
pub use self::request::AdminRequest;
pub use self::topics::TopicCall;
pub use self::v1::V1Call;

use self::access::AdminRight;
use super::response::{TEXT, response};
use super::status::DaemonStatus;

/// A call of an operator.
#[derive(Debug)]
pub enum AdminCall {
    /// About topics.
    Topic(TopicCall),
    /// About the cluster.
    Cluster(ClusterCall),
    /// A request to the API.
    V1(V1Call),
}

/// Parses a request that may need the token of `[admin]`; `None` when it is about the daemon's
/// health.
///
/// # Errors
/// The whole response that refuses the request.
pub fn call(
    request: &AdminRequest<'_>,
    tokens: &AdminTokens,
) -> Option<Result<AdminCall, Vec<u8>>> {
    if let Some(call) = v1::call(request, tokens) {
        return Some(call.map(AdminCall::V1));
    }
    let is_topics = topics::name_of(request.path).is_some();
    if !is_topics && !request.path.starts_with("/cluster") {
        return None;
    }
    // Before anything else is looked at, so that a stranger learns nothing, not even which paths
    // there are.
    if let Err(refusal) = access::admit(request, tokens, AdminRight::All) {
        return Some(Err(refusal.sentence()));
    }

    if is_topics {
        return topics::call(request).map(|call| call.map(AdminCall::Topic));
    }
    cluster::call(request).map(|call| call.map(AdminCall::Cluster))
}

/// Answers a request to the admin listener that needs no token, other than for metrics; HEAD is read
/// as GET.
#[must_use]
pub fn admin(request: &AdminRequest<'_>, tokens: &AdminTokens, status: &DaemonStatus) -> Vec<u8> {
    let (code, body) = match request.path {
        // Nothing here changes the daemon, so no other method has a meaning.
        _ if request.method != "GET" => {
            return response(405, "Allow: GET, HEAD\r\n", TEXT, "Allowed methods: GET, HEAD.\n");
        }
        "/console" => return console::answer(request, tokens),
        "/healthz" => readiness::health(status),
        "/readyz" => readiness::readiness(request.query, status),
        _ => (
            404,
            "The paths are /healthz, /readyz, /metrics, /console and, with a token, /v1, /topics and \
             /cluster.\n"
                .into(),
        ),
    };
    response(code, "", TEXT, &body)
}
