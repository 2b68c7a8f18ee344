//! The dialect `echo` as a value: what goes in, what comes out.
#![allow(clippy::unwrap_used)]

mod event;
mod rest;
