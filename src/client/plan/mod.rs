//! `ciruela plan`: what `ciruela sync` with the same options would do on each machine. Nothing is changed.
//!
//! `ask` asks the machines, `judge` says what follows from their answers, `shown` prints it.

mod ask;
mod judge;
mod shown;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use self::ask::ask_all;
use self::judge::Judged;
use super::sync::{self, Drive, Plan, Scanned, SyncArgs};
use super::ui;
use crate::client::INTERRUPTED_STATUS;

const EXIT_STATUS: &str = "\
Exit status:
    0  every machine that was reached would take each directory and has room for it
    1  bad arguments, or a source that can't be read
    2  no usable key
    3  some machine would refuse, has no room, would wait, or can't tell
    5  no machine could be reached
  130  interrupted";

/// Show what `ciruela sync` with the same options would do, machine by machine: taken or refused, what is there already,
/// what would be sent, and whether there is room. Nothing is changed.
///
/// SRC:DEST without an option is the same as --append SRC:DEST.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "ciruela plan [OPTIONS] [SRC:DEST]... ENTRY_POINT... [-- ENTRY_POINT...]")]
pub struct PlanArgs {
    #[command(flatten)]
    sync: SyncArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: PlanArgs, port: Option<u16>) -> ExitCode {
    let json = args.sync.spread.json;
    let result = plan(args, port);
    let words = result.as_ref().err().filter(|error| json && !error.is::<ui::OutputError>()).map(super::with_causes);
    let exit_status = sync::told(result);
    if let Some(words) = words {
        not_planned(exit_status, &words);
    }
    ExitCode::from(exit_status)
}

/// Says for programs why there is no plan.
pub(super) fn not_planned(exit_status: u8, reason: &str) {
    if let Err(error) = ui::line(&shown::no_plan(exit_status, reason).to_string()) {
        ui::warn(&error.to_string());
    }
}

fn plan(args: PlanArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let plan = Arc::new(args.sync.with_destinations()?.plan(port)?);
    let loaded = sync::load_keys(&plan.spread)?;
    let mut drive = Drive::open()?;
    let Some(scanned) = drive.scanned(plan.clone()) else { return Ok(interrupted(&plan)) };
    let Scanned { sources, images, .. } = scanned?;
    let indexes = sources.into_iter().map(|source| (source.id, source.index)).collect();
    let sign = sync::sign_plans_with(Arc::new(loaded.signers));
    let asked = drive.run(ask_all(&plan, &images, Arc::new(indexes), sign));
    let Some(asked) = asked else { return Ok(interrupted(&plan)) };
    let judged = Judged::of(asked?, &plan);
    if plan.spread.json {
        ui::line(&shown::json(&judged, &plan, &images).to_string())?;
    } else {
        ui::line(&shown::text(&judged, &plan))?;
    }
    Ok(judged.exit_status())
}

fn interrupted(plan: &Plan) -> u8 {
    let text = "interrupted: nothing was changed";
    ui::error(text);
    if plan.spread.json {
        not_planned(INTERRUPTED_STATUS, text);
    }
    INTERRUPTED_STATUS
}
