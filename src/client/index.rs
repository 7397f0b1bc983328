//! `ciruela index`: prints the index of a directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::ui;
use crate::driver::scan::{ScanError, ScanOptions, ScanProgress, scan};
use crate::model::hash_kind::HashKind;

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
    /// Hash function: blake2b/256, blake3/256 or sha512/256.
    #[arg(long, value_name = "KIND", default_value_t)]
    hash: HashKind,
    /// Write the index to this file rather than to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &IndexArgs) -> Result<ExitCode, anyhow::Error> {
    let options = ScanOptions::new(args.hash);
    let scan = with_progress("indexing", |progress| scan(&args.dir, &options, progress))?;
    if let Some(path) = &args.output {
        write(path, &scan.index)?;
    }
    if args.id {
        ui::line(&scan.id.to_string())?;
    } else if args.output.is_none() {
        ui::data(&scan.index)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, index: &[u8]) -> Result<(), anyhow::Error> {
    std::fs::write(path, index).with_context(|| format!("cannot write {}", path.display()))
}

/// Scans with a progress bar, if there is a terminal to show it on.
pub(super) fn with_progress<T>(
    doing: &'static str,
    scan: impl FnOnce(&(dyn Fn(ScanProgress) + Sync)) -> Result<T, ScanError>,
) -> Result<T, ScanError> {
    if !ui::is_interactive() {
        return scan(&|_| ());
    }
    let bar = ui::bytes_bar();
    bar.set_message(doing);
    let result = scan(&|progress| match progress {
        ScanProgress::Walking { entries } => bar.set_message(format!("{doing}: {entries} entries")),
        ScanProgress::Hashing { done_bytes, total_bytes } => {
            bar.set_length(total_bytes);
            // Threads tell out of order.
            if done_bytes > bar.position() {
                bar.set_position(done_bytes);
            }
        }
    });
    bar.finish_and_clear();
    result
}
