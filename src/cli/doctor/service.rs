//! The unit of the service, and what a running daemon says of itself.

use super::super::CliError;
use super::super::error::{CliStatus, printable};
use super::super::reach::AdminReach;
use super::case::{DoctorCase, UnitState};
use super::finding::{DoctorFinding, unit_set};
use super::machine::no_settings;

/// The command that shows the end of the service's log.
const JOURNAL: &str = "journalctl -u fanfare -n 30";
/// Characters of a daemon's answer that are shown.
const ANSWER_CHARS_MAX: usize = 400;
/// Seconds that a stop may take beyond `drain_s`.
const STOP_MORE_S: u64 = 5;
/// Percent of its descriptors that a daemon may use before it is worth a warning.
const DESCRIPTORS_PERCENT: f64 = 90.0;

/// Whether systemd runs the daemon as it should.
pub(super) fn unit(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    if !case.is_service {
        return vec![DoctorFinding::skipped("this is not the configuration of the service")];
    }
    if !case.service.exists() {
        return vec![DoctorFinding::skipped("systemd is not here, or has no fanfare.service")];
    }
    let mut findings = vec![of_service(&case.service)];
    if let (Ok(loaded), Some(patience_s)) =
        (&case.loaded, seconds(case.service.get("TimeoutStopUSec")))
        && patience_s <= loaded.times.drain.as_secs() + STOP_MORE_S
    {
        let drain_s = loaded.times.drain.as_secs();
        findings.push(DoctorFinding::warn(
            format!("systemd waits {patience_s} s for a stop, for which drain_s is {drain_s}"),
            unit_set("TimeoutStopSec", &(drain_s + 2 * STOP_MORE_S).to_string()),
        ));
    }
    findings.extend(of_restarts(&case.service));
    if case.service.get("NeedDaemonReload") == "yes" {
        let seen = "the unit has changed since systemd has read it";
        findings.push(DoctorFinding::warn(seen, "systemctl daemon-reload"));
    }
    findings.push(of_socket(&case.socket));
    findings
}

/// What a restart lacks to keep connections.
fn of_restarts(service: &UnitState) -> Option<DoctorFinding> {
    let has_store = match service.get("FileDescriptorStoreMax") {
        "" => return None,
        most => most != "0",
    };
    let lacking = match (has_store, service.get("ExecStop").contains("/restart")) {
        (true, true) => return None,
        (true, false) => "ExecStop=",
        (false, true) => "FileDescriptorStoreMax=",
        (false, false) => "ExecStop= and FileDescriptorStoreMax=",
    };
    Some(DoctorFinding::warn(
        format!("a restart ends every connection: fanfare.service has no {lacking} for it"),
        "take them over from the unit of this release, and then systemctl daemon-reload",
    ))
}

/// The seconds of a time as systemd shows it, such as `1min 30s`; nothing where it has no end.
fn seconds(shown: &str) -> Option<u64> {
    // Longer ones have no need to be compared.
    const UNITS: [(&str, u64); 4] = [("us", 0), ("ms", 0), ("min", 60), ("s", 1)];
    let parts = shown.split(' ').map(|part| {
        let (unit, length) = UNITS.iter().find(|(unit, _)| part.ends_with(unit))?;
        Some(part.trim_end_matches(unit).parse::<u64>().ok()? * length)
    });
    parts.sum()
}

fn of_service(service: &UnitState) -> DoctorFinding {
    let enable = "systemctl enable --now fanfare";
    let restarts = service.get("NRestarts");
    match (service.get("ActiveState"), service.get("UnitFileState")) {
        ("failed", _) => {
            let result = service.get("Result");
            DoctorFinding::bad(format!("fanfare.service has failed ({result})"), JOURNAL)
        }
        ("activating", _) => DoctorFinding::bad("fanfare.service does not come up", JOURNAL),
        ("active", _) if !matches!(restarts, "" | "0") => DoctorFinding::warn(
            format!("fanfare.service runs, after {restarts} restarts that systemd had to make"),
            JOURNAL,
        ),
        ("active", "disabled") => {
            DoctorFinding::warn("fanfare.service runs, and will not after a boot", enable)
        }
        ("active", _) => DoctorFinding::good("fanfare.service runs"),
        (state, _) => DoctorFinding::warn(format!("fanfare.service is {state}"), enable),
    }
}

fn of_socket(socket: &UnitState) -> DoctorFinding {
    const ABSENT: &str = "clients that come while the service restarts are refused";
    match (socket.exists(), socket.get("ActiveState")) {
        (true, "active") => DoctorFinding::good("fanfare.socket listens"),
        (true, state) => DoctorFinding::warn(
            format!("fanfare.socket is {state}: {ABSENT}"),
            "systemctl stop fanfare && systemctl enable --now fanfare.socket && systemctl start \
             fanfare",
        ),
        (false, _) => DoctorFinding::skipped(format!("there is no fanfare.socket: {ABSENT}")),
    }
}

/// What a daemon that runs with this configuration says of itself.
pub(super) fn daemon(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((config, _)) = &case.settings else { return vec![no_settings()] };
    if config.admin.is_none() {
        return vec![DoctorFinding::skipped("there is no [admin] to ask")];
    }
    match asked(case) {
        Ok(findings) => findings,
        Err(error) if error.status() == CliStatus::TryAgain => {
            vec![DoctorFinding::skipped("none runs with this configuration")]
        }
        Err(error) => vec![DoctorFinding::warn(error.to_string(), JOURNAL)],
    }
}

fn asked(case: &DoctorCase) -> Result<Vec<DoctorFinding>, CliError> {
    let reach = AdminReach::find(None, None, Some(&case.path))?;
    let ready = reach.ask("GET", "/readyz", &[])?;
    let is_ready = ready.status == 200;
    let said = printable(ready.text()?.trim_end(), ANSWER_CHARS_MAX).replace("\\n", "; ");
    let mut findings = vec![match (is_ready, said.as_str()) {
        (true, "ready") => DoctorFinding::good("it runs, and is ready"),
        // A dialect whose broker is away.
        (true, _) => DoctorFinding::warn(said, JOURNAL),
        (false, _) => DoctorFinding::bad(format!("it is not ready: {said}"), JOURNAL),
    }];
    let metrics = reach.ask("GET", "/metrics", &[])?.good()?.text()?;
    if figure(&metrics, "fanfare_config_last_reload_successful") == Some(0.0) {
        let seen = "the last reload was refused: it runs with the configuration before";
        let mend = format!("fanfare check --config {}", case.path.display());
        findings.push(DoctorFinding::warn(seen, mend));
    }
    if let (Some(open), Some(most)) =
        (figure(&metrics, "process_open_fds"), figure(&metrics, "process_max_fds"))
        && open * 100.0 > most * DESCRIPTORS_PERCENT
    {
        let seen = format!("it uses {open} of its {most} descriptors");
        findings.push(DoctorFinding::warn(seen, "see the findings of the check `descriptors`"));
    }
    Ok(findings)
}

/// A figure without labels.
fn figure(metrics: &str, name: &str) -> Option<f64> {
    let mut lines = metrics.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::finding::DoctorVerdict;
    use super::*;

    fn verdict(shown: &str) -> DoctorVerdict {
        of_service(&UnitState::read(shown)).verdict
    }

    #[test]
    fn a_unit_is_good_while_it_runs_by_itself() {
        let runs = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=";
        assert_eq!(verdict(&format!("{runs}0")), DoctorVerdict::Good);
        assert_eq!(verdict(&format!("{runs}3")), DoctorVerdict::Warn);
        assert_eq!(verdict(&runs.replace("enabled", "disabled")), DoctorVerdict::Warn);
        assert_eq!(verdict(&runs.replace("=active", "=inactive")), DoctorVerdict::Warn);
        assert_eq!(verdict(&runs.replace("=active", "=failed")), DoctorVerdict::Bad);
        // Between two starts that fail.
        assert_eq!(verdict(&runs.replace("=active", "=activating")), DoctorVerdict::Bad);
        assert!(UnitState::read(runs).exists() && !UnitState::read("LoadState=not-found").exists());
    }

    #[test]
    fn a_unit_that_keeps_nothing_over_a_restart_is_told_what_it_lacks() {
        let told = |shown: &str| of_restarts(&UnitState::read(shown)).map(|finding| finding.seen);
        let store = "FileDescriptorStoreMax=4\n";
        let stop = "ExecStop={ argv[]=/bin/sh -c mkdir -p /run/fanfare/restart ; pid=0 }\n";
        assert_eq!(told(&format!("{store}{stop}")), None);
        assert!(told(store).unwrap().contains("no ExecStop= for it"));
        let shown = format!("FileDescriptorStoreMax=0\n{stop}");
        assert!(told(&shown).unwrap().contains("no FileDescriptorStoreMax= for it"));
        assert!(told("FileDescriptorStoreMax=0\n").unwrap().contains("ExecStop= and"));
        assert_eq!(told("ActiveState=active\n"), None, "it is unknown");
    }

    #[test]
    fn the_addresses_of_a_socket_are_all_read() {
        let socket = UnitState::read(
            "LoadState=loaded\nActiveState=active\nListen=[::]:8080 (Stream)\n\
             Listen=/run/fanfare/events.sock (Stream)\n",
        );
        assert!(socket.get("Listen").split(' ').any(|word| word.ends_with(":8080")));
        assert!(socket.get("Listen").contains("/run/fanfare/events.sock"));
        assert_eq!(of_socket(&socket).verdict, DoctorVerdict::Good);
    }

    #[test]
    fn the_time_for_a_stop_is_read_as_systemd_shows_it() {
        for (shown, read) in
            [("30s", Some(30)), ("1min 30s", Some(90)), ("500ms", Some(0)), ("infinity", None)]
        {
            assert_eq!(seconds(shown), read, "{shown}");
        }
        assert_eq!(seconds(""), None);
    }

    #[test]
    fn a_figure_has_no_labels() {
        let metrics = "# TYPE a gauge\na{b=\"c\"} 1\na 2\nab 3\n";
        assert_eq!((figure(metrics, "a"), figure(metrics, "b")), (Some(2.0), None));
    }
}
