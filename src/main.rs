//! The program: arguments in, one command out.

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use fanfare::bench::Bench;
use fanfare::cli::arguments::{self, Asked};
use fanfare::cli::error::CliStatus;
use fanfare::cli::output::{note, print};
use fanfare::cli::{
    CliError, check::Check, cluster::ClusterCommand, configuration::ConfigCommand, doctor::Doctor,
    ended::EndedCommand, help::HelpCommand, init::Init, kick::KickCommand, publish::Publish,
    serve::Serve, sessions::SessionsCommand, subscribe::SubscribeCommand, tap::TapCommand,
    token::TokenCommand, top::TopCommand, topics::TopicsCommand, upgrade::UpgradeCommand,
    why::WhyCommand,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes events from local programs and fans them out to very many WebSocket clients, in the
/// protocols that those clients already speak.
#[derive(ArgsInfo, FromArgs)]
#[argh(
    example = "fanfare serve",
    note = "`fanfare help` lists the pages of the manual, `fanfare help TOPIC` shows one.",
    error_code(0, "done"),
    error_code(1, "it failed, and says why"),
    error_code(2, "the command line is wrong"),
    error_code(
        75,
        "the daemon does not run, is full or is stopping: the same command may succeed later"
    ),
    error_code(78, "the configuration, or a file that it names, is wrong")
)]
struct Arguments {
    #[argh(subcommand)]
    command: Option<FanfareCommand>,
    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,
}

#[derive(ArgsInfo, FromArgs)]
#[argh(subcommand)]
enum FanfareCommand {
    Serve(Serve),
    Check(Check),
    Doctor(Doctor),
    Init(Init),
    Config(ConfigCommand),
    Publish(Publish),
    Subscribe(SubscribeCommand),
    Token(TokenCommand),
    Topics(TopicsCommand),
    Sessions(SessionsCommand),
    Kick(KickCommand),
    Why(WhyCommand),
    Tap(TapCommand),
    Top(TopCommand),
    Ended(EndedCommand),
    Upgrade(UpgradeCommand),
    Cluster(ClusterCommand),
    Bench(Bench),
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // A reader that has enough, such as `head`, is no failure to report.
        if error.status() != CliStatus::Closed {
            note(&format!("fanfare: {error}"));
        }
        error.status().into()
    })
}

fn run() -> Result<ExitCode, CliError> {
    let mut words = std::env::args_os()
        .skip(1)
        .map(|word| word.into_string())
        .collect::<Result<Vec<String>, _>>()
        .map_err(|word| CliError::usage(format!("{word:?} is not text in UTF-8")))?;
    // Not an error: a first call without arguments is how people ask what a program does.
    if words.is_empty() {
        words.push("--help".to_owned());
    }

    if let [word, rest @ ..] = &words[..]
        && word == "help"
        && let Some(help) = manual(rest)
    {
        return help;
    }

    let arguments: Arguments = match arguments::read("fanfare", &words)? {
        Asked::Command(arguments) => arguments,
        Asked::Help(text) => {
            print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    };

    if arguments.version {
        print(&format!("fanfare {}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok(ExitCode::SUCCESS);
    }

    match arguments.command {
        Some(FanfareCommand::Init(init)) => init.run(),
        Some(FanfareCommand::Serve(serve)) => serve.run(),
        Some(FanfareCommand::Check(check)) => check.run(),
        Some(FanfareCommand::Doctor(doctor)) => doctor.run(),
        Some(FanfareCommand::Config(config)) => config.run(),
        Some(FanfareCommand::Publish(publish)) => publish.run(),
        Some(FanfareCommand::Subscribe(subscribe)) => subscribe.run(),
        Some(FanfareCommand::Token(token)) => token.run(),
        Some(FanfareCommand::Topics(topics)) => topics.run(),
        Some(FanfareCommand::Sessions(sessions)) => sessions.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Kick(kick)) => kick.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Why(why)) => why.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Tap(tap)) => tap.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Top(top)) => top.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Upgrade(upgrade)) => upgrade.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Ended(ended)) => ended.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Cluster(cluster)) => cluster.run().map(|()| ExitCode::SUCCESS),
        Some(FanfareCommand::Bench(bench)) => {
            fanfare::bench::run(bench).map(|()| ExitCode::SUCCESS)
        }
        None => Err(CliError::usage("there is no command; `fanfare --help` tells what there is")),
    }
}

/// `fanfare help …` when it asks for the manual. The grammar takes that word for the option
/// wherever it stands and allows no command of this name; `fanfare help COMMAND` remains the
/// command's help.
fn manual(words: &[String]) -> Option<Result<ExitCode, CliError>> {
    let program = CommandInfoWithArgs { name: "fanfare", ..Arguments::get_args_info() };
    let first = words.first().map(String::as_str);
    if program.commands.iter().any(|command| Some(command.name) == first) {
        return None;
    }
    let shown = |asked| match asked {
        Asked::Command(help) => HelpCommand::run(help, &program),
        Asked::Help(text) => print(&text).map(|()| ExitCode::SUCCESS),
    };
    Some(arguments::read::<HelpCommand>("fanfare help", words).and_then(shown))
}
