//! Those who leave and come back: what the receiver of a webhook hears of it.

use super::*;
use fanfare::service::webhook::WebhookKind::Event as WEBHOOK;
use fanfare::service::webhook::WebhookName::{
    CacheMiss, ChannelOccupied, ChannelVacated, MemberAdded, MemberRemoved,
};
use proptest::prelude::*;
use serde_json::Value;

/// The names of the events of all requests from now on, which are all taken, until nothing waits.
fn told(stage: &mut Stage) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        while !stage.requests.is_empty() {
            told.extend(names(&stage.reply(Ok(200))));
        }
        if stage.webhook.waiting(WEBHOOK) == 0 && stage.webhook.next_at_ns().is_none() {
            return told;
        }
        stage.wait_ms(10);
    }
}

fn names(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap();
    body["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

fn occupied(stage: &mut Stage, channel: &str) {
    stage.event(ChannelOccupied, channel, &format!("\"+{channel}\""));
}

fn vacated(stage: &mut Stage, channel: &str) {
    stage.event(ChannelVacated, channel, &format!("\"-{channel}\""));
}

#[test]
fn a_leave_is_told_3_s_later_when_nobody_has_come_back() {
    for (arrival, leave) in [(ChannelOccupied, ChannelVacated), (MemberAdded, MemberRemoved)] {
        let mut stage = Stage::hooked("");
        stage.event(arrival, "presence-r\x007", "\"+\"");
        stage.wait_ms(100);
        assert_eq!(names(&stage.reply(Ok(200))), ["+"]);
        stage.event(leave, "presence-r\x007", "\"-\"");
        stage.wait_ms(3099);
        assert!(stage.requests.is_empty());
        stage.wait_ms(1);
        assert_eq!(names(&stage.reply(Ok(200))), ["-"]);
    }
}

#[test]
fn a_return_within_3_s_is_not_told_and_neither_is_the_leave() {
    let mut stage = Stage::hooked("");
    vacated(&mut stage, "a");
    vacated(&mut stage, "b");
    stage.wait_ms(2999);
    occupied(&mut stage, "a");
    stage.wait_ms(1);
    occupied(&mut stage, "b");
    assert_eq!(told(&mut stage), ["-b", "+b"], "the return of b came too late");
    stage.assert_tally(WEBHOOK, [2, 0, 0, 0]);
}

#[test]
fn a_member_and_a_channel_of_one_name_are_not_the_same() {
    let mut stage = Stage::hooked("");
    stage.event(ChannelVacated, "x", "\"channel\"");
    stage.event(MemberAdded, "x", "\"member\"");
    assert_eq!(told(&mut stage), ["member", "channel"]);
}

#[test]
fn what_happens_meanwhile_overtakes_a_leave() {
    let mut stage = Stage::hooked("");
    vacated(&mut stage, "a");
    stage.event(CacheMiss, "b", "\"miss\"");
    stage.wait_ms(3050);
    occupied(&mut stage, "c");
    assert_eq!(told(&mut stage), ["miss", "-a", "+c"]);
}

#[test]
fn a_webhook_that_wants_one_half_only_is_not_told_of_returns_either() {
    let mut stage = Stage::hooked("events = ['channel_occupied']");
    occupied(&mut stage, "a");
    vacated(&mut stage, "a");
    assert_eq!(stage.webhook.waiting(WEBHOOK), 1);
    stage.wait_ms(1000);
    occupied(&mut stage, "a");
    vacated(&mut stage, "a");
    stage.wait_ms(4000);
    occupied(&mut stage, "a");
    assert_eq!(told(&mut stage), ["+a", "+a"]);
    let mut stage = Stage::hooked("events = ['channel_vacated']");
    vacated(&mut stage, "a");
    occupied(&mut stage, "a");
    vacated(&mut stage, "a");
    assert_eq!(told(&mut stage), ["-a"]);
}

#[test]
fn at_a_stop_leaves_are_told_at_once() {
    let mut stage = Stage::hooked("");
    vacated(&mut stage, "a");
    stage.event(CacheMiss, "b", "\"miss\"");
    stage.webhook.hurry(stage.now);
    stage.send();
    assert_eq!(names(&stage.reply(Ok(200))), ["miss", "-a"]);
    vacated(&mut stage, "b");
    assert_eq!(names(&stage.reply(Ok(200))), ["-b"]);
    assert_eq!((stage.webhook.waiting(WEBHOOK), stage.webhook.next_at_ns()), (0, None));
}

#[test]
fn leaves_that_wait_are_bounded_too() {
    let mut stage = Stage::hooked("queue_max = 10");
    (0..100).for_each(|number| vacated(&mut stage, &number.to_string()));
    assert_eq!(stage.webhook.waiting(WEBHOOK), 10);
    stage.assert_tally(WEBHOOK, [0, 0, 90, 0]);
    let last: Vec<String> = (90..100).map(|number| format!("-{number}")).collect();
    assert_eq!(told(&mut stage), last);
}

#[test]
fn what_has_been_told_or_cancelled_takes_no_room() {
    let mut stage = Stage::hooked("");
    let long = format!("\"{}\"", "x".repeat(1024 * 1024));
    for _ in 0..80 {
        stage.event(ChannelVacated, "a", &long);
        stage.event(ChannelOccupied, "a", &long);
    }
    for _ in 0..80 {
        stage.event(CacheMiss, "a", &long);
        stage.wait_ms(100);
        stage.reply(Ok(200));
    }
    stage.assert_tally(WEBHOOK, [80, 0, 0, 0]);
}

/// One step of a storm.
#[derive(Clone, Debug)]
enum Step {
    /// The subject comes if it is away, and leaves if it is there.
    Turn(usize),
    /// Something that is never delayed.
    Miss,
    Wait(u64),
    /// The request that is under way, if there is one, is answered.
    Reply(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4usize).prop_map(Step::Turn),
        1 => Just(Step::Miss),
        2 => (0..200u64).prop_map(Step::Wait),
        2 => prop_oneof![Just(2999), Just(3000), Just(3001), 0..5000u64].prop_map(Step::Wait),
        2 => prop::bool::weighted(0.7).prop_map(Step::Reply),
    ]
}

/// Every event with its time, and the subject whose state it changes.
type History = Vec<(u64, Option<usize>, String)>;

/// What the receiver is to hear in the end: whatever was not cancelled, at its time, leaves 3 s later.
fn expected(history: &History) -> Vec<String> {
    let mut told: Vec<(u64, bool, usize)> = Vec::new();
    for (place, (at_ms, subject, name)) in history.iter().enumerate() {
        let Some(subject) = subject else {
            told.push((*at_ms, true, place));
            continue;
        };
        let same = |event: &&(u64, Option<usize>, String)| event.1 == Some(*subject);
        if name.starts_with('-') {
            let back = history[place + 1..].iter().find(same);
            if back.is_none_or(|back| back.0 >= at_ms + 3000) {
                told.push((at_ms + 3000, false, place));
            }
        } else {
            let left = history[..place].iter().rev().find(same);
            if left.is_none_or(|left| *at_ms >= left.0 + 3000) {
                told.push((*at_ms, true, place));
            }
        }
    }
    told.sort_unstable();
    told.into_iter().map(|(_, _, place)| history[place].2.clone()).collect()
}

/// Lets a storm go over a stage. Returns what has happened and what was told of it until all was quiet.
fn storm(stage: &mut Stage, steps: &[Step]) -> (History, Vec<String>) {
    let (mut history, mut heard, mut there) = (History::new(), Vec::new(), [false; 4]);
    for step in steps {
        let at_ms = stage.now.monotonic_ns / 1_000_000;
        match step {
            Step::Turn(subject) => {
                there[*subject] = !there[*subject];
                let name = format!("{}{subject}", if there[*subject] { '+' } else { '-' });
                // Two are channels and two are members.
                let event = match (subject % 2, there[*subject]) {
                    (0, true) => ChannelOccupied,
                    (0, false) => ChannelVacated,
                    (_, true) => MemberAdded,
                    (_, false) => MemberRemoved,
                };
                stage.event(event, &format!("s{}", subject / 2), &format!("\"{name}\""));
                history.push((at_ms, Some(*subject), name));
            }
            Step::Miss => {
                stage.event(CacheMiss, "s0", "\"miss\"");
                history.push((at_ms, None, "miss".into()));
            }
            Step::Wait(milliseconds) => stage.wait_ms(*milliseconds),
            Step::Reply(_) if stage.requests.is_empty() => {}
            Step::Reply(true) => heard.extend(names(&stage.reply(Ok(200)))),
            Step::Reply(false) => drop(stage.reply(Ok(503))),
        }
    }
    heard.extend(told(stage));
    (history, heard)
}

proptest! {
    #[test]
    fn after_any_storm_the_receiver_has_heard_what_a_naive_model_says(steps in prop::collection::vec(step(), 0..120)) {
        let mut stage = Stage::hooked("");
        let (history, heard) = storm(&mut stage, &steps);
        prop_assert_eq!(&heard, &expected(&history));
        for subject in 0..4 {
            let of = |name: &&String| name.ends_with(&subject.to_string());
            let heard: Vec<&String> = heard.iter().filter(of).collect();
            let comes = |(place, name): (usize, &&String)| name.starts_with('+') == (place % 2 == 0);
            prop_assert!(heard.iter().enumerate().all(comes), "{:?}", heard);
            let last = history.iter().rev().find(|event| event.1 == Some(subject));
            let is_there = last.is_some_and(|last| last.2.starts_with('+'));
            prop_assert_eq!(heard.len() % 2 == 1, is_there);
        }
    }

    #[test]
    fn however_many_come_and_go_while_nobody_listens_no_more_waits_than_may(
        steps in prop::collection::vec(step(), 0..200),
        queue_max in 1..6usize,
    ) {
        let mut stage = Stage::hooked(&format!("queue_max = {queue_max}"));
        let mut there = [false; 4];
        for step in steps {
            match step {
                Step::Turn(subject) => {
                    there[subject] = !there[subject];
                    let event = if there[subject] { ChannelOccupied } else { ChannelVacated };
                    stage.event(event, &subject.to_string(), "\"x\"");
                }
                Step::Miss => stage.event(CacheMiss, "", "\"x\""),
                Step::Wait(milliseconds) => stage.wait_ms(milliseconds),
                Step::Reply(_) => while !stage.requests.is_empty() { stage.reply(refused()); },
            }
            prop_assert!(stage.webhook.waiting(WEBHOOK) <= queue_max * 2, "a queue, and a batch of it");
        }
        told(&mut stage);
    }
}
