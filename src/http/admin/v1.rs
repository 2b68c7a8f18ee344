//! `/v1`: the operators' API.
//!
//! Every request and its parameters stand in one table ([`endpoints`]), from which requests are
//! parsed and the OpenAPI document is written. Parameters stand in the query, or in the body of a
//! POST, as a form or as a JSON object. Answers are JSON, those of errors `{"error": "…"}`.

mod answers;
mod endpoints;
mod history;
mod openapi;
mod operate;
mod parameters;
mod publish;
mod reply;
mod tap;

pub use self::answers::{backlogs, ended, explained, kicked, limits, session, sessions, status};
pub use self::history::{History, SAMPLE_S};
pub use self::openapi::document;
pub use self::operate::{
    ReloadOutcome, UpgradeOutcome, configuration, logging, reloaded, upgraded,
};
pub use self::publish::{PublishOrder, PublishOutcome, published};
pub use self::reply::failed;
pub use self::tap::{STREAM_BEAT, STREAM_HEAD, put_missed, put_passed};

use self::endpoints::{ApiRoute, Found};
use self::parameters::Parameters;
use self::reply::refuse;
use super::access::{self, AdminRefusal, AdminRight, AdminTokens};
use super::request::AdminRequest;
use crate::dialect::{AskedTopic, Kind};
use crate::inspect::{
    EndFilter, Kick, KickTarget, SessionCursor, SessionFilter, SessionList, SessionOrder, TapFilter,
};
use crate::reason::Reason;
use crate::service::ConnectionRef;
use crate::text::percent_decoded;
use core::net::IpAddr;
use std::path::PathBuf;

/// Default number of sessions in a list; a terminal's scrollback.
const ROWS: usize = 100;
/// Maximum number of sessions in a list, some 300 bytes each.
const ROWS_MAX: usize = 1000;
/// Default, and maximum, number of sessions that one request ends: what a mistake may cost.
const KICKS_MAX: usize = 10_000;
/// Longest text of a close frame in bytes, whose payload is 125 with the code (RFC 6455 section
/// 5.5).
const CLOSE_TEXT_BYTES_MAX: usize = 123;
/// The close codes of an application (RFC 6455 section 7.4.2).
const APPLICATION_CODES: std::ops::RangeInclusive<u16> = 3000..=4999;
/// The close codes that a server may send (RFC 6455 section 7.4.1, and IANA's registry).
const CODES: [u16; 12] = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];

/// A request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V1Call {
    /// The OpenAPI document.
    OpenApi,
    /// The state of the daemon.
    Status,
    /// The limits, and how far they are used.
    Limits,
    /// Sessions.
    Sessions(SessionList),
    /// One session.
    Session(ConnectionRef),
    /// The end of sessions.
    Kick(KickTarget, Kick),
    /// The last ends, at most so many.
    Ended(EndFilter, usize),
    /// Events to publish.
    Publish(PublishOrder),
    /// The last hour, after a time in milliseconds of unix time.
    History(u64),
    /// The largest backlogs of durable topics.
    Backlogs,
    /// Events as they pass.
    Tap(TapFilter),
    /// Whether sessions would get an event.
    Why(KickTarget, PublishOrder),
    /// Directives for the log.
    Log(Box<str>),
    /// A reload.
    Reload,
    /// A hand-over to a new process, of another program if one is named.
    Upgrade(Option<PathBuf>),
    /// The configuration.
    Config,
}

impl V1Call {
    /// Whether it changes something.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(
            self,
            Self::Kick(..) | Self::Publish(_) | Self::Log(_) | Self::Reload | Self::Upgrade(_)
        )
    }
}

/// The longest body of a request that has the right to a longer one than others.
#[must_use]
pub fn body_bytes_max(request: &AdminRequest<'_>, tokens: &AdminTokens) -> Option<usize> {
    let found = endpoints::find(request.method, request.path);
    let takes_events = matches!(&found, Found::Endpoint(endpoint, _) if endpoint.takes_events);
    let is_admitted = || access::admit(request, tokens, right(&found)).is_ok();
    (takes_events && is_admitted()).then_some(publish::EVENTS_BYTES_MAX)
}

/// What a request needs the right to.
fn right(found: &Found<'_>) -> AdminRight {
    match found {
        Found::Endpoint(endpoint, _) if endpoint.route == ApiRoute::Publish => AdminRight::Publish,
        _ => AdminRight::All,
    }
}

/// Parses a request to the API; `None` when it is about something else.
///
/// # Errors
/// The whole response that refuses the request.
pub(super) fn call(
    request: &AdminRequest<'_>,
    tokens: &AdminTokens,
) -> Option<Result<V1Call, Vec<u8>>> {
    if request.path != "/v1" && !request.path.starts_with("/v1/") {
        return None;
    }
    let found = endpoints::find(request.method, request.path);
    // Anything else is only told to those who may ask.
    if !matches!(&found, Found::Endpoint(endpoint, _) if endpoint.is_public)
        && let Err(refusal) = access::admit(request, tokens, right(&found))
    {
        return Some(Err(refuse(&refusal)));
    }

    Some(parse(found, request).map_err(|refusal| refuse(&refusal)))
}

fn parse(found: Found<'_>, request: &AdminRequest<'_>) -> Result<V1Call, AdminRefusal> {
    let (endpoint, captured) = match found {
        Found::Endpoint(endpoint, captured) => (endpoint, captured),
        Found::OtherMethod(allowed) => {
            let reason = format!("{} allows {allowed} only", request.path);
            let headers = format!("Allow: {allowed}\r\n");
            return Err(AdminRefusal {
                status: 405,
                headers: headers.into(),
                reason: reason.into(),
            });
        }
        Found::Nothing => {
            let reason = "there is no such path: /v1/openapi.json lists all";
            return Err(AdminRefusal::new(404, reason));
        }
    };
    let parameters = Parameters::read(request, endpoint);
    parameters
        .and_then(|parameters| parse_call(endpoint.route, captured, &parameters, request))
        .map_err(|reason| AdminRefusal::new(400, reason))
}

fn parse_call(
    route: ApiRoute,
    captured: &str,
    parameters: &Parameters,
    request: &AdminRequest<'_>,
) -> Result<V1Call, String> {
    Ok(match route {
        ApiRoute::Publish => {
            let address = parameters.get("address").ok_or("the parameter address is missing")?;
            V1Call::Publish(publish::order(request, address)?)
        }
        ApiRoute::Why => {
            let address = parameters.get("address").ok_or("the parameter address is missing")?;
            let order = publish::order(request, address)?;
            if order.is_lines {
                return Err("the body is one event".into());
            }
            let target = match parameters.get("id") {
                Some(id) => KickTarget::One(reference(id)?),
                None => {
                    let count = parameters.count("count", ROWS, ROWS_MAX)?;
                    KickTarget::All(filter(parameters, None)?, count)
                }
            };
            V1Call::Why(target, order)
        }
        ApiRoute::Log => {
            let filter = parameters.get("filter").ok_or("the parameter filter is missing")?;
            V1Call::Log(filter.into())
        }
        ApiRoute::Tap => {
            let filter = parameters.get("address").map(TapFilter::read).transpose();
            V1Call::Tap(filter.map_err(|error| format!("address: {error}"))?.unwrap_or_default())
        }
        ApiRoute::Reload => V1Call::Reload,
        ApiRoute::Upgrade => V1Call::Upgrade(binary(parameters, request)?),
        ApiRoute::Config => V1Call::Config,
        ApiRoute::OpenApi => V1Call::OpenApi,
        ApiRoute::Status => V1Call::Status,
        ApiRoute::Limits => V1Call::Limits,
        ApiRoute::History => {
            let after = parameters.get("after").map(str::parse).transpose();
            let after = after.map_err(|_| "after: write a unix time in milliseconds")?;
            V1Call::History(after.unwrap_or(0))
        }
        ApiRoute::Backlogs => V1Call::Backlogs,
        ApiRoute::Sessions => {
            V1Call::Sessions(list(filter(parameters, parameters.get("address"))?, parameters)?)
        }
        ApiRoute::Subscribers => {
            let address = percent_decoded(captured).ok_or("the address is not UTF-8")?;
            let topic = Some(topic(&address)?);
            let filter = SessionFilter { topic, ..SessionFilter::default() };
            V1Call::Sessions(list(filter, parameters)?)
        }
        ApiRoute::Session => V1Call::Session(reference(captured)?),
        ApiRoute::Ended => {
            V1Call::Ended(end_filter(parameters)?, parameters.count("count", ROWS, ROWS_MAX)?)
        }
        ApiRoute::EndSession => {
            V1Call::Kick(KickTarget::One(reference(captured)?), kick(parameters)?)
        }
        ApiRoute::Kick => parse_kick(parameters)?,
    })
}

/// The end of all sessions that a filter means.
fn parse_kick(parameters: &Parameters) -> Result<V1Call, String> {
    let filter = filter(parameters, parameters.get("address"))?;
    if filter.is_empty() {
        return Err(
            "name at least one of dialect, address, subject and topic: without any, every \
                    session would be ended"
                .into(),
        );
    }
    let count_max = parameters.count("limit", KICKS_MAX, KICKS_MAX)?;
    Ok(V1Call::Kick(KickTarget::All(filter, count_max), kick(parameters)?))
}

/// The program that is named for a hand-over.
fn binary(parameters: &Parameters, request: &AdminRequest<'_>) -> Result<Option<PathBuf>, String> {
    let binary = parameters.get("binary").map(PathBuf::from);
    // A token is for the daemon, and not for programs of its user.
    if binary.is_some() && !request.is_admitted {
        return Err(
            "binary is taken from root and the daemon's user alone, on the path of admin.socket"
                .into(),
        );
    }
    Ok(binary)
}

fn reference(captured: &str) -> Result<ConnectionRef, String> {
    captured.parse().map_err(|error| format!("id: {error}"))
}

/// The filter of the parameters, with the address of clients where one is named.
fn filter(parameters: &Parameters, client: Option<&str>) -> Result<SessionFilter, String> {
    Ok(SessionFilter {
        kind: parameters.get("dialect").map(dialect).transpose()?,
        address: client.map(address).transpose()?,
        subject: parameters.get("subject").map(Box::from),
        topic: parameters.get("topic").map(topic).transpose()?,
    })
}

fn end_filter(parameters: &Parameters) -> Result<EndFilter, String> {
    Ok(EndFilter {
        id: parameters.get("id").map(reference).transpose()?,
        kind: parameters.get("dialect").map(dialect).transpose()?,
        reason: parameters.get("reason").map(reason).transpose()?,
        address: parameters.get("address").map(address).transpose()?,
        subject: parameters.get("subject").map(Box::from),
    })
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("address: \"{text}\" is no IP address"))
}

fn reason(name: &str) -> Result<Reason, String> {
    let names = || Reason::ALL.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ");
    Reason::named(name).ok_or_else(|| format!("reason: write one of {}", names()))
}

fn dialect(name: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    Kind::named(name).ok_or_else(|| format!("dialect: write one of {}", names()))
}

fn topic(address: &str) -> Result<AskedTopic, String> {
    Kind::asked_topic(address).map_err(|error| format!("topic: {error}"))
}

fn list(filter: SessionFilter, parameters: &Parameters) -> Result<SessionList, String> {
    let order = match parameters.get("sort") {
        None => SessionOrder::Unsorted,
        Some("age") => SessionOrder::Age,
        Some("backlog") => SessionOrder::Backlog,
        Some(_) => return Err("sort: write age or backlog".into()),
    };
    let from = match parameters.get("after") {
        None => None,
        Some(_) if order != SessionOrder::Unsorted => {
            return Err("after: a sorted list is one page".into());
        }
        Some(text) => {
            Some(SessionCursor::read(text).ok_or("after: give what the last page has as next")?)
        }
    };
    Ok(SessionList { filter, order, count: parameters.count("count", ROWS, ROWS_MAX)?, from })
}

fn kick(parameters: &Parameters) -> Result<Kick, String> {
    let code = match parameters.get("code") {
        None => None,
        Some(code) => {
            let known = code.parse().ok();
            let known =
                known.filter(|code| CODES.contains(code) || APPLICATION_CODES.contains(code));
            Some(known.ok_or("code: write a close code, such as 1008, or one from 3000 to 4999")?)
        }
    };
    let text = parameters.get("reason").unwrap_or_default();
    if text.len() > CLOSE_TEXT_BYTES_MAX {
        return Err(format!("reason: a close frame has room for {CLOSE_TEXT_BYTES_MAX} bytes"));
    }
    Ok(Kick { code, text: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::AdminToken;
    use serde_json::Value;

    const SESSION: ConnectionRef = ConnectionRef { shard: 0, id: 17, serial: 42 };

    fn tokens() -> AdminTokens {
        let all = Some(AdminToken::new("0123456789abcdef").unwrap());
        AdminTokens { all, ..AdminTokens::default() }
    }

    /// The call, or the status and the sentence of the refusal.
    fn ask(method: &str, target: &str, body: &str) -> Result<V1Call, (u16, String)> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = AdminRequest {
            method,
            path,
            query,
            body: body.as_bytes(),
            authorization: "Bearer 0123456789abcdef",
            ..AdminRequest::default()
        };
        call(&request, &tokens()).unwrap().map_err(|response| {
            let response = String::from_utf8(response).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("Content-Type: application/json"), "{head}");
            let body: Value = serde_json::from_str(body).unwrap();
            (head[9..12].parse().unwrap(), body["error"].as_str().unwrap().to_owned())
        })
    }

    #[test]
    fn a_list_is_filtered_sorted_and_paged() {
        let plain = SessionList { count: ROWS, ..SessionList::default() };
        assert_eq!(ask("GET", "/v1/sessions", ""), Ok(V1Call::Sessions(plain.clone())));
        let narrow = "dialect=echo&address=192.0.2.7&subject=a+b&topic=echo/7/room";
        let filter = SessionFilter {
            kind: Kind::named("echo"),
            address: Some(IpAddr::from([192, 0, 2, 7])),
            subject: Some("a b".into()),
            topic: Some(Kind::asked_topic("echo/7/room").unwrap()),
        };
        let list = SessionList { filter: filter.clone(), ..plain.clone() };
        assert_eq!(ask("GET", &format!("/v1/sessions?{narrow}"), ""), Ok(V1Call::Sessions(list)));
        let from = Some(SessionCursor { shard: 1, id: 7 });
        let page = SessionList { count: 3, from, ..plain.clone() };
        assert_eq!(ask("GET", "/v1/sessions?after=1-7&count=3", ""), Ok(V1Call::Sessions(page)));
        let slowest = SessionList { order: SessionOrder::Backlog, ..plain };
        assert_eq!(ask("GET", "/v1/sessions?sort=backlog", ""), Ok(V1Call::Sessions(slowest)));

        let kick = Kick { code: Some(4000), text: "bye".into() };
        let all = V1Call::Kick(KickTarget::All(filter, 5), kick);
        let more = "code=4000&reason=bye&limit=5";
        assert_eq!(ask("POST", &format!("/v1/kick?{narrow}&{more}"), ""), Ok(all.clone()));
        assert_eq!(ask("POST", "/v1/kick", &format!("{narrow}&{more}\n")), Ok(all.clone()));
        let json = r#"{"dialect": "echo", "address": "192.0.2.7", "subject": "a b",
            "topic": "echo/7/room", "code": 4000, "reason": "bye", "limit": 5}"#;
        assert_eq!(ask("POST", "/v1/kick", json), Ok(all));
    }

    #[test]
    fn one_session_is_shown_and_ended_by_its_id() {
        assert_eq!(ask("GET", "/v1/sessions/0-17-42", ""), Ok(V1Call::Session(SESSION)));
        let one = |kick| Ok(V1Call::Kick(KickTarget::One(SESSION), kick));
        assert_eq!(ask("DELETE", "/v1/sessions/0-17-42", ""), one(Kick::default()));
        let kick = Kick { code: Some(1008), text: "".into() };
        assert_eq!(ask("DELETE", "/v1/sessions/0-17-42?code=1008", ""), one(kick));
    }

    #[test]
    fn the_last_ends_are_asked_for_by_all_that_identifies_them() {
        let filter = EndFilter {
            id: Some(SESSION),
            kind: Kind::named("wazo"),
            reason: Some(Reason::Slow),
            address: Some(IpAddr::from([192, 0, 2, 7])),
            subject: Some("ann".into()),
        };
        let query = "id=0-17-42&dialect=wazo&reason=slow&address=192.0.2.7&subject=ann&count=5";
        assert_eq!(ask("GET", &format!("/v1/ended?{query}"), ""), Ok(V1Call::Ended(filter, 5)));
        assert_eq!(ask("GET", "/v1/ended", ""), Ok(V1Call::Ended(EndFilter::default(), ROWS)));
    }

    #[test]
    fn what_is_wrong_with_a_request_is_told_and_nothing_is_ended() {
        let long = format!("/v1/kick?dialect=echo&reason={}", "x".repeat(124));
        for (method, target, body, status, said) in [
            ("GET", "/v1/nothing", "", 404, "/v1/openapi.json lists all"),
            ("GET", "/v1", "", 404, "/v1/openapi.json lists all"),
            ("POST", "/v1/sessions", "", 405, "allows GET, HEAD only"),
            ("GET", "/v1/kick", "", 405, "allows POST only"),
            ("GET", "/v1/sessions/17", "", 400, "such as 0-17-42"),
            (
                "GET",
                "/v1/sessions?adress=::1",
                "",
                400,
                "no parameter \"adress\" here; there are: \
                                                          dialect, address",
            ),
            ("GET", "/v1/status?x=1", "", 400, "there are: none"),
            ("GET", "/v1/sessions?count=1001", "", 400, "from 1 to 1000"),
            ("GET", "/v1/sessions?sort=age&after=0-1", "", 400, "one page"),
            ("GET", "/v1/sessions?after=x", "", 400, "the last page has as next"),
            ("GET", "/v1/sessions?dialect=eco", "", 400, "one of personium-event"),
            ("GET", "/v1/sessions?address=host", "", 400, "no IP address"),
            ("GET", "/v1/ended?reason=slowly", "", 400, "one of connection_limit, descriptors"),
            ("GET", "/v1/sessions?topic=eco/7/x", "", 400, "begins with one of event"),
            ("GET", "/v1/sessions?topic=echo/7", "", 400, "write echo/APP-ID/CHANNEL"),
            ("GET", "/v1/sessions?topic=pulsar/persistent/t/n/x", "", 400, "/topics/stats"),
            ("POST", "/v1/kick", "", 400, "every session would be ended"),
            ("POST", "/v1/kick", "{}", 400, "every session would be ended"),
            ("POST", "/v1/kick?dialect=", "", 400, "every session would be ended"),
            ("POST", "/v1/kick?dialect=echo", "dialect=wazo", 400, "stands twice"),
            ("POST", "/v1/kick", "{\"dialect\": [1]}", 400, "a text or a number"),
            ("POST", "/v1/kick", "{\"dialect\"", 400, "is no JSON"),
            ("POST", "/v1/kick?dialect=echo&code=1005", "", 400, "write a close code"),
            ("POST", "/v1/kick?dialect=echo&limit=10001", "", 400, "from 1 to 10000"),
            ("POST", &long, "", 400, "room for 123 bytes"),
        ] {
            let (found, sentence) = ask(method, target, body).unwrap_err();
            assert!(found == status && sentence.contains(said), "{target}: {found} {sentence}");
        }
    }

    #[test]
    fn a_stranger_learns_the_document_and_nothing_else_not_even_which_paths_there_are() {
        let status = |path| {
            let request = AdminRequest { method: "GET", path, ..AdminRequest::default() };
            let refusal = call(&request, &tokens()).unwrap().err();
            refusal.map(|refusal| String::from_utf8(refusal).unwrap()[9..12].to_owned())
        };
        assert_eq!(status("/v1/openapi.json"), None);
        for path in ["/v1/status", "/v1/sessions", "/v1/nothing", "/v1"] {
            assert_eq!(status(path).as_deref(), Some("401"), "{path}");
        }
    }
}
