//! `ciruela`: the command line client, one file per command, output through [`ui`].

pub mod args;
pub mod demo;
pub mod index;
pub mod keys;
pub mod sync;
pub mod ui;
pub mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed terminal is no reason to fail differently.
            drop(usage.print());
            return ExitCode::from(u8::from(usage.use_stderr()));
        }
    };
    let result = match cli.command {
        Command::Sync(args) => sync::run(*args, cli.port),
        Command::Index(args) => index::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::DemoNode(args) => demo::run_node(&args),
        Command::Completions(args) => {
            ui::data(&args::completions(args.shell)).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// Says why a command failed, unless nobody listens any more.
pub fn complain(error: &anyhow::Error) {
    if !matches!(error.downcast_ref(), Some(ui::OutputError::Closed)) {
        ui::error(&format!("{error:#}"));
    }
}
