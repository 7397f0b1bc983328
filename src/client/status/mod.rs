//! `ciruela status`: asks every machine of a cluster how it stands, and says whether all are current.
//!
//! `page` reads what one machine answers, `gather` asks them all, `judge` compares, `table` and `json` show it.

pub(super) mod gather;
mod json;
mod judge;
pub(super) mod page;
mod table;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use self::judge::Judged;
pub(super) use self::table::aligned;
use super::ui;
use crate::model::address::Target;
use crate::model::limits;
use crate::model::vpath::VPath;

/// Something isn't current, or can't be reached.
const NOT_CURRENT_STATUS: u8 = 1;
/// Nobody answered.
const UNREACHABLE_STATUS: u8 = 3;

const EXIT_STATUS: &str = "\
Exit status:
    0  every machine is reachable and current
    1  some machine is not, or the arguments are wrong
    3  no machine could be reached";

/// Show how every machine of a cluster stands: what it carries, whether that is current, what it is deploying.
///
/// The machines that answer name the others, so one that is reachable is enough.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "ciruela status [OPTIONS] ENTRY_POINT... [PATH]")]
pub struct StatusArgs {
    /// Names or addresses of machines of the cluster, and perhaps one PATH, /KEY/name: then how that fares on each.
    #[arg(value_name = "ENTRY_POINT", required = true)]
    words: Vec<String>,
    /// The port of entry points that name none [default: 24783]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: StatusArgs, port: Option<u16>) -> Result<ExitCode, anyhow::Error> {
    let json = args.json;
    let result = status(args, port);
    if let Err(error) = &result
        && json
        && !error.is::<ui::OutputError>()
    {
        not_asked(&super::with_causes(error));
    }
    result
}

/// For programs: there is no status, and why.
pub(super) fn not_asked(reason: &str) {
    if let Err(error) = ui::line(&json::nothing(NOT_CURRENT_STATUS, reason)) {
        super::complain(&error.into());
    }
}

fn status(args: StatusArgs, port: Option<u16>) -> Result<ExitCode, anyhow::Error> {
    let port = args.port.or(port).unwrap_or(limits::DEFAULT_PORT);
    let (names, path) = words(args.words)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let gathered = runtime.block_on(gather::gather(&names, port));
    runtime.shutdown_background();
    let judged = Judged::of(gathered, path.as_ref());
    let status = match () {
        () if judged.nodes.iter().all(|node| node.page.is_err()) => UNREACHABLE_STATUS,
        () if judged.is_current() => 0,
        () => NOT_CURRENT_STATUS,
    };
    let text =
        if args.json { json::object(&judged, path.as_ref(), status) } else { table::text(&judged, path.as_ref()) };
    ui::line(&text)?;
    Ok(ExitCode::from(status))
}

/// Entry points, and the path among them.
fn words(words: Vec<String>) -> Result<(Vec<String>, Option<VPath>), anyhow::Error> {
    let (paths, names): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with('/'));
    if names.is_empty() {
        bail!("no entry point: name at least one machine of the cluster");
    }
    if names.len() > limits::ENTRY_POINTS_MAX {
        bail!("{} entry points, at most {} at once", names.len(), limits::ENTRY_POINTS_MAX);
    }
    for name in &names {
        name.parse::<Target>().context("entry point")?;
    }
    match paths.as_slice() {
        [] => Ok((names, None)),
        [path] => Ok((names, Some(path.parse().with_context(|| format!("path {path}"))?))),
        [..] => bail!("more than one path: {}", paths.join(", ")),
    }
}
