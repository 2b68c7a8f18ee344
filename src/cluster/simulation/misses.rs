//! Misses of cache channels, without faults.

use super::voice::OPEN;
use super::world::{SimInput, World};
use crate::service::presence::{PresenceQuestion, PresenceRequest};
use crate::service::{ConnectionRef, DialectId};

const NODES: usize = 3;
const CHANNELS: usize = 40;

/// A subscriber of a node finds nothing in a channel.
fn miss(world: &mut World, node: usize, channel: &str) {
    let request = PresenceRequest::Miss(channel.into());
    let question = PresenceQuestion { dialect: DialectId(0), app: OPEN.into(), request };
    let from = ConnectionRef { shard: 0, id: 1, serial: 1 };
    world.input(node, SimInput::Asked(from, question));
}

/// The channels of which an app was told that nothing is there, in order of name.
fn told(world: &World) -> Vec<String> {
    let recorded = world.told.keys().map(|receipt| {
        &world.journals[usize::from(receipt.partition)].announced.webhooks[&receipt.number]
    });
    let mut told: Vec<String> = recorded.cloned().collect();
    told.sort();
    told
}

#[test]
fn a_miss_is_told_once_whatever_nodes_find_nothing() {
    let mut world = World::new(7, NODES);
    (0..NODES).for_each(|node| world.start_node(node));
    world.run_until(5000);
    let mut channels: Vec<String> = (0..CHANNELS).map(|it| format!("cache-{it}")).collect();
    for channel in &channels {
        (0..NODES).for_each(|node| miss(&mut world, node, channel));
    }
    miss(&mut world, 0, "not-a-cache");
    world.run_until(10_000);
    channels.sort();
    let expected: Vec<_> = channels.iter().map(|it| format!("Missed({it:?})")).collect();
    assert_eq!(told(&world), expected);
    assert!(world.nodes.iter().all(|node| !node.missed.is_empty()), "each owns some channels");

    (0..NODES).for_each(|node| miss(&mut world, node, "cache-7"));
    world.run_until(15_000);
    assert_eq!(told(&world).len(), CHANNELS);
    assert!(world.fault.is_none(), "{:?}", world.fault);
}
