//! `ciruela sync`: scans, signs, publishes, and tells how it ended on each machine.
//!
//! What to do when is decided by `engine/upload`, done by `driver/upload_loop`; here are the options, the keys, and all words
//! for people and programs.

mod args;
mod destination;
mod json;
mod live;
mod plain;
mod prepare;
mod refusals;
mod report;
mod words;

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

pub use args::SyncArgs;

pub(super) use self::args::{Plan, Wish, duration};
use self::json::Json;
use self::live::Live;
use self::plain::Plain;
use self::prepare::{Prepared, Scanned, scan_all, sign_with};
pub(super) use self::words::moment;
use super::keys::{self, KeysError, Loaded, Process};
use super::{remote, ui};
use crate::driver::clock::Clock;
use crate::driver::interrupt::Interrupts;
use crate::driver::resolve::ResolveOptions;
use crate::driver::upload_loop::{self, Audience, Setup, Status};
use crate::engine::upload::{Ending, Upload, Uploads};
use crate::model::ids::ImageId;

/// What the command line asks for can't be begun.
const NOT_STARTED_STATUS: u8 = 1;
/// No key, or none that signs.
const NO_KEY_STATUS: u8 = 2;
/// Ended by a signal.
const INTERRUPTED_STATUS: u8 = 130;
/// Threads which carry messages; reading and hashing have their own.
const RUNTIME_THREADS: usize = 2;

/// What all output needs to know.
#[derive(Debug, Clone)]
struct Stage {
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
    let json = args.json;
    let result = sync(args, port);
    let words = result.as_ref().err().filter(|_| json).map(super::with_causes);
    let exit_status = told(result);
    if let Some(words) = words {
        json::print_end(exit_status, Some(&words));
    }
    Ok(ExitCode::from(exit_status))
}

/// The exit status; says why it could not start.
pub(super) fn told(result: Result<u8, anyhow::Error>) -> u8 {
    result.unwrap_or_else(|error| {
        super::complain(&error);
        if error.is::<KeysError>() { NO_KEY_STATUS } else { remote::status_of(&error) }
    })
}

/// Says for programs that the command line can't be read, if it seems to ask for that.
pub fn bad_usage(usage: &clap::Error) {
    if super::words_name("sync") && std::env::args_os().any(|word| word == "--json") {
        let text = usage.to_string();
        let reason = text.lines().next().unwrap_or_default();
        json::print_end(NOT_STARTED_STATUS, Some(reason.strip_prefix("error: ").unwrap_or(reason)));
    }
}

/// From the arguments to the exit status; an error: it could not start.
fn sync(args: SyncArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let plan = args.plan(port)?;
    let loaded = keys::load(&plan.keys, &Process)?;
    for warning in plan.warnings.iter().chain(&loaded.warnings) {
        ui::warn(warning);
    }
    publish(plan, loaded)
}

/// From what was asked for to the exit status; an error: it could not start.
pub(super) fn publish(plan: Plan, loaded: Loaded) -> Result<u8, anyhow::Error> {
    let stage = Stage {
        clusters: plan.clusters.iter().map(|names| names.join(" ")).collect(),
        signers: loaded.signers.iter().map(keys::Signer::describe).collect(),
        signed_for: plan.rules.cluster.as_deref().map(str::to_owned),
        deadline: plan.rules.deadline,
    };
    let clock = Clock::new();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(RUNTIME_THREADS).enable_all().build().context("can't start threads")?;
    let mut interrupts = {
        let _inside = runtime.enter();
        Interrupts::listen().context("can't listen to signals")?
    };
    let plan = Arc::new(plan);
    let Some(scanned) = runtime.block_on(scanned(plan.clone(), clock, &mut interrupts)) else {
        let text = "interrupted while indexing: nothing was sent";
        ui::error(text);
        if plan.json {
            json::print_end(INTERRUPTED_STATUS, Some(text));
        }
        // The scan goes on until the process ends.
        runtime.shutdown_background();
        return Ok(INTERRUPTED_STATUS);
    };
    let Scanned { prepared, sources, images } = scanned?;
    let mut output: Box<dyn Output> = match (plan.json, ui::is_interactive()) {
        (true, _) => Box::new(Json::new(stage)),
        (false, true) => Box::new(Live::new(stage)),
        (false, false) => Box::new(Plain::new(stage)),
    };
    output.prepared(&prepared);
    let clusters = plan.clusters.iter().map(|names| cluster(names, &plan, &images)).collect();
    let signers = Arc::new(loaded.signers);
    let resolve = ResolveOptions::default();
    let setup = Setup { clusters, sources, sign: sign_with(signers), port: plan.port, resolve };
    let status = runtime.block_on(upload_loop::run(setup, clock, &mut interrupts, &mut *output));
    // Somebody may still be asked for a signature, or a name server for an answer: nobody waits for those.
    runtime.shutdown_background();
    let status = status.context("can't start")?;
    let exit_status = status.iter().map(|status| exit_status(&status.summary.ending)).max_by_key(|s| severity(*s));
    let exit_status = exit_status.unwrap_or(NOT_STARTED_STATUS);
    output.end(&status, exit_status);
    Ok(exit_status)
}

fn cluster(names: &[String], plan: &Plan, images: &[ImageId]) -> Uploads {
    let upload = |(wish, image): (&Wish, &ImageId)| Upload {
        path: wish.path.clone(),
        image: *image,
        verb: wish.verb,
        old_image: wish.old_image,
        weak: wish.weak,
    };
    let uploads = plan.wishes.iter().zip(images).map(upload).collect();
    // Which of a cluster's addresses are taken differs from run to run.
    let seed = RandomState::new().hash_one(names);
    Uploads::new(names.to_vec(), uploads, plan.rules.clone(), seed)
}

/// Reads all directories; `None`: somebody pressed Ctrl-C meanwhile.
async fn scanned(plan: Arc<Plan>, clock: Clock, interrupts: &mut Interrupts) -> Option<Result<Scanned, anyhow::Error>> {
    let scan = tokio::task::spawn_blocking(move || scan_all(&plan, clock));
    tokio::select! {
        scanned = scan => Some(scanned.context("the scan broke off").flatten()),
        () = interrupts.next() => None,
    }
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
