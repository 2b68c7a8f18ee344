//! Answers to requests of the operators' API.

use super::{Hub, publishing};
use crate::feed::{Intake, Taken};
use crate::http::v1::PublishOrder;
use crate::http::v1::{History, SAMPLE_S};
use crate::http::{V1Call, v1};
use crate::inspect::{Kick, KickTarget, PUBLICATIONS_MAX};
use crate::io::asking::Inspector;
use crate::io::clock;
use crate::io::facts::usage;
use crate::io::operator::Operator;
use crate::io::store::Unanswered;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Time for a reload, which looks up addresses and reads files.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for the store to tell its backlogs, which it has ready.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// What requests are answered from.
pub(super) struct V1Sources {
    hub: Arc<Hub>,
    /// The way to the command that runs the daemon.
    operator: Option<Arc<dyn Operator>>,
    /// The way to the shards.
    inspector: Inspector,
    /// The last hour.
    history: Mutex<History>,
}

impl V1Sources {
    pub(super) fn new(hub: &Arc<Hub>, operator: Option<Arc<dyn Operator>>) -> Self {
        Self {
            hub: Arc::clone(hub),
            operator,
            inspector: Inspector::new(hub),
            history: Mutex::default(),
        }
    }

    /// Adds to the history for as long as the runtime turns that awaits this.
    pub(super) async fn remember(&self) {
        let mut moments = interval(Duration::from_secs(SAMPLE_S));
        // After a pause of the process, a sample has the rates of all of it.
        moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            moments.tick().await;
            self.history().add(&self.hub.status(), &usage());
        }
    }

    /// Samples are added whole, so it is good after any panic.
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time for a hand-over, whose new process may take a while to start.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(120);

/// Answers a request.
pub(super) async fn answer(call: V1Call, sources: &V1Sources) -> Vec<u8> {
    let V1Sources { hub, inspector, operator, .. } = sources;
    match call {
        V1Call::Log(_) | V1Call::Reload | V1Call::Upgrade(_) | V1Call::Config => match operator {
            Some(operator) => operate(call, &**operator).await,
            None => v1::failed(501, "the program that runs this daemon takes no such requests"),
        },
        V1Call::History(after_ms) => sources.history().answer(after_ms),
        V1Call::Backlogs => match timeout(STORE_TIMEOUT, hub.store.survey()).await {
            Ok(Ok(survey)) => v1::backlogs(&survey.backlogs),
            // Without a store there are none.
            Ok(Err(Unanswered::Ended)) => v1::backlogs(&[]),
            Ok(Err(Unanswered::Full)) | Err(_) => v1::failed(503, "the store does not answer"),
        },
        V1Call::OpenApi => v1::document(),
        // What follows it is no whole response, and is not for HEAD.
        V1Call::Tap(_) => v1::STREAM_HEAD.to_vec(),
        V1Call::Status => v1::status(&hub.status()),
        V1Call::Limits => v1::limits(&hub.status(), &hub.facts().await),
        V1Call::Sessions(list) => match inspector.list(list).await {
            Ok((rows, next)) => v1::sessions(&rows, next),
            Err(silent) => v1::failed(503, &silent.to_string()),
        },
        V1Call::Session(session) => match inspector.one(session).await {
            Ok(Some(detail)) => v1::session(&detail),
            Ok(None) => v1::failed(404, "there is no such session: it may have ended"),
            Err(silent) => v1::failed(503, &silent.to_string()),
        },
        V1Call::Ended(filter, count) => v1::ended(&hub.ends.newest(&filter, count)),
        V1Call::Why(target, order) => why(target, &order, hub, inspector).await,
        V1Call::Publish(order) => publishing::publish(&order, hub).await,
        V1Call::Kick(target, kick) => end(target, &kick, inspector).await,
    }
}

/// Reads an event as a feed does, publishes nothing, and asks the shards what it would be to
/// sessions.
async fn why(
    target: KickTarget,
    order: &PublishOrder,
    hub: &Hub,
    inspector: &Inspector,
) -> Vec<u8> {
    let mut intake = Intake::new(hub.spoken.clone(), hub.settings());
    let mut publications = Vec::new();
    let event = order.events.first().map_or(&b""[..], |event| event);
    let taken = intake.take(&order.address, event, clock::now(), &mut |publication| {
        // Those beyond it are of an event for very many channels.
        if publications.len() < PUBLICATIONS_MAX {
            publications.push(publication);
        }
    });
    match taken {
        Err(rejection) => return v1::failed(400, &rejection.to_string()),
        Ok(Taken::Append(..)) => {
            return v1::failed(400, "a durable topic keeps its messages: see GET /topics/stats");
        }
        Ok(Taken::Published | Taken::NoListener) => {}
    }
    match inspector.why(target, publications).await {
        Ok(rows) => v1::explained(&rows),
        Err(silent) => v1::failed(503, &silent.to_string()),
    }
}

/// Has the command that runs the daemon do what a request asks for.
async fn operate(call: V1Call, operator: &dyn Operator) -> Vec<u8> {
    match call {
        V1Call::Log(directives) => {
            // Before it may be filtered out.
            tracing::info!("an operator has the log filtered by {directives:?}");
            match operator.log(&directives) {
                Ok(()) => v1::logging(&directives),
                Err(reason) => v1::failed(400, &reason),
            }
        }
        V1Call::Reload => match timeout(RELOAD_TIMEOUT, operator.reload()).await {
            Ok(Ok(Ok(outcome))) => v1::reloaded(&outcome),
            Ok(Ok(Err(reason))) => v1::failed(400, &reason),
            Ok(Err(_)) | Err(_) => v1::failed(503, "the reload is not done yet; see the log"),
        },
        V1Call::Upgrade(binary) => match timeout(UPGRADE_TIMEOUT, operator.upgrade(binary)).await {
            Ok(Ok(Ok(outcome))) => v1::upgraded(&outcome),
            Ok(Ok(Err(reason))) => v1::failed(409, &reason),
            Ok(Err(_)) | Err(_) => v1::failed(503, "the hand-over is not done yet; see the log"),
        },
        _ => v1::configuration(&operator.configuration()),
    }
}

/// Ends sessions, and leaves a trace of it in the log.
async fn end(target: KickTarget, kick: &Kick, inspector: &Inspector) -> Vec<u8> {
    let is_one = matches!(target, KickTarget::One(_));
    match inspector.kick(target, kick).await {
        Ok(0) if is_one => v1::failed(404, "there is no such session: it may have ended"),
        Ok(count) => {
            tracing::info!("an operator has ended {count} sessions");
            v1::kicked(count)
        }
        Err(silent) => v1::failed(503, &format!("{silent}; some sessions may have been ended")),
    }
}
