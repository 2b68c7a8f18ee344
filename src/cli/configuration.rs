//! `fanfare config`: what a configuration can hold.

use super::CliError;
use super::output::print;
use crate::config::schema::for_editors;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Tell what a configuration can hold.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "config")]
pub struct ConfigCommand {
    #[argh(subcommand)]
    command: ConfigTopic,
}

#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand)]
enum ConfigTopic {
    Schema(SchemaCommand),
}

/// Print the JSON Schema of the configuration, by which editors check and complete it.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "schema",
    example = "{command_name} > fanfare.schema.json",
    note = "An editor with Taplo (Even Better TOML) takes it from the first line of the \
            configuration: #:schema ./fanfare.schema.json"
)]
struct SchemaCommand {}

impl ConfigCommand {
    /// Prints what was asked for.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let ConfigTopic::Schema(SchemaCommand {}) = self.command;
        print(&for_editors())?;
        Ok(ExitCode::SUCCESS)
    }
}
