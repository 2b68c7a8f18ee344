//! Topics that are not persistent: what is sent goes to whoever is there, and is kept nowhere.

use super::*;
use fanfare::service::topic::{Cause, ProducerOptions};
use fanfare::shard::Limits;

const PRODUCER: &str = "/ws/v2/producer/non-persistent/t/n/x";
const CONSUMER: &str = "/ws/v2/consumer/non-persistent/t/n/x/sub";
const READER: &str = "/ws/v2/reader/non-persistent/t/n/x";

/// What the message `{"payload":"QQ=="}` is to consumers.
const A: &str = r#"{"messageId":"CAAQAA==","payload":"QQ==","properties":{},"publishTime":"2018-02-14T12:50:00Z","redeliveryCount":0}"#;

#[test]
fn messages_go_to_all_who_are_there_and_are_acknowledged_at_once() {
    let mut stage = Stage::open();
    let (_, request) = stage.comes("early", PRODUCER).unwrap();
    assert!(
        matches!(request, TopicQuestion::Produce(it) if matches!(&*it, ProducerOptions { name: None, .. }))
    );
    stage.joins("p", PRODUCER);
    for (name, path) in
        [("a", CONSUMER), ("b", "/ws/v2/consumer/non-persistent/t/n/x/other"), ("r", READER)]
    {
        stage.joins(name, path);
    }
    stage.joins("else", "/ws/v2/consumer/non-persistent/t/n/xx/sub");
    let ack =
        r#"{"result":"ok","messageId":"CAAQAA==","context":"1","errorCode":0,"schemaVersion":0}"#;
    assert_eq!(stage.says("p", r#"{"payload":"QQ==","context":"1"}"#), [ack]);
    for name in ["a", "b", "r"] {
        assert_eq!(stage.bus.heard(name), [A], "{name}");
    }
    assert!(stage.bus.heard("else").is_empty());
    assert_eq!(stage.asked_in_words(), "", "the owner has nothing to do with it");
    let error = stage.says("p", "{");
    assert!(error[0].starts_with(r#"{"result":"send-error:3""#));
}

#[test]
fn the_first_version_has_its_own_words() {
    let mut stage = Stage::open();
    stage.joins("p", "/ws/producer/non-persistent/p/c/n/x");
    stage.joins("c", "/ws/consumer/non-persistent/p/c/n/x/sub");
    stage.bus.say("p", r#"{"payload":"QQ==","context":"1","key":"k"}"#);
    assert_eq!(stage.bus.heard("p"), [r#"{"result":"ok","messageId":"CAAQAA==","context":"1"}"#]);
    let said = r#"{"messageId":"CAAQAA==","payload":"QQ==","properties":{},"publishTime":"2018-02-14 12:50:00.000","context":"1","key":"k"}"#;
    assert_eq!(stage.bus.heard("c"), [said]);
}

#[test]
fn consumers_share_as_the_owner_says_and_one_who_unsubscribes_gets_nothing() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER);
    let shared = format!("{CONSUMER}?subscriptionType=Shared");
    let connections = ["a", "b"].map(|name| (name, stage.joins(name, &shared)));
    stage.says("p", r#"{"payload":""}"#);
    assert!(stage.bus.heard("a").is_empty() && stage.bus.heard("b").is_empty());
    for (place, (_, connection)) in (0..).zip(connections) {
        stage.told(connection, TopicAnswer::Share { place, of: 2 });
    }
    for _ in 0..10 {
        stage.says("p", r#"{"payload":"QQ=="}"#);
    }
    assert_eq!(
        (stage.bus.heard("a"), stage.bus.heard("b")),
        (vec![A.to_owned(); 5], vec![A.to_owned(); 5])
    );
    assert!(stage.says("a", r#"{"type":"unsubscribe"}"#).is_empty());
    assert_eq!(stage.asked_in_words(), "Unsubscribe");
    stage.told(connections[0].1, TopicAnswer::Share { place: 0, of: 1 });
    stage.told(connections[1].1, TopicAnswer::Share { place: 0, of: 0 });
    stage.says("p", r#"{"payload":"QQ=="}"#);
    assert!(stage.bus.heard("a").is_empty() && stage.bus.heard("b").is_empty());
}

#[test]
fn who_has_not_acknowledged_or_asked_misses_messages() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER);
    stage.joins("push", &format!("{CONSUMER}?receiverQueueSize=2"));
    stage.joins("pull", "/ws/v2/consumer/non-persistent/t/n/x/pulls?pullMode=true");
    stage.bus.say("pull", r#"{"type":"permit","permitMessages":1}"#);
    for _ in 0..4 {
        stage.says("p", r#"{"payload":"QQ=="}"#);
    }
    assert_eq!((stage.bus.heard("push").len(), stage.bus.heard("pull").len()), (2, 1));
    stage.bus.say("push", r#"{"messageId":"CAAQAA=="}"#);
    stage.bus.say("pull", r#"{"messageId":"CAAQAA=="}"#);
    stage.says("p", r#"{"payload":"QQ=="}"#);
    assert_eq!((stage.bus.heard("push").len(), stage.bus.heard("pull").len()), (1, 0));
}

#[test]
fn what_is_fed_for_such_a_topic_is_as_a_producers_message() {
    let mut stage = Stage::open();
    stage.joins("c", CONSUMER);
    stage.joins("old", "/ws/consumer/non-persistent/p/c/n/x/sub");
    stage.bus.feed(r#"pulsar/non-persistent/t/n/x {"payload":"QQ=="}"#);
    assert_eq!((stage.bus.heard("c"), stage.bus.heard("old").len()), (vec![A.to_owned()], 0));
    stage.bus.feed(r#"pulsar/non-persistent/t/n/x {"payload":"!"}"#);
    stage.bus.feed(r#"pulsar/non-persistent/t/../x {"payload":""}"#);
    assert!(
        stage.bus.replies.contains("Invalid Base64 message-payload error="),
        "{}",
        stage.bus.replies
    );
    assert!(
        stage.bus.replies.contains("no part of a topic's name may be"),
        "{}",
        stage.bus.replies
    );
}

#[test]
fn those_who_go_are_sent_nothing_more() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER);
    stage.joins("c", CONSUMER);
    assert_eq!(stage.says("c", "garbage"), ["close 4003 Failed to de-serialize from JSON"]);
    stage.says("p", r#"{"payload":"QQ=="}"#);
    assert!(stage.bus.heard("c").is_empty());
    assert_eq!(stage.asked_in_words(), "Gone");
}

#[test]
fn who_finds_no_room_to_listen_is_told_to_come_again() {
    let mut stage = Stage::open();
    let limits = Limits { subscriptions_max: 1, ..Limits::default() };
    let settings = Arc::clone(stage.bus.shard.settings());
    stage.bus.shard.configure(settings, limits, stage.bus.now);
    stage.joins("first", CONSUMER);
    let (connection, _) = stage.comes("second", READER).unwrap();
    stage.told(connection, TopicAnswer::Opened);
    assert_eq!(stage.bus.heard("second"), ["101", "close 1013 too many subscriptions"]);
    assert_eq!(stage.asked_in_words(), "Gone");
}

#[test]
fn who_is_refused_later_on_listens_no_more() {
    let mut stage = Stage::open();
    let connection = stage.joins("c", CONSUMER);
    stage.refuses(connection, &TopicRefusal { cause: Cause::Broken, reason: "x".into() });
    assert_eq!(stage.bus.heard("c"), ["close 4002 Failed to subscribe: x"]);
    stage.bus.shard.tick(stage.bus.now);
    assert_eq!(stage.bus.metrics.subscriptions.get(), 0);
}
