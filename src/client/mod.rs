//! `ciruela`: the command line client, one file per command, output through [`ui`].

pub mod args;
pub mod demo;
pub mod diff;
pub mod download;
pub mod edit;
pub mod index;
pub mod keys;
pub mod ls;
pub mod plan;
pub mod put_file;
pub mod remote;
pub mod remove;
pub mod rollback;
pub mod scanning;
pub mod status;
pub mod sync;
pub mod ui;
pub mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory, Parser};
use tokio::runtime::Runtime;

use args::{Cli, Command};

use crate::driver::interrupt::{INTERRUPTED_STATUS, Interrupts};

/// The exit status of most commands when the command line can't be read.
const BAD_USAGE_STATUS: u8 = 1;
/// Threads which carry messages; reading, hashing and writing have their own.
const RUNTIME_THREADS: usize = 2;

/// What runs a command that takes its time. From now on Ctrl-C is listened to.
fn threads() -> Result<(Runtime, Interrupts), anyhow::Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(RUNTIME_THREADS).enable_all().build().context("can't start threads")?;
    let interrupts = {
        let _inside = runtime.enter();
        Interrupts::listen().context("can't listen to signals")?
    };
    Ok((runtime, interrupts))
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed terminal is no reason to fail differently.
            drop(usage.print());
            if usage.use_stderr() {
                bad_usage(&usage);
            }
            let status =
                if words_name("verify") || words_name("diff") { verify::FAILED_STATUS } else { BAD_USAGE_STATUS };
            return ExitCode::from(if usage.use_stderr() { status } else { 0 });
        }
    };
    let result = match cli.command {
        Command::Sync(args) => sync::run(*args, cli.port),
        Command::Index(args) => index::run(&args),
        Command::Verify(args) => Ok(verify::run(&args)),
        Command::Status(args) => status::run(args, cli.port),
        Command::Ls(args) => Ok(ls::run(&args, cli.port)),
        Command::Download(args) => Ok(download::run(&args, cli.port)),
        Command::Diff(args) => Ok(diff::run(args, cli.port)),
        Command::PutFile(args) => Ok(put_file::run(&args, cli.port)),
        Command::Plan(args) => Ok(plan::run(*args, cli.port)),
        Command::Rollback(args) => Ok(rollback::run(*args, cli.port)),
        Command::Remove(args) => Ok(remove::run(*args, cli.port)),
        Command::Edit(args) => Ok(edit::run(&args, cli.port)),
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

/// Says for programs that the command line can't be read, if it seems to ask for that.
fn bad_usage(usage: &clap::Error) {
    if !std::env::args_os().any(|word| word == "--json") {
        return;
    }
    let text = usage.to_string();
    let reason = text.lines().next().unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    match () {
        () if words_name("plan") => plan::not_planned(BAD_USAGE_STATUS, reason),
        () if words_name("status") => status::not_asked(reason),
        () if words_name("ls") => ls::not_listed(None, BAD_USAGE_STATUS, reason),
        () if ["sync", "rollback", "remove"].into_iter().any(words_name) => sync::not_started(BAD_USAGE_STATUS, reason),
        () => {}
    }
}

/// Whether the command line, which can't be read, seems to be for the subcommand.
fn words_name(subcommand: &str) -> bool {
    let command = Cli::command();
    let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    let first = words.into_iter().find(|word| command.find_subcommand(word).is_some());
    first.is_some_and(|first| first == subcommand)
}

/// Says why a command failed, unless nobody listens any more.
pub fn complain(error: &anyhow::Error) {
    if !matches!(error.downcast_ref(), Some(ui::OutputError::Closed)) {
        ui::error(&with_causes(error));
    }
}

/// An error and its causes in one line. Some messages end with their cause already.
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't open x: {source}")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn each_cause_is_said_once() {
        let error = anyhow::Error::from(Outer { source: std::io::Error::other("no disk") }).context("can't start");
        assert_eq!(with_causes(&error), "can't start: can't open x: no disk");
    }
}
