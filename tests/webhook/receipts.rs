//! Webhooks that a journal knows: what is told to recipients about them, and to the journal.

use super::*;
use fanfare::service::webhook::WebhookKind::Event as WEBHOOK;
use fanfare::service::webhook::WebhookName::{
    CacheMiss, ChannelOccupied, ChannelVacated, ClientEvent,
};
use fanfare::service::webhook::WebhookReceipt;

impl Stage {
    /// An event of the app `a` that a journal knows by this partition and number.
    fn journaled(&mut self, name: WebhookName, subject: &str, receipt: (u8, u64)) {
        let (app, subject) = ("a".into(), subject.into());
        let json = format!("\"{}.{}\"", receipt.0, receipt.1).into();
        let receipt = Some(WebhookReceipt { partition: receipt.0, number: receipt.1 });
        self.take(Webhook::Event(WebhookEvent { app, name, subject, json, receipt }));
    }

    fn settled(&mut self) -> Vec<(u8, u64)> {
        let settled = self.webhook.take_settled();
        settled.iter().map(|receipt| (receipt.partition, receipt.number)).collect()
    }

    /// The ids in the header of the oldest request under way.
    fn delivery(&self) -> Option<&str> {
        let headers = self.requests.front().unwrap().request.headers();
        headers.get("x-fanfare-delivery").map(|ids| ids.to_str().unwrap())
    }
}

#[test]
fn a_request_names_the_receipt_of_each_event_in_order_and_settles_them_once() {
    let mut stage = Stage::hooked("");
    for receipt in [(3, 7), (12, 1), (3, 8)] {
        stage.journaled(CacheMiss, "", receipt);
    }
    stage.wait_ms(100);
    assert_eq!(stage.delivery(), Some("03-7,12-1,03-8"));
    assert_eq!((stage.settled().len(), stage.webhook.journaled()), (0, 3));
    assert!(stage.reply(Ok(200)).ends_with(r#""events":["3.7","12.1","3.8"]}"#));
    assert_eq!(stage.settled(), [(3, 7), (12, 1), (3, 8)]);
    assert_eq!((stage.settled().len(), stage.webhook.journaled()), (0, 0));
    stage.assert_tally(WEBHOOK, [3, 0, 0, 0]);
}

#[test]
fn a_repeated_request_is_the_same_to_the_byte() {
    let mut stage = Stage::hooked("");
    stage.journaled(CacheMiss, "", (3, 7));
    stage.wait_ms(100);
    let first = stage.reply(refused());
    stage.journaled(CacheMiss, "", (3, 8));
    stage.wait_ms(1000);
    assert_eq!(stage.delivery(), Some("03-7"));
    assert!(stage.settled().is_empty());
    assert_eq!(stage.reply(Ok(200)), first);
    assert_eq!(stage.settled(), [(3, 7)]);
}

#[test]
fn a_request_names_at_most_a_hundred_receipts() {
    let mut stage = Stage::hooked("");
    (0..250).for_each(|number| stage.journaled(CacheMiss, "", (0, number)));
    stage.wait_ms(100);
    let mut told = Vec::new();
    for events in [100, 100, 50] {
        let ids = stage.delivery().unwrap().split(',').count();
        assert_eq!(ids, events);
        stage.reply(Ok(200));
        told.extend(stage.settled());
    }
    assert_eq!(told, (0..250).map(|number| (0, number)).collect::<Vec<_>>());
}

#[test]
fn events_with_and_without_receipts_go_in_requests_of_their_own() {
    let mut stage = Stage::hooked("");
    stage.journaled(CacheMiss, "", (3, 7));
    stage.event(ClientEvent, "", "1");
    stage.journaled(CacheMiss, "", (3, 8));
    stage.event(ClientEvent, "", "2");
    stage.wait_ms(100);
    assert_eq!((stage.requests.len(), stage.delivery()), (2, None));
    assert!(stage.reply(Ok(200)).ends_with(r#""events":[1,2]}"#));
    assert!(stage.settled().is_empty());
    assert_eq!(stage.delivery(), Some("03-7,03-8"));
}

#[test]
fn a_receipt_is_settled_when_the_last_recipient_that_wanted_its_event_has_it() {
    let hooks = ["", "events = ['client_event']", "timeout_s = 9"];
    let hooks = hooks.iter().enumerate().map(|(place, more)| webhook(&place.to_string(), more));
    let mut stage = Stage::new(Recipients { callback: None, webhooks: hooks.collect() });
    stage.journaled(CacheMiss, "", (3, 7));
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 2);
    stage.reply(Ok(200));
    assert!(stage.settled().is_empty());
    stage.reply(Ok(200));
    assert_eq!(stage.settled(), [(3, 7)]);
}

#[test]
fn a_receipt_is_settled_at_once_when_no_recipient_wants_its_event() {
    let mut stage = Stage::hooked("events = ['client_event']");
    stage.journaled(CacheMiss, "", (3, 7));
    assert_eq!(stage.settled(), [(3, 7)]);
    stage.configure(Recipients::default());
    stage.journaled(ClientEvent, "", (3, 8));
    assert_eq!(stage.settled(), [(3, 8)]);
}

#[test]
fn a_return_settles_both_the_departure_and_itself() {
    let mut stage = Stage::hooked("");
    stage.journaled(ChannelVacated, "room", (3, 7));
    stage.wait_ms(2000);
    assert!(stage.settled().is_empty());
    stage.journaled(ChannelOccupied, "room", (3, 8));
    assert_eq!(stage.settled(), [(3, 7), (3, 8)]);
    assert_eq!((stage.requests.len(), stage.webhook.waiting(WEBHOOK)), (0, 0));

    // One more departure of a subject is the same departure.
    stage.journaled(ChannelVacated, "room", (3, 9));
    stage.journaled(ChannelVacated, "room", (3, 10));
    assert_eq!(stage.settled(), [(3, 10)]);
    stage.wait_ms(3100);
    assert_eq!(stage.delivery(), Some("03-9"));
}

#[test]
fn a_departure_that_is_not_wanted_is_settled_when_nobody_can_return_any_more() {
    let mut stage = Stage::hooked("events = ['channel_occupied']");
    stage.journaled(ChannelVacated, "room", (3, 7));
    stage.wait_ms(2999);
    assert!(stage.settled().is_empty(), "a successor must know of it, not to tell of the return");
    stage.wait_ms(1);
    assert_eq!(stage.settled(), [(3, 7)]);
}

#[test]
fn what_is_given_up_or_dropped_is_settled() {
    let mut stage = Stage::hooked("queue_max = 2");
    stage.journaled(CacheMiss, "", (3, 1));
    stage.wait_ms(100);
    for number in 2..5 {
        stage.journaled(CacheMiss, "", (3, number));
    }
    assert_eq!(stage.settled(), [(3, 2)], "the oldest of a full queue");
    while stage.webhook.tally(WEBHOOK).failed == 0 {
        stage.reply(refused());
        stage.wait_ms(60_000);
    }
    assert_eq!(stage.settled(), [(3, 1)]);
    stage.configure(Recipients::default());
    assert_eq!(stage.settled(), [(3, 3), (3, 4)], "their recipient is gone");
}

#[test]
fn a_receipt_that_is_held_already_is_not_told_twice() {
    let mut stage = Stage::hooked("");
    stage.journaled(CacheMiss, "", (3, 7));
    stage.wait_ms(100);
    stage.journaled(CacheMiss, "", (3, 7));
    stage.reply(Ok(200));
    stage.wait_ms(1000);
    assert!(stage.requests.is_empty());
    assert_eq!(stage.settled(), [(3, 7)]);
}

#[test]
fn a_partition_with_another_owner_is_told_by_that() {
    let mut stage = Stage::hooked("");
    for receipt in [(3, 1), (4, 1)] {
        stage.journaled(CacheMiss, "", receipt);
    }
    stage.wait_ms(100);
    for receipt in [(3, 2), (4, 2)] {
        stage.journaled(CacheMiss, "", receipt);
    }
    stage.journaled(ChannelVacated, "room", (3, 3));
    stage.event(ClientEvent, "", "1");
    stage.webhook.forget(3);
    assert_eq!((stage.webhook.waiting(WEBHOOK), stage.webhook.journaled()), (3, 2));

    // The request under way goes on, but is repeated for the other partition only.
    assert!(stage.reply(refused()).ends_with(r#"["3.1","4.1"]}"#));
    stage.wait_ms(1000);
    assert_eq!(stage.delivery(), None);
    stage.reply(Ok(200));
    assert_eq!(stage.delivery(), Some("04-1"));
    assert!(stage.reply(Ok(200)).ends_with(r#"["4.1"]}"#));
    assert_eq!(stage.delivery(), Some("04-2"));
    stage.reply(Ok(200));
    stage.wait_ms(5000);
    assert!(stage.requests.is_empty(), "nor is the departure told");
    assert_eq!(stage.settled(), [(4, 1), (4, 2)]);
    stage.assert_tally(WEBHOOK, [3, 0, 0, 1]);
}

#[test]
fn a_request_whose_partitions_are_all_forgotten_is_not_repeated_nor_settled() {
    for reply in [refused(), Ok(200)] {
        let mut stage = Stage::hooked("");
        stage.journaled(CacheMiss, "", (3, 1));
        stage.wait_ms(100);
        stage.webhook.forget(3);
        // This node owns the partition again.
        stage.journaled(CacheMiss, "", (3, 2));
        stage.reply(reply);
        assert!(stage.news().is_empty() && stage.settled().is_empty());
        stage.wait_ms(100);
        assert_eq!(stage.delivery(), Some("03-2"));
        stage.reply(Ok(200));
        assert_eq!(stage.settled(), [(3, 2)]);
    }
}

#[test]
fn no_request_begins_once_another_node_may_own_the_journal() {
    let mut stage = Stage::hooked("");
    stage.lease.set(stage.now.monotonic_ns + 150_000_000);
    stage.journaled(CacheMiss, "", (3, 1));
    stage.wait_ms(100);
    stage.journaled(CacheMiss, "", (3, 2));
    stage.journaled(ChannelVacated, "room", (3, 3));
    stage.event(ClientEvent, "", "1");
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 2, "events without receipts do not wait");
    stage.reply(refused());
    stage.reply(Ok(200));
    stage.wait_ms(10_000);
    assert!(stage.requests.is_empty());
    assert_eq!(stage.webhook.next_at_ns(), None, "the thread may sleep");

    stage.lease.set(stage.now.monotonic_ns + 1);
    stage.send();
    assert_eq!(stage.delivery(), Some("03-1"));
    stage.reply(Ok(200));
    assert_eq!(stage.delivery(), Some("03-2,03-3"));
    assert_eq!(stage.settled(), [(3, 1)]);
}

#[test]
fn a_process_that_has_stood_still_tells_nothing_before_it_knows_that_it_is_still_the_owner() {
    let mut stage = Stage::hooked("");
    stage.lease.set(stage.now.monotonic_ns + 3_000_000_000);
    stage.journaled(ChannelVacated, "room", (3, 1));
    stage.journaled(CacheMiss, "", (3, 2));
    stage.pass_ns(10_000_000_000);
    stage.send();
    assert!(stage.requests.is_empty());
    stage.webhook.forget(3);
    stage.lease.set(u64::MAX);
    stage.send();
    stage.wait_ms(10_000);
    assert!(stage.requests.is_empty() && stage.settled().is_empty());
}

#[test]
fn a_stop_leaves_departures_that_a_journal_knows_to_the_successor() {
    let mut stage = Stage::hooked("");
    stage.journaled(ChannelVacated, "room", (3, 1));
    stage.event(ChannelVacated, "hall", "1");
    stage.webhook.hurry(stage.now);
    stage.journaled(ChannelVacated, "lobby", (3, 2));
    stage.send();
    assert_eq!((stage.requests.len(), stage.delivery()), (1, None));
    assert_eq!((stage.webhook.waiting(WEBHOOK), stage.webhook.journaled()), (3, 2));
}
