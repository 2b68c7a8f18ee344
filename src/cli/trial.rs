//! The development set-up: what `fanfare serve` runs without a configuration.
//!
//! Loopback only, every dialect on the port that its clients expect and nearly all on one with TLS,
//! the unix feed, a secret and a certificate of its own in the state directory, so that the first
//! event arrives a minute after the build.

use super::locate::{ADDRESS_FILE, FEED_FILE, TOKEN_FILE};
use super::output::note;
use super::{CliError, certificates, paths};
use crate::config::Config;
use crate::dialect::client::TrialPlace;
use crate::dialect::{ClaimedPaths, Kind};
use crate::io::Daemon;
use crate::text::hex;
use crate::token::{Algorithm, mint};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do when the set-up's addresses are taken.
pub(super) const ELSEWHERE: &str = "The development set-up can go elsewhere, for example: \
    FANFARE_LISTEN_0_ADDRESS=127.0.0.1:8090 FANFARE_LISTEN_1_ADDRESS=127.0.0.1:9592 \
    FANFARE_LISTEN_2_ADDRESS=127.0.0.1:8490 FANFARE_ADMIN_ADDRESS=127.0.0.1:9590 \
    FANFARE_FEED_UNIX_PATH=/tmp/fanfare-events.sock fanfare serve";

/// Where clients connect without TLS; [`listener_of`] says who.
const LISTENERS: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:9502"];
/// Where they connect with it.
const OVER_TLS: &str = "127.0.0.1:8443";

/// What the mode of a file allows to others than its owner.
const OTHERS: u32 = 0o077;
/// How long the printed tokens are good.
const TOKEN_S: u64 = 24 * 3600;
/// Bytes of randomness in the secret.
const SECRET_BYTES: usize = 32;

/// A development set-up that is ready to be started.
pub(super) struct Trial {
    /// The text of its configuration.
    pub(super) configuration: String,
    secret: String,
    /// Those of the dialects that have one of their own.
    secrets: Vec<(Kind, String)>,
    directory: PathBuf,
    socket: PathBuf,
    certificate: PathBuf,
}

/// Makes the state directory, the secret and the certificate, if this is the first time.
pub(super) fn prepare() -> Result<Trial, CliError> {
    let directory = paths::state_dir();
    make_private(&directory)?;
    let secret_file = directory.join("jwt.secret");
    let secret = secret_in(&secret_file)?;
    let admin_token_file = directory.join(TOKEN_FILE);
    secret_in(&admin_token_file)?;
    drop_exposed(&directory.join(certificates::KEY_FILE))?;
    let (certificate, key) = certificates::self_signed(&directory)?;
    let socket = match std::env::var_os("FANFARE_FEED_UNIX_PATH") {
        Some(path) => path.into(),
        None => directory.join("events.sock"),
    };
    let listen = |address: &str, takes: &dyn Fn(Kind) -> bool| {
        let kinds = Kind::ALL.iter().filter(|kind| takes(**kind));
        let dialects: Vec<String> = kinds.map(|kind| format!("{:?}", kind.name())).collect();
        format!("[[listen]]\naddress = \"{address}\"\ndialects = [{}]\n", dialects.join(", "))
    };
    let listeners = LISTENERS.iter().enumerate();
    let listeners: String = listeners
        .map(|(index, address)| listen(address, &|kind| listener_of(kind) == index))
        .collect();
    // A JSON string is a TOML string.
    let string = |path: &Path| serde_json::Value::String(path.display().to_string()).to_string();
    let token = format!(
        "{{ jwt = {{ algorithms = [\"HS256\"], secret_file = {} }} }}",
        string(&secret_file)
    );
    let mut usual = Config::default();
    let with_tokens = usual
        .dialects_mut()
        .into_iter()
        .filter_map(|table| table.token().is_some().then(|| table.name()));
    let tables: String = with_tokens.map(|name| format!("[{name}]\ntoken = {token}\n")).collect();
    let (mut secrets, mut own_tables) = (Vec::new(), String::new());
    for kind in Kind::ALL {
        let file = directory.join(format!("{}.secret", kind.name()));
        if let Some(table) = kind.client().trial_table(&string(&file)) {
            let secret = secret_in(&file)?;
            secrets.push((*kind, secret));
            own_tables += &table;
        }
    }
    let configuration = format!(
        "{listeners}\
         {over_tls}tls = {{ certificate = {certificate}, key = {key} }}\n\
         [admin]\naddress = \"127.0.0.1:9500\"\ntoken_file = {admin_token}\n\
         [feed.unix]\npath = {socket}\nmode = \"0600\"\n\
         {tables}\
         [store]\npath = {store}\n\
         {own_tables}",
        over_tls = listen(OVER_TLS, &is_over_tls),
        certificate = string(&certificate),
        key = string(&key),
        socket = string(&socket),
        store = string(&directory.join("store")),
        admin_token = string(&admin_token_file),
    );
    Ok(Trial { configuration, secret, secrets, directory, socket, certificate })
}

impl Trial {
    /// Leaves for the other commands where the admin listener and the unix feed are.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn leave_addresses(&self, daemon: &Daemon) -> Result<(), CliError> {
        let socket = std::path::absolute(&self.socket).unwrap_or_else(|_| self.socket.clone());
        let admin = daemon.admin.map(|admin| (ADDRESS_FILE, admin.to_string()));
        for (name, address) in admin.into_iter().chain([(FEED_FILE, socket.display().to_string())])
        {
            let path = self.directory.join(name);
            fs::write(&path, format!("{address}\n"))
                .map_err(|error| CliError::new(format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Removes them: the daemon has ended.
    pub(super) fn remove_addresses(&self) {
        for name in [ADDRESS_FILE, FEED_FILE] {
            // A command that finds what is left behind connects in vain, and says so.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }

    /// What to paste where, for each dialect.
    pub(super) fn welcome(&self, daemon: &Daemon) -> String {
        let program = program();
        let all = daemon.addresses();
        // The listener with TLS is the last of the configuration.
        let Some((over_tls, addresses)) = all.split_last() else { return String::new() };
        let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "fanfare runs on {}, for this machine only; its secret, certificate and socket are in \
             {}.\n\
             With TLS on {over_tls}: give subscribe a wss:// URL and --ca {}\n",
            all.join(" and "),
            self.directory.display(),
            quoted(&self.certificate)
        );
        if let Some(admin) = daemon.admin {
            text += &format!("Health and metrics: http://{admin}/metrics\n");
        }
        // The shell that this is pasted into may have another state directory, but hardly by
        // chance.
        let named = std::env::var_os("FANFARE_FEED_UNIX_PATH").is_some();
        let socket =
            if named { format!(" --socket {}", quoted(&self.socket)) } else { String::new() };
        for kind in Kind::ALL {
            let Some(address) = addresses.get(listener_of(*kind)) else { continue };
            let (address, over_tls) = (address.to_string(), over_tls.to_string());
            let secret = self.secrets.iter().find(|(of, _)| of == kind);
            text += &kind.client().welcome(&TrialPlace {
                name: kind.name(),
                address: &address,
                over_tls: is_over_tls(*kind).then_some(&over_tls),
                program: &program,
                socket: &socket,
                token: &self.token(*kind),
                secret: secret.map_or("", |(_, secret)| secret),
            });
        }
        text + "\nCtrl-C stops it.\n"
    }

    /// A token for the example of a dialect.
    fn token(&self, kind: Kind) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut claims = kind.client().example().claims.as_object().cloned().unwrap_or_default();
        claims.insert("exp".into(), (now_s + TOKEN_S).into());
        mint(Algorithm::HS256, self.secret.as_bytes(), &claims).unwrap_or_default()
    }
}

/// A dialect that takes any path has the port that its clients know to itself.
pub(super) fn listener_of(kind: Kind) -> usize {
    usize::from(kind.paths() == ClaimedPaths::Any)
}

/// A dialect that takes `/` has no port in common with one that takes any path.
fn is_over_tls(kind: Kind) -> bool {
    kind.paths() != ClaimedPaths::Root
}

/// The way to call this program from where the user is.
fn program() -> String {
    let Ok(program) = std::env::current_exe() else { return "fanfare".into() };
    let here = std::env::current_dir().ok();
    let near = here.and_then(|here| program.strip_prefix(here).ok());
    match near {
        // A shell looks a bare name up elsewhere.
        Some(name) if name.components().count() == 1 => quoted(&Path::new(".").join(name)),
        Some(near) => quoted(near),
        None => quoted(&program),
    }
}

/// A path as a shell takes it for one word.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte)) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Makes the state directory, or takes away from others what they may do in it.
fn make_private(directory: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        CliError::new(format!(
            "the state directory {} cannot be used: {error}; set XDG_STATE_HOME to a directory of \
             yours",
            directory.display()
        ))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let found = fs::metadata(directory).map_err(failed)?;
    // In /tmp another user may have made it first, and would read every secret in it.
    if let Some(owner) = other_owner(&found) {
        return Err(failed(io::Error::other(format!("it belongs to user {owner}"))));
    }
    let mode = found.mode() & 0o777;
    // A umask or an older release may have left it open.
    if mode & OTHERS != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(failed)?;
        note(&format!(
            "warning: others could enter the state directory {} (mode {mode:04o}): it is 0700 now",
            directory.display()
        ));
    }
    Ok(())
}

/// Deletes a secret that others can know, so that it is made anew. One that others may have put
/// there is refused.
fn drop_exposed(path: &Path) -> Result<(), CliError> {
    let shown = path.display();
    // Not through a link, which may lead to a file of someone else's.
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if let Some(owner) = other_owner(&found) {
        return Err(CliError::new(format!(
            "{shown} belongs to user {owner}, who may know it: remove it, and a new one is made"
        )));
    }
    let mode = found.mode() & 0o777;
    // What others could read may be known by now.
    if found.is_file() && mode & OTHERS != 0 {
        fs::remove_file(path)
            .map_err(|error| CliError::new(format!("cannot remove {shown}: {error}")))?;
        note(&format!(
            "warning: others could read or change {shown} (mode {mode:04o}): a new one is made"
        ));
    }
    Ok(())
}

/// Whose something is, if it is not ours.
fn other_owner(found: &fs::Metadata) -> Option<u32> {
    Some(found.uid()).filter(|owner| *owner != rustix::process::geteuid().as_raw())
}

/// Writes a new secret, for its owner alone.
pub(super) fn make_secret(path: &Path) -> io::Result<()> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", hex(&bytes))
}

/// The secret in `path`, made if there is none.
fn secret_in(path: &Path) -> Result<String, CliError> {
    drop_exposed(path)?;
    if !path.exists() {
        make_secret(path).map_err(|error| CliError::new(format!("{}: {error}", path.display())))?;
    }
    paths::read_text(path, "the development secret")
}
