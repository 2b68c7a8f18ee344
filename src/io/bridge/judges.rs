//! The remote judges: carries requests and answers between their dockets and the network.
//!
//! What to ask, when, and whom to tell is the docket's to decide; here are the clock, the connections and the
//! mailboxes. Each judge has its own docket and its own connections, so that none waits for another.

use super::super::handoff::Parcel;
use super::super::{Shared, clock};
use super::client::{Client, tls_of_the_system};
use super::moment;
use crate::dialect::{Kind, Settings};
use crate::docket::{Docket, Errand, News, Reply};
use crate::metrics::Metrics;
use crate::shard::{Answer, Question};
use crate::token::{Finding, Inquiry, Judge, Refusal, Remote, Verdict};
use crate::wheel::Now;
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

/// How many dialects there are, each of which may have a judge of its own.
const KINDS: usize = Kind::ALL.len();

/// The remote judges of a configuration, each with the client that asks it. A judge that several dialects
/// share sits once, under the first of them.
pub(super) struct Panel {
    seats: [Option<(Arc<Remote>, Client)>; KINDS],
    seat_of: [Option<usize>; KINDS],
}

impl Panel {
    /// # Errors
    /// When a judge cannot be asked over TLS for want of certificates.
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        let remote = |kind: Kind| kind.judge(settings).and_then(Judge::remote);
        let mut panel = Self { seats: [const { None }; KINDS], seat_of: [None; KINDS] };
        for &kind in Kind::ALL {
            let Some(own) = remote(kind) else { continue };
            let shares = |other: &&Kind| remote(**other).is_some_and(|other| Arc::ptr_eq(own, other));
            let first = Kind::ALL.iter().find(shares).map_or(kind as usize, |first| *first as usize);
            panel.seat_of[kind as usize] = Some(first);
            if first == kind as usize {
                panel.seats[first] = Some((Arc::clone(own), client(own)?));
            }
        }
        Ok(panel)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.iter().all(Option::is_none)
    }
}

/// One judge at work.
struct Court {
    docket: Docket,
    client: Client,
    /// Those under way; they end with the court.
    requests: JoinSet<(Errand, Reply)>,
}

/// All of them.
pub(super) struct Judges {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    courts: [Option<Court>; KINDS],
    court_of: [Option<usize>; KINDS],
}

impl Judges {
    pub(super) fn new(shared: Arc<Shared>, panel: Panel) -> Self {
        let metrics = Arc::clone(&shared.metrics[shared.mailboxes.len()]);
        let mut judges = Self { shared, metrics, courts: [const { None }; KINDS], court_of: [None; KINDS] };
        judges.configure(panel);
        judges
    }

    /// A reload: judges that stay keep what they know and whom they watch.
    pub(super) fn configure(&mut self, panel: Panel) {
        let now = clock::now();
        self.court_of = panel.seat_of;
        for (court, seat) in self.courts.iter_mut().zip(panel.seats) {
            match (court.as_mut(), seat) {
                (Some(court), Some((remote, client))) => {
                    court.docket.configure(remote, now);
                    court.client = client;
                }
                (None, Some((remote, client))) => {
                    let docket = Docket::new(remote, Arc::clone(&self.metrics));
                    *court = Some(Court { docket, client, requests: JoinSet::new() });
                }
                (Some(former), None) => {
                    former.docket.end(now);
                    former.tell(&self.shared);
                    *court = None;
                }
                (None, None) => {}
            }
        }
    }

    /// Takes what the shards ask.
    pub(super) fn take(&mut self, questions: Vec<(usize, Question)>) {
        let now = clock::now();
        for (shard, question) in questions {
            match question {
                Question::Judge(ticket, kind, token) => {
                    let court = self.court_of[kind as usize].and_then(|index| self.courts[index].as_mut());
                    match court {
                        Some(court) => court.docket.ask((shard, ticket), &token, now),
                        // A reload has made it a local one meanwhile.
                        None => {
                            let answer = Answer::Judged(Verdict::Refused(Refusal::Unavailable));
                            self.shared.mailboxes[shard].post([Parcel::Answer(ticket, answer)].into_iter());
                        }
                    }
                }
                Question::Doubt(ticket) => {
                    let courts = self.courts.iter_mut().flatten();
                    courts.for_each(|court| court.docket.doubt((shard, ticket)));
                }
                Question::Forget(ticket) => {
                    let courts = self.courts.iter_mut().flatten();
                    courts.for_each(|court| court.docket.forget((shard, ticket), now));
                }
            }
        }
        self.proceed(now);
    }

    /// Waits for the next reply or moment, and does what it asks for. May be dropped while it waits.
    pub(super) async fn step(&mut self) {
        let wakes_at_ns = self.courts.iter().flatten().filter_map(|court| court.docket.wakes_at_ns()).min();
        let courts = &mut self.courts;
        tokio::select! {
            (index, errand, reply) = std::future::poll_fn(|context| poll_reply(courts, context)) => {
                if let Some(court) = &mut self.courts[index] {
                    court.docket.replied(errand, reply, clock::now());
                }
            }
            () = moment(wakes_at_ns) => {}
        }
        self.proceed(clock::now());
    }

    /// Does what is due, sends requests, hands out answers.
    fn proceed(&mut self, now: Now) {
        for court in self.courts.iter_mut().flatten() {
            court.docket.tick(now);
            while let Some((errand, request)) = court.docket.next_errand(now) {
                let client = court.client.clone();
                let timeout = Duration::from_millis(court.docket.remote().timing().timeout_ms);
                court.requests.spawn(async move { (errand, client.ask(request, timeout).await) });
            }
            court.tell(&self.shared);
        }
    }
}

impl Court {
    fn tell(&mut self, shared: &Shared) {
        for ((shard, ticket), answer) in self.docket.take_answers() {
            shared.mailboxes[shard].post([Parcel::Answer(ticket, answer)].into_iter());
        }
        let news = self.docket.take_news();
        let host = self.docket.remote().host();
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
    courts: &mut [Option<Court>; KINDS],
    context: &mut Context<'_>,
) -> Poll<(usize, Errand, Reply)> {
    for (index, court) in courts.iter_mut().enumerate() {
        let Some(court) = court else { continue };
        match court.requests.poll_join_next(context) {
            Poll::Ready(Some(Ok((errand, reply)))) => return Poll::Ready((index, errand, reply)),
            // It has panicked; that is ours to know of, not the judge's.
            Poll::Ready(Some(Err(error))) => std::panic::resume_unwind(error.into_panic()),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }
    Poll::Pending
}

/// Asks a remote judge about one token, once, as somebody at a terminal does.
///
/// # Errors
/// Why there is no answer, or none that can be understood; without the token.
pub fn ask_once(remote: &Remote, token: &str) -> Result<Verdict, String> {
    let client = client(remote).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let timeout = Duration::from_millis(remote.timing().timeout_ms);
    let request = remote.request(Inquiry::Grant, token);
    let (status, body) = runtime.block_on(async { client.ask(request, timeout).await })?;
    match remote.read(Inquiry::Grant, status, &body, clock::now().unix_ms) {
        Finding::Granted(grant) => Ok(Verdict::Granted(grant)),
        Finding::Refused(refusal) => Ok(Verdict::Refused(refusal)),
        Finding::Confirmed => Err("it confirms what it has not granted".into()),
        Finding::Unclear(reason) => Err(reason),
    }
}

/// The client that asks a judge: by its own certificates, or else the authorities of the system.
fn client(remote: &Remote) -> io::Result<Client> {
    let tls = match remote.trusted() {
        Some(config) => ClientConfig::clone(config),
        None => tls_of_the_system(remote.is_https().then(|| remote.host()))?,
    };
    Ok(Client::new(tls, remote.timing().concurrency_max))
}
