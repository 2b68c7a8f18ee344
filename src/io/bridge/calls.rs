//! The driver of a service that makes HTTP requests: it carries them between the service and the
//! network.
//!
//! The service decides on requests, retries and answers; the clock and the connections are here.

use super::super::{Hub, clock};
use super::client::Client;
use crate::service::{Answers, ConnectionRef, HttpCall, HttpReply, HttpService};
use crate::wheel::Now;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A service, its HTTP clients, and its requests under way.
pub(super) struct Caller<S: HttpService> {
    service: S,
    hub: Arc<Hub>,
    /// The clients, by the numbers that the service knows them by.
    clients: Vec<Option<Client>>,
    /// The requests under way.
    requests: JoinSet<(S::Call, HttpReply)>,
}

impl<S: HttpService> Caller<S> {
    pub(super) fn new(service: S, hub: Arc<Hub>) -> Self {
        Self { service, hub, clients: Vec::new(), requests: JoinSet::new() }
    }

    pub(super) fn service(&self) -> &S {
        &self.service
    }

    /// The service, for what makes no requests.
    pub(super) fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// Applies a reload: new clients, and new settings of the service.
    pub(super) fn configure(
        &mut self,
        clients: Vec<Option<Client>>,
        configure: impl FnOnce(&mut S, Now, &mut Answers),
    ) {
        self.clients = clients;
        self.change(configure);
    }

    /// Passes questions of connections to the service.
    pub(super) fn ask(
        &mut self,
        questions: impl IntoIterator<Item = (ConnectionRef, S::Question)>,
    ) {
        self.change(|service, now, answers| {
            for (from, question) in questions {
                service.ask(from, question, now, answers);
            }
        });
    }

    /// Changes the service, and carries out what it wants then.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut S, Now, &mut Answers)) {
        let (now, mut answers) = (clock::now(), Answers::new());
        change(&mut self.service, now, &mut answers);
        self.proceed(now, answers);
    }

    /// Waits for the next reply or the service's next moment, and handles it. May be dropped while
    /// it waits.
    pub(super) async fn step(&mut self) {
        let next_at_ns = self.service.next_at_ns();
        // Both arms may lose the race without losing anything: replies stay in the set.
        let reply = tokio::select! {
            Some(reply) = self.requests.join_next() => Some(reply),
            () = moment(next_at_ns) => None,
        };
        self.change(|service, now, answers| match reply {
            Some(Ok((call, reply))) => service.replied(call, reply, now, answers),
            // A panic of ours must not pass for a failure of the other side.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => {}
        });
    }

    /// Waits for the replies to all requests under way, until `end` at the latest.
    pub(super) async fn finish(&mut self, end: Instant) {
        let all = async {
            while !self.requests.is_empty() {
                self.step().await;
            }
        };
        let _ = tokio::time::timeout_at(end.into(), all).await;
    }

    /// Does what is due, makes requests, hands out answers, and logs the news.
    fn proceed(&mut self, now: Now, mut answers: Answers) {
        // Before requests are made: what is due may make some, and a limit of requests may hold
        // them back.
        self.service.tick(now, &mut answers);
        while let Some(HttpCall { call, client, request, timeout, wants_body }) =
            self.service.next_call(now)
        {
            match self.clients.get(client).cloned().flatten() {
                Some(client) => {
                    let exchange = client.send(request, timeout, wants_body);
                    self.requests.spawn(async move { (call, exchange.await) });
                }
                // Clients and settings are replaced together, so there is one for each recipient.
                None => {
                    self.service.replied(call, Err("it has no client".into()), now, &mut answers)
                }
            }
        }

        // A reply without a client is answered in this round too.
        self.hub.answer(answers);
        for news in self.service.take_news() {
            let text = news.text;
            if news.is_good {
                tracing::info!("{text}");
            } else {
                tracing::warn!("{text}");
            }
        }
        self.service.count();
    }
}

/// Waits for a moment of the monotonic clock, or forever.
async fn moment(at_ns: Option<u64>) {
    match at_ns {
        Some(at_ns) => {
            let wait_ns = at_ns.saturating_sub(clock::now().monotonic_ns);
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
        }
        None => std::future::pending().await,
    }
}
