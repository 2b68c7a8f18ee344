//! Shared by the two Personium dialects: the table `[personium]`, how a request and a token name a
//! cell, and the replies that both give.
//!
//! Each dialect is a file below.

mod cell;
mod client;
pub mod event;
mod reply;
mod scope;
mod settings;
pub mod topic;

pub use self::settings::PersoniumSettings;
