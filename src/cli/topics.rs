//! `fanfare topics`: looks at durable topics and looks after them, over the admin listener of a
//! running daemon.
//!
//! Each command is one request, except that a list is asked for page by page, and that a restore is
//! for a daemon that does not run. What deletes something asks first.

mod restore;
mod show;

use self::restore::Restore;
use super::confirm::confirm;
use super::output::{note, print as put};
use super::reach::{AdminAnswer, AdminReach, admin_command};
use super::{CliError, error::printable};
use argh::{ArgsInfo, FromArgs};
use serde_json::Value;
use std::process::ExitCode;

/// Names that one page of a list has.
const PAGE_NAMES: usize = 1000;
/// Names among which one is looked for that is near a wrong one; the namespaces of people have
/// fewer topics.
const NEAR_NAMES: usize = 10_000;
/// Near names that are shown.
const NEAR_SHOWN_MAX: usize = 3;
/// Characters of a name that are shown, which is all: a name has up to 1024 bytes.
const NAME_CHARS_MAX: usize = 1024;

/// Look at the durable topics of a running daemon, and look after them.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "topics",
    example = "{command_name} list\n\
               {command_name} stats public/default/orders\n\
               {command_name} peek public/default/orders --subscription billing --count 3\n\
               {command_name} reset public/default/orders billing earliest\n\
               {command_name} delete public/default/old-orders",
    note = "TOPIC is persistent://TENANT/NAMESPACE/TOPIC, or that without persistent://.",
    note = "Every command but restore takes --admin and --token-file, or --config; without them \
            $FANFARE_ADMIN_ADDRESS and $FANFARE_ADMIN_TOKEN_FILE, else the development daemon \
            (`fanfare serve`) if it runs, else the system service (/etc/fanfare/fanfare.toml). \
            With --json it prints what the daemon says.",
    note = "The manual: fanfare help store"
)]
pub struct TopicsCommand {
    #[argh(subcommand)]
    command: TopicsAction,
}

#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand)]
enum TopicsAction {
    List(List),
    Stats(Stats),
    Peek(Peek),
    Room(Room),
    Purge(Purge),
    Terminate(Terminate),
    Delete(Delete),
    Reset(Reset),
    Forget(Forget),
    Backup(Backup),
    Restore(Restore),
}

/// Declares a command about a topic, which it names; one that `changes` it asks first.
macro_rules! topic_command {
    ($(#[$about:meta])* $name:ident changes { $($fields:tt)* }) => {
        topic_command! {
            $(#[$about])*
            $name {
                $($fields)*
                /// do not ask first
                #[argh(switch)]
                yes: bool,
            }
        }

        impl $name {
            /// Asks a person, then the daemon.
            fn change(
                &self,
                question: &str,
                method: &str,
                name: &str,
                more: &[(&str, &str)],
            ) -> Result<(), CliError> {
                confirm(question, self.yes)?;
                let topic = full(&self.topic);
                let parameters = [&[("topic", &*topic)], more].concat();
                done(&about(&self.reach()?, method, name, &parameters)?, self.json)
            }
        }
    };
    ($(#[$about:meta])* $name:ident { $($fields:tt)* }) => {
        admin_command! {
            $(#[$about])*
            $name shows {
                /// the topic
                #[argh(positional, arg_name = "TOPIC")]
                topic: String,
                $($fields)*
            }
        }
    };
}

admin_command! {
    /// List topics.
    #[argh(subcommand, name = "list")]
    List shows {
        /// what their names begin with, such as persistent://public/default/
        #[argh(option, default = "String::new()")]
        prefix: String,
        /// at most so many
        #[argh(option, default = "usize::MAX")]
        count: usize,
    }
}

topic_command! {
    /// Tell everything that is known of a topic.
    #[argh(subcommand, name = "stats")]
    Stats {}
}

topic_command! {
    /// Show the first messages of a topic, or the next of a subscription; nothing changes.
    #[argh(subcommand, name = "peek")]
    Peek {
        /// the subscription
        #[argh(option, arg_name = "name")]
        subscription: Option<String>,
        /// at most so many, 10 by default
        #[argh(option, default = "10")]
        count: usize,
    }
}

admin_command! {
    /// Tell what room the store takes, and which topics hold most of it.
    #[argh(subcommand, name = "room")]
    Room shows {}
}

topic_command! {
    /// Delete the messages that wait in a subscription; or, without one, in all, and what the topic has stored.
    #[argh(subcommand, name = "purge")]
    Purge changes {
        /// the subscription
        #[argh(option, arg_name = "name")]
        subscription: Option<String>,
    }
}

topic_command! {
    /// End a topic: nothing more is taken; what is there is delivered yet.
    #[argh(subcommand, name = "terminate")]
    Terminate changes {}
}

topic_command! {
    /// Delete a topic with everything in it; of a partitioned one all partitions.
    #[argh(subcommand, name = "delete")]
    Delete changes {
        /// end its producers, consumers and readers; without it such a topic stays
        #[argh(switch)]
        force: bool,
    }
}

topic_command! {
    /// Move a subscription to another message, from which it goes on.
    #[argh(subcommand, name = "reset")]
    Reset changes {
        /// the subscription
        #[argh(positional, arg_name = "SUBSCRIPTION")]
        subscription: String,
        /// earliest, latest, a unix time in milliseconds or a message id
        #[argh(positional, arg_name = "TO")]
        to: String,
    }
}

topic_command! {
    /// Delete a subscription that has no consumer.
    #[argh(subcommand, name = "forget")]
    Forget changes {
        /// the subscription
        #[argh(positional, arg_name = "SUBSCRIPTION")]
        subscription: String,
    }
}

admin_command! {
    /// Copy the store while the daemon runs, to a directory of its own, which is printed.
    #[argh(subcommand, name = "backup")]
    Backup shows {
        /// remove the oldest copies then, so that this many are left
        #[argh(option, arg_name = "count")]
        keep: Option<usize>,
    }
}

impl TopicsCommand {
    /// Asks, and shows what comes.
    ///
    /// # Errors
    /// When the daemon cannot be asked, or does not do it.
    pub fn run(self) -> Result<ExitCode, CliError> {
        match self.command {
            TopicsAction::List(list) => list.run()?,
            TopicsAction::Stats(stats) => {
                let topic = full(&stats.topic);
                let answer = about(&stats.reach()?, "GET", "stats", &[("topic", &topic)])?;
                tell(&answer, stats.json, show::record)?;
            }
            TopicsAction::Peek(peek) => peek.run()?,
            TopicsAction::Room(room) => {
                let answer = room.reach()?.ask("GET", "/topics/room", &[])?.good()?;
                tell(&answer, room.json, show::record)?;
            }
            TopicsAction::Purge(purge) => {
                let (topic, of) = (full(&purge.topic), purge.subscription.as_deref());
                let question = match of {
                    Some(subscription) => format!("delete what waits in {subscription} of {topic}"),
                    None => format!("delete every message of {topic}, for all subscriptions"),
                };
                let more = [("subscription", of.unwrap_or_default())];
                purge.change(&question, "POST", "purge", &more)?;
            }
            TopicsAction::Terminate(terminate) => {
                let question =
                    format!("let nothing more into {}, for ever", full(&terminate.topic));
                terminate.change(&question, "POST", "terminate", &[])?;
            }
            TopicsAction::Delete(delete) => {
                let whom = if delete.force {
                    ", and end its producers, consumers and readers"
                } else {
                    ""
                };
                let question =
                    format!("delete {} with everything in it{whom}", full(&delete.topic));
                let force = if delete.force { "true" } else { "" };
                delete.change(&question, "DELETE", "", &[("force", force)])?;
            }
            TopicsAction::Reset(reset) => {
                let (subscription, to) = (&*reset.subscription, &*reset.to);
                let question = format!("move {subscription} of {} to {to}", full(&reset.topic));
                reset.change(
                    &question,
                    "POST",
                    "reset",
                    &[("subscription", subscription), ("to", to)],
                )?;
            }
            TopicsAction::Forget(forget) => {
                let subscription = &*forget.subscription;
                let question = format!("delete {subscription} of {}", full(&forget.topic));
                forget.change(&question, "POST", "forget", &[("subscription", subscription)])?;
            }
            TopicsAction::Backup(backup) => {
                let keep = backup.keep.map(|keep| keep.to_string()).unwrap_or_default();
                let answer = backup.reach()?.ask("POST", "/topics/backup", &[("keep", &keep)])?;
                done(&answer.good()?, backup.json)?;
            }
            TopicsAction::Restore(restore) => restore.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn run(&self) -> Result<(), CliError> {
        let reach = self.reach()?;
        let prefix = if self.prefix.is_empty() { String::new() } else { full(&self.prefix) };
        let (mut after, mut left, mut all) = (String::new(), self.count, Vec::new());
        while left > 0 {
            let count = left.min(PAGE_NAMES);
            let parameters =
                [("prefix", &*prefix), ("after", &after), ("count", &count.to_string())];
            let names = show::names(&reach.ask("GET", "/topics", &parameters)?.good()?.json()?)?;
            // A page that does not go on would be asked for again without end.
            let Some(last) = names.last().filter(|last| last.as_str() > after.as_str()) else {
                break;
            };
            after.clone_from(last);
            // It saves a request that would be answered with nothing.
            let is_last = names.len() < count;
            left -= names.len().min(left);
            if self.json {
                all.extend(names);
            } else {
                let lines: Vec<String> =
                    names.iter().map(|name| printable(name, NAME_CHARS_MAX) + "\n").collect();
                put(&lines.concat())?;
            }
            if is_last {
                break;
            }
        }
        if self.json {
            put(&(Value::from(all).to_string() + "\n"))?;
        } else if after.is_empty() {
            note(&format!(
                "there are no topics{}",
                if prefix.is_empty() { "" } else { " of that name" }
            ));
        }
        Ok(())
    }
}

impl Peek {
    fn run(&self) -> Result<(), CliError> {
        let (topic, count) = (full(&self.topic), self.count.to_string());
        let of = self.subscription.as_deref().unwrap_or_default();
        let parameters = [("topic", &*topic), ("subscription", of), ("count", &count)];
        let answer = about(&self.reach()?, "GET", "peek", &parameters)?;
        tell(&answer, self.json, |said| {
            let messages = show::messages(said);
            if messages.is_empty() {
                note("there are no messages");
            }
            messages
        })
    }
}

/// The full name of a topic.
fn full(topic: &str) -> String {
    if topic.contains("://") {
        return topic.into();
    }
    let topic = topic.strip_prefix("pulsar/").unwrap_or(topic);
    match topic.split_once('/') {
        Some((domain @ ("persistent" | "non-persistent"), rest)) => format!("{domain}://{rest}"),
        _ => format!("persistent://{topic}"),
    }
}

/// Asks about a topic. One that there is not is told with those that have similar names.
fn about(
    reach: &AdminReach,
    method: &str,
    name: &str,
    parameters: &[(&str, &str)],
) -> Result<AdminAnswer, CliError> {
    let path = format!("/topics/{name}");
    let answer = reach.ask(method, path.trim_end_matches('/'), parameters)?;
    if answer.status == 404
        && let Some((_, topic)) = parameters.iter().find(|(name, _)| *name == "topic")
    {
        let said = answer.sentence();
        return Err(CliError::new(match near(reach, topic).as_slice() {
            [] => said,
            near => format!("{said}; did you mean {}?", near.join(" or ")),
        }));
    }
    answer.good()
}

/// The names of topics that are like this one; of none when they cannot be had or this is one of
/// them.
fn near(reach: &AdminReach, topic: &str) -> Vec<String> {
    let count = NEAR_NAMES.to_string();
    let list = reach.ask("GET", "/topics", &[("count", &count)]).and_then(AdminAnswer::good);
    let names = list.and_then(|list| show::names(&list.json()?)).unwrap_or_default();
    let own = topic.rsplit('/').next().unwrap_or(topic);
    let mut near: Vec<(usize, String)> = names
        .into_iter()
        .filter_map(|name| {
            let distance = strsim::damerau_levenshtein(&name, topic);
            let is_near = distance <= 1 + own.len() / 3 || name.ends_with(&format!("/{own}"));
            is_near.then_some((distance, printable(&name, NAME_CHARS_MAX)))
        })
        .collect();
    // The topic is there; what was not found is something else of it.
    if near.iter().any(|(distance, _)| *distance == 0) {
        return Vec::new();
    }
    near.sort();
    near.into_iter().take(NEAR_SHOWN_MAX).map(|(_, name)| name).collect()
}

/// Prints an answer: as the daemon said it, or for a person.
fn tell(
    answer: &AdminAnswer,
    json: bool,
    shown: impl FnOnce(&Value) -> String,
) -> Result<(), CliError> {
    put(&if json { answer.text()? } else { shown(&answer.json()?) })
}

/// Shows that something was done.
fn done(answer: &AdminAnswer, json: bool) -> Result<(), CliError> {
    tell(answer, json, |said| match said {
        Value::Object(fields) if !fields.is_empty() => show::record(said),
        _ => "done\n".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_be_written_in_full_as_in_a_feed_or_short() {
        for (text, name) in [
            ("persistent://t/n/x", "persistent://t/n/x"),
            ("non-persistent://t/n/x", "non-persistent://t/n/x"),
            ("t/n/x", "persistent://t/n/x"),
            ("persistent/t/n/x", "persistent://t/n/x"),
            ("pulsar/non-persistent/t/n/x", "non-persistent://t/n/x"),
        ] {
            assert_eq!(full(text), name);
        }
    }
}
