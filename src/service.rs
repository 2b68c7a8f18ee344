//! Services: what sessions ask of parts of the daemon that are not their own connection.
//!
//! - [`verification`]: whether a remote verifier grants a token
//! - [`presence`]: who is in which channel
//! - [`topic`]: durable topics
//! - [`webhook`]: what other services are told over HTTP

mod connection;
pub mod presence;
pub mod topic;
pub mod verification;
pub mod webhook;

pub use self::connection::ConnectionRef;
