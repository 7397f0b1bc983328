//! `ciruela-server`: flags, configuration folder, status pages, logs.

pub mod args;
pub mod configuration;
mod control;
mod identity;
mod new_cluster_key;
mod pages;
mod scrub;
mod serve;
pub mod status;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use self::args::{Args, Command, LogFormat};
use crate::model::vpath::VPath;

/// The daemon's whole run: reads the command line, ends with the process's status.
pub fn main() -> ExitCode {
    run(&Args::parse())
}

/// The same with arguments that were read already, for the client's demo.
pub fn run(args: &Args) -> ExitCode {
    match &args.command {
        Some(Command::CheckConfig) => check_config(args),
        Some(Command::NewClusterKey { file }) => new_cluster_key(args, file.as_deref()),
        Some(Command::Scrub { path, json }) => {
            ExitCode::from(scrub::scrub(&args.db_dir, path.as_ref().map(VPath::as_str), *json))
        }
        None => {
            start_logging(args.log_format);
            match serve::serve(args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Text goes to standard error, and so does JSON: standard output is for answers.
fn start_logging(format: LogFormat) {
    let wanted = EnvFilter::try_from_default_env();
    let bad = wanted.as_ref().err().map(ToString::to_string).filter(|_| std::env::var_os("RUST_LOG").is_some());
    let filter = wanted.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only if logging was started before, which then goes on.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Some(bad) = bad {
        tracing::warn!("RUST_LOG is not used ({bad}); write it like `info` or `ciruela=debug,warn`");
    }
}

fn new_cluster_key(args: &Args, file: Option<&Path>) -> ExitCode {
    // A reader that went away has seen enough.
    match new_cluster_key::new_cluster_key(file, &args.config_base_dir) {
        Ok(said) => {
            let _ = std::io::stdout().write_all(said.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check_config(args: &Args) -> ExitCode {
    let report = match std::env::current_dir() {
        Ok(cwd) => configuration::check_config(&args.config_base_dir, &cwd),
        Err(error) => {
            // Whoever doesn't see this sees the exit status.
            let _ = writeln!(std::io::stderr(), "error: can't tell the working directory: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A reader that went away has seen enough.
    let _ = std::io::stdout().write_all(configuration::render_report(&report).as_bytes());
    if report.outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
