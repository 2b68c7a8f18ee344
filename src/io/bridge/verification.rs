//! The remote verifiers: carries requests and answers between their verifications and the network.
//!
//! What to ask, when, and whom to tell is the verification's to decide; here are the clock, the connections and the
//! mailboxes. Each verifier has its own verification and its own connections, so that none waits for another.

use super::super::handoff::Parcel;
use super::super::{Hub, clock};
use super::client::{Client, tls_of_the_system};
use super::moment;
use crate::dialect::{Kind, Settings};
use crate::metrics::Metrics;
use crate::service::verification::{Errand, News, Reply, TokenVerification};
use crate::service::verification::{TokenAnswer, TokenQuestion};
use crate::token::{Finding, Refusal, RemoteVerifier, TokenInquiry, Verdict, Verifier};
use crate::wheel::Now;
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

/// How many dialects there are, each of which may have a verifier of its own.
const KINDS: usize = Kind::ALL.len();

/// The remote verifiers of a configuration, each with the client that asks it. A verifier that several dialects
/// share sits once, under the first of them.
pub(super) struct VerifierSet {
    connections: [Option<(Arc<RemoteVerifier>, Client)>; KINDS],
    seat_of: [Option<usize>; KINDS],
}

impl VerifierSet {
    /// # Errors
    /// When a verifier cannot be asked over TLS for want of certificates.
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        let remote = |kind: Kind| kind.verifier(settings).and_then(Verifier::remote);
        let mut panel = Self { connections: [const { None }; KINDS], seat_of: [None; KINDS] };
        for &kind in Kind::ALL {
            let Some(own) = remote(kind) else { continue };
            let shares = |other: &&Kind| remote(**other).is_some_and(|other| Arc::ptr_eq(own, other));
            let first = Kind::ALL.iter().find(shares).map_or(kind as usize, |first| *first as usize);
            panel.seat_of[kind as usize] = Some(first);
            if first == kind as usize {
                panel.connections[first] = Some((Arc::clone(own), client(own)?));
            }
        }
        Ok(panel)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.iter().all(Option::is_none)
    }
}

/// One verifier at work.
struct VerifierAtWork {
    verification: TokenVerification,
    client: Client,
    /// Those under way; they end with the court.
    requests: JoinSet<(Errand, Reply)>,
}

/// All of them.
pub(super) struct Verifiers {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    at_work: [Option<VerifierAtWork>; KINDS],
    at_work_of: [Option<usize>; KINDS],
}

impl Verifiers {
    pub(super) fn new(hub: Arc<Hub>, panel: VerifierSet) -> Self {
        let metrics = Arc::clone(&hub.metrics[hub.mailboxes.len()]);
        let mut verifiers =
            Self { hub, metrics, at_work: [const { None }; KINDS], at_work_of: [None; KINDS] };
        verifiers.configure(panel);
        verifiers
    }

    /// A reload: verifiers that stay keep what they know and whom they watch.
    pub(super) fn configure(&mut self, panel: VerifierSet) {
        let now = clock::now();
        self.at_work_of = panel.seat_of;
        for (court, connection) in self.at_work.iter_mut().zip(panel.connections) {
            match (court.as_mut(), connection) {
                (Some(court), Some((remote, client))) => {
                    court.verification.configure(remote, now);
                    court.client = client;
                }
                (None, Some((remote, client))) => {
                    let verification = TokenVerification::new(remote, Arc::clone(&self.metrics.verification));
                    *court = Some(VerifierAtWork { verification, client, requests: JoinSet::new() });
                }
                (Some(former), None) => {
                    former.verification.end(now);
                    former.tell(&self.hub);
                    *court = None;
                }
                (None, None) => {}
            }
        }
    }

    /// Takes what the shards ask.
    pub(super) fn take(&mut self, questions: Vec<(usize, TokenQuestion)>) {
        let now = clock::now();
        for (shard, question) in questions {
            match question {
                TokenQuestion::Verify(ticket, kind, token) => {
                    let court = self.at_work_of[kind as usize].and_then(|index| self.at_work[index].as_mut());
                    match court {
                        Some(court) => court.verification.ask((shard, ticket), &token, now),
                        // A reload has made it a local one meanwhile.
                        None => {
                            let answer = TokenAnswer::Verified(Verdict::Refused(Refusal::Unavailable));
                            self.hub.post(shard, [Parcel::Answer(ticket, answer)]);
                        }
                    }
                }
                TokenQuestion::Doubt(ticket) => {
                    let at_work = self.at_work.iter_mut().flatten();
                    at_work.for_each(|court| court.verification.doubt((shard, ticket)));
                }
                TokenQuestion::Forget(ticket) => {
                    let at_work = self.at_work.iter_mut().flatten();
                    at_work.for_each(|court| court.verification.forget((shard, ticket), now));
                }
            }
        }
        self.proceed(now);
    }

    /// Waits for the next reply or moment, and does what it asks for. May be dropped while it waits.
    pub(super) async fn step(&mut self) {
        let wakes_at_ns =
            self.at_work.iter().flatten().filter_map(|court| court.verification.wakes_at_ns()).min();
        let at_work = &mut self.at_work;
        tokio::select! {
            (index, errand, reply) = std::future::poll_fn(|context| poll_reply(at_work, context)) => {
                if let Some(court) = &mut self.at_work[index] {
                    court.verification.replied(errand, reply, clock::now());
                }
            }
            () = moment(wakes_at_ns) => {}
        }
        self.proceed(clock::now());
    }

    /// Does what is due, sends requests, hands out answers.
    fn proceed(&mut self, now: Now) {
        for court in self.at_work.iter_mut().flatten() {
            court.verification.tick(now);
            while let Some((errand, request)) = court.verification.next_errand(now) {
                let client = court.client.clone();
                let timeout = Duration::from_millis(court.verification.remote().timing().timeout_ms);
                court.requests.spawn(async move { (errand, client.ask(request, timeout).await) });
            }
            court.tell(&self.hub);
        }
    }
}

impl VerifierAtWork {
    fn tell(&mut self, hub: &Hub) {
        for ((shard, ticket), answer) in self.verification.take_answers() {
            hub.post(shard, [Parcel::Answer(ticket, answer)]);
        }
        let news = self.verification.take_news();
        let host = self.verification.remote().host();
        for news in news {
            match news {
                News::Fails(reason) => {
                    tracing::warn!("asking {host} failed: {reason}; clients are refused until it answers");
                }
                News::Works => tracing::info!("{host} answers again"),
            }
        }
    }
}

/// The next reply, with the court that it is for.
fn poll_reply(
    at_work: &mut [Option<VerifierAtWork>; KINDS],
    context: &mut Context<'_>,
) -> Poll<(usize, Errand, Reply)> {
    for (index, court) in at_work.iter_mut().enumerate() {
        let Some(court) = court else { continue };
        match court.requests.poll_join_next(context) {
            Poll::Ready(Some(Ok((errand, reply)))) => return Poll::Ready((index, errand, reply)),
            // It has panicked; that is ours to know of, not the verifier's.
            Poll::Ready(Some(Err(error))) => std::panic::resume_unwind(error.into_panic()),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }
    Poll::Pending
}

/// Asks a remote verifier about one token, once, as somebody at a terminal does.
///
/// # Errors
/// Why there is no answer, or none that can be understood; without the token.
pub fn ask_once(remote: &RemoteVerifier, token: &str) -> Result<Verdict, String> {
    let client = client(remote).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let timeout = Duration::from_millis(remote.timing().timeout_ms);
    let request = remote.request(TokenInquiry::Grant, token);
    let (status, body) = runtime.block_on(async { client.ask(request, timeout).await })?;
    match remote.read(TokenInquiry::Grant, status, &body, clock::now().unix_ms) {
        Finding::Granted(grant) => Ok(Verdict::Granted(grant)),
        Finding::Refused(refusal) => Ok(Verdict::Refused(refusal)),
        Finding::Confirmed => Err("it confirms what it has not granted".into()),
        Finding::Unclear(reason) => Err(reason),
    }
}

/// The client that asks a verifier: by its own certificates, or else the authorities of the system.
fn client(remote: &RemoteVerifier) -> io::Result<Client> {
    let tls = match remote.trusted() {
        Some(config) => ClientConfig::clone(config),
        None => tls_of_the_system(remote.is_https().then(|| remote.host()))?,
    };
    Ok(Client::new(tls, remote.timing().concurrency_max))
}
