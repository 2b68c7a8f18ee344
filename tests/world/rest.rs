//! HTTP on the listeners: requests in every shape, and the clients that publish by Pusher's API.

use crate::harness::{
    Authority, Client, Daemon, Echo, answer, echo_setup as setup, eventually, head, http,
};
use crate::harness::{npm, post, pypi, signed, skip, succeed, tools};
use rustix::process::Signal;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

const EVENT: &str = r#"{"name":"e","channel":"room","data":"d"}"#;
const PUBLISHED: &str = "events_total{feed=\"http\",outcome=\"accepted\"}";

fn event(headers: &str) -> String {
    post("/apps/7/events", EVENT, &format!("Content-Length: {}\r\n{headers}", EVENT.len()))
}

/// The event in chunks of one byte, with an extension and a trailer.
fn chunked() -> String {
    let chunks: String = EVENT.chars().map(|c| format!("1;x=y\r\n{c}\r\n")).collect();
    let request = post("/apps/7/events", EVENT, "Transfer-Encoding: chunked\r\n");
    let head = request.strip_suffix(EVENT).unwrap();
    format!("{head}{chunks}0\r\nX-Trailer: 1\r\n\r\n")
}

const GET: &str = "GET /up HTTP/1.1\r\nHost: x\r\n\r\n";
const HEALTH: &str = r#"{"health":"OK"}"#;

#[track_caller]
fn assert_good(client: &mut Client) {
    let (status, head, body) = answer(client);
    assert_eq!((status, &*body), (200, "{}"), "{head}");
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
}

fn raw(daemon: &Daemon) -> Client {
    Client::raw(daemon.address)
}

#[test]
fn requests_follow_each_other_on_one_connection_in_any_pieces() {
    let daemon = setup().start();
    let mut client = raw(&daemon);
    for request in [event(""), chunked(), event("Connection: keep-alive\r\n"), GET.into()] {
        client.bytes(request.as_bytes());
        let (status, head, _) = answer(&mut client);
        assert_eq!(status, 200, "{head}");
        assert!(!head.contains("Connection:"), "{head}");
    }
    // All at once, then a byte at a time.
    let all = format!("{}{GET}{}{}", event(""), chunked(), event(""));
    client.bytes(all.as_bytes());
    let mut bytes = raw(&daemon);
    for byte in all.bytes() {
        bytes.bytes(&[byte]);
    }
    for client in [&mut client, &mut bytes] {
        for body in ["{}", HEALTH, "{}", "{}"] {
            assert_eq!(answer(client).2, body);
        }
    }
    assert_eq!(daemon.metric(PUBLISHED), 9);
    assert_eq!(daemon.metric("requests_total{dialect=\"echo\",status=\"2xx\"}"), 12);
    // The same connection may become a session.
    client.bytes(head("/demo/__event").as_bytes());
    assert_eq!(client.answer(), 101);
    client.follow();
    daemon.assert_works();
}

#[test]
fn many_requests_at_once_are_all_answered_in_order() {
    let daemon = setup().start();
    let mut client = raw(&daemon);
    let (count, mut sent) = (5000, String::new());
    for place in 0..count {
        sent += if place % 7 == 0 { "GET /apps/7 HTTP/1.1\r\nHost: x\r\n\r\n" } else { GET };
    }
    std::thread::scope(|scope| {
        let mut writer = client.stream().try_clone().unwrap();
        scope.spawn(move || writer.write_all(sent.as_bytes()).unwrap());
        for place in 0..count {
            assert_eq!(answer(&mut client).0, if place % 7 == 0 { 404 } else { 200 }, "{place}");
        }
    });
}

#[test]
fn a_client_that_reads_no_answers_is_read_no_more() {
    let daemon = setup().start();
    let mut deaf = raw(&daemon);
    let requests = GET.repeat(1000);
    let mut rounds = 0;
    deaf.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while rounds < 20_000 && deaf.try_bytes(requests.as_bytes()) {
        rounds += 1;
    }
    assert!(rounds < 20_000, "{rounds} thousand requests were read");
    assert!(daemon.metric("outbox_bytes") < 8 * 1024 * 1024);
    assert!(daemon.memory_bytes() < 200 * 1024 * 1024);
    let mut other = raw(&daemon);
    other.bytes(event("").as_bytes());
    assert_good(&mut other);
}

#[test]
fn the_client_says_how_long_its_connection_lasts() {
    let daemon = setup().start();
    let old = |headers: &str| event(headers).replace("HTTP/1.1\r\nHost: x", "HTTP/1.0");
    for (request, connection) in [
        (event("Connection: close\r\n"), Some("close")),
        (event("Connection: x, Close\r\n"), Some("close")),
        (old(""), Some("close")),
        (old("Connection: keep-alive\r\n"), Some("keep-alive")),
        (event(""), None),
    ] {
        let mut client = raw(&daemon);
        client.bytes(format!("{request}{GET}").as_bytes());
        let (status, head, _) = answer(&mut client);
        assert_eq!(status, 200);
        match connection {
            Some(connection) => {
                assert!(head.contains(&format!("Connection: {connection}\r\n")), "{head}")
            }
            None => assert!(!head.contains("Connection:"), "{head}"),
        }
        let next = client.answer();
        assert_eq!(next, if connection == Some("close") { 0 } else { 200 }, "{request}");
    }
}

#[test]
fn a_body_that_is_kept_back_is_asked_for() {
    let daemon = setup().start();
    let mut client = raw(&daemon);
    let request = event("Expect: 100-continue\r\n");
    let head = request.strip_suffix(EVENT).unwrap();
    for _ in 0..2 {
        client.bytes(head.as_bytes());
        assert_eq!(client.answer(), 100);
        client.bytes(EVENT.as_bytes());
        assert_good(&mut client);
        client.bytes(request.as_bytes());
        assert_good(&mut client);
    }
    let mut client = raw(&daemon);
    client.bytes(
        post("/apps/7/events", "", "Content-Length: 1048577\r\nExpect: 100-continue\r\n")
            .as_bytes(),
    );
    assert_eq!(client.response().0, 413);
    let mut client = raw(&daemon);
    client.bytes(event("Expect: a-miracle\r\n").as_bytes());
    assert_eq!(client.response().0, 417);
}

#[test]
fn what_two_readers_could_take_for_different_requests_is_refused() {
    let daemon = setup().start();
    let length = format!("Content-Length: {}\r\n", EVENT.len());
    for (headers, status) in [
        (format!("{length}Transfer-Encoding: chunked\r\n"), 400),
        (format!("{length}{length}"), 400),
        (format!("{length}Content-Length: 3\r\n"), 400),
        ("Content-Length: 40, 40\r\n".into(), 400),
        ("Content-Length: +40\r\n".into(), 400),
        ("Content-Length: 0x28\r\n".into(), 400),
        ("Content-Length:\r\n".into(), 400),
        ("Content-Length: 99999999999999999999999\r\n".into(), 413),
        ("Content-Length: 1048577\r\n".into(), 413),
        ("Transfer-Encoding: gzip, chunked\r\n".into(), 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(), 400),
        ("Transfer-Encoding: xchunked\r\n".into(), 501),
        (" Content-Length: 40\r\n".into(), 400),
        ("Content-Length : 40\r\n".into(), 400),
        (format!("{length}Host: y\r\n"), 400),
        ("Transfer-Encoding: chunked\r\n".into(), 400),
    ] {
        let mut client = raw(&daemon);
        client.bytes(format!("{}{GET}", post("/apps/7/events", EVENT, &headers)).as_bytes());
        let (found, rest) = client.response();
        assert_eq!(found, status, "{headers}: {rest}");
        assert_eq!(rest.matches("HTTP/1.1").count(), 0, "a second answer: {rest}");
        assert!(rest.contains("Connection: close"), "{rest}");
    }
    let mut client = raw(&daemon);
    client.bytes(event("").replace("Host: x\r\n", "").as_bytes());
    assert_eq!(client.response().0, 400);
    assert_eq!(daemon.metric(PUBLISHED), 0);
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("requests_total{dialect=\"echo\",status=\"2xx\"}"), 0);
}

#[test]
fn a_body_may_be_as_long_as_allowed_and_no_longer() {
    let daemon = setup()
        .set("echo.app.0.request_bytes_max", 300_000)
        .set("echo.app.0.data_bytes_max", 0)
        .start();
    let of = |length: usize| {
        let frame = r#"{"name":"e","channel":"room","data":""}"#.len();
        format!(r#"{{"name":"e","channel":"room","data":"{}"}}"#, "x".repeat(length - frame))
    };
    for (length, status) in [(300_000, 200), (300_001, 413)] {
        let body = of(length);
        let whole = post("/apps/7/events", &body, &format!("Content-Length: {length}\r\n"));
        let chunks: String = body
            .as_bytes()
            .chunks(1000)
            .map(|c| format!("{:x}\r\n{}\r\n", c.len(), std::str::from_utf8(c).unwrap()))
            .collect();
        let chunked = post("/apps/7/events", &body, "Transfer-Encoding: chunked\r\n");
        let chunked = format!("{}{chunks}0\r\n\r\n", chunked.strip_suffix(&*body).unwrap());
        for request in [whole, chunked] {
            let mut client = raw(&daemon);
            client.bytes(request.as_bytes());
            assert_eq!(client.answer(), status, "{length}");
        }
    }
    let long = GET.replace("Host: x", &format!("Host: x\r\nX: {}", "y".repeat(20_000)));
    let mut client = raw(&daemon);
    client.bytes(long.as_bytes());
    assert_eq!(client.response().0, 431);
}

#[test]
fn a_slow_request_is_given_up_and_an_unused_connection_is_not() {
    let daemon = setup().set("limits.handshake_timeout_s", 1).start();
    let mut idle = raw(&daemon);
    idle.bytes(GET.as_bytes());
    assert_eq!(answer(&mut idle).0, 200);
    let request = event("");
    let chunked = chunked();
    for begun in [&request[..request.len() - 1], &request[..40], &chunked[..chunked.len() - 1]] {
        for before in ["", GET] {
            let mut slow = raw(&daemon);
            slow.bytes(format!("{before}{begun}").as_bytes());
            if !before.is_empty() {
                assert_eq!(answer(&mut slow).0, 200);
            }
            assert_eq!(slow.response().0, 408, "{begun}");
        }
    }
    idle.bytes(event("").as_bytes());
    assert_good(&mut idle);
}

#[test]
fn a_request_that_is_not_to_be_answered_so_is_told_why() {
    let daemon = setup().start();
    for (request, status, told) in [
        ("PUT /apps/7/events HTTP/1.1", 405, "Allow: POST\r\n"),
        ("GET /apps/7/events HTTP/1.1", 405, "Allow: POST\r\n"),
        ("BREW /up HTTP/1.1", 405, "Allow: GET, HEAD\r\n"),
        ("POST /apps/7/none HTTP/1.1", 404, "There is nothing at this path."),
        ("POST /apps/8/events HTTP/1.1", 404, "There is no such app."),
        ("POST /apps/7/events HTTP/1.1", 401, "auth_key"),
        ("GET /app/app-key HTTP/1.1", 426, "Upgrade: websocket\r\n"),
        ("GET /elsewhere HTTP/1.1", 404, "This listener serves no protocol"),
        ("GET /demo/__event HTTP/1.1", 405, "Allow: GET\r\n"),
    ] {
        let mut client = raw(&daemon);
        client.bytes(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        let (found, text) = client.response();
        assert!(found == status && text.contains(told), "{request}: {found} {text}");
    }
}

/// RFC 9110 section 9.3.2. The length is told and nothing comes, so that the next answer is found.
#[test]
fn head_is_get_without_a_body() {
    let daemon = setup().start();
    let channels = |method| signed(method, "/apps/7/channels", "");
    let not_allowed = "/apps/7/events".to_owned();
    for (target, status) in [
        ("/up".to_owned(), 200),
        (channels("GET"), 200),
        (channels("HEAD"), 200),
        (not_allowed, 405),
        ("/apps/8/channels".into(), 404),
    ] {
        let mut client = raw(&daemon);
        client.bytes(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n{GET}").as_bytes());
        let (found, head) = client.accepted();
        assert_eq!(found, status, "{target}: {head}");
        assert!(
            head.contains("Content-Length: ") && !head.contains("Content-Length: 0"),
            "{target}: {head}"
        );
        assert_eq!(answer(&mut client).2, HEALTH, "{target}");
    }
    let ended = |head: &str| {
        let mut client = raw(&daemon);
        client.bytes(format!("{head}\r\n\r\n").as_bytes());
        let (status, text) = client.response();
        assert!(text.ends_with("\r\n\r\n"), "{head}: a body came: {text}");
        status
    };
    assert_eq!(ended("HEAD /app/app-key HTTP/1.1\r\nHost: x"), 426);
    assert_eq!(ended("HEAD /demo/__event HTTP/1.1\r\nHost: x"), 405);
    assert_eq!(ended("HEAD /elsewhere HTTP/1.1\r\nHost: x"), 404);
    assert_eq!(ended("HEAD /up HTTP/1.1\r\nHost: x\r\nHost: x"), 400);
    for (page, status) in
        [("/healthz", 200), ("/metrics", 200), ("/topics", 403), ("/nothing", 404)]
    {
        let request = format!("HEAD {page} HTTP/1.1\r\nHost: x\r\n\r\n");
        let (found, text) = http(daemon.admin, request.as_bytes());
        assert!(found == status && text.ends_with("\r\n\r\n"), "{page}: {found} {text}");
    }
}

/// RFC 9112 section 3.2.2: a proxy sends the whole URL, and the host in it goes before the header.
#[test]
fn a_target_may_be_a_whole_url() {
    let daemon = setup().start();
    for scheme in ["http", "https", "HTTP", "ws"] {
        let whole =
            |request: String| request.replacen(" /", &format!(" {scheme}://elsewhere.example/"), 1);
        let mut client = raw(&daemon);
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let channels = get(&signed("GET", "/apps/7/channels", ""));
        for (request, body) in [
            (GET.into(), HEALTH),
            (event(""), "{}"),
            (chunked(), "{}"),
            (channels, r#"{"channels":{}}"#),
        ] {
            client.bytes(whole(request).as_bytes());
            assert_eq!(answer(&mut client).2, body, "{scheme}");
        }
        client.bytes(whole(head("/demo/__event")).as_bytes());
        assert_eq!(client.answer(), 101, "{scheme}");
        // The cell is that of the host in the URL.
        let mut cell = raw(&daemon);
        cell.bytes(
            head("/__event")
                .replacen(" /", &format!(" {scheme}://demo.unit.example/"), 1)
                .as_bytes(),
        );
        assert_eq!(cell.answer(), 101, "{scheme}");
    }
}

#[test]
fn counts_come_from_whichever_shard_has_them_and_later_requests_wait_for_them() {
    let daemon = setup().set("threads", 3).start();
    let target = || signed("GET", "/apps/7/channels?info=subscription_count", "");
    let channels = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target());
    for _ in 0..20 {
        let mut client = raw(&daemon);
        client.bytes(format!("{channels}{GET}{}{channels}", event("")).as_bytes());
        for body in [r#"{"channels":{}}"#, HEALTH, "{}", r#"{"channels":{}}"#] {
            let (status, head, found) = answer(&mut client);
            assert_eq!((status, &*found), (200, body), "{head}");
        }
    }
}

#[test]
fn requests_over_tls_are_answered_too() {
    let authority = Authority::new();
    let daemon = setup().tls(&authority).start();
    let mut client = Client::secure(daemon.address, &authority.client()).unwrap();
    client.bytes(format!("{}{}", event(""), chunked()).as_bytes());
    assert_good(&mut client);
    assert_good(&mut client);
    for byte in event("").bytes() {
        client.bytes(&[byte]);
    }
    assert_good(&mut client);
}

#[test]
fn a_request_that_was_begun_is_answered_when_the_daemon_stops() {
    let mut daemon = setup().start();
    let mut idle = raw(&daemon);
    idle.bytes(GET.as_bytes());
    assert_eq!(answer(&mut idle).0, 200);
    let mut begun = raw(&daemon);
    let request = event("Expect: 100-continue\r\n");
    begun.bytes(request.strip_suffix(EVENT).unwrap().as_bytes());
    assert_eq!(begun.answer(), 100);
    daemon.signal(Signal::TERM);
    assert_eq!(idle.answer(), 0, "nothing more is said to who asks nothing");
    begun.bytes(EVENT.as_bytes());
    let (status, rest) = begun.response();
    assert!(status == 200 && rest.contains("Connection: close\r\n"), "{status} {rest}");
    drop((idle, begun));
    assert!(daemon.wait().success());
}

#[test]
fn a_reload_takes_other_apps_and_a_fed_event_knows_them() {
    let daemon = setup().start();
    let mut publisher = daemon.publisher();
    publisher.send(format!("echo/7 {EVENT}\n"));
    publisher.send(format!("echo/8 {EVENT}\n\n"));
    assert_eq!(publisher.reply()["error"], "there is no app \"8\"");
    assert_eq!(publisher.reply()["accepted"], 1);
    let file = daemon.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let app =
        "[[echo.app]]\nenabled = true\n[[echo.app]]\nid = \"8\"\nkey = \"k8\"\nsecret = \"s\"\n";
    std::fs::write(&file, format!("{text}{app}")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 1);
    eventually("the new app is known", || {
        publisher.send(format!("echo/8 {EVENT}\n\n"));
        let is_known = publisher.reply()["error"].is_null();
        assert!(is_known || !publisher.reply()["accepted"].is_null());
        is_known
    });
}

#[test]
fn pusher_of_npm_publishes_and_asks() {
    if !tools().join("node_modules/pusher").exists() {
        return skip("pusher of npm", "it is not installed; tests/run does it");
    }
    let daemon = setup().start();
    let port = daemon.address.port().to_string();
    succeed(npm("pusher.js").arg(port));
    assert_eq!(daemon.metric(PUBLISHED), 8);
}

#[test]
fn pusher_of_pypi_publishes_and_asks() {
    let python = tools().join("python/bin/python");
    let has = Command::new(python).args(["-c", "import pusher"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        return skip("pusher of PyPI", "it is not installed; tests/run does it");
    }
    let daemon = setup().start();
    succeed(pypi("pusher.py").arg(daemon.address.port().to_string()));
    assert_eq!(daemon.metric(PUBLISHED), 7);
    assert_eq!(daemon.metric("requests_total{dialect=\"echo\",status=\"5xx\"}"), 0);
}

#[test]
fn no_request_takes_long_though_a_connection_floods() {
    let daemon = setup().start();
    let mut flood = raw(&daemon);
    let mut other = raw(&daemon);
    let all: String = (0..2000).map(|_| event("")).collect();
    std::thread::scope(|scope| {
        let mut writer = flood.stream().try_clone().unwrap();
        scope.spawn(move || writer.write_all(all.as_bytes()).unwrap());
        for _ in 0..20 {
            other.bytes(GET.as_bytes());
            assert_eq!(answer(&mut other).2, HEALTH);
        }
        for _ in 0..2000 {
            assert_good(&mut flood);
        }
    });
    assert_eq!(daemon.metric(PUBLISHED), 2000);
    assert!(other.is_silent_for(Duration::from_millis(1)));
}

#[test]
fn a_client_that_reads_its_answers_late_gets_them_all() {
    const COUNT: usize = 50_000;
    let daemon = setup().start();
    let mut late = raw(&daemon);
    let target = signed("GET", "/apps/7/channels", "");
    let asking = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let asks = |place: usize| place.is_multiple_of(7);
    std::thread::scope(|scope| {
        let mut writer = late.stream().try_clone().unwrap();
        let all: String =
            (0..COUNT).map(|place| if asks(place) { &*asking } else { GET }).collect();
        scope.spawn(move || writer.write_all(all.as_bytes()).unwrap());
        eventually("the answers have filled the way to the client", || {
            daemon.metric("outbox_bytes") > 0
        });
        for place in 0..COUNT {
            assert_eq!(
                answer(&mut late).2,
                if asks(place) { r#"{"channels":{}}"# } else { HEALTH },
                "{place}"
            );
        }
    });
}

#[test]
fn an_answer_from_another_shard_may_be_longer_than_the_way_to_the_client_holds() {
    const CHANNELS: usize = 30_000;
    let daemon = setup().set("threads", 3).set("echo.app.0.subscriptions_max", 0).start();
    let mut member = Echo::connect(&daemon);
    let name = |number: usize| format!("{number}-{}", "x".repeat(150));
    for hundred in 0..CHANNELS / 100 {
        (0..100).for_each(|number| member.ask_for(&name(hundred * 100 + number)));
        (0..100).for_each(|_| drop(member.until("pusher_internal:subscription_succeeded")));
    }
    for _ in 0..3 {
        let mut client = raw(&daemon);
        client.bytes(
            format!(
                "GET {} HTTP/1.1\r\nHost: x\r\n\r\n{GET}",
                signed("GET", "/apps/7/channels", "")
            )
            .as_bytes(),
        );
        eventually("the answer has filled the way to the client", || {
            daemon.metric("outbox_bytes") > 0
        });
        let (status, _, body) = answer(&mut client);
        assert_eq!((status, body.matches("-xxx").count()), (200, CHANNELS));
        assert_eq!(answer(&mut client).2, HEALTH);
        daemon.await_metric("outbox_bytes", 0);
    }
}

#[test]
fn who_waits_for_each_answer_may_publish_over_several_connections_in_order() {
    const COUNT: usize = 2000;
    let daemon = setup().set("threads", 3).start();
    // All are on two of three shards once in 600 runs, and the test holds all the same.
    let mut readers: Vec<Echo> = (0..18).map(|_| Echo::connect(&daemon)).collect();
    readers.iter_mut().for_each(|reader| reader.join("room", None));
    let mut publishers: Vec<Client> = (0..4).map(|_| raw(&daemon)).collect();
    for number in 1..=COUNT {
        let body = format!(r#"{{"name":"e","channel":"room","data":"{number}"}}"#);
        let publisher = &mut publishers[number % 4];
        publisher.bytes(
            post("/apps/7/events", &body, &format!("Content-Length: {}\r\n", body.len()))
                .as_bytes(),
        );
        assert_good(publisher);
    }
    for reader in &mut readers {
        for number in 1..=COUNT {
            let (name, data) = reader.event();
            assert_eq!((&*name, data), ("e", number.into()));
        }
    }
}

#[test]
fn a_line_that_ends_otherwise_than_by_both_characters_is_refused() {
    let daemon = setup().start();
    for request in [
        GET.replace("Host: x\r\n", "Host: x\n"),
        GET.replace("Host: x\r\n", "Host: x\n\nGET /up HTTP/1.1\r\nHost: x\r\n"),
        GET.replace("1.1\r\n", "1.1\n"),
        GET.replace("Host: x", "Host: x\rX: y"),
    ] {
        let mut client = raw(&daemon);
        client.bytes(format!("{request}{GET}").as_bytes());
        let (status, rest) = client.response();
        assert!(status == 400 && !rest.contains(HEALTH), "{request:?}: {status} {rest}");
    }
}

#[test]
fn the_beginning_of_a_request_does_not_keep_the_memory_of_a_long_one_before_it() {
    const CONNECTIONS: usize = 200;
    let daemon = setup().set("limits.handshake_timeout_s", 60).start();
    let body = "x".repeat(1_000_000);
    let head = format!(
        "POST /apps/7/events HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = raw(&daemon);
        client.bytes(format!("{head}{body}G").as_bytes());
        assert_eq!(answer(&mut client).0, 401);
        clients.push(client);
    }
    assert!(daemon.memory_bytes() < 100 * 1024 * 1024, "{}", daemon.memory_bytes());
    for client in &mut clients {
        client.bytes(&GET.as_bytes()[1..]);
        assert_eq!(answer(client).2, HEALTH);
    }
}
