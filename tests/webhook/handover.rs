//! Webhooks that wait while one process takes over from another.

use super::*;
use fanfare::service::webhook::FrozenWebhook;
use fanfare::service::webhook::WebhookKind::{Callback as CALLBACK, Event as WEBHOOK};
use fanfare::service::webhook::WebhookName::{
    ChannelVacated, ClientEvent, MemberAdded, MemberRemoved,
};

impl Stage {
    /// Another process with these recipients, which has read what this one has written.
    fn handed_over(&self, recipients: Recipients) -> Self {
        let mut next = Self { now: self.now, ..Self::new(recipients) };
        for webhook in self.webhook.export() {
            let written = serde_json::to_string(&webhook).unwrap();
            let read: FrozenWebhook = serde_json::from_str(&written).unwrap();
            next.webhook.import(read, next.now);
        }
        next.send();
        next
    }
}

fn hook() -> Recipients {
    Recipients { callback: None, webhooks: vec![webhook("hook", "")] }
}

#[test]
fn what_is_queued_and_what_is_under_way_is_told_in_order() {
    let mut stage = Stage::hooked("");
    stage.event(ClientEvent, "a", "1");
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 1, "under way");
    stage.event(ClientEvent, "a", "2");
    stage.event(ClientEvent, "a", "3");

    let mut next = stage.handed_over(hook());
    let body = next.reply(Ok(200));
    assert!(body.contains(r#""events":[1,2,3]"#), "{body}");
    assert_eq!((next.webhook.waiting(WEBHOOK), next.webhook.next_at_ns()), (0, None));
}

#[test]
fn a_return_in_the_next_process_cancels_the_departure() {
    let mut stage = Stage::hooked("");
    stage.event(MemberRemoved, "presence-a\x007", "\"-7\"");
    stage.event(ChannelVacated, "b", "\"-b\"");
    stage.wait_ms(2000);

    let mut next = stage.handed_over(hook());
    assert_eq!(next.webhook.waiting(WEBHOOK), 2);
    next.event(MemberAdded, "presence-a\x007", "\"+7\"");
    next.wait_ms(999);
    assert!(next.requests.is_empty());
    next.wait_ms(101);
    let body = next.reply(Ok(200));
    assert!(body.contains(r#""events":["-b"]"#), "{body}");
    assert_eq!((next.webhook.waiting(WEBHOOK), next.webhook.next_at_ns()), (0, None));
}

#[test]
fn the_calls_of_each_channel_stay_in_order() {
    let mut stage = Stage::calling("concurrency = 1");
    for body in ["1", "2", "3"] {
        stage.call("chat:1", body);
    }
    assert_eq!(stage.bodies(), ["1"]);
    let recipients = Recipients { callback: Some(callback("")), webhooks: Vec::new() };
    let mut next = stage.handed_over(recipients);
    let told: Vec<String> = (0..3).map(|_| next.reply(Ok(200))).collect();
    assert_eq!(told, ["1", "2", "3"]);
    assert_eq!(next.webhook.waiting(CALLBACK), 0);
}

#[test]
fn what_has_no_recipient_any_more_is_dropped_and_a_shorter_queue_keeps_the_newest() {
    let mut stage = Stage::hooked("");
    for number in 0..5 {
        stage.event(ClientEvent, "a", &number.to_string());
    }
    let elsewhere = Recipients { callback: None, webhooks: vec![webhook("other", "")] };
    assert_eq!(stage.handed_over(elsewhere).webhook.waiting(WEBHOOK), 0);
    let short = Recipients { callback: None, webhooks: vec![webhook("hook", "queue_max = 2")] };
    let mut next = stage.handed_over(short);
    next.wait_ms(100);
    let body = next.reply(Ok(200));
    assert!(body.contains(r#""events":[3,4]"#), "{body}");
}

#[test]
fn what_another_process_tells_is_not_told_here_and_what_comes_later_is() {
    let mut stage = Stage::new(Recipients {
        callback: Some(callback("")),
        webhooks: vec![webhook("hook", "")],
    });
    stage.call("chat:1", "1");
    stage.event(ClientEvent, "a", "1");
    stage.event(MemberRemoved, "presence-a\x007", "\"-7\"");
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 2, "both under way");
    stage.event(ClientEvent, "a", "2");
    stage.webhook.give_away();
    let waiting = |stage: &Stage| stage.webhook.waiting(WEBHOOK) + stage.webhook.waiting(CALLBACK);
    assert_eq!(waiting(&stage), 0);

    // The outcomes of the former requests are not those of the later ones.
    stage.call("chat:1", "3");
    stage.event(ClientEvent, "a", "3");
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 4);
    let first = stage.reply(refused());
    assert!(first.contains('1'), "{first}");
    assert!(stage.reply(Ok(200)).contains('1'));
    assert_eq!(waiting(&stage), 2);
    assert!(stage.reply(Ok(200)).contains('3') && stage.reply(Ok(200)).contains('3'));
    assert_eq!((waiting(&stage), stage.webhook.next_at_ns()), (0, None));
}
