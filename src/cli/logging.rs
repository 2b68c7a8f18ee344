//! The log: text or JSON on standard error, or systemd's journal with its fields.
//!
//! A message says everything itself, in words. Fields repeat of it what programs look for; text is
//! for people and leaves them out.
//!
//! Lines are made where something is logged, and written by a thread of their own
//! ([`io::log`](crate::io::log)).

mod journal;

use self::journal::{JOURNAL, JournalLayer, JournalSocket};
use super::CliError;
use crate::config::{Format, Level, LogTable};
use crate::io::log;
use std::io::{self, IsTerminal as _, Write};
use std::panic;
use std::path::Path;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, reload};

/// Lets a reload or an operator change the level.
#[derive(Clone)]
pub(super) struct Filter(reload::Handle<Targets, Registry>);

impl Filter {
    /// Writes this level and what is more severe from now on.
    pub(super) fn set(&self, level: Level) {
        // It fails only where nothing is logged any more.
        let _ = self.0.reload(filter(level));
    }

    /// Writes what these directives let through from now on: a level, or levels of modules.
    ///
    /// # Errors
    /// When they are malformed.
    pub(super) fn direct(&self, directives: &str) -> Result<(), String> {
        // A word alone would be a module with everything that it says.
        let mut alone = directives.split(',').filter(|directive| !directive.contains('='));
        let are_levels = alone.all(|word| word.trim().parse::<LevelFilter>().is_ok());
        let targets: Option<Targets> = directives.parse().ok().filter(|_| are_levels);
        let targets = targets.ok_or(
            "filter: write error, warn, info or debug, or directives such as \
             warn,fanfare::io=debug",
        )?;
        self.0.reload(without_clients(targets)).map_err(|error| error.to_string())
    }
}

fn filter(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    without_clients(Targets::new().with_default(level))
}

/// What the clients of brokers have to say, the daemon says in the words of the configuration.
fn without_clients(targets: Targets) -> Targets {
    targets.with_targets(["lapin", "async_nats"].map(|target| (target, LevelFilter::OFF)))
}

/// Starts logging for the whole process.
pub(super) fn start(log: &LogTable) -> Result<Filter, CliError> {
    let (layer, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(layer);
    // A line that cannot be written is lost: there is nowhere else to tell so.
    if is_journal(log) {
        let journal = JournalSocket::open(Path::new(JOURNAL)).map_err(|error| failed(&error))?;
        carried(move |entry| drop(journal.send(entry)))?;
        let set = tracing::subscriber::set_global_default(registry.with(JournalLayer::new()));
        return set.map(|()| Filter(handle)).map_err(|error| failed(&error));
    }
    carried(|line| drop(io::stderr().lock().write_all(line)))?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(|| LogWriter)
        .with_target(false)
        .log_internal_errors(false);
    let set = if matches!(log.format, Format::Json) {
        tracing::subscriber::set_global_default(registry.with(layer.json()))
    } else {
        // Escape sequences are of no use in a file.
        let colours = io::stderr().is_terminal();
        let message = debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{value:?}"),
            _ => Ok(()),
        });
        tracing::subscriber::set_global_default(
            registry.with(layer.with_ansi(colours).fmt_fields(message)),
        )
    };
    set.map(|()| Filter(handle)).map_err(|error| failed(&error))
}

/// Has what is logged written, and all of it before a panic is told, which ends the process.
fn carried(write: impl FnMut(&[u8]) + Send + 'static) -> Result<(), CliError> {
    log::start(write)
        .map_err(|error| CliError::new(format!("the log's thread cannot be started: {error}")))?;
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        log::finish(log::END_MAX);
        tell(info);
    }));
    Ok(())
}

/// Where the lines of text are written to, each at once.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        log::put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why logging would not start.
pub(super) fn problem(log: &LogTable) -> Option<String> {
    let refused = is_journal(log).then(|| JournalSocket::open(Path::new(JOURNAL)).err()).flatten();
    refused.map(|error| failed(&error).to_string())
}

fn is_journal(log: &LogTable) -> bool {
    match log.format {
        Format::Journald => true,
        Format::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
        Format::Text | Format::Json => false,
    }
}

fn failed(error: &dyn std::fmt::Display) -> CliError {
    CliError::configuration(format!(
        "log.format: logging cannot start: {error}; use \"text\" or \"json\""
    ))
}
