//! What consumers of each kind get, and when it comes again.

use super::world::*;
use crate::topic::*;

#[test]
fn an_exclusive_consumer_gets_everything_in_order_and_nothing_again_after_it_was_acknowledged() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", Kind::Exclusive));
    let ids: Vec<MessageId> = (0..5).map(|number| world.append("x", &number.to_string())).collect();
    assert_eq!(ids[3], at(0, 3));
    let got = world.all(1);
    assert_eq!(got.iter().map(|got| got.id).collect::<Vec<_>>(), ids);
    world.ack(1, &got[0]);
    world.ack(1, &got[2]);
    world.ask(1, Request::Gone);
    world.consume(2, consuming("x", "s", Kind::Exclusive));
    assert_eq!(world.texts(2), ["1", "3", "4"]);
    world.pass(1000);
    world.crash();
    world.consume(3, consuming("x", "s", Kind::Exclusive));
    assert_eq!(world.texts(3), ["1", "3", "4"]);
    assert_eq!(world.append("x", "5"), at(1, 0), "a restart begins a ledger");
    assert_eq!(world.texts(3), ["5"]);
    assert_eq!(world.told("x", "s", "backlog"), 4);
}

#[test]
fn a_second_exclusive_consumer_and_one_of_another_kind_are_refused() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", Kind::Exclusive));
    for kind in [Kind::Exclusive, Kind::Shared] {
        world.ask(2, Request::Consume(Box::new(consuming("x", "s", kind))));
        assert_eq!(world.refused(2), Cause::Busy);
    }
    world.ask(1, Request::Gone);
    world.consume(2, consuming("x", "s", Kind::Shared));
}

#[test]
fn consumers_of_a_shared_subscription_take_turns() {
    let mut world = World::new();
    for id in 1..=3 {
        world.consume(id, consuming("x", "s", Kind::Shared));
    }
    for number in 0..9 {
        world.append("x", &number.to_string());
    }
    let got: Vec<usize> = (1..=3).map(|id| world.texts(id).len()).collect();
    assert_eq!(got, [3, 3, 3]);
}
