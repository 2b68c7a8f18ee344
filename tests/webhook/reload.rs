//! What a reload changes, and what it leaves alone.

use super::*;
use fanfare::service::webhook::WebhookKind::{Callback as CALLBACK, Event as WEBHOOK};
use fanfare::service::webhook::WebhookName::{CacheMiss, ChannelOccupied, ChannelVacated};

fn hooks(webhooks: Vec<(WebhookApp, WebhookSettings)>) -> Recipients {
    Recipients { callback: None, webhooks }
}

fn calls(more: &str) -> Recipients {
    Recipients { callback: Some(callback(more)), webhooks: Vec::new() }
}

fn paths(stage: &Stage) -> Vec<&str> {
    stage.requests.iter().map(|call| call.request.uri().path()).collect()
}

#[test]
fn a_webhook_that_stays_keeps_what_waits_for_it() {
    let mut stage = Stage::new(hooks(vec![webhook("1", ""), webhook("2", "")]));
    stage.event(ChannelVacated, "room", "1");
    stage.event(CacheMiss, "", "2");
    stage.configure(hooks(vec![webhook("3", ""), webhook("2", "timeout_s = 9")]));
    stage.assert_tally(WEBHOOK, [0, 0, 2, 0]);
    stage.wait_ms(100);
    assert_eq!(paths(&stage), ["/2"]);
    assert_eq!(stage.requests[0].timeout.as_secs(), 9);
    assert!(stage.reply(Ok(200)).contains("[2]"));
    stage.event(ChannelOccupied, "room", "3");
    stage.wait_ms(4000);
    assert_eq!(paths(&stage), ["/3"], "the return has cancelled the leave that /2 knew of");
}

#[test]
fn a_new_secret_holds_from_the_next_request_on_also_for_a_batch_that_is_told_again() {
    let mut stage = Stage::hooked("");
    stage.event(CacheMiss, "", "1");
    stage.wait_ms(100);
    let signature =
        |stage: &Stage| stage.requests[0].request.headers()["x-pusher-signature"].clone();
    let before = signature(&stage);
    let (mut app, settings) = webhook("hook", "");
    app.secret = "another".into();
    stage.configure(hooks(vec![(app, settings)]));
    assert_eq!(stage.requests.len(), 1);
    stage.reply(Ok(500));
    stage.wait_ms(1000);
    assert_ne!(signature(&stage), before);
}

#[test]
fn the_reply_to_a_webhook_that_is_gone_is_nobodys() {
    let mut stage = Stage::hooked("");
    stage.event(CacheMiss, "", "1");
    stage.wait_ms(100);
    stage.configure(hooks(vec![]));
    stage.configure(hooks(vec![webhook("hook", "")]));
    stage.event(CacheMiss, "", "2");
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 2);
    stage.reply(Ok(200));
    stage.assert_tally(WEBHOOK, [0, 0, 1, 0]);
    stage.reply(Ok(200));
    stage.assert_tally(WEBHOOK, [1, 0, 1, 0]);
}

#[test]
fn a_callback_that_moves_takes_its_queue_along() {
    let mut stage = Stage::calling("concurrency = 1");
    stage.call("chat:1", "1");
    stage.call("chat:1", "2");
    let mut recipients = calls("");
    recipients.callback.as_mut().unwrap().url = "https://other.example/".into();
    stage.configure(recipients);
    stage.reply(Ok(200));
    assert_eq!(stage.requests[0].request.uri(), "https://other.example/");
    assert_eq!(stage.reply(Ok(200)), "2");
    stage.assert_tally(CALLBACK, [2, 0, 0, 0]);
}

#[test]
fn without_a_callback_what_waits_is_dropped_and_late_replies_are_nobodys() {
    let mut stage = Stage::calling("concurrency = 1");
    stage.call("chat:1", "1");
    stage.call("chat:1", "2");
    stage.configure(Recipients::default());
    stage.assert_tally(CALLBACK, [0, 0, 2, 0]);
    assert_eq!(stage.webhook.waiting(CALLBACK), 0);
    stage.call("chat:1", "3");
    stage.configure(calls("concurrency = 1"));
    stage.call("chat:1", "4");
    assert_eq!(stage.bodies(), ["1"], "the former call is under way yet");
    stage.reply(refused());
    assert_eq!(stage.reply(Ok(200)), "4");
    stage.assert_tally(CALLBACK, [1, 0, 2, 0]);
    assert_eq!((stage.webhook.waiting(CALLBACK), stage.webhook.next_at_ns()), (0, None));
}

#[test]
fn a_late_reply_does_not_settle_a_call_that_was_made_since() {
    let mut stage = Stage::calling("");
    stage.call("chat:1", "1");
    stage.configure(Recipients::default());
    stage.configure(calls(""));
    stage.call("chat:1", "2");
    assert_eq!(stage.bodies(), ["1", "2"]);
    stage.reply(Ok(200));
    stage.assert_tally(CALLBACK, [0, 0, 1, 0]);
    stage.reply(Ok(200));
    stage.assert_tally(CALLBACK, [1, 0, 1, 0]);
}

#[test]
fn webhooks_that_nobody_wants_are_not_counted() {
    let mut stage = Stage::new(Recipients::default());
    stage.call("chat:1", "1");
    stage.event(CacheMiss, "", "2");
    for kind in [CALLBACK, WEBHOOK] {
        stage.assert_tally(kind, [0; 4]);
        assert_eq!(stage.webhook.waiting(kind), 0);
        stage.webhook.lost(kind, 3);
        stage.assert_tally(kind, [0, 0, 3, 0]);
    }
}
