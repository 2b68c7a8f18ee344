//! Services: what sessions ask of parts of the daemon that are not their own connection.
//!
//! A service is a value without I/O. It is asked, is told the time, and answers connections; whatever it needs of the
//! world its host does for it. Questions and answers are plain data.
//!
//! | service | decides | lives on |
//! |---|---|---|
//! | [`verification`] | whether a remote verifier grants a token | the bridge |
//! | [`presence`] | who is in which channel | the shard that owns the channel |
//! | [`topic`] | durable topics: subscriptions, cursors, redelivery | the store's thread that owns the topic |
//! | [`webhook`] | what other services are told over HTTP, and what they are told again | the bridge |

mod asking;
mod connection;
mod http;
pub mod presence;
mod question;
pub mod topic;
pub mod verification;
pub mod webhook;

pub use self::asking::Service;
pub use self::connection::{ConnectionRef, DialectId};
pub use self::http::{HttpCall, HttpReply, HttpService, ServiceNews};
pub use self::question::{Answer, Answers, Effect, Question};
