//! The cost of one candidate: checking an event's required access against the list of a token.
//!
//! Sessions with four lists take turns, as the candidates of an event do, so that branches are
//! predicted no better than in a daemon. The lists are excerpts of Wazo's policies for users and
//! administrators.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::dialect::wazo::{Acl, Who};
use std::hint::black_box;

const USER: [&str; 20] = [
    "websocketd",
    "auth.users.me.#",
    "calld.users.me.calls.#",
    "confd.users.me.read",
    "events.calls.me",
    "events.calls.me.#",
    "events.conferences.users.me.participants.#",
    "events.chat.message.*.me",
    "events.chatd.users.me.rooms.#",
    "events.users.me.#",
    "events.users.*.presences",
    "events.users.*.presences.updated",
    "events.lines.*.status",
    "events.endpoints.#",
    "events.switchboards.*.calls.*.updated",
    "events.directory.me.favorite.#",
    "events.voicemails.me.messages.#",
    "events.transfers.me.#",
    "events.config.#",
    "!events.admin.#",
];

/// Different lists: the one above, parts of it, and one that grants everything but an exception.
fn lists() -> Vec<Acl> {
    let wide: Vec<&str> =
        ["#", "!events.users.*.secret"].into_iter().chain(USER).take(20).collect();
    let mut reversed = USER.to_vec();
    reversed.reverse();
    reversed[0] = "!events.agents.#";
    let mut other = USER.to_vec();
    other[13] = "events.agents.*.status";
    [&USER[..], &wide, &reversed, &other]
        .into_iter()
        .map(|list| Acl::new(list).expect("it is short"))
        .collect()
}

fn candidates(criterion: &mut Criterion) {
    let uuids: Vec<String> =
        (0..64).map(|n| format!("{n:08x}-7d3a-4b1e-9c55-0242ac120{n:03}")).collect();
    let lists = lists();
    let mut group = criterion.benchmark_group("acl");
    for (name, required) in [
        ("own call", format!("events.calls.{}", uuids[7])),
        ("presence", format!("events.users.{}.presences.updated", uuids[7])),
        ("endpoint", "events.endpoints".into()),
        ("denied", "events.admin.settings.changed".into()),
        ("not matched", format!("events.trunks.{}.status.updated", uuids[7])),
        ("another's room", format!("events.chatd.users.{}.rooms.messages.created", uuids[40])),
    ] {
        group.throughput(Throughput::Elements(uuids.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut allowed = 0;
                for (n, uuid) in uuids.iter().enumerate() {
                    let who = Who { user: uuid, session: uuid };
                    // Not in the order of the lists, which the branch predictor would learn.
                    allowed += u32::from(
                        lists[n * 7 / 3 % lists.len()].allows(black_box(required.as_bytes()), who),
                    );
                }
                allowed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, candidates);
criterion_main!(benches);
