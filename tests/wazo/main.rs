//! Conversations with Wazo's websocketd, as data; `conversation` says how they are written.
//!
//! Here: the stage. `session`: from the request to the end, in both versions. `messages`: what clients may
//! say. `tokens`: who may, and until when. `events`: what is delivered to whom. `early`: what is said while a
//! remote verifier is being asked. `acl`: the lists, held against the rule that they come from.

#![allow(clippy::unwrap_used)]

#[path = "../conversation/mod.rs"]
mod conversation;

mod acl;
mod early;
mod events;
mod messages;
mod session;
mod tokens;

pub(crate) use conversation::{Bus, NOW_S, verifier};

/// Where the first client comes: a user of the tenant `t1`, in the version that is meant when none is named.
const PATH: &str = "/?token=ann";
const KIND: fanfare::dialect::Kind = fanfare::dialect::Kind::Wazo;
const HOST: &str = "wazo.example";

/// What most conversations need. `ann` and `bob` are users of one tenant, `eve` is of another; `root` has the
/// tenant of all tenants where the settings say so.
const TOKENS: &str = r##"
    [[token]]
    token = "ann"
    acl = ["websocketd", "events.calls.me.#", "events.all.#", "!events.all.secret"]
    sub = "ann-uuid"
    session_uuid = "ann-session"
    tenant_uuid = "t1"
    [[token]]
    token = "bob"
    acl = ["#"]
    sub = "bob-uuid"
    session_uuid = "bob-session"
    tenant_uuid = "t1"
    [[token]]
    token = "eve"
    acl = ["#"]
    sub = "eve-uuid"
    tenant_uuid = "t2"
    [[token]]
    token = "admin"
    acl = ["#"]
    sub = "admin-uuid"
    tenant_uuid = "t1"
    admin = true
    [[token]]
    token = "api"
    acl = ["#"]
    sub = "api-uuid"
    tenant_uuid = "t1"
    purpose = "external_api"
    [[token]]
    token = "root"
    acl = ["#"]
    sub = "root-uuid"
    tenant_uuid = "master"
    [[token]]
    token = "stranger"
    acl = ["events.#"]
    sub = "stranger-uuid"
    tenant_uuid = "t1"
    [[token]]
    token = "hundred seconds"
    acl = ["#"]
    sub = "brief-uuid"
    session_uuid = "brief-session"
    tenant_uuid = "t1"
    expires_at = 1518612700
"##;

/// What version 1 answers to the first token.
const INIT: &str = r#"{"op": "init", "code": 0, "msg": "", "data": {"version": 1}}"#;

/// A conversation over a bus that knows [`TOKENS`].
fn talk(script: &str) {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}\n{script}"));
}
