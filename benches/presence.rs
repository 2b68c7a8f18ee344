//! A presence channel of a thousand members: the cost of a join and a leave, for the member itself
//! and for all members.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::dialect::echo::{self, App, AppSettings};
use fanfare::dialect::{Kind, Settings, Upgrade};
use fanfare::frame::Publication;
use fanfare::message::Received;
use fanfare::outbox::Sent;
use fanfare::service::presence::{AppPresence, Newcomer, PresenceRules};
use fanfare::service::{ConnectionRef, Question};
use fanfare::setting::Secret;
use fanfare::shard::{Id, Limits, Outgoing, Shard};
use fanfare::wheel::Now;
use hmac::{Hmac, Mac};
use std::hint::black_box;
use std::sync::Arc;

const NOW: Now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };
const MEMBERS: u64 = 1000;
const INFO: &str = r#"{"name":"Taro Yamada","avatar":"https://example.com/7.png"}"#;
const LEAVE: &str = r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-a"}}"#;

fn newcomer(user: &str) -> Newcomer<'_> {
    Newcomer {
        channel: "presence-a",
        user,
        info: INFO,
        listed_bytes: echo::listed_bytes(user, INFO),
    }
}

fn shard() -> Shard {
    let app = AppSettings {
        id: "1".into(),
        key: "key".into(),
        presence_members_max: 0,
        ..AppSettings::default()
    };
    let apps = vec![Arc::new(App::new(app, Secret("secret".into())))];
    let echo = echo::EchoSettings { apps, ..echo::EchoSettings::default() };
    Shard::new(
        Arc::new(Settings { echo, ..Settings::default() }),
        Limits::default(),
        Arc::default(),
        NOW,
    )
}

/// The message that joins the channel as a user. Sockets are numbered from 1 here.
fn joining(user: u64) -> String {
    let data = format!(r#"{{"user_id":{user},"user_info":{INFO}}}"#);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"secret").expect("any key will do");
    mac.update(format!("0.{user}:presence-a:{data}").as_bytes());
    let digits: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let data = serde_json::json!({
        "auth": format!("key:{digits}"),
        "channel": "presence-a",
        "channel_data": data,
    });
    serde_json::json!({"event": "pusher:subscribe", "data": data}).to_string()
}

fn connect(shard: &mut Shard) -> Id {
    let id = shard.accept(NOW);
    let upgrade = Upgrade { path: "/app/key", ..Upgrade::default() };
    assert!(shard.upgrade(id, &upgrade, Kind::ALL, b"", NOW));
    id
}

/// Hands questions to the owner of the presence and its answers to the sessions. Returns its
/// publications.
fn exchange(shard: &mut Shard) -> Vec<Arc<Publication>> {
    for (from, question) in shard.take_questions() {
        if let Question::Presence(question) = question {
            shard.ask_presence(from, *question, NOW);
        }
    }
    let mut publications = Vec::new();
    for outgoing in shard.take_outgoing() {
        match outgoing {
            Outgoing::Publication(publication) => publications.push(Arc::new(publication)),
            Outgoing::Answer(connection, answer) => shard.answer(connection, answer, NOW),
        }
    }
    publications
}

fn flush(shard: &mut Shard) {
    shard.flush(NOW, &mut |_: u32, bytes: &[u8]| Sent::Bytes(bytes.len()));
    shard.end_turn(NOW);
}

/// A channel with all users but the last, and the connection and the join of the last.
fn full() -> (Shard, Id, String) {
    let mut shard = shard();
    for user in 1..=MEMBERS {
        let id = connect(&mut shard);
        shard.receive(id, Received::Text(&joining(user)), NOW);
        exchange(&mut shard);
        flush(&mut shard);
    }
    let id = connect(&mut shard);
    flush(&mut shard);
    (shard, id, joining(MEMBERS + 1))
}

fn channel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("presence of 1000");
    let (mut shard, id, join) = full();
    group.bench_function("join and leave: for the member", |bencher| {
        bencher.iter(|| {
            shard.receive(id, Received::Text(black_box(&join)), NOW);
            let added = exchange(&mut shard);
            shard.receive(id, Received::Text(LEAVE), NOW);
            let removed = exchange(&mut shard);
            flush(&mut shard);
            assert_eq!((added.len(), removed.len()), (1, 1));
        });
    });
    shard.receive(id, Received::Text(&join), NOW);
    let added = exchange(&mut shard).remove(0);
    flush(&mut shard);
    group.throughput(Throughput::Elements(MEMBERS + 1));
    group.bench_function("a change: for all members", |bencher| {
        bencher.iter(|| {
            shard.deliver(black_box(&added), NOW);
            flush(&mut shard);
        });
    });
}

fn presence(criterion: &mut Criterion) {
    let connection = |id: u32| ConnectionRef { shard: 0, id, serial: id };
    let fill = || {
        let mut presence = AppPresence::default();
        for id in 0..MEMBERS as u32 {
            let user = id.to_string();
            presence.join(connection(id), newcomer(&user), PresenceRules::default(), &mut |_| {});
        }
        presence
    };
    criterion.bench_function("presence: join and leave among 1000", |bencher| {
        let step = |presence: &mut AppPresence| {
            presence.join(connection(5000), newcomer("x"), PresenceRules::default(), &mut |_| {});
            presence.leave(
                connection(5000),
                "presence-a",
                PresenceRules::default(),
                0,
                &mut |_| {},
            );
        };
        bencher.iter_batched_ref(fill, step, BatchSize::LargeInput);
    });
}

criterion_group!(benches, channel, presence);
criterion_main!(benches);
