//! The unix feed: receipts, errors, order, publishers that misbehave, permissions and the path itself.

use crate::harness::{
    Daemon, Frozen, PATH, Publisher, Setup, command, event, eventually, root, skip, token,
};
use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const LINE_BYTES_MAX: usize = 1024 * 1024;

#[test]
fn receipts_and_errors_come_in_the_order_of_the_lines() {
    let daemon = Setup::new().start();
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    assert_eq!(publisher.receipt(), (0, 0));
    let deep = format!("event/demo {{\"Info\":{}1{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let lines = [
        event("one", "1").into_bytes(),
        b"nonsense {}\n".to_vec(),
        b"\n".to_vec(),
        b"event/demo {\"Type\":\"chat\",\"Object\":\n".to_vec(),
        b"event/demo {\"Type\":\"\xff\"}\n".to_vec(),
        b"event/d\xffmo {}\n".to_vec(),
        b"event/demo {\"Type\":\"a\",\"Type\":\"b\"}\n".to_vec(),
        deep.into_bytes(),
        b"event/demo\n".to_vec(),
        b" \n".to_vec(),
        b"wazo {\"name\":\"nobody speaks this here\"}\n".to_vec(),
        event("two", "2").replace('\n', "\r\n").into_bytes(),
        b"\n".to_vec(),
    ];
    publisher.send(lines.concat());
    for (line, reason) in [
        (3, "unknown address"),
        (0, "{\"accepted\":1,\"rejected\":1}"),
        (5, "JSON"),
        (6, "UTF-8"),
        (7, "UTF-8"),
        (8, "twice"),
        (9, "deep"),
        (10, "JSON"),
        (11, "address"),
        (0, "{\"accepted\":3,\"rejected\":8}"),
    ] {
        let reply = publisher.reply();
        assert!(reply.to_string().contains(reason), "{reply} instead of {reason}");
        assert_eq!(reply["line"].as_u64().unwrap_or(0), line, "{reply}");
    }
    assert!(subscriber.text().contains("one"));
    assert!(subscriber.text().contains("two"));
    assert_eq!(daemon.metric("events_total{feed=\"unix\",outcome=\"accepted\"}"), 2);
    assert_eq!(daemon.metric("events_total{feed=\"unix\",outcome=\"no_listener\"}"), 1);
    assert_eq!(daemon.metric("events_total{feed=\"unix\",outcome=\"rejected\"}"), 8);
}

#[test]
fn each_publishers_events_arrive_in_their_order() {
    const PUBLISHERS: usize = 5;
    const EVENTS: usize = 2000;
    let daemon =
        Setup::new().set("threads", 2).set("limits.outbox_bytes_max", 64 * 1024 * 1024).start();
    let mut subscribers: Vec<_> = (0..6).map(|_| daemon.subscriber()).collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let mut publisher = daemon.publisher();
            std::thread::spawn(move || {
                for place in 0..EVENTS {
                    publisher.send(event(&number.to_string(), &place.to_string()));
                }
                assert_eq!(publisher.receipt(), (EVENTS as u64, 0));
            })
        })
        .collect();
    for subscriber in &mut subscribers {
        let mut next = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * EVENTS {
            let event: serde_json::Value = serde_json::from_str(&subscriber.text()).unwrap();
            let number: usize = event["Object"].as_str().unwrap().parse().unwrap();
            assert_eq!(
                event["Info"].as_str().unwrap(),
                next[number].to_string(),
                "publisher {number}"
            );
            next[number] += 1;
        }
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    assert_eq!(daemon.metric("mailbox_depth"), 0);
}

#[test]
fn a_publisher_that_stops_inside_a_line_or_vanishes_disturbs_nobody() {
    let daemon = Setup::new().start();
    let mut subscriber = daemon.subscriber();
    let mut stuck = daemon.publisher();
    stuck.send("event/demo {\"Type\":\"chat\",\"Obj");
    for _ in 0..20 {
        let mut vanishing = daemon.publisher();
        vanishing.send(event("vanishing", "before the end"));
        vanishing.send("event/demo {\"Type");
        assert!(subscriber.text().contains("vanishing"));
    }
    let mut publisher = daemon.publisher();
    publisher.send(event("other", "goes on"));
    assert!(subscriber.text().contains("goes on"));
    stuck.send("ect\":\"late\",\"Info\":\"complete\"}\n");
    assert!(subscriber.text().contains("late"));
    drop(stuck);
    daemon.await_metric("events_total{feed=\"unix\",outcome=\"rejected\"}", 20);
    daemon.await_metric("publishers", 1);
    let mut half = daemon.publisher();
    half.send(event("half", "open"));
    half.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(subscriber.text().contains("half"));
    assert!(half.reply().is_null());
}

#[test]
fn a_publisher_that_never_reads_its_replies_still_publishes() {
    let daemon = Setup::new().start();
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    let before = daemon.memory_bytes();
    for round in 0..20 {
        publisher.send("bad {}\n".repeat(1000));
        publisher.send(event("good", &round.to_string()));
        assert!(subscriber.text().contains(&format!("\"Info\":\"{round}\"")));
    }
    assert!(daemon.metric("feed_replies_dropped_total") > 0);
    assert!(daemon.memory_bytes() < before + 8 * 1024 * 1024);
    assert_eq!(publisher.reply()["line"], 1);
}

#[test]
fn a_flood_of_bad_lines_delays_no_other_publisher() {
    let daemon = Setup::new().start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..30 {
            let (flood, mut replies) = (daemon.publisher(), None);
            // Some read what they are told, others do not.
            if number % 2 == 0 {
                replies = Some(flood.stream().try_clone().unwrap());
            }
            let done = &done;
            scope.spawn(move || {
                let lines = "xxxx\n".repeat(12_000);
                flood.stream().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
                while !done.load(Relaxed) {
                    let _ = flood.stream().write(lines.as_bytes());
                }
                flood.stream().shutdown(Shutdown::Both).unwrap();
                drop(flood);
            });
            if let Some(mut replies) = replies {
                scope.spawn(move || std::io::copy(&mut replies, &mut std::io::sink()));
            }
        }
        let rejected = "events_total{feed=\"unix\",outcome=\"rejected\"}";
        eventually("all of them flood", || daemon.metric(rejected) > 30 * 1000);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let start = Instant::now();
            // One that comes for one event, as `fanfare publish` does.
            let mut publisher = daemon.publisher();
            publisher.send(event("good", "one"));
            assert_eq!(publisher.receipt(), (1, 0));
            longest = longest.max(start.elapsed());
        }
        done.store(true, Relaxed);
        assert!(longest < Duration::from_secs(2), "{longest:?}");
    });
}

#[test]
fn a_publisher_that_reads_gets_every_reply_however_many_they_are() {
    const ROUNDS: u64 = 10_000;
    let daemon = Setup::new().start();
    let mut publisher = daemon.publisher();
    let mut writer = publisher.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all("bad {}\n\n".repeat(ROUNDS as usize).as_bytes()).unwrap()
        });
        // By now there is more than is kept for one that does not read.
        eventually("some are kept", || {
            daemon.metric("events_total{feed=\"unix\",outcome=\"rejected\"}") > 2500
        });
        for round in 1..=ROUNDS {
            assert_eq!(publisher.reply()["line"], 2 * round - 1);
            assert_eq!(publisher.reply()["rejected"], round);
        }
    });
    assert_eq!(daemon.metric("feed_replies_dropped_total"), 0);
}

#[test]
fn a_receipt_tells_how_many_sessions_were_reached_where_that_is_asked() {
    let daemon = Setup::new().set("threads", 2).start();
    let mut subscribers: Vec<_> = (0..3).map(|_| daemon.subscriber()).collect();
    let mut publisher = daemon.publisher();
    publisher
        .send(event("not counted", "1") + "reached\n" + &event("a", "2") + &event("b", "3") + "\n");
    assert_eq!(publisher.reply().to_string(), r#"{"accepted":3,"reached":6,"rejected":0}"#);
    publisher
        .send("event/nowhere {\"Type\":\"x\",\"Object\":\"y\"}\nwazo {\"name\":\"not spoken\"}\nbad {}\n\n");
    assert_eq!(publisher.reply()["line"], 8);
    assert_eq!(publisher.reply().to_string(), r#"{"accepted":5,"reached":6,"rejected":1}"#);
    for subscriber in &mut subscribers {
        assert!(["1", "2", "3"].iter().all(|info| subscriber.text().contains(info)));
    }
    let mut other = daemon.publisher();
    other.send(event("a", "4") + "\n");
    assert_eq!(other.reply().to_string(), r#"{"accepted":1,"rejected":0}"#);
}

#[test]
fn publish_warns_of_an_event_that_nobody_got() {
    let daemon = Setup::new().set("threads", 2).start();
    let socket = daemon.socket();
    let publish = |json: &str| {
        let words = ["publish", "--socket", socket.to_str().unwrap(), "event/demo", json];
        let output = command(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let good = r#"{"Type":"chat","Object":"room","Info":"hi"}"#;
    assert!(publish(good).contains("no session got it"), "nobody is there");
    let mut subscriber = daemon.subscriber();
    assert_eq!(publish(good), "");
    assert!(subscriber.text().contains("hi"));
    assert!(publish(r#"{"a":1}"#).contains("no session got it"), "nothing can match it");
}

#[test]
fn the_shards_share_the_places_of_publishers() {
    let daemon = Setup::new().set("threads", 2).set("feed.unix.publishers_max", 8).start();
    let mut publishers: Vec<_> = (0..16).map(|_| daemon.publisher()).collect();
    for publisher in &mut publishers {
        assert_eq!(publisher.receipt(), (0, 0));
    }
    assert!(daemon.publisher().reply()["error"].as_str().unwrap().contains("publishers_max"));
    publishers.clear();
    daemon.await_metric("publishers", 0);
    assert_eq!(daemon.publisher().receipt(), (0, 0));
}

#[test]
fn a_line_may_have_a_mebibyte_and_not_a_byte_more() {
    let daemon = Setup::new().set("limits.outbox_bytes_max", 4 * 1024 * 1024).start();
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    let line = |size: usize| event("big", &"x".repeat(size - event("big", "").len() + 1));
    assert_eq!(line(LINE_BYTES_MAX).len(), LINE_BYTES_MAX + 1);
    publisher.send(line(LINE_BYTES_MAX));
    assert_eq!(subscriber.text().len(), LINE_BYTES_MAX - "event/demo ".len());
    assert_eq!(publisher.receipt(), (1, 0));
    publisher.send(line(LINE_BYTES_MAX + 1));
    let reply = publisher.reply();
    assert_eq!(reply["line"], 3);
    assert!(reply["error"].as_str().unwrap().contains("longer than 1048576 bytes"), "{reply}");
    let before = daemon.memory_bytes();
    for _ in 0..20 {
        publisher.send("x".repeat(LINE_BYTES_MAX));
    }
    assert!(daemon.memory_bytes() < before + 4 * 1024 * 1024, "an overlong line is kept");
    publisher.send("\n");
    assert!(publisher.reply()["error"].is_string());
    assert_eq!(publisher.receipt(), (1, 2));
}

#[test]
fn one_event_never_closes_a_client_that_reads() {
    let daemon = Setup::new().start();
    let mut classic = daemon.subscriber();
    let mut current = daemon.client();
    current.ask(&format!("{{\"AccessToken\":\"{}\"}}", token()));
    current.ask("{\"Subscribe\":{\"Type\":\"*\",\"Object\":\"*\"}}");
    let mut publisher = daemon.publisher();
    // Each slash has two bytes in the current spelling.
    let size = LINE_BYTES_MAX - event("big", "").len() + 1;
    for _ in 0..3 {
        publisher.send(event("big", &"/".repeat(size)));
        assert!(classic.text().len() > size);
        assert!(current.text().len() > 2 * size);
    }
    assert_eq!(daemon.metric("session_ends_total{reason=\"slow\"}"), 0);
}

#[test]
fn a_stopped_daemon_makes_publishers_wait_and_loses_nothing() {
    let daemon = Setup::new().set("limits.outbox_bytes_max", 64 * 1024 * 1024).start();
    let mut subscriber = daemon.subscriber();
    let publisher = daemon.publisher();
    daemon.signal(rustix::process::Signal::STOP);
    publisher.stream().set_nonblocking(true).unwrap();
    let line = event("waiting", &"x".repeat(1000));
    let (mut written, mut stream) = (0, publisher.stream());
    let refused = loop {
        match stream.write(&line.as_bytes()[written % line.len()..]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
        assert!(written < 64 * 1024 * 1024, "a stopped daemon takes everything");
    };
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    daemon.signal(rustix::process::Signal::CONT);
    for _ in 0..written / line.len() {
        assert!(subscriber.text().contains("waiting"));
    }
}

#[test]
fn a_flood_is_slowed_to_what_the_shards_can_take() {
    const EVENTS: usize = 60_000;
    let daemon = Setup::new().set("threads", 2).set("limits.outbox_bytes_max", 1 << 30).start();
    let subscribers: Vec<_> = (0..8)
        .map(|_| {
            let mut subscriber = daemon.subscriber();
            std::thread::spawn(move || {
                for place in 0..EVENTS {
                    assert!(subscriber.text().ends_with(&format!("\"Info\":\"{place}\"}}")));
                }
            })
        })
        .collect();
    let mut publisher = daemon.publisher();
    for start in (0..EVENTS).step_by(500) {
        publisher
            .send((start..start + 500).map(|n| event("flood", &n.to_string())).collect::<String>());
        if start % 10_000 == 0 {
            assert!(daemon.metric("mailbox_depth") < 2 * 51_000);
        }
    }
    assert_eq!(publisher.receipt(), (EVENTS as u64, 0));
    subscribers.into_iter().for_each(|subscriber| subscriber.join().unwrap());
    assert_eq!(daemon.metric("deliveries_total{dialect=\"personium-event\"}"), 8 * EVENTS as u64);
}

#[test]
fn the_socket_has_the_configured_mode_and_group() {
    let mode =
        |daemon: &Daemon| std::fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o7777;
    let daemon = Setup::new().start();
    assert_eq!(mode(&daemon), 0o660);
    let daemon = Setup::new().set("feed.unix.mode", "0600").start();
    assert_eq!(mode(&daemon), 0o600);
    if !root() {
        return skip("the group of the socket", "only root may give it away");
    }
    let daemon = Setup::new().set("feed.unix.group", "nogroup").start();
    assert_eq!(
        std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(daemon.socket()).unwrap()),
        65534
    );
}

#[test]
fn publishers_that_are_refused_again_and_again_get_a_few_lines_of_the_log_and_a_count() {
    let daemon = Setup::new().set("feed.unix.allow_uids", "[65534]").set("threads", 2).start();
    for _ in 0..50 {
        assert!(!daemon.publisher().reply()["error"].is_null());
    }
    assert_eq!(daemon.logged("may not publish").len(), 5);
    assert_eq!(daemon.metric("log_events_total{line=\"publisher_refused\"}"), 50);
    daemon.await_log("and 45 more like it: publishers that were refused", 1);
}

#[test]
fn only_the_listed_users_may_publish() {
    let own = rustix::process::geteuid().as_raw();
    let daemon = Setup::new().set("feed.unix.allow_uids", format!("[{own}]")).start();
    daemon.assert_works();
    let daemon =
        Setup::new().set("feed.unix.allow_uids", "[65534]").set("feed.unix.mode", "0666").start();
    let mut refused = daemon.publisher();
    let reply = refused.reply();
    assert!(reply["error"].as_str().unwrap().contains("may not publish"), "{reply}");
    assert!(refused.reply().is_null());
    daemon.await_log("may not publish", 1);
    if !root() {
        return skip("publishing as another user", "only root may become nobody");
    }
    let mut subscriber = daemon.subscriber();
    assert_eq!(
        nobody_is_told(&daemon, "--clear-groups", &event("nobody", "may")),
        "{\"accepted\":1,\"rejected\":0}\n"
    );
    assert!(subscriber.text().contains("nobody"));
}

/// What is said to the user nobody, with these groups beside its own, when it writes this and asks for a receipt.
fn nobody_is_told(daemon: &Daemon, groups: &str, lines: &str) -> String {
    std::fs::set_permissions(daemon.directory(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Perl is on every Debian, and the directory of our own program may be closed to others.
    let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new($ARGV[0]) or die $!; \
                  if ($ARGV[1]) { print $s $ARGV[1], qq(\\n); $s->flush; } print scalar <$s>;";
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", groups, "perl", "-e", script])
        .args([daemon.socket().to_str().unwrap(), lines])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(!output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_publisher_passes_by_any_of_its_groups() {
    if !root() {
        return skip("publishing with other groups", "only root may take them");
    }
    let daemon =
        Setup::new().set("feed.unix.allow_gids", "[4242]").set("feed.unix.mode", "0666").start();
    let accepted = "{\"accepted\":1,\"rejected\":0}\n";
    for groups in ["--groups=4241,4242", "--groups=4242"] {
        assert_eq!(nobody_is_told(&daemon, groups, &event("nobody", "may")), accepted);
    }
    for groups in ["--groups=4241", "--clear-groups"] {
        // It is told without writing anything.
        let said = nobody_is_told(&daemon, groups, "");
        assert!(said.contains("user 65534 with group 65534 may not publish"), "{said}");
    }
}

#[test]
fn too_many_publishers_are_told_so() {
    let daemon = Setup::new().set("feed.unix.publishers_max", 2).start();
    let (mut first, second) = (daemon.publisher(), daemon.publisher());
    daemon.await_metric("publishers", 2);
    assert!(daemon.publisher().reply()["error"].as_str().unwrap().contains("publishers_max"));
    drop(second);
    daemon.await_metric("publishers", 1);
    assert_eq!(daemon.publisher().receipt(), (0, 0));
    assert_eq!(first.receipt(), (0, 0));
}

/// What a daemon that cannot start says as it ends with this status.
fn refusal(setup: &Setup, status: i32) -> String {
    let output = setup.command().output().unwrap();
    assert_eq!(output.status.code(), Some(status));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_path_of_a_live_daemon_is_refused_and_that_of_a_dead_one_is_taken() {
    let mut daemon = Setup::new().start();
    let other = Setup::new().set("feed.unix.path", daemon.socket().display());
    let said = refusal(&other, 75);
    assert!(said.contains("events.sock is in use by a running daemon: stop it, or"), "{said}");
    daemon.assert_works();
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    assert!(daemon.socket().exists());
    let daemon = daemon.again();
    daemon.assert_works();
}

#[test]
fn a_file_in_the_path_of_the_feed_is_left_alone() {
    let setup = Setup::new();
    std::fs::write(setup.path("events.sock"), "precious").unwrap();
    let said = refusal(&setup, 78);
    assert!(said.contains("events.sock exists and is not a socket: remove it, or"), "{said}");
    assert_eq!(std::fs::read(setup.path("events.sock")).unwrap(), b"precious");
    let setup = Setup::new().set("feed.unix.mode", "0999");
    assert!(refusal(&setup, 78).contains("is not a file mode: write it in octal"));
    let setup = Setup::new().set("feed.unix.group", "no-such-group-here");
    assert!(refusal(&setup, 78).contains("there is no group \"no-such-group-here\""));
    let setup = Setup::new().set("feed.unix.path", format!("/tmp/{}", "x".repeat(200)));
    assert!(refusal(&setup, 78).contains("is too long: a socket's path may have 107 bytes"));
}

#[test]
fn publish_tells_what_stands_in_its_way() {
    let setup = Setup::new();
    let path = setup.path("events.sock");
    let publish = |status| {
        let socket = path.to_str().unwrap();
        let output =
            command(&["publish", "--socket", socket, "event/demo", "{}"]).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(publish(75).contains("serve"), "{}", publish(75));
    drop(UnixListener::bind(&path).unwrap());
    assert!(publish(75).contains("serve"), "{}", publish(75));
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let answering = std::thread::spawn(move || {
        let mut stream: UnixStream = other.accept().unwrap().0;
        stream.write_all(b"220 mail.example ESMTP\n").unwrap();
    });
    let said = publish(1);
    assert!(said.contains("not fanfare"), "{said}");
    answering.join().unwrap();
}

#[test]
fn a_publisher_that_connected_before_a_stop_is_answered() {
    let mut daemon = Setup::new().start();
    let Some(frozen) = Frozen::thread(&daemon, "shard-0") else { return };
    // Nobody has accepted it.
    let mut publisher = daemon.publisher();
    publisher.send("event/demo {}\n\n");
    daemon.signal(rustix::process::Signal::TERM);
    eventually("the stop has begun", || !daemon.socket().exists());
    drop(frozen);
    assert_eq!(publisher.reply(), serde_json::json!({ "accepted": 1, "rejected": 0 }));
    assert!(daemon.wait().success());
}

#[test]
fn the_feeds_of_a_daemon_that_restarts_can_be_reached_again() {
    let mut daemon = Setup::new().start();
    let mut publisher = daemon.publisher();
    assert_eq!(publisher.receipt(), (0, 0));
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait().success());
    assert!(publisher.reply().is_null());
    assert!(!daemon.socket().exists(), "a daemon that stops takes its socket away");
    let daemon = daemon.again();
    eventually("publishers are taken", || Publisher::connect(&daemon.socket()).receipt() == (0, 0));
    assert_eq!(PATH, "/demo/__event");
}

#[test]
fn a_publisher_that_has_stopped_writing_can_still_read_every_reply() {
    // More than the kernel keeps for a socket, less than the daemon keeps beside.
    const LINES: u64 = 3000;
    let daemon = Setup::new().start();
    let mut publisher = daemon.publisher();
    publisher.send("nonsense {}\n".repeat(LINES as usize));
    publisher.stream().shutdown(std::net::Shutdown::Write).unwrap();
    eventually("all is read", || {
        daemon.metric("events_total{feed=\"unix\",outcome=\"rejected\"}") == LINES
    });
    for line in 1..=LINES {
        assert_eq!(publisher.reply()["line"], line);
    }
    assert_eq!(publisher.reply(), serde_json::Value::Null);
    assert_eq!(daemon.metric("feed_replies_dropped_total"), 0);
}
