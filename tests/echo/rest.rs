//! The HTTP API: every route with its answers, and the errors in their order.

use fanfare::dialect::echo::{App, AppSettings, EchoReach, SocketId};
use fanfare::dialect::{Action, Actions, Context, Kind, Request, Served, Settings};
use fanfare::frame::{Draft, Publication};
use fanfare::retained::Retained;
use fanfare::service::ConnectionRef;
use fanfare::service::Question;
use fanfare::service::presence::{
    AppPresence, ChannelInquiry, Newcomer, OccupiedChannels as _, PresenceChange, PresenceQuestion,
    PresenceRequest, PresenceRules,
};
use fanfare::setting::Secret;
use fanfare::wheel::Now;
use hmac::{Hmac, Mac as _};
use md5::Digest as _;
use std::sync::Arc;

/// When everybody's clock says so.
pub(crate) const NOW_S: u64 = 1_700_000_000;
const NOW: Now = Now { monotonic_ns: 0, unix_ms: NOW_S * 1000 };

/// A server with one app, which the test may have other than usual.
pub(crate) struct Server {
    pub(crate) settings: Settings,
}

impl Server {
    pub(crate) fn new(change: impl FnOnce(&mut AppSettings)) -> Self {
        let mut app =
            AppSettings { id: "app-id".into(), key: "app-key".into(), ..Default::default() };
        change(&mut app);
        let mut settings = Settings::default();
        settings.echo.apps = vec![Arc::new(App::new(app, Secret("app-secret".into())))];
        Self { settings }
    }

    /// Status, body and publications of a request as it is.
    pub(crate) fn ask(
        &self,
        method: &str,
        target: &str,
        body: &str,
    ) -> (u16, String, Vec<Publication>, Option<ChannelInquiry>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (mut parser, mut draft, mut shared) = Default::default();
        let now = NOW;
        let settings = &self.settings;
        let retained = Default::default();
        let mut rng: fanfare::dialect::Rng = Box::new(|| 7);
        let mut context = Context {
            now,
            settings,
            parser: &mut parser,
            draft: &mut draft,
            shared: &mut shared,
            retained: &retained,
            rng: &mut rng,
        };
        let mut actions = Actions::default();
        let request = Request { method, path, query, body: body.as_bytes(), ..Request::default() };
        let served = Kind::Echo.serve(&request, &mut context, &mut actions);
        let publications = actions.list.into_iter().map(|action| match action {
            Action::Publish(publication) => *publication,
            other => panic!("{other:?}"),
        });
        let publications = publications.collect();
        match served {
            Served::Answer { status, content_type, body } => {
                assert_eq!(content_type == "application/json", status == 200);
                (status, String::from_utf8(body).unwrap(), publications, None)
            }
            Served::NotAllowed(methods) => (405, methods.into(), publications, None),
            Served::Asked(Question::Presence(question)) => {
                assert_eq!(&*question.app, "app-id");
                let PresenceRequest::Inquire(inquiry) = question.request else {
                    panic!("{question:?}")
                };
                (200, String::new(), publications, Some(inquiry))
            }
            Served::Asked(question) => panic!("{question:?}"),
        }
    }

    /// The body that answers an inquiry.
    fn answer(
        &self,
        inquiry: ChannelInquiry,
        presence: &AppPresence,
        retained: &Retained,
    ) -> String {
        let answer = presence.answer(&inquiry);
        let request = PresenceRequest::Inquire(inquiry);
        let question = PresenceQuestion { dialect: Kind::Echo.id(), app: "app-id".into(), request };
        let (mut parser, mut draft, mut shared) = Default::default();
        let mut rng: fanfare::dialect::Rng = Box::new(|| 7);
        let context = Context {
            now: NOW,
            settings: &self.settings,
            parser: &mut parser,
            draft: &mut draft,
            shared: &mut shared,
            retained,
            rng: &mut rng,
        };
        String::from_utf8(Kind::Echo.answer(&question, &answer, &context)).unwrap()
    }

    /// The same, signed.
    pub(crate) fn signed(
        &self,
        method: &str,
        target: &str,
        body: &str,
    ) -> (u16, String, Vec<Publication>, Option<ChannelInquiry>) {
        self.ask(method, &sign(method, target, body, "app-secret"), body)
    }

    /// The status of a signed event, which is to publish nothing unless it is good.
    pub(crate) fn status(&self, path: &str, body: &str) -> u16 {
        let (status, text, publications, _) = self.signed("POST", path, body);
        assert_eq!(publications.is_empty(), status != 200, "{body}: {text}");
        status
    }
}

/// A request's target with the signature of a publisher.
pub(crate) fn sign(method: &str, target: &str, body: &str, secret: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let md5 = hex(&md5::Md5::digest(body));
    let timestamp = NOW_S.to_string();
    let mut pairs =
        vec![("auth_key", "app-key"), ("auth_timestamp", &timestamp), ("auth_version", "1.0")];
    if !body.is_empty() {
        pairs.push(("body_md5", &md5));
    }
    pairs.extend(
        query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| pair.split_once('=')),
    );
    pairs.sort();
    let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let query = query.join("&");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{method}\n{path}\n{query}").as_bytes());
    format!("{path}?{query}&auth_signature={}", hex(&mac.finalize().into_bytes()))
}

/// The payload of a short frame.
pub(crate) fn payload(publication: &Publication) -> String {
    let frame = publication.frame(0);
    let start = if frame[1] < 126 { 2 } else { 4 };
    String::from_utf8(frame[start..].to_vec()).unwrap()
}

#[test]
fn the_worked_examples_are_published_byte_for_byte() {
    let server = Server::new(|_| {});
    for (digests, body, frame) in [
        (
            "body_md5=a30445c6d8d51d0e6af0889c24608ce2&auth_signature=8d11c8eadafe1a1d7bbcfb7304179ecbcc6def19c4ceaad761409b6b8ac5a50f",
            r#"{"name":"App\\Events\\ChatMessageSent","data":"{\"message\":\"hi\",\"user\":{\"id\":1,\"name\":\"Ann\"}}","channel":"private-Chat.1"}"#,
            r#"{"event":"App\\Events\\ChatMessageSent","channel":"private-Chat.1","data":"{\"message\":\"hi\",\"user\":{\"id\":1,\"name\":\"Ann\"}}"}"#,
        ),
        (
            "body_md5=d39c850c8b731d4db00f781f1276c941&auth_signature=1391b250d244cd003903c252b03c87f6cf38e82067c8bdc3ad72722ae76d3411",
            r#"{"name":"App\\Events\\MessageSent","data":"{\"message\":\"m\",\"id\":3}","channel":"private-TestChannel.3"}"#,
            r#"{"event":"App\\Events\\MessageSent","channel":"private-TestChannel.3","data":"{\"message\":\"m\",\"id\":3}"}"#,
        ),
    ] {
        let target = format!(
            "/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0&{digests}"
        );
        let (status, answer, publications, _) = server.ask("POST", &target, body);
        assert_eq!((status, &*answer), (200, "{}"));
        assert_eq!(publications.iter().map(payload).collect::<Vec<_>>(), [frame]);
    }
}

#[test]
fn the_first_error_that_applies_is_told() {
    let server = Server::new(|app| app.request_bytes_max = 500);
    let good = r#"{"name":"e","channel":"c","data":"d"}"#;
    let ask = |method, target: &str, body| server.ask(method, target, body).0;
    for path in [
        "/apps/app-id",
        "/apps/app-id/",
        "/apps/app-id/events/",
        "/apps/app-id/nothing",
        "/nothing",
    ] {
        assert_eq!(ask("PUT", path, ""), 404, "{path}");
    }
    for path in [
        "/apps/app-id/channels/c/users/x",
        "/apps/app-id/users/x",
        "/users/x",
        "/up/",
        "/apps/%ff/events",
    ] {
        assert_eq!(ask("PUT", path, ""), 404, "{path}");
    }
    for (method, path, allowed) in [
        ("GET", "/apps/none/events", "POST"),
        ("PUT", "/apps/none/channels", "GET"),
        ("OPTIONS", "/users/7/terminate_connections", "POST"),
        ("POST", "/up", "GET"),
    ] {
        let (status, methods, ..) = server.ask(method, path, "");
        assert_eq!((status, &*methods), (405, allowed), "{method} {path}");
    }
    assert_eq!(ask("POST", "/apps/none/events", good), 404);
    assert_eq!(ask("POST", "/apps/app-id/events", "no JSON"), 401);
    assert_eq!(
        server.ask("POST", &sign("POST", "/apps/app-id/events", good, "other"), good).0,
        401
    );
    let of_channels =
        sign("POST", "/apps/app-id/channels", good, "app-secret").replace("channels", "events");
    assert_eq!(ask("POST", &of_channels, good), 401, "the path is signed too");
    assert_eq!(ask("POST", "/users/7/terminate_connections?auth_key=none", "{}"), 401);
    assert_eq!(server.status("/apps/app-id/events", "no JSON"), 400);
    let disabled = Server::new(|app| app.enabled = false);
    assert_eq!(disabled.ask("POST", "/apps/app-id/events", good).0, 403);
    let limit = |path| Kind::Echo.body_bytes_max("POST", path, &server.settings);
    assert_eq!(limit("/apps/app-id/events"), Some(500));
    assert!(limit("/up").is_some() && limit("/apps/none/events").is_some());
    assert_eq!(limit("/app/app-key"), None);
    assert_eq!(limit("/"), None);
}

#[test]
fn every_path_stands_behind_the_configured_one() {
    let mut server = Server::new(|_| {});
    server.settings.echo.path = "/ws".into();
    assert_eq!(server.ask("GET", "/ws/up", "").1, r#"{"health":"OK"}"#);
    assert_eq!(server.ask("GET", "/up", "").0, 200);
    assert_eq!(server.ask("GET", "/ws/ws/up", "").0, 404);
    let event = r#"{"name":"e","channel":"c","data":"d"}"#;
    assert_eq!(server.status("/ws/apps/app-id/events", event), 200);
    // PHP's library signs what stands behind its own `path`: https://github.com/laravel/reverb/issues/356
    let signed = sign("POST", "/apps/app-id/events", event, "app-secret");
    assert_eq!(server.ask("POST", &format!("/ws{signed}"), event).0, 200);
    // The same library loses `path` where Guzzle resolves what it is given, and a proxy may take it away.
    assert_eq!(server.ask("POST", &signed, event).0, 200);
    let behind_a_proxy = sign("POST", "/ws/apps/app-id/events", event, "app-secret");
    assert_eq!(server.ask("POST", behind_a_proxy.strip_prefix("/ws").unwrap(), event).0, 200);
    let other = sign("POST", "/s/apps/app-id/events", event, "app-secret").replace("/s/", "/ws/");
    assert_eq!(server.ask("POST", &other, event).0, 401);
    for (path, is_ours) in
        [("/up", true), ("/apps/x", true), ("/ws/apps/x", true), ("/ws", false), ("/w/up", false)]
    {
        assert_eq!(
            Kind::Echo.body_bytes_max("GET", path, &server.settings).is_some(),
            is_ours,
            "{path}"
        );
    }
}

#[test]
fn a_signature_is_good_over_what_was_sent_and_over_what_that_means() {
    let server = Server::new(|_| {});
    let signed_as = |method: &str, signed: &str, sent: &str, body: &str| {
        let target = sign(method, signed, body, "app-secret");
        let signature = target.split_once("auth_signature=").unwrap().1.to_owned();
        let sent = sign(method, sent, body, "other");
        let (start, _) = sent.split_once("auth_signature=").unwrap();
        server.ask(method, &format!("{start}auth_signature={signature}"), body).0
    };
    // PHP's library signs the user's id as it is; what sends the request encodes it.
    for (id, sent) in [
        ("auth0|x", "auth0%7Cx"),
        ("auth0|x", "auth0|x"),
        ("auth0%7Cx", "auth0%7Cx"),
        ("Jürgen", "J%C3%BCrgen"),
        ("a b", "a%20b"),
        ("100%", "100%25"),
    ] {
        let path = |id: &str| format!("/apps/app-id/users/{id}/terminate_connections");
        assert_eq!(signed_as("POST", &path(id), &path(sent), "{}"), 200, "{id}");
    }
    assert_eq!(
        signed_as("POST", "/users/7/terminate_connections", "/users/8/terminate_connections", "{}"),
        401
    );
    // It joins a list with commas where it signs it, and others may not.
    let path = "/apps/app-id/channels/presence-a";
    for (signed, sent, status) in [
        (
            "info=user_count,subscription_count",
            "info[0]=user_count&info[1]=subscription_count",
            200,
        ),
        (
            "info=user_count,subscription_count",
            "info%5B0%5D=user_count&info%5B1%5D=subscription_count",
            200,
        ),
        (
            "info[0]=user_count&info[1]=subscription_count",
            "info[0]=user_count&info[1]=subscription_count",
            200,
        ),
        ("info=user_count", "info[]=user_count", 200),
        (
            "info=subscription_count,user_count",
            "info[0]=user_count&info[1]=subscription_count",
            401,
        ),
        ("info=user_count", "info[x]=user_count", 401),
    ] {
        assert_eq!(
            signed_as("GET", &format!("{path}?{signed}"), &format!("{path}?{sent}"), ""),
            status,
            "{sent}"
        );
    }
}

#[test]
fn what_is_too_large_is_told_in_the_words_that_clients_look_for() {
    let server = Server::new(|_| {});
    let event = format!(r#"{{"name":"e","channel":"c","data":"{}"}}"#, "a".repeat(10_241));
    let (status, text, ..) = server.signed("POST", "/apps/app-id/events", &event);
    assert!(status == 413 && text.contains("content of this event"), "{status} {text}");
    let batch =
        format!(r#"{{"batch":[{}]}}"#, [r#"{"name":"e","channel":"c","data":"d"}"#; 11].join(","));
    let (status, text, ..) = server.signed("POST", "/apps/app-id/batch_events", &batch);
    assert!(status == 400 && text.contains("Batch too large"), "{status} {text}");
}

#[test]
fn a_batch_is_published_in_order_or_not_at_all() {
    let server = Server::new(|app| (app.batch_events_max, app.data_bytes_max) = (3, 10));
    let one =
        |name: &str, data: &str| format!(r#"{{"name":"{name}","channel":"c","data":"{data}"}}"#);
    let batch = |events: &[String]| format!(r#"{{"batch": [ {} ]}}"#, events.join(" , "));
    let path = "/apps/app-id/batch_events";
    let good = batch(&[one("1", "a\\u0041"), one("2", ""), one("3", "{}")]);
    let (status, body, publications, _) = server.signed("POST", path, &good);
    assert_eq!((status, &*body), (200, "{}"));
    let frames: Vec<String> = publications.iter().map(payload).collect();
    assert_eq!(
        frames,
        [
            r#"{"event":"1","channel":"c","data":"a\u0041"}"#,
            r#"{"event":"2","channel":"c","data":""}"#,
            r#"{"event":"3","channel":"c","data":"{}"}"#
        ]
    );
    for (body, status) in [
        (batch(&[one("1", "a"), one("pusher:x", "a")]), 400),
        (batch(&[one("1", "a"), one("2", "12345678901")]), 413),
        (batch(&[one("1", "12345678901"), "{}".into()]), 400),
        (batch(&[one("1", "a"), "7".into()]), 400),
        (batch(&[one("1", "a"), r#"{"name":"n","channels":["c"],"data":""}"#.into()]), 400),
        (batch(&[one("1", ""), one("2", ""), one("3", ""), one("4", "")]), 400),
        (r#"{"batch":{}}"#.into(), 400),
        ("{}".into(), 400),
        ("[]".into(), 400),
    ] {
        assert_eq!(server.status(path, &body), status, "{body}");
    }
    assert_eq!(server.signed("POST", path, r#"{"batch":[]}"#).0, 200);
}

/// An event that a channel keeps for nine seconds more.
fn kept(channel: &str, json: &str) -> Retained {
    let mut draft = Draft::default();
    draft.address(&[b"e", b"app-id", b"\0", channel.as_bytes(), b"\0"], b"");
    draft.text(|out| out.extend_from_slice(json.as_bytes()));
    draft.retain(9);
    let publication = draft.finish(NOW);
    let mut retained = Retained::default();
    retained.keep(&Arc::new(publication), 0, NOW);
    retained
}

/// Presence as it is when these connections have come.
fn presence() -> AppPresence {
    let mut presence = AppPresence::default();
    let tell = &mut |_: PresenceChange<'_>| {};
    for (id, user) in [(1, "1"), (2, "1"), (3, "2")] {
        let connection = ConnectionRef { shard: 0, id, serial: 0 };
        let newcomer = Newcomer { channel: "presence-a", user, info: "null", listed_bytes: 0 };
        presence.join(connection, newcomer, PresenceRules::default(), tell);
    }
    for channel in ["room", "room", "#server-to-user-7"] {
        presence.enter(channel, PresenceRules::default(), 0, tell);
    }
    presence
}

#[test]
fn questions_about_channels_are_answered_as_the_specification_shows() {
    let (server, presence) = (Server::new(|_| {}), presence());
    let kept = kept("cache-c", r#"{"data":"of cache-c"}"#);
    let get = |target: &str| {
        let (status, text, _, inquiry) =
            server.signed("GET", &format!("/apps/app-id/{target}"), "");
        match inquiry {
            Some(inquiry) => server.answer(inquiry, &presence, &kept),
            None => format!("{status} {text}"),
        }
    };
    for (target, expected) in [
        ("channels", r#"{"channels":{"presence-a":{},"room":{}}}"#),
        (
            "channels?info=subscription_count",
            r#"{"channels":{"presence-a":{"subscription_count":3},"room":{"subscription_count":2}}}"#,
        ),
        (
            "channels?filter_by_prefix=presence-&info=user_count",
            r#"{"channels":{"presence-a":{"user_count":2}}}"#,
        ),
        ("channels?filter_by_prefix=x", r#"{"channels":{}}"#),
        (
            "channels/presence-a?info=user_count,subscription_count",
            r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
        ),
        (
            "channels/presence-none?info=user_count,subscription_count",
            r#"{"occupied":false,"user_count":0,"subscription_count":0}"#,
        ),
        ("channels/room", r#"{"occupied":true}"#),
        ("channels/room?info=subscription_count", r#"{"occupied":true,"subscription_count":2}"#),
        ("channels/presence-a/users", r#"{"users":[{"id":"1"},{"id":"2"}]}"#),
        ("channels/presence-none/users", r#"{"users":[]}"#),
        // As PHP sends a list.
        (
            "channels/presence-a?info[0]=user_count&info[1]=subscription_count",
            r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
        ),
        (
            "channels/cache-c?info=cache,subscription_count",
            r#"{"occupied":false,"subscription_count":0,"cache":{"data":"of cache-c","ttl":9}}"#,
        ),
        ("channels/cache-none?info=cache", r#"{"occupied":false}"#),
        ("channels?filter_by_prefix=room&info=cache", r#"{"channels":{"room":{}}}"#),
        ("connections", r#"{"connections":0}"#),
    ] {
        assert_eq!(get(target), expected, "{target}");
    }
    for bad in [
        "channels?info=user_count",
        "channels?filter_by_prefix=private-&info=user_count",
        "channels/room?info=user_count",
        "channels/room/users",
        "channels/room?info=cache",
        "channels/a%20b",
    ] {
        assert!(get(bad).starts_with("400 "), "{bad}: {}", get(bad));
    }
}

#[test]
fn an_event_with_info_is_answered_with_the_counts_of_its_channels() {
    let (server, presence) = (Server::new(|_| {}), presence());
    let ask = |path: &str, body: &str| {
        let (_, _, publications, inquiry) = server.signed("POST", path, body);
        (publications.len(), server.answer(inquiry.unwrap(), &presence, &Retained::default()))
    };
    let event = r#"{"name":"e","data":"","channels":["presence-a","room"],"info":"user_count,subscription_count"}"#;
    let counts = r#"{"channels":{"presence-a":{"user_count":2,"subscription_count":3},"room":{"subscription_count":2}}}"#;
    assert_eq!(ask("/apps/app-id/events", event), (2, counts.into()));
    let as_list = event
        .replace(r#""user_count,subscription_count""#, r#"["user_count","subscription_count"]"#);
    assert_eq!(ask("/apps/app-id/events", &as_list), (2, counts.into()));
    assert_eq!(
        server.status("/apps/app-id/events", &event.replace(r#""user_count,"#, r#"7,"#)),
        400
    );
    let batch = r#"{"batch":[{"name":"e","data":"","channel":"presence-a","info":"user_count"},{"name":"e","data":"","channel":"room"}]}"#;
    let counts = r#"{"batch":[{"user_count":2},{}]}"#;
    assert_eq!(ask("/apps/app-id/batch_events", batch), (2, counts.into()));
}

#[test]
fn a_users_connections_are_told_to_end_with_and_without_the_apps_id() {
    let server = Server::new(|_| {});
    for path in
        ["/apps/app-id/users/a%20b/terminate_connections", "/users/a%20b/terminate_connections"]
    {
        let (status, _, publications, inquiry) = server.signed("POST", path, "{}");
        assert_eq!((status, publications.len()), (200, 1));
        assert!(matches!(inquiry, Some(ChannelInquiry::Dismiss(user)) if &*user == "a b"));
        assert!(publications[0].topic().ends_with(b"app-id\0#server-to-user-a b\0"));
        assert_eq!(EchoReach::of(publications[0].meta()), EchoReach::Last);
        assert_eq!(
            payload(&publications[0]),
            r#"{"event":"pusher:error","data":{"code":4009,"message":"Connection terminated by the app."}}"#
        );
        assert_eq!(server.status(path, "{"), 400);
    }
    let long = format!("/users/{}/terminate_connections", "x".repeat(129));
    assert_eq!(server.status(&long, "{}"), 400);
    assert_eq!(SocketId::read("1.2"), Ok(Some(SocketId(1 << 32 | 2))));
}
