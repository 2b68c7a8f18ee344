//! HTTP as values: heads and bodies of requests are parsed from the bytes so far, responses are
//! bytes, and so are the pages of health and metrics. Requests of clients and to the admin listener
//! take the same code.
//!
//! Sockets are `io`'s business.

mod admin;
pub(crate) mod body;
pub(crate) mod head;
mod metrics;
pub mod otlp;
mod response;
mod status;

pub use self::admin::{
    AdminCall, AdminRequest, AdminToken, AdminTokens, ClusterCall, TopicCall, V1Call, admin,
    answer, call, v1,
};
pub use self::metrics::{ExportFacts, Exposition, Facts, Process, Room, metrics};
pub use self::response::{
    AnswerForm, CONTINUE, Persistence, content_type, put_answer, put_not_allowed, put_unavailable,
    refusal, refusal_saying, response, speaks_tls, unserved, wants_proxy, without_body,
};
pub use self::status::{DaemonStart, DaemonStatus, Gap};
