//! The commands of a person at a terminal, one file each: they speak to a daemon that runs
//! elsewhere over the same socket and the same WebSocket as every client, and know nothing of its
//! insides.

pub(crate) mod answer;
pub mod arguments;
mod bus;
pub(crate) mod certificates;
pub mod check;
mod child;
pub mod cluster;
pub mod configuration;
mod confirm;
mod dial;
pub mod doctor;
pub mod ended;
pub mod error;
pub mod explain;
mod handover;
pub mod help;
pub mod init;
pub mod kick;
mod load;
pub mod locate;
mod logging;
mod nats;
mod notify;
mod obstacles;
mod operator;
pub mod output;
pub mod paths;
pub mod publish;
mod reach;
mod reload;
pub(crate) mod resources;
mod restart;
pub mod serve;
pub mod sessions;
mod signals;
pub mod subscribe;
pub mod tap;
pub mod token;
pub mod top;
pub mod topics;
mod trial;
mod trust;
pub mod upgrade;
mod user;
pub mod why;

pub use error::CliError;
