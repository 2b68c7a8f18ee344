//! From the request to the end: what is asked of the owner of the topics, how it is answered, and when it ends.

use super::*;
use fanfare::message::Violation;
use fanfare::service::topic::{Cause, Flow, Hashing, ReaderStart, SubscriptionType, WantedTopics};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

#[test]
fn the_paths_of_the_paper_ask_for_the_topic_with_its_cluster() {
    let mut stage = Stage::open();
    let Some((_, TopicQuestion::Produce(producing))) = stage.comes("p", PRODUCER_1) else {
        panic!()
    };
    assert_eq!(producing.topic.as_str(), "persistent://my-property/us-west/my-ns/my-topic1");
    assert_eq!(
        (producing.name, producing.hashing, &*producing.remote),
        (None, Hashing::Java, "127.0.0.1:5")
    );
    let Some((_, TopicQuestion::Consume(consuming))) = stage.comes("c", CONSUMER_1) else {
        panic!()
    };
    let WantedTopics::One(topic) = &consuming.topics else { panic!() };
    assert_eq!(topic.as_str(), "persistent://my-property/us-west/my-ns/my-topic1");
    assert_eq!(
        (&*consuming.subscription, consuming.kind),
        ("my-sub1", SubscriptionType::Exclusive)
    );
    assert_eq!(
        (consuming.flow, consuming.durable, consuming.earliest),
        (Flow::Push(1000), true, false)
    );
    let Some((_, TopicQuestion::Read(reading))) = stage.comes("r", READER_1) else { panic!() };
    assert_eq!((reading.start, reading.window), (ReaderStart::Latest, 1000));
}

#[test]
fn the_query_says_what_a_consumer_wants() {
    let mut stage = Stage::open();
    let query = "?subscriptionType=Shared&ackTimeoutMillis=2000&pullMode=true&maxRedeliverCount=2&deadLetterTopic=dead";
    let Some((_, TopicQuestion::Consume(consuming))) =
        stage.comes("c", &format!("{CONSUMER_2}{query}"))
    else {
        panic!()
    };
    assert_eq!(
        (consuming.kind, consuming.flow, consuming.ack_timeout_ms),
        (SubscriptionType::Shared, Flow::Pull, 2000)
    );
    assert_eq!(consuming.dead_letters.unwrap().as_str(), "persistent://public/default/dead");
    let Some((_, TopicQuestion::Consume(consuming))) =
        stage.comes("c", "/ws/v3/consumer/s?topics=a,t/n/b")
    else {
        panic!()
    };
    let WantedTopics::Several(topics) = consuming.topics else { panic!() };
    assert_eq!(topics.len(), 2);
    let Some((_, TopicQuestion::Consume(consuming))) =
        stage.comes("c", "/ws/v3/consumer/s?topicsPattern=t/n/b.*")
    else {
        panic!()
    };
    assert!(
        matches!(consuming.topics, WantedTopics::Matching { namespace, .. } if &*namespace == "persistent://t/n/")
    );
    let Some((_, TopicQuestion::Read(reading))) =
        stage.comes("r", &format!("{READER_2}?messageId=CAAQAw=="))
    else {
        panic!()
    };
    assert_eq!(reading.start, ReaderStart::After(id("CAAQAw==")));
}

#[test]
fn a_handshake_is_completed_when_the_owner_has_agreed() {
    for path in [
        PRODUCER_1,
        CONSUMER_1,
        READER_1,
        PRODUCER_2,
        CONSUMER_2,
        READER_2,
        "/ws/v3/consumer/s?topics=a",
    ] {
        Stage::open().joins("x", path);
    }
}

#[test]
fn what_cannot_be_is_a_close_in_the_first_version_and_a_status_later() {
    for (cause, status, first, said) in [
        (Cause::Invalid, "400", "Invalid query params: x", None),
        (
            Cause::NotFound,
            "404",
            "Failed to create producer: x",
            Some("Failed to create consumer: x"),
        ),
        (Cause::Busy, "409", "Failed to create producer: x", Some("Failed to create consumer: x")),
        (Cause::TooMany, "429", "Failed to create producer: x", None),
        (Cause::Quota, "503", "Failed to create producer: x", None),
        (Cause::Terminated, "503", "Failed to create producer: x", None),
        (Cause::Broken, "500", "Failed to create producer: x", None),
    ] {
        let refusal = TopicRefusal { cause, reason: "x".into() };
        let mut stage = Stage::open();
        for (path, close) in [
            (PRODUCER_1, "close 4001 Failed to create producer"),
            (CONSUMER_1, "close 4002 Failed to subscribe"),
            (READER_1, "close 4002 Failed to subscribe"),
        ] {
            let (connection, _) = stage.comes("x", path).unwrap();
            stage.refuses(connection, &refusal);
            assert_eq!(stage.bus.heard("x"), ["101", close]);
            assert_eq!(stage.asked_in_words(), "Gone");
        }
        let (connection, _) = stage.comes("x", PRODUCER_2).unwrap();
        stage.refuses(connection, &refusal);
        assert_eq!(
            (stage.bus.heard("x"), stage.refusal("x")),
            (vec![status.into(), "end".into()], first.into())
        );
        let (connection, _) = stage.comes("x", CONSUMER_2).unwrap();
        stage.refuses(connection, &refusal);
        assert_eq!(stage.refusal("x"), said.unwrap_or(&first.replace("producer", "consumer")));
        let (connection, _) = stage.comes("x", READER_2).unwrap();
        stage.refuses(connection, &refusal);
        assert_eq!(stage.refusal("x"), first.replace("producer", "reader"));
    }
}

#[test]
fn bad_parameters_are_told_before_the_owner_is_asked() {
    let mut stage = Stage::open();
    for (path, reason) in [
        (format!("{PRODUCER_2}?hashingScheme=x"), "Invalid hashingScheme \"x\""),
        (
            format!("{PRODUCER_2}?encryptionKeys=k"),
            "encryptionKeys: the daemon has no keys to encrypt with",
        ),
        (format!("{CONSUMER_2}?subscriptionType=x"), "Invalid subscriptionType \"x\""),
        (format!("{CONSUMER_2}?receiverQueueSize=-1"), "receiverQueueSize needs to be >= 0"),
        (format!("{CONSUMER_2}?deadLetterTopic=x"), "MaxRedeliverCount must be > 0."),
        (format!("{READER_2}?messageId=x"), "the message id"),
        ("/ws/v2/consumer/persistent/t/n/x/".into(), "Empty subscription name"),
        ("/ws/v3/consumer/s".into(), "Should set topics or topicsPattern"),
        ("/ws/v3/consumer/?topics=a".into(), "Empty subscription name"),
    ] {
        let (status, said) = stage.refused(&path);
        assert_eq!(status, "400 end", "{path}");
        assert!(said.starts_with(&format!("Invalid query params: {reason}")), "{path}: {said}");
    }
    stage.comes("x", &format!("{PRODUCER_1}?hashingScheme=x"));
    assert_eq!(stage.bus.heard("x"), ["101", "close 4001 Failed to create producer"]);
    stage.comes("x", &format!("{CONSUMER_1}?subscriptionType=x"));
    assert_eq!(stage.bus.heard("x"), ["101", "close 4002 Failed to subscribe"]);
    assert_eq!(stage.asked_in_words(), "", "who has asked for nothing does not leave");
}

#[test]
fn paths_that_name_nothing_are_not_found() {
    let mut stage = Stage::open();
    for path in [
        "/ws/v2/",
        "/ws/v2/producer/persistent/t/n",
        "/ws/v2/producer/other/t/n/x",
        "/ws/v2/consumer/persistent/t/n/x/y/sub",
        "/ws/producer/persistent/t/n/x",
        "/ws/v2/producer/persistent/t/n/..",
    ] {
        assert_eq!(stage.refused(path).0, "404 end", "{path}");
    }
}

#[test]
fn an_owner_who_does_not_answer_is_not_waited_for() {
    let mut stage = Stage::open();
    stage.comes("x", PRODUCER_2);
    stage.bus.wait(29);
    assert!(stage.bus.heard("x").is_empty());
    stage.bus.wait(2);
    assert_eq!(stage.bus.heard("x"), ["500", "end"]);
    assert_eq!(stage.refusal("x"), "Failed to create producer: there is no answer now");
    assert_eq!(stage.asked_in_words(), "Gone");
}

#[test]
fn whoever_goes_is_told_of_once_by_those_who_have_asked() {
    let mut stage = Stage::open();
    let connection = stage.joins("x", CONSUMER_2);
    let id = stage.bus.clients["x"].id;
    stage.bus.shard.lost(id, stage.bus.now);
    stage.bus.flush();
    assert_eq!(stage.asked_in_words(), "Gone");
    stage.told(connection, TopicAnswer::Opened);
    stage.delivers(&paper(), &[recipient(connection)]);
    assert_eq!(stage.bus.heard("x"), ["gone"], "what comes too late does no harm");
}

#[test]
fn silence_ends_a_session_and_anything_else_does_not() {
    let idle =
        "close 1001 java.util.concurrent.TimeoutException: Idle timeout expired: 300000/300000 ms";
    let mut stage = Stage::of(|settings| {
        settings.anonymous = true;
        settings.ping_interval_s = 0;
    });
    stage.joins("x", CONSUMER_2);
    stage.bus.wait(299);
    assert!(stage.bus.heard("x").is_empty());
    stage.bus.wait(2);
    assert_eq!(stage.bus.heard("x"), [idle]);
    let connection = stage.joins("y", CONSUMER_2);
    for turn in 0..4 {
        stage.bus.wait(200);
        match turn {
            0 => stage.bus.send("y", OpCode::Control(Control::Pong), b""),
            1 => stage.bus.send("y", OpCode::Data(Data::Binary), b"ignored"),
            2 => stage.delivers(&paper(), &[recipient(connection)]),
            _ => stage.bus.say("y", r#"{"messageId":"CAAQAw=="}"#),
        }
    }
    assert_eq!(stage.bus.heard("y").len(), 1, "the message");
    stage.bus.wait(299);
    assert!(stage.bus.heard("y").is_empty());
    stage.bus.wait(2);
    assert_eq!(stage.bus.heard("y"), [idle]);
    stage.bus.wait(6);
    assert_eq!(stage.bus.heard("y"), ["gone"]);
}

#[test]
fn pings_say_ping_and_their_answers_keep_a_quiet_consumer() {
    let mut stage = Stage::open();
    stage.joins("x", CONSUMER_2);
    for _ in 0..25 {
        stage.bus.wait(30);
        assert_eq!(stage.bus.heard("x"), [format!("ping {:?}", b"PING")]);
        stage.bus.send("x", OpCode::Control(Control::Pong), b"PING");
    }
}

/// A holder whose network has died keeps its successor waiting no longer than that, whatever the idle time-out is.
#[test]
fn two_pings_without_an_answer_end_a_session_and_whatever_a_client_says_is_one() {
    let unanswered = "close 1001 pings were not answered";
    let mut stage = Stage::open();
    stage.joins("x", CONSUMER_2);
    stage.bus.wait(89);
    assert_eq!(stage.bus.heard("x").len(), 2, "pings");
    stage.bus.wait(2);
    assert_eq!(stage.bus.heard("x"), [unanswered]);
    assert_eq!(stage.asked_in_words(), "Gone");
    // One that is too busy to answer pings is not dead.
    stage.joins("y", CONSUMER_2);
    for _ in 0..5 {
        stage.bus.wait(59);
        stage.bus.say("y", r#"{"messageId":"CAAQAw=="}"#);
    }
    let heard = stage.bus.heard("y");
    assert!(heard.iter().all(|said| said.starts_with("ping")), "{heard:?}");
    let mut patient = Stage::of(|settings| {
        settings.anonymous = true;
        settings.ping_misses_max = 4;
    });
    patient.joins("z", CONSUMER_2);
    patient.bus.wait(149);
    assert_eq!(patient.bus.heard("z").len(), 4, "pings");
    patient.bus.wait(2);
    assert_eq!(patient.bus.heard("z"), [unanswered]);
}

#[test]
fn pings_and_the_end_of_the_silent_can_be_switched_off() {
    let mut stage = Stage::of(|settings| {
        settings.anonymous = true;
        settings.ping_interval_s = 0;
        settings.idle_timeout_s = 0;
    });
    stage.joins("x", CONSUMER_2);
    stage.bus.wait(3600);
    assert!(stage.bus.heard("x").is_empty());
}

#[test]
fn who_comes_to_ping_is_answered_and_nothing_else() {
    for path in ["/ws/pingpong", "/ws/v2/pingpong"] {
        let mut stage = Stage::open();
        assert!(stage.comes("x", path).is_none());
        assert_eq!(stage.bus.heard("x"), ["101"]);
        stage.bus.send("x", OpCode::Control(Control::Ping), b"test");
        assert_eq!(stage.bus.heard("x"), [format!("pong {:?}", b"test")]);
        assert!(stage.says("x", "hello").is_empty());
    }
}

#[test]
fn what_is_too_long_is_told_with_its_length() {
    let mut stage = Stage::open();
    stage.joins("x", PRODUCER_2);
    stage.bus.send("x", OpCode::Data(Data::Text), &vec![b' '; 1_048_577]);
    let reason = "close 1009 Text message size [1048577] exceeds maximum size [1048576]";
    assert_eq!(stage.bus.heard("x"), [reason, "end"]);
    stage.joins("y", PRODUCER_2);
    let answer = stage.says("y", &format!("{}{{\"payload\":\"\"}}", " ".repeat(1_048_576 - 14)));
    assert!(answer.is_empty() && stage.asked_in_words().contains("Send"));
    let id = stage.bus.clients["y"].id;
    stage.bus.shard.violate(id, Violation::Protocol, stage.bus.now);
    stage.bus.flush();
    assert_eq!(stage.bus.heard("y"), ["close 1002 protocol error", "end"]);
}

#[test]
fn the_end_of_the_daemon_is_said_as_elsewhere() {
    let mut stage = Stage::open();
    stage.joins("x", CONSUMER_2);
    stage.bus.shard.drain(stage.bus.now);
    stage.bus.flush();
    assert_eq!(stage.bus.heard("x"), ["close 1001 the server is stopping"]);
}

#[test]
fn who_is_refused_later_on_is_told_why() {
    let mut stage = Stage::open();
    let refusal = TopicRefusal { cause: Cause::Broken, reason: "x".into() };
    for (path, close) in [
        (PRODUCER_1, "close 4001 Failed to create producer: x"),
        (PRODUCER_2, "close 4001 Failed to create producer: x"),
        (CONSUMER_2, "close 4002 Failed to subscribe: x"),
    ] {
        let connection = stage.joins("x", path);
        stage.refuses(connection, &refusal);
        assert_eq!(stage.bus.heard("x"), [close]);
    }
}
