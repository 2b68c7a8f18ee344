//! `fanfare topics restore`: puts a backup in the place of the store, while no daemon runs.

use super::super::check::service_configuration;
use super::super::load;
use super::super::output::{note, print, size};
use super::super::user::User;
use super::super::{CliError, error::CliStatus};
use super::show;
use crate::dialect::Kind;
use crate::io::rehearsal::{self, Occupancy};
use crate::io::store::{self, RestoreError, Restored};
use crate::io::{Listen, Plan};
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is told how far a long copy is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Put a backup in the place of the store; the daemon has to be stopped, and nothing is
/// overwritten.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "restore")]
pub(super) struct Restore {
    /// the backup
    #[argh(positional, arg_name = "DIR")]
    backup: PathBuf,
    /// the configuration with the store's path; default: /etc/fanfare/fanfare.toml
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// whom the files are to belong to, which needs root; default: fanfare, the user of the
    /// service, where root asks
    #[argh(option, arg_name = "name")]
    user: Option<String>,
    /// restore what there is of a backup that is damaged
    #[argh(switch)]
    accept_loss: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

impl Restore {
    /// Restores, and prints what.
    pub(super) fn run(&self) -> Result<(), CliError> {
        let config = self.config.clone().map_or_else(service_configuration, Ok)?;
        // Files that root leaves behind could not be opened by the service.
        User::verified(self.user.as_deref())?.become_it()?;
        let plan = load::file(&config)?.plan;
        let speaks =
            plan.listen.iter().any(|listen| listen.kinds.iter().any(|kind| kind.has_topics()));
        let Some(store) = plan.store.as_ref().filter(|store| speaks && store.path.is_some()) else {
            let name = config.display();
            return Err(CliError::configuration(format!(
                "{name} has no store: no [[listen]] has {} among its dialects, or [store] has no \
                 path",
                Kind::names_with_topics()
            )));
        };
        none_runs(&plan)?;
        let settings = store::StoreSettings { accept_loss: self.accept_loss, ..store.clone() };
        let mut told = Instant::now();
        // A line for each file would push everything else off the screen.
        let restored = store::restore(&self.backup, &settings, |copied, all| {
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                note(&format!("{} of {} are copied", size(copied), size(all)));
            }
        });
        let Restored { path, messages, bytes, copied_bytes, lines } =
            restored.map_err(|error| CliError::new(error.to_string()).with(status(&error)))?;
        lines.iter().for_each(|line| note(line));
        let told = json!({
            "path": path, "messages": messages, "bytes": bytes, "copiedBytes": copied_bytes,
        });
        print(&if self.json { told.to_string() + "\n" } else { show::record(&told) })
    }
}

/// A daemon that runs would go on in the files of the store that was moved away, and take away some
/// of this one.
fn none_runs(plan: &Plan) -> Result<(), CliError> {
    let admin = plan.admin.as_ref().map(|admin| admin.address);
    let addresses =
        admin.into_iter().chain(plan.listen.iter().map(|Listen { address, .. }| *address));
    for address in addresses {
        if let Ok(Occupancy::ByOwn | Occupancy::ByAnother) = rehearsal::tcp(address) {
            return Err(CliError::try_again(format!(
                "{address} is taken: the daemon of this configuration seems to run. Stop it first \
                 (systemctl stop fanfare)"
            )));
        }
    }
    Ok(())
}

fn status(error: &RestoreError) -> CliStatus {
    match error {
        RestoreError::Writers(..) => CliStatus::Configuration,
        RestoreError::Open(error) => error.into(),
        _ => CliStatus::Failure,
    }
}
