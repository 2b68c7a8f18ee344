//! HTTP as values: heads and bodies of requests are read from the bytes that have come, responses are bytes, and what the
//! daemon tells of itself is one of them. Clients and the admin listener are read and answered by the same code.
//!
//! Who listens, reads and writes is `io`'s business.

mod admin;
pub(crate) mod body;
pub(crate) mod head;
mod metrics;
mod response;
mod status;

pub use self::admin::{AdminToken, Asking, TopicCall, admin, answer, call};
pub use self::metrics::{Exposition, Facts, Process, Room, metrics};
pub use self::response::{
    AnswerForm, CONTINUE, Persistence, content_type, put_answer, put_not_allowed, refusal,
    refusal_saying, response, speaks_tls, unserved, wants_proxy, without_body,
};
pub use self::status::{DaemonStatus, Gap};
