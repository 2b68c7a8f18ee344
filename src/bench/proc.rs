//! What the kernel says about a process: processor time and memory, read from `/proc`; and the
//! pinning of processes to processors.
//!
//! Processor time is the first field of each thread's `schedstat`, in nanoseconds. It includes the
//! kernel's work on behalf of the thread, on loopback also the receiving half of a send, unless the
//! kernel was built with `CONFIG_IRQ_TIME_ACCOUNTING`; the floor is measured the same way, so
//! ratios hold either way.

use super::error::failed;
use crate::cli::CliError;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io;
use std::ops::Add;
use std::process::{Child, Command};
use std::sync::OnceLock;

/// User-space memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessMemory {
    /// Resident anonymous memory: heap and stacks.
    pub(super) rss_anon: u64,
    /// Proportional set size: all resident pages, shared ones divided among their users.
    pub(super) pss: u64,
}

/// Which processors the shards and the generator use.
#[derive(Debug, Clone)]
pub(super) struct Cpus {
    pub(super) shards: Vec<usize>,
    pub(super) generator: usize,
}

/// What the threads of processes had of the processors since each began, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Running.
    pub(super) cpu_ns: u64,
    /// Ready to run while something else did.
    pub(super) waiting_ns: u64,
}

/// What all threads of a process had of the processors.
pub(super) fn usage(pid: u32) -> io::Result<Usage> {
    let mut total = Usage::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => total = total + schedstat(&text).ok_or_else(|| unreadable("schedstat"))?,
            // The thread ended between the listing and the reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// User-space memory of a process.
pub(super) fn memory(pid: u32) -> io::Result<ProcessMemory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let rss_anon = kib_field(&status, "RssAnon:").ok_or_else(|| unreadable("RssAnon"))?;
    let pss = kib_field(&rollup, "Pss:").ok_or_else(|| unreadable("Pss"))?;
    Ok(ProcessMemory { rss_anon: rss_anon * 1024, pss: pss * 1024 })
}

/// Bytes that a process has caused to be written to disks, by its account in `/proc`: whole pages,
/// each counted when it becomes dirty and again when it does so after it was written, less what was
/// deleted before it was written. Direct writes count as they are; what the file system writes of
/// its own (its journal, its inodes) does not count.
pub(super) fn written(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    written_in(&text).ok_or_else(|| unreadable("write_bytes"))
}

/// The processors that this process was given, lowest first, whatever it has pinned itself to since
/// the first call.
pub(super) fn own_cpus() -> io::Result<&'static [usize]> {
    static GIVEN: OnceLock<Vec<usize>> = OnceLock::new();
    // Pinning changes what the system says of this process.
    if let Some(given) = GIVEN.get() {
        return Ok(given);
    }
    let given = cpus_of(None)?;
    Ok(GIVEN.get_or_init(|| given))
}

/// The processors that another process may use, lowest first.
pub(super) fn allowed_cpus(pid: u32) -> io::Result<Vec<usize>> {
    let pid = to_pid(pid).ok_or(io::ErrorKind::NotFound)?;
    cpus_of(Some(pid))
}

fn cpus_of(pid: Option<Pid>) -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(pid)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Pins this thread, and every process that it starts from now on, to `cpus`.
pub(super) fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Starts `command` on `cpus` and returns this thread to `own_cpu`.
pub(super) fn spawn_on(command: &mut Command, cpus: &[usize], own_cpu: usize) -> io::Result<Child> {
    // A child inherits its parent's processors: the only way to pin it from its first instruction.
    pin(cpus)?;
    // Before the error is looked at: this thread has to return to its processor in any case.
    let child = command.spawn();
    pin(&[own_cpu])?;
    child
}

/// A process number as the system calls take it; `None` for 0 and what does not fit.
pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

impl Cpus {
    /// The first `shards` processors, and the last for the generator: its own, unless there are too
    /// few.
    pub(super) fn of_this_machine(shards: usize) -> Result<Self, CliError> {
        let allowed = own_cpus().map_err(failed("read this process's processors"))?;
        Self::choose(allowed, shards.max(1)).ok_or_else(|| {
            let have = allowed.len();
            CliError::usage(format!(
                "{shards} shards need as many processors and {have} are available: give --shards \
                 {have} or fewer"
            ))
        })
    }

    fn choose(allowed: &[usize], shards: usize) -> Option<Self> {
        let generator = *allowed.last()?;
        let shards = allowed.get(..shards)?.to_vec();
        Some(Self { shards, generator })
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu_ns: self.cpu_ns + other.cpu_ns, waiting_ns: self.waiting_ns + other.waiting_ns }
    }
}

impl Usage {
    /// What was added since `before`; nothing is ever less, unless a thread has ended.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            waiting_ns: self.waiting_ns.saturating_sub(before.waiting_ns),
        }
    }
}

fn schedstat(text: &str) -> Option<Usage> {
    let mut fields = text.split_ascii_whitespace().map_while(|field| field.parse().ok());
    Some(Usage { cpu_ns: fields.next()?, waiting_ns: fields.next()? })
}

fn written_in(text: &str) -> Option<u64> {
    let [written, cancelled] = ["write_bytes:", "cancelled_write_bytes:"].map(|name| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    });
    Some(written?.saturating_sub(cancelled?))
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no {what} in /proc of this process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_nanoseconds_running_and_waiting() {
        let usage = schedstat("150641 73039 2\n").unwrap();
        assert_eq!(usage, Usage { cpu_ns: 150_641, waiting_ns: 73_039 });
        assert_eq!(schedstat(""), None);
    }

    #[test]
    fn the_generator_takes_the_last_processor_and_the_shards_the_first() {
        let cpus = Cpus::choose(&[0, 1, 4, 5], 2).unwrap();
        assert_eq!((cpus.shards, cpus.generator), (vec![0, 1], 5));
        assert!(Cpus::choose(&[0, 1], 3).is_none());
    }

    #[test]
    fn a_memory_field_is_found_by_its_whole_name() {
        let status = "VmRSS:\t  2048 kB\nRssAnon:\t    1180 kB\nRssFile:\t    900 kB\n";
        assert_eq!(kib_field(status, "RssAnon:"), Some(1180));
        assert_eq!(kib_field(status, "Pss:"), None);
        assert_eq!(kib_field("Pss_Dirty: 7 kB\nPss:   12 kB\n", "Pss:"), Some(12));
    }

    #[test]
    fn what_was_never_written_does_not_count_as_written() {
        let text = "wchar: 9000\nread_bytes: 1\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n";
        assert_eq!(written_in(text), Some(4096));
        assert_eq!(written_in("wchar: 1\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(usage(pid).unwrap().cpu_ns > 0);
        let memory = memory(pid).unwrap();
        assert!(memory.rss_anon > 0 && memory.pss > 0);
        assert_eq!(own_cpus().unwrap(), allowed_cpus(pid).unwrap());
    }
}
