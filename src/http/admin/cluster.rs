//! Operators' requests about the cluster to the admin listener.
//!
//! ```text
//! GET  /cluster         the nodes, and who owns which partition
//! POST /cluster/drain   hands over what this node owns, until it is started again
//! ```

use super::access::refusal;
use super::request::AdminRequest;

/// A call about the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterCall {
    /// The nodes and partitions as this node sees them.
    Status,
    /// Hand over what this node owns.
    Drain,
}

/// Parses an admitted request about the cluster; `None` when it is about something else.
///
/// # Errors
/// The whole response that refuses the request.
pub(super) fn call(request: &AdminRequest<'_>) -> Option<Result<ClusterCall, Vec<u8>>> {
    let (call, method, allowed) = match request.path {
        "/cluster" => (ClusterCall::Status, "GET", "GET, HEAD"),
        "/cluster/drain" => (ClusterCall::Drain, "POST", "POST"),
        _ => return None,
    };
    if request.method != method {
        let reason = format!("{} allows {method} only", request.path);
        return Some(Err(refusal(405, &format!("Allow: {allowed}\r\n"), &reason)));
    }
    Some(Ok(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_got_and_a_drain_is_posted() {
        let ask = |method, path| {
            let request = AdminRequest { method, path, ..AdminRequest::default() };
            Some(call(&request)?.map_err(|refusal| refusal[9..12].to_vec()))
        };
        assert_eq!(ask("GET", "/cluster"), Some(Ok(ClusterCall::Status)));
        assert_eq!(ask("POST", "/cluster/drain"), Some(Ok(ClusterCall::Drain)));
        for (method, path) in [("POST", "/cluster"), ("GET", "/cluster/drain")] {
            assert_eq!(ask(method, path), Some(Err(b"405".into())), "{method} {path}");
        }
        assert_eq!(ask("GET", "/clusters"), None);
    }
}
