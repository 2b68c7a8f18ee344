//! The statistics of the reference's proxy, over HTTP.

use super::*;
use fanfare::dialect;
use fanfare::http::Persistence;
use fanfare::outbox::Sent;
use fanfare::service::topic::{Rights, TopicInquiry};

/// The answer to a request, or what the owner is asked first.
fn ask(
    stage: &mut Stage,
    method: &str,
    target: &str,
    authorization: &str,
) -> Result<(ConnectionRef, TopicInquiry), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    assert!(KIND.body_bytes_max(method, path, stage.bus.shard.settings()).is_some(), "{path}");
    let id = stage.bus.shard.accept(stage.bus.now);
    let request = dialect::Request { method, path, query, authorization, ..Default::default() };
    stage.bus.shard.serve(id, KIND, &request, Persistence::Stays, stage.bus.now);
    match stage.bus.shard.take_questions().pop() {
        Some((connection, Question::Topic(TopicQuestion::Inquire(inquiry)))) => {
            Ok((connection, *inquiry))
        }
        None => Err(written(stage)),
        other => panic!("{other:?}"),
    }
}

fn written(stage: &mut Stage) -> String {
    let mut written = Vec::new();
    stage.bus.shard.flush(stage.bus.now, &mut |_: u32, bytes: &[u8]| {
        written.extend_from_slice(bytes);
        Sent::Bytes(bytes.len())
    });
    String::from_utf8(written).unwrap()
}

#[test]
fn the_owner_is_asked_and_its_answer_handed_on() {
    let mut stage = Stage::open();
    let all = |inquiry: &str| format!("{inquiry}({:?})", Rights::ALL);
    let page = |after: &str, count: usize| {
        format!("ProxyStats {{ rights: {:?}, after: {after:?}, count: {count} }}", Rights::ALL)
    };
    for (target, expected) in [
        ("/admin/v2/proxy-stats/metrics", all("ProxyMetrics")),
        ("/admin/proxy-stats/metrics", all("ProxyMetrics")),
        ("/admin/v2/proxy-stats/stats", page("", 1000)),
        (
            "/admin/v2/proxy-stats/stats?after=persistent://t/n/x&count=5",
            page("persistent://t/n/x", 5),
        ),
        (
            "/admin/v2/proxy-stats/persistent/t/n/x/stats",
            "ProxyTopic(\"persistent://t/n/x\")".into(),
        ),
        (
            "/admin/proxy-stats/persistent/p/c/n/x/stats",
            "ProxyTopic(\"persistent://p/c/n/x\")".into(),
        ),
    ] {
        let (_, inquiry) = ask(&mut stage, "GET", target, "").unwrap();
        assert_eq!(format!("{inquiry:?}"), expected);
    }
    let (connection, _) = ask(&mut stage, "GET", "/admin/v2/proxy-stats/stats", "").unwrap();
    let answer = TopicAnswer::Answer(200, b"{}"[..].into());
    stage.bus.shard.answer(connection, Answer::Topic(answer), stage.bus.now);
    let answer = written(&mut stage);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
}

#[test]
fn there_is_nothing_else() {
    let mut stage = Stage::open();
    for target in [
        "/admin/",
        "/admin/v2/clusters",
        "/admin/v2/proxy-stats/../stats",
        "/admin/v2/proxy-stats/other/t/n/x/stats",
    ] {
        let answer = ask(&mut stage, "GET", target, "").unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    for count in ["0", "1001", "x", ""] {
        let target = format!("/admin/v2/proxy-stats/stats?count={count}");
        let answer = ask(&mut stage, "GET", &target, "").unwrap_err();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("from 1 to 1000"),
            "{answer}"
        );
    }
    let answer = ask(&mut stage, "POST", "/admin/v2/proxy-stats/stats", "").unwrap_err();
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET"), "{answer}");
    assert_eq!(KIND.body_bytes_max("GET", "/ws/v2/x", stage.bus.shard.settings()), None);
    assert_eq!(KIND.plain("GET", PRODUCER_2), 405);
}

#[test]
fn they_are_for_who_has_a_token() {
    let mut stage =
        Stage::of(|settings| settings.verifier = Some(verifier("[[token]]\ntoken = \"good\"")));
    let stats = "/admin/v2/proxy-stats/stats";
    for (target, authorization) in
        [(stats, ""), ("/admin/v2/proxy-stats/stats?token=bad", ""), (stats, "Bearer bad")]
    {
        let answer = ask(&mut stage, "GET", target, authorization).unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    assert!(ask(&mut stage, "GET", stats, "Bearer good").is_ok());
    assert!(ask(&mut stage, "GET", "/admin/v2/proxy-stats/stats?token=good", "").is_ok());
}

#[test]
fn they_show_what_the_token_may_consume() {
    let tokens =
        "[[token]]\ntoken = 'narrow'\npulsar_consume = ['t/n/*']\npulsar_produce = ['*/*/*']";
    let mut stage = Stage::of(|settings| settings.verifier = Some(verifier(tokens)));
    let narrow = Rights::new(["*/*/*"], ["t/n/*"], []);
    for (target, expected) in [
        ("stats", format!("ProxyStats {{ rights: {narrow:?}, after: \"\", count: 1000 }}")),
        ("metrics", format!("ProxyMetrics({narrow:?})")),
    ] {
        let target = format!("/admin/v2/proxy-stats/{target}");
        let (_, inquiry) = ask(&mut stage, "GET", &target, "Bearer narrow").unwrap();
        assert_eq!(format!("{inquiry:?}"), expected);
    }
    let one = "/admin/v2/proxy-stats/persistent/t/n/x/stats?token=narrow";
    assert!(ask(&mut stage, "GET", one, "").is_ok());
    let answer = ask(&mut stage, "GET", &one.replace("t/n/x", "t/m/x"), "").unwrap_err();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("Not authorized"), "{answer}");
}
