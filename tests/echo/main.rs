//! Conversations with Laravel Echo; `conversation` tells how they are written.
//!
//! `opening`: who is let in. `session`: from then to the end. `channels`: subscriptions, byte for byte. `presence`,
//! `whispers`, `signin`, `cache`: what channels can do. `event`, `rest`: what is
//! published. `serving`: requests that wait for the owner of the presence. `whole`: publishers and clients together,
//! over several shards. `storm`: presence over several shards, held against a model.

#![allow(clippy::unwrap_used)]

mod cache;
mod channels;
#[path = "../conversation/mod.rs"]
mod conversation;
mod event;
mod handover;
mod opening;
mod presence;
mod rest;
mod serving;
mod session;
mod signin;
mod storm;
mod whispers;
mod whole;

use conversation::Bus;
use fanfare::dialect::Settings;
use fanfare::dialect::echo::{App, AppSettings, EchoReach, EchoSettings};
use fanfare::frame::{Draft, Publication};
use fanfare::service::webhook::Webhook;
use fanfare::service::webhook::WebhookSettings;
use fanfare::setting::Secret;
use fanfare::wheel::Now;
use hmac::{Hmac, Mac};
use std::fmt::Write as _;
use std::sync::Arc;

const HOST: &str = "127.0.0.1:6001";
const PATH: &str = "/app/app-key?protocol=7&client=js&version=8.6.0&flash=false";

const KIND: fanfare::dialect::Kind = fanfare::dialect::Kind::Echo;

const APP: &str = "app-id";
const SECRET: &str = "app-secret";

fn app_settings() -> AppSettings {
    AppSettings { id: APP.into(), key: "app-key".into(), ..AppSettings::default() }
}

/// Settings of one app.
fn settings(app: AppSettings) -> Settings {
    let apps = vec![Arc::new(App::new(app, Secret(SECRET.into())))];
    Settings { echo: EchoSettings { apps, ..EchoSettings::default() }, ..Settings::default() }
}

/// What the app's own server gives a client: the key and a signature.
fn sign(text: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let mut signed = "app-key:".to_owned();
    mac.finalize().into_bytes().iter().for_each(|byte| write!(signed, "{byte:02x}").unwrap());
    signed
}

/// A daemon with one app, changed so.
fn bus(change: impl FnOnce(&mut AppSettings)) -> Bus {
    let mut app = app_settings();
    change(&mut app);
    Bus::of(settings(app))
}

/// A client comes. Returns its socket id.
fn come(bus: &mut Bus, name: &str) -> String {
    bus.connect(name, PATH, HOST);
    let heard = bus.heard(name);
    let established: serde_json::Value = serde_json::from_str(&heard[1]).unwrap();
    let data: serde_json::Value =
        serde_json::from_str(established["data"].as_str().unwrap()).unwrap();
    data["socket_id"].as_str().unwrap().to_owned()
}

/// The message that subscribes to a channel, signed, with the data of a member or without.
fn subscription(socket: &str, channel: &str, data: Option<&str>) -> String {
    let signed = data.map_or_else(String::new, |data| format!(":{data}"));
    let auth = sign(&format!("{socket}:{channel}{signed}"));
    let data = serde_json::json!({"channel": channel, "auth": auth, "channel_data": data});
    serde_json::json!({"event": "pusher:subscribe", "data": data}).to_string()
}

/// An event as a publisher's side drafts it.
fn publication(
    channel: &str,
    data: &str,
    reach: EchoReach,
    retain_s: u32,
    now: Now,
) -> Arc<Publication> {
    let mut draft = Draft::default();
    draft.address(&[b"e", APP.as_bytes(), b"\0", channel.as_bytes(), b"\0"], b"");
    let (meta, length) = reach.meta();
    draft.meta(&meta[..length]);
    draft.retain(retain_s);
    draft.text(|out| out.extend_from_slice(data.as_bytes()));
    Arc::new(draft.finish(now))
}

/// An event of a server, for all subscribers of a channel.
fn publish(bus: &mut Bus, channel: &str, data: &str) {
    let publication = publication(channel, data, EchoReach::All, 0, bus.now);
    bus.shard.deliver(&publication, bus.now);
    bus.flush();
}

/// What webhooks are told since somebody looked.
fn told(bus: &mut Bus) -> Vec<String> {
    let show = |webhook| match webhook {
        Webhook::Event(webhook) => webhook.json.into(),
        Webhook::Callback(callback) => panic!("{callback:?}"),
    };
    std::mem::take(&mut bus.webhooks).into_iter().map(show).collect()
}

/// A webhook that wants everything.
fn webhook() -> WebhookSettings {
    toml::from_str("url = 'http://127.0.0.1:9/'").unwrap()
}
