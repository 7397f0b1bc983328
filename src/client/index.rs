//! `ciruela index`: prints the index of a directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::scanning::{ScanArgs, with_progress};
use super::ui;
use crate::driver::scan::scan;

/// Print the index of a directory: its entries and the hash of each block, closed by the image's id.
///
/// The same tree gives the same index on every machine. Files that change meanwhile, names that aren't UTF-8, sockets,
/// FIFOs and devices are errors.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// The directory.
    dir: PathBuf,
    /// Print only the image's id.
    #[arg(long)]
    id: bool,
    #[command(flatten)]
    scan: ScanArgs,
    /// Write the index to this file rather than to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &IndexArgs) -> Result<ExitCode, anyhow::Error> {
    let scan = with_progress("indexing", |progress| scan(&args.dir, &args.scan.options(), progress))?;
    if let Some(path) = &args.output {
        write(path, &scan.index.to_vec())?;
    }
    if args.id {
        ui::line(&scan.id.to_string())?;
    } else if args.output.is_none() {
        ui::data(&scan.index.to_vec())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, index: &[u8]) -> Result<(), anyhow::Error> {
    std::fs::write(path, index).with_context(|| format!("cannot write {}", path.display()))
}
