//! What one candidate costs: a required access against the list of a token.

use criterion::{Criterion, criterion_group, criterion_main};
fn all(_: &mut Criterion) {}
criterion_group!(benches, all);
criterion_main!(benches);
