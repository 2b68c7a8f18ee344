//! What operators do and see: who owns what, a node that is emptied, and cables between two buildings.

use crate::bed::{Bed, SETTLING};
use crate::crowd::Crowd;
use crate::dialects::{Follower, every_dialect, line};
use crate::harness::{clean, command, eventually, watched_metrics};
use crate::relay::{RelayWish, relay};
use crate::server::{PASSWORD, ServerWish, USER};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Partitions of presence.
const PARTITIONS: usize = 16;
/// What the admin listeners want to be shown.
pub(crate) const TOKEN: &str = "only-operators-know-this-token";
/// How long bytes take between the nodes and the engine.
const DELAY: Duration = Duration::from_millis(10);

/// Runs `fanfare cluster` against a node; returns what it prints.
#[track_caller]
pub(crate) fn cluster(bed: &Bed, node: usize, words: &[&str]) -> String {
    let daemon = bed.node(node);
    let (admin, file) = (daemon.admin.to_string(), daemon.path("admin.token"));
    std::fs::write(&file, TOKEN).unwrap();
    let mut all = vec!["cluster"];
    all.extend(words);
    all.extend(["--admin", &admin, "--token-file", file.to_str().unwrap()]);
    let output = command(&all).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the doctor of a node says of its backends.
#[track_caller]
pub(crate) fn doctor(bed: &Bed, node: usize) -> String {
    let daemon = bed.node(node);
    let path = |name: &str| daemon.path(name).display().to_string();
    let user = rustix::process::geteuid().as_raw().to_string();
    let (file, wrapper) = (path("fanfare.toml"), bed.host_of(node).wrapper());
    let own = [env!("CARGO_BIN_EXE_fanfare"), "doctor", "--user", &user, "--config", &file];
    let words = [&wrapper[..], &own].concat();
    let mut command = clean(words[0], &words[1..]);
    for (name, value) in [("NAME", "tests"), ("NODE", "a"), ("URL_FILE", &path("nats.url"))] {
        command.env(format!("FANFARE_CLUSTER_{name}"), value);
    }
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let lines = output.lines().filter(|line| line.contains(" backends "));
    lines.collect::<Vec<_>>().join("\n")
}

/// How many partitions each node owns, as one node sees it.
#[track_caller]
fn owners(bed: &Bed, node: usize) -> BTreeMap<String, usize> {
    let status: Value = serde_json::from_str(&cluster(bed, node, &["status", "--json"])).unwrap();
    let mut owners = BTreeMap::new();
    for partition in status["partitions"].as_array().unwrap() {
        *owners.entry(partition["owner"].to_string()).or_default() += 1;
    }
    owners
}

#[test]
fn a_node_that_is_emptied_owns_nothing_and_serves_its_members() {
    let Some(bed) =
        Bed::start(3, |setup, host| every_dialect(setup, host).set("admin.token", TOKEN))
    else {
        return;
    };
    let mut crowd = Crowd::default();
    for number in 0..48 {
        let (channel, user) = (format!("presence-{}", number % 16), format!("user-{number}"));
        crowd.join_patiently(&bed, number % 3, &channel, &user);
    }
    crowd.settle(&bed, SETTLING);
    let page = bed.node(0).page("/metrics").1;
    for name in watched_metrics().iter().filter(|name| name.starts_with("fanfare_cluster_")) {
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} is watched, and is no metric");
    }
    let examined = doctor(&bed, 0);
    assert!(examined.starts_with("good     backends         NATS at "), "{examined}");
    let before = owners(&bed, 1);
    assert_eq!(before.values().sum::<usize>(), PARTITIONS, "{before:?}");
    assert!(before.contains_key("\"a\""), "{before:?}");

    let start = Instant::now();
    cluster(&bed, 0, &["drain"]);
    println!("drained after {:?}: before {before:?}", start.elapsed());
    for node in 0..3 {
        eventually("every node knows who owns what", || {
            let after = owners(&bed, node);
            !after.contains_key("\"a\"") && !after.contains_key("null")
        });
    }
    for number in 0..12 {
        crowd.join(&bed, number % 3, &format!("presence-{number}"), &format!("late-{number}"));
    }
    crowd.settle(&bed, SETTLING);
    let removed = crowd.members.iter().flat_map(|member| &member.removed);
    assert_eq!(removed.collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(cluster(&bed, 1, &["status"]).contains("drain"));
}

#[test]
fn an_engine_that_is_far_away_serves_more_slowly() {
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    let wish = RelayWish { delay: DELAY, version: None };
    let far: Vec<String> = bed
        .servers
        .iter()
        .map(|server| relay(bed.network.tests(), (server.host.address, 4222).into(), wish.clone()))
        .map(|there| format!("nats://{USER}:{PASSWORD}@{there}"))
        .collect();
    for _ in 0..3 {
        bed.add(|setup, host| {
            std::fs::write(setup.path("nats.url"), far.join(",")).unwrap();
            every_dialect(setup, host)
        });
    }
    bed.await_whole();
    let mut crowd = Crowd::default();
    let start = Instant::now();
    for number in 0..30 {
        crowd.join_patiently(
            &bed,
            number % 3,
            &format!("presence-{}", number % 6),
            &format!("user-{number}"),
        );
    }
    println!("a join takes {:?}", start.elapsed() / 30);
    crowd.settle(&bed, SETTLING);

    let mut follower = Follower::of("personium-event", bed.node(2));
    let mut publisher = bed.node(0).publisher();
    for number in 1..=500 {
        publisher.send(line("personium-event", number) + "\n");
    }
    follower.assert_next(1..=500);
}
