//! Responses of the API: JSON, also for errors.

use crate::http::admin::access::AdminRefusal;
use crate::http::response::response;
use schemars::JsonSchema;
use serde::Serialize;

/// Why a request is refused, or failed.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Error<'a> {
    /// A sentence for people.
    pub(super) error: &'a str,
}

/// A whole response of the API.
pub(super) fn respond(status: u16, headers: &str, body: &impl Serialize) -> Vec<u8> {
    // Values of ours always have a form in JSON.
    let body = serde_json::to_string(body).unwrap_or_default();
    response(status, &format!("Cache-Control: no-store\r\n{headers}"), "application/json", &body)
}

/// The response of an error.
#[must_use]
pub fn failed(status: u16, reason: &str) -> Vec<u8> {
    respond(status, "", &V1Error { error: reason })
}

pub(super) fn refuse(refusal: &AdminRefusal) -> Vec<u8> {
    let body = V1Error { error: &refusal.reason };
    respond(refusal.status, &refusal.headers, &body)
}
