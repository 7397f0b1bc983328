//! `ciruela download`: what is visible on a cluster → a local directory or file.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::remote::{self, Place, ReadArgs, Session};
use super::ui;
use crate::driver::download_loop::Draft;
use crate::engine::download::Selection;

/// Bytes that are copied to standard output at once.
const COPY_BYTES: usize = 64 << 10;

/// Read a directory of a cluster, or one file of it.
///
/// CLUSTER is one or more names or addresses of machines, separated by commas; PATH is /KEY/name, or goes further, to a
/// directory or file in it. Every block is checked; DEST appears when all is there.
#[derive(Debug, Args)]
#[command(after_help = remote::EXIT_STATUS)]
pub struct DownloadArgs {
    /// What to read.
    #[arg(value_name = "CLUSTER:PATH", value_parser = Place::parse)]
    place: Place,
    /// Where to put it: something that doesn't exist, or an empty directory; for a file any directory, or `-` for
    /// standard output.
    dest: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: &DownloadArgs, port: Option<u16>) -> ExitCode {
    remote::exit(download(args, port))
}

fn download(args: &DownloadArgs, port: Option<u16>) -> Result<(), anyhow::Error> {
    let to_stdout = args.dest.as_os_str() == "-";
    // Ctrl-C is listened to before there is anything to be removed.
    let mut session = Session::open(&args.read, port)?;
    let draft = if to_stdout { Draft::for_a_file() } else { Draft::beside(&args.dest) }?;
    let found = session.read(&args.place, Some(draft.content()))?;
    if to_stdout {
        let file = File::open(draft.place()).context("can't read what was downloaded")?;
        // Open, it stays readable; there is nothing left to be removed if printing never ends.
        drop(draft);
        return session.run(move || print(file));
    }
    let name = match &found.selection {
        Selection::File { path } => Some(path.rsplit_once('/').map_or(&**path, |(_, name)| name)),
        Selection::Directory { .. } | Selection::Link { .. } => None,
    };
    Ok(draft.settle(name)?)
}

fn print(mut file: File) -> Result<(), anyhow::Error> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = file.read(&mut buffer).context("can't read what was downloaded")?;
        if length == 0 {
            return Ok(());
        }
        ui::data(&buffer[..length])?;
    }
}
