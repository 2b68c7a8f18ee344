//! The export over OTLP, read with OpenTelemetry's own messages.

use crate::harness::{Client, Daemon, PATH, Receiver, Setup, eventually, head, pypi};
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn exporting(receiver: &Receiver) -> Setup {
    let setup = Setup::new();
    let (file, headers) = (setup.path("fanfare.toml"), setup.path("headers"));
    std::fs::write(
        &headers,
        "Authorization: Bearer a secret of the collector\n\nX-Scope: fanfare\n",
    )
    .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let otlp = format!(
        "[otlp]\nurl = \"{}\"\ninterval_s = 1\ntraces = true\nheaders_file = {headers:?}\n",
        receiver.url("/below/")
    );
    std::fs::write(&file, text + &otlp).unwrap();
    setup
}

/// What a collector makes of the requests to these paths.
#[track_caller]
fn read(requests: &[Value]) -> Value {
    let requests = requests.iter().map(|request| {
        let path = request["path"].as_str().unwrap().strip_prefix("/below").unwrap();
        serde_json::json!({ "path": path, "body": request["body"] })
    });
    let mut python = pypi("otlp.py");
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let requests = Value::Array(requests.collect()).to_string();
    child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the collector refuses them");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until both ends of [`come_and_go`] were sent.
#[track_caller]
fn await_spans(receiver: &Receiver) {
    eventually("two sessions are sent", || {
        let requests = receiver.requests();
        let traces = requests.iter().filter(|request| request["path"] == "/below/v1/traces");
        let spans = traces.map(|request| {
            let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
            body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len()
        });
        spans.sum::<usize>() == 2
    });
}

/// A client that comes with its token and leaves, and one that is refused.
fn come_and_go(daemon: &Daemon) {
    let mut client = Client::upgraded(daemon.address, PATH);
    client.frame(0x88, &1000u16.to_be_bytes());
    while client.next().is_some() {}
    let mut refused = Client::raw(daemon.address);
    refused.bytes(head("/nowhere").as_bytes());
    assert_eq!(refused.response().0, 404);
}

#[test]
fn a_collector_gets_metrics_and_ended_sessions() {
    let receiver = Receiver::start();
    let daemon = exporting(&receiver).start();
    come_and_go(&daemon);
    await_spans(&receiver);
    let exported = receiver.requests().len();
    let requests = receiver.await_requests(exported + 1);
    for request in &requests {
        assert_eq!(request["method"], "POST");
        assert_eq!(request["headers"]["content-type"], "application/json");
        assert_eq!(request["headers"]["authorization"], "Bearer a secret of the collector");
        assert_eq!(request["headers"]["x-scope"], "fanfare");
    }

    let seen = read(&requests);
    let metrics = &seen["metrics"];
    assert_eq!(metrics["fanfare_handshakes{outcome=accepted}"], 1, "{metrics}");
    assert_eq!(metrics["fanfare_refusals{reason=not_found}"], 1);
    assert_eq!(metrics["fanfare_connections"], 0);
    assert!(metrics["process_cpu_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(metrics["fanfare_publish_to_write_seconds"], 0, "no event has come");

    let [session, refusal] = &seen["spans"].as_array().unwrap()[..] else {
        panic!("two spans: {}", seen["spans"])
    };
    let (session, refusal) =
        if session["error"] == true { (refusal, session) } else { (session, refusal) };
    assert_eq!(session["name"], "personium-event session");
    assert_eq!(session["fanfare.reason"], "client");
    assert_eq!(session["client.address"], "127.0.0.1");
    assert_eq!(refusal["fanfare.reason"], "not_found");
    assert_eq!((&refusal["fanfare.code"], &refusal["error"]), (&404.into(), &true.into()));
}

#[test]
fn a_stop_exports_the_sessions_that_it_ends() {
    let receiver = Receiver::start();
    // Nothing is due while the test runs but what the start exports.
    let mut daemon = exporting(&receiver).set("otlp.interval_s", 3600).start();
    receiver.await_requests(1);
    let mut client = Client::upgraded(daemon.address, PATH);
    client.follow_with(&crate::harness::token());
    let mut refused = Client::raw(daemon.address);
    refused.bytes(head("/nowhere").as_bytes());
    assert_eq!(refused.response().0, 404);
    daemon.signal(Signal::TERM);
    assert_eq!(client.close_code(), 1001);
    drop(client);
    assert!(daemon.wait().success());
    // It was there before the daemon ended.
    let seen = read(&receiver.requests());
    let spans = seen["spans"].as_array().unwrap();
    let reasons: Vec<&Value> = spans.iter().map(|span| &span["fanfare.reason"]).collect();
    assert_eq!(reasons, ["not_found", "drain"]);
}

#[test]
fn a_stop_does_not_wait_for_a_collector_that_does_not_answer() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut daemon = Setup::new().set("otlp.url", url).set("drain_s", 10).start();
    daemon.signal(Signal::TERM);
    let start = Instant::now();
    assert!(daemon.wait().success());
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn a_collector_that_is_away_for_a_while_misses_no_session() {
    let receiver = Receiver::start();
    let setup = exporting(&receiver);
    let port = receiver.kill();
    let daemon = setup.start();
    daemon.await_log("does not take metrics and sessions", 1);
    come_and_go(&daemon);
    let failed = "otlp_exports_total{outcome=\"failed\"}";
    let before = daemon.metric(failed);
    eventually("it is tried again", || daemon.metric(failed) > before + 1);
    let told = daemon.logged("does not take metrics and sessions");
    assert_eq!(told.len(), 1, "it is told once: {told:?}");
    assert!(daemon.log().iter().all(|line| !line.contains("a secret of the collector")));

    let receiver = Receiver::at(port);
    daemon.await_log("takes exports again", 1);
    await_spans(&receiver);
    assert_eq!(read(&receiver.requests())["spans"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.metric("otlp_sessions_dropped_total"), 0);
}

#[test]
fn what_a_collector_refuses_for_good_is_counted_and_not_sent_again() {
    let receiver = Receiver::start();
    receiver.set(&serde_json::json!({ "paths": { "/below/v1/traces": 400 } }));
    let daemon = exporting(&receiver).start();
    come_and_go(&daemon);
    daemon.await_metric("otlp_sessions_dropped_total", 2);
    receiver.set(&serde_json::json!({ "paths": {} }));
    let exported = receiver.requests().len();
    receiver.await_requests(exported + 2);
    // Each was sent once.
    await_spans(&receiver);
}
