//! Wall clocks that are minutes apart: nothing that nodes agree on depends on them.

use crate::bed::{Bed, SETTLING};
use crate::crowd::Crowd;
use crate::dialects::{Follower, every_dialect, line};
use crate::harness::skip;
use crate::live::{agreed, assert_one_is_last, lost};
use crate::server::ServerWish;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The seconds by which the clock of each daemon is off.
const OFF_S: [i64; 3] = [0, 300, -420];

/// A library that puts a daemon's clock off; `None` where none can be made.
fn library() -> Option<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        skip("clocks that are apart", "the library is for x86-64");
        return None;
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster-clock.so");
    // Another test run may be about to load it.
    let new = place.with_extension(std::process::id().to_string());
    let source = format!("{}/tests/cluster/clock.c", env!("CARGO_MANIFEST_DIR"));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&new).arg(source).arg("-ldl");
    if !compiler.status().is_ok_and(|status| status.success()) {
        skip("clocks that are apart", "there is no C compiler");
        return None;
    }
    std::fs::rename(&new, &place).unwrap();
    Some(place)
}

#[test]
fn nodes_whose_clocks_are_minutes_apart_agree_on_everything() {
    let Some(library) = library() else { return };
    let Some(mut bed) = Bed::engine(&ServerWish::default()) else { return };
    for off_s in OFF_S {
        bed.add(|setup, host| {
            every_dialect(setup, host)
                .with("LD_PRELOAD", library.display())
                .with("TESTS_CLOCK_S", off_s)
        });
    }
    bed.await_whole();
    // The clocks are off: they are in the log, which sorts as text.
    let started = [0, 1, 2].map(|node| bed.node(node).log()[0].clone());
    assert!(started[1] > started[0] && started[0] > started[2], "{started:?}");

    let mut followers: Vec<Follower> =
        bed.nodes().map(|daemon| Follower::of("personium-event", daemon)).collect();
    for (node, first) in [(0, 0), (1, 100), (2, 200)] {
        let mut publisher = bed.node(node).publisher();
        let lines = (first..first + 100).map(|number| line("personium-event", number) + "\n");
        publisher.send(lines.collect::<String>());
        followers.iter_mut().for_each(|follower| follower.assert_next(first..first + 100));
    }
    let last = assert_one_is_last(&bed);
    let mut crowd = Crowd::default();
    for number in 0..30 {
        let (channel, user) = (format!("presence-{}", number % 10), format!("user-{number}"));
        crowd.join_patiently(&bed, number % 3, &channel, &user);
    }
    crowd.settle(&bed, SETTLING);

    // The one that is ahead goes, and with it what it owned; when it is back, so is the last event.
    bed.kill(1);
    crowd.lose(1);
    crowd.settle_among(&bed, 1, SETTLING);
    bed.again(1);
    bed.await_whole();
    assert_eq!(agreed(&bed), last);
    crowd.join_patiently(&bed, 1, "presence-0", "late");
    crowd.settle(&bed, SETTLING);
    for daemon in bed.nodes() {
        assert_eq!(lost(daemon), 0);
        daemon.await_metric("cluster_partitions{state=\"orphaned\"}", 0);
    }
}
