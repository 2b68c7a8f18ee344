//! Callers other than connections that await answers of the store: feeds, the admin listener, the
//! metrics.

use super::backup::Copier;
use super::handle::{InquiryAnswer, OutsideRequest, Receipts};
use super::survey::Survey;
use crate::service::ConnectionRef;
use crate::service::topic::{TopicAnswer, TopicQuestion};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// The shard number that represents callers other than connections.
pub(super) const NO_SHARD: u16 = u16::MAX;

/// The callers awaiting answers.
#[derive(Default)]
pub(super) struct Callers {
    serial: u32,
    appends: BTreeMap<u32, Appending>,
    inquiries: BTreeMap<u32, oneshot::Sender<InquiryAnswer>>,
    pub(super) backups: Vec<oneshot::Sender<Result<Copier, String>>>,
    pub(super) surveys: Vec<oneshot::Sender<Survey>>,
}

/// Messages of a feed being stored.
struct Appending {
    results: Receipts,
    count: usize,
    sender: oneshot::Sender<Receipts>,
}

impl Callers {
    /// The requests of a caller, with the connection that their answers will name.
    pub(super) fn requests(
        &mut self,
        outside: OutsideRequest,
    ) -> Vec<(ConnectionRef, TopicQuestion)> {
        self.serial = self.serial.wrapping_add(1);
        let connection = ConnectionRef { shard: NO_SHARD, id: self.serial, serial: 0 };
        match outside {
            OutsideRequest::Append(messages, sender) => {
                let count = messages.len();
                self.appends.insert(
                    self.serial,
                    Appending { results: Vec::with_capacity(count), count, sender },
                );
                messages
                    .into_iter()
                    .map(|(topic, draft)| (connection, TopicQuestion::Append(topic, draft)))
                    .collect()
            }
            OutsideRequest::Inquire(inquiry, sender) => {
                self.inquiries.insert(self.serial, sender);
                vec![(connection, TopicQuestion::Inquire(Box::new(inquiry)))]
            }
            OutsideRequest::Survey(sender) => {
                self.surveys.push(sender);
                Vec::new()
            }
            OutsideRequest::Backup(sender) => {
                self.backups.push(sender);
                Vec::new()
            }
        }
    }

    /// Passes an answer on. A caller that is gone receives none.
    pub(super) fn answer(&mut self, id: u32, reply: TopicAnswer) {
        let result = match reply {
            TopicAnswer::Answer(status, body) => {
                if let Some(sender) = self.inquiries.remove(&id) {
                    let _ = sender.send((status, body));
                }
                return;
            }
            TopicAnswer::Stored { .. } => Ok(()),
            TopicAnswer::NotStored { reason, .. } => Err(reason),
            _ => return,
        };
        let Some(appending) = self.appends.get_mut(&id) else { return };
        appending.results.push(result);
        // Answers to one caller arrive in the order of its requests.
        if appending.results.len() == appending.count
            && let Some(Appending { results, sender, .. }) = self.appends.remove(&id)
        {
            let _ = sender.send(results);
        }
    }
}
