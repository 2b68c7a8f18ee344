//! Encoding: a text frame for one connection, and a publication in two forms.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fanfare::frame::{Draft, put_text};
use fanfare::wheel::Now;

fn building(criterion: &mut Criterion) {
    for bytes in [128, 1024] {
        let payload = vec![b'x'; bytes];
        let mut out = Vec::new();
        criterion.bench_function(&format!("frame of {bytes} bytes/text"), |bencher| {
            bencher.iter(|| {
                out.clear();
                put_text(&mut out, |out| out.extend_from_slice(black_box(&payload)))
            });
        });
        let mut draft = Draft::default();
        criterion.bench_function(
            &format!("frame of {bytes} bytes/publication of two forms"),
            |bencher| {
                bencher.iter(|| {
                    draft.address(&[b"p", b"john.doe", b"\0\x01", b"general"], b"chat");
                    draft.text(|out| out.extend_from_slice(black_box(&payload)));
                    draft.text(|out| out.extend_from_slice(black_box(&payload)));
                    draft.finish(Now::default())
                });
            },
        );
    }
}

criterion_group!(benches, building);
criterion_main!(benches);
