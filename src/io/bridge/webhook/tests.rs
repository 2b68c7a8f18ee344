//! The bridge tells a real HTTP server: what shards hand in comes out as requests, whatever the
//! server does.

// The tests of the whole daemon use more of it.
#[allow(dead_code)]
#[path = "../../../../tests/world/harness/receiver.rs"]
mod receiver;
#[allow(dead_code)]
#[path = "../../../../tests/world/harness/script.rs"]
mod script;

use self::receiver::Receiver;
use super::super::handle::{Bridge, BridgeMessage, WEBHOOKS_MAX};
use super::super::verification::Verifiers;
use super::super::{Feeds, Hub, start};
use super::*;
use crate::dialect::Settings;
use crate::io::clock;
use crate::io::cluster::ClusterHandle;
use crate::service::ConnectionRef;
use crate::service::webhook::{
    Callback, Webhook, WebhookApp, WebhookEvent, WebhookKind, WebhookName, WebhookOutcome,
    WebhookReceipt,
};
use crate::trust;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Who asks: no answer comes back.
const NOBODY: ConnectionRef = ConnectionRef { shard: 0, id: 0, serial: 0 };

const DEADLINE: Duration = Duration::from_secs(20);

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "still not so after {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Status and the whole text of an answer.
fn http(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text[9..12].parse().unwrap(), text)
}

/// What a shard sees of a daemon whose bridge tells these.
struct Daemon(Arc<Hub>);

impl Daemon {
    fn new(recipients: Recipients) -> Self {
        Self::with(WebhookClient::new(recipients).unwrap())
    }

    fn with(post: WebhookClient) -> Self {
        let settings = Arc::default();
        let mut hub = Hub::new(1, 1, &[], &settings).unwrap();
        hub.cluster = Some(Arc::new(ClusterHandle::new()));
        let hub = Arc::new(hub);
        hub.ready.store(true, std::sync::atomic::Ordering::Relaxed);
        let none = Verifiers::new(&Settings::default()).unwrap();
        start(&hub, none, post, Feeds::default()).unwrap();
        let daemon = Self(hub);
        daemon.lease(u64::MAX);
        daemon
    }

    /// Lets webhooks of journals be told until a moment.
    fn lease(&self, until_ns: u64) {
        self.0.bridge.lease_webhooks(until_ns, clock::now());
    }

    fn call(&self, channel: &str, body: &str) {
        let (channel, token, body) = (channel.into(), "a.b.c".into(), body.into());
        self.0.bridge.notify(vec![(
            NOBODY,
            Webhook::Callback(Callback { channel, token, body, client: None }),
        )]);
    }

    /// Events with this JSON, in one turn of a shard.
    fn events(&self, name: WebhookName, json: &[&str]) {
        let event = |json: &&str| {
            let (app, subject) = ("a".into(), "room".into());
            let (json, receipt) = ((*json).into(), None);
            (NOBODY, Webhook::Event(WebhookEvent { app, name, subject, json, receipt }))
        };
        self.0.bridge.notify(json.iter().map(event).collect());
    }

    /// Events that the cluster's journals know by these receipts.
    fn journaled(&self, receipts: &[(u8, u64)]) {
        let event = |&(partition, number): &(u8, u64)| {
            let (app, subject, json) = ("a".into(), "room".into(), number.to_string().into());
            let receipt = Some(WebhookReceipt { partition, number });
            Webhook::Event(WebhookEvent {
                app,
                name: WebhookName::CacheMiss,
                subject,
                json,
                receipt,
            })
        };
        self.0.notify_for_cluster(receipts.iter().map(event).collect());
    }

    /// Waits until the cluster has heard of as many receipts.
    #[track_caller]
    fn await_settled(&self, count: usize) -> Vec<(u8, u64)> {
        let mut settled = Vec::new();
        eventually("webhooks are settled", || {
            let receipts = self.0.cluster.as_ref().unwrap().settled().into_iter();
            settled.extend(receipts.map(|receipt| (receipt.partition, receipt.number)));
            settled.len() >= count
        });
        settled
    }

    #[track_caller]
    fn await_outcome(&self, kind: WebhookKind, outcome: WebhookOutcome, count: u64) {
        let what = format!("{count} of {kind:?} are {outcome:?}");
        eventually(&what, || {
            self.0.bridge_metrics().webhooks.outcomes[kind as usize][outcome as usize].get()
                == count
        });
    }

    fn retries(&self, kind: WebhookKind) -> u64 {
        self.0.bridge_metrics().webhooks.retries[kind as usize].get()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.bridge.stop(Duration::ZERO);
    }
}

fn calling(url: &str, more: &str) -> Recipients {
    let settings = toml::from_str(&format!("url = \"{url}\"\n{more}")).unwrap();
    Recipients { callback: Some(settings), webhooks: Vec::new() }
}

fn hooked(url: &str, more: &str) -> Recipients {
    let app = WebhookApp { id: "a".into(), key: "the key".into(), secret: "hush".into() };
    let settings = toml::from_str(&format!("url = \"{url}\"\n{more}")).unwrap();
    Recipients { callback: None, webhooks: vec![(app, settings)] }
}

fn bodies(requests: &[Value]) -> Vec<&str> {
    requests.iter().map(|request| request["body"].as_str().unwrap()).collect()
}

#[test]
fn a_callback_comes_as_the_protocol_says_and_nothing_else_comes() {
    let receiver = Receiver::start();
    let daemon = Daemon::new(calling(&receiver.url("/api/chat?x=1"), ""));
    daemon.call("chat:1", r#"{"data":"é"}"#);
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Delivered, 1);
    let headers = json!({
        "host": receiver.address.to_string(),
        "authorization": "Bearer a.b.c",
        "content-type": "application/json",
        "accept": "application/json",
        "content-length": "13",
    });
    let body = r#"{"data":"é"}"#;
    let expected =
        json!({ "method": "POST", "path": "/api/chat?x=1", "headers": headers, "body": body });
    assert_eq!(receiver.requests(), [expected]);
}

#[test]
fn a_webhook_comes_as_the_protocol_says() {
    let receiver = Receiver::start();
    let daemon = Daemon::new(hooked(&receiver.url("/hook"), ""));
    daemon.events(WebhookName::CacheMiss, &["1", "2"]);
    daemon.await_outcome(WebhookKind::Event, WebhookOutcome::Delivered, 2);
    let request = &receiver.requests()[0];
    let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["events"], json!([1, 2]));
    let headers = request["headers"].as_object().unwrap();
    let names: Vec<&str> = headers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["content-length", "content-type", "host", "x-pusher-key", "x-pusher-signature"]
    );
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-pusher-key"], "the key");
    assert_eq!(headers["x-pusher-signature"].as_str().unwrap().len(), 64);
}

#[test]
fn channels_are_called_at_the_same_time_and_one_channel_in_order() {
    let receiver = Receiver::start();
    receiver.set(&json!({ "delay_s": 0.3 }));
    let daemon = Daemon::new(calling(&receiver.url("/"), "concurrency = 4"));
    (0..8).for_each(|number| daemon.call(&format!("chat:{number}"), "x"));
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Delivered, 8);
    assert_eq!(receiver.seen()["most_at_once"], 4);
    let receiver = Receiver::start();
    receiver.set(&json!({ "delay_s": 0.05 }));
    let daemon = Daemon::new(calling(&receiver.url("/"), "concurrency = 4"));
    (0..5).for_each(|number| daemon.call("chat:1", &number.to_string()));
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Delivered, 5);
    assert_eq!(receiver.seen()["most_at_once"], 1);
    assert_eq!(bodies(&receiver.requests()), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_server_that_hangs_up_errs_or_takes_too_long_is_called_once_more() {
    for answer in [json!("drop"), json!(500), json!("hang")] {
        let receiver = Receiver::start();
        receiver.set(&json!({ "answers": [answer], "status": 204 }));
        let daemon = Daemon::new(calling(&receiver.url("/"), "timeout_s = 2"));
        daemon.call("chat:1", "first");
        daemon.call("chat:1", "second");
        daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Delivered, 2);
        assert_eq!(bodies(&receiver.requests()), ["first", "first", "second"], "after {answer}");
        assert_eq!(daemon.retries(WebhookKind::Callback), 1);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let receiver = Receiver::start();
    receiver.set(&json!({ "answers": [302] }));
    let daemon = Daemon::new(calling(&receiver.url("/"), ""));
    daemon.call("chat:1", "first");
    daemon.call("chat:1", "second");
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Failed, 1);
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Delivered, 1);
    let paths: Vec<Value> =
        receiver.requests().iter().map(|request| request["path"].clone()).collect();
    assert_eq!(paths, ["/", "/"]);
}

#[test]
fn a_webhook_that_is_down_gets_its_events_in_order_when_it_is_back() {
    let receiver = Receiver::start();
    let daemon = Daemon::new(hooked(&receiver.url("/"), ""));
    let port = receiver.kill();
    daemon.events(WebhookName::CacheMiss, &["1"]);
    eventually("it was tried again", || daemon.retries(WebhookKind::Event) > 0);
    daemon.events(WebhookName::CacheMiss, &["2"]);
    let receiver = Receiver::at(port);
    daemon.await_outcome(WebhookKind::Event, WebhookOutcome::Delivered, 2);
    let requests = receiver.requests();
    let events: Vec<&str> =
        bodies(&requests).iter().map(|body| body.split_once("events").unwrap().1).collect();
    assert_eq!(events, ["\":[1]}", "\":[2]}"]);
}

#[test]
fn https_is_spoken_with_whoever_can_be_believed() {
    let directory = tempfile::TempDir::new().unwrap();
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (certificate_file, key_file) =
        (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let receiver = Receiver::over_tls(&certificate_file, &key_file);
    let recipients = calling(&format!("https://{}/", receiver.address), "timeout_s = 20");
    let client = Client::new(trust::named(vec![certificate.der().clone()]).unwrap(), KEPT_MAX);
    let daemon = Daemon::with(WebhookClient { recipients: recipients.clone(), client });
    daemon.call("chat:1", "x");
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Delivered, 1);
    // No authority of a system has signed it, if there are any.
    let Ok(post) = WebhookClient::new(recipients) else { return };
    let stranger = Daemon::with(post);
    stranger.call("chat:1", "x");
    stranger.await_outcome(WebhookKind::Callback, WebhookOutcome::Failed, 1);
}

/// What the daemons of these tests have logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stop_tells_what_it_can_and_says_how_much_it_could_not() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init();
    let receiver = Receiver::start();
    receiver.set(&json!({ "delay_s": 0.2 }));
    let daemon = Daemon::new(hooked(&receiver.url("/"), ""));
    daemon.events(WebhookName::ChannelVacated, &["1"]);
    let start = Instant::now();
    daemon.0.bridge.stop(DEADLINE);
    assert!(start.elapsed() < DEADLINE, "it ends when nothing is left");
    assert_eq!(receiver.requests().len(), 1, "the leave did not wait for its return");
    daemon.await_outcome(WebhookKind::Event, WebhookOutcome::Delivered, 1);
    assert!(!daemon.0.bridge.running.load(std::sync::atomic::Ordering::Relaxed));

    receiver.set(&json!({ "status": "hang" }));
    let daemon = Daemon::new(calling(&receiver.url("/"), ""));
    (0..7).for_each(|_| daemon.call("chat:1", "x"));
    receiver.await_requests(2);
    let start = Instant::now();
    daemon.0.bridge.stop(Duration::from_millis(100));
    assert!(start.elapsed() >= Duration::from_millis(100));
    let lost =
        || String::from_utf8_lossy(&LOG.lock().unwrap()).contains(" 7 webhooks were not delivered");
    eventually("it has said so", lost);
}

#[test]
fn what_the_bridge_has_no_room_for_is_dropped_and_counted() {
    let call = |bytes: usize| {
        let (channel, token) = ("chat:1".into(), "".into());
        (
            NOBODY,
            Webhook::Callback(Callback {
                channel,
                token,
                body: "x".repeat(bytes).into(),
                client: None,
            }),
        )
    };
    let lost = |bridge: &Bridge| bridge.lost.each_ref().map(|lost| lost.load(Relaxed));
    let running = || {
        let bridge = Bridge::default();
        bridge.running.store(true, Relaxed);
        bridge
    };
    let many = running();
    many.notify((0..WEBHOOKS_MAX + 3).map(|_| call(1)).collect());
    assert_eq!((many.webhooks.depth(), lost(&many)), (WEBHOOKS_MAX, [3, 0]));
    let long = running();
    long.notify((0..100).map(|_| call(1024 * 1024)).collect());
    assert_eq!((long.webhooks.depth(), lost(&long)), (63, [37, 0]));
    let daemon = Daemon::new(calling("http://127.0.0.1:1/", ""));
    let bridge = &daemon.0.bridge;
    bridge.lost.iter().zip([2, 5]).for_each(|(lost, count)| lost.store(count, Relaxed));
    bridge.inbox.post([BridgeMessage::Drain]);
    daemon.await_outcome(WebhookKind::Callback, WebhookOutcome::Dropped, 2);
    daemon.await_outcome(WebhookKind::Event, WebhookOutcome::Dropped, 5);
}

#[test]
fn the_cluster_hears_what_became_of_the_webhooks_that_its_journals_know() {
    let receiver = Receiver::start();
    let daemon = Daemon::new(hooked(&receiver.url("/"), ""));
    daemon.journaled(&[(3, 7), (12, 1)]);
    assert_eq!(daemon.await_settled(2), [(3, 7), (12, 1)]);
    let request = &receiver.requests()[0];
    assert_eq!(request["headers"]["x-fanfare-delivery"], "03-7,12-1");

    // With more of them than the inbox takes of the shards.
    let many: Vec<(u8, u64)> = (0..WEBHOOKS_MAX as u64 + 5).map(|number| (0, number)).collect();
    let daemon = Daemon::new(hooked(&receiver.url("/"), "queue_max = 20000"));
    daemon.lease(0);
    daemon.journaled(&many);
    eventually("all wait", || {
        daemon.0.bridge_metrics().webhooks.waiting[WebhookKind::Event as usize].get()
            == many.len() as u64
    });
    daemon.lease(u64::MAX);
    assert_eq!(daemon.await_settled(many.len()), many);
}

#[test]
fn what_the_cluster_has_forgotten_is_not_told_and_what_comes_after_it_is() {
    let receiver = Receiver::start();
    let daemon = Daemon::new(hooked(&receiver.url("/"), ""));
    daemon.journaled(&[(3, 1), (4, 1)]);
    daemon.0.bridge.forget_webhooks(3);
    daemon.journaled(&[(3, 2)]);
    assert_eq!(daemon.await_settled(2), [(4, 1), (3, 2)]);
    assert_eq!(receiver.requests()[0]["headers"]["x-fanfare-delivery"], "04-1,03-2");
}

#[test]
fn webhooks_that_found_no_room_in_a_journal_are_counted_at_once() {
    let daemon = Daemon::new(hooked("http://127.0.0.1:1/", ""));
    daemon.0.bridge.lose_webhooks(3);
    daemon.await_outcome(WebhookKind::Event, WebhookOutcome::Dropped, 3);
}

#[test]
fn without_a_bridge_webhooks_of_a_journal_are_settled_at_once() {
    let daemon = Daemon::new(hooked("http://127.0.0.1:1/", ""));
    daemon.0.bridge.stop(Duration::ZERO);
    eventually("it has ended", || !daemon.0.bridge.running.load(Relaxed));
    daemon.journaled(&[(3, 1)]);
    assert_eq!(daemon.await_settled(1), [(3, 1)]);
}
