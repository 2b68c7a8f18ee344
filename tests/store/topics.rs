//! The owner of the topics on the archive of the disk, in rounds as the store's thread makes them.

use crate::open;
use fanfare::io::store::Disk;
use fanfare::service::ConnectionRef;
use fanfare::service::Service as _;
use fanfare::service::topic::{
    ConsumerOptions, Flow, MessageDraft, MessageId, SubscriptionType, TopicAnswer, TopicMessage,
    TopicName, TopicOutgoing, TopicOwner, TopicQuestion, TopicRules, WantedTopics,
};
use fanfare::wheel::Now;
use std::path::Path;

const CONSUMER: ConnectionRef = ConnectionRef { shard: 0, id: 1, serial: 1 };
const FEED: ConnectionRef = ConnectionRef { shard: u16::MAX, id: 1, serial: 0 };

struct Owner {
    topics: TopicOwner<Disk>,
    now: Now,
    out: Vec<TopicOutgoing>,
    stored: usize,
    refused: usize,
    delivered: Vec<(MessageId, String)>,
}

impl Owner {
    fn new(path: &Path, unix_ms: u64) -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms };
        let topics = TopicOwner::new(open(path), TopicRules::default(), now);
        Self { topics, now, out: Vec::new(), stored: 0, refused: 0, delivered: Vec::new() }
    }

    fn ask(&mut self, connection: ConnectionRef, request: TopicQuestion) {
        self.topics.ask(connection, request, self.now, &mut self.out);
    }

    fn round(&mut self) {
        self.now.monotonic_ns += 600_000_000;
        self.topics.archive().look();
        if self.topics.archive().has_healed() {
            self.topics.recovered(self.now);
        }
        self.topics.tick(self.now, &mut self.out);
        if self.topics.has_uncommitted() {
            let result = self.topics.archive().commit();
            let result = result.as_ref().copied().map_err(|reason| &**reason);
            self.topics.committed(result, self.now, &mut self.out);
        }
        self.topics.archive().settle();
        while self.topics.deliver(1 << 20, self.now, &mut self.out) {}
        for outgoing in self.out.drain(..) {
            match outgoing {
                TopicOutgoing::Reply(_, TopicAnswer::Stored { .. }) => self.stored += 1,
                TopicOutgoing::Reply(_, TopicAnswer::NotStored { .. }) => self.refused += 1,
                TopicOutgoing::Reply(_, TopicAnswer::Opened) => {}
                TopicOutgoing::Reply(_, reply) => panic!("{reply:?}"),
                TopicOutgoing::Ask(..) => panic!("there is no other owner"),
                TopicOutgoing::Deliver(message, _) => {
                    let text = String::from_utf8_lossy(message.message().payload).into_owned();
                    self.delivered
                        .push((MessageId { position: message.position, partition: None }, text));
                }
            }
        }
    }

    fn append(&mut self, texts: std::ops::Range<u32>) {
        for text in texts {
            let text = text.to_string();
            let message = TopicMessage {
                published_ms: 1,
                payload: text.as_bytes(),
                ..TopicMessage::default()
            };
            self.ask(FEED, TopicQuestion::Append(name(), MessageDraft::new(&message)));
        }
    }

    fn consume(&mut self) {
        let consuming = ConsumerOptions {
            topics: WantedTopics::One(name()),
            subscription: "s".into(),
            kind: SubscriptionType::Shared,
            durable: true,
            earliest: true,
            flow: Flow::Push(1000),
            ack_timeout_ms: 0,
            nack_delay_ms: 0,
            redeliveries_max: 0,
            dead_letters: None,
            name: "c".into(),
            priority: 0,
            remote: "127.0.0.1:5".into(),
            rights: None,
            window: None,
        };
        self.ask(CONSUMER, TopicQuestion::Consume(Box::new(consuming)));
    }

    fn texts(&self) -> Vec<u32> {
        self.delivered.iter().map(|(_, text)| text.parse().unwrap()).collect()
    }
}

fn name() -> TopicName {
    TopicName::read("persistent://public/default/t").unwrap()
}

/// The clock goes back by a day at the restart.
#[test]
fn a_kill_loses_nothing_that_was_told_and_brings_back_what_was_not_acknowledged() {
    const UNIX_MS: u64 = 1_800_000_000_000;
    let directory = tempfile::tempdir().unwrap();
    let (store, killed) = (directory.path().join("store"), directory.path().join("killed"));
    let mut owner = Owner::new(&store, UNIX_MS);
    owner.consume();
    owner.append(0..200);
    owner.round();
    assert_eq!((owner.stored, owner.refused, owner.texts()), (200, 0, (0..200).collect()));
    for index in (0..200).filter(|index| index % 2 == 0) {
        let id = owner.delivered[index].0;
        owner.ask(CONSUMER, TopicQuestion::Ack(id));
    }
    owner.round();
    owner.round();
    owner.append(200..210);
    owner.round();
    crate::damage::copy(&store, &killed);

    let mut again = Owner::new(&killed, UNIX_MS - 86_400_000);
    again.append(210..220);
    again.consume();
    again.round();
    again.round();
    let mut texts = again.texts();
    texts.sort_unstable();
    assert_eq!(texts, (0..200).filter(|text| text % 2 == 1).chain(200..220).collect::<Vec<_>>());
    let known: Vec<_> = owner.delivered.iter().map(|delivery| delivery.0).collect();
    let fresh = again.delivered.iter().filter(|(_, text)| text.parse::<u32>().unwrap() >= 210);
    assert!(
        fresh.clone().count() == 10 && fresh.clone().all(|(id, _)| !known.contains(id)),
        "ids are new"
    );
}

#[test]
fn after_a_full_disk_messages_are_taken_and_delivered_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mounted");
    std::fs::create_dir(&path).unwrap();
    let Some(_mounted) = crate::refusals::Mounted::tmpfs(&path, "32m") else { return };
    let mut owner = Owner::new(&path.join("store"), 1_800_000_000_000);
    owner.consume();
    owner.append(0..10);
    owner.round();
    let filler = path.join("filler");
    // As much as fits.
    let _ = std::fs::write(&filler, vec![1; 32 * 1024 * 1024]);
    let mut next = 10;
    while owner.refused == 0 {
        owner.append(next..next + 100);
        owner.round();
        next += 100;
    }
    let known = owner.stored;
    owner.append(next..next + 1);
    owner.round();
    assert_eq!(owner.stored, known, "nothing is stored now");
    std::fs::remove_file(&filler).unwrap();
    crate::eventually("messages are stored again", || {
        next += 1;
        owner.append(next..next + 1);
        owner.round();
        let ids: Vec<_> = owner.delivered.iter().map(|delivery| delivery.0).collect();
        ids.into_iter().for_each(|id| owner.ask(CONSUMER, TopicQuestion::Ack(id)));
        owner.stored != known
    });
    owner.round();
    let texts = owner.texts();
    assert!(texts.contains(&next) && texts.len() >= owner.stored, "what was stored is delivered");
    let mut ids: Vec<_> = owner.delivered.iter().map(|delivery| delivery.0).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), texts.len(), "and each once");
}
