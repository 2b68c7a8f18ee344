//! A connection to NATS for a command, which asks whether its server would do.

use super::LOOKUPS_MAX;
use super::engine::{Engine, EngineChange, Subjects};
use super::place::Nats;
use crate::io::lookups;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Time for a server to answer; each of several is tried for two seconds.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Connects to NATS as a node does, and looks at the server.
///
/// # Errors
/// Why it cannot be used, with what to do.
pub fn probe_nats(nats: &Nats) -> Result<(), String> {
    let runtime = lookups::runtime(LOOKUPS_MAX).map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(looked(nats));
    // The resolver may block for a minute.
    runtime.shutdown_background();
    outcome
}

async fn looked(nats: &Nats) -> Result<(), String> {
    let end = Instant::now() + PROBE_MAX;
    let engine = Engine::start(nats, &Subjects::new(nats)).await;
    let mut engine = engine.map_err(|error| error.to_string())?;
    loop {
        match engine.look() {
            Some(EngineChange::Connected | EngineChange::Replaced) => return Ok(()),
            Some(EngineChange::Refused(objection)) => return Err(objection),
            Some(EngineChange::Lost) | None => {}
        }
        // Of no server, rather than of one of several.
        if let Some(error) = engine.new_error() {
            return Err(error);
        }
        let (_, _, news) = engine.parts();
        if timeout_at(end, news.changed()).await.is_err() {
            let error = engine.error();
            return Err(error.unwrap_or_else(|| "no answer from any server".into()));
        }
    }
}
