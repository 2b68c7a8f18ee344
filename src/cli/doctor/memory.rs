//! Memory for clients, idle and slow.

use super::super::output::{grouped, size};
use super::case::DoctorCase;
use super::finding::{DoctorFinding, sysctl_set};
use super::machine::no_settings;
use super::program::{memory, numbers};
use std::fs;

/// Bytes of an idle client in the kernel, and in the daemon with a list of patterns, of which most
/// need a tenth.
const PLAIN_BYTES: u64 = 9 * 1024;
/// The same over TLS.
const TLS_BYTES: u64 = 13 * 1024;
/// The part of the clients that may stop reading at once, as when a network breaks.
const STOPPED_PART: u64 = 10;

/// The memory that the daemon may have, and what is the limit.
fn available(case: &DoctorCase) -> Option<(u64, &'static str)> {
    let machine = memory("MemTotal")?;
    match case.service.limit("MemoryMax").filter(|limit| *limit < machine) {
        Some(limit) => Some((limit, "MemoryMax= of the service")),
        None => Some((machine, "this machine's memory")),
    }
}

/// Whether idle clients have room in memory and in the table of connections.
pub(super) fn of_idle(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((config, _)) = &case.settings else { return vec![no_settings()] };
    let Some((bytes, what)) = available(case) else {
        return vec![DoctorFinding::skipped("there is no /proc/meminfo")];
    };
    let is_tls = config.listen.iter().any(|listen| listen.tls.is_some());
    let each = if is_tls { TLS_BYTES } else { PLAIN_BYTES };
    let seen =
        format!("{what} ({}) is enough for {} idle clients", size(bytes), grouped(bytes / each));
    let wanted = config.max_connections as u64;
    let mut findings = vec![match wanted > bytes / each {
        true => DoctorFinding::warn(
            format!("{seen}, and max_connections is {}", grouped(wanted)),
            format!("set max_connections = {}, or add memory", bytes / each),
        ),
        false => DoctorFinding::good(seen),
    }];
    findings.extend(tracked(wanted));
    findings
}

/// The kernel's table of connections, where it is loaded.
fn tracked(wanted: u64) -> Option<DoctorFinding> {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let most = numbers(NAME).first().copied()?;
    let used = numbers("net.netfilter.nf_conntrack_count").first().copied()?;
    let seen = format!("{NAME} is {}, of which {} are used", grouped(most), grouped(used));
    let mend = sysctl_set(NAME, &(wanted.max(most) * 2).to_string());
    if used >= most {
        let seen = format!("{seen}: the kernel drops new connections");
        return Some(DoctorFinding::bad(seen, mend));
    }
    if used > most / 10 * 8 {
        return Some(DoctorFinding::warn(seen, mend));
    }
    if wanted > most {
        let seen = format!("{seen}, and max_connections is {}", grouped(wanted));
        return Some(DoctorFinding::warn(seen, mend));
    }
    Some(DoctorFinding::good(seen))
}

/// Whether clients that stop reading have room.
pub(super) fn of_slow(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    const NAME: &str = "net.ipv4.tcp_wmem";
    let Some((config, _)) = &case.settings else { return vec![no_settings()] };
    let (Some((bytes, what)), [_, _, buffer]) = (available(case), &numbers(NAME)[..]) else {
        return vec![DoctorFinding::skipped(format!("this kernel shows no {NAME}"))];
    };
    let each = buffer + config.limits.outbox_bytes_max as u64;
    // The other half is for everything else.
    let room = bytes / 2 / each;
    let seen = format!(
        "a client that stops reading takes up to {}; half of {what} is enough for {}",
        size(each),
        grouped(room)
    );
    let stopped = config.max_connections as u64 / STOPPED_PART;
    let mut findings = vec![match stopped > room {
        true => DoctorFinding::warn(
            format!("{seen}, and a tenth of max_connections is {}", grouped(stopped)),
            sysctl_set(NAME, "4096 16384 65536"),
        ),
        false => DoctorFinding::good(seen),
    }];
    findings.extend(under_pressure());
    findings
}

/// The buffers of all connections, where the kernel has begun to lower them.
fn under_pressure() -> Option<DoctorFinding> {
    const NAME: &str = "net.ipv4.tcp_mem";
    let [_, pressure, most] = numbers(NAME)[..] else { return None };
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let pages = pages_of_tcp(&text)?;
    (pages >= pressure).then(|| {
        let (pages, pressure) = (grouped(pages), grouped(pressure));
        let seen = format!("TCP holds {pages} pages, and saves from {pressure} on ({NAME})");
        let more = format!("{} {} {}", most, most * 3 / 2, most * 2);
        DoctorFinding::warn(seen, sysctl_set(NAME, &more))
    })
}

/// The pages of memory that the buffers of TCP take, of `/proc/net/sockstat`.
fn pages_of_tcp(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let mut words = line.split(' ').skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_tcp_are_those_of_its_line() {
        let text =
            "sockets: used 90\nTCP: inuse 3 orphan 0 tw 9 alloc 5 mem 17\nUDP: inuse 1 mem 2\n";
        assert_eq!(pages_of_tcp(text), Some(17));
        assert_eq!(pages_of_tcp("UDP: inuse 1 mem 2\n"), None);
    }
}
