//! `ciruela diff`: holds a local directory against one of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::remote::{Place, ReadArgs, Session};
use super::scanning::with_progress;
use super::verify;
use crate::driver::scan::{Difference, ScanOptions, compare};
use crate::engine::download::Selection;

/// Compare a local directory with one of a cluster: say which entries differ, are missing or are extra.
///
/// One line on standard output for each: `differs PATH (what)`, `missing PATH` or `extra PATH`, the path escaped as in
/// the index: what SRC lacks is missing. Exit status: 0 if there are none, 1 if there are, 2 if they could not be compared.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The local directory.
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The directory of the cluster: CLUSTER is one or more machines, separated by commas, PATH is /KEY/name.
    #[arg(value_name = "CLUSTER:PATH", value_parser = Place::parse)]
    place: Place,
    #[command(flatten)]
    read: ReadArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: DiffArgs, port: Option<u16>) -> ExitCode {
    verify::report(differences(args, port))
}

fn differences(args: DiffArgs, port: Option<u16>) -> Result<Vec<Difference>, anyhow::Error> {
    let mut session = Session::open(&args.read, port)?;
    let found = session.read(&args.place, None)?;
    match &found.selection {
        Selection::Directory { path } if path.is_empty() => {}
        Selection::Directory { .. } | Selection::File { .. } | Selection::Link { .. } => {
            anyhow::bail!(
                "{} is inside the directory {}: only a whole one can be compared",
                args.place.path(),
                found.path
            )
        }
    }
    session.run(move || {
        let options = ScanOptions::new(found.image.hash_kind());
        Ok(with_progress("comparing", |progress| compare(&args.source, &found.image, &options, progress))?)
    })
}
