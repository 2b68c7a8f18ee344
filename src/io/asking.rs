//! Operators' questions about sessions, taken to the shards by the admin thread.
//!
//! One question is on its way at a time, so a shard answers at most one in a turn. A list in an
//! order, or with a filter, asks each shard in parts until it is complete.

use super::Hub;
use super::handoff::Parcel;
use crate::frame::Publication;
use crate::inspect::{
    Kick, KickTarget, SessionAnswer, SessionCursor, SessionDetail, SessionFilter, SessionInquiry,
    SessionList, SessionOrder, SessionRow, SessionWalk, WhyRow,
};
use crate::service::ConnectionRef;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

/// Time for a shard's answer, which comes with its next turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer: a shard that hangs, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard-{0} has not answered: /healthz tells whether it hangs")]
pub(super) struct SilentShard(usize);

/// The way of operators' questions to the shards.
pub(super) struct Inspector {
    hub: Arc<Hub>,
    /// Held while a question is on its way.
    asking: Mutex<()>,
}

impl Inspector {
    pub(super) fn new(hub: &Arc<Hub>) -> Self {
        Self { hub: Arc::clone(hub), asking: Mutex::default() }
    }

    /// Sessions, and where the next page begins.
    ///
    /// # Errors
    /// When a shard does not answer.
    pub(super) async fn list(
        &self,
        list: SessionList,
    ) -> Result<(Vec<SessionRow>, Option<SessionCursor>), SilentShard> {
        let SessionList { filter, order, count, from } = list;
        let mut rows: Vec<SessionRow> = Vec::new();
        let mut place = Some(from.unwrap_or_default());
        while let Some(SessionCursor { shard, id }) = place {
            let is_sorted = order != SessionOrder::Unsorted;
            let missing = count - rows.len();
            if usize::from(shard) >= self.hub.mailboxes.len() {
                place = None;
                break;
            }
            if missing == 0 && !is_sorted {
                break;
            }

            // In an order, only what belongs before the last of a full list is of use.
            let above = rows.last().filter(|_| missing == 0).map(|row| row.rank(order));
            let count = if is_sorted { count } else { missing };
            let walk = SessionWalk { filter: filter.clone(), from: id, count, order, above };
            let (found, next) = match self.ask(shard.into(), SessionInquiry::List(walk)).await? {
                SessionAnswer::Rows(found, next) => (found, next),
                _ => (Vec::new(), None),
            };
            rows.extend(found);
            if is_sorted {
                rows.sort_by_key(|row| Reverse(row.rank(order)));
                rows.truncate(count);
            }
            place = Some(after_part(shard, next));
        }
        // A list in an order is complete, and has no next page.
        Ok((rows, place.filter(|_| order == SessionOrder::Unsorted)))
    }

    /// One session; `None` when there is none.
    ///
    /// # Errors
    /// When its shard does not answer.
    pub(super) async fn one(
        &self,
        session: ConnectionRef,
    ) -> Result<Option<Box<SessionDetail>>, SilentShard> {
        let shard = usize::from(session.shard);
        if shard >= self.hub.mailboxes.len() {
            return Ok(None);
        }
        match self.ask(shard, SessionInquiry::One(session)).await? {
            SessionAnswer::One(found) => Ok(found),
            _ => Ok(None),
        }
    }

    /// Ends sessions. Returns their number.
    ///
    /// # Errors
    /// When a shard does not answer; it may still end some.
    pub(super) async fn kick(&self, target: KickTarget, kick: &Kick) -> Result<usize, SilentShard> {
        let (filter, count_max) = match target {
            KickTarget::One(session) => {
                let shard = usize::from(session.shard);
                if shard >= self.hub.mailboxes.len() {
                    return Ok(0);
                }
                let inquiry = SessionInquiry::KickOne(session, kick.clone());
                return Ok(kicked(self.ask(shard, inquiry).await?).0);
            }
            KickTarget::All(filter, count_max) => (filter, count_max),
        };

        let (mut count, mut place) = (0, SessionCursor::default());
        while count < count_max && usize::from(place.shard) < self.hub.mailboxes.len() {
            let walk = SessionWalk {
                filter: filter.clone(),
                from: place.id,
                count: count_max - count,
                ..SessionWalk::default()
            };
            let inquiry = SessionInquiry::Kick(walk, kick.clone());
            let (ended, next) = kicked(self.ask(place.shard.into(), inquiry).await?);
            count += ended;
            place = after_part(place.shard, next);
        }
        Ok(count)
    }

    /// What some publications would be to the first `count` sessions of a filter, or to one session.
    ///
    /// # Errors
    /// When a shard does not answer.
    pub(super) async fn why(
        &self,
        target: KickTarget,
        publications: Vec<Publication>,
    ) -> Result<Vec<WhyRow>, SilentShard> {
        let publications: Arc<[Publication]> = publications.into();
        let (filter, count, mut place, one) = match target {
            KickTarget::One(session) => {
                let place = SessionCursor { shard: session.shard, id: session.id };
                (SessionFilter::default(), 1, place, Some(session))
            }
            KickTarget::All(filter, count) => (filter, count, SessionCursor::default(), None),
        };

        let mut rows = Vec::new();
        while rows.len() < count && usize::from(place.shard) < self.hub.mailboxes.len() {
            let walk = SessionWalk {
                filter: filter.clone(),
                from: place.id,
                count: count - rows.len(),
                ..SessionWalk::default()
            };
            let inquiry = SessionInquiry::Why(walk, Arc::clone(&publications));
            let (found, next) = match self.ask(place.shard.into(), inquiry).await? {
                SessionAnswer::Why(found, next) => (found, next),
                _ => (Vec::new(), None),
            };
            rows.extend(found);
            if let Some(session) = one {
                // Another may stand behind the place of one that has gone.
                rows.retain(|it| it.row.id == session);
                break;
            }
            place = after_part(place.shard, next);
        }
        Ok(rows)
    }

    /// Asks one shard.
    async fn ask(
        &self,
        shard: usize,
        inquiry: SessionInquiry,
    ) -> Result<SessionAnswer, SilentShard> {
        let _asking = self.asking.lock().await;
        let (asker, answer) = oneshot::channel();
        self.hub.post(shard, [Parcel::Inspect(Box::new(inquiry), asker)]);
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(SilentShard(shard)),
        }
    }
}

/// Where a walk over all shards goes on.
fn after_part(shard: u16, next: Option<u32>) -> SessionCursor {
    match next {
        Some(id) => SessionCursor { shard, id },
        None => SessionCursor { shard: shard + 1, id: 0 },
    }
}

fn kicked(answer: SessionAnswer) -> (usize, Option<u32>) {
    match answer {
        SessionAnswer::Kicked(count, next) => (count, next),
        _ => (0, None),
    }
}
