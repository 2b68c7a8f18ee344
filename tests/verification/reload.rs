//! What a reload changes, and the end of a verifier.

use super::{Stage, alive, all, dead, remote};
use std::collections::HashMap;

#[test]
fn a_reload_asks_the_new_verifier_and_still_understands_the_old() {
    let mut stage = Stage::new(", concurrency_max = 1");
    stage.ask(1, "a");
    stage.ask(2, "b");
    stage.verification.configure(remote("wazo_auth = { url = 'http://pbx.example' }"), stage.now);
    assert_eq!(stage.reply(alive(3600)), "a");
    assert_eq!(stage.reply(Ok((404, vec![]))), "GET /0.1/token/b");
    assert_eq!(stage.told(), [(1, "granted".to_owned()), (2, "Inactive".to_owned())]);
}

#[test]
fn what_the_former_verifier_said_serves_nobody_who_comes_after_a_reload() {
    let mut stage = Stage::new(", cache_s = 300");
    for (number, token) in (1..).zip(["held", "kept", "asked"]) {
        stage.ask(number, token);
        if token != "asked" {
            stage.reply(alive(3600));
        }
    }
    stage.forget(2);
    let another = "introspection = { url = 'http://another.example', cache_s = 300 }";
    stage.verification.configure(remote(another), stage.now);
    stage.reply(alive(3600));
    assert_eq!(stage.told(), all(&[1, 2, 3], "granted"), "who had asked before is answered");
    for (number, token) in (4..).zip(["held", "kept", "asked"]) {
        stage.ask(number, token);
        assert_eq!(stage.reply(dead()), token, "the new verifier is asked");
    }
    let told: HashMap<u32, String> = stage.told().into_iter().collect();
    assert_eq!(
        [1, 3, 4, 5, 6].map(|number| &told[&number][..]),
        ["revoked", "revoked", "Inactive", "Inactive", "Inactive"]
    );
    stage.assert_nothing_is_left();
}

#[test]
fn a_reload_that_looks_more_often_looks_at_whoever_is_in_too() {
    let mut stage = Stage::new(", recheck_s = 3600, cache_s = 0");
    stage.ask(1, "a");
    stage.reply(alive(100_000));
    let often = "introspection = { url = 'http://issuer.example', recheck_s = 2, cache_s = 0 }";
    stage.verification.configure(remote(often), stage.now);
    stage.wait_s(1);
    assert!(stage.requests.is_empty());
    stage.wait_s(1);
    assert_eq!(stage.reply(dead()), "a");
    assert_eq!(stage.told(), [(1, "granted".to_owned()), (1, "revoked".to_owned())]);
    stage.assert_nothing_is_left();
}

#[test]
fn the_end_of_a_verifier_answers_all_who_wait() {
    let mut stage = Stage::new(", concurrency_max = 1");
    stage.ask(1, "a");
    stage.reply(alive(3600));
    stage.told();
    (2..=3).for_each(|number| stage.ask(number, &format!("t{number}")));
    stage.verification.end(stage.now);
    assert_eq!(stage.told(), all(&[2, 3], "Unavailable"));
    let metrics = &stage.metrics;
    for gauge in [
        &metrics.verification.sessions,
        &metrics.verification.tokens_watched,
        &metrics.verification.requests_in_flight,
    ] {
        assert_eq!(gauge.get(), 0);
    }
}
