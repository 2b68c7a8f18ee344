//! Remote verifiers: a real HTTP server that answers, lags, lies, hangs up and goes away.

use crate::harness::{Client, DEADLINE, Daemon, Setup, Verifier, event, eventually, skip};
use rustix::process::Signal;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A daemon whose tokens this verifier verifiers by introspection, with more keys. It has two shards, so that answers
/// have to find theirs.
fn daemon(verifier: &Verifier, more: &str) -> Daemon {
    Setup::new().set("threads", 2).verified_by(&verifier.introspection(more)).start()
}

fn show(daemon: &Daemon, token: &str) -> Client {
    let mut client = daemon.client();
    client.show(token);
    client
}

fn follow(daemon: &Daemon, token: &str) -> Client {
    let mut client = daemon.client();
    client.follow_with(token);
    client
}

/// The session has ended as after every bad token.
#[track_caller]
fn assert_refused(mut client: Client) {
    assert_eq!(client.close_code(), 1000);
}

#[test]
fn a_token_that_the_verifier_knows_opens_a_session_and_another_does_not() {
    let verifier = Verifier::start();
    let secret = ", client_id = \"a client\", client_secret = \"p:w\"";
    let daemon = daemon(&verifier, secret);
    let mut client = follow(&daemon, "good&=é");
    let seen = verifier.seen();
    assert_eq!(seen["last"]["body"], "token=good%26%3D%C3%A9&token_type_hint=access_token");
    let headers = &seen["last"]["headers"];
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["authorization"], "Basic YSUyMGNsaWVudDpwJTNBdw==");
    daemon.publisher().send(event("here", "now"));
    assert!(client.text().contains("now"));
    assert_refused(show(&daemon, "unknown"));
    assert_eq!(daemon.metric("token_checks_total{outcome=\"granted\"}"), 1);
    assert_eq!(daemon.metric("token_checks_total{outcome=\"refused\"}"), 1);
    assert_eq!(daemon.metric("token_check_sessions"), 1);
    drop(client);
    daemon.await_metric("token_check_sessions", 0);
    daemon.await_metric("tokens_watched", 0);
}

#[test]
fn a_thousand_clients_with_one_token_ask_once() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "delay_s": 0.5 }));
    let daemon = daemon(&verifier, ", cache_s = 60");
    let mut clients: Vec<Client> = (0..1000).map(|_| show(&daemon, "good")).collect();
    clients.iter_mut().for_each(|client| assert!(client.text().contains("expires_in")));
    assert_eq!(verifier.asked("good"), 1);
    let answered = |outcome| daemon.metric(&format!("token_checks_total{{outcome=\"{outcome}\"}}"));
    assert_eq!(answered("granted") + answered("cached"), 1000);
    assert_eq!((daemon.metric("token_check_sessions"), daemon.metric("tokens_watched")), (1000, 1));
    drop(clients);
    daemon.await_metric("token_check_sessions", 0);
    follow(&daemon, "good");
    assert_eq!(verifier.asked("good"), 1);
}

#[test]
fn what_follows_a_token_at_once_waits_for_the_verifier() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "delay_s": 0.3 }));
    let daemon = daemon(&verifier, "");
    let mut client = show(&daemon, "good");
    client.say(r#"{"subscribe":{"Type":"*","Object":"*"}}"#);
    assert!(client.text().contains("expires_in"));
    assert!(client.text().contains(r#""response":"success""#));
    daemon.publisher().send(event("here", "now"));
    assert!(client.text().contains("now"));
    // Nobody may make the daemon keep everything.
    let mut flood = show(&daemon, "good2");
    (0..257).for_each(|_| flood.say(r#"{"state":"all"}"#));
    assert_refused(flood);
}

#[test]
fn a_verifier_gets_no_more_requests_at_once_than_it_may() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "delay_s": 0.1 }));
    let daemon = daemon(&verifier, ", concurrency_max = 4");
    let clients: Vec<Client> =
        (0..40).map(|number| show(&daemon, &format!("good{number}"))).collect();
    clients.into_iter().for_each(|mut client| assert!(client.text().contains("expires_in")));
    let seen = verifier.seen();
    assert_eq!((&seen["requests"], &seen["most_at_once"]), (&json!(40), &json!(4)));
}

#[test]
fn a_token_that_is_taken_back_ends_its_sessions_and_no_others() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, ", recheck_s = 1");
    let revoked: Vec<Client> = (0..2).map(|_| follow(&daemon, "good1")).collect();
    let mut other = follow(&daemon, "good2");
    verifier.await_asked("good1", 3);
    verifier.set(&json!({ "refused": ["good1"] }));
    revoked.into_iter().for_each(assert_refused);
    daemon.publisher().send(event("here", "now"));
    assert!(other.text().contains("now"));
    assert_eq!(daemon.metric("token_revocations_total"), 2);
    assert_eq!((daemon.metric("token_check_sessions"), daemon.metric("tokens_watched")), (1, 1));
}

#[test]
fn a_verifier_that_is_down_refuses_newcomers_and_stops_nothing_else() {
    let verifier = Verifier::start();
    let mut daemon = daemon(&verifier, ", recheck_s = 1, timeout_ms = 1000");
    let mut inside = follow(&daemon, "good");
    let host = verifier.address.to_string();
    let port = verifier.kill();
    let start = Instant::now();
    let outside: Vec<Client> =
        (0..20).map(|number| show(&daemon, &format!("good{number}"))).collect();
    daemon.publisher().send(event("here", "meanwhile"));
    assert!(inside.text().contains("meanwhile"));
    outside.into_iter().for_each(assert_refused);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(daemon.metric("token_checks_total{outcome=\"unavailable\"}"), 20);
    let verifier = Verifier::at(port);
    eventually("the verifier is asked again", || {
        let mut client = show(&daemon, "good");
        client.next().is_some_and(|frame| frame.first == 0x81)
    });
    verifier.await_asked("good", 2);
    daemon.publisher().send(event("here", "afterwards"));
    assert!(inside.text().contains("afterwards"), "its session has outlived the outage");
    daemon.await_log("answers again", 1);
    drop(inside);
    daemon.signal(Signal::TERM);
    daemon.wait();
    let failed = daemon.logged("failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains(&format!("asking {host} failed: ")), "{failed:?}");
    assert!(failed[0].contains("clients are refused until it answers"), "{failed:?}");
}

#[test]
fn a_verifier_that_stays_away_ends_its_sessions_after_the_grace() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, ", recheck_s = 1, timeout_ms = 500, grace_s = 2");
    let inside = follow(&daemon, "good");
    verifier.set(&json!({ "status": 503 }));
    let start = Instant::now();
    assert_refused(inside);
    let lived = start.elapsed();
    assert!(lived > Duration::from_secs(2) && lived < DEADLINE, "{lived:?}");
    assert_eq!(daemon.metric("token_revocations_total"), 1);
}

#[test]
fn whatever_a_verifier_answers_only_that_token_is_refused() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, ", timeout_ms = 700");
    let mut inside = follow(&daemon, "good");
    for odd in ["500", "garbage", "never", "cut", "drop", "huge", "moved"] {
        let start = Instant::now();
        assert_refused(show(&daemon, odd));
        assert!(start.elapsed() < Duration::from_secs(10), "{odd}: {:?}", start.elapsed());
        assert_eq!(verifier.asked(odd), 1, "{odd}");
        follow(&daemon, &format!("good after {odd}"));
    }
    assert_eq!(daemon.metric("token_checks_total{outcome=\"unavailable\"}"), 7);
    assert_eq!(daemon.metric("token_check_requests_in_flight"), 0);
    daemon.publisher().send(event("here", "still"));
    assert!(inside.text().contains("still"));
}

#[test]
fn a_client_that_leaves_while_its_token_is_judged_leaves_nothing_behind() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "delay_s": 0.5 }));
    let daemon = daemon(&verifier, ", concurrency_max = 1, cache_s = 0");
    let clients: Vec<Client> =
        (0..20).map(|number| show(&daemon, &format!("good{number}"))).collect();
    daemon.await_metric("token_check_sessions", 20);
    drop(clients);
    daemon.await_metric("token_check_sessions", 0);
    daemon.await_metric("token_check_requests_in_flight", 0);
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("tokens_watched"), 0);
    let asked = verifier.seen()["requests"].as_u64().unwrap();
    assert!(asked < 10, "{asked} requests for nobody");
    let forgotten = daemon.metric("token_checks_total{outcome=\"forgotten\"}");
    assert_eq!(forgotten + daemon.metric("token_checks_total{outcome=\"granted\"}"), 20);
}

#[test]
fn a_reload_brings_the_first_remote_verifier_and_takes_it_away() {
    let verifier = Verifier::start();
    let daemon = Setup::new().start();
    drop(daemon.subscriber());
    daemon.reload_verified_by(&verifier.introspection(""));
    eventually("the new verifier is asked", || {
        let mut client = show(&daemon, "good");
        client.next().is_some_and(|frame| frame.first == 0x81)
    });
    let _stays = follow(&daemon, "good");
    daemon.reload_verified_by(&format!("static = {{ file = {:?} }}", daemon.path("tokens.toml")));
    daemon.await_log("not reloaded", 1);
    std::fs::write(daemon.path("tokens.toml"), "").unwrap();
    daemon.reload_verified_by(&format!("static = {{ file = {:?} }}", daemon.path("tokens.toml")));
    daemon.await_metric("token_check_sessions", 0);
    assert_refused(show(&daemon, "good"));
    daemon.await_metric("connections", 1);
}

#[test]
fn a_verifier_that_does_not_answer_does_not_hold_up_a_stop() {
    let verifier = Verifier::start();
    let setup = Setup::new().set("limits.close_timeout_s", 1);
    let mut daemon = setup.verified_by(&verifier.introspection(", timeout_ms = 60000")).start();
    let _waits = show(&daemon, "never");
    verifier.await_asked("never", 1);
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Makes an authority and a certificate of it for 127.0.0.1, as `ca.pem`, `cert.pem` and `key.pem`.
fn certificates(directory: &Path) -> bool {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .is_ok_and(|out| out.status.success())
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"))
        && openssl(&format!(
            "{new} -CA ca.pem -CAkey ca.key -subj /CN=verifier -addext subjectAltName=IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem"
        ))
}

#[test]
fn a_verifier_over_tls_is_trusted_by_its_authority_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    if !certificates(directory.path()) {
        return skip("a verifier over TLS", "openssl makes no certificates here");
    }
    let verifier = Verifier::over_tls(&path("cert.pem"), &path("key.pem"));
    let url = format!("url = \"https://{}/introspect\"", verifier.address);
    let trusting = format!("introspection = {{ {url}, ca_file = {:?} }}", path("ca.pem"));
    let daemon = Setup::new().verified_by(&trusting).start();
    follow(&daemon, "good");
    daemon.reload_verified_by(&format!("introspection = {{ {url}, cache_s = 0 }}"));
    let refused = || show(&daemon, "good2").next().is_some_and(|frame| frame.first == 0x88);
    eventually("the verifier is a stranger", refused);
    daemon.await_log("invalid peer certificate: UnknownIssuer", 1);
    assert_eq!(daemon.metric("token_checks_total{outcome=\"granted\"}"), 1);
}

#[test]
fn neither_tokens_nor_the_clients_secret_are_in_a_log_or_in_what_check_prints() {
    let verifier = Verifier::start();
    let setup = Setup::new().set("log.level", "debug");
    std::fs::write(setup.path("client.secret"), "a-secret-of-the-client\n").unwrap();
    let file =
        format!(", client_id = \"us\", client_secret_file = {:?}", setup.path("client.secret"));
    let setup = setup.verified_by(&verifier.introspection(&(file + ", timeout_ms = 500")));
    let file = setup.path("fanfare.toml");
    let check =
        crate::harness::command(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    let check = String::from_utf8(check.stdout).unwrap();
    let line = format!(
        "tokens personium-event: token introspection (RFC 7662) asks {}\n",
        verifier.address
    );
    assert!(check.contains(&line), "{check}");
    let mut daemon = setup.start();
    follow(&daemon, "good-token-0123456789");
    for odd in ["garbage", "never", "drop", "bad-token-0123456789"] {
        assert_refused(show(&daemon, odd));
    }
    daemon.signal(Signal::TERM);
    daemon.wait();
    let seen = daemon.log().join("\n") + &check;
    assert!(seen.contains("DEBUG") && seen.contains("asking "));
    for secret in ["token-0123456789", "a-secret", "YS1zZWNyZXQ", "introspect?", "/introspect"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
}
