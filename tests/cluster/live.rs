//! Live events over nodes: from each way in to clients of every dialect on every node, once and in order.

use crate::bed::Bed;
use crate::dialects::{
    DIALECTS, Follower, Way, channel_address, every_dialect, line, trigger, wazo_token,
};
use crate::harness::{
    Authority, Client, Daemon, Echo, Redis, SECRET, assert_prints, eventually, node, npm, pypi,
    skip, succeed,
};
use crate::harness::{LISTENED, PATH, SIGNED_IN, token, tools};
use crate::is_long;
use serde_json::json;
use std::time::Duration;

/// Events of each kind from each node.
const EACH: u64 = 50;

#[test]
fn what_comes_in_on_one_node_reaches_clients_of_every_dialect_on_all() {
    let Some(bed) = Bed::start(3, every_dialect) else { return };
    let mut followers: Vec<Vec<Follower>> = bed.nodes().map(Follower::of_each).collect();
    let mut last = 0;
    let mut numbers = || {
        last += EACH;
        last - EACH + 1..last + 1
    };

    for origin in bed.nodes() {
        let range = numbers();
        let mut publisher = origin.publisher();
        for number in range.clone() {
            let lines = DIALECTS.map(|dialect| line(dialect, number) + "\n");
            publisher.send(lines.concat());
        }
        assert_eq!(publisher.receipt(), (EACH * DIALECTS.len() as u64, 0));
        for follower in followers.iter_mut().flatten() {
            follower.assert_next(range.clone());
        }

        for mut way in Way::all(origin) {
            let range = numbers();
            range.clone().for_each(|number| way.publish(number));
            let theirs = followers.iter_mut().flatten();
            for follower in theirs.filter(|follower| follower.dialect == way.dialect()) {
                follower.assert_next(range.clone());
            }
        }
    }

    // What would have come twice has come by now.
    let end = numbers();
    let mut publisher = bed.node(1).publisher();
    publisher.send(DIALECTS.map(|dialect| line(dialect, end.start) + "\n").concat());
    for follower in followers.iter_mut().flatten() {
        follower.assert_next([end.start]);
        // An owner that was found late tells a channel's subscriptions; events have numbers.
        while !follower.client.is_silent_for(Duration::from_millis(50)) {
            assert_eq!(follower.look(), None, "{}", follower.dialect);
        }
    }
    for daemon in bed.nodes() {
        assert_eq!(lost(daemon), 0);
    }
}

/// Events of other nodes that a node knows to have missed.
pub(crate) fn lost(daemon: &Daemon) -> u64 {
    let why = |why: &str| daemon.metric(&format!("cluster_lost_total{{why=\"{why}\"}}"));
    why("gap") + why("full")
}

#[test]
fn what_is_published_elsewhere_at_a_subscriptions_confirmation_is_not_missed() {
    let Some(bed) = Bed::start(3, every_dialect) else { return };
    let count = if is_long() { 20_000 } else { 2_000 };
    let mut application = Client::raw(bed.node(0).address);
    let mut feed = bed.node(0).publisher();
    let mut pages: Vec<Echo> = [1, 2].map(|index| Echo::connect(bed.node(index))).into();
    for number in 0..count {
        let page = &mut pages[number % 2];
        let channel = format!("room-{number}");
        page.join(&channel, None);
        trigger(&mut application, &[&channel], "at once");
        assert_eq!(page.event().1, json!("at once"), "{number}");
        page.leave(&channel);

        if number % 20 == 0 {
            let mut follower = Follower::of("personium-event", bed.node(1 + number % 2));
            feed.send(line("personium-event", number as u64) + "\n");
            follower.assert_next([number as u64]);
        }
    }
}

#[test]
fn what_every_node_reads_from_redis_itself_is_not_sent_on() {
    let Some(redis) = Redis::started() else { return };
    let Some(bed) = Bed::start(2, |setup, host| {
        every_dialect(setup, host)
            .set("feed.redis.url", redis.url_of_socket())
            .set("echo.redis.app", "app-id")
            .set("echo.redis.prefix", "laravel-database-")
    }) else {
        return;
    };
    let mut pages: Vec<Echo> = bed.nodes().map(Echo::connect).collect();
    pages.iter_mut().for_each(|page| page.join("news", None));
    for daemon in bed.nodes() {
        daemon.await_metric("feed_connected{feed=\"redis\"}", 1);
    }
    let event = |number| json!({ "event": "e", "data": { "n": number }, "socket": null });
    let events = (0..100).map(|number| event(number).to_string());
    assert!(redis.publish("laravel-database-news", events).iter().all(|readers| *readers == 2));
    for page in &mut pages {
        for number in 0..100 {
            assert_eq!(page.event().1, json!({ "n": number }));
        }
        assert!(page.client.is_silent_for(Duration::from_millis(300)));
    }
}

/// The event that a newcomer on a node gets in a cache channel.
fn cached(daemon: &Daemon) -> serde_json::Value {
    let mut page = Echo::connect(daemon);
    page.join("cache-prices", None);
    page.event().1
}

/// Publishes on all nodes, in turn and at once: all have the same last event of a cache channel, which is returned.
#[track_caller]
pub(crate) fn assert_one_is_last(bed: &Bed) -> serde_json::Value {
    let mut applications: Vec<Client> =
        bed.nodes().map(|daemon| Client::raw(daemon.address)).collect();
    for number in 0..30 {
        let text = json!(number).to_string();
        trigger(&mut applications[number % 3], &["cache-prices"], &text);
        // What a node has heard of is before what it publishes.
        eventually("it is everywhere", || {
            bed.nodes().all(|daemon| cached(daemon) == json!(number))
        });
    }
    // At the same time: one of them is the last, for all.
    std::thread::scope(|scope| {
        for (node, application) in applications.iter_mut().enumerate() {
            scope.spawn(move || {
                for number in 0..50 {
                    let text = json!(1_000 * (node + 1) + number).to_string();
                    trigger(application, &["cache-prices"], &text);
                }
            });
        }
    });
    let last = agreed(bed);
    assert_eq!(last.as_u64().unwrap() % 1_000, 49, "{last}");
    last
}

/// The last event of a cache channel, once it is the same on all nodes.
#[track_caller]
pub(crate) fn agreed(bed: &Bed) -> serde_json::Value {
    eventually("all nodes have the same last event", || {
        let mut all = bed.nodes().map(cached);
        let first = all.next().unwrap();
        all.all(|other| other == first)
    });
    cached(bed.node(0))
}

#[test]
fn a_cache_channel_has_one_last_event_on_all_nodes_also_on_one_that_comes_later() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let last = assert_one_is_last(&bed);
    bed.stop(2);
    bed.again(2);
    bed.await_whole();
    assert_eq!(agreed(&bed), last);
}

/// The hosts of all nodes, as scripts take them.
fn hosts(bed: &Bed) -> String {
    bed.nodes().map(|daemon| daemon.address.ip().to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn laravel_echo_works_over_nodes_as_on_one() {
    let Some(_) = node("echo_listen.js") else { return };
    let Some(bed) = Bed::start(3, every_dialect) else { return };
    let run = |script, arguments: &[&str], expected| {
        let mut command = node(script).unwrap();
        assert_prints(command.args(arguments).arg(hosts(&bed)).arg("8080"), expected);
    };
    run("echo_listen.js", &["pusher"], LISTENED);
    run("echo_listen.js", &["reverb"], LISTENED);
    run("echo_signin.js", &[], SIGNED_IN);
    for daemon in bed.nodes() {
        daemon.await_metric("connections", 0);
    }
}

/// Clients on one node, and what is fed on another.
#[test]
fn clients_of_the_other_dialects_work_over_nodes_as_on_one() {
    let (sdk, python) = (tools().join("node_modules/@wazo/sdk"), tools().join("python/bin/python"));
    if !sdk.exists() || !python.exists() {
        return skip("clients over nodes", "they are not installed; tests/run does it");
    }
    // The SDK of npm speaks over TLS only.
    let authority = Authority::new();
    let Some(bed) = Bed::start(3, |setup, host| {
        let address = host.address.to_string();
        let place = setup.path("ca.pem");
        std::fs::write(&place, &authority.pem).unwrap();
        authority.sign_for([address.clone()], 4_000).install(place.parent().unwrap());
        let file = |name: &str| place.with_file_name(name).display().to_string();
        every_dialect(setup, host)
            .set("listen.2.address", format!("{address}:8443"))
            .set("listen.2.dialects", r#"["wazo"]"#)
            .set("listen.2.tls.certificate", file("cert.pem"))
            .set("listen.2.tls.key", file("key.pem"))
            .set("channel.ping_interval_s", 1)
            .set("personium.ping_interval_s", 1)
            .set("personium.ping_misses_max", 2)
    }) else {
        return;
    };
    let (feed, there) = (bed.node(0).socket(), bed.node(1));
    let url = format!("ws://{}{PATH}", there.address);
    succeed(npm("ws.js").arg(&url).arg(&feed).arg(token()));
    succeed(pypi("websocket_client.py").arg(&url).arg(&feed).arg(token()));
    let url = format!("ws://{}/", there.address);
    succeed(pypi("wazo.py").arg(url).arg(&feed).arg(wazo_token("events.#")));
    succeed(
        npm("wazo_sdk.js")
            .arg(format!("{}:8443", there.address.ip()))
            .arg(&feed)
            .args(["events.endpoints.#", "events.calls.#"].map(wazo_token))
            .env("NODE_EXTRA_CA_CERTS", there.path("ca.pem")),
    );
    let urls: Vec<String> =
        bed.nodes().map(|daemon| format!("ws://{}/", channel_address(daemon))).collect();
    succeed(npm("channel.js").arg(urls.join(",")).arg(&feed).arg(SECRET));
    succeed(pypi("channel.py").arg(&urls[1]).arg(&feed).arg(SECRET));
}
