//! Bad days of the engine, each with its message, its metric and its reason at `/readyz`; clients of a node are served
//! through all of them.

use crate::bed::{Bed, SETTLING};
use crate::crowd::{Crowd, Member};
use crate::dialects::{Follower, every_dialect, line};
use crate::harness::{
    DEADLINE, Daemon, Setup, eventually, eventually_well, eventually_within, skip,
};
use crate::network::{Host, has_disks};
use crate::operator::{TOKEN, cluster, doctor};
use crate::relay::{RelayWish, relay};
use crate::server::{PASSWORD, ServerWish};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// The daemon serves its own clients, whatever there is of a cluster.
#[track_caller]
fn assert_serves(daemon: &Daemon) {
    let mut follower = Follower::of("personium-event", daemon);
    let mut publisher = daemon.publisher();
    publisher.send(line("personium-event", 5) + "\n");
    follower.assert_next([5]);
}

/// Waits until the daemon says at `/readyz`, and in its log, what is wrong, in these words.
#[track_caller]
pub(crate) fn await_trouble(daemon: &Daemon, words: &[&str]) {
    let has_all = |text: &str| words.iter().all(|word| text.contains(word));
    eventually_well(DEADLINE, || {
        let (status, page) = daemon.page("/readyz");
        let is_logged = daemon.log().iter().any(|line| has_all(line));
        let is_told = status == 503 && has_all(&page) && is_logged;
        if is_told { Ok(()) } else { Err(format!("{words:?} are told: {status} {page}")) }
    });
    assert_eq!(daemon.page("/healthz").0, 200);
    assert!(daemon.logged(PASSWORD).is_empty(), "the password is in the log");
    assert_serves(daemon);
}

#[test]
fn a_node_waits_for_an_engine_that_comes_later() {
    let Some(mut bed) = Bed::new(&ServerWish::default()) else { return };
    for _ in 0..3 {
        bed.add(every_dialect);
    }
    bed.nodes().for_each(|daemon| await_trouble(daemon, &["nothing listens there"]));
    for daemon in bed.nodes() {
        assert_eq!(daemon.metric("cluster_connected"), 0);
    }
    bed.start_servers();
    bed.await_whole();
    let mut crowd = Crowd::default();
    for node in 0..3 {
        crowd.join_patiently(&bed, node, "presence-room", &format!("user-{node}"));
    }
    crowd.settle(&bed, SETTLING);
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    let urls = bed.urls("a-wrong-one");
    let wrong = bed.add(|setup, host| {
        std::fs::write(setup.path("nats.url"), urls).unwrap();
        every_dialect(setup, host)
    });
    await_trouble(bed.node(wrong), &["authorization"]);
    let examined = doctor(&bed, wrong);
    assert!(examined.starts_with("bad      backends         NATS at "), "{examined}");
    assert!(examined.contains("uthorization") && !examined.contains("a-wrong-one"), "{examined}");
    assert!(bed.node(wrong).logged("a-wrong-one").is_empty());
}

/// A daemon of an engine that cannot serve a cluster says so.
fn refuses(wish: &ServerWish, words: &[&str]) {
    let Some(mut bed) = Bed::engine(wish) else { return };
    let node = bed.add(every_dialect);
    await_trouble(bed.node(node), words);
}

#[test]
fn an_engine_without_jetstream_is_told() {
    refuses(&ServerWish { has_jetstream: false, ..ServerWish::default() }, &["JetStream"]);
}

#[test]
fn an_engine_whose_messages_are_too_short_is_told() {
    let wish = ServerWish { payload_bytes_max: 1024 * 1024, ..ServerWish::default() };
    refuses(&wish, &["max_payload"]);
}

#[test]
fn an_engine_that_is_too_old_is_told() {
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    let server = (bed.servers[0].host.address, 4222).into();
    let wish = RelayWish { version: Some("2.9.10"), ..RelayWish::default() };
    let there = relay(bed.network.tests(), server, wish);
    let urls = format!("nats://{}:{PASSWORD}@{there}", crate::server::USER);
    let node = bed.add(|setup, host| {
        std::fs::write(setup.path("nats.url"), urls).unwrap();
        every_dialect(setup, host)
    });
    await_trouble(bed.node(node), &["2.9.10", "2.12"]);
}

#[test]
fn streams_of_a_service_with_other_partitions_are_not_touched() {
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    let mut client = bed.servers[0].connect().unwrap();
    let stream = json!({
        "name": "FF_tests_00", "subjects": ["ff.tests.p.00.>"], "num_replicas": 3,
        "metadata": { "fanfare.partitions": "32" },
    });
    // Until the leader of the servers has met them all, it has too few for three copies.
    eventually("the stream is made", || {
        let made = client.ask_jetstream("STREAM.CREATE.FF_tests_00", &stream);
        made.is_ok_and(|made| made["error"].is_null())
    });
    let node = bed.add(every_dialect);
    eventually("the daemon tells", || {
        let told = bed.node(node).logged("made by another service, or for another number of");
        told.iter().any(|line| line.contains("FF_tests_00"))
    });
    let info = client.ask_jetstream("STREAM.INFO.FF_tests_00", &json!(null)).unwrap();
    assert_eq!(info["config"]["metadata"]["fanfare.partitions"], "32");
    assert_eq!(info["state"]["messages"], 0, "{info}");
    assert_serves(bed.node(node));
}

/// Promises are not weakened without a word: presence waits until the one or the other is changed.
#[test]
fn a_stream_with_fewer_copies_than_asked_for_is_told_and_presence_waits_for_it() {
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    let mut client = bed.servers[0].connect().unwrap();
    let stream = |copies: u64| {
        json!({
            "name": "FF_tests_03", "subjects": ["ff.tests.p.03.e", "ff.tests.p.03.j"],
            "num_replicas": copies, "allow_rollup_hdrs": true,
            "metadata": { "fanfare.partitions": "16" },
        })
    };
    let made = client.ask_jetstream("STREAM.CREATE.FF_tests_03", &stream(1)).unwrap();
    assert!(made["error"].is_null(), "{made}");
    for _ in 0..2 {
        bed.add(|setup, host| every_dialect(setup, host).set("admin.token", TOKEN));
    }
    // All else is there, so the nodes take clients.
    bed.await_whole();
    let told = "the stream FF_tests_03 is kept in 1 copies and cluster.replicas asks for 3";
    eventually("it is told", || bed.nodes().any(|daemon| !daemon.logged(told).is_empty()));
    let is_failing = |node: usize| bed.node(node).metric("cluster_journal_failing") == 1;
    eventually("the status and the metrics have it", || {
        (0..2).any(|node| is_failing(node) && cluster(&bed, node, &["status"]).contains(told))
    });
    for daemon in bed.nodes() {
        daemon.await_metric("cluster_partitions{state=\"orphaned\"}", 1);
        assert_eq!(daemon.page("/readyz").0, 200);
    }
    let made = client.ask_jetstream("STREAM.UPDATE.FF_tests_03", &stream(3)).unwrap();
    assert!(made["error"].is_null(), "{made}");
    for daemon in bed.nodes() {
        daemon.await_metric("cluster_partitions{state=\"orphaned\"}", 0);
        daemon.await_metric("cluster_journal_failing", 0);
    }
    let mut crowd = Crowd::default();
    for number in 0..24 {
        crowd.join(&bed, number % 2, &format!("presence-{number}"), "ann");
    }
    crowd.settle(&bed, SETTLING);
}

#[test]
fn two_nodes_of_one_name_and_nodes_of_different_settings_are_told() {
    let Some(mut bed) = Bed::start(2, every_dialect) else { return };
    let other = bed.add(|setup, host| every_dialect(setup, host).set("echo.app.0.secret", "other"));
    eventually("different settings are counted", || {
        bed.nodes().all(|daemon| daemon.metric("cluster_settings_differ") > 0)
    });
    // It is no fault of one node, and not fatal.
    bed.await_whole();
    assert_serves(bed.node(other));

    let twin = bed.add(|setup, host| every_dialect(setup, host).set("cluster.node", "a"));
    await_trouble(bed.node(twin), &["name"]);
    assert!(!bed.node(1).logged("two nodes have the name a").is_empty());
}

#[test]
fn garbage_on_a_clusters_subjects_stops_nothing() {
    let Some(bed) = Bed::start(2, every_dialect) else { return };
    let mut crowd = Crowd::default();
    crowd.join(&bed, 0, "presence-room", "ann");
    crowd.join(&bed, 1, "presence-room", "bob");
    let mut client = bed.servers[1].connect().unwrap();
    let mut packet = vec![1u8, 1, 1, b'x'];
    packet.extend([0xff; 40]);
    let later = json!({ "v": 99, "node": "x", "incarnation": 1, "kind": "later" }).to_string();
    let beat = json!({ "v": 1, "node": "x", "incarnation": 1, "kind": "heartbeat" }).to_string();
    let all: [&[u8]; 8] = [
        b"",
        b"{",
        b"\xff\xfe",
        b"{\"v\":1}",
        &packet,
        &packet[..7],
        later.as_bytes(),
        beat.as_bytes(),
    ];
    for subject in ["all.l", "all.n", "all.x", "to.a", "to.b", "to.a.b"] {
        for garbage in all {
            client.publish(&format!("ff.tests.{subject}"), garbage).unwrap();
        }
    }
    let long = vec![b'['; 1024 * 1024];
    client.publish("ff.tests.all.n", &long).unwrap();
    client.publish("ff.tests.all.l", &long).unwrap();
    eventually("it is counted", || {
        bed.nodes().all(|daemon| daemon.metric("cluster_ignored_total") > 0)
    });
    crowd.join(&bed, 1, "presence-room", "cid");
    crowd.settle(&bed, SETTLING);
    for daemon in bed.nodes() {
        assert!(daemon.log().len() < 200, "{} lines", daemon.log().len());
        assert_serves(daemon);
    }
}

/// What was shown stays shown, and who comes waits; when there is room again, all is right.
#[test]
fn a_full_disk_of_the_engine_is_told_and_nothing_that_was_promised_is_lost() {
    if !has_disks() {
        return skip("a full disk of the engine", "disks in memory cannot be made");
    }
    let wish = ServerWish { disk_mib: Some(64), ..ServerWish::default() };
    let Some(mut bed) = Bed::engine(&wish) else { return };
    for _ in 0..3 {
        bed.add(every_dialect);
    }
    bed.await_whole();
    let mut crowd = Crowd::default();
    for number in 0..30 {
        let (channel, user) = (format!("presence-{}", number % 10), format!("user-{number}"));
        crowd.join(&bed, number % 3, &channel, &user);
    }
    crowd.settle(&bed, SETTLING);

    let ballast: Vec<_> = bed.servers.iter().map(|server| server.store().join("ballast")).collect();
    ballast.iter().for_each(|file| fill(file));
    // The servers acknowledge what their memory takes, and find out when they write it.
    let mut number = 0;
    eventually_within(SETTLING, "who comes is not let in, and the daemon tells why", || {
        number += 1;
        let (channel, user) = (format!("presence-{}", number % 10), format!("late-{number}"));
        match Member::join(bed.node(0), 0, &channel, &user) {
            Ok(member) => crowd.members.push(member),
            Err(code) => assert_eq!(code, 4200, "{user}"),
        }
        bed.nodes().any(|daemon| !daemon.logged("cluster: JetStream ").is_empty())
    });

    // More room, and servers that look again, as a person would do it.
    for (index, ballast) in ballast.iter().enumerate() {
        std::fs::remove_file(ballast).unwrap();
        bed.servers[index].stop();
        bed.servers[index].start();
    }
    bed.await_servers();
    crowd.join_patiently(&bed, 1, "presence-0", "in-time");
    crowd.settle(&bed, SETTLING);
}

/// Writes to a file until its disk is full.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for block in [1024 * 1024, 4096, 1] {
        while file.write_all(&vec![0; block]).is_ok() {}
    }
}

#[test]
fn sessions_of_a_node_that_is_alone_end_where_that_is_asked_for() {
    let closing = |setup: Setup, host: &Host| {
        every_dialect(setup, host)
            .set("cluster.on_isolation", "close")
            .set("cluster.isolation_s", 5)
    };
    let Some(mut bed) = Bed::start(2, closing) else { return };
    let mut follower = Follower::of("personium-event", bed.node(0));
    let mut channel = Follower::of("channel", bed.node(0));
    bed.servers.iter_mut().for_each(crate::server::NatsServer::kill);
    assert!(follower.client.is_silent_for(Duration::from_secs(4)));
    // They end over 30 s.
    for follower in [&mut follower, &mut channel] {
        eventually_within(SETTLING, "the session ends", || follower.client.has_news());
    }
    assert_eq!(follower.client.close_code(), 1000);
    assert_eq!(channel.client.close_code(), 1013);
}
