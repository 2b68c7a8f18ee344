//! The metrics: in the form that is asked for, without complaint of Prometheus's own check, and what they tell of the
//! build, the process, the configuration and what it serves.

use crate::harness::{Authority, Client, Daemon, Setup, eventually, http, skip};
use rustix::process::Signal;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const ECHO: &str = "[[echo.app]]\nid = \"shop\"\nkey = \"shop-key\"\nsecret = \"a secret of the shop\"\n\
                    [[echo.app]]\nid = \"blog\"\nkey = \"blog-key\"\nsecret = \"a secret of the blog\"\n";

/// With everything that has metrics of its own.
fn daemon() -> Daemon {
    let setup = Setup::new();
    let (file, store) = (setup.path("fanfare.toml"), setup.path("store").display().to_string());
    let text = std::fs::read_to_string(&file).unwrap();
    let all = "dialects = [\"personium-event\", \"echo\", \"pulsar\"]";
    std::fs::write(&file, text.replace("dialects = [\"personium-event\"]", all) + ECHO).unwrap();
    setup
        .set("pulsar.anonymous", true)
        .set("store.path", store)
        .set("threads", 2)
        .set("limits.connections_per_address_max", 500)
        .start()
}

fn page(daemon: &Daemon, accept: &str) -> String {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    let (status, page) = http(daemon.admin, request.as_bytes());
    assert_eq!(status, 200);
    page
}

fn body(page: &str) -> &str {
    page.split_once("\r\n\r\n").unwrap().1
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn float(daemon: &Daemon, name: &str) -> f64 {
    let page = page(daemon, "*/*");
    let value = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn the_form_is_the_one_that_is_asked_for() {
    let daemon = daemon();
    let classic = page(&daemon, "text/plain;version=0.0.4");
    assert!(
        classic.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{classic}"
    );
    assert!(
        classic.contains("# TYPE fanfare_events_total counter\n") && !classic.contains("# EOF")
    );
    let open = page(&daemon, "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4");
    assert!(
        open.contains(
            "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(open.contains("# TYPE fanfare_events counter\n") && open.ends_with("# EOF\n"));
    let samples = |text: &str| body(text).lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&classic), samples(&open));
    let (status, head) = http(daemon.admin, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        status == 200 && head.contains("Content-Length: ") && !head.contains("fanfare_"),
        "{head}"
    );
}

#[test]
fn prometheus_has_nothing_to_complain_of() {
    let daemon = daemon();
    // So that there is a topic that holds room, and a backlog.
    drop(Client::upgraded(daemon.address, "/ws/v2/consumer/persistent/t/n/orders/billing"));
    let mut producer = Client::upgraded(daemon.address, "/ws/v2/producer/persistent/t/n/orders");
    assert!(producer.ask(r#"{"payload":"eA=="}"#).contains("ok"));
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else {
        return skip(
            "the metrics by promtool",
            "promtool is not installed (Debian's package prometheus)",
        );
    };
    eventually("the topic is told", || page(&daemon, "").contains("\nfanfare_topic_held_bytes{"));
    let page = page(&daemon, "");
    for name in [
        "topic_held_bytes{",
        "topic_oldest_message_timestamp_seconds{",
        "store_written_bytes_total ",
    ] {
        assert!(page.contains(&format!("\nfanfare_{name}")), "{page}");
    }
    promtool.stdin.take().unwrap().write_all(body(&page).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_build_the_process_and_the_limits_are_told() {
    let daemon = daemon();
    assert_eq!(
        daemon.metric(concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")),
        1
    );
    assert_eq!(daemon.metric("outbox_max_bytes"), 1024 * 1024);
    assert_eq!(daemon.metric("topics_max"), 100_000);
    assert_eq!(daemon.metric("partial_max_bytes"), 256 * 1024 * 1024);
    assert_eq!(daemon.metric("connections_per_address_max"), 500);
    assert!(daemon.metric("connections_max") < float(&daemon, "process_max_fds") as u64);
    assert!(float(&daemon, "process_cpu_seconds_total") > 0.0);
    assert!(float(&daemon, "process_resident_memory_bytes") > 1e6);
    assert!(float(&daemon, "process_virtual_memory_bytes") > 1e6);
    assert!(float(&daemon, "process_threads") > 5.0);
    let before = float(&daemon, "process_open_fds");
    let clients: Vec<Client> = (0..20).map(|_| Client::raw(daemon.address)).collect();
    eventually("descriptors are counted", || float(&daemon, "process_open_fds") >= before + 20.0);
    drop(clients);
    let started = float(&daemon, "process_start_time_seconds");
    assert!((now_s() as f64 - started).abs() < 60.0, "{started}");
}

#[test]
fn the_last_reload_and_the_ends_of_certificates_are_told() {
    let authority = Authority::new();
    let daemon = Setup::new().tls(&authority).start();
    let taken = daemon.metric("config_last_reload_success_timestamp_seconds");
    assert!(now_s() - taken < 60);
    assert_eq!(daemon.metric("config_last_reload_successful"), 1);
    let expiry = |daemon: &Daemon| {
        let listener = "certificate_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"}";
        daemon.metric(listener)
    };
    assert!(expiry(&daemon) > now_s());
    let text = std::fs::read_to_string(daemon.path("fanfare.toml")).unwrap();
    std::fs::write(daemon.path("fanfare.toml"), format!("treads = 1\n{text}")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_metric("config_last_reload_successful", 0);
    assert_eq!(daemon.metric("config_last_reload_success_timestamp_seconds"), taken);
    std::fs::write(daemon.path("fanfare.toml"), text).unwrap();
    // Such times are told in seconds.
    eventually("the next second has come", || now_s() > taken);
    daemon.signal(Signal::HUP);
    daemon.await_metric("config_last_reload_successful", 1);
    assert!(daemon.metric("config_last_reload_success_timestamp_seconds") > taken);
}

#[test]
fn the_store_its_room_and_the_largest_backlogs_are_told() {
    let daemon = daemon();
    assert!(daemon.metric("store_size_bytes") > 0 && daemon.metric("store_free_bytes") > 0);
    let consumer =
        Client::upgraded(daemon.address, "/ws/v2/consumer/persistent/t/n/orders/billing");
    drop(consumer);
    let quoted = Client::upgraded(daemon.address, "/ws/v2/consumer/persistent/t/n/orders/a%22b%5C");
    drop(quoted);
    let mut producer = Client::upgraded(daemon.address, "/ws/v2/producer/persistent/t/n/orders");
    for _ in 0..3 {
        assert!(producer.ask(r#"{"payload":"eA=="}"#).contains("ok"));
    }
    let topic = "topic=\"persistent://t/n/orders\"";
    for name in ["billing", "a\\\"b\\\\"] {
        let line = format!("fanfare_subscription_backlog{{{topic},subscription=\"{name}\"}} 3");
        eventually("the backlog is told", || page(&daemon, "").lines().any(|told| told == line));
    }
}

#[test]
fn the_apps_of_echo_are_told_apart() {
    let daemon = daemon();
    let _clients = [
        Client::upgraded(daemon.address, "/app/shop-key"),
        Client::upgraded(daemon.address, "/app/shop-key"),
    ];
    daemon.await_metric("app_connections{app=\"shop\"}", 2);
    assert_eq!(daemon.metric("app_connections{app=\"blog\"}"), 0);
    daemon.publisher().send("echo/blog {\"name\":\"e\",\"channel\":\"c\",\"data\":\"{}\"}\n");
    daemon.await_metric("app_events_total{app=\"blog\"}", 1);
    // A reload makes new apps of the old ones.
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 1);
    daemon.await_metric("app_connections{app=\"shop\"}", 2);
    assert_eq!(daemon.metric("app_events_total{app=\"blog\"}"), 1);
    assert_eq!(daemon.metric("app_events_total{app=\"shop\"}"), 0);
}

#[test]
fn the_first_line_of_the_log_says_what_runs_and_every_line_says_it_in_words() {
    let daemon = Setup::new().set("log.format", "json").start();
    let first = daemon.log()[0].clone();
    let file = daemon.path("fanfare.toml").display().to_string();
    let connections = daemon.metric("connections_max").to_string();
    for fact in [
        concat!("fanfare ", env!("CARGO_PKG_VERSION")),
        &file,
        "1 shards",
        &connections,
        "1048576 bytes",
    ] {
        assert!(first.contains(fact), "{fact} is not in {first}");
    }
    let [address, admin] = [daemon.address, daemon.admin].map(|address| address.to_string());
    let said = format!(
        "\"message\":\"listening on {address}, health and metrics on {admin}; waiting with "
    );
    assert_eq!(daemon.logged(&said).len(), 1, "{:?}", daemon.log());
    // For people, without the fields that say it again.
    let setup = Setup::new().set("log.format", "text");
    let mut child = setup.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = std::io::BufReader::new(child.stderr.take().unwrap());
    let line =
        std::io::BufRead::lines(log).map(Result::unwrap).find(|line| line.contains("listening on"));
    child.kill().unwrap();
    child.wait().unwrap();
    let line = line.unwrap();
    assert!(line.contains("health and metrics on 127.0.0.1:") && !line.contains('='), "{line}");
}
