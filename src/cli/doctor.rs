//! `fanfare doctor`: whether machine, files and services are fit for a daemon, as its user sees
//! them, each with the command that mends it.
//!
//! `tuning.md` says why each limit of the machine matters; its headings have a check each.

mod backends;
mod case;
mod disk;
mod files;
mod finding;
mod machine;
mod memory;
mod program;
mod service;
mod tls;

use self::case::DoctorCase;
use self::finding::{DoctorFinding, DoctorVerdict};
use super::CliError;
use super::error::{CliStatus, printable};
use super::locate::SERVICE_CONFIGURATION;
use super::output::print;
use super::user::User;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Characters of a finding that are shown: more than any is long that quotes no one else.
const SEEN_CHARS_MAX: usize = 1000;

/// Examine the machine, the files and the services that the daemon depends on.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "doctor",
    example = "{command_name}\n{command_name} --config ./fanfare.toml --json",
    note = "The manual: fanfare help service"
)]
pub struct Doctor {
    /// the configuration file; default: /etc/fanfare/fanfare.toml
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// examine as this user, which needs root; default: fanfare, the user of the service, where
    /// root asks
    #[argh(option, arg_name = "name")]
    user: Option<String>,
    /// print the findings as JSON
    #[argh(switch)]
    json: bool,
}

/// A check.
struct DoctorCheck {
    name: &'static str,
    /// The heading of `tuning.md` that says why it matters.
    heading: Option<&'static str>,
    look: fn(&mut DoctorCase) -> Vec<DoctorFinding>,
}

/// Every check, in the order in which what it finds is mended best.
const CHECKS: [DoctorCheck; 18] = [
    check("configuration", None, files::configuration),
    check("secrets", None, files::secrets),
    check("ports", None, files::ports),
    check("certificates", None, tls::certificates),
    check("backends", None, backends::backends),
    // Behind the backends, whose clocks it compares.
    check("clock", None, backends::clock),
    check("unit", None, service::unit),
    check("daemon", None, service::daemon),
    check("descriptors", Some("Descriptors"), machine::descriptors),
    check("backlog", Some("The backlog"), machine::backlog),
    check("ephemeral-ports", Some("Ports, for proxies and load tests"), machine::ephemeral_ports),
    check("idle-memory", Some("Memory of an idle client"), memory::of_idle),
    check("slow-memory", Some("Memory of a slow client"), memory::of_slow),
    check("cpus", Some("CPUs"), machine::cpus),
    check("disk", Some("The disk of durable topics"), disk::disk),
    check("io_uring", Some("io_uring"), machine::io_uring),
    check("dead-clients", Some("Dead clients"), machine::dead_clients),
    check("proxies", Some("Proxies in front"), machine::proxies),
];

const fn check(
    name: &'static str,
    heading: Option<&'static str>,
    look: fn(&mut DoctorCase) -> Vec<DoctorFinding>,
) -> DoctorCheck {
    DoctorCheck { name, heading, look }
}

impl Doctor {
    /// Prints what is found. Succeeds when nothing is bad.
    ///
    /// # Errors
    /// When it cannot be examined as that user.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let user = User::verified(self.user.as_deref())?;
        // Before any file is read: what root may read says nothing of the service.
        user.become_it()?;
        let path = self.config.unwrap_or_else(|| PathBuf::from(SERVICE_CONFIGURATION));
        let mut case = DoctorCase::read(path, user);
        let found = CHECKS.map(|check| (check.name, check.heading, (check.look)(&mut case)));

        let all = || found.iter().flat_map(|(.., findings)| findings);
        let is_bad = all().any(|finding| finding.verdict == DoctorVerdict::Bad);
        let text = match self.json {
            true => in_json(&case, &found),
            false => {
                let counts = DoctorVerdict::ALL.map(|verdict| {
                    let count = all().filter(|finding| finding.verdict == verdict).count();
                    format!("{count} {}", verdict.name())
                });
                let lines: String = found.iter().map(|(name, _, them)| lines(name, them)).collect();
                let (user, counts) = (&case.user, counts.join(", "));
                format!("{} as {user}\n{lines}{counts}\n", case.path.display())
            }
        };
        match print(&text) {
            // The status still tells what a reader has not waited for.
            Err(error) if error.status() != CliStatus::Closed => Err(error),
            _ => Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
        }
    }
}

/// The findings of a check, a line each, and the commands that mend them.
fn lines(name: &str, findings: &[DoctorFinding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let seen = printable(&finding.seen, SEEN_CHARS_MAX);
        text += &format!("{:<8} {name:<16} {seen}\n", finding.verdict.name());
        if let Some(mend) = &finding.mend {
            text += &format!("{:26}→ {}\n", "", printable(mend, SEEN_CHARS_MAX));
        }
    }
    text
}

/// The findings of every check, for programs.
fn in_json(case: &DoctorCase, found: &[(&str, Option<&str>, Vec<DoctorFinding>)]) -> String {
    let findings: Vec<_> = found
        .iter()
        .flat_map(|(name, heading, findings)| {
            findings.iter().map(move |finding| {
                let DoctorFinding { verdict, seen, mend } = finding;
                json!({
                    "check": name, "verdict": verdict, "seen": seen, "mend": mend,
                    "tuning": heading,
                })
            })
        })
        .collect();
    let (path, user) = (case.path.display().to_string(), case.user.to_string());
    let report = json!({ "configuration": path, "user": user, "findings": findings });
    format!("{report:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manual::ManualPage;

    #[test]
    fn every_heading_of_the_page_on_tuning_has_a_check() {
        let tuning = include_str!("../../tuning.md");
        let headings: Vec<&str> =
            tuning.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let checked: Vec<&str> = CHECKS.iter().filter_map(|check| check.heading).collect();
        assert_eq!(checked, headings);
    }

    #[test]
    fn the_manual_lists_every_check() {
        let page = ManualPage::named("service").unwrap().source;
        let (_, rest) = page.split_once("| check | |\n|---|---|\n").unwrap();
        let table = rest.split("\n\n").next().unwrap();
        let listed: Vec<&str> = table
            .lines()
            .flat_map(|line| {
                let (names, _) = line.trim_start_matches("| ").split_once(" | ").unwrap();
                names.split(", ").map(|name| name.trim_matches('`'))
            })
            .collect();
        assert_eq!(listed, CHECKS.map(|check| check.name));
    }

    #[test]
    fn a_finding_is_a_line_and_cannot_move_the_cursor() {
        let findings =
            [DoctorFinding::good("as it\u{1b}[2J is"), DoctorFinding::bad("not so", "mend it")];
        assert_eq!(
            lines("ports", &findings),
            "good     ports            as it\\u{1b}[2J is\n\
             bad      ports            not so\n                          → mend it\n"
        );
    }
}
