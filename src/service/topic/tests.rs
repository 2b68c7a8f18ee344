//! The owner of the topics, promise by promise, and against a naive model.

mod company;
mod consumers;
mod creation;
mod deletion;
mod endurance;
mod faults;
mod handover;
mod ids;
mod inquiries;
mod keys;
mod memory;
mod model;
mod owners;
mod plain;
mod probes;
mod producers;
mod promises;
mod readers;
mod redelivery;
mod rights;
mod room;
mod steps;
mod time;
mod unacknowledged;
mod work;
mod world;
