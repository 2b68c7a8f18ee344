//! Cables that are cut at one place, or one way: what is lost is counted, lists are right afterwards, and a node that
//! is no part of the service says so.

use crate::bed::{Bed, NAMES, SETTLING};
use crate::crowd::{Crowd, Member, ask};
use crate::dialects::every_dialect;
use crate::harness::{eventually_within, http, skip};
use crate::is_long;
use crate::live::lost;
use crate::losses::run;
use crate::network::Host;
use crate::server::{NatsServer, PASSWORD, ServerWish};
use std::time::Duration;

/// How long it may take a node to notice that its server is out of reach, and to be back by another one: three pings,
/// and an attempt or two that end after two seconds.
const CHANGE: Duration = Duration::from_secs(20);

/// Three daemons whose cables can be cut, and members on each.
fn bed() -> Option<(Bed, Crowd)> {
    let bed = Bed::start(3, every_dialect)?;
    if !bed.network.has_cables() {
        skip_cuts();
        return None;
    }
    let crowd = crowd(&bed);
    Some((bed, crowd))
}

fn skip_cuts() {
    skip("cables that are cut at one place", "cables cannot be cut");
}

/// Members on each of three nodes.
fn crowd(bed: &Bed) -> Crowd {
    let mut crowd = Crowd::default();
    for number in 0..12 {
        let (channel, user) = (format!("presence-{}", number % 6), format!("user-{number}"));
        crowd.join_patiently(bed, number % 3, &channel, &user);
    }
    crowd.settle(bed, SETTLING);
    crowd
}

/// Lets events flow between all nodes during faults; what no follower gets must be counted.
#[track_caller]
fn assert_counted(bed: &mut Bed, faults: impl FnOnce(&mut Bed)) {
    let (least, missing) = run(bed, None, faults);
    let counted: Vec<u64> = bed.nodes().map(lost).collect();
    println!("of {least} at least, lost on each node: {missing:?}, counted: {counted:?}");
    assert_eq!(missing.to_vec(), counted);
}

/// The server that a daemon is connected to.
#[track_caller]
fn server_of(bed: &Bed, node: usize) -> usize {
    let name = format!("fanfare {} of tests", NAMES[node]);
    let is_there = |server: &NatsServer| {
        let page = (server.host.address, 8222).into();
        http(page, b"GET /connz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").1.contains(&name)
    };
    bed.servers.iter().position(is_there).expect("the daemon is connected")
}

/// Waits until a daemon says that it is not ready, for this reason.
#[track_caller]
fn await_unready(bed: &Bed, node: usize, reason: &str) {
    eventually_within(SETTLING, &format!("the node is not ready: {reason}"), || {
        let (status, page) = bed.node(node).page("/readyz");
        status == 503 && page.contains(reason)
    });
}

/// Waits until a daemon is ready and hears both others.
#[track_caller]
fn await_ready(bed: &Bed, node: usize) {
    eventually_within(CHANGE, "the node is one of three", || {
        let daemon = bed.node(node);
        daemon.metric("cluster_connected") == 1
            && daemon.metric("cluster_peers") == 2
            && daemon.page("/readyz").0 == 200
    });
}

/// A member of a node leaves, and another comes there.
fn change(bed: &Bed, crowd: &mut Crowd, node: usize, user: &str) {
    let gone = crowd.members.iter().position(|member| member.node == node).unwrap();
    crowd.members.swap_remove(gone);
    crowd.join_patiently(bed, node, "presence-0", user);
}

#[test]
fn a_node_whose_cable_carries_one_way_only_connects_to_another_server() {
    let Some((mut bed, mut crowd)) = bed() else { return };
    assert_counted(&mut bed, |bed| {
        // Of two nodes: a server that hears nothing does not know for long that its client is gone.
        for (cut_off, user) in ["heard-not", "hears-not"].into_iter().enumerate() {
            let node = bed.host_of(cut_off).clone();
            let server = bed.servers[server_of(bed, cut_off)].host.clone();
            let before = bed.node(cut_off).metric("cluster_reconnects_total");
            match cut_off {
                0 => bed.network.cut(&node, &server),
                _ => bed.network.cut(&server, &node),
            }
            eventually_within(CHANGE, "the node has given its server up", || {
                bed.node(cut_off).metric("cluster_reconnects_total") > before
            });
            await_ready(bed, cut_off);
            change(bed, &mut crowd, cut_off, user);
            crowd.settle(bed, SETTLING);
            bed.network.heal();
            bed.await_whole();
        }
    });
    crowd.settle(&bed, SETTLING);
}

#[test]
fn a_node_that_is_cut_off_from_the_engine_only_serves_its_clients_and_says_so() {
    if !is_long() {
        return skip("a cut between a node and the engine", "tests/run --long has it");
    }
    let Some((mut bed, mut crowd)) = bed() else { return };
    assert_counted(&mut bed, |bed| {
        let host = bed.host_of(0).clone();
        let servers: Vec<Host> = bed.servers.iter().map(|server| server.host.clone()).collect();
        servers.iter().for_each(|server| bed.network.part(server, &host));
        await_unready(bed, 0, "not connected");
        assert_eq!(ask(bed.node(0).address, "/channels").0, 503);
        assert_eq!(Member::join(bed.node(0), 0, "presence-0", "too-early").err(), Some(4200));
        assert_eq!([1, 2].map(|other| bed.node(other).page("/readyz").0), [200, 200]);
        // Its members have left for the others, and come back with it.
        change(bed, &mut crowd, 1, "meanwhile");
        bed.network.heal();
        bed.await_whole();
        change(bed, &mut crowd, 0, "in-time");
        crowd.settle(bed, SETTLING);
    });
    crowd.settle(&bed, SETTLING);
}

/// Between the servers only.
fn part_server(bed: &mut Bed, server: usize) {
    let hosts: Vec<Host> = bed.servers.iter().map(|server| server.host.clone()).collect();
    for other in (0..3).filter(|other| *other != server) {
        bed.network.part(&hosts[server], &hosts[other]);
    }
}

/// The third node is alone on the good side, and the two others hear each other on the bad one.
#[test]
fn nodes_whose_server_is_cut_off_from_the_others_connect_to_another_one() {
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    if !bed.network.has_cables() {
        return skip_cuts();
    }
    let urls = bed.urls(PASSWORD);
    let (first, others) = urls.split_once(',').unwrap();
    for urls in [first, first, others] {
        bed.add(|setup, host| {
            std::fs::write(setup.path("nats.url"), urls).unwrap();
            every_dialect(setup, host)
        });
    }
    bed.await_whole();
    let mut crowd = crowd(&bed);
    assert_counted(&mut bed, |bed| {
        part_server(bed, 0);
        eventually_within(SETTLING, "the cut is noticed", || {
            bed.node(2).metric("cluster_peers") == 0 && bed.node(0).metric("cluster_peers") == 1
        });
        (0..3).for_each(|node| await_ready(bed, node));
        change(bed, &mut crowd, 0, "meanwhile");
        crowd.settle(bed, SETTLING);
        bed.network.heal();
        bed.await_servers();
        bed.await_whole();
    });
    crowd.settle(&bed, SETTLING);
}

#[test]
fn a_node_that_is_cut_off_together_with_its_server_is_not_ready_and_right_again_afterwards() {
    let Some((mut bed, mut crowd)) = bed() else { return };
    assert_counted(&mut bed, |bed| {
        let server = server_of(bed, 0);
        part_server(bed, server);
        let (host, server) = (bed.host_of(0).clone(), bed.servers[server].host.clone());
        for other in bed.servers.iter().map(|other| other.host.clone()).collect::<Vec<_>>() {
            if other.address != server.address {
                bed.network.part(&host, &other);
            }
        }
        for other in [1, 2] {
            let other = bed.host_of(other).clone();
            bed.network.part(&server, &other);
        }
        await_unready(bed, 0, "cut off");
        for node in [1, 2] {
            eventually_within(SETTLING, "the others go on", || {
                bed.node(node).metric("cluster_peers") == 1
                    && bed.node(node).page("/readyz").0 == 200
            });
        }
        change(bed, &mut crowd, 1, "meanwhile");
        bed.network.heal();
        bed.await_servers();
        bed.await_whole();
        change(bed, &mut crowd, 0, "in-time");
        crowd.settle(bed, SETTLING);
    });
    crowd.settle(&bed, SETTLING);
}
