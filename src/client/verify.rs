//! `ciruela verify`: holds a directory against an index.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::scanning::with_progress;
use super::ui;
use crate::driver::scan::{Difference, DifferenceKind, ScanOptions, compare};
use crate::format::index;
use crate::model::limits;

/// Compare a directory with an index: say which entries differ, are missing or are extra.
///
/// One line on standard output for each: `differs PATH (what)`, `missing PATH` or `extra PATH`, the path escaped as in
/// the index. Exit status: 0 if there are none, 1 if there are, 2 if they could not be compared.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The directory.
    dir: PathBuf,
    /// The index, as `ciruela index` prints it; `-` for standard input.
    #[arg(value_name = "INDEXFILE")]
    index: PathBuf,
}

/// They could not be compared.
pub const FAILED_STATUS: u8 = 2;

/// Runs the command.
pub fn run(args: &VerifyArgs) -> ExitCode {
    report(differences(args))
}

/// Prints what differs; the exit status says whether anything does.
pub(super) fn report(differences: Result<Vec<Difference>, anyhow::Error>) -> ExitCode {
    let found = differences.and_then(|differences| {
        let text = differences.iter().map(line).collect::<String>();
        ui::data(text.as_bytes())?;
        Ok(!differences.is_empty())
    });
    match found {
        Ok(some) => ExitCode::from(u8::from(some)),
        Err(error) => {
            super::complain(&error);
            ExitCode::from(FAILED_STATUS)
        }
    }
}

fn differences(args: &VerifyArgs) -> Result<Vec<Difference>, anyhow::Error> {
    let name = if args.index == Path::new("-") { "standard input".into() } else { args.index.display().to_string() };
    let text = read(&args.index).with_context(|| format!("cannot read {name}"))?;
    let (_, image) = index::parse(&text).with_context(|| name)?;
    drop(text);
    let options = ScanOptions::new(image.hash_kind());
    Ok(with_progress("verifying", |progress| compare(&args.dir, &image, &options, progress))?)
}

fn read(path: &Path) -> Result<Vec<u8>, anyhow::Error> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut text = Vec::new();
    source.take(limits::INDEX_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    if text.len() > limits::INDEX_BYTES_MAX {
        bail!("an index has at most {} bytes", limits::INDEX_BYTES_MAX);
    }
    Ok(text)
}

/// One line of the output.
fn line(difference: &Difference) -> String {
    let (word, what) = match difference.kind {
        DifferenceKind::Missing => ("missing", ""),
        DifferenceKind::Extra => ("extra", ""),
        DifferenceKind::Type => ("differs", " (type)"),
        DifferenceKind::Target => ("differs", " (link target)"),
        DifferenceKind::Content => ("differs", " (content)"),
        DifferenceKind::Executable => ("differs", " (executable bit)"),
        DifferenceKind::ContentAndExecutable => ("differs", " (content, executable bit)"),
    };
    format!("{word} {}{what}\n", difference.path)
}
