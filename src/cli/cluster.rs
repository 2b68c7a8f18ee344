//! `fanfare cluster`: the nodes of a cluster, and emptying one, over the admin listener of a running
//! daemon.

use super::output::{columns, grouped, note, print as put};
use super::reach::admin_command;
use super::{CliError, error::printable};
use argh::{ArgsInfo, FromArgs};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a drain waits for the other nodes to own everything.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Interval between looks at what is left.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// Characters of a name or release that are shown.
const NAME_CHARS_MAX: usize = 80;

/// Look at the nodes of a cluster, or empty one of them.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "cluster",
    example = "{command_name} status\n{command_name} drain",
    note = "Both take --admin and --token-file, or --config; without them $FANFARE_ADMIN_ADDRESS \
            and $FANFARE_ADMIN_TOKEN_FILE, else the development daemon (`fanfare serve`) if it \
            runs, else the system service (/etc/fanfare/fanfare.toml).",
    note = "The manual: fanfare help clustering"
)]
pub struct ClusterCommand {
    #[argh(subcommand)]
    command: ClusterAction,
}

#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand)]
enum ClusterAction {
    Status(StatusCommand),
    Drain(DrainCommand),
}

admin_command! {
    /// The nodes, and who owns which partition of presence, as the daemon sees them.
    #[argh(subcommand, name = "status")]
    StatusCommand shows {}
}

admin_command! {
    /// Hand everything that the daemon owns over to the other nodes; it takes nothing until it is started again.
    #[argh(subcommand, name = "drain")]
    DrainCommand {}
}

impl ClusterCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            ClusterAction::Status(command) => command.run(),
            ClusterAction::Drain(command) => command.run(),
        }
    }
}

impl StatusCommand {
    fn run(self) -> Result<(), CliError> {
        let answer = self.reach()?.ask("GET", "/cluster", &[])?.good()?;
        if self.json { put(&answer.text()?) } else { put(&shown(&answer.json()?)) }
    }
}

impl DrainCommand {
    fn run(self) -> Result<(), CliError> {
        let reach = self.reach()?;
        reach.ask("POST", "/cluster/drain", &[])?.good()?;
        note("handing over what this node owns …");

        let start = Instant::now();
        loop {
            let status = reach.ask("GET", "/cluster", &[])?.good()?.json()?;
            let left = left(&status);
            if status["draining"] == true && left == 0 {
                let node = text(&status["node"]);
                return put(&format!(
                    "{node} owns nothing any more, and takes nothing until it is started again\n"
                ));
            }
            if start.elapsed() > DRAIN_MAX {
                return Err(CliError::try_again(format!(
                    "no other node has taken {left} partitions within {} s: `fanfare cluster status` \
                     shows the nodes, and the log of each says what it lacks",
                    DRAIN_MAX.as_secs()
                )));
            }
            std::thread::sleep(DRAIN_LOOK);
        }
    }
}

/// The number of partitions that no other node owns.
fn left(status: &Value) -> usize {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions.filter(|partition| partition["state"] != "elsewhere").count()
}

/// The status as a person reads it.
fn shown(status: &Value) -> String {
    let (own, partitions) = (text(&status["node"]), status["partitions"].as_array());
    let partitions = partitions.map(Vec::as_slice).unwrap_or_default();
    let owned_by = |name: &str| -> String {
        let owned = partitions.iter().filter(|partition| text(&partition["owner"]) == name);
        let numbers: Vec<String> =
            owned.map(|partition| partition["partition"].to_string()).collect();
        if numbers.is_empty() { "-".into() } else { numbers.join(" ") }
    };

    let head =
        ["node", "state", "release", "connections", "last heard", "round trip", "partitions"];
    let mut lines = vec![head.map(str::to_owned)];
    let draining = status["draining"] == true;
    let state = if draining { "this node, draining" } else { "this node" };
    let release = env!("CARGO_PKG_VERSION").to_owned();
    let connections = status["connections"].as_u64().map_or_else(|| "-".into(), grouped);
    lines.push([
        own.clone(),
        state.into(),
        release,
        connections,
        "-".into(),
        "-".into(),
        owned_by(&own),
    ]);
    let nodes = status["nodes"].as_array().into_iter().flatten();
    for node in nodes.clone() {
        let name = text(&node["name"]);
        let mut state = text(&node["state"]);
        for (key, word) in [
            ("draining", "draining"),
            ("settings_differ", "other settings"),
            ("doubled", "name used twice"),
            ("stopped", "stopped"),
        ] {
            if node[key] == true {
                state += &format!(", {word}");
            }
        }
        let silent = format!("{:.1} s ago", node["silent_ms"].as_f64().unwrap_or(0.0) / 1e3);
        let connections = grouped(node["connections"].as_u64().unwrap_or(0));
        let partitions = owned_by(&name);
        let trip = node["round_trip_us"].as_f64();
        let trip = trip.map_or_else(|| "-".into(), |us| format!("{:.1} ms", us / 1e3));
        let release = text(&node["release"]);
        lines.push([name, state, release, connections, silent, trip, partitions]);
    }
    let mut shown = columns(&lines, usize::MAX, NAME_CHARS_MAX);

    let orphans = partitions.iter().filter(|partition| partition["owner"].is_null());
    let orphans: Vec<String> =
        orphans.map(|partition| partition["partition"].to_string()).collect();
    if !orphans.is_empty() {
        shown += &format!("without an owner: partitions {}\n", orphans.join(" "));
    }
    if status["connected"] != true {
        shown += "not connected to NATS: what is told of other nodes may be old\n";
    }
    for reason in status["unready"].as_array().into_iter().flatten() {
        shown += &format!("not ready: {}\n", text(reason));
    }
    if let Some(fault) = status["fault"].as_str() {
        shown += &format!("{}\n", printable(fault, usize::MAX));
    }
    shown
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default(), NAME_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_shown_as_a_table_with_what_is_wrong_below() {
        let status = json!({
            "node": "a", "connected": true, "draining": false, "unready": [], "connections": 1200,
            "nodes": [
                {"name": "b", "state": "live", "silent_ms": 312, "round_trip_us": 840, "release": "0.1.0",
                 "connections": 34567, "draining": true, "settings_differ": true, "doubled": false},
            ],
            "partitions": [
                {"partition": 0, "owner": "a", "epoch": 7, "state": "owned"},
                {"partition": 1, "owner": "b", "epoch": 9, "state": "elsewhere"},
                {"partition": 2, "owner": null, "epoch": 0, "state": "orphaned"},
                {"partition": 3, "owner": "a", "epoch": 8, "state": "releasing"},
            ],
        });
        assert_eq!(left(&status), 3);
        let release = env!("CARGO_PKG_VERSION");
        assert_eq!(
            shown(&status),
            format!(
                "node  state                           release  connections  last heard  round trip  partitions\n\
                 a     this node                       {release}    1,200        -           -           0 3\n\
                 b     live, draining, other settings  0.1.0    34,567       0.3 s ago   0.8 ms      1\n\
                 without an owner: partitions 2\n"
            )
        );
    }
}
