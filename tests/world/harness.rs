//! What the tests share: a daemon in a process, a client that can break every rule, a publisher.

mod amqp;
mod authority;
mod broker;
mod client;
mod daemon;
mod echo;
mod eventually;
mod foreign;
mod frozen;
mod haproxy;
mod manual;
mod nginx;
mod pages;
mod publisher;
mod verifier;
// The tests of the bridge use more of it.
#[allow(dead_code)]
mod receiver;
mod redis;
mod script;
// Not for the tests of the cluster.
#[allow(dead_code)]
mod service;
#[allow(dead_code)]
mod watched;

pub(crate) use amqp::{RawPublisher, long, short};
pub(crate) use authority::{Authority, Signed, certificate};
pub(crate) use broker::{Broker, headers};
pub(crate) use client::{Client, head, http};
pub(crate) use daemon::{Daemon, Setup, clean, command};
pub(crate) use echo::{APP_SECRET, Echo, answer, echo_setup, hmac_of, post, signed};
pub(crate) use eventually::{DEADLINE, eventually, eventually_well, eventually_within};
pub(crate) use foreign::{npm, pypi, succeed};
pub(crate) use frozen::Frozen;
pub(crate) use haproxy::Haproxy;
pub(crate) use manual::{placed, shown};
pub(crate) use nginx::Nginx;
pub(crate) use pages::{
    APPS, LISTENED, MET, SIGNED_IN, apps_setup, assert_prints, assert_same, node,
};
// The tests of the cluster have other dialects beside.
#[allow(unused_imports)]
pub(crate) use pages::with_apps;
pub(crate) use publisher::{Publisher, event};
pub(crate) use receiver::Receiver;
pub(crate) use redis::Redis;
pub(crate) use script::script;
#[allow(unused_imports)]
pub(crate) use service::{Going, OPERATOR_TOKEN, Service};
pub(crate) use verifier::Verifier;
#[allow(unused_imports)]
pub(crate) use watched::{WATCHED, watched_metrics};

use fanfare::token::{Algorithm, mint};
use serde_json::{Map, Value};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What daemons verify tokens with.
pub(crate) const SECRET: &str = "a secret that only the tests know, and nobody else";

/// The cell of every test.
pub(crate) const PATH: &str = "/demo/__event";

/// A token for reading and publishing in the cell `demo`, signed with [`SECRET`].
pub(crate) fn token() -> String {
    token_with(SECRET, "event")
}

/// A token with another secret or scope.
pub(crate) fn token_with(secret: &str, scope: &str) -> String {
    token_of(secret, scope, "https://demo.example/#me")
}

/// A token of another client.
#[allow(dead_code)]
pub(crate) fn token_with_subject(subject: &str) -> String {
    token_of(SECRET, "event", subject)
}

fn token_of(secret: &str, scope: &str, subject: &str) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = Map::new();
    for (name, value) in [
        ("aud", Value::from("demo")),
        ("scope", scope.into()),
        ("sub", subject.into()),
        ("exp", (now_s + 3600).into()),
    ] {
        claims.insert(name.into(), value);
    }
    mint(Algorithm::HS256, secret.as_bytes(), &claims).unwrap()
}

/// Notes that a test could not be made here; `tests/run` prints the notes at its end.
pub(crate) fn skip(what: &str, reason: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{what}: {reason}").unwrap();
    eprintln!("skipped: {what}: {reason}");
}

/// Where `tests/run` installs the clients of others.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-tools")
}

/// Whether the tests run as root.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root()
}
