//! A shard without a kernel: the cost to deliver events to many sessions when every socket accepts
//! all bytes, and to open a session.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::dialect::{Kind, Settings, Upgrade, personium};
use fanfare::feed::Intake;
use fanfare::frame::Publication;
use fanfare::message::Received;
use fanfare::outbox::Sent;
use fanfare::shard::{Limits, Shard};
use fanfare::token::Verifier;
use fanfare::wheel::Now;

const NOW: Now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };
const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                          Connection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn shard() -> Shard {
    let settings = toml::from_str("static = { file = 'tokens.toml' }").expect("settings are TOML");
    let tokens = b"[[token]]\ntoken = 'a token'\naud = 'john.doe'\nscope = 'event-read'\n";
    let verifier = Verifier::new(&settings, Some(tokens)).expect("the list is valid");
    let personium = personium::PersoniumSettings { verifier: Some(verifier), ..Default::default() };
    Shard::new(
        Arc::new(Settings { personium, ..Settings::default() }),
        Limits::default(),
        Arc::default(),
        NOW,
    )
}

/// Opens a session: handshake, token and one subscription.
fn join(shard: &mut Shard) {
    let id = shard.accept(NOW);
    let upgrade =
        Upgrade { path: "/john.doe/__event", host: "demo.personium.io", ..Default::default() };
    assert!(shard.upgrade(id, &upgrade, Kind::ALL, RESPONSE, NOW));
    for text in [r#"{"access_token":"a token"}"#, r#"{"subscribe":{"Type":"chat","Object":"*"}}"#] {
        shard.receive(id, Received::Text(text), NOW);
    }
}

fn flush(shard: &mut Shard) -> usize {
    let mut written = 0;
    shard.flush(NOW, &mut |_: u32, bytes: &[u8]| {
        written += bytes.len();
        Sent::Bytes(bytes.len())
    });
    shard.end_turn(NOW);
    written
}

fn publication() -> Arc<Publication> {
    let json = concat!(
        r#"{"Type":"chat","Object":"general","Info":"Hello World","#,
        r#""cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","Subject":"https:\/\/demo.example\/"}"#
    );
    let mut publication = None;
    let mut intake = Intake::new(Kind::ALL.to_vec(), Arc::default());
    let taken = intake.take("event/john.doe", json.as_bytes(), NOW, &mut |published| {
        publication = Some(published);
    });
    taken.expect("the event is valid");
    Arc::new(publication.expect("the dialect is spoken"))
}

fn delivering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver");
    let publication = publication();
    for sessions in [1_000, 10_000] {
        let mut shard = shard();
        (0..sessions).for_each(|_| join(&mut shard));
        flush(&mut shard);
        for events in [1, 16] {
            group.throughput(Throughput::Elements(sessions * events));
            group.bench_function(format!("{events} a turn to {sessions}"), |bencher| {
                bencher.iter(|| {
                    (0..events).for_each(|_| shard.deliver(black_box(&publication), NOW));
                    let written = flush(&mut shard);
                    assert_eq!(
                        written as u64,
                        sessions * events * publication.frame(0).len() as u64
                    );
                });
            });
        }
    }
}

fn joining(criterion: &mut Criterion) {
    criterion.bench_function("join 1000: handshake, token, subscription", |bencher| {
        let run = |shard: &mut Shard| {
            (0..1000).for_each(|_| join(shard));
            flush(shard)
        };
        bencher.iter_batched_ref(shard, run, BatchSize::PerIteration);
    });
}

criterion_group!(benches, delivering, joining);
criterion_main!(benches);
