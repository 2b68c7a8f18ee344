//! Publishing events that came over HTTP, as a feed does.

use super::Hub;
use crate::feed::{Intake, Taken};
use crate::frame::Tally;
use crate::http::v1::{self, PublishOrder, PublishOutcome};
use crate::io::clock;
use crate::io::hub::ROOM_PAUSE;
use crate::metrics::{Origin, Outcome};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Time that shards without room are waited for, as feeds wait too.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the shards to deliver what is counted.
const REACHED_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the store, which may be on a slow disk.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between checks that all shards have delivered.
const REACHED_PAUSE: Duration = Duration::from_millis(1);

/// Publishes the events of a request, and makes its response.
pub(super) async fn publish(order: &PublishOrder, hub: &Hub) -> Vec<u8> {
    if hub.draining.load(Relaxed) {
        return v1::failed(503, "the daemon is stopping");
    }
    let room = async {
        loop {
            match hub.feeding() {
                Some(feeding) => break feeding,
                None => sleep(ROOM_PAUSE).await,
            }
        }
    };
    let Ok(feeding) = timeout(ROOM_TIMEOUT, room).await else {
        return v1::failed(503, "the shards have no room, and nothing was published; try again");
    };

    let mut intake = Intake::new(hub.spoken.clone(), hub.settings());
    let (mut outcome, tally, now) =
        (PublishOutcome::default(), Arc::<Tally>::default(), clock::now());
    let (mut publications, mut appends, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let mut no_listener = 0;
    for (index, event) in order.events.iter().enumerate() {
        let taken = intake.take(&order.address, event, now, &mut |mut publication| {
            publication.tally = Some(Arc::clone(&tally));
            publications.push(publication);
        });
        match taken {
            Ok(Taken::Published) => outcome.accepted += 1,
            Ok(Taken::NoListener) => no_listener += 1,
            Ok(Taken::Append(topic, message)) => {
                appends.push((topic, message));
                lines.push(index + 1);
            }
            Err(rejection) => outcome.errors.push((index + 1, rejection.to_string())),
        }
    }

    hub.broadcast(publications, None);
    drop(feeding);
    if appends.is_empty() {
        outcome.reached = reached(&tally).await;
    } else {
        match timeout(STORE_TIMEOUT, hub.store.append(appends)).await {
            Ok(Ok(results)) => {
                for (line, result) in lines.into_iter().zip(results) {
                    match result {
                        Ok(()) => outcome.accepted += 1,
                        Err(reason) => outcome.errors.push((line, reason.into())),
                    }
                }
            }
            // Some may have been stored.
            Ok(Err(_)) | Err(_) => {
                return v1::failed(503, "the store has not answered: what was stored is unknown");
            }
        }
    }

    let events = &hub.admin_metrics().events[Origin::Http as usize];
    events[Outcome::Accepted as usize].add(outcome.accepted);
    events[Outcome::NoListener as usize].add(no_listener);
    events[Outcome::Rejected as usize].add(outcome.errors.len() as u64);
    outcome.accepted += no_listener;
    v1::published(&outcome, order.is_lines)
}

/// The number of sessions that the shards have delivered to, unless one of them is late.
async fn reached(tally: &Tally) -> Option<u64> {
    let complete = async {
        while !tally.is_complete() {
            sleep(REACHED_PAUSE).await;
        }
    };
    timeout(REACHED_TIMEOUT, complete).await.ok().map(|()| tally.reached())
}
