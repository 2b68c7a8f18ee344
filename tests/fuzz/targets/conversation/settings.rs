//! The settings of a conversation: small limits, so that short scripts reach them, and remote
//! verifiers.

use fanfare::dialect::echo::{App, AppSettings, EchoSettings};
use fanfare::dialect::{Kind, Settings, channel, personium, pulsar, wazo};
use fanfare::setting::Secret;
use fanfare::shard::Limits;
use fanfare::token::{TokenSettings, Verifier};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes that may wait for a client.
pub(super) const OUTBOX_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of a client's message.
const MESSAGE_BYTES_MAX: usize = 4096;
/// The secret of Echo's app.
pub(super) const SECRET: &str = "app-secret";
/// Maximum number of subscriptions of all clients.
const SUBSCRIPTIONS_MAX: usize = 64;

/// The tokens of the dialect's own tests; any other is unknown.
fn tokens(kind: Kind) -> &'static str {
    match kind {
        Kind::PersoniumEvent => include_str!("tokens/personium_event.toml"),
        Kind::PersoniumTopic => include_str!("tokens/personium_topic.toml"),
        Kind::Channel => include_str!("tokens/channel.toml"),
        Kind::Pulsar => include_str!("tokens/pulsar.toml"),
        Kind::Wazo => include_str!("tokens/wazo.toml"),
        _ => "",
    }
}

pub(in crate::targets) fn limits() -> Limits {
    Limits {
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        subscriptions_max: SUBSCRIPTIONS_MAX,
        ..Limits::default()
    }
}

thread_local! {
    /// Settings made so far, because making them would take most of a short script's time. An app
    /// in them counts its connections, of which the end of a script leaves none.
    static MADE: RefCell<HashMap<(Kind, bool), Arc<Settings>>> = RefCell::default();
}

/// Settings of all dialects, with a list of tokens or with a remote verifier.
pub(in crate::targets) fn settings(kind: Kind, asks: bool) -> Arc<Settings> {
    MADE.with_borrow_mut(|made| {
        Arc::clone(made.entry((kind, asks)).or_insert_with(|| Arc::new(make(kind, asks))))
    })
}

fn make(kind: Kind, asks: bool) -> Settings {
    let remote = |text| asks.then(|| verifier(text, None));
    let listed = || Some(verifier("static = { file = 'tokens.toml' }", Some(tokens(kind))));
    let introspection = "introspection = { url = 'http://issuer/' }";
    Settings {
        personium: personium::PersoniumSettings {
            verifier: remote(introspection).or_else(listed),
            text_bytes_max: MESSAGE_BYTES_MAX,
            subscriptions_max: 8,
            ..Default::default()
        },
        channel: channel::ChannelSettings {
            verifier: listed(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            relay: channel::Relay::Redis,
            ..Default::default()
        },
        wazo: wazo::WazoSettings {
            verifier: remote("wazo_auth = { url = 'http://pbx/' }").or_else(listed),
            message_bytes_max: MESSAGE_BYTES_MAX,
            subscriptions_max: 8,
            master_tenant_uuid: Some("master".into()),
            ..Default::default()
        },
        pulsar: pulsar::PulsarSettings {
            verifier: remote(introspection).or_else(listed),
            auth_challenge_s: 10,
            ..Default::default()
        },
        echo: EchoSettings { apps: vec![app()], ..EchoSettings::default() },
        ..Settings::default()
    }
}

fn app() -> Arc<App> {
    let webhook = toml::from_str("url = 'http://127.0.0.1:9/'").expect("a webhook");
    let app = AppSettings {
        id: "app-id".into(),
        key: "app-key".into(),
        public_client_events: true,
        subscription_count: true,
        max_connections: 8,
        subscriptions_max: 8,
        presence_members_max: 3,
        member_bytes_max: 64,
        cache_ttl_s: 20,
        cache_entries_max: 2,
        message_bytes_max: MESSAGE_BYTES_MAX,
        webhook: vec![webhook],
        ..AppSettings::default()
    };
    Arc::new(App::new(app, Secret(SECRET.into())))
}

fn verifier(text: &str, material: Option<&str>) -> Verifier {
    let settings: TokenSettings = toml::from_str(text).expect("settings are TOML");
    Verifier::new(&settings, material.map(str::as_bytes)).expect("a verifier")
}

/// The path of a dialect's endpoint.
pub(super) fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::PersoniumEvent => "/john.doe/__event",
        Kind::PersoniumTopic => "/cell1/__topic/box1/stream-collection1.topic.name",
        Kind::Channel => "/?token=ann",
        Kind::Echo => "/app/app-key?protocol=7&client=js&version=8.6.0&flash=false",
        Kind::Pulsar => "/ws/v2/consumer/persistent/t/n/x/s?token=all",
        _ => "/?token=ann",
    }
}
