//! Who may connect, as whom, and until when.

use super::*;
use fanfare::token::{Algorithm, TokenSettings, Verifier, mint};
use serde_json::{Map, Value, json};

const SECRET: &str = "a secret that only the tests know, and nobody else";

/// A bus that knows Laravel's tokens by their secret.
fn laravel(change: impl FnOnce(&mut channel::ChannelSettings)) -> Bus {
    let token: TokenSettings = toml::from_str(&format!("jwt = {{ secret = '{SECRET}' }}")).unwrap();
    bus(|channel| {
        channel.verifier = Some(Verifier::lenient(&token.or_hs256(), None).unwrap());
        change(channel);
    })
}

fn token(claims: Value) -> String {
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    signed(Algorithm::HS256, SECRET, &claims)
}

fn signed(algorithm: Algorithm, secret: &str, claims: &Map<String, Value>) -> String {
    mint(algorithm, secret.as_bytes(), claims).unwrap()
}

/// What becomes of a client with this token.
fn verdict(token: &str) -> String {
    let mut bus = laravel(|_| ());
    bus.connect("", &format!("/?token={token}"), HOST);
    let heard = bus.heard("");
    assert_eq!(heard[0], "101");
    heard.get(1).cloned().unwrap_or_else(|| "open".to_owned())
}

fn of_claims(claims: Value) -> String {
    verdict(&token(claims))
}

#[test]
fn claims_have_to_be_what_they_are_to_be() {
    for good in [
        json!({"channel": "chat:1", "id": 1, "name": "Ann", "iat": NOW_S, "exp": NOW_S + 60}),
        json!({"channel": "chat:1"}),
        json!({"channel": "chat:1", "id": -1}),
        json!({"channel": "chat:1", "id": u64::MAX}),
        json!({"channel": "chat:1", "id": ""}),
        json!({"channel": "chat:1", "name": ""}),
        json!({"channel": "chat:1", "id": 1, "name": null}),
        json!({"channel": "chat:1", "id": null, "name": null}),
        json!({"channel": "x"}),
        json!({"channel": "é".repeat(127)}),
        json!({"channel": "x".repeat(255)}),
        json!({"channel": "chat:1", "iat": "whenever", "aud": 1, "iss": [], "sub": null}),
        json!({"channel": "chat:1", "nbf": NOW_S}),
    ] {
        assert_eq!(of_claims(good.clone()), "open", "{good}");
    }
    for bad in [
        json!({}),
        json!({"id": 1, "name": "Ann"}),
        json!({"channel": ""}),
        json!({"channel": null}),
        json!({"channel": 1}),
        json!({"channel": ["chat:1"]}),
        json!({"channel": "chat\u{0}1"}),
        json!({"channel": "x".repeat(256)}),
        json!({"channel": "é".repeat(128)}),
        json!({"channel": "chat:1", "id": true}),
        json!({"channel": "chat:1", "id": 1.5}),
        json!({"channel": "chat:1", "id": [1]}),
        json!({"channel": "chat:1", "id": {}}),
        json!({"channel": "chat:1", "name": 1}),
        json!({"channel": "chat:1", "name": {}}),
        json!({"channel": "chat:1", "exp": null}),
        json!({"channel": "chat:1", "exp": "1800000000"}),
        json!({"channel": "chat:1", "nbf": "0"}),
        json!({"channel": "chat:1", "nbf": NOW_S + 1}),
    ] {
        assert_eq!(of_claims(bad.clone()), "close 1008 token invalid", "{bad}");
    }
}

/// `token expired` is said of well-signed tokens only, and says nothing of the claims.
#[test]
fn the_checks_have_an_order() {
    let expired = json!({"channel": 1, "exp": NOW_S});
    assert_eq!(of_claims(expired.clone()), "close 1008 token expired");
    let not_yet = json!({"channel": "chat:1", "exp": NOW_S - 1, "nbf": NOW_S + 1});
    assert_eq!(of_claims(not_yet), "close 1008 token invalid");
    let Value::Object(expired) = expired else { unreachable!() };
    let of_another = signed(Algorithm::HS256, &SECRET.replace("tests", "thief"), &expired);
    assert_eq!(verdict(&of_another), "close 1008 token invalid");
}

#[test]
fn a_token_is_good_until_the_millisecond_before_its_end() {
    assert_eq!(of_claims(json!({"channel": "c", "exp": NOW_S})), "close 1008 token expired");
    assert_eq!(of_claims(json!({"channel": "c", "exp": NOW_S - 1})), "close 1008 token expired");
    assert_eq!(of_claims(json!({"channel": "c", "exp": 0})), "close 1008 token expired");
    assert_eq!(of_claims(json!({"channel": "c", "exp": -1.5})), "close 1008 token expired");
    assert_eq!(of_claims(json!({"channel": "c", "exp": NOW_S + 1})), "open");
    assert_eq!(of_claims(json!({"channel": "c", "exp": 1e300})), "open");
}

#[test]
fn only_the_configured_algorithms_and_true_signatures_do() {
    let claims = json!({"channel": "chat:1", "id": 1}).as_object().cloned().unwrap();
    let good = signed(Algorithm::HS256, SECRET, &claims);
    assert_eq!(verdict(&good), "open");
    let longer = SECRET.repeat(2);
    assert_eq!(verdict(&signed(Algorithm::HS512, &longer, &claims)), "close 1008 token invalid");
    let (message, _) = good.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    // {"alg":"none"} and {"typ":"JWT","alg":"none"}, with and without a signature.
    for header in ["eyJhbGciOiJub25lIn0", "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0"] {
        assert_eq!(verdict(&format!("{header}.{payload}.")), "close 1008 token invalid");
        assert_eq!(verdict(&format!("{header}.{payload}.AAAA")), "close 1008 token invalid");
    }
    for token in [
        message,
        &format!("{good}x"),
        &format!("{good}."),
        &good[1..],
        "x",
        "...",
        "null",
        &"x".repeat(20_000),
    ] {
        assert_eq!(verdict(token), "close 1008 token invalid");
    }
}

#[test]
fn a_session_ends_with_its_token_and_nothing_is_delivered_from_then_on() {
    let mut bus = laravel(|channel| channel.ping_interval_s = 0);
    let brief = token(json!({"channel": "chat:1", "id": 3, "exp": NOW_S + 60}));
    let lasting = token(json!({"channel": "chat:1", "id": 1, "name": "Ann"}));
    join(&mut bus, "brief", &brief);
    join(&mut bus, "lasting", &lasting);
    bus.now.unix_ms += 59_999;
    bus.now.monotonic_ns += 59_999_000_000;
    bus.say("lasting", r#"{"data":{"message":"1"}}"#);
    assert_eq!(bus.heard("brief").len(), 1);
    bus.now.unix_ms += 1;
    bus.now.monotonic_ns += 1_000_000;
    bus.say("lasting", r#"{"data":{"message":"2"}}"#);
    assert_eq!(bus.heard("brief"), ["close 1008 token expired"]);
    bus.heard("lasting");
    // Another that nobody publishes to.
    let brief = token(json!({"channel": "quiet", "exp": NOW_S + 120}));
    join(&mut bus, "quiet", &brief);
    while bus.now.unix_ms < (NOW_S + 120) * 1000 {
        assert!(bus.heard("quiet").is_empty());
        bus.wait(1);
    }
    bus.wait(1);
    assert_eq!(bus.heard("quiet"), ["close 1008 token expired"]);
    bus.wait(10);
    assert_eq!(
        (bus.heard("brief"), bus.heard("quiet")),
        (vec!["gone".to_owned()], vec!["gone".to_owned()])
    );
    assert!(bus.heard("lasting").is_empty());
}

#[test]
fn what_is_said_at_the_end_of_a_token_is_too_late() {
    let mut bus = with(&["minute", "bob"]);
    bus.now.unix_ms += 60_000;
    bus.now.monotonic_ns += 60_000_000_000;
    bus.say("minute", r#"{"data":{}}"#);
    assert_eq!(bus.heard("minute"), ["close 1008 token expired"]);
    assert!(bus.heard("bob").is_empty());
}

#[test]
fn a_clock_that_is_put_forward_ends_tokens_at_once() {
    let mut bus = with(&["minute", "bob"]);
    bus.now.unix_ms += 3_600_000;
    bus.say("bob", r#"{"data":{}}"#);
    assert_eq!(bus.heard("minute"), ["close 1008 token expired"]);
}

#[test]
fn the_token_is_looked_at_once_where_the_settings_say_so() {
    let mut bus = bus(|channel| {
        channel.close_on_expiry = false;
        channel.ping_interval_s = 0;
    });
    join(&mut bus, "minute", "minute");
    bus.wait(600);
    bus.say("minute", r#"{"data":{"message":"x"}}"#);
    assert_eq!(bus.heard("minute").len(), 2);
    bus.connect("over", "/?token=over", HOST);
    assert_eq!(bus.heard("over"), ["101", "close 1008 token expired"]);
}

#[test]
fn who_sends_is_said_as_the_token_has_it() {
    for (claims, sender) in [
        (json!({"channel": "c", "id": 1, "name": "Ann"}), r#"{"name":"Ann","id":1}"#),
        (json!({"channel": "c", "id": "1", "name": "Ann"}), r#"{"name":"Ann","id":"1"}"#),
        (
            json!({"channel": "c", "id": 18_446_744_073_709_551_615u64}),
            r#"{"name":null,"id":18446744073709551615}"#,
        ),
        (json!({"channel": "c", "id": 1, "name": null}), r#"{"name":null,"id":1}"#),
        (json!({"channel": "c", "id": null, "name": "Ann"}), r#"{"name":"Ann"}"#),
        (json!({"channel": "c", "id": 0, "name": ""}), r#"{"name":"","id":0}"#),
        (json!({"channel": "c", "id": ""}), r#"{"name":null,"id":""}"#),
        (
            json!({"channel": "c", "name": "日本 \"é\"\n\u{0}/"}),
            "{\"name\":\"日本 \\\"é\\\"\\n\\u0000/\"}",
        ),
        (json!({"channel": "c"}), r#"{"name":null}"#),
    ] {
        let mut bus = laravel(|_| ());
        join(&mut bus, "a", &token(claims));
        bus.say("a", r#"{"sender":{"id":9},"data":{"sender":9}}"#);
        let broadcast = format!(r#"{{"type":"message","sender":{sender},"data":{{"sender":9}}}}"#);
        assert_eq!(bus.heard("a"), [OK.to_owned(), broadcast]);
    }
}
