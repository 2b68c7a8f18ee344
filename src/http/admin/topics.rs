//! Operators' requests about topics to the admin listener.
//!
//! ```text
//! GET  /topics?prefix=&after=&count=                 names, in order; the next page comes after the last name
//! GET  /topics/stats?topic=                          the statistics of a topic
//! GET  /topics/peek?topic=&subscription=&count=      its first messages, or the next of a subscription
//! GET  /topics/room                                  the size of the store, and the largest topics
//! POST /topics/purge?topic=&subscription=            deletes the backlog of a subscription; without one, all messages
//! POST /topics/terminate?topic=                      ends publishing
//! POST /topics/reset?topic=&subscription=&to=        to: earliest, latest, a unix time in ms, a message id
//! POST /topics/forget?topic=&subscription=           deletes a subscription that has no consumer
//! POST /topics/backup?keep=                          copies the store while it runs, and removes older copies
//! ```
//! A topic is written in full, as `persistent://tenant/namespace/topic`. Parameters stand in the
//! query, or as a form in the body of a POST. Every request needs `Authorization: Bearer` with the
//! token of `[admin]`; none is for web pages, so one with an `Origin` is refused. Answers are JSON;
//! those of errors are a sentence.

use super::access::refusal;
use super::request::AdminRequest;
use crate::service::topic::{CursorReset, MessageId, TopicInquiry, TopicName};
use std::borrow::Cow;

/// Default number of names in one answer; about a terminal's scrollback.
const NAMES: usize = 1000;
/// Maximum number of names in one answer; with the longest names it has 10 MiB.
const NAMES_MAX: usize = 10_000;
/// Default number of messages in one answer.
const MESSAGES: usize = 10;
/// Maximum number of messages in one answer: peeking is for people, programs consume topics.
const MESSAGES_MAX: usize = 100;
/// A call about topics.
#[derive(Debug)]
pub enum TopicCall {
    /// A question to the owner of the topics.
    Inquire(TopicInquiry),
    /// The size of the store.
    Room,
    /// A copy of the store.
    Backup {
        /// The number of copies to keep; `None`: all.
        keep: Option<usize>,
    },
}

/// Parses an admitted request about topics; `None` when it is about something else.
///
/// # Errors
/// The whole response that refuses the request.
pub(super) fn call(request: &AdminRequest<'_>) -> Option<Result<TopicCall, Vec<u8>>> {
    let name = name_of(request.path)?;
    let allowed = match name {
        "" if request.method == "DELETE" => "DELETE",
        "" | "stats" | "peek" | "room" => "GET",
        "purge" | "terminate" | "reset" | "forget" | "backup" => "POST",
        _ => {
            return Some(Err(refusal(
                404,
                "",
                "the paths are /topics and, under it, stats, peek, room, purge, terminate, reset, \
                 forget and backup",
            )));
        }
    };
    if request.method != allowed {
        let takes = if name.is_empty() { "GET, DELETE" } else { allowed };
        let reason = format!("{} allows {takes} only", request.path);
        // Every GET answers HEAD too (RFC 9110 section 9.1), and 405 lists all (section 15.5.6).
        let also = match (name, allowed) {
            ("", _) => ", HEAD, DELETE",
            (_, "GET") => ", HEAD",
            _ => "",
        };
        return Some(Err(refusal(405, &format!("Allow: {allowed}{also}\r\n"), &reason)));
    }

    let parameters = CallParameters { query: request.query, body: request.body };
    let name = if request.method == "DELETE" { "delete" } else { name };
    Some(parse(name, &parameters).map_err(|reason| refusal(400, "", &reason)))
}

/// The part of the path below `/topics`; `None` for any other path.
pub(super) fn name_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/topics")?;
    name.strip_prefix('/').or(name.is_empty().then_some(name))
}

/// The call that a path and its parameters make.
fn parse(name: &str, parameters: &CallParameters<'_>) -> Result<TopicCall, String> {
    let inquiry = match name {
        "" => TopicInquiry::List {
            prefix: parameters.get("prefix").unwrap_or_default().into(),
            after: parameters.get("after").unwrap_or_default().into(),
            count: parameters.count(NAMES, NAMES_MAX)?,
        },
        "delete" => {
            TopicInquiry::Delete { topic: parameters.topic()?, force: parameters.is_set("force")? }
        }
        "stats" => TopicInquiry::Stats(parameters.topic()?),
        "peek" => TopicInquiry::Peek {
            topic: parameters.topic()?,
            subscription: parameters.filled("subscription").map(Box::from),
            count: parameters.count(MESSAGES, MESSAGES_MAX)?,
        },
        "purge" => TopicInquiry::Purge {
            topic: parameters.topic()?,
            subscription: parameters.filled("subscription").map(Box::from),
        },
        "terminate" => TopicInquiry::Terminate(parameters.topic()?),
        "reset" => TopicInquiry::Reset {
            topic: parameters.topic()?,
            subscription: parameters.subscription()?,
            to: moment(&parameters.needed("to")?)?,
        },
        "forget" => TopicInquiry::Forget {
            topic: parameters.topic()?,
            subscription: parameters.subscription()?,
        },
        "room" => return Ok(TopicCall::Room),
        _ => return Ok(TopicCall::Backup { keep: parameters.keep()? }),
    };
    Ok(TopicCall::Inquire(inquiry))
}

/// The position to reset a subscription to.
fn moment(text: &str) -> Result<CursorReset, String> {
    match text {
        "earliest" => Ok(CursorReset::Earliest),
        "latest" => Ok(CursorReset::Latest),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
            Ok(unix_ms) => Ok(CursorReset::Published(unix_ms)),
            // All digits, so only too many of them are an error.
            Err(_) => Err("to: the time is too late for any message".into()),
        },
        _ => MessageId::read(text).map(CursorReset::At).map_err(|error| {
            format!(
                "to: write earliest, latest, a unix time in milliseconds or a message id ({error})"
            )
        }),
    }
}

/// The parameters of a call, from its query and from a form in its body.
struct CallParameters<'a> {
    query: &'a str,
    body: &'a [u8],
}

impl CallParameters<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = form_urlencoded::parse(self.query.as_bytes());
        // `curl -d @file` sends the file's last line end too.
        let mut all = query.chain(form_urlencoded::parse(self.body.trim_ascii_end()));
        all.find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A parameter that is present and not empty.
    fn filled(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).filter(|value| !value.is_empty())
    }

    fn needed(&self, name: &str) -> Result<Cow<'_, str>, String> {
        self.filled(name).ok_or_else(|| format!("the parameter {name} is missing"))
    }

    fn topic(&self) -> Result<TopicName, String> {
        TopicName::read(&self.needed("topic")?).map_err(|error| format!("topic: {error}"))
    }

    fn subscription(&self) -> Result<Box<str>, String> {
        self.needed("subscription").map(Box::from)
    }

    fn is_set(&self, name: &str) -> Result<bool, String> {
        match self.filled(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(format!("{name}: write true or false")),
        }
    }

    fn keep(&self) -> Result<Option<usize>, String> {
        let keep = self.filled("keep").map(|count| count.parse().ok().filter(|count| *count > 0));
        match keep {
            Some(None) => Err("keep: write how many backups are to stay, at least 1".into()),
            Some(keep) => Ok(keep),
            None => Ok(None),
        }
    }

    fn count(&self, usual: usize, most: usize) -> Result<usize, String> {
        match self.filled("count").map(|count| count.parse()) {
            None => Ok(usual),
            Some(Ok(count)) if (1..=most).contains(&count) => Ok(count),
            Some(_) => Err(format!("count: write a number from 1 to {most}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str, body: &str) -> Option<Result<TopicCall, String>> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = body.as_bytes();
        let request = AdminRequest { method, path, query, body, ..AdminRequest::default() };
        Some(call(&request)?.map_err(|response| String::from_utf8(response).unwrap()))
    }

    fn inquiry(method: &str, target: &str) -> TopicInquiry {
        match ask(method, target, "").unwrap() {
            Ok(TopicCall::Inquire(inquiry)) => inquiry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_path_asks_what_it_says() {
        assert!(
            matches!(inquiry("GET", "/topics"), TopicInquiry::List { count: NAMES, prefix, .. } if prefix.is_empty())
        );
        let list = inquiry("GET", "/topics?prefix=persistent%3A%2F%2Fa&after=b+c&count=7");
        let TopicInquiry::List { prefix, after, count } = list else { panic!("{list:?}") };
        assert_eq!((&*prefix, &*after, count), ("persistent://a", "b c", 7));
        let topic = "topic=persistent://t/n/x";
        let named = |name: &TopicName| name.as_str() == "persistent://t/n/x";
        assert!(
            matches!(inquiry("GET", &format!("/topics/stats?{topic}")), TopicInquiry::Stats(name) if named(&name))
        );
        let peek = inquiry("GET", &format!("/topics/peek?{topic}&subscription="));
        assert!(
            matches!(peek, TopicInquiry::Peek { subscription: None, count: MESSAGES, .. }),
            "{peek:?}"
        );
        let purge = inquiry("POST", &format!("/topics/purge?{topic}&subscription=s"));
        assert!(
            matches!(&purge, TopicInquiry::Purge { subscription: Some(s), .. } if &**s == "s"),
            "{purge:?}"
        );
        assert!(matches!(
            inquiry("POST", &format!("/topics/terminate?{topic}")),
            TopicInquiry::Terminate(_)
        ));
        for (force, expected) in [("", false), ("&force=true", true), ("&force=false", false)] {
            let delete = inquiry("DELETE", &format!("/topics?{topic}{force}"));
            assert!(
                matches!(&delete, TopicInquiry::Delete { topic, force } if named(topic) && *force == expected),
                "{delete:?}"
            );
        }
        assert!(matches!(
            inquiry("POST", &format!("/topics/forget?{topic}&subscription=s")),
            TopicInquiry::Forget { .. }
        ));
        assert!(matches!(ask("GET", "/topics/room", ""), Some(Ok(TopicCall::Room))));
        assert!(matches!(
            ask("POST", "/topics/backup", ""),
            Some(Ok(TopicCall::Backup { keep: None }))
        ));
        assert!(matches!(
            ask("POST", "/topics/backup?keep=7", ""),
            Some(Ok(TopicCall::Backup { keep: Some(7) }))
        ));
    }

    #[test]
    fn a_subscription_is_reset_to_an_end_a_time_or_a_message() {
        for (text, to) in [
            ("earliest", CursorReset::Earliest),
            ("latest", CursorReset::Latest),
            ("1472575557785", CursorReset::Published(1_472_575_557_785)),
            ("CAAQAw%3D%3D", CursorReset::At(MessageId::read("CAAQAw==").unwrap())),
        ] {
            let form = format!("topic=persistent://t/n/x&subscription=s&to={text}\n");
            match ask("POST", "/topics/reset", &form).unwrap() {
                Ok(TopicCall::Inquire(TopicInquiry::Reset { to: found, .. })) => {
                    assert_eq!(found, to)
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_told() {
        let topic = "topic=persistent://t/n/x";
        for (method, target, status, reason) in [
            ("POST", "/topics".into(), 405, "GET, DELETE only"),
            ("DELETE", "/topics".into(), 400, "topic is missing"),
            ("DELETE", format!("/topics?{topic}&force=1"), 400, "write true or false"),
            ("DELETE", format!("/topics/stats?{topic}"), 405, "GET only"),
            ("GET", format!("/topics/purge?{topic}"), 405, "POST only"),
            ("GET", "/topics/nonsense".into(), 404, "stats, peek"),
            ("GET", "/topics/stats".into(), 400, "topic is missing"),
            ("GET", "/topics/stats?topic=x".into(), 400, "persistent://tenant/namespace/topic"),
            ("GET", "/topics?count=0".into(), 400, "from 1 to 10000"),
            ("GET", format!("/topics/peek?{topic}&count=101"), 400, "from 1 to 100"),
            ("POST", "/topics/backup?keep=0".into(), 400, "at least 1"),
            ("POST", format!("/topics/forget?{topic}"), 400, "subscription is missing"),
            ("POST", format!("/topics/reset?{topic}&subscription=s"), 400, "to is missing"),
            ("POST", format!("/topics/reset?{topic}&subscription=s&to=now"), 400, "write earliest"),
            (
                "POST",
                format!("/topics/reset?{topic}&subscription=s&to=99999999999999999999"),
                400,
                "too late",
            ),
        ] {
            let refusal = ask(method, &target, "").unwrap().unwrap_err();
            assert!(refusal.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {refusal}");
            assert!(refusal.contains(reason), "{target}: {refusal}");
        }
        for other in ["/", "/metrics", "/topicsx", "/topic"] {
            assert!(ask("GET", other, "").is_none(), "{other}");
        }
    }
}
