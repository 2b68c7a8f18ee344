//! The owner of the topics, promise by promise, and against a naive model.

mod consumers;
mod model;
mod world;
