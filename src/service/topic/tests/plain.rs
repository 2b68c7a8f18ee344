//! Questions and answers are plain data: they can be written down and sent.

use super::world::{consuming, name, pattern, producing, reading};
use crate::service::topic::*;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Fails unless a value comes back as it was.
fn survives<T: Serialize + DeserializeOwned + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    let again: T = serde_json::from_str(&text).unwrap();
    assert_eq!(format!("{again:?}"), format!("{value:?}"), "{text}");
}

fn id() -> MessageId {
    MessageId { position: Position::new(7, 300).unwrap(), partition: Some(2) }
}

fn draft() -> MessageDraft {
    let properties = vec![("name", "value")];
    MessageDraft::new(&TopicMessage {
        key: Some("k"),
        properties,
        payload: &[0, 255],
        ..TopicMessage::default()
    })
}

fn rights() -> Rights {
    Rights::new(["t/n/*"], [], ["t/n/x"])
}

fn inquiries() -> Vec<TopicInquiry> {
    let (topic, subscription) = (name("x"), Some(Box::from("s")));
    let reset = |to| TopicInquiry::Reset { topic: name("x"), subscription: "s".into(), to };
    vec![
        TopicInquiry::ProxyStats { rights: rights(), after: "a".into(), count: 3 },
        TopicInquiry::ProxyTopic(topic.clone()),
        TopicInquiry::ProxyMetrics(Rights::ALL),
        TopicInquiry::List { prefix: "p".into(), after: "".into(), count: 9 },
        TopicInquiry::Stats(topic.clone()),
        TopicInquiry::Peek { topic: topic.clone(), subscription: subscription.clone(), count: 1 },
        TopicInquiry::Purge { topic: topic.clone(), subscription },
        TopicInquiry::Terminate(topic.clone()),
        TopicInquiry::Delete { topic: topic.clone(), force: true },
        reset(CursorReset::Earliest),
        reset(CursorReset::Latest),
        reset(CursorReset::Published(u64::MAX)),
        reset(CursorReset::At(id())),
        TopicInquiry::Forget { topic, subscription: "s".into() },
    ]
}

#[test]
fn every_question_survives_the_way_to_another_node() {
    let consumer = |topics, flow| ConsumerOptions {
        topics,
        flow,
        dead_letters: Some(name("dead")),
        rights: Some(Box::new(rights())),
        ..consuming("x", "s", SubscriptionType::KeyShared)
    };
    let mut questions = vec![
        TopicQuestion::Produce(Box::new(ProducerOptions {
            hashing: Hashing::Murmur3,
            ..producing("x")
        })),
        TopicQuestion::Consume(Box::new(consumer(WantedTopics::One(name("x")), Flow::Push(3)))),
        TopicQuestion::Consume(Box::new(consumer(
            WantedTopics::Several(vec![name("x")]),
            Flow::Pull,
        ))),
        TopicQuestion::Consume(Box::new(consumer(pattern("a.*"), Flow::Pull))),
        TopicQuestion::Send { draft: draft(), context: Some("c".into()) },
        TopicQuestion::Append(name("x"), draft()),
        TopicQuestion::Ack(id()),
        TopicQuestion::Nack(id()),
        TopicQuestion::Permit(5),
        TopicQuestion::Unsubscribe,
        TopicQuestion::AskEnd,
        TopicQuestion::Took,
        TopicQuestion::Renew(Box::new(rights())),
        TopicQuestion::Probed { is_closing: true },
        TopicQuestion::Gone,
        TopicQuestion::Join,
        TopicQuestion::Turn,
        TopicQuestion::Buried { is_stored: true },
    ];
    let starts = [ReaderStart::Earliest, ReaderStart::Latest, ReaderStart::After(id())];
    questions.extend(starts.map(|start| TopicQuestion::Read(Box::new(reading("x", start)))));
    questions
        .extend(inquiries().into_iter().map(|inquiry| TopicQuestion::Inquire(Box::new(inquiry))));
    questions.iter().for_each(survives);
}

#[test]
fn every_answer_survives_the_way_back() {
    let refused = |cause| TopicAnswer::Refused(TopicRefusal { cause, reason: "because".into() });
    let causes = [
        Cause::Invalid,
        Cause::NotFound,
        Cause::Busy,
        Cause::TooMany,
        Cause::Quota,
        Cause::Terminated,
        Cause::Broken,
    ];
    let mut answers = vec![
        TopicAnswer::Opened,
        TopicAnswer::Ready,
        TopicAnswer::Stored { id: id(), context: None },
        TopicAnswer::NotStored { reason: "because".into(), context: Some("c".into()) },
        TopicAnswer::EndOfTopic(true),
        TopicAnswer::Share { place: 1, of: 2 },
        TopicAnswer::StillSubscribed,
        TopicAnswer::Forbidden,
        TopicAnswer::Probe,
        TopicAnswer::Answer(200, b"{}"[..].into()),
    ];
    answers.extend(causes.map(refused));
    answers.iter().for_each(survives);
}

#[test]
fn what_is_sent_is_checked_where_it_arrives() {
    assert!(serde_json::from_str::<TopicName>("\"persistent://t/n\"").is_err());
    assert!(serde_json::from_str::<TopicPattern>("\"(\"").is_err());
    assert!(serde_json::from_str::<MessageDraft>("[1, 2, 3]").is_err());
}
