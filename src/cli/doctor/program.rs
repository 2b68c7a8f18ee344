//! What other programs of this machine print, and files of the kernel.

use crate::cli::child;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for a program: a service manager that hangs must not hold up the other checks.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(5);

/// What a program prints, if it is there and succeeds in time.
pub(super) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let stdout = child.stdout.take()?;
    let reader = child::read(stdout);
    let status = child::end(&mut child, PROGRAM_TIMEOUT).ok()??;
    let text = String::from_utf8(reader.join().ok()?.ok()?).ok()?;
    status.success().then_some(text)
}

/// The value of a sysctl, if this kernel has it.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The numbers of a sysctl.
pub(super) fn numbers(name: &str) -> Vec<u64> {
    let text = sysctl(name).unwrap_or_default();
    text.split(' ').filter_map(|number| number.parse().ok()).collect()
}

/// A figure of `/proc/meminfo` in bytes.
pub(super) fn memory(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    let kib: u64 = value.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}
