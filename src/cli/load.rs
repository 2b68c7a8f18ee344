//! From a configuration file to a plan that can be started: reads the file, the files that it
//! names, and says everything that is wrong at once.

use super::{CliError, bus, certificates, explain::explain, nats, paths, resources};
use crate::config::{AdminTable, Config, ConfigError, LogTable};
use crate::dialect::Kind;
use crate::http::otlp::{Otlp, OtlpSettings};
use crate::http::{AdminToken, AdminTokens};
use crate::io::{Admin, Bus, Inherited, Listen, Plan, Redis, StopTimes};
use crate::setting::Secret;
use crate::shard::Limits;
use crate::token::{KeyError, TokenSettings, Verifier, VerifierError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a configuration comes to.
pub(super) struct LoadedConfig {
    pub(super) plan: Plan,
    pub(super) times: StopTimes,
    pub(super) log: LogTable,
    /// The keys as they were set.
    pub(super) table: toml::Table,
    /// What runs, but not as it was probably meant.
    pub(super) notes: Vec<String>,
}

/// Reads a configuration file with the environment's overrides.
pub(super) fn file(path: &Path) -> Result<LoadedConfig, CliError> {
    let name = path.display().to_string();
    text_of(&name, &paths::configuration(path)?)
}

/// Reads a configuration's text; `name` is what errors call it.
pub(super) fn text_of(name: &str, text: &str) -> Result<LoadedConfig, CliError> {
    let (mut config, table) = config(name, text)?;
    let mut problems = config.problems();
    problems.extend(absent_cpus(&config));
    problems.extend(resources::problems(&config, shards(&config)));
    let mut notes = Vec::new();
    for table in config.dialects_mut() {
        let (name, is_lenient) = (table.name(), table.takes_short_secrets());
        let decisive = table.decisive_claims();
        let Some((Some(token), place)) = table.token() else { continue };
        match verifier(name, token, is_lenient, &mut notes) {
            Ok(verifier) => *place = Some(verifier.deciding_by(decisive)),
            Err(problem) if problems.contains(&problem) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let spoken: Vec<Kind> = config.listen.iter().flat_map(|it| it.kinds()).flatten().collect();
    for table in config.dialects_mut() {
        // The secrets of apps that no listener serves are not needed.
        if Kind::of_table(table).any(|kind| spoken.contains(&kind)) {
            problems.extend(table.read_secrets(&secret));
        }
    }

    // What is wrong with the settings themselves is told already.
    let (mut bus, mut redis) = (None, None);
    if config.feed.amqp.problems().is_empty() {
        bus = good(bus::bus(&config.feed.amqp), &mut problems).flatten();
    }
    if config.feed.redis.problems().is_empty() {
        redis = good(bus::redis(&config), &mut problems).flatten();
    }
    let mut cluster = None;
    if let Some(settings) = config.cluster.as_ref().filter(|it| it.problems().is_empty()) {
        cluster = good(nats::nats(settings), &mut problems);
    }
    let otlp = config.otlp.as_ref().and_then(|settings| good(otlp(settings), &mut problems));
    let admin = config.admin.as_ref().and_then(|settings| good(admin(settings), &mut problems));
    let listen = listen(&config, &mut problems, &mut notes);
    // All at once, so that one edit of the file mends them.
    if !problems.is_empty() {
        return Err(CliError::configuration(format!(
            "{name}: {}",
            problems.join(&format!("\n{name}: "))
        )));
    }
    let mut loaded = plan(config, (bus, redis), listen, admin, notes);
    (loaded.plan.cluster, loaded.plan.otlp) = (cluster, otlp);
    Ok(LoadedConfig { table, ..loaded })
}

/// The settings of a configuration's text with the environment's overrides, and the keys as they
/// were set; `name` is what errors call it.
pub(super) fn config(name: &str, text: &str) -> Result<(Config, toml::Table), CliError> {
    Config::read_with_table(text, std::env::vars()).map_err(|error| {
        CliError::configuration(match error {
            ConfigError::Text(error) => explain(name, text, &error),
            ConfigError::Environment(message) => message,
        })
    })
}

/// A value, or one more problem.
fn good<T>(result: Result<T, String>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// The admin listener, with its tokens.
fn admin(settings: &AdminTable) -> Result<Admin, String> {
    let read = |key: &str, path: &Path| {
        let name = format!("[admin] {key}");
        let text = paths::read_text(path, &name).map_err(|error| error.to_string())?;
        let token = AdminToken::new(&text);
        token.map_err(|problem| format!("{name}: {} {problem}", path.display()))
    };
    let in_file =
        settings.token_file.as_deref().map(|path| read("token_file", path)).transpose()?;
    let publish = settings.publish_token_file.as_deref();
    let publish = publish.map(|path| read("publish_token_file", path)).transpose()?;
    Ok(Admin {
        address: settings.address,
        tokens: AdminTokens {
            all: in_file.or_else(|| settings.token.clone()),
            publish,
            console_hosts: settings.console_hosts.iter().map(|host| host.as_str().into()).collect(),
        },
        socket: settings.socket.clone(),
        operator: None,
    })
}

/// The collector of OpenTelemetry, with the headers that it wants.
fn otlp(settings: &OtlpSettings) -> Result<Otlp, String> {
    let headers = settings
        .headers_file
        .as_deref()
        .map(|path| paths::read_text(path, "otlp.headers_file").map_err(|error| error.to_string()));
    Otlp::new(settings, headers.transpose()?.as_deref())
}

/// The listeners, with the files of their TLS.
fn listen(config: &Config, problems: &mut Vec<String>, notes: &mut Vec<String>) -> Vec<Listen> {
    let mut listeners = Vec::new();
    for listen in &config.listen {
        // What is wrong with the settings themselves is told already.
        let Ok(kinds) = listen.kinds() else { continue };
        let tls = listen.tls.as_ref().filter(|tls| tls.is_complete());
        let tls = match tls.map(|tls| certificates::identity(listen, tls)).transpose() {
            Ok(identity) => identity,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        notes.extend(tls.as_ref().and_then(|identity| identity.note.clone()));
        let expiry_s = tls.as_ref().and_then(|identity| identity.expiry_s);
        let tls = tls.map(|identity| identity.config);
        let proxied = listen.proxy_protocol;
        listeners.push(Listen { address: listen.address, kinds, tls, expiry_s, proxied });
    }
    listeners
}

/// The secret in a file, which is called by `name` in messages.
fn secret(name: &str, path: &Path) -> Result<Secret, String> {
    let text = paths::read_text(path, name).map_err(|error| error.to_string())?;
    if text.is_empty() { Err(format!("{name}: it is empty")) } else { Ok(Secret(text)) }
}

/// The verifier of one table's tokens, with the files that it needs.
fn verifier(
    table: &str,
    settings: &TokenSettings,
    is_lenient: bool,
    notes: &mut Vec<String>,
) -> Result<Verifier, String> {
    let name = format!("[{table}] token");
    settings.check().map_err(|error| format!("{name}: {error}"))?;
    let [material, authorities] = [settings.file(), settings.ca_file()]
        .map(|path| path.map(|path| paths::read_small(path, &name)).transpose());
    let material = material.map_err(|error| error.to_string())?;
    let authorities = authorities.map_err(|error| error.to_string())?;

    let mut verifier = Verifier::new(settings, material.as_deref());
    if is_lenient {
        // The application has its secret already.
        if let Err(error @ VerifierError::Key(KeyError::ShortSecret { .. })) = &verifier {
            notes.push(format!(
                "{name}: {error}; it is used all the same, and can be guessed the easier"
            ));
        }
        verifier = Verifier::lenient(settings, material.as_deref());
    }
    let verifier = verifier.and_then(|verifier| match &authorities {
        Some(pem) => verifier.trusting(pem),
        None => Ok(verifier),
    });
    verifier.map_err(|error| format!("{name}: {error}"))
}

fn plan(
    mut config: Config,
    (bus, mut redis): (Option<Bus>, Option<Redis>),
    listen: Vec<Listen>,
    admin: Option<Admin>,
    mut notes: Vec<String>,
) -> LoadedConfig {
    let shards = shards(&config);
    let cpus = cpus(&config, shards);
    let spoken: Vec<Kind> = listen.iter().flat_map(|it| it.kinds.iter().copied()).collect();
    if bus.is_some() && !Kind::fed_by_bus().any(|kind| spoken.contains(&kind)) {
        let names: Vec<&str> = Kind::fed_by_bus().map(Kind::name).collect();
        notes.push(format!(
            "[feed.amqp] feeds {}, and no [[listen]] has it among its dialects: its events \
             reach no client",
            names.join(" and ")
        ));
    }
    if let Some(redis) = &mut redis
        && !leave_wanted(redis, &spoken)
    {
        let tables = config.dialects();
        let fed: Vec<&str> = tables.iter().filter_map(|table| Some(table.redis()?.feeds)).collect();
        // It is listened to all the same, so that metrics show what comes.
        notes.push(format!(
            "[feed.redis] feeds {}, and no [[listen]] has one of them among its dialects: its \
             events reach no client",
            fed.join(", and ")
        ));
    }
    notes.extend(resources::note());
    let connections_max = connections_max(&config, shards, &mut notes);
    let limits = Limits { connections_max, ..config.limits };
    let settings = Arc::new(config.take_settings());
    LoadedConfig {
        times: StopTimes {
            drain: Duration::from_secs(config.drain_s.into()),
            spread: Duration::from_secs(config.drain_spread_s.into()),
        },
        plan: Plan {
            handover: None,
            inherited: Inherited::default(),
            shards,
            cpus,
            driver: config.driver,
            listen,
            admin,
            feed: config.feed.unix.clone(),
            bus,
            redis,
            cluster: None,
            otlp: None,
            store: config.store.path.is_some().then_some(config.store),
            limits,
            settings,
        },
        log: config.log,
        table: toml::Table::new(),
        notes,
    }
}

/// The number of clients that the configuration and the descriptors allow.
fn connections_max(config: &Config, shards: usize, notes: &mut Vec<String>) -> usize {
    let descriptors = resources::descriptor_limit();
    let most = descriptors.saturating_sub(resources::descriptors_kept(config, shards)).max(1);
    let asked = config.max_connections;
    if asked > most {
        notes.push(format!(
            "max_connections = {asked}, and {descriptors} descriptors allow {most} beside those \
             that the daemon itself needs: raise LimitNOFILE or `ulimit -n` by {}, or later \
             connections are answered with 503",
            asked - most
        ));
    }
    // Descriptors that clients took could not be had by operators, feeds and logs.
    if asked == 0 { most } else { asked.min(most) }
}

/// Leaves out what no listener's dialect wants of Redis. Returns false, and leaves all, when none
/// wants anything.
fn leave_wanted(redis: &mut Redis, spoken: &[Kind]) -> bool {
    let topics = &mut redis.topics;
    let is_wanted = topics.kinds().iter().any(|kind| spoken.contains(kind));
    if is_wanted {
        let speaks =
            |address: &str| Kind::of_address(address).is_some_and(|kind| spoken.contains(&kind));
        topics.sources.retain(|source| speaks(&source.address));
        topics.relay = topics.relay.filter(|kind| spoken.contains(kind));
    }
    is_wanted
}

/// How many shards there are to be.
pub(super) fn shards(config: &Config) -> usize {
    if config.threads == 0 { available_cpus().len().max(1) } else { config.threads }
}

/// The CPUs that shards are pinned to, in turn; none where they are not.
fn cpus(config: &Config, shards: usize) -> Vec<usize> {
    let available = available_cpus();
    match (config.pin, config.cpus.is_empty()) {
        (false, _) => vec![],
        (true, false) => config.cpus.clone(),
        // More shards than CPUs cannot each have one: the kernel places them better than a list
        // would.
        (true, true) if shards > available.len() => vec![],
        (true, true) => available,
    }
}

fn absent_cpus(config: &Config) -> Option<String> {
    let available = available_cpus();
    let absent =
        config.cpus.iter().find(|cpu| !available.is_empty() && !available.contains(cpu))?;
    Some(format!("cpus: this process may not use CPU {absent}; it may use {available:?}"))
}

/// The CPUs that this process may use; none where a sandbox does not tell.
pub(super) fn available_cpus() -> Vec<usize> {
    // Sandboxes may refuse it; then the kernel places the threads.
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}
