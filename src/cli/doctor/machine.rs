//! The limits of the machine: descriptors, the backlog, ports, CPUs, io_uring, dead clients.

use super::super::load;
use super::super::output::grouped;
use super::super::resources;
use super::case::DoctorCase;
use super::finding::{DoctorFinding, sysctl_set, unit_set};
use super::program::{numbers, sysctl};
use crate::io::foundation;
use crate::io::runtime::Driver;
use std::fs;
use std::ops::RangeInclusive;

/// Clients for which there is room before a limit is no longer worth a warning: one that is tuned
/// for fewer is probably not tuned at all.
const CLIENTS_USUAL: usize = 10_000;
/// The descriptors of the shipped unit, which is as many as a kernel allows by default.
const DESCRIPTORS: &str = "1048576";
/// The backlog that the daemon asks for.
const BACKLOG: u64 = 65_535;
/// Locked bytes of a shard's rings.
const RING_BYTES: u64 = 144 * 1024;
/// The retries of a packet before the kernel gives a client up, by default: some 15 minutes.
const RETRIES: u64 = 15;
/// The time after which nginx cuts a connection on which nothing comes, in seconds.
const PROXY_PATIENCE_S: i64 = 60;

/// Whether there are descriptors for the clients.
pub(super) fn descriptors(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((config, _)) = &case.settings else { return vec![no_settings()] };
    let service = of_process(case).or(case.service.limit("LimitNOFILE"));
    let (limit, whose) = match service {
        Some(limit) => (usize::try_from(limit).unwrap_or(usize::MAX), "the service"),
        None => (resources::descriptor_limit(), "this shell"),
    };
    let mend = match service {
        Some(_) => unit_set("LimitNOFILE", DESCRIPTORS),
        None => format!("ulimit -Hn {DESCRIPTORS}; ulimit -n {DESCRIPTORS}"),
    };

    let kept = resources::descriptors_kept(config, case.shards());
    let room = limit.saturating_sub(kept);
    let shown = |number: usize| grouped(number as u64);
    let seen = format!("{whose} may have {}: room for {} clients", shown(limit), shown(room));
    let wanted = config.max_connections;
    let first = if room < resources::CLIENTS_MIN {
        let seen = format!("{seen}; {kept} are needed before the first, and no daemon starts");
        DoctorFinding::bad(seen, mend)
    } else if room < wanted {
        let seen = format!("{seen}, and max_connections is {}", shown(wanted));
        DoctorFinding::warn(seen, mend)
    } else if room < CLIENTS_USUAL {
        DoctorFinding::warn(seen, mend)
    } else {
        DoctorFinding::good(seen)
    };
    let mut findings = vec![first];
    findings.extend(files_of_all(limit));
    findings
}

/// The descriptors of the service that runs, which a container may have given less than its unit
/// says.
fn of_process(case: &DoctorCase) -> Option<u64> {
    let main = case.service.limit("MainPID")?;
    let limits = fs::read_to_string(format!("/proc/{main}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The files of the whole machine, where they are short.
fn files_of_all(limit: usize) -> Option<DoctorFinding> {
    let [used, _, most] = numbers("fs.file-nr")[..] else { return None };
    let wanted = used.saturating_add(limit as u64);
    (most < wanted).then(|| {
        let seen = format!("fs.file-max is {}: all programs together", grouped(most));
        DoctorFinding::warn(seen, sysctl_set("fs.file-max", &wanted.to_string()))
    })
}

/// Whether many clients can connect at one moment.
pub(super) fn backlog(_: &mut DoctorCase) -> Vec<DoctorFinding> {
    let names = ["net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"];
    let mut findings = Vec::new();
    for name in names {
        let Some(number) = numbers(name).first().copied() else { continue };
        let seen = format!("{name} is {}", grouped(number));
        findings.push(match number < BACKLOG {
            true => DoctorFinding::warn(
                format!("{seen}: of more clients at one moment some wait for seconds"),
                sysctl_set(name, &BACKLOG.to_string()),
            ),
            false => DoctorFinding::good(seen),
        });
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::skipped("this kernel shows no net.core.somaxconn"));
    }
    findings
}

/// Whether outgoing connections leave the daemon's ports alone, and are many.
pub(super) fn ephemeral_ports(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let [first, last] = numbers("net.ipv4.ip_local_port_range")[..] else {
        return vec![DoctorFinding::skipped("this kernel shows no net.ipv4.ip_local_port_range")];
    };
    let reserved = ranges(&sysctl("net.ipv4.ip_local_reserved_ports").unwrap_or_default());
    let mut own: Vec<u64> = Vec::new();
    if let Some((config, _)) = &case.settings {
        let admin = config.admin.as_ref().map(|admin| admin.address);
        let addresses = config.listen.iter().map(|listen| listen.address).chain(admin);
        own.extend(addresses.map(|address| u64::from(address.port())));
    }
    // Port 0 is any that is free.
    own.retain(|port| *port != 0 && (first..=last).contains(port));
    own.retain(|port| !reserved.iter().any(|range| range.contains(port)));

    let count = grouped((last + 1).saturating_sub(first));
    let seen = format!(
        "{count} ports ({first} to {last}) for connections from one address to another, as of a \
         proxy on this machine"
    );
    if own.is_empty() {
        return vec![DoctorFinding::good(seen)];
    }
    let own: Vec<String> = own.iter().map(u64::to_string).collect();
    let taken = own.join(" and ");
    vec![DoctorFinding::warn(
        format!("{seen}; {taken} of this daemon may be taken by one of them before a start"),
        sysctl_set("net.ipv4.ip_local_reserved_ports", &own.join(",")),
    )]
}

/// The ranges of a list such as `8080,9500-9510`.
fn ranges(list: &str) -> Vec<RangeInclusive<u64>> {
    let parts = list.split(',').map(|part| part.split_once('-').unwrap_or((part, part)));
    parts.filter_map(|(from, to)| Some(from.parse().ok()?..=to.parse().ok()?)).collect()
}

/// Whether each shard has a CPU.
pub(super) fn cpus(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Ok(loaded) = &case.loaded else { return vec![no_plan()] };
    let (shards, available) = (loaded.plan.shards, load::available_cpus().len());
    let seen = format!("{shards} shards, {available} CPUs");
    // A sandbox may refuse to tell.
    vec![match shards > available && available > 0 {
        true => DoctorFinding::warn(
            format!("{seen}: shards wait for each other"),
            "set threads = 0, one for each CPU, and restart",
        ),
        false => DoctorFinding::good(seen),
    }]
}

/// Whether the driver that is asked for can be had.
pub(super) fn io_uring(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((config, _)) = &case.settings else { return vec![no_settings()] };
    let (driver, shards) = (config.driver, case.shards());
    if driver == Driver::Epoll {
        return vec![DoctorFinding::good("not asked for: driver = \"epoll\"")];
    }
    let mut findings = vec![match foundation::try_io_uring(shards) {
        Ok(()) => {
            let uname = rustix::system::uname();
            let release = uname.release().to_string_lossy();
            let seen = format!("rings for {shards} shards can be had, on Linux {release}");
            DoctorFinding::good(seen)
        }
        Err(error) => {
            let advice = foundation::advice(&error);
            let seen = format!("refused: {error}: {advice}");
            match driver {
                Driver::IoUring => DoctorFinding::bad(seen, ring_mend()),
                _ => DoctorFinding::warn(format!("{seen}; epoll serves instead"), ring_mend()),
            }
        }
    }];
    // What this process may lock says nothing of the service.
    let needed = shards as u64 * RING_BYTES;
    if let Some(locked) = case.service.limit("LimitMEMLOCK").filter(|locked| *locked < needed) {
        let seen = format!("the service may lock {locked} bytes, {shards} shards need {needed}");
        findings.push(DoctorFinding::warn(seen, unit_set("LimitMEMLOCK", "64M")));
    }
    findings
}

/// What lets io_uring be had, as far as the cause can be seen.
fn ring_mend() -> String {
    const DISABLED: &str = "kernel.io_uring_disabled";
    if sysctl(DISABLED).is_some_and(|value| value != "0") {
        return sysctl_set(DISABLED, "0");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match status.lines().any(|line| line == "Seccomp:\t2") {
        // The filter of a container, or of a unit.
        true => "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp \
                 profile, or set driver = \"epoll\""
            .into(),
        false => "ulimit -l 65536, or set driver = \"epoll\"".into(),
    }
}

/// How long a client may be gone before its connection ends.
pub(super) fn dead_clients(_: &mut DoctorCase) -> Vec<DoctorFinding> {
    const NAME: &str = "net.ipv4.tcp_retries2";
    let Some(retries) = numbers(NAME).first().copied() else {
        return vec![DoctorFinding::skipped(format!("this kernel shows no {NAME}"))];
    };
    let seen = format!("{NAME} is {retries}");
    vec![match retries > RETRIES {
        true => DoctorFinding::warn(
            format!("{seen}: what a client does not acknowledge is kept for more than 15 minutes"),
            sysctl_set(NAME, "8"),
        ),
        false => DoctorFinding::good(seen),
    }]
}

/// Whether pings come before the patience of a proxy ends.
pub(super) fn proxies(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((_, table)) = &case.settings else { return vec![no_settings()] };
    let slow: Vec<String> = table
        .iter()
        .filter(|(_, value)| {
            let interval = value.get("ping_interval_s").and_then(toml::Value::as_integer);
            // 0 is no pings at all.
            interval.is_some_and(|seconds| seconds == 0 || seconds >= PROXY_PATIENCE_S)
        })
        .map(|(name, _)| format!("{name}.ping_interval_s"))
        .collect();
    vec![match slow.is_empty() {
        true => DoctorFinding::good("pings come within the 60 s that nginx waits by default"),
        false => DoctorFinding::warn(
            format!(
                "{}: an idle connection carries nothing for {PROXY_PATIENCE_S} s, after which \
                 nginx cuts it by default",
                slow.join(", ")
            ),
            "set ping_interval_s below 60, or proxy_read_timeout above it (fanfare help proxies)",
        ),
    }]
}

/// A check without settings.
pub(super) fn no_settings() -> DoctorFinding {
    DoctorFinding::skipped("the configuration cannot be read")
}

/// A check without a configuration that can run.
pub(super) fn no_plan() -> DoctorFinding {
    DoctorFinding::skipped("the configuration cannot run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_a_list_of_ranges() {
        assert_eq!(ranges("8080,9500-9510"), [8080..=8080, 9500..=9510]);
        assert!(ranges("").is_empty());
    }
}
