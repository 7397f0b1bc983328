//! `ciruela sync`: scans, signs, publishes, and tells how it ended on each machine.
//!
//! What to do when is decided by `engine/upload`, done by `driver/upload_loop`; here are the options, the keys, and all words
//! for people and programs.

mod args;
mod destination;
mod drive;
mod json;
mod live;
mod plain;
mod prepare;
mod refusals;
mod report;
mod spread;
mod words;

use std::process::ExitCode;
use std::sync::Arc;

pub use args::SyncArgs;

pub(super) use self::args::{Plan, Wish};
pub(super) use self::drive::{Drive, Errand};
use self::json::Json;
use self::live::Live;
use self::plain::Plain;
use self::prepare::Prepared;
pub(super) use self::prepare::{Scanned, sign_plan, sign_plans_with};
pub(super) use self::spread::{Spread, SpreadArgs, duration};
pub(super) use self::words::{count, moment};
use super::keys::{self, KeysError, Loaded, Process};
use super::{remote, ui};
use crate::client::INTERRUPTED_STATUS;
use crate::driver::upload_loop::{Audience, Status};
use crate::engine::upload::{Ending, Refused, Upload};
use crate::model::ids::ImageId;
use crate::model::vpath::VPath;

/// For the help of the commands that change clusters: what 0, 1 and 3 mean.
macro_rules! exit_statuses {
    ($done:literal, $not_begun:literal, $refused:literal $(,)?) => {
        concat!(
            "Exit status:\n    0  ",
            $done,
            "\n    1  ",
            $not_begun,
            "\n    2  no usable key\n    3  ",
            $refused,
            "\n    4  not finished by the deadline",
            "\n    5  no machine could be reached",
            "\n  130  interrupted (what machines have taken goes on there)",
            "\nWith several clusters it is that of the one that fared worst."
        )
    };
}

pub(super) use exit_statuses;

/// What the command line asks for can't be begun.
const NOT_STARTED_STATUS: u8 = 1;
/// No key, or none that signs.
const NO_KEY_STATUS: u8 = 2;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Directories are put somewhere.
    Publish,
    /// They are removed.
    Remove,
}

/// What all output needs to know.
#[derive(Debug, Clone)]
struct Stage {
    task: Task,
    /// The names of each cluster, in one text.
    clusters: Vec<String>,
    /// Each key that signs: fingerprint and origin.
    signers: Vec<String>,
    /// The cluster's name that was signed.
    signed_for: Option<String>,
    /// For people.
    deadline: std::time::Duration,
}

impl Stage {
    /// A cluster's names, as many as a line holds.
    fn label(&self, cluster: usize) -> String {
        let names: Vec<_> = self.clusters[cluster].split(' ').collect();
        match names.as_slice() {
            [first, second, _, _, ..] => format!("{first}, {second} and {} more", names.len() - 2),
            few => few.join(", "),
        }
    }

    /// A line about a cluster, which names it if there are several.
    fn of(&self, cluster: usize, text: &str) -> String {
        if self.clusters.len() > 1 { format!("[{}] {text}", self.label(cluster)) } else { text.to_owned() }
    }
}

/// Output of one kind.
trait Output: Audience {
    /// What will be published, and with which keys.
    fn prepared(&mut self, prepared: &[Prepared]);

    /// Everything is over.
    fn end(&mut self, status: &[Status], exit_status: u8);
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: SyncArgs, port: Option<u16>) -> Result<ExitCode, anyhow::Error> {
    let json = args.spread.json;
    Ok(ended(sync(args, port), json))
}

/// Says why it could not start, for programs too.
pub(super) fn ended(result: Result<u8, anyhow::Error>, json: bool) -> ExitCode {
    let words = result.as_ref().err().filter(|_| json).map(super::with_causes);
    let exit_status = told(result);
    if let Some(words) = words {
        json::print_end(exit_status, Some(&words));
    }
    ExitCode::from(exit_status)
}

/// The exit status; says why it could not start.
pub(super) fn told(result: Result<u8, anyhow::Error>) -> u8 {
    result.unwrap_or_else(|error| {
        super::complain(&error);
        if error.is::<KeysError>() { NO_KEY_STATUS } else { remote::status_of(&error) }
    })
}

/// Says for programs why it could not start.
pub(super) fn not_started(exit_status: u8, reason: &str) {
    json::print_end(exit_status, Some(reason));
}

/// From the arguments to the exit status; an error: it could not start.
fn sync(args: SyncArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let plan = args.plan(port)?;
    let loaded = load_keys(&plan.spread)?;
    publish(plan, loaded)
}

/// The keys that sign.
pub(super) fn load_keys(spread: &Spread) -> Result<Loaded, KeysError> {
    let loaded = keys::load(&spread.keys, &Process)?;
    for warning in spread.warnings.iter().chain(&loaded.warnings) {
        ui::warn(warning);
    }
    Ok(loaded)
}

/// From what was asked for to the exit status; an error: it could not start.
pub(super) fn publish(plan: Plan, loaded: Loaded) -> Result<u8, anyhow::Error> {
    let mut drive = Drive::open()?;
    let plan = Arc::new(plan);
    let Some(scanned) = drive.scanned(plan.clone()) else {
        let text = "interrupted while indexing: nothing was sent";
        ui::error(text);
        if plan.spread.json {
            json::print_end(INTERRUPTED_STATUS, Some(text));
        }
        return Ok(INTERRUPTED_STATUS);
    };
    let Scanned { prepared, sources, images } = scanned?;
    let upload = |(wish, image): (&Wish, &ImageId)| Upload {
        path: wish.path.clone(),
        image: *image,
        verb: wish.verb,
        old_image: wish.old_image,
        weak: wish.weak,
        given: true,
    };
    let uploads: Vec<_> = plan.wishes.iter().zip(&images).map(upload).collect();
    let uploads = vec![uploads; plan.spread.clusters.len()];
    drive.carry_out(&plan.spread, loaded, Errand { task: Task::Publish, prepared, sources, uploads })
}

/// What machines would refuse, for people: to publish at a path.
pub(super) fn explained(
    spread_for: Option<&str>,
    signers: &[keys::Signer],
    path: &VPath,
    nodes: &str,
    refusal: &Refused,
) -> String {
    let stage = Stage {
        task: Task::Publish,
        clusters: Vec::new(),
        signers: signers.iter().map(keys::Signer::describe).collect(),
        signed_for: spread_for.map(str::to_owned),
        deadline: std::time::Duration::ZERO,
    };
    refusals::explain(&stage, path, nodes, refusal)
}

/// The exit status that an ending means.
fn exit_status(ending: &Ending) -> u8 {
    match ending {
        Ending::Done | Ending::DoneEarly | Ending::Left => 0,
        Ending::SourceLost | Ending::Open => 1,
        Ending::NotSigned(_) => NO_KEY_STATUS,
        Ending::Refused => 3,
        Ending::Late => 4,
        Ending::Unreachable => 5,
        Ending::Interrupted => INTERRUPTED_STATUS,
    }
}

/// Which of two statuses is the worse one.
fn severity(exit_status: u8) -> u8 {
    // A source that was changed concerns all clusters; the others are in order already.
    if exit_status == 1 { 6 } else { exit_status }
}
