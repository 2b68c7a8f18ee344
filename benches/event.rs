//! Ingestion of an event: parsing alone, and all that a feed does with a line (address, parsing,
//! both forms).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::dialect::Kind;
use fanfare::event::Parser;
use fanfare::feed::Intake;
use fanfare::wheel::Now;

/// The event of the Personium documentation, padded to this many bytes.
fn event(bytes: usize) -> String {
    let with = |info: &str| {
        format!(
            concat!(
                r#"{{"Type":"chat","RequestKey":null,"Schema":"","External":true,"#,
                r#""Object":"general","Info":"{info}","cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","#,
                r#""Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}}"#
            ),
            info = info
        )
    };
    with(&"Hello World".repeat(100)[..11 + bytes - with("Hello World").len()])
}

fn events(criterion: &mut Criterion) {
    let shortest = event(186).len();
    assert_eq!(shortest, 186);
    for bytes in [186, 1024] {
        let json = event(bytes);
        let mut group = criterion.benchmark_group(format!("event of {bytes} bytes"));
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut parser = Parser::default();
        group.bench_function("parse", |bencher| {
            bencher
                .iter(|| parser.parse(black_box(json.as_bytes()), |event| event.fields().count()));
        });
        let mut intake = Intake::new(Kind::ALL.to_vec(), std::sync::Arc::default());
        group.bench_function("take: address, parse, two frames", |bencher| {
            bencher.iter(|| {
                let publish = &mut |publication| drop(black_box(publication));
                intake.take(
                    black_box("event/john.doe"),
                    black_box(json.as_bytes()),
                    Now::default(),
                    publish,
                )
            });
        });
    }
}

criterion_group!(benches, events);
criterion_main!(benches);
