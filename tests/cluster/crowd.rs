//! Members of presence channels on all nodes, each with its own view of the list, and the oracle that knows who is
//! there because it has let them in and out.

use crate::bed::Bed;
use crate::dialects::APP;
use crate::harness::{Daemon, Echo, eventually_well, http, signed};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The users of each channel.
pub(crate) type Lists = BTreeMap<String, BTreeSet<String>>;

/// A connection in a presence channel, and what it has been told.
pub(crate) struct Member {
    echo: Echo,
    /// Its node.
    pub(crate) node: usize,
    /// Its channel.
    pub(crate) channel: String,
    /// Its user.
    pub(crate) user: String,
    /// How long it waited to be let in.
    pub(crate) waited: Duration,
    list: BTreeSet<String>,
    /// Who left, as it was told.
    pub(crate) removed: Vec<String>,
}

impl Member {
    /// One that is let in; the code of the error, or of the close, where it is not.
    pub(crate) fn join(
        daemon: &Daemon,
        node: usize,
        channel: &str,
        user: &str,
    ) -> Result<Self, u64> {
        let mut echo = Echo::connect(daemon);
        let start = Instant::now();
        echo.ask_to_join(channel, Some(user));
        loop {
            let frame = echo.client.next().ok_or(0u64)?;
            if frame.first == 0x88 {
                return Err(u16::from_be_bytes(frame.payload[..2].try_into().unwrap()).into());
            }
            let Ok(event) = serde_json::from_slice::<Value>(&frame.payload) else { continue };
            let data = data_of(&event);
            match event["event"].as_str().unwrap() {
                "pusher_internal:subscription_succeeded" => {
                    let ids = data["presence"]["ids"].as_array().unwrap();
                    let list = ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
                    let (channel, user) = (channel.to_owned(), user.to_owned());
                    let (waited, removed) = (start.elapsed(), Vec::new());
                    return Ok(Self { echo, node, channel, user, waited, list, removed });
                }
                "pusher:subscription_error" => return Err(data["status"].as_u64().unwrap()),
                "pusher:error" => return Err(data["code"].as_u64().unwrap()),
                _ => {}
            }
        }
    }

    /// Reads what has come. Each user comes and goes in turn.
    #[track_caller]
    pub(crate) fn catch_up(&mut self) {
        while self.echo.client.has_news() {
            let Some(frame) = self.echo.client.next() else {
                panic!("{} of {} on {} was cut off", self.user, self.channel, self.node);
            };
            if frame.first != 0x81 {
                assert_ne!(frame.first, 0x88, "{}: {:?}", self.user, frame.payload);
                continue;
            }
            let event: Value = serde_json::from_slice(&frame.payload).unwrap();
            let user = data_of(&event)["user_id"].as_str().unwrap_or_default().to_owned();
            let here = format!("{} in {} on {}", self.user, self.channel, self.node);
            match event["event"].as_str().unwrap() {
                "pusher_internal:member_added" => {
                    assert!(self.list.insert(user.clone()), "{user} was added twice to {here}");
                }
                "pusher_internal:member_removed" => {
                    assert!(self.list.remove(&user), "{user} was removed twice from {here}");
                    self.removed.push(user);
                }
                _ => {}
            }
        }
    }
}

/// An event's data, which is JSON in a string.
fn data_of(event: &Value) -> Value {
    match &event["data"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        data => data.clone(),
    }
}

/// What the HTTP API answers.
pub(crate) fn ask(daemon: SocketAddr, path: &str) -> (u16, Value) {
    let target = signed("GET", &format!("/apps/{APP}{path}"), "");
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (status, rest) = http(daemon, request.as_bytes());
    let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The users of a channel, as the API answers.
pub(crate) fn users(daemon: SocketAddr, channel: &str) -> Result<BTreeSet<String>, u16> {
    let (status, body) = ask(daemon, &format!("/channels/{channel}/users"));
    if status != 200 {
        return Err(status);
    }
    let users = body["users"].as_array().unwrap_or_else(|| panic!("no users: {body}"));
    Ok(users.iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect())
}

/// Everybody who is in a channel.
#[derive(Default)]
pub(crate) struct Crowd {
    pub(crate) members: Vec<Member>,
}

impl Crowd {
    /// Lets a user into a channel.
    #[track_caller]
    pub(crate) fn join(&mut self, bed: &Bed, node: usize, channel: &str, user: &str) {
        let member = Member::join(bed.node(node), node, channel, user);
        let member =
            member.unwrap_or_else(|code| panic!("{user} is not let into {channel}: {code}"));
        self.members.push(member);
    }

    /// Lets a user in who is sent away while a partition has no owner, and comes again, as pusher-js does.
    #[track_caller]
    pub(crate) fn join_patiently(&mut self, bed: &Bed, node: usize, channel: &str, user: &str) {
        let start = Instant::now();
        loop {
            match Member::join(bed.node(node), node, channel, user) {
                Ok(member) => return self.members.push(member),
                Err(4200 | 0) if start.elapsed() < Duration::from_secs(60) => {}
                Err(code) => panic!("{user} is not let into {channel}: {code}"),
            }
        }
    }

    /// All on this node are gone.
    pub(crate) fn lose(&mut self, node: usize) {
        self.members.retain(|member| member.node != node);
    }

    /// Who is there.
    pub(crate) fn lists(&self) -> Lists {
        let mut lists = Lists::new();
        for member in &self.members {
            lists.entry(member.channel.clone()).or_default().insert(member.user.clone());
        }
        lists
    }

    /// Waits until everybody and every node's API say what is so; returns how long it took.
    #[track_caller]
    pub(crate) fn settle(&mut self, bed: &Bed, within: Duration) -> Duration {
        self.settle_among(bed, usize::MAX, within)
    }

    /// The same while one node does not run.
    #[track_caller]
    pub(crate) fn settle_among(&mut self, bed: &Bed, ended: usize, within: Duration) -> Duration {
        let start = Instant::now();
        eventually_well(within, || {
            let wrong = self.wrong(bed, ended);
            let some = &wrong[..wrong.len().min(10)];
            if wrong.is_empty() {
                Ok(())
            } else {
                Err(format!("{} are wrong: {some:#?}", wrong.len()))
            }
        });
        start.elapsed()
    }

    /// What is not as it is.
    #[track_caller]
    fn wrong(&mut self, bed: &Bed, ended: usize) -> Vec<String> {
        let lists = self.lists();
        let mut wrong = Vec::new();
        for member in &mut self.members {
            member.catch_up();
            let truth = &lists[&member.channel];
            if member.list != *truth {
                wrong.push(format!(
                    "{} on {} sees {:?} in {}, where {truth:?} are",
                    member.user, member.node, member.list, member.channel
                ));
            }
        }
        if !wrong.is_empty() {
            return wrong;
        }
        let counts: Value = lists
            .iter()
            .map(|(channel, users)| (channel.clone(), json!({ "user_count": users.len() })))
            .collect();
        for (_, daemon) in bed.nodes().enumerate().filter(|(index, _)| *index != ended) {
            let path = "/channels?filter_by_prefix=presence-&info=user_count";
            let (status, all) = ask(daemon.address, path);
            if (status, &all["channels"]) != (200, &counts) {
                wrong.push(format!("{}: {status} {all} instead of {counts}", daemon.address));
            }
            for (channel, truth) in &lists {
                match users(daemon.address, channel) {
                    Ok(users) if users == *truth => {}
                    other => wrong.push(format!("{}: {channel}: {other:?}", daemon.address)),
                }
            }
        }
        wrong
    }
}
