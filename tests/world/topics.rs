//! Operators at the admin listener and `fanfare topics`: who may ask, and what is said to whom.

use crate::harness::{Client, Daemon, Setup, command, event, eventually, head, http};
use base64::Engine as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const TOKEN: &str = "admin-token-0123456789abcdef";

fn ask(daemon: &Daemon, method: &str, target: &str, headers: &str) -> (u16, String) {
    http(daemon.admin, format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())
}

/// Code and standard output and error of `fanfare topics` with these words.
fn topics(words: &[&str]) -> (Option<i32>, String, String) {
    run(command(&[&["topics"], words].concat()).env("XDG_STATE_HOME", "/nonexistent"))
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn topics_are_told_to_whoever_has_the_token_and_health_to_everybody() {
    let mut daemon = Setup::new().set("admin.token", TOKEN).set("log.level", "debug").start();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (headers, status, said) in [
        (String::new(), 401, "send Authorization: Bearer"),
        (bearer("admin-token-0123456789abcdeF"), 401, "not that of [admin]"),
        (bearer(TOKEN) + "Origin: https://page.example\r\n", 403, "pages"),
        (bearer(TOKEN), 501, "no [[listen]] has pulsar"),
    ] {
        for (method, target) in [("GET", "/topics?prefix=x"), ("POST", "/topics/backup")] {
            let (found, body) = ask(&daemon, method, target, &headers);
            assert!(found == status && body.contains(said), "{target}: {found} {body}");
        }
    }
    let (status, body) = ask(&daemon, "GET", "/topics/stats?topic=x", &bearer(TOKEN));
    assert!(
        status == 400 && body.contains("persistent://tenant/namespace/topic"),
        "{status} {body}"
    );
    let form = "topic=persistent%3A%2F%2Ft%2Fn%2Fx";
    let with_body = format!("{}Content-Length: {}\r\n\r\n{form}", bearer(TOKEN), form.len());
    assert_eq!(ask(&daemon, "POST", "/topics/terminate", &with_body).0, 501);
    let too_long = format!("{}Content-Length: 100000\r\n", bearer(TOKEN));
    assert_eq!(ask(&daemon, "POST", "/topics/terminate", &too_long).0, 413);
    assert_eq!(daemon.page("/healthz").0, 200);
    assert_eq!(daemon.page("/nonsense").0, 404);
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(!daemon.log().join("\n").contains(TOKEN));
}

#[test]
fn without_a_token_nobody_is_told_of_topics_and_a_weak_one_is_refused_at_the_start() {
    let daemon = Setup::new().start();
    let (status, body) = ask(&daemon, "GET", "/topics", "Authorization: Bearer x\r\n");
    assert!(status == 403 && body.contains("token_file in [admin]"), "{status} {body}");
    let weak = Setup::new();
    std::fs::write(weak.path("admin.token"), "hunter2\n").unwrap();
    let file = weak.path("admin.token").display().to_string();
    let (code, _, said) = run(&mut weak.set("admin.token_file", file).command());
    assert!(code == Some(78) && said.contains("fewer than 16 characters"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_command_says_what_stands_in_its_way() {
    let setup = Setup::new();
    std::fs::write(setup.path("admin.token"), format!("{TOKEN}\n")).unwrap();
    std::fs::write(setup.path("other.token"), "another-token-0123456789").unwrap();
    let (right, wrong) = (setup.path("admin.token"), setup.path("other.token"));
    let daemon = setup.set("admin.token_file", right.display()).start();
    let admin = daemon.admin.to_string();
    let refused_with = |status: i32, words: &[&str], expected: &str| {
        let (code, out, said) = topics(words);
        let is_as_expected = code == Some(status) && out.is_empty() && said.contains(expected);
        assert!(is_as_expected, "{words:?}: {code:?} {said}");
        assert!(!said.contains(TOKEN), "{said}");
    };
    let refused = |words: &[&str], expected: &str| refused_with(1, words, expected);
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    refused(&["list", "--admin", &admin, "--token-file", right], "no [[listen]] has pulsar");
    refused(&["stats", "t/n/x", "--admin", &admin, "--token-file", wrong], "refuses the token");
    refused(&["list", "--admin", &admin], "send Authorization: Bearer");
    refused(
        &["list", "--admin", &admin, "--token-file", "/nonexistent"],
        "there is no file /nonexistent",
    );
    refused_with(
        75,
        &["list", "--admin", "127.0.0.1:1", "--token-file", right],
        "nothing listens on 127.0.0.1:1",
    );
    refused_with(2, &["list", "--admin", "nonsense", "--token-file", right], "is no address");
    refused_with(75, &["list"], "where is the daemon's admin listener?");
    for words in [
        &["purge", "t/n/x"][..],
        &["terminate", "t/n/x"],
        &["reset", "t/n/x", "s", "latest"],
        &["forget", "t/n/x", "s"],
    ] {
        refused_with(2, words, "say --yes");
    }
    // Both from the daemon's configuration, but for the port, which was chosen at its start.
    let config = daemon.path("fanfare.toml");
    let config = config.to_str().unwrap();
    let mut list = command(&["topics", "list", "--config", config]);
    let (_, _, said) =
        run(list.env("FANFARE_ADMIN_ADDRESS", &admin).env("FANFARE_ADMIN_TOKEN_FILE", right));
    assert!(said.contains("no [[listen]] has pulsar"), "{said}");
}

/// A daemon with a store, whose admin listener knows the token.
fn durable() -> Setup {
    let setup = Setup::new();
    std::fs::write(setup.path("admin.token"), format!("{TOKEN}\n")).unwrap();
    let (store, token) = (setup.path("store"), setup.path("admin.token"));
    setup
        .set("listen.0.dialects", r#"["personium-event", "pulsar"]"#)
        .set("pulsar.anonymous", true)
        .set("store.path", store.display())
        .set("admin.token_file", token.display())
}

/// What the command says of a daemon when it succeeds.
#[track_caller]
fn told(daemon: &Daemon, words: &[&str]) -> String {
    let (admin, token) = (daemon.admin.to_string(), daemon.path("admin.token"));
    let at = ["--admin", &admin, "--token-file", token.to_str().unwrap()];
    let (code, out, said) = topics(&[words, &at].concat());
    assert_eq!(code, Some(0), "{words:?}: {said}");
    out
}

/// What the command says of a daemon when it fails.
#[track_caller]
fn refused(daemon: &Daemon, words: &[&str]) -> String {
    let (admin, token) = (daemon.admin.to_string(), daemon.path("admin.token"));
    let at = ["--admin", &admin, "--token-file", token.to_str().unwrap()];
    let (code, out, said) = topics(&[words, &at].concat());
    assert!(code == Some(1) && out.is_empty(), "{words:?}: {out}");
    said
}

fn json(daemon: &Daemon, words: &[&str]) -> Value {
    serde_json::from_str(&told(daemon, &[words, &["--json"]].concat())).unwrap()
}

/// A line of the feed for a topic.
fn line(topic: &str, payload: &str) -> String {
    let payload = base64::engine::general_purpose::STANDARD.encode(payload);
    format!("pulsar/persistent/public/default/{topic} {{\"payload\":\"{payload}\"}}\n")
}

/// How many messages a topic has.
fn count(daemon: &Daemon, topic: &str) -> u64 {
    json(daemon, &["stats", &format!("public/default/{topic}")])["messages"].as_u64().unwrap()
}

/// A consumer of a topic; its handshake is answered when the subscription is there.
fn consumer(daemon: &Daemon, topic: &str, subscription: &str) -> Client {
    let mut client = Client::raw(daemon.address);
    client.bytes(
        head(&format!("/ws/v2/consumer/persistent/public/default/{topic}/{subscription}"))
            .as_bytes(),
    );
    assert_eq!(client.answer(), 101);
    client
}

#[test]
fn lines_for_topics_are_stored_in_order_before_their_receipt_on_either_driver() {
    for driver in ["auto", "epoll"] {
        let mut daemon = durable().set("threads", 2).set("driver", driver).start();
        let mut subscriber = daemon.subscriber();
        let mut publisher = daemon.publisher();
        let lines: String = (0..300).map(|number| line("t", &number.to_string())).collect();
        publisher.send(lines.clone() + &event("between", "1") + &lines);
        assert_eq!(publisher.receipt(), (601, 0));
        assert!(subscriber.text().contains("between"));
        publisher.send("\n");
        assert_eq!(publisher.reply()["accepted"], 601, "and it goes on");
        assert_eq!(daemon.metric("events_total{feed=\"unix\",outcome=\"accepted\"}"), 601);
        daemon.signal(Signal::KILL);
        daemon.wait();
        let daemon = daemon.again();
        assert_eq!(count(&daemon, "t"), 600);
        let first = json(&daemon, &["peek", "public/default/t", "--count", "100"]);
        let payloads =
            first.as_array().unwrap().iter().map(|message| message["payload"].as_str().unwrap());
        let encode =
            |number: i32| base64::engine::general_purpose::STANDARD.encode(number.to_string());
        assert!(payloads.eq((0..100).map(encode)));
    }
}

#[test]
fn a_line_that_the_store_refuses_is_rejected_and_the_next_is_taken() {
    let daemon = durable().start();
    let mut publisher = daemon.publisher();
    publisher.send(line("done", "1"));
    assert_eq!(publisher.receipt(), (1, 0));
    told(&daemon, &["terminate", "public/default/done", "--yes"]);
    let lines =
        [line("done", "2"), line("open", "1"), "pulsar/persistent/x {}\n".into(), "\n".into()];
    publisher.send(lines.concat() + &line("open", "2") + &line("done", "3") + "\n");
    for (number, reason) in [(3, "terminated"), (5, "malformed address")] {
        let reply = publisher.reply();
        assert_eq!(reply["line"], number, "{reply}");
        assert!(reply["error"].as_str().unwrap().to_lowercase().contains(reason), "{reply}");
    }
    assert_eq!(publisher.reply(), json!({ "accepted": 2, "rejected": 2 }));
    assert_eq!(publisher.reply()["line"], 8);
    assert_eq!(publisher.reply(), json!({ "accepted": 3, "rejected": 3 }));
    assert_eq!((count(&daemon, "open"), count(&daemon, "done")), (2, 1));
    assert_eq!(daemon.metric("events_total{feed=\"unix\",outcome=\"rejected\"}"), 3);
}

#[test]
fn a_stop_answers_for_every_line_that_it_has_taken() {
    let mut daemon = durable().start();
    let mut publisher = daemon.publisher();
    // Less than a socket holds, so all of it is in the daemon's hands, read or not.
    let lines: String = (0..500).map(|number| line("t", &number.to_string())).collect();
    publisher.send(lines + "\n");
    daemon.signal(Signal::TERM);
    assert_eq!(publisher.reply(), json!({ "accepted": 500, "rejected": 0 }));
    assert!(daemon.wait().success());
    assert!(publisher.reply().is_null());
    let daemon = daemon.again();
    assert_eq!(count(&daemon, "t"), 500);
}

#[test]
fn operators_list_look_at_change_and_copy_topics() {
    let daemon = durable().start();
    let mut waiting = consumer(&daemon, "orders", "billing");
    let mut publisher = daemon.publisher();
    publisher
        .send(line("orders", "Hello \u{1b}[2J") + &line("orders", "World") + &line("other", "x"));
    assert_eq!(publisher.receipt(), (3, 0));
    assert!(waiting.text().contains("messageId") && waiting.text().contains("messageId"));
    let names = "persistent://public/default/orders\npersistent://public/default/other\n";
    assert_eq!(told(&daemon, &["list"]), names);
    assert_eq!(told(&daemon, &["list", "--prefix", "public/default/ot"]), names.split_at(35).1);
    assert_eq!(told(&daemon, &["list", "--count", "1"]), names.split_at(35).0);
    let stats = told(&daemon, &["stats", "public/default/orders"]);
    assert!(stats.contains("messages ever") && stats.contains("billing"), "{stats}");
    let peeked = told(&daemon, &["peek", "public/default/orders"]);
    assert!(
        peeked.contains("CAAQAA== (0:0)") && peeked.contains("  Hello \\u{1b}[2J\n"),
        "{peeked}"
    );
    assert!(peeked.contains("  World\n"), "{peeked}");
    let orders = "public/default/orders";
    assert!(refused(&daemon, &["forget", orders, "billing", "--yes"]).contains("consumer"));
    drop(waiting);
    eventually("the consumer has gone", || {
        json(&daemon, &["stats", orders])["subscriptions"]["billing"]["consumers"] == json!([])
    });
    assert_eq!(daemon.metric("topics{state=\"stored\"}"), 2);
    assert_eq!(daemon.metric("topic_clients{role=\"consumer\"}"), 0);
    assert_eq!(daemon.metric("store_messages_total"), 3);
    let backlog = |daemon: &Daemon| {
        json(daemon, &["stats", orders])["subscriptions"]["billing"]["backlog"].as_u64().unwrap()
    };
    assert_eq!(backlog(&daemon), 2);
    assert_eq!(told(&daemon, &["purge", orders, "--subscription", "billing", "--yes"]), "done\n");
    assert_eq!(backlog(&daemon), 0);
    told(&daemon, &["reset", orders, "billing", "CAAQAQ==", "--yes"]);
    assert_eq!(backlog(&daemon), 1);
    told(&daemon, &["reset", orders, "billing", "earliest", "--yes"]);
    assert_eq!(backlog(&daemon), 2);
    let next = json(&daemon, &["peek", orders, "--subscription", "billing", "--count", "1"]);
    assert_eq!(next[0]["messageId"], "CAAQAA==");
    let made = told(&daemon, &["backup"]);
    assert!(made.contains("messages   3\n") && made.contains("new bytes  "), "{made}");
    let path = |made: &Value| made["path"].as_str().unwrap().to_owned();
    let last = path(&json(&daemon, &["backup", "--keep", "1"]));
    assert!(last.starts_with(daemon.path("store.backups").to_str().unwrap()), "{last}");
    // Beside the lock.
    assert_eq!(std::fs::read_dir(daemon.path("store.backups")).unwrap().count(), 2);
    told(&daemon, &["forget", orders, "billing", "--yes"]);
    assert_eq!(json(&daemon, &["stats", orders])["subscriptions"], json!({}));
    told(&daemon, &["purge", orders, "--yes"]);
    assert_eq!(count(&daemon, "orders"), 0);
    let said = refused(&daemon, &["stats", "public/default/order"]);
    assert!(said.contains("did you mean persistent://public/default/orders"), "{said}");
    let said = refused(&daemon, &["forget", orders, "biling", "--yes"]);
    assert!(!said.contains("did you mean"), "the topic is right: {said}");
}

#[test]
fn operators_delete_topics_those_in_use_by_force_alone() {
    let mut daemon = durable().start();
    let mut waiting = consumer(&daemon, "orders", "billing");
    let mut publisher = daemon.publisher();
    publisher.send(line("orders", "1") + &line("other", "x"));
    assert_eq!(publisher.receipt(), (2, 0));
    let orders = "public/default/orders";
    assert!(waiting.text().contains("CAAQAA=="));
    let said = refused(&daemon, &["delete", orders, "--yes"]);
    assert!(said.contains("0 producers and 1 consumers") && said.contains("use force"), "{said}");
    assert_eq!(count(&daemon, "orders"), 1);
    assert_eq!(told(&daemon, &["delete", orders, "--force", "--yes"]), "done\n");
    assert_eq!(told(&daemon, &["list"]), "persistent://public/default/other\n");
    let closed = waiting.next().unwrap();
    assert_eq!(closed.payload[..2], 4002u16.to_be_bytes());
    assert_eq!(&closed.payload[2..], b"Failed to subscribe: the topic was deleted");
    assert!(refused(&daemon, &["delete", orders, "--yes"]).contains("Topic does not exist"));
    // A feed makes it anew, and no id of the old one means a message of the new one.
    publisher.send(line("orders", "2"));
    assert_eq!(publisher.receipt(), (3, 0));
    let peeked = json(&daemon, &["peek", orders]);
    assert_ne!(peeked[0]["messageId"], "CAAQAA==");
    assert_eq!((count(&daemon, "orders"), peeked.as_array().unwrap().len()), (1, 1));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    let daemon = daemon.again();
    assert_eq!(json(&daemon, &["stats", orders])["messagesEver"], 1);
    assert_eq!(json(&daemon, &["stats", orders])["subscriptions"], json!({}));
}

#[test]
fn a_copy_of_the_store_is_a_store_of_the_moment_it_was_made() {
    let daemon = durable().start();
    drop(consumer(&daemon, "t", "s"));
    let mut publisher = daemon.publisher();
    publisher.send(line("t", "before"));
    assert_eq!(publisher.receipt(), (1, 0));
    let copied = json(&daemon, &["backup"]);
    publisher.send(line("t", "after") + &line("other", "after"));
    assert_eq!(publisher.receipt(), (3, 0));
    // As the manual has it: what was copied takes the place of the store.
    let restored = durable();
    let serve = restored.command();
    let config = restored.path("fanfare.toml");
    let own = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.args(["--config", config.to_str().unwrap()]);
        command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(&mut command)
    };
    let copy = copied["path"].as_str().unwrap();
    let (code, out, said) = own(&["topics", "restore", copy]);
    assert!(code == Some(0) && out.contains("messages") && out.contains("store"), "{out}{said}");
    let (code, _, said) = own(&["topics", "restore", copy]);
    assert!(code == Some(1) && said.contains("nothing is overwritten"), "{said}");
    let (code, out, said) = own(&["check"]);
    assert!(code == Some(0) && out.contains("store"), "{out}{said}");
    let restored = restored.start();
    assert_eq!(told(&restored, &["list"]), "persistent://public/default/t\n");
    let mut client = consumer(&restored, "t", "s");
    assert!(client.text().contains("\"payload\":\"YmVmb3Jl\""));
    assert_eq!(count(&daemon, "t"), 2);
}

#[test]
fn a_list_of_more_topics_than_a_page_is_whole() {
    let daemon = durable().start();
    let mut publisher = daemon.publisher();
    publisher.send((0..1100).map(|number| line(&format!("t{number:04}"), "x")).collect::<String>());
    assert_eq!(publisher.receipt(), (1100, 0));
    let names = told(&daemon, &["list"]);
    let names: Vec<&str> = names.lines().collect();
    assert!(names.len() == 1100 && names.is_sorted());
    assert_eq!(json(&daemon, &["list", "--count", "1050"]).as_array().unwrap().len(), 1050);
}

#[test]
fn statistics_name_a_client_by_its_address() {
    let daemon = durable().start();
    let client = consumer(&daemon, "t", "s");
    let own = client.stream().local_addr().unwrap().to_string();
    let path = "/admin/v2/proxy-stats/persistent/public/default/t/stats";
    let (status, body) = http(
        daemon.address,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert!(
        status == 200 && body.contains(&format!("\"remoteConnection\":\"/{own}\"")),
        "{status} {body}"
    );
    let stats = json(&daemon, &["stats", "public/default/t"]);
    assert_eq!(stats["subscriptions"]["s"]["consumers"][0]["address"], own);
}

#[test]
fn statistics_name_the_client_that_a_trusted_proxy_tells_of() {
    let daemon = durable().set("trusted_proxies", r#"["127.0.0.0/8"]"#).start();
    let mut client = Client::raw(daemon.address);
    let path = "/ws/v2/consumer/persistent/public/default/t/s";
    client
        .bytes(head(path).replace("\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n").as_bytes());
    assert_eq!(client.answer(), 101);
    let stats = json(&daemon, &["stats", "public/default/t"]);
    assert_eq!(stats["subscriptions"]["s"]["consumers"][0]["address"], "192.0.2.1");
}

#[test]
fn a_stop_tells_clients_to_go_and_the_next_daemon_lets_them_in_again() {
    let mut daemon = durable().start();
    let mut client = consumer(&daemon, "t", "s");
    daemon.signal(Signal::TERM);
    assert_eq!(client.close_code(), 1001);
    drop(client);
    assert!(daemon.wait().success());
    let daemon = daemon.again();
    let mut client = consumer(&daemon, "t", "s");
    let mut publisher = daemon.publisher();
    publisher.send(line("t", "x"));
    assert!(client.text().contains("\"payload\":\"eA==\""));
}
