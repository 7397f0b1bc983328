//! What the commands share that read from a cluster: where to read, how, and which exit status a failure means.

mod beforehand;
pub mod change;
mod place;

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use tokio::runtime::Runtime;

pub use self::place::{Place, PlaceError};
use super::ui;
use crate::client::status::gather::{Gathered, gather};
use crate::client::{INTERRUPTED_STATUS, threads};
use crate::driver::clock::Clock;
use crate::driver::download_loop::{self, Audience, Content, Setup};
use crate::driver::interrupt::Interrupts;
use crate::driver::resolve::ResolveOptions;
use crate::engine::download::{Download, Event, Failure, Found, Wanted};
use crate::model::ids::ImageId;
use crate::model::limits;

/// Anything that has to do with this machine or the arguments.
const LOCAL_STATUS: u8 = 1;
/// It isn't there, or the machines don't agree.
const NOT_THERE_STATUS: u8 = 3;
/// Who has it doesn't give it.
const NOT_GIVEN_STATUS: u8 = 4;
/// Nobody answered.
const UNREACHABLE_STATUS: u8 = 5;

/// For the help of the commands that read.
pub(super) const EXIT_STATUS: &str = "\
Exit status:
    0  done
    1  bad arguments, or it can't be written here
    3  there is nothing at the path, or the machines don't have the same (--image chooses)
    4  the machines that have it don't give it
    5  no machine could be reached
  130  interrupted";

/// Options of the commands that read.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// Read this image, where machines have different ones: 64 hexadecimal digits.
    #[arg(long, value_name = "ID", value_parser = image_id)]
    pub image: Option<ImageId>,
    /// The port of machines that are named without one [default: 24783]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

pub(super) fn image_id(text: &str) -> Result<ImageId, String> {
    text.parse().map_err(|_| "an image's id has 64 hexadecimal digits, as `ciruela ls` shows them".to_owned())
}

/// What reading needs: threads, a clock, and an ear for Ctrl-C.
pub(super) struct Session {
    runtime: Option<Runtime>,
    interrupts: Interrupts,
    clock: Clock,
    port: u16,
    image: Option<ImageId>,
}

impl Session {
    /// `port`: what stood before the subcommand.
    pub(super) fn open(args: &ReadArgs, port: Option<u16>) -> Result<Self, anyhow::Error> {
        let (runtime, interrupts) = threads()?;
        let port = args.port.or(port).unwrap_or(limits::DEFAULT_PORT);
        Ok(Self { runtime: Some(runtime), interrupts, clock: Clock::new(), port, image: args.image })
    }

    /// Reads the index of what is at a place, and its content if there is somewhere to put it.
    pub(super) fn read(&mut self, place: &Place, content: Option<Content>) -> Result<Found, Failure> {
        self.read_one(place, self.image, content, false)
    }

    /// The same of one image, when it was told already who has others.
    fn read_image(&mut self, place: &Place, image: ImageId, content: Option<Content>) -> Result<Found, Failure> {
        self.read_one(place, Some(image), content, true)
    }

    fn read_one(
        &mut self,
        place: &Place,
        image: Option<ImageId>,
        content: Option<Content>,
        told: bool,
    ) -> Result<Found, Failure> {
        let wanted = Wanted { path: place.path().into(), image, content: content.is_some() };
        // Which of a cluster's addresses are taken differs from run to run.
        let seed = RandomState::new().hash_one(place.names());
        let engine = Download::new(place.names().to_vec(), wanted, seed);
        let setup = Setup { engine, content, port: self.port, resolve: ResolveOptions::default() };
        let mut shown = Shown { bar: ui::bytes_bar(), told };
        let Some(runtime) = &self.runtime else { return Err(Failure::Interrupted) };
        let result = runtime.block_on(download_loop::run(setup, self.clock, &mut self.interrupts, &mut shown));
        shown.bar.finish_and_clear();
        result
    }

    /// Does something that may take long; it is left alone when somebody presses Ctrl-C.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> Result<T, anyhow::Error> + Send + 'static,
    ) -> Result<T, anyhow::Error> {
        let Some(runtime) = &self.runtime else { return Err(Failure::Interrupted.into()) };
        runtime.block_on(async {
            let job = tokio::task::spawn_blocking(job);
            tokio::select! {
                done = job => done.context("it broke off").flatten(),
                () = self.interrupts.next() => Err(Failure::Interrupted.into()),
            }
        })
    }

    /// The status pages of all machines, of which at least one must answer.
    pub(super) fn pages(&mut self, names: &[String]) -> Result<Gathered, anyhow::Error> {
        let (names, port) = (names.to_vec(), self.port);
        let gathered = self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
            let gathered = runtime.block_on(gather(&names, port));
            runtime.shutdown_background();
            Ok(gathered)
        })?;
        if gathered.answers.values().all(Result::is_err) {
            return Err(Failure::Unreachable(gathered.failed()).into());
        }
        Ok(gathered)
    }

    /// The port of names that say none.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A name server may still be asked: nobody waits for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What people see of it.
struct Shown {
    bar: ProgressBar,
    /// That machines differ is known.
    told: bool,
}

impl Audience for Shown {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Differ { .. } if self.told => {}
            Event::Differ { chosen: (path, image), answers } => {
                let answers: Vec<_> = answers.iter().map(ToString::to_string).collect();
                let text = format!("the machines don't have the same: {}", answers.join("; "));
                self.bar.suspend(|| ui::warn(&format!("{text}. Taken is image {image} of {path}.")));
            }
            Event::Lost { node, reason } => self.bar.suspend(|| ui::note(&format!("{node}: {reason}"))),
            Event::Begins { bytes } => self.bar.set_length(*bytes),
            Event::Stored { bytes } => self.bar.inc(*bytes),
        }
    }
}

/// Says why a command failed, and turns that into its exit status.
pub(super) fn exit(result: Result<(), anyhow::Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&error);
            ExitCode::from(status_of(&error))
        }
    }
}

/// What was asked for isn't there; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotThere(pub(super) String);

/// Machines would refuse what was to be done; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WouldRefuse(pub(super) String);

/// The exit status that an error means.
pub(super) fn status_of(error: &anyhow::Error) -> u8 {
    if error.is::<NotThere>() || error.is::<WouldRefuse>() {
        return NOT_THERE_STATUS;
    }
    match error.downcast_ref::<Failure>() {
        Some(Failure::Unreachable(_)) => UNREACHABLE_STATUS,
        Some(
            Failure::NotCarried { .. }
            | Failure::NothingThere { .. }
            | Failure::Disagree(_)
            | Failure::NoSuchImage { .. }
            | Failure::NoEntry { .. },
        ) => NOT_THERE_STATUS,
        Some(Failure::NotGiven { .. }) => NOT_GIVEN_STATUS,
        Some(Failure::Interrupted) => INTERRUPTED_STATUS,
        Some(Failure::Local(_)) | None => LOCAL_STATUS,
    }
}
