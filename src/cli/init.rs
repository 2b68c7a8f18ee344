//! `fanfare init`: a first configuration for the protocols that are wanted, with the secrets that it
//! needs.

use super::locate::{SERVICE_CONFIGURATION, SERVICE_SOCKET};
use super::output::print;
use super::trial::{listener_of, make_secret, quoted};
use super::user::User;
use super::{CliError, load};
use crate::dialect::Kind;
use crate::dialect::client::SetupFiles;
use argh::{ArgsInfo, FromArgs};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Ports of the listeners: that of most dialects, and that which clients of one that takes any path
/// expect.
const PORTS: [u16; 2] = [8080, 9502];
/// Where operators on this machine ask, as in the sample.
const ADMIN_SOCKET: &str = "/run/fanfare/admin.sock";
/// What the configuration's mode is: others may read it, since secrets have files of their own.
const CONFIGURATION_MODE: u32 = 0o644;

/// Write a configuration for the protocols that are named, with the secrets that it needs.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "init",
    example = "{command_name} echo\n{command_name} wazo pulsar --directory ./fanfare",
    note = "Nothing that is there is overwritten. `fanfare help` names the protocols, each with a page."
)]
pub struct Init {
    /// the protocols, such as echo
    #[argh(positional, arg_name = "PROTOCOL")]
    protocols: Vec<String>,
    /// where the files are written; default: /etc/fanfare
    #[argh(option, arg_name = "dir")]
    directory: Option<PathBuf>,
    /// the IP address to listen on for clients; default: 0.0.0.0
    #[argh(option, arg_name = "address")]
    listen: Option<IpAddr>,
}

/// The files of a new configuration.
struct FirstFiles {
    configuration: String,
    /// Those of secrets.
    secrets: Vec<PathBuf>,
}

impl Init {
    /// Writes the files, and prints what to do next.
    ///
    /// # Errors
    /// When there is no such protocol, or a configuration already, or a file cannot be written.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let kinds = self.kinds()?;
        let service = Path::new(SERVICE_CONFIGURATION);
        let usual = service.parent().unwrap_or(service);
        let directory = self.directory.as_deref().unwrap_or(usual);
        let directory = std::path::absolute(directory)
            .map_err(|error| CliError::new(format!("{}: {error}", directory.display())))?;
        let file = directory.join(service.file_name().unwrap_or_default());

        let FirstFiles { configuration, secrets } = self.setup(&kinds, &directory);
        fs::create_dir_all(&directory).map_err(|error| cannot_write(&directory, &error))?;
        // First, because it is what must not be there yet.
        write_new(&file, &configuration)?;
        let made = make_secrets(&secrets)?;
        // A mistake here would be one of this program, and is found before it is relied on.
        load::file(&file)?;

        let files = [&file].into_iter().chain(&made);
        let written: String = files.map(|path| format!("written: {}\n", path.display())).collect();
        let next = next_steps(&file, &kinds, directory == usual);
        print(&format!("{written}{next}")).map(|()| ExitCode::SUCCESS)
    }

    /// The protocols, each once.
    fn kinds(&self) -> Result<Vec<Kind>, CliError> {
        let names = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        if self.protocols.is_empty() {
            return Err(CliError::usage(format!("name the protocols: {}", names())));
        }
        let unknown = self.protocols.iter().find(|name| Kind::named(name).is_none());
        if let Some(unknown) = unknown {
            return Err(CliError::usage(format!(
                "there is no protocol \"{}\": there are {}",
                super::error::printable(unknown, 100),
                names()
            )));
        }
        let is_named = |kind: &Kind| self.protocols.iter().any(|name| name == kind.name());
        Ok(Kind::ALL.iter().copied().filter(is_named).collect())
    }

    fn setup(&self, kinds: &[Kind], directory: &Path) -> FirstFiles {
        let in_toml = |path: &Path| {
            // A JSON string is a TOML string.
            serde_json::Value::String(path.display().to_string()).to_string()
        };
        let mut configuration = String::from(
            "# What is not set here has its default: \"fanfare help configuration\" lists all keys.\n\
             # After a change: fanfare check, and systemctl reload fanfare.\n\n",
        );
        for (index, port) in PORTS.iter().enumerate() {
            let here = kinds.iter().filter(|kind| listener_of(**kind) == index);
            let names: Vec<String> = here.map(|kind| format!("\"{}\"", kind.name())).collect();
            if !names.is_empty() {
                let ip = self.listen.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                let address = SocketAddr::new(ip, *port);
                configuration += &format!(
                    "# Clients connect here; [listen.tls] has the certificate: \"fanfare help tls\".\n\
                     [[listen]]\naddress = \"{address}\"\ndialects = [{}]\n\n",
                    names.join(", ")
                );
            }
        }
        let admin_token = directory.join("admin.token");
        configuration += &format!(
            "# Health and metrics, and requests of operators: with the token, or over the socket as\n\
             # root or the daemon's user.\n\
             [admin]\naddress = \"127.0.0.1:9500\"\ntoken_file = {}\nsocket = \"{ADMIN_SOCKET}\"\n\n\
             # Programs on this machine write events to this socket, if their user is in its group.\n\
             [feed.unix]\npath = \"{SERVICE_SOCKET}\"\n",
            in_toml(&admin_token)
        );

        let tokens = directory.join("jwt.secret");
        let mut parts: Vec<String> = Vec::new();
        let mut secrets = vec![admin_token];
        for kind in kinds {
            let own = directory.join(format!("{}.secret", kind.name()));
            let files = SetupFiles { tokens: in_toml(&tokens), own: in_toml(&own) };
            for part in kind.client().setup(&files) {
                let named = [(&files.tokens, &tokens), (&files.own, &own)];
                for (_, path) in named.iter().filter(|(name, _)| part.contains(name.as_str())) {
                    if !secrets.contains(path) {
                        secrets.push((*path).clone());
                    }
                }
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        for part in parts {
            configuration += &format!("\n{part}");
        }
        FirstFiles { configuration, secrets }
    }
}

/// Writes a file that must not be there.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(CONFIGURATION_MODE).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::configuration(format!(
            "{} is there already, and stays as it is: move it away, or name another --directory",
            path.display()
        )),
        _ => cannot_write(path, &error),
    })
}

/// Makes the secrets that are not there. They belong to the user of the service where root makes
/// them.
fn make_secrets(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut made = Vec::new();
    let (uid, gid) = User::verified(None)?.ids();
    for path in paths {
        // One that is there is in use perhaps.
        if path.exists() {
            continue;
        }
        make_secret(path)
            .and_then(|()| chown(path, Some(uid), Some(gid)))
            .map_err(|error| cannot_write(path, &error))?;
        made.push(path.clone());
    }
    Ok(made)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display()))
}

/// What to do with the configuration.
fn next_steps(file: &Path, kinds: &[Kind], is_service: bool) -> String {
    let (file, pages) = (quoted(file), kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>());
    let start = match is_service {
        true => "systemctl enable fanfare && systemctl restart fanfare".to_owned(),
        false => format!("fanfare serve --config {file}"),
    };
    format!(
        "next: fanfare check --config {file}\n      {start}\n      fanfare doctor --config {file}\n      \
         fanfare help {}\n",
        pages.join(", fanfare help ")
    )
}
