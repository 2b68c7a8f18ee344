//! The client's end of Laravel Echo: first the socket's id, then subscriptions, signed with a
//! secret where they are not public, then events; and requests that publish events, signed with
//! that secret too.

use crate::dialect::client::{
    ClientExample, ClientHeard, ClientProfile, ClientStage, ClientStep, ClientWish, DialectClient,
    REDIS_SETUP, RequestSigner, Sample, SetupFiles, Site, Subscriber, TokenPlace, TrialPlace,
};
use crate::text::hex;
use md5::{Digest as _, Md5};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

/// Id and key of the app of a daemon started for a measurement.
const APP: (&str, &str) = ("bench", "bench-key");

/// Id and key of the development set-up's app.
const TRIAL_APP: (&str, &str) = ("app-id", "app-key");

/// A client of an app.
pub(super) struct EchoClient;

/// The beginning of a message.
#[derive(Deserialize)]
struct EventHead {
    event: String,
    #[serde(default)]
    data: Value,
}

impl DialectClient for EchoClient {
    fn profile(&self) -> ClientProfile {
        ClientProfile {
            option: Some("--echo"),
            has_secret: true,
            ..ClientProfile::new("Laravel Echo", TokenPlace::Nowhere)
        }
    }

    fn prepare(&self, path: &str, wish: &mut ClientWish) -> Result<(), String> {
        let key = path.rsplit_once("/app/").map(|(_, key)| key);
        let Some(key) = key.filter(|key| !key.is_empty() && !key.contains('/')) else {
            return Err(
                "the URL of Laravel Echo ends in /app/KEY, as in ws://localhost:8080/app/app-key"
                    .into(),
            );
        };
        key.clone_into(&mut wish.key);
        // Before connecting: the daemon would only say that the signature is missing.
        let secured = wish
            .names
            .iter()
            .find(|name| name.starts_with("private-") || name.starts_with("presence-"));
        match secured.filter(|_| wish.secret.is_none()) {
            None => Ok(()),
            Some(channel) => Err(format!(
                "{channel} needs authorization: give the app's secret with --secret-file, which \
                 signs for it"
            )),
        }
    }

    fn step(&self, stage: ClientStage, wish: &ClientWish, answer: &str) -> Option<ClientStep> {
        match stage {
            // The greeting comes unasked; its socket id is part of what is signed.
            ClientStage::Token => Some(ClientStep { say: Vec::new(), answers: 1 }),
            ClientStage::Subscription => {
                let socket = socket_id(answer).unwrap_or_default();
                let say: Vec<String> =
                    wish.names.iter().map(|name| subscribe(wish, &socket, name)).collect();
                let answers = say.len();
                Some(ClientStep { say, answers })
            }
            ClientStage::Following => None,
        }
    }

    fn read(&self, _: ClientStage, text: &str) -> ClientHeard {
        let Ok(EventHead { event, .. }) = serde_json::from_str(text) else {
            return ClientHeard::Event;
        };
        match event.as_str() {
            "pusher:connection_established" => ClientHeard::Success("connected"),
            "pusher:ping" => ClientHeard::Question(r#"{"event":"pusher:pong","data":{}}"#),
            "pusher_internal:subscription_succeeded" => ClientHeard::Success("subscribed"),
            "pusher:subscription_error" => ClientHeard::Refusal(text.to_owned()),
            // Errors of the connection are repeated by its close.
            "pusher:error" | "pusher:cache_miss" => ClientHeard::Note,
            _ => ClientHeard::Event,
        }
    }

    fn refusal(&self, _: &ClientWish, reason: &str) -> String {
        let is_unsigned = reason.contains("\"AuthError\"");
        let advice = if is_unsigned { "; is the secret of --secret-file the app's?" } else { "" };
        format!("the daemon refused the subscription: {reason}{advice}")
    }

    fn meaning(&self, code: u16, _: ClientStage) -> Option<&'static str> {
        Some(match code {
            4001 => "the key in the URL belongs to no app of the daemon",
            4003 => "the app is not enabled, or a reload has removed it",
            4004 => "the app has no room; see its max_connections",
            4009 => {
                "the app's allowed_origins admits pages of certain origins only, and this \
                 command has none; or the application has closed the connection"
            }
            4100 => "we read too slowly, or the daemon is stopping; connect again",
            _ => return None,
        })
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/app/app-key",
            claims: Value::Null,
            options: "",
            place: "echo/app-id",
            event: r#"{"name":"App\\Events\\MessageSent","channels":["room"],"data":"{\"message\":\"Hello World\"}"}"#,
        }
    }

    fn trial_table(&self, secret_file: &str) -> Option<String> {
        let (id, key) = TRIAL_APP;
        Some(format!("[[echo.app]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret_file = {secret_file}\n"))
    }

    /// What to paste into a Laravel application and its page.
    fn welcome(&self, trial: &TrialPlace<'_>) -> String {
        let ClientExample { path, place, event, .. } = self.example();
        let TrialPlace { address, program, socket, secret, .. } = trial;
        let over_tls = trial.over_tls.unwrap_or_default();
        let ((host, port), (_, tls_port)) = (host_and_port(address), host_and_port(over_tls));
        let (id, key) = TRIAL_APP;
        format!(
            "\necho\n  url        ws://{address}{path}\n  with TLS   wss://{over_tls}{path}\n\
             \n  Laravel    its .env, then `php artisan config:clear`\n\
             BROADCAST_CONNECTION=pusher\nPUSHER_APP_ID={id}\nPUSHER_APP_KEY={key}\n\
             PUSHER_APP_SECRET={secret}\nPUSHER_HOST={host}\nPUSHER_PORT={port}\n\
             PUSHER_SCHEME=http\nPUSHER_APP_CLUSTER=mt1\n\
             \n  its page   with laravel-echo and pusher-js\n\
             new Echo({{broadcaster:\"pusher\",key:\"{key}\",cluster:\"mt1\",wsHost:\"{host}\",\
             wsPort:{port},wssPort:{tls_port},forceTLS:false,enabledTransports:[\"ws\",\"wss\"]}})\n\
             \n  follow it  {program} subscribe ws://{address}{path} --echo room\n\
             \n  publish    {program} publish{socket} {place} '{event}'\n"
        )
    }

    fn setup(&self, files: &SetupFiles) -> Vec<String> {
        let (id, key) = TRIAL_APP;
        let app = format!(
            "# The application, as its .env has it: PUSHER_APP_ID, PUSHER_APP_KEY, and the secret in\n\
             # this file as PUSHER_APP_SECRET. More applications have an [[echo.app]] each.\n\
             [[echo.app]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret_file = {}\n",
            files.own
        );
        vec![app, REDIS_SETUP.to_owned()]
    }

    fn table(&self, secret: &str) -> String {
        let (id, key) = APP;
        format!("[[echo.app]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"")
    }

    fn path(&self, subscriber: &Subscriber<'_>) -> String {
        let query = "protocol=7&client=js&version=8.4.0&flash=false";
        subscriber.given.map_or_else(|| format!("/app/{}?{query}", APP.1), str::to_owned)
    }

    fn sample(&self, _: &Site, topic: &str, _: usize) -> Sample {
        Sample {
            address: format!("echo/{}", APP.0),
            fed: (format!(r#"{{"name":"bench","channels":["{topic}"],"data":""#), r#""}"#),
            delivered: (format!(r#"{{"event":"bench","channel":"{topic}","data":""#), r#""}"#),
            is_wrapped: false,
        }
    }

    fn request_signer(&self, secret: &str) -> Option<RequestSigner> {
        let signer = Signer::new(APP.0, APP.1, secret);
        Some(Box::new(move |body, now_s| signer.publish(body, now_s)))
    }
}

/// The connection's id in the daemon's greeting.
fn socket_id(greeting: &str) -> Option<String> {
    let EventHead { data, .. } = serde_json::from_str(greeting).ok()?;
    // The data are JSON in a string, as in every event of the protocol.
    let data: Value = serde_json::from_str(data.as_str()?).ok()?;
    Some(data["socket_id"].as_str()?.to_owned())
}

/// The message that subscribes a connection to a channel.
fn subscribe(wish: &ClientWish, socket: &str, channel: &str) -> String {
    // Presence channels need a member, who must not collide with a user of the application.
    let member = channel.starts_with("presence-").then(|| {
        let user = format!("fanfare-{socket}");
        json!({ "user_id": user, "user_info": { "name": "fanfare subscribe" } }).to_string()
    });
    let mut data = json!({ "channel": channel });
    if let Some(secret) = &wish.secret {
        let signer = Signer::new("", &wish.key, secret);
        data["auth"] = signer.channel(socket, channel, member.as_deref()).into();
        data["channel_data"] = member.into();
    }
    json!({ "event": "pusher:subscribe", "data": data }).to_string()
}

/// Signs on behalf of an app.
#[derive(Clone, Debug)]
pub struct Signer {
    id: String,
    key: String,
    secret: hmac::Key,
}

impl Signer {
    /// A signer with the app's id, key and secret.
    #[must_use]
    pub fn new(id: &str, key: &str, secret: &str) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self { id: id.into(), key: key.into(), secret }
    }

    /// The signature of a text.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        hex(hmac::sign(&self.secret, text.as_bytes()).as_ref())
    }

    /// The authorization of a connection for a channel, as a member if one is given.
    #[must_use]
    pub fn channel(&self, socket: &str, channel: &str, member: Option<&str>) -> String {
        let member = member.map_or_else(String::new, |member| format!(":{member}"));
        format!("{}:{}", self.key, self.sign(&format!("{socket}:{channel}{member}")))
    }

    /// Path and query of a request made now (unix time in s). The query of `target` may have more
    /// parameters.
    #[must_use]
    pub fn request(&self, method: &str, target: &str, body: &[u8], now_s: u64) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let digest = hex(&Md5::digest(body));
        let own = format!(
            "auth_key={}&auth_timestamp={now_s}&auth_version=1.0&body_md5={digest}",
            self.key
        );
        // Signed in the order of the names, whatever the order in which they are sent.
        let query = if query.is_empty() {
            own
        } else {
            let mut parameters: Vec<&str> = own.split('&').chain(query.split('&')).collect();
            parameters.sort_unstable();
            parameters.join("&")
        };
        let signature = self.sign(&format!("{method}\n{path}\n{query}"));
        format!("{path}?{query}&auth_signature={signature}")
    }

    /// Path and query of a request that publishes an event.
    #[must_use]
    pub fn publish(&self, body: &[u8], now_s: u64) -> String {
        self.request("POST", &format!("/apps/{}/events", self.id), body, now_s)
    }
}

/// Host and port of an address; an IPv6 host without its brackets.
fn host_and_port(address: &str) -> (&str, &str) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_matches(['[', ']']), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client::ClientTalk;

    fn wish(channels: &[&str]) -> ClientWish {
        let names = channels.iter().map(|channel| (*channel).to_owned()).collect();
        let mut wish =
            ClientWish { names, secret: Some("app-secret".into()), ..ClientWish::default() };
        EchoClient.prepare("/app/app-key", &mut wish).unwrap();
        wish
    }

    #[test]
    fn channels_are_signed_with_the_socket_id_and_events_follow() {
        let mut talk =
            ClientTalk::new(&EchoClient, wish(&["room", "private-Chat.1", "presence-r"]));
        assert!(talk.open().is_empty());
        let hello = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1234.1234\",\"activity_timeout\":120}"}"#;
        let (told, say) = talk.hear(hello);
        assert_eq!(told, ClientHeard::Success("connected"));
        // The specification's own example.
        assert!(
            say[1].contains(
                "app-key:138cad1ae9a9977bb38b9b4df13c4bc69aeea8db94776e47190df96767284dda"
            ),
            "{}",
            say[1]
        );
        assert!(
            say[2].contains(r#""channel_data":"{\"user_id\":\"fanfare-1234.1234\""#),
            "{}",
            say[2]
        );
        for channel in ["room", "private-Chat.1", "presence-r"] {
            assert_eq!(talk.stage(), ClientStage::Subscription, "{channel}");
            let succeeded = format!(
                r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
            );
            assert_eq!(talk.hear(&succeeded), (ClientHeard::Success("subscribed"), vec![]));
        }
        let pong = r#"{"event":"pusher:pong","data":{}}"#;
        let ping = talk.hear(r#"{"event":"pusher:ping","data":"{}"}"#);
        assert_eq!(ping, (ClientHeard::Question(pong), vec![pong.to_owned()]));
        assert_eq!(talk.hear(r#"{"event":"e","channel":"room","data":"1"}"#).0, ClientHeard::Event);
        for (code, word) in
            [(4001, "key"), (4003, "enabled"), (4004, "max_connections"), (4100, "too slowly")]
        {
            assert!(talk.meaning(code).contains(word), "{code}");
        }
    }

    #[test]
    fn a_refusal_tells_why_and_a_secret_is_asked_for_where_one_is_needed() {
        let mut talk = ClientTalk::new(&EchoClient, wish(&["private-x"]));
        let error = r#"{"event":"pusher:subscription_error","channel":"private-x","data":{"type":"AuthError","error":"…","status":401}}"#;
        assert_eq!(talk.hear(error).0, ClientHeard::Refusal(error.into()));
        assert!(talk.refusal(error).ends_with("; is the secret of --secret-file the app's?"));
        let unsigned = |path: &str, channel: &str| {
            let mut wish = ClientWish { names: vec![channel.into()], ..ClientWish::default() };
            EchoClient.prepare(path, &mut wish).map(|()| wish.key)
        };
        assert!(unsigned("/app/k", "private-x").unwrap_err().starts_with("private-x needs"));
        assert_eq!(unsigned("/prefix/app/k", "room").unwrap(), "k");
        assert!(unsigned("/app/", "room").is_err() && unsigned("/c/__event", "room").is_err());
    }

    #[test]
    fn a_request_is_signed_with_its_parameters_in_order() {
        let signer = Signer::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8");
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        // The specification's own example.
        let expected = "/apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
                        &body_md5=ec365a775a4cd0599faeb73354201b6f\
                        &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
        assert_eq!(signer.publish(body.as_bytes(), 1_353_088_179), expected);
        let listed = signer.request("GET", "/apps/3/channels?info=user_count", b"", 1);
        assert!(listed.contains("&info=user_count&auth_signature="), "{listed}");
    }
}
