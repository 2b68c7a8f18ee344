//! The client's end of Wazo's websocketd, for `subscribe`, `bench` and the tests: the token goes
//! with the request; the daemon sends `init`, gets the names and `start`, and answers each. In
//! version 1 of the protocol, which is spoken here, only events come after that.

use crate::dialect::client::{
    ClientExample, ClientHeard, ClientProfile, ClientStage, ClientStep, ClientWish, DialectClient,
    Sample, SetupFiles, Site, Subscriber, TokenPlace, claims, json, token_setup, token_table,
};
use serde::Deserialize;
use serde_json::{Map, Value, json as value};

/// Patterns of each load token's ACL besides the one for `websocketd`: as many as a real user's
/// token has.
const ACL_PATTERNS: usize = 20;

/// A client of websocketd.
pub(super) struct WazoClient;

/// The beginning of an answer.
#[derive(Deserialize)]
struct WazoAnswer {
    op: String,
    #[serde(default)]
    code: i64,
}

impl DialectClient for WazoClient {
    fn profile(&self) -> ClientProfile {
        ClientProfile { option: Some("--event"), ..ClientProfile::new("Wazo", TokenPlace::Header) }
    }

    fn step(&self, stage: ClientStage, wish: &ClientWish, _: &str) -> Option<ClientStep> {
        match stage {
            ClientStage::Token => Some(ClientStep { say: Vec::new(), answers: 1 }),
            ClientStage::Subscription => {
                let mut say = Vec::new();
                for name in &wish.names {
                    let name = json(name);
                    say.push(format!(r#"{{"op":"subscribe","data":{{"event_name":{name}}}}}"#));
                }
                say.push(r#"{"op":"start"}"#.into());
                let answers = say.len();
                Some(ClientStep { say, answers })
            }
            ClientStage::Following => None,
        }
    }

    fn read(&self, stage: ClientStage, text: &str) -> ClientHeard {
        if stage == ClientStage::Following {
            return ClientHeard::Event;
        }
        match serde_json::from_str::<WazoAnswer>(text) {
            Ok(WazoAnswer { op, code: 0 }) => match op.as_str() {
                "init" => ClientHeard::Success("token accepted"),
                "subscribe" => ClientHeard::Success(""),
                "start" => ClientHeard::Success("subscribed"),
                _ => ClientHeard::Note,
            },
            _ => ClientHeard::Note,
        }
    }

    fn meaning(&self, code: u16, _: ClientStage) -> Option<&'static str> {
        Some(match code {
            1008 => {
                "this listener speaks the channels of a Laravel application and not Wazo's \
                 protocol; see [[listen]] for the port of wazo (9502 in the development set-up)"
            }
            1011 => {
                "the daemon has lost its RabbitMQ, or our pings; connect again, and see its log"
            }
            4001 => {
                "no token was given; use --token-file or FANFARE_TOKEN, and `fanfare token --acl \
                 websocketd --acl 'events.#'` to make one"
            }
            4002 => {
                "the token was refused: is it expired, signed with another secret, or without \
                 \"websocketd\" among its acl? Or its issuer does not answer, as the daemon's \
                 log says then; `fanfare token --check` tells which"
            }
            4003 => "the token expired or its session was deleted; connect again with a new token",
            4004 => {
                "a message or the version in the URL was not understood, or there are too many \
                 subscriptions; see --send and --event"
            }
            _ => return None,
        })
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/",
            claims: value!({ "acl": ["websocketd", "events.#"] }),
            options: "--event '*' ",
            place: "wazo",
            event: r#"{"name":"endpoint_status_update","required_acl":"events.endpoints","data":{"id":1,"status":"Hello World"}}"#,
        }
    }

    fn setup(&self, files: &SetupFiles) -> Vec<String> {
        let of_a_wazo = "# The events of a Wazo come from its RabbitMQ, and its wazo-auth verifies the tokens\n\
                         # in the place of [wazo.token.jwt]; \"fanfare help wazo\" has both.\n\
                         #[feed.amqp]\n#url_file = \"/etc/fanfare/amqp.url\"\n\
                         #[wazo.token.wazo_auth]\n#url = \"https://127.0.0.1:9497\"\n";
        vec![token_setup("wazo", files), of_a_wazo.to_owned()]
    }

    fn table(&self, secret: &str) -> String {
        token_table("wazo", secret)
    }

    fn claims(&self, Subscriber { index, .. }: &Subscriber<'_>) -> Option<Map<String, Value>> {
        claims(value!({ "sub": format!("user-{index:06}"), "acl": acl(*index) }))
    }

    fn path(&self, subscriber: &Subscriber<'_>) -> String {
        subscriber.given.unwrap_or("/").to_owned()
    }

    fn sample(&self, _: &Site, topic: &str, _: usize) -> Sample {
        let head =
            format!(r#"{{"name":"{topic}","required_acl":"events.bench.all.1","data":{{"Info":""#);
        Sample::unchanged("wazo".into(), head, r#""}}"#)
    }
}

/// A user's rights: one pattern admits the generator's events, the others are unique to the user.
fn acl(index: usize) -> Vec<String> {
    const RIGHTS: [&str; 6] = [
        "events.users.{}.#",
        "events.calls.{}.*.updated",
        "confd.users.{}.voicemails.read",
        "events.chatd.*.rooms.{}.#",
        "!events.config.{}.#",
        "call-logd.users.{}.cdr.read",
    ];
    let mut acl = vec!["websocketd".to_owned()];
    acl.extend(
        (1..ACL_PATTERNS)
            .map(|n| RIGHTS[n % RIGHTS.len()].replace("{}", &format!("{index:06}-{n}"))),
    );
    acl.push("events.bench.#".into());
    acl
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client::ClientTalk;

    #[test]
    fn it_waits_for_init_then_says_every_name_and_start_and_then_all_is_events() {
        let names = vec!["call\"".to_owned(), "*".to_owned()];
        let mut talk = ClientTalk::new(&WazoClient, ClientWish { names, ..ClientWish::default() });
        assert!(talk.open().is_empty());
        let init = r#"{"op": "init", "code": 0, "msg": "", "data": {"version": 1}}"#;
        let (told, say) = talk.hear(init);
        assert_eq!(told, ClientHeard::Success("token accepted"));
        assert_eq!(
            say,
            [
                r#"{"op":"subscribe","data":{"event_name":"call\""}}"#,
                r#"{"op":"subscribe","data":{"event_name":"*"}}"#,
                r#"{"op":"start"}"#
            ]
        );
        for _ in 0..2 {
            assert_eq!(
                talk.hear(r#"{"op": "subscribe", "code": 0}"#),
                (ClientHeard::Success(""), vec![])
            );
            assert_eq!(talk.stage(), ClientStage::Subscription);
        }
        assert_eq!(
            talk.hear(r#"{"op": "start", "code": 0}"#).0,
            ClientHeard::Success("subscribed")
        );
        assert_eq!(talk.hear(r#"{"op": "start"}"#).0, ClientHeard::Event);
        assert_eq!(talk.hear("anything").0, ClientHeard::Event);
        for (code, word) in
            [(4001, "no token"), (4002, "websocketd"), (4003, "deleted"), (4004, "--event")]
        {
            assert!(talk.meaning(code).contains(word));
        }
    }

    #[test]
    fn each_token_has_rights_of_its_own_and_those_for_the_events() {
        assert_eq!(acl(0).len(), ACL_PATTERNS + 1);
        let common =
            acl(1).into_iter().filter(|pattern| acl(2).contains(pattern)).collect::<Vec<_>>();
        assert_eq!(common, ["websocketd", "events.bench.#"]);
    }
}
