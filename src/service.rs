//! Services: the parts of the daemon that sessions call on beyond their own connection.
//!
//! A service is a value without I/O. It receives questions and the time, and answers connections;
//! its host performs whatever I/O it asks for. Questions and answers are plain data.
//!
//! | service | decides | lives on |
//! |---|---|---|
//! | [`verification`] | whether a remote verifier grants a token | the bridge |
//! | [`presence`] | who is in which channel | the shard that owns the channel |
//! | [`topic`] | durable topics: subscriptions, cursors, redelivery | the store's thread that owns the topic |
//! | [`webhook`] | which HTTP requests notify other services, and which are retried | the bridge |

mod asking;
mod connection;
mod http;
pub mod presence;
mod question;
pub mod topic;
pub mod verification;
pub mod webhook;

pub use self::asking::Service;
pub use self::connection::{ConnectionRef, DialectId, NewRefs, NoConnectionRef};
pub use self::http::{HttpCall, HttpReply, HttpService, ServiceNews};
pub use self::question::{Answer, Answers, Effect, Question};
