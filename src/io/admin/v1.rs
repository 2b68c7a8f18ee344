//! Answers to requests of the operators' API.

use super::{Hub, publishing};
use crate::http::{V1Call, v1};
use crate::inspect::{Kick, KickTarget};
use crate::io::asking::Inspector;

/// Answers a request.
pub(super) async fn answer(call: V1Call, hub: &Hub, inspector: &Inspector) -> Vec<u8> {
    match call {
        V1Call::OpenApi => v1::document(),
        V1Call::Status => v1::status(&hub.status()),
        V1Call::Limits => v1::limits(&hub.status(), &hub.facts().await),
        V1Call::Sessions(list) => match inspector.list(list).await {
            Ok((rows, next)) => v1::sessions(&rows, next),
            Err(silent) => v1::failed(503, &silent.to_string()),
        },
        V1Call::Session(session) => match inspector.one(session).await {
            Ok(Some(detail)) => v1::session(&detail),
            Ok(None) => v1::failed(404, "there is no such session: it may have ended"),
            Err(silent) => v1::failed(503, &silent.to_string()),
        },
        V1Call::Publish(order) => publishing::publish(&order, hub).await,
        V1Call::Kick(target, kick) => end(target, &kick, inspector).await,
    }
}

/// Ends sessions, and leaves a trace of it in the log.
async fn end(target: KickTarget, kick: &Kick, inspector: &Inspector) -> Vec<u8> {
    let is_one = matches!(target, KickTarget::One(_));
    match inspector.kick(target, kick).await {
        Ok(0) if is_one => v1::failed(404, "there is no such session: it may have ended"),
        Ok(count) => {
            tracing::info!("an operator has ended {count} sessions");
            v1::kicked(count)
        }
        Err(silent) => v1::failed(503, &format!("{silent}; some sessions may have been ended")),
    }
}
