//! Clients and publishers of the dialect `echo`, for one app.

use super::{Client, Daemon, Setup, head};
use fanfare::dialect::echo::client::Signer;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The app's secret.
pub(crate) const APP_SECRET: &str = "app-secret";

/// A daemon with one app, whose id has digits alone because PyPI's `pusher` wants it so.
pub(crate) fn echo_setup() -> Setup {
    Setup::new()
        .set("listen.0.dialects", r#"["personium-event", "echo"]"#)
        .set("threads", 2)
        .set("echo.app.0.id", "7")
        .set("echo.app.0.key", "app-key")
        .set("echo.app.0.secret", APP_SECRET)
}

fn signer() -> Signer {
    Signer::new("7", "app-key", APP_SECRET)
}

/// HMAC-SHA256 with the app's secret, in hexadecimal digits.
pub(crate) fn hmac_of(text: &str) -> String {
    signer().sign(text)
}

/// The target of a request, signed.
pub(crate) fn signed(method: &str, target: &str, body: &str) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    signer().request(method, target, body.as_bytes(), now_s)
}

/// A signed POST with these lines among its headers.
pub(crate) fn post(path: &str, body: &str, headers: &str) -> String {
    let target = signed("POST", path, body);
    format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

/// The next answer, which leaves the connection open: status, head and body.
#[track_caller]
pub(crate) fn answer(client: &mut Client) -> (u16, String, String) {
    let (status, head) = client.accepted();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let body = client.exactly(length.unwrap_or("0").parse().unwrap());
    (status, head, String::from_utf8(body).unwrap())
}

/// A client that speaks Pusher's protocol.
pub(crate) struct Echo {
    pub(crate) client: Client,
    socket_id: String,
}

impl Echo {
    /// One that is connected.
    #[track_caller]
    pub(crate) fn connect(daemon: &Daemon) -> Self {
        let mut client = Client::raw(daemon.address);
        client.bytes(head("/app/app-key?protocol=7").as_bytes());
        assert_eq!(client.answer(), 101);
        let mut echo = Self { client, socket_id: String::new() };
        let (name, data) = echo.event();
        assert_eq!(name, "pusher:connection_established");
        data["socket_id"].as_str().unwrap().clone_into(&mut echo.socket_id);
        echo
    }

    /// The next event: its name and its data, which come as a string that holds JSON.
    #[track_caller]
    pub(crate) fn event(&mut self) -> (String, Value) {
        let event: Value = serde_json::from_str(&self.client.text()).unwrap();
        let data = event["data"]
            .as_str()
            .map_or(Value::Null, |data| serde_json::from_str(data).unwrap_or_else(|_| data.into()));
        (event["event"].as_str().unwrap().to_owned(), data)
    }

    /// Reads until an event of this name.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.event();
            if found == name {
                return data;
            }
            assert_ne!(found, "pusher:error", "{data}");
        }
    }

    pub(crate) fn send(&mut self, event: &str, more: Value) {
        let mut message = more;
        message["event"] = event.into();
        self.client.say(&message.to_string());
    }

    /// Asks to be in a public channel.
    pub(crate) fn ask_for(&mut self, channel: &str) {
        self.send("pusher:subscribe", json!({"data": {"channel": channel}}));
    }

    /// Is in a channel, as a user if there is one, when this returns.
    #[track_caller]
    pub(crate) fn join(&mut self, channel: &str, user: Option<&str>) {
        self.ask_to_join(channel, user);
        self.until("pusher_internal:subscription_succeeded");
    }

    /// Asks to be in a channel, as a user if there is one, signed where the channel demands it.
    pub(crate) fn ask_to_join(&mut self, channel: &str, user: Option<&str>) {
        let mut data = json!({"channel": channel});
        if channel.starts_with("presence-") || channel.starts_with("private-") {
            let shown =
                user.map(|user| json!({"user_id": user, "user_info": {"name": user}}).to_string());
            data["auth"] = signer().channel(&self.socket_id, channel, shown.as_deref()).into();
            data["channel_data"] = shown.into();
        }
        self.send("pusher:subscribe", json!({"data": data}));
    }

    /// Leaves a channel.
    pub(crate) fn leave(&mut self, channel: &str) {
        self.send("pusher:unsubscribe", json!({"data": {"channel": channel}}));
    }
}
