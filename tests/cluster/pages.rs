//! The members of presence channels as Laravel Echo's own clients see them, on all nodes, through everything that
//! happens to nodes and servers.

use crate::bed::Bed;
use crate::crowd::{Lists, users};
use crate::dialects::every_dialect;
use crate::harness::{eventually_within, node};
use crate::is_long;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

/// How long a client of pusher-js, an election and the change of an owner may take together.
const RECOVERY: Duration = Duration::from_secs(40);

/// Tabs of `echo_crowd.js`.
struct Pages {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    tabs: usize,
}

impl Pages {
    /// So many tabs in so many channels; `None` where the clients are not installed.
    fn open(bed: &Bed, tabs: usize, channels: usize) -> Option<Self> {
        let hosts: Vec<String> = bed.nodes().map(|it| it.address.ip().to_string()).collect();
        let mut command = node("echo_crowd.js")?;
        command.args([&hosts.join(","), "8080", &tabs.to_string(), &channels.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, input, output, tabs })
    }

    /// Gives a command; returns what the tabs see.
    fn say(&mut self, command: &str) -> Value {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let report: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(report["wrong"], serde_json::json!([]));
        report
    }

    /// Waits until so many tabs are connected and each sees who is there, as does the API of every node that runs.
    #[track_caller]
    fn settle(&mut self, bed: &Bed, tabs: usize, ended: Option<usize>) {
        let mut last = String::new();
        let is_settled = || {
            let report = self.say("report");
            last = why_not(bed, &report, tabs, ended).unwrap_or_default();
            last.is_empty()
        };
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually_within(RECOVERY, "every tab sees who is there", is_settled);
        }));
        assert!(settled.is_ok(), "{last}");
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is not so yet.
fn why_not(bed: &Bed, report: &Value, tabs: usize, ended: Option<usize>) -> Option<String> {
    let there = report["there"].as_array().unwrap();
    if there.len() != tabs {
        return Some(format!("{} tabs are there instead of {tabs}", there.len()));
    }
    let mut lists = Lists::new();
    for tab in there {
        let list = lists.entry(tab["channel"].as_str().unwrap().to_owned()).or_default();
        list.insert(tab["user"].as_str().unwrap().to_owned());
    }
    for tab in there {
        let truth = &lists[tab["channel"].as_str().unwrap()];
        let Some(seen) = tab["seen"].as_array() else { return Some(format!("{tab} is not in")) };
        let seen: BTreeSet<String> = seen.iter().map(|id| id.as_str().unwrap().into()).collect();
        if seen != *truth {
            return Some(format!("{tab}, but {truth:?} are there"));
        }
    }
    for (index, daemon) in bed.nodes().enumerate() {
        for (channel, truth) in lists.iter().filter(|_| ended != Some(index)) {
            match users(daemon.address, channel) {
                Ok(users) if users == *truth => {}
                other => return Some(format!("{}: {channel}: {other:?}", daemon.address)),
            }
        }
    }
    None
}

#[test]
fn pages_see_who_is_there_through_kills_of_nodes_and_servers() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let (tabs, channels) = if is_long() { (600, 60) } else { (30, 6) };
    let Some(mut pages) = Pages::open(&bed, tabs, channels) else { return };
    pages.settle(&bed, tabs, None);
    for index in [0, 7, 14] {
        pages.say(&format!("leave {index}"));
    }
    pages.settle(&bed, tabs - 3, None);
    for index in [0, 7, 14] {
        pages.say(&format!("join {index}"));
    }
    pages.settle(&bed, pages.tabs, None);

    for round in 0..if is_long() { 30 } else { 2 } {
        let victim = round % 3;
        bed.kill(victim);
        pages.settle(&bed, tabs - tabs / 3, Some(victim));
        bed.servers[victim].kill();
        bed.again(victim);
        pages.settle(&bed, tabs, None);
        bed.servers[victim].start();
        bed.await_servers();
    }
    pages.settle(&bed, tabs, None);
}
