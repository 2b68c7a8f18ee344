//! Which nodes own the partitions, where some cannot or should not.

use super::world::{SimEvent, World};
use crate::cluster::PartitionState;

fn world(nodes: usize) -> World {
    let mut world = World::new(5, nodes);
    for node in 0..nodes {
        world.start_node(node);
    }
    world
}

/// The numbers of partitions that each node owns.
fn owned(world: &World) -> Vec<usize> {
    let nodes = world.nodes.iter().filter_map(|node| {
        let status = node.cluster.as_ref()?.status(node.now(world.now));
        let owned = status.partitions.iter().filter(|p| p.state == PartitionState::Owned);
        Some(owned.count())
    });
    nodes.collect()
}

#[test]
fn nodes_share_the_partitions() {
    let mut world = world(3);
    world.run_until(8000);
    let owned = owned(&world);
    assert!(owned.iter().sum::<usize>() == 16 && owned.iter().all(|count| *count > 1), "{owned:?}");
}

#[test]
fn a_node_that_cannot_take_partitions_leaves_them_to_others_until_it_can() {
    let mut world = world(2);
    world.nodes[0].is_barred = true;
    world.run_until(30_000);
    assert_eq!(owned(&world), [0, 16]);
    world.nodes[0].is_barred = false;
    world.run_until(75_000);
    assert!(owned(&world)[0] > 1, "{:?}", owned(&world));
    assert_eq!(owned(&world).iter().sum::<usize>(), 16);
}

#[test]
fn owners_hand_one_partition_at_most_to_a_node_that_cannot_take_it() {
    let mut world = World::new(5, 2);
    world.start_node(0);
    world.run_until(5000);
    assert_eq!(owned(&world), [16]);
    world.nodes[1].is_barred = true;
    world.start_node(1);
    let mut least = 16;
    while world.now < 60_000 {
        world.run_until(world.now + 100);
        least = least.min(owned(&world)[0]);
    }
    assert_eq!((least, owned(&world)), (15, vec![16, 0]));
}

#[test]
fn the_last_node_keeps_the_partitions_though_it_is_drained() {
    let mut world = world(2);
    world.run_until(8000);
    world.schedule(8000, 0, SimEvent::Drain);
    world.run_until(8600);
    assert_eq!(owned(&world), [0, 16]);
    world.schedule(9000, 1, SimEvent::Drain);
    world.run_until(20_000);
    assert_eq!(owned(&world), [0, 16], "there is no other");
    world.nodes[0].kill();
    world.start_node(0);
    world.run_until(22_500);
    assert_eq!(owned(&world), [16, 0], "there is another");
}

#[test]
fn a_node_that_may_only_read_journals_leaves_the_partitions_to_others() {
    let mut world = world(2);
    world.nodes[0].is_read_only = true;
    let mut orphaned_ms = 0;
    while world.now < 120_000 {
        world.run_until(world.now + 100);
        orphaned_ms += if owned(&world) == [0, 16] { 0 } else { 100 };
    }
    assert_eq!(owned(&world)[0], 0);
    assert!(orphaned_ms < 80_000, "{orphaned_ms}");
}
