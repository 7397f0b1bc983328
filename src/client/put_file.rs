//! `ciruela put-file`: one file of a directory on a cluster, from a local file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::remote::change::{self, Change, ChangeArgs};
use super::{sync, ui};

/// Put a file into a directory of a cluster: read the directory, replace that file, publish the result.
///
/// A file that is there keeps its mode; a new one is executable if SOURCE is. If somebody else changes the directory
/// meanwhile, nothing is published.
#[derive(Debug, Args)]
#[command(after_help = change::EXIT_STATUS)]
pub struct PutFileArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The local file.
    #[arg(short, long, value_name = "SOURCE")]
    source: PathBuf,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: &PutFileArgs, port: Option<u16>) -> ExitCode {
    ExitCode::from(sync::told(put(args, port)))
}

fn put(args: &PutFileArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let source = args.source.display();
    let meta = std::fs::metadata(&args.source).with_context(|| format!("cannot read {source}"))?;
    if !meta.is_file() {
        bail!("{source} is not a regular file");
    }
    let change = Change::begin(&args.change, port)?;
    if !change.put(&args.source)? {
        ui::note(&format!("{} is the same already: nothing to publish", change.name()));
        return Ok(0);
    }
    change.publish()
}
