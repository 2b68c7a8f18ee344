//! The table of the API's requests.

/// A request of the API.
pub(super) struct ApiEndpoint {
    pub(super) method: &'static str,
    /// The path; a name in braces stands for any text.
    pub(super) path: &'static str,
    pub(super) route: ApiRoute,
    /// What it does, in a line.
    pub(super) about: &'static str,
    pub(super) parameters: &'static [ApiParameter],
    /// Whether it needs no right.
    pub(super) is_public: bool,
    /// Whether its body has events, and no parameters.
    pub(super) takes_events: bool,
}

/// Which request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiRoute {
    OpenApi,
    Status,
    Limits,
    Sessions,
    Session,
    EndSession,
    Kick,
    Ended,
    Subscribers,
    Publish,
    Log,
    Reload,
    Upgrade,
    Config,
    Why,
    Tap,
    History,
    Backlogs,
}

/// A parameter of a request.
pub(super) struct ApiParameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Whether it is a number.
    pub(super) is_number: bool,
}

const fn text(name: &'static str, about: &'static str) -> ApiParameter {
    ApiParameter { name, about, is_number: false }
}

const fn number(name: &'static str, about: &'static str) -> ApiParameter {
    ApiParameter { name, about, is_number: true }
}

const fn get(
    path: &'static str,
    route: ApiRoute,
    about: &'static str,
    parameters: &'static [ApiParameter],
) -> ApiEndpoint {
    ApiEndpoint {
        method: "GET",
        path,
        route,
        about,
        parameters,
        is_public: false,
        takes_events: false,
    }
}

const fn post(
    path: &'static str,
    route: ApiRoute,
    about: &'static str,
    parameters: &'static [ApiParameter],
) -> ApiEndpoint {
    ApiEndpoint { method: "POST", ..get(path, route, about, parameters) }
}

const DIALECT: ApiParameter = text("dialect", "The name of a dialect");
const ADDRESS: ApiParameter = text("address", "The IP address of the client");
const SUBJECT: ApiParameter = text("subject", "The subject, as sessions are listed with it");
const TOPIC: ApiParameter =
    text("topic", "The address of a topic, such as echo/APP/CHANNEL, whose events they may get");
const CODE: ApiParameter = number("code", "The close code; without one, the dialect's own");
const REASON: ApiParameter = text("reason", "The text of the close frame");

const COUNT: ApiParameter =
    number("count", "Maximum number of rows, 100 by default and at most 1000");
const AFTER: ApiParameter = text("after", "The next of the page before");

/// All requests, in the order of the manual.
pub(super) const ENDPOINTS: &[ApiEndpoint] = &[
    ApiEndpoint {
        is_public: true,
        ..get("/v1/openapi.json", ApiRoute::OpenApi, "This document", &[])
    },
    get(
        "/v1/status",
        ApiRoute::Status,
        "The state of the daemon, and what it has done so far",
        &[],
    ),
    get(
        "/v1/history",
        ApiRoute::History,
        "The last hour in samples: rates, sessions, latencies, ends",
        &[number("after", "Only those after this time, in milliseconds of unix time")],
    ),
    get("/v1/limits", ApiRoute::Limits, "The limits, and how far they are used", &[]),
    get(
        "/v1/sessions",
        ApiRoute::Sessions,
        "Connections of clients, and their sessions",
        &[
            DIALECT,
            ADDRESS,
            SUBJECT,
            TOPIC,
            text("sort", "age: the oldest first; backlog: the slowest first"),
            COUNT,
            AFTER,
        ],
    ),
    get("/v1/sessions/{id}", ApiRoute::Session, "One session with its subscriptions", &[]),
    ApiEndpoint {
        method: "DELETE",
        ..get("/v1/sessions/{id}", ApiRoute::EndSession, "Ends a session", &[CODE, REASON])
    },
    post(
        "/v1/kick",
        ApiRoute::Kick,
        "Ends all sessions that a filter means",
        &[
            DIALECT,
            ADDRESS,
            SUBJECT,
            TOPIC,
            CODE,
            REASON,
            number("limit", "Maximum number of sessions to end, 10000 by default and at most"),
        ],
    ),
    get(
        "/v1/ended",
        ApiRoute::Ended,
        "The last sessions that have ended and connections that were refused, the newest first",
        &[
            text("id", "The id of the session"),
            DIALECT,
            text("reason", "The reason, such as slow"),
            ADDRESS,
            SUBJECT,
            COUNT,
        ],
    ),
    ApiEndpoint {
        takes_events: true,
        ..post(
            "/v1/publish",
            ApiRoute::Publish,
            "Publishes the event in the body, or with application/x-ndjson one in each line",
            &[text("address", "The address, as in a line of a feed")],
        )
    },
    get(
        "/v1/backlogs",
        ApiRoute::Backlogs,
        "The subscriptions of durable topics with the most messages that wait",
        &[],
    ),
    get(
        "/v1/topics/{address}/subscribers",
        ApiRoute::Subscribers,
        "The sessions that may get the events of a topic, such as echo/APP/CHANNEL",
        &[COUNT, AFTER],
    ),
    get(
        "/v1/tap",
        ApiRoute::Tap,
        "The events that pass from now on, as server-sent events, until the connection ends",
        &[text(
            "address",
            "Only those of an address, such as echo/APP/CHANNEL, and all that go on behind it; a \
             star stands for any text",
        )],
    ),
    ApiEndpoint {
        takes_events: true,
        ..post(
            "/v1/why",
            ApiRoute::Why,
            "Whether sessions would get the event in the body, and why; nothing is published",
            &[
                text("address", "The address, as in a line of a feed"),
                text("id", "The session; without it, those of dialect, subject and topic"),
                DIALECT,
                SUBJECT,
                TOPIC,
                COUNT,
            ],
        )
    },
    post(
        "/v1/log",
        ApiRoute::Log,
        "Logs by these directives until the next reload",
        &[text("filter", "A level, or directives such as warn,fanfare::io=debug")],
    ),
    post("/v1/reload", ApiRoute::Reload, "Reads the configuration again, as SIGHUP does", &[]),
    post(
        "/v1/upgrade",
        ApiRoute::Upgrade,
        "Hands everything over to a new process of the program, which clients do not notice",
        &[text("binary", "Another program; only on the path of admin.socket")],
    ),
    get("/v1/config", ApiRoute::Config, "The keys that are set, without secrets", &[]),
];

/// What is at a path.
pub(super) enum Found<'a> {
    /// A request, with the text of the path's braces.
    Endpoint(&'static ApiEndpoint, &'a str),
    /// Requests of other methods.
    OtherMethod(String),
    /// Nothing.
    Nothing,
}

/// The request with this method and path.
pub(super) fn find<'a>(method: &str, path: &'a str) -> Found<'a> {
    let mut allowed: Vec<&str> = Vec::new();
    for endpoint in ENDPOINTS {
        let Some(captured) = endpoint.captured(path) else { continue };
        if endpoint.method == method {
            return Found::Endpoint(endpoint, captured);
        }
        // Every GET answers HEAD too (RFC 9110 section 9.1), and 405 lists all (section 15.5.6).
        allowed.push(endpoint.method);
        if endpoint.method == "GET" {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() { Found::Nothing } else { Found::OtherMethod(allowed.join(", ")) }
}

impl ApiEndpoint {
    /// The text in the place of the braces, if a path is this one's; empty where there are none.
    fn captured<'a>(&self, path: &'a str) -> Option<&'a str> {
        let Some((before, rest)) = self.path.split_once('{') else {
            return (path == self.path).then_some("");
        };
        let (_, after) = rest.split_once('}')?;
        let captured = path.strip_prefix(before)?.strip_suffix(after)?;
        (!captured.is_empty()).then_some(captured)
    }

    /// The name in the braces.
    pub(super) fn captures(&self) -> Option<&'static str> {
        let (_, rest) = self.path.split_once('{')?;
        Some(rest.split_once('}')?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_of_the_table_is_found_and_is_no_others() {
        for endpoint in ENDPOINTS {
            let path = endpoint.path.replace('{', "x").replace('}', "y");
            let Found::Endpoint(found, captured) = find(endpoint.method, &path) else {
                panic!("{path}");
            };
            assert_eq!((found.method, found.path), (endpoint.method, endpoint.path));
            assert_eq!(captured.is_empty(), endpoint.captures().is_none(), "{path}");
        }
        for other in ["/v1", "/v1/", "/v1/sessions/", "/v1/session", "/v1/statuses"] {
            assert!(matches!(find("GET", other), Found::Nothing), "{other}");
        }
        let Found::OtherMethod(allowed) = find("POST", "/v1/sessions/0-1-1") else { panic!() };
        assert_eq!(allowed, "GET, HEAD, DELETE");
    }
}
