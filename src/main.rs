//! The program: arguments in, one command out.

use argh::FromArgs;
use fanfare::bench::Bench;
use fanfare::cli::{
    CliError, publish::Publish, serve::Check, serve::Serve, subscribe::Subscribe, token::Token,
    topics::Topics,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes events from local programs and fans them out to very many WebSocket clients, in the protocols that
/// those clients already speak.
#[derive(FromArgs)]
#[argh(example = "fanfare serve")]
struct Arguments {
    #[argh(subcommand)]
    command: Option<Command>,
    /// print the version
    #[argh(switch)]
    version: bool,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Serve(Serve),
    Check(Check),
    Publish(Publish),
    Subscribe(Subscribe),
    Token(Token),
    Topics(Topics),
    Bench(Bench),
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    if arguments.version {
        println!("fanfare {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let done: Result<ExitCode, CliError> = match arguments.command {
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Check(check)) => check.run(),
        Some(Command::Publish(publish)) => publish.run(),
        Some(Command::Subscribe(subscribe)) => subscribe.run(),
        Some(Command::Token(token)) => token.run(),
        Some(Command::Topics(topics)) => topics.run(),
        Some(Command::Bench(bench)) => fanfare::bench::run(bench)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| CliError::new(error.to_string())),
        None => {
            if let Err(help) = Arguments::from_args(&["fanfare"], &["--help"]) {
                print!("{}", help.output);
            }
            return ExitCode::SUCCESS;
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("fanfare: {error}");
        ExitCode::FAILURE
    })
}
