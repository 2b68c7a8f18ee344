//! The only part that touches the world: sockets, clocks, files and threads.
//!
//! [`start`] brings up one thread per shard, each with its own runtime, listeners and sockets, and
//! returns a [`Daemon`] to stop or reconfigure them with. In reading order:
//!
//! - `listen`: the listening sockets, before any thread is started
//! - [`log`]: the lines of the log on their way out, which no thread waits for
//! - `inherited`: the same sockets, where the service manager has them already
//! - `rehearsal`: the listening of a start, tried by a check
//! - `ring`: io_uring for sockets, and all `unsafe` code
//! - `runtime`: monoio on io_uring, or on epoll
//! - `transport`: waiting, receiving and sending, on the ring or on epoll
//! - `foundation`: a shard's runtime and transport, and the choice between io_uring and epoll
//! - `watch`: waiting for one descriptor in a task
//! - `handoff`: the log of publications and the inboxes, the only ways between threads
//! - `hub`: the state that all threads share
//! - `worker`: the turn
//! - `clients`: the addresses of clients, and the number of connections of each
//! - `connection`, `tls`, `request`, `handshake`, `partial`: their sockets, their encryption, their
//!   requests, whole and incomplete
//! - `pieces`: requests without a socket, for tests
//! - `publisher`: the unix feed
//! - `reload`: new settings for a running daemon, and listeners that come and go
//! - `lookups`: the runtime of threads with a tokio client, and their end
//! - `bridge`: the thread of everything with a tokio client: remote verifiers, webhooks, RabbitMQ,
//!   Redis
//! - `cluster`: the thread that carries between this daemon and the others of its cluster
//! - `store`: the threads of the durable topics, usually one
//! - `ends`: the last ends of sessions
//! - `asking`: operators' questions about sessions, taken to the shards
//! - `taps`: the events that operators see pass
//! - `operator`: the way from the admin thread to the command that runs the daemon
//! - `admin`: the thread of health, metrics, and operators' requests
//! - `gaps`, `facts`: missing dependencies of dialects, and the other facts of readiness and
//!   metrics
//! - `pulse`: the last turn of each thread, and when one counts as hung
//! - `watchdog`: the thread that notices hung threads
//! - [`handover`]: the way of everything to the next process
//! - `stopping`: the stop, in which sessions end part by part
//! - `configured`, `groups`, `slot`: settings as threads see them, groups of a peer, a value that
//!   waits for one reader
//! - `clock`: the time

mod admin;
mod asking;
mod bridge;
mod clients;
mod clock;
mod cluster;
mod configured;
mod connection;
mod ends;
mod facts;
pub mod foundation;
mod gaps;
mod groups;
pub mod handoff;
pub mod handover;
mod handshake;
mod hub;
mod inherited;
pub mod listen;
pub mod log;
mod lookups;
pub mod operator;
mod otlp;
mod partial;
mod pieces;
mod publisher;
mod pulse;
pub mod rehearsal;
mod reload;
mod request;
mod ring;
pub mod runtime;
#[cfg(test)]
mod segments;
mod slot;
mod stopping;
pub mod store;
mod taps;
mod tls;
mod transport;
mod watch;
mod watchdog;
mod worker;

pub use self::admin::CONNECTIONS_MAX as ADMIN_CONNECTIONS_MAX;
pub use self::bridge::amqp::Bus;
pub use self::bridge::ask_once;
pub use self::bridge::redis::Redis;
pub use self::bridge::{
    ProbeAnswer, probe_amqp, probe_otlp, probe_redis, probe_verifier, probe_webhook,
};
pub use self::clock::now;
pub use self::cluster::Nats;
pub use self::cluster::probe_nats;
pub use self::inherited::{Inherited, LEFT_BEHIND};
#[doc(hidden)]
pub use self::pieces::{Pieces, PiecesNext};
pub use self::reload::{RenewError, Renewal};
pub use self::stopping::StopTimes;
pub use self::watchdog::{Beat, end_after};

use self::admin::{AdminListeners, AdminSockets};
use self::bridge::Feeds;
use self::clients::Clients;
use self::cluster::ClusterHandle;
use self::connection::Sockets;
use self::ends::Ends;
use self::foundation::{Foundation, IoUringRefusal};
use self::handover::{Gate, HandoverError, NewProcess};
use self::hub::{Hub, ROOM_PAUSE};
use self::inherited::FeedSocket;
use self::listen::Listener;
use self::operator::Operator;
use self::runtime::Driver;
use self::slot::Slot;
use self::transport::Transport;
use self::watch::Watched;
use self::worker::Worker;
use crate::dialect::{Kind, Rng, Settings};
use crate::feed::unix;
use crate::http::otlp::Otlp;
use crate::http::{AdminTokens, DaemonStatus};
use crate::shard::{Limits, Shard};
use crate::wheel::TICK_MS;
use rustix::fd::AsFd;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest start of a shard, which only sets up its runtime.
const SHARD_START_MAX: Duration = Duration::from_secs(20);
/// Turns that a shard takes in a row before the other tasks of its thread, publishers and the tick,
/// have theirs: to let them costs a system call.
const TURNS_MAX: usize = 4;

/// Everything a daemon needs to start.
pub struct Plan {
    /// The number of shards, each with its own thread.
    pub shards: usize,
    /// The CPU of each shard, in order; shards beyond the list are not pinned.
    pub cpus: Vec<usize>,
    /// The driver of the shards' runtimes.
    pub driver: Driver,
    /// The listeners for clients.
    pub listen: Vec<Listen>,
    /// The listener for health, metrics and requests about topics.
    pub admin: Option<Admin>,
    /// The unix feed.
    pub feed: unix::UnixFeedSettings,
    /// The RabbitMQ feed.
    pub bus: Option<Bus>,
    /// The Redis feed.
    pub redis: Option<Redis>,
    /// The engine at which other daemons are met, if this is one of several.
    pub cluster: Option<Nats>,
    /// The collector of OpenTelemetry.
    pub otlp: Option<Otlp>,
    /// The dialects' settings, verifiers included.
    pub settings: Arc<Settings>,
    /// The store of the durable topics, which is opened when a listener speaks a dialect that has
    /// them.
    pub store: Option<store::StoreSettings>,
    /// The limits of the whole daemon.
    pub limits: Limits,
    /// The sockets that the service manager has, or the process before.
    pub inherited: Inherited,
    /// The process before, if it hands over.
    pub handover: Option<NewProcess>,
}

/// The admin listener.
pub struct Admin {
    /// Address and port.
    pub address: SocketAddr,
    /// The tokens that operators' requests need; without one they are all refused there.
    pub tokens: AdminTokens,
    /// The path of a socket, on which the daemon's user and root need no token.
    pub socket: Option<PathBuf>,
    /// The way to the command that runs the daemon.
    pub operator: Option<Arc<dyn Operator>>,
}

impl Admin {
    fn listen(&self, inherited: &mut Inherited) -> Result<AdminListeners, listen::ListenError> {
        AdminListeners::listen(self.address, self.socket.as_deref(), inherited)
    }
}

/// A listener for clients.
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// The dialects that it speaks.
    pub kinds: Vec<Kind>,
    /// The configuration of TLS, if it speaks TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The end of the certificate in seconds of unix time, if known.
    pub expiry_s: Option<u64>,
    /// Whether every connection begins with the PROXY protocol.
    pub proxied: bool,
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or path is not available.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// A shard's runtime did not start.
    #[error(
        "a shard could not start: {0}. If it is io_uring that is refused ({advice}), set driver = \
         \"auto\" or \"epoll\"", advice = foundation::advice(.0)
    )]
    Runtime(io::Error),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// A shard has not reported that it runs.
    #[error(
        "a shard has not started within {} s: the machine is overloaded, or a sandbox delays its \
         system calls; try driver = \"epoll\"",
        SHARD_START_MAX.as_secs()
    )]
    Late,
    /// The process before goes on.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// Any other error.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// A running daemon.
pub struct Daemon {
    /// The address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// The path of its socket.
    admin_socket: Option<PathBuf>,
    admin_sockets: Option<Arc<AdminSockets>>,
    /// What the shards wait, receive and send with.
    pub driver: &'static str,
    /// The shards that are on epoll because io_uring was refused.
    pub refusal: Option<IoUringRefusal>,
    /// The listeners since the start, removed ones included.
    slots: Vec<Slot>,
    /// The sockets that the service manager has; those that no listener uses may be used after a
    /// reload.
    inherited: Inherited,
    /// The path of the feed's socket, if this process has made it.
    socket: Option<PathBuf>,
    /// The feed's socket.
    feed: Option<FeedSocket>,
    /// Whether clients' messages can be relayed to other daemons.
    relays: bool,
    /// The export that a stop has made, with a collector.
    last_export: Option<otlp::LastExport>,
    hub: Arc<Hub>,
    threads: Vec<JoinHandle<()>>,
}

/// The parts that one shard's thread is made of.
struct Setup {
    number: usize,
    cpu: Option<usize>,
    driver: Driver,
    listeners: Vec<Listener>,
    feed: Option<FeedSocket>,
    spoken: Vec<Kind>,
    settings: Arc<Settings>,
    limits: Limits,
    hub: Arc<Hub>,
    /// Where it waits until it may begin, if the process before hands over.
    gate: Option<Gate>,
}

/// Starts the daemon: listens everywhere first, then brings up the shards.
///
/// # Errors
/// When something cannot be listened on, or a shard cannot run; what was started ends by itself.
pub fn start(mut plan: Plan) -> Result<Daemon, StartError> {
    let asked: Vec<SocketAddr> = plan.listen.iter().map(|listen| listen.address).collect();
    plan.inherited.close_unwanted(&asked, plan.admin.as_ref().map(|admin| admin.address));
    let (slots, listeners) = listen_for_clients(&plan)?;
    let inherited = &mut plan.inherited;
    let admin = plan.admin.as_ref().map(|admin| admin.listen(inherited)).transpose()?;
    let admin_address = admin.as_ref().map(|admin| admin.address);
    let feed = inherited.feed(&plan.feed)?;
    inherited.close_left();
    groups::note_hidden(&plan.feed);

    let spoken = spoken(&plan.listen);
    let hub = Arc::new(hub(&plan, &spoken)?);
    let relays = plan.redis.as_ref().is_some_and(|redis| redis.topics.relay.is_some());
    // The process before has its brokers and its store until it has handed over.
    let takes_over = plan.handover.is_some();
    // Before any shard runs: their mailboxes tell of an outage before the first connection is
    // accepted.
    let feeds = Feeds::new(plan.bus.take(), plan.redis.take(), &spoken, &hub, takes_over)?;
    let (early, late) =
        if takes_over { (Feeds::default(), feeds) } else { (feeds, Feeds::default()) };
    bridge::configure(&hub, &plan.settings, early)?;
    cluster::start(&hub, plan.cluster.take())?;
    let store = plan.store.take().filter(|_| spoken.iter().any(|kind| kind.has_topics()));
    match &store {
        Some(_) if takes_over => hub.store.await_start(),
        Some(settings) => {
            let disks = store::Disk::open_all(settings)?;
            store::start(&hub, settings, &plan.settings, disks, store::PassedTopics::default())?;
        }
        None => {}
    }

    let (threads, reports) = spawn_shards(&mut plan, &hub, listeners, feed.as_ref())?;
    // Of everything started so far, only the store needs a stop; shards end by themselves.
    let refusals =
        started(&reports, plan.shards).inspect_err(|_| hub.store.stop(Duration::ZERO))?;
    let (driver, refusal) = foundation::in_use(plan.driver, plan.shards, refusals);
    let _ = hub.driver.set(driver);
    let admin_socket = plan.admin.as_ref().and_then(|admin| admin.socket.clone());
    if let Some(process) = plan.handover.take() {
        let passed = process.take_over(&hub)?;
        if let Some(store) = store {
            store::start_late(&hub, store, Arc::clone(&plan.settings), passed)?;
        }
        bridge::feed(&hub, &plan.settings, late)?;
    }
    let admin_sockets = admin
        .zip(plan.admin)
        .map(|(listeners, admin)| admin::start(&hub, listeners, admin.tokens, admin.operator))
        .transpose()?;
    let last_export = otlp::start(&hub, plan.otlp)?;
    hub.configured.taken(plan.limits, certificates(&plan.listen));
    hub.ready.store(true, Relaxed);
    Ok(Daemon {
        admin: admin_address,
        admin_socket,
        admin_sockets,
        driver,
        refusal,
        slots,
        inherited: plan.inherited,
        socket: plan.feed.path.filter(|_| feed.as_ref().is_some_and(|feed| feed.is_own)),
        feed,
        relays,
        last_export,
        hub,
        threads,
    })
}

/// Starts the threads of the shards, which report when they run.
fn spawn_shards(
    plan: &mut Plan,
    hub: &Arc<Hub>,
    listeners: Vec<Vec<Listener>>,
    feed: Option<&FeedSocket>,
) -> io::Result<(Vec<JoinHandle<()>>, mpsc::Receiver<StartReport>)> {
    let (report, reports) = mpsc::channel();
    let mut threads = Vec::new();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let setup = Setup {
            number,
            cpu: plan.cpus.get(number).copied(),
            driver: plan.driver,
            listeners,
            feed: feed.map(FeedSocket::try_clone).transpose()?,
            spoken: hub.spoken.clone(),
            settings: Arc::clone(&plan.settings),
            limits: plan.limits.of_one_in(plan.shards),
            hub: Arc::clone(hub),
            gate: plan.handover.as_mut().map(NewProcess::gate),
        };
        let report = report.clone();
        let thread = std::thread::Builder::new().name(format!("shard-{number}"));
        threads.push(thread.spawn(move || shard_thread(setup, &report))?);
    }
    // With the last sender gone, a thread that ends without a report ends the wait.
    drop(report);
    Ok((threads, reports))
}

/// What the threads share.
fn hub(plan: &Plan, spoken: &[Kind]) -> io::Result<Hub> {
    let owners = plan.store.as_ref().map_or(1, |store| store.writers);
    let mut hub = Hub::new(plan.shards, owners, spoken, &plan.settings)?;
    hub.feed = Mutex::new(Arc::new(plan.feed.clone()));
    hub.cluster = ClusterHandle::wanted(plan.cluster.as_ref());
    hub.ends = Ends::kept(plan.admin.is_some(), plan.otlp.as_ref().map(|it| it.traces));
    Ok(hub)
}

/// Warns of sockets of the service manager whose clients would wait in vain.
fn note_left(plan: &Plan) {
    let addresses: Vec<SocketAddr> = plan.listen.iter().map(|listen| listen.address).collect();
    for left in plan.inherited.left(&addresses, plan.feed.path.as_deref()) {
        tracing::warn!(
            "the service manager has {left} for the daemon, whose configuration does not: clients \
             wait there in vain; let the socket unit and the configuration name the same addresses"
        );
    }
}

/// Listens for clients with one socket per shard. Returns the slots, and the listeners of each
/// shard.
fn listen_for_clients(plan: &Plan) -> Result<(Vec<Slot>, Vec<Vec<Listener>>), StartError> {
    note_left(plan);
    let mut slots = Vec::new();
    let mut listeners: Vec<Vec<Listener>> = (0..plan.shards).map(|_| Vec::new()).collect();
    for Listen { address, kinds, tls, proxied, .. } in &plan.listen {
        let sockets = plan.inherited.tcp(*address, plan.shards)?;
        let kinds: Arc<[Kind]> = kinds.as_slice().into();
        slots.push(Slot::new(*address, listen::local_address(&sockets[0].0)?, Arc::clone(&kinds)));
        for (shard, (socket, acceptor)) in listeners.iter_mut().zip(sockets) {
            let (kinds, tls) = (Arc::clone(&kinds), tls.clone());
            shard.push(Listener { socket, kinds, tls, proxied: *proxied, acceptor });
        }
    }
    Ok((slots, listeners))
}

/// The ends of the certificates, by listener.
fn certificates(listen: &[Listen]) -> Vec<(String, u64)> {
    listen
        .iter()
        .filter_map(|listen| Some((listen.address.to_string(), listen.expiry_s?)))
        .collect()
}

/// What a shard says when it runs, or why it does not: the refusal of io_uring, where epoll will do.
type StartReport = io::Result<Option<io::Error>>;

/// Waits until all shards have started. Returns the refusals of io_uring.
fn started(
    reports: &mpsc::Receiver<StartReport>,
    shards: usize,
) -> Result<Vec<io::Error>, StartError> {
    let mut refusals = Vec::new();
    for _ in 0..shards {
        let report = reports.recv_timeout(SHARD_START_MAX);
        refusals.extend(report.map_err(|_| StartError::Late)?.map_err(StartError::Runtime)?);
    }
    Ok(refusals)
}

/// The dialects that listeners speak.
fn spoken(listen: &[Listen]) -> Vec<Kind> {
    let mut spoken: Vec<Kind> =
        listen.iter().flat_map(|listen| listen.kinds.iter().copied()).collect();
    spoken.sort_unstable();
    spoken.dedup();
    spoken
}

impl Daemon {
    /// The state for health and metrics.
    #[must_use]
    pub fn status(&self) -> DaemonStatus {
        self.hub.status()
    }

    /// Starts the watchdog, which says about twice a second that no thread is stuck, or once that
    /// one is.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch(&self, say: impl FnMut(Beat) + Send + 'static) -> io::Result<()> {
        watchdog::start(&self.hub, say)
    }
}

fn shard_thread(setup: Setup, report: &mpsc::Sender<StartReport>) {
    if let Some(cpu) = setup.cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::warn!(
                "shard {} could not be pinned to CPU {cpu}: {error}; it runs on any",
                setup.number
            );
        }
    }
    let hub = Arc::clone(&setup.hub);
    let wake = hub.mailboxes[setup.number].waker().as_fd();
    let Foundation { mut runtime, transport, refusal } = match Foundation::build(setup.driver, wake)
    {
        Ok(foundation) => foundation,
        Err(error) => return drop(report.send(Err(error))),
    };
    runtime.block_on(async move {
        if let Err(error) = run_shard(setup, transport, || drop(report.send(Ok(refusal)))).await
            && let Err(mpsc::SendError(Err(error))) = report.send(Err(error))
        {
            // The daemon has started. Without its shard the mailbox would fill and hold up every
            // feed.
            tracing::error!("a shard has failed: {error}; the daemon ends");
            log::exit_failed();
        }
    });
}

async fn run_shard(setup: Setup, transport: Transport, ready: impl FnOnce()) -> io::Result<()> {
    let Setup { number, listeners, settings, limits, hub, .. } = setup;
    let metrics = Arc::clone(&hub.metrics[number]);
    let shard = Shard::new(settings, limits, Arc::clone(&metrics), clock::now())
        .numbered(number as u16, hub.mailboxes.len())
        .clustered(hub.cluster.is_some())
        .keeping_ends(hub.ends.are_kept())
        .drawing(rng());

    let connections = Arc::clone(&hub.connections);
    let mut clients = Clients::new(Arc::clone(&hub.addresses));
    clients.configure(shard.limits(), &shard.settings().trusted_proxies, std::iter::empty());
    let mut sockets =
        Sockets::new(listeners, transport, connections, clients, Arc::clone(&metrics));
    if setup.gate.is_none() {
        sockets.listen()?;
    }
    let worker = Worker::new(shard, sockets, Arc::clone(&hub), number);
    // One descriptor stands for all sockets, so that the runtime has no task per connection.
    let set = Watched::new(worker.set().try_clone_to_owned()?)?;
    let worker = Rc::new(RefCell::new(worker));
    let common = Arc::clone(&hub);
    let feed = publisher::Feed::new(setup.spoken, Rc::clone(&worker), common, metrics, setup.feed)?;
    monoio::spawn(Rc::clone(&feed).accept());
    monoio::spawn(beat(Rc::clone(&worker)));

    // A thread that hangs in its first turn hangs too.
    worker.borrow().beat();
    ready();
    if setup.gate.is_some_and(|gate| !gate.pass(&worker, &feed)) {
        return Ok(());
    }
    let mut feeding = true;
    loop {
        let mut more = worker.borrow_mut().turn();
        for _ in 1..TURNS_MAX {
            more = more && worker.borrow_mut().turn();
        }
        let orders = worker.borrow_mut().take_orders();
        orders.into_iter().for_each(|order| handover::carry_out(order, number, &worker, &feed));
        if worker.borrow_mut().begins_ticking() {
            monoio::spawn(tick(Rc::clone(&worker)));
        }
        if feeding && worker.borrow().draining {
            feeding = false;
            feed.stop();
        }
        if worker.borrow().is_over() && !feed.owes() {
            hub.pulses.shards[number].end();
            return Ok(());
        }
        if more || !worker.borrow_mut().sleep() {
            // Yields to the other tasks of this thread: publishers, the tick and the beat.
            monoio::spawn(async {}).await;
        } else if worker.borrow().holds_back() {
            // No descriptor tells when other threads have room again.
            monoio::time::sleep(ROOM_PAUSE).await;
        } else {
            set.readable().await?;
        }
    }
}

/// Unpredictable numbers: a keyed hash of 1, 2, 3 and so on, with a random key of the system.
fn rng() -> Rng {
    let key = RandomState::new();
    let mut drawn = 0u64;
    Box::new(move || {
        drawn += 1;
        key.hash_one(drawn)
    })
}

/// Shows at intervals that this thread lives, also while no event gives it a turn.
async fn beat(worker: Rc<RefCell<Worker>>) {
    loop {
        monoio::time::sleep(pulse::IDLE_BEAT).await;
        worker.borrow().beat();
    }
}

/// Takes a turn at every tick of the wheel, until nothing timed has existed for a whole tick.
async fn tick(worker: Rc<RefCell<Worker>>) {
    let mut was_idle = false;
    while !was_idle {
        was_idle = worker.borrow().is_idle();
        monoio::time::sleep(Duration::from_millis(TICK_MS)).await;
        worker.borrow_mut().turn_aside();
    }
    worker.borrow_mut().end_ticking();
}
