//! A reload of a running daemon: what is applied at once, what waits for a restart, and that both are named.

use crate::harness::{Authority, Client, Daemon, Setup, event, eventually};
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

/// Changes the text of the configuration and has it read. Returns what is said of it.
fn reload(daemon: &Daemon, changes: &[(&str, &str)]) -> String {
    let file = daemon.path("fanfare.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    std::fs::write(&file, text).unwrap();
    let count = || daemon.log().iter().filter(|line| line.contains("reloaded")).count();
    let before = count();
    daemon.signal(Signal::HUP);
    eventually("the reload is told", || count() > before);
    daemon.log().into_iter().rfind(|line| line.contains("reloaded")).unwrap()
}

/// An address that nobody has.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn each_changed_key_is_named_as_applied_or_as_one_that_needs_a_restart() {
    let daemon = Setup::new().start();
    assert!(reload(&daemon, &[]).contains("the configuration is as it was"));
    let said = reload(
        &daemon,
        &[
            ("threads = 1", "threads = 2"),
            ("drain_s = 10", "drain_s = 3"),
            ("format = \"json\"", "format = \"json\"\nlevel = \"warn\""),
            ("[personium]", "[limits]\nhead_bytes_max = 9000\n[personium]"),
        ],
    );
    assert!(said.contains("needs a restart: threads"), "{said}");
    assert!(said.contains("applied: drain_s, limits.head_bytes_max, log.level;"), "{said}");
    // What has waited once waits still.
    let said = reload(&daemon, &[("level = \"warn\"", "level = \"info\"")]);
    assert!(said.contains("applied: log.level; needs a restart: threads"), "{said}");
    let said = reload(&daemon, &[("threads = 2", "threads = 1")]);
    assert!(said.contains("the configuration is as it was"), "{said}");
    daemon.assert_works();
}

#[test]
fn a_reload_changes_what_is_logged() {
    let daemon = Setup::new().start();
    let said = reload(&daemon, &[("format = \"json\"", "format = \"json\"\nlevel = \"error\"")]);
    assert!(said.contains("applied: log.level"), "it is told all the same: {said}");
    // Good reloads are silent now, bad ones are not.
    let again = std::fs::read_to_string(daemon.path("fanfare.toml")).unwrap();
    let said = reload(&daemon, &[("drain_s", "drian_s")]);
    assert!(said.contains("not reloaded") && said.contains("did you mean"), "{said}");
    std::fs::write(daemon.path("fanfare.toml"), again).unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_metric("config_last_reload_successful", 1);
    let said = reload(&daemon, &[("level = \"error\"", "level = \"info\"")]);
    assert!(said.contains("applied: log.level"), "{said}");
    assert_eq!(daemon.logged("reloaded").len(), 3, "{:?}", daemon.log());
    reload(&daemon, &[]);
}

#[test]
fn a_reload_changes_how_long_a_stop_takes() {
    let mut daemon = Setup::new().start();
    // They never answer their close, and some are told in the second half of the time.
    let clients: Vec<Client> = (0..10).map(|_| daemon.client()).collect();
    reload(&daemon, &[("drain_s = 10", "drain_s = 1")]);
    let start = std::time::Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(daemon.logged("drain_s = 1").len(), 2, "{:?}", daemon.log());
    drop(clients);
}

#[test]
fn a_reload_changes_who_may_publish() {
    let daemon = Setup::new().start();
    let mode = || std::fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o660);
    let said =
        reload(&daemon, &[("[feed.unix]", "[feed.unix]\nmode = \"0600\"\nline_bytes_max = 100")]);
    assert!(said.contains("applied: feed.unix.line_bytes_max, feed.unix.mode"), "{said}");
    assert_eq!(mode(), 0o600);
    let mut publisher = daemon.publisher();
    publisher.send(event("long", &"x".repeat(200)));
    assert!(publisher.reply()["error"].as_str().unwrap().contains("100 bytes"));
    reload(&daemon, &[("mode = \"0600\"", "mode = \"0600\"\nallow_uids = [4294967294]")]);
    let mut stranger = daemon.publisher();
    assert!(stranger.reply()["error"].as_str().unwrap().contains("may not publish"));
    // The others stay.
    publisher.send(event("short", "x"));
    assert_eq!(publisher.receipt(), (1, 1));
}

#[test]
fn listeners_come_and_go_with_a_reload_and_clients_stay() {
    let daemon = Setup::new().start();
    let (one, two) = (free(), free());
    let mut inside = daemon.subscriber();
    let listen = |address: SocketAddr, dialects: &str| {
        format!("[[listen]]\naddress = \"{address}\"\ndialects = [{dialects}]\n")
    };
    let first = listen("127.0.0.1:0".parse().unwrap(), "\"personium-event\"");
    let with_two = format!("{first}{}", listen(one, "\"personium-event\""));
    let said = reload(&daemon, &[(&first, &with_two)]);
    assert!(said.contains("applied: listen.1.address, listen.1.dialects"), "{said}");
    let mut follower = Client::connect(one);
    follower.follow();
    daemon.publisher().send(event("a", "b"));
    assert!(inside.text().contains("\"b\"") && follower.text().contains("\"b\""));

    // The second goes, a third comes; the first stays.
    let third = listen(two, "\"personium-event\"");
    reload(&daemon, &[(&listen(one, "\"personium-event\""), &third)]);
    eventually("nobody listens there any more", || TcpStream::connect(one).is_err());
    let mut late = Client::connect(two);
    late.follow();
    daemon.publisher().send(event("c", "d"));
    for client in [&mut inside, &mut follower, &mut late] {
        assert!(client.text().contains("\"d\""));
    }
    daemon.assert_works();

    // An address comes back, and one that cannot be had changes nothing.
    let again = listen(one, "\"personium-event\"");
    reload(&daemon, &[(&third, &again)]);
    Client::connect(one).follow();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listen(other.local_addr().unwrap(), "\"personium-event\"");
    let said = reload(&daemon, &[(&again, &taken)]);
    assert!(
        said.contains("not reloaded, everything stays as it was") && said.contains("is taken"),
        "{said}"
    );
    Client::connect(one).follow();
}

#[test]
fn a_dialect_that_nobody_spoke_at_the_start_waits_for_a_restart() {
    let daemon = Setup::new().start();
    let said = reload(
        &daemon,
        &[
            ("[\"personium-event\"]", "[\"personium-event\", \"personium-topic\"]"),
            ("[personium]", "[wazo]\nanonymous = true\n[personium]"),
        ],
    );
    assert!(
        said.contains(
            "needs a restart: personium-topic of the listener 127.0.0.1:0, as no listener"
        ),
        "{said}"
    );
    daemon.assert_works();
}

#[test]
fn a_listener_takes_tls_and_gives_it_up_with_a_reload() {
    let authority = Authority::new();
    let daemon = Setup::new().start();
    authority.sign().install(daemon.directory());
    let file = |name: &str| daemon.path(name).to_str().unwrap().to_owned();
    let tls = format!(
        "[\"personium-event\"]\ntls = {{ certificate = {:?}, key = {:?} }}",
        file("cert.pem"),
        file("key.pem")
    );
    let mut plain = daemon.subscriber();
    let said = reload(&daemon, &[("[\"personium-event\"]", &tls)]);
    assert!(said.contains("applied: listen.0.tls.certificate, listen.0.tls.key"), "{said}");
    let mut secure = Client::secure_session(daemon.address, &authority.client()).unwrap();
    secure.follow();
    daemon.publisher().send(event("a", "b"));
    assert!(plain.text().contains("\"b\"") && secure.text().contains("\"b\""));
    reload(&daemon, &[(&tls, "[\"personium-event\"]")]);
    daemon.assert_works();
}
