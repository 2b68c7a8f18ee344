//! The calls of `channel`.

use super::*;
use fanfare::service::webhook::WebhookKind::Callback as CALLBACK;

#[test]
fn a_message_is_posted_with_the_token_of_its_sender() {
    let mut stage = Stage::calling("");
    stage.call("chat:1", r#"{"channel":"chat:1"}"#);
    let HttpCall { request, timeout, .. } = stage.requests.pop_front().unwrap();
    assert_eq!(timeout.as_secs(), 5);
    assert_eq!(
        (request.method().as_str(), request.uri().to_string().as_str()),
        ("POST", "http://app.example/api/chat?x=1")
    );
    let headers: Vec<(&str, &str)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let json = "application/json";
    assert_eq!(
        headers,
        [("authorization", "Bearer a.b.c"), ("content-type", json), ("accept", json)]
    );
    assert_eq!(request.body(), r#"{"channel":"chat:1"}"#);
    assert!(!format!("{request:?}").contains("a.b.c"));
}

#[test]
fn only_the_kinds_that_are_wanted_are_told() {
    let mut stage = Stage::calling("kinds = ['chat', 'tweet']");
    for channel in ["chat:1", "chat", "tweet:", "chatter:1", "progress:1", ":chat"] {
        stage.call(channel, channel);
    }
    assert_eq!(stage.bodies(), ["chat:1", "chat", "tweet:"]);
    assert_eq!(stage.webhook.waiting(CALLBACK), 3);
}

#[test]
fn calls_of_one_channel_go_one_after_another_and_those_of_others_at_the_same_time() {
    let mut stage = Stage::calling("");
    for call in ["1a", "1b", "2a", "1c", "2b"] {
        stage.call(if call.starts_with('1') { "chat:1" } else { "chat:2" }, call);
    }
    assert_eq!(stage.bodies(), ["1a", "2a"]);
    assert_eq!(stage.reply(Ok(204)), "1a");
    assert_eq!(stage.bodies(), ["2a", "1b"]);
    for expected in ["2a", "1b", "2b", "1c"] {
        assert_eq!(stage.reply(Ok(200)), expected);
    }
    assert!(stage.requests.is_empty());
    stage.assert_tally(CALLBACK, [5, 0, 0, 0]);
    assert_eq!((stage.webhook.waiting(CALLBACK), stage.webhook.next_at_ns()), (0, None));
    assert_eq!(stage.news(), [""; 0]);
}

#[test]
fn no_more_calls_are_under_way_than_may_be_and_no_channel_is_forgotten() {
    let mut stage = Stage::calling("concurrency = 2");
    (0..5).for_each(|number| stage.call(&format!("chat:{number}"), &number.to_string()));
    assert_eq!(stage.bodies(), ["0", "1"]);
    for number in 0..5 {
        assert_eq!(stage.reply(Ok(200)), number.to_string());
        assert!(stage.requests.len() <= 2);
    }
}

#[test]
fn what_was_not_answered_or_with_5xx_is_told_once_more_after_a_second_in_its_place() {
    for reply in [refused(), Ok(500), Ok(503), Ok(599)] {
        let mut stage = Stage::calling("");
        stage.call("chat:1", "first");
        stage.call("chat:1", "second");
        stage.reply(reply.clone());
        stage.call("chat:2", "other");
        stage.wait_ms(999);
        assert_eq!(stage.bodies(), ["other"], "after {reply:?}");
        stage.wait_ms(1);
        assert_eq!(stage.bodies(), ["other", "first"]);
        stage.reply(Ok(200));
        stage.reply(Ok(200));
        assert_eq!(stage.bodies(), ["second"]);
        stage.assert_tally(CALLBACK, [2, 0, 0, 1]);
        // The next call has a second chance of its own.
        stage.reply(reply);
        stage.wait_ms(1000);
        assert_eq!(stage.bodies(), ["second"]);
    }
}

#[test]
fn a_second_failure_gives_the_call_up_and_the_next_one_goes() {
    let mut stage = Stage::calling("");
    stage.call("chat:1", "first");
    stage.call("chat:1", "second");
    stage.reply(refused());
    stage.wait_ms(1000);
    stage.reply(Ok(500));
    assert_eq!(stage.bodies(), ["second"]);
    stage.assert_tally(CALLBACK, [0, 1, 0, 1]);
}

#[test]
fn redirects_and_4xx_are_failures_that_are_not_tried_again() {
    for status in [301, 302, 307, 400, 401, 404, 422, 429, 499, 101] {
        let mut stage = Stage::calling("");
        stage.call("chat:1", "first");
        stage.call("chat:1", "second");
        stage.reply(Ok(status));
        assert_eq!(stage.bodies(), ["second"], "after {status}");
        stage.assert_tally(CALLBACK, [0, 1, 0, 0]);
        assert_eq!(
            stage.news(),
            [format!(
                "calling the callback at app.example failed: it answered {status}; giving up on this request"
            )]
        );
    }
}

#[test]
fn a_full_queue_drops_the_newest_call() {
    let mut stage = Stage::calling("queue_max = 2");
    for body in ["under way", "first", "second", "third", "fourth"] {
        stage.call("chat:1", body);
    }
    stage.assert_tally(CALLBACK, [0, 0, 2, 0]);
    let told: Vec<String> = (0..3).map(|_| stage.reply(Ok(200))).collect();
    assert_eq!(told, ["under way", "first", "second"]);
    assert!(stage.requests.is_empty());
    assert_eq!(
        stage.news(),
        [
            "the queue for the callback at app.example is full, so webhooks are dropped; make sure it keeps up, or raise queue_max"
        ]
    );
    // A call that rests before it is made once more waits too.
    stage.call("chat:1", "first");
    stage.reply(refused());
    stage.call("chat:1", "second");
    stage.call("chat:1", "third");
    stage.assert_tally(CALLBACK, [3, 0, 3, 0]);
}

#[test]
fn a_queue_of_long_messages_is_full_earlier() {
    let mut stage = Stage::calling("");
    let long = "x".repeat(1024 * 1024);
    (0..100).for_each(|_| stage.call("chat:1", &long));
    // One is under way, and of the rest there are less than 64 MiB.
    stage.assert_tally(CALLBACK, [0, 0, 36, 0]);
    (0..64).for_each(|_| drop(stage.reply(Ok(200))));
    (0..100).for_each(|_| stage.call("chat:1", &long));
    stage.assert_tally(CALLBACK, [64, 0, 36 + 36, 0]);
}

#[test]
fn a_failure_is_logged_now_and_then_and_without_the_token_or_the_query() {
    let mut stage = Stage::calling("");
    for _ in 0..20 {
        stage.call("chat:1", "x");
        stage.reply(Ok(404));
        stage.wait_ms(1000);
    }
    let news = stage.news();
    let failed =
        "calling the callback at app.example failed: it answered 404; giving up on this request";
    assert_eq!(news, [failed.to_owned(), format!("{failed} (and 9 more like it)")]);
    stage.assert_tally(CALLBACK, [0, 20, 0, 0]);
}
