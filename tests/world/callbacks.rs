//! What other services are told, what is told of it, and that no client waits for them.

use crate::channel::{OK, ann, join, setup, token};
use crate::harness::{Authority, Client, Daemon, Receiver, Setup, head};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A daemon whose clients' messages of the kind `chat` go to a URL, with more keys for that table. It logs all that
/// it can.
fn telling(url: &str, keys: &str) -> Setup {
    let setup = setup().set("log.level", "debug");
    configure(&setup, &format!("[channel.callback]\nurl = {url:?}\n{keys}"));
    setup
}

/// Adds a table to the file of a daemon to be.
fn configure(setup: &Setup, table: &str) {
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(setup.path("bare.toml"), &text).unwrap();
    std::fs::write(file, text + table).unwrap();
}

/// Gives a running daemon another table instead.
fn reconfigure(daemon: &Daemon, table: &str) {
    let bare = std::fs::read_to_string(daemon.path("bare.toml")).unwrap();
    std::fs::write(daemon.path("fanfare.toml"), bare + table).unwrap();
    let before = daemon.logged("reloaded").len();
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", before + 1);
}

fn count(outcome: &str) -> String {
    format!("webhooks_total{{kind=\"callback\",outcome=\"{outcome}\"}}")
}

fn retries() -> &'static str {
    "webhook_retries_total{kind=\"callback\"}"
}

/// Says something and hears it: whoever is told of it, the channel has it.
fn say(client: &mut Client, message: impl Into<Value>) {
    let data = json!({"message": message.into()});
    assert_eq!(client.ask(&format!(r#"{{"data":{data}}}"#)), OK);
    let heard = client.text();
    assert!(heard.ends_with(&format!(r#""data":{data}}}"#)), "{heard}");
}

/// The messages that were told, in their order.
fn messages(requests: &[Value]) -> Vec<Value> {
    let body = |request: &Value| -> Value {
        serde_json::from_str(request["body"].as_str().unwrap()).unwrap()
    };
    requests.iter().map(|request| body(request)["data"]["message"].clone()).collect()
}

#[test]
fn metrics_tell_what_has_become_of_webhooks_of_either_kind() {
    let daemon = Setup::new().start();
    for kind in ["callback", "webhook"] {
        for outcome in ["delivered", "failed", "dropped"] {
            let name = format!("webhooks_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
            assert_eq!(daemon.metric(&name), 0);
        }
        assert_eq!(daemon.metric(&format!("webhook_retries_total{{kind=\"{kind}\"}}")), 0);
        assert_eq!(daemon.metric(&format!("webhooks_waiting{{kind=\"{kind}\"}}")), 0);
    }
}

#[test]
fn a_callback_gets_what_the_client_has_said_with_its_token() {
    let receiver = Receiver::start();
    let daemon = telling(&receiver.url("/api/chat?of=us"), "").start();
    let token = ann();
    let mut client = join(&daemon, &token);
    let data = r#"{"name":"N", "message":"h\u00e9é", "target_user_id":2,"n":12345678901234567890}"#;
    assert_eq!(client.ask(&format!(r#"{{"x":1,"data":{data}}}"#)), OK);
    // Neither is told: what is no message, and what is said in a channel of another kind.
    assert_eq!(client.ask(r#"{"data":1}"#), r#"{"type":"sended","ok":false}"#);
    let mut other = join(&daemon, &crate::channel::token(json!({"channel": "chatter:1"}), 3600));
    say(&mut other, "aside");
    daemon.publisher().send("channel {\"channel\":\"chat:1\",\"data\":{\"message\":\"fed\"}}\n");
    assert!(client.text().contains("fed"));
    say(&mut client, "last");
    let requests = receiver.await_requests(2);
    let body = format!(r#"{{"channel":"chat:1","sender":{{"name":"Ann","id":1}},"data":{data}}}"#);
    assert_eq!(
        requests[0],
        json!({
            "method": "POST",
            "path": "/api/chat?of=us",
            "headers": {
                "host": receiver.address.to_string(),
                "authorization": format!("Bearer {token}"),
                "content-type": "application/json",
                "accept": "application/json",
                "x-forwarded-for": "127.0.0.1",
                "content-length": body.len().to_string(),
            },
            "body": body,
        })
    );
    assert_eq!(messages(&requests[1..]), ["last"]);
    daemon.await_metric(&count("delivered"), 2);
    assert_eq!(daemon.metric("webhooks_waiting{kind=\"callback\"}"), 0);
    assert!(daemon.logged(&token).is_empty());
}

#[test]
fn a_callback_tells_the_client_that_a_trusted_proxy_tells_of() {
    let receiver = Receiver::start();
    let daemon =
        telling(&receiver.url("/api/chat"), "").set("trusted_proxies", r#"["127.0.0.1"]"#).start();
    let mut client = Client::raw(daemon.address);
    let told = "\r\nX-Forwarded-For: 2001:db8::1\r\n\r\n";
    client.bytes(head(&format!("/?token={}", ann())).replace("\r\n\r\n", told).as_bytes());
    assert_eq!(client.answer(), 101);
    say(&mut client, "from afar");
    assert_eq!(receiver.await_requests(1)[0]["headers"]["x-forwarded-for"], "2001:db8::1");
}

/// What is heard while the first call hangs was not held up by it, and no time has to be measured.
#[test]
fn a_receiver_that_hangs_holds_up_its_channel_and_no_broadcast() {
    let receiver = Receiver::start();
    receiver.set(&json!({"answers": ["hang"]}));
    let daemon = telling(&receiver.url("/"), "timeout_s = 60").set("threads", 2).start();
    let (mut client, mut reader) = (join(&daemon, &ann()), join(&daemon, &ann()));
    daemon.await_metric("subscriptions", 2);
    say(&mut client, 0);
    receiver.await_requests(1);
    for number in 1..50 {
        say(&mut client, number);
    }
    for number in 0..50 {
        assert!(reader.text().ends_with(&format!("{{\"message\":{number}}}}}")));
    }
    let mut elsewhere = join(&daemon, &token(json!({"channel": "chat:2"}), 3600));
    say(&mut elsewhere, "elsewhere");
    let requests = receiver.await_requests(2);
    assert_eq!(
        messages(&requests),
        [json!(0), json!("elsewhere")],
        "other channels are told at once"
    );
    // Left without an answer, the first is told once more, and the others after it.
    receiver.set(&json!({"released": true}));
    let requests = receiver.await_requests(52);
    let here: Vec<Value> = messages(&requests).into_iter().filter(Value::is_number).collect();
    let expected: Vec<Value> = [0].into_iter().chain(0..50).map(Value::from).collect();
    assert_eq!(here, expected);
    daemon.await_metric(&count("delivered"), 51);
    assert_eq!((daemon.metric(&count("failed")), daemon.metric(retries())), (0, 1));
    assert!(daemon.logged("eyJ").is_empty(), "no token is logged");
}

#[test]
fn a_receiver_without_an_answer_is_waited_for_no_longer_than_configured() {
    let receiver = Receiver::start();
    receiver.set(&json!({"answers": ["hang", "hang"]}));
    let daemon = telling(&receiver.url("/"), "timeout_s = 1").start();
    let mut client = join(&daemon, &ann());
    ["never", "then"].iter().for_each(|message| say(&mut client, *message));
    assert_eq!(messages(&receiver.await_requests(3)), ["never", "never", "then"]);
    daemon.await_metric(&count("delivered"), 1);
    assert_eq!((daemon.metric(&count("failed")), daemon.metric(retries())), (1, 1));
    daemon.await_log("no answer within 1000 ms; giving up on this request", 1);
}

#[test]
fn an_error_of_the_server_is_tried_once_more_and_a_refusal_is_not() {
    let receiver = Receiver::start();
    receiver.set(&json!({"answers": [500, 204, 503, 500, 404, 302, "drop", 201]}));
    let daemon = telling(&receiver.url("/"), "").start();
    let mut client = join(&daemon, &ann());
    for message in ["good at last", "never good", "refused", "elsewhere", "dropped"] {
        say(&mut client, message);
    }
    let requests = receiver.await_requests(8);
    assert_eq!(
        messages(&requests),
        [
            "good at last",
            "good at last",
            "never good",
            "never good",
            "refused",
            "elsewhere",
            "dropped",
            "dropped"
        ]
    );
    daemon.await_metric(&count("delivered"), 2);
    assert_eq!((daemon.metric(&count("failed")), daemon.metric(retries())), (3, 3));
    daemon.await_log("it answered 500; retrying", 1);
    daemon.await_log("it answered 500; giving up on this request", 1);
    assert!(daemon.logged("eyJ").is_empty(), "no token is logged");
}

#[test]
fn a_receiver_that_is_dead_is_told_of_in_the_log_and_comes_back() {
    let receiver = Receiver::start();
    let daemon = telling(&receiver.url("/"), "").start();
    let mut client = join(&daemon, &ann());
    say(&mut client, "zero");
    daemon.await_metric(&count("delivered"), 1);
    let port = receiver.kill();
    say(&mut client, "one");
    say(&mut client, "two");
    daemon.await_metric(&count("failed"), 2);
    assert_eq!(daemon.metric(retries()), 2);
    daemon.await_log("calling the callback at", 2);
    daemon.await_log("; giving up on this request", 1);
    let receiver = Receiver::at(port);
    say(&mut client, "three");
    assert_eq!(messages(&receiver.await_requests(1)), ["three"]);
    daemon.await_metric(&count("delivered"), 2);
    assert!(daemon.logged("eyJ").is_empty(), "no token is logged");
}

/// Whom the daemon's machine trusts is told by a variable that every program knows.
#[test]
fn a_callback_over_tls_is_told_by_whom_the_machine_trusts() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    authority.sign().install(directory.path());
    let file = |name: &str| directory.path().join(name);
    let receiver = Receiver::over_tls(&file("cert.pem"), &file("key.pem"));
    let url = format!("https://localhost:{}/", receiver.address.port());
    for (trusted, outcome) in [(&authority, "delivered"), (&stranger, "failed")] {
        std::fs::write(file("trusted.pem"), &trusted.pem).unwrap();
        let variable = format!("SSL_CERT_FILE={}", file("trusted.pem").display());
        let daemon = telling(&url, "").by(&["env", &variable]).start();
        say(&mut join(&daemon, &ann()), "psst");
        daemon.await_metric(&count(outcome), 1);
        let complaints = daemon.logged("calling the callback at localhost");
        assert_eq!(
            complaints.iter().filter(|line| line.contains("certificate")).count(),
            complaints.len()
        );
        assert_eq!(complaints.is_empty(), outcome == "delivered", "{complaints:?}");
    }
}

#[test]
fn a_full_queue_loses_the_newest_and_says_so() {
    let receiver = Receiver::start();
    receiver.set(&json!({"answers": ["hang"]}));
    let daemon =
        telling(&receiver.url("/"), "timeout_s = 60\nconcurrency = 1\nqueue_max = 2").start();
    let mut client = join(&daemon, &ann());
    say(&mut client, 0);
    receiver.await_requests(1);
    (1..6).for_each(|number| say(&mut client, number));
    daemon.await_metric(&count("dropped"), 3);
    daemon.await_log("the queue for the callback at", 1);
    receiver.set(&json!({"released": true}));
    let requests = receiver.await_requests(4);
    assert_eq!(messages(&requests), [0, 0, 1, 2]);
    daemon.await_metric(&count("delivered"), 3);
    assert_eq!(daemon.metric("webhooks_waiting{kind=\"callback\"}"), 0);
    say(&mut client, 6);
    assert_eq!(messages(&receiver.await_requests(5)[4..]), [6]);
}

#[test]
fn a_reload_changes_takes_away_and_brings_back_the_callback() {
    let receiver = Receiver::start();
    let table = |path: &str| {
        format!("[channel.callback]\nurl = {:?}\ntimeout_s = 60\n", receiver.url(path))
    };
    let daemon = telling(&receiver.url("/one"), "").start();
    let mut client = join(&daemon, &ann());
    say(&mut client, 1);
    receiver.await_requests(1);
    reconfigure(&daemon, &table("/two"));
    say(&mut client, 2);
    receiver.await_requests(2);
    // What waits for somebody who is no longer told is dropped.
    receiver.set(&json!({"answers": ["hang"]}));
    say(&mut client, 3);
    say(&mut client, 4);
    receiver.await_requests(3);
    reconfigure(&daemon, "");
    daemon.await_metric(&count("dropped"), 2);
    say(&mut client, 5);
    reconfigure(&daemon, &table("/three"));
    say(&mut client, 6);
    let requests = receiver.await_requests(4);
    let paths: Vec<_> = requests.iter().map(|request| request["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/one", "/two", "/two", "/three"]);
    assert_eq!(messages(&requests), [1, 2, 3, 6]);
    daemon.await_metric(&count("delivered"), 3);
}

/// Whoever has no callback keeps no tokens for it, of which there may be very many.
#[test]
fn a_callback_that_comes_with_a_reload_is_told_of_those_who_come_after_it() {
    let receiver = Receiver::start();
    let setup = setup();
    configure(&setup, "");
    let daemon = setup.start();
    let mut early = join(&daemon, &ann());
    say(&mut early, "early");
    reconfigure(&daemon, &format!("[channel.callback]\nurl = {:?}\n", receiver.url("/")));
    say(&mut early, "still early");
    let mut late = join(&daemon, &ann());
    say(&mut late, "late");
    assert_eq!(messages(&receiver.await_requests(1)), ["late"]);
    daemon.await_metric(&count("delivered"), 1);
}

#[test]
fn a_stop_says_once_what_was_not_told() {
    let receiver = Receiver::start();
    receiver.set(&json!({"status": "hang"}));
    let mut daemon = telling(&receiver.url("/"), "timeout_s = 60").set("drain_s", 2).start();
    let token = ann();
    let mut client = join(&daemon, &token);
    (0..4).for_each(|number| say(&mut client, number));
    receiver.await_requests(1);
    daemon.signal(Signal::TERM);
    assert_eq!(client.close_code(), 1001);
    drop(client);
    assert!(daemon.wait().success());
    assert_eq!(daemon.logged("4 webhooks were not delivered").len(), 1, "{:?}", daemon.log());
    assert!(daemon.logged("DEBUG").len() > 1 && daemon.logged(&token).is_empty());
}

#[test]
fn a_stop_tells_what_can_be_told() {
    let receiver = Receiver::start();
    receiver.set(&json!({"delay_s": 0.05}));
    let mut daemon = telling(&receiver.url("/"), "").start();
    let mut client = join(&daemon, &ann());
    (0..10).for_each(|number| say(&mut client, number));
    daemon.signal(Signal::TERM);
    assert_eq!(client.close_code(), 1001);
    drop(client);
    assert!(daemon.wait().success());
    assert_eq!(receiver.requests().len(), 10);
    assert!(daemon.logged("not delivered").is_empty());
}
