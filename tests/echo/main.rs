//! Conversations with Laravel Echo; `conversation` tells how they are written.
//!
//! `opening`: who is let in. `session`: from then to the end. `channels`: subscriptions, byte for byte. `presence`,
//! `whispers`, `signin`, `cache`: what channels can do. `storm`: presence over several shards, held against a model.

#![allow(clippy::unwrap_used)]

#[path = "../conversation/mod.rs"]
mod conversation;
mod storm;

use fanfare::dialect::Settings;
use fanfare::dialect::echo::{App, AppSettings, Secret, Settings as EchoSettings};
use hmac::{Hmac, Mac};
use std::fmt::Write as _;
use std::sync::Arc;

const HOST: &str = "127.0.0.1:6001";
const PATH: &str = "/app/app-key?protocol=7&client=js&version=8.6.0&flash=false";

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
