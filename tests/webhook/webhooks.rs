//! The webhooks of `echo`, but for what has to do with leaves.

use super::*;
use fanfare::service::webhook::WebhookKind::Event as WEBHOOK;
use fanfare::service::webhook::WebhookName::{CacheMiss, ChannelOccupied, ClientEvent};
use hmac::{Hmac, Mac as _};
use serde_json::Value;

fn events(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap();
    body["events"].as_array().unwrap().iter().map(ToString::to_string).collect()
}

fn miss(stage: &mut Stage, number: usize) {
    stage.event(CacheMiss, "cache-c", &number.to_string());
}

#[test]
fn a_batch_is_signed_by_its_app_and_says_when_it_was_made() {
    let mut stage = Stage::hooked("timeout_s = 7");
    stage.event(ChannelOccupied, "room", r#"{"name":"channel_occupied","channel":"room"}"#);
    stage.wait_ms(100);
    let HttpCall { request, timeout, .. } = stage.requests.pop_front().unwrap();
    assert_eq!(timeout.as_secs(), 7);
    assert_eq!(
        (request.method().as_str(), request.uri().to_string().as_str()),
        ("POST", "http://app.example/hook")
    );
    let body = format!(
        r#"{{"time_ms":{},"events":[{{"name":"channel_occupied","channel":"room"}}]}}"#,
        START_MS + 100
    );
    assert_eq!(*request.body(), body);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"hush").unwrap();
    mac.update(body.as_bytes());
    let signature: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers: Vec<(&str, &str)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json"),
            ("x-pusher-key", "the key"),
            ("x-pusher-signature", signature.as_str())
        ]
    );
}

#[test]
fn the_signature_is_what_other_implementations_make() {
    // printf '%s' BODY | openssl dgst -sha256 -hmac hush
    let mut stage = Stage::hooked("");
    miss(&mut stage, 1);
    stage.wait_ms(100);
    let request = &stage.requests[0].request;
    assert_eq!(request.body(), r#"{"time_ms":1700000000100,"events":[1]}"#);
    assert_eq!(
        request.headers()["x-pusher-signature"],
        "93dedef1f4a64d0e21ebe11cb2e647356356855e61c7e724757e12b7e129f535"
    );
}

#[test]
fn what_comes_within_100_ms_of_the_first_event_goes_with_it() {
    let mut stage = Stage::hooked("");
    miss(&mut stage, 1);
    stage.wait_ms(60);
    miss(&mut stage, 2);
    stage.wait_ms(39);
    miss(&mut stage, 3);
    assert!(stage.requests.is_empty());
    stage.wait_ms(1);
    assert_eq!(events(&stage.reply(Ok(200))), ["1", "2", "3"]);
    stage.wait_ms(1000);
    miss(&mut stage, 4);
    stage.wait_ms(99);
    assert!(stage.requests.is_empty());
    stage.wait_ms(1);
    assert_eq!(events(&stage.reply(Ok(200))), ["4"]);
    assert_eq!((stage.webhook.waiting(WEBHOOK), stage.webhook.next_at_ns()), (0, None));
    stage.assert_tally(WEBHOOK, [4, 0, 0, 0]);
}

#[test]
fn one_request_is_under_way_at_a_time_and_the_next_has_all_that_came_meanwhile() {
    let mut stage = Stage::hooked("");
    miss(&mut stage, 1);
    stage.wait_ms(100);
    miss(&mut stage, 2);
    stage.wait_ms(1000);
    miss(&mut stage, 3);
    assert_eq!(stage.requests.len(), 1);
    stage.reply(Ok(200));
    assert_eq!(stage.requests.len(), 1, "what has waited long enough goes at once");
    assert_eq!(events(&stage.reply(Ok(200))), ["2", "3"]);
}

#[test]
fn a_batch_has_at_most_a_thousand_events_and_half_a_mebibyte() {
    let mut stage = Stage::hooked("");
    (0..2500).for_each(|number| miss(&mut stage, number));
    stage.wait_ms(100);
    let batches: Vec<usize> = (0..3).map(|_| events(&stage.reply(Ok(200))).len()).collect();
    assert_eq!(batches, [1000, 1000, 500]);
    let json = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    for bytes in [300_000, 300_000, 1_000_000, 10] {
        stage.event(ClientEvent, "", &json(bytes));
    }
    stage.wait_ms(100);
    let batches: Vec<usize> = (0..4).map(|_| events(&stage.reply(Ok(200))).len()).collect();
    assert_eq!(batches, [1, 1, 1, 1], "one that is longer goes alone");
}

#[test]
fn only_events_that_are_wanted_are_told() {
    let mut stage = Stage::hooked("events = ['cache_miss', 'channel_occupied']");
    stage.event(ClientEvent, "", "1");
    stage.event(CacheMiss, "", "2");
    stage.event(ChannelOccupied, "room", "3");
    let app = "another".into();
    stage.take(Webhook::Event(WebhookEvent {
        app,
        name: CacheMiss,
        subject: "".into(),
        json: "4".into(),
        receipt: None,
    }));
    stage.wait_ms(100);
    assert_eq!(events(&stage.reply(Ok(200))), ["2", "3"]);
    assert_eq!(stage.webhook.waiting(WEBHOOK), 0);
}

#[test]
fn webhooks_of_one_app_do_not_wait_for_each_other() {
    let hooks = vec![webhook("1", ""), webhook("2", "events = ['cache_miss']")];
    let mut stage = Stage::new(Recipients { callback: None, webhooks: hooks });
    miss(&mut stage, 1);
    stage.wait_ms(100);
    let mut paths: Vec<&str> =
        stage.requests.iter().map(|call| call.request.uri().path()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/1", "/2"]);
    stage.reply(refused());
    stage.reply(Ok(200));
    miss(&mut stage, 2);
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 1);
    stage.assert_tally(WEBHOOK, [1, 0, 0, 0]);
}

#[test]
fn whatever_is_no_2xx_is_told_again_after_a_pause_that_doubles_up_to_a_minute() {
    for reply in [refused(), Ok(302), Ok(404), Ok(500)] {
        let mut stage = Stage::hooked("");
        miss(&mut stage, 1);
        stage.wait_ms(100);
        let body = stage.bodies()[0].to_owned();
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            stage.reply(reply.clone());
            miss(&mut stage, 2);
            stage.wait_ms(pause_s * 1000 - 1);
            assert!(stage.requests.is_empty(), "before {pause_s} s");
            stage.wait_ms(1);
            assert_eq!(stage.bodies(), [&body], "the same, after {pause_s} s");
        }
        stage.assert_tally(WEBHOOK, [0, 0, 0, 9]);
    }
}

#[test]
fn after_5_minutes_a_batch_is_given_up_and_the_next_one_is_told() {
    let mut stage = Stage::hooked("");
    miss(&mut stage, 1);
    stage.wait_ms(100);
    let start_ns = stage.now.monotonic_ns;
    miss(&mut stage, 2);
    while events(stage.bodies()[0]) == ["1"] {
        stage.reply(Ok(500));
        while stage.requests.is_empty() {
            stage.wait_ms(100);
        }
    }
    let seconds = (stage.now.monotonic_ns - start_ns) / 1_000_000_000;
    assert!((240..=300).contains(&seconds), "given up after {seconds} s");
    stage.assert_tally(WEBHOOK, [0, 1, 0, 9]);
    let news = stage.news();
    let given_up = "calling the webhook of app a at app.example failed: it answered 500; giving up on this request";
    assert_eq!(news.last().unwrap(), given_up);
    assert_eq!(news[0], given_up.replace("giving up on this request", "retrying"));
    assert_eq!(events(&stage.reply(Ok(200))), ["2"]);
}

#[test]
fn a_full_queue_drops_the_oldest_event() {
    let mut stage = Stage::hooked("queue_max = 3");
    miss(&mut stage, 0);
    stage.wait_ms(100);
    (1..=5).for_each(|number| miss(&mut stage, number));
    stage.assert_tally(WEBHOOK, [0, 0, 2, 0]);
    assert_eq!(stage.webhook.waiting(WEBHOOK), 4);
    stage.wait_ms(100);
    assert_eq!(events(&stage.reply(Ok(200))), ["0"], "a batch is no queue");
    assert_eq!(events(&stage.reply(Ok(200))), ["3", "4", "5"]);
    let news = stage.news();
    assert_eq!(
        news,
        [
            "the queue for the webhook of app a at app.example is full, so webhooks are dropped; make sure it keeps up, or raise queue_max"
        ]
    );
}

#[test]
fn a_queue_of_long_events_is_full_earlier() {
    let mut stage = Stage::hooked("");
    let long = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    (0..100).for_each(|_| stage.event(ClientEvent, "", &long));
    stage.assert_tally(WEBHOOK, [0, 0, 36, 0]);
}

#[test]
fn many_webhooks_share_64_requests_and_none_is_forgotten() {
    let hooks = (0..200).map(|number| webhook(&number.to_string(), "")).collect();
    let mut stage = Stage::new(Recipients { callback: None, webhooks: hooks });
    miss(&mut stage, 1);
    stage.wait_ms(100);
    assert_eq!(stage.requests.len(), 64);
    stage.wait_ms(1000);
    for _ in 0..200 {
        assert!(stage.requests.len() <= 64);
        stage.reply(Ok(200));
    }
    stage.assert_tally(WEBHOOK, [200, 0, 0, 0]);
}
