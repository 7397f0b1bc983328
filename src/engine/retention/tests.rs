//! The steps of a removal, what comes in between, and what stands in its way.

use std::time::Duration;

use super::rules::Candidate;
use super::*;
use crate::model::change::Rank;
use crate::model::directory::Retention;
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ChangeId;
use crate::model::retention::ActiveBy;
use crate::model::time::Stamp;

const ROOT: FileIdentity = FileIdentity { dev: 1, ino: 7 };

fn now(seconds: u64) -> Now {
    Now { time: Time::new(Duration::from_secs(seconds)), stamp: Stamp(1_000_000 + seconds * 1_000) }
}

fn config(recent_s: u64) -> Arc<DirectoryConfig> {
    let rules = Retention {
        keep_min_directories: 1,
        keep_max_directories: 9,
        keep_recent: Duration::from_secs(recent_s),
        keep_list_file: None,
    };
    Arc::new(DirectoryConfig { retention: Some(rules), ..DirectoryConfig::plain("k", "/srv/k") })
}

fn path(n: u64) -> VPath {
    format!("/k/{n}").parse().expect("valid")
}

/// Published in that second.
fn present(n: u64) -> Present {
    let rank = Rank { stamp: now(n).stamp, id: ChangeId::new([1; 32]), overrides: false };
    Present { candidate: Candidate { path: path(n), rank, damaged: false }, root: ROOT, marked: false, busy: false }
}

/// The engine at 100 seconds, and each effect as a word.
struct World {
    engine: Retentions,
    seconds: u64,
}

impl World {
    fn new(recent_s: u64) -> (Self, Vec<String>) {
        let mut world = Self { engine: Retentions::default(), seconds: 100 };
        let effects = world.tell(Input::Configured(vec![config(recent_s)]));
        (world, effects)
    }

    fn tell(&mut self, input: Input) -> Vec<String> {
        let mut outbox = Outbox::new();
        self.engine.handle(now(self.seconds), input, &mut outbox);
        outbox.map(|effect| word(&effect)).collect()
    }

    fn surveyed(&mut self, in_use: &[&str], present: Vec<Present>) -> Vec<String> {
        let mut active = Active::default();
        for name in in_use {
            active.add(name, ActiveBy::Link);
        }
        self.tell(Input::Surveyed { directory: "k".into(), result: Ok(active), present })
    }

    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.seconds += seconds;
        let mut outbox = Outbox::new();
        self.engine.handle_timeout(now(self.seconds), &mut outbox);
        outbox.map(|effect| word(&effect)).collect()
    }

    fn deadline(&self) -> Option<u64> {
        self.engine.deadline().map(|(at, _)| at.since_start().as_secs())
    }
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Survey { .. } => "survey".to_owned(),
        Effect::Mark { path, cleaned, .. } => format!("mark {path} {cleaned}"),
        Effect::Disk(DiskTask { path, action: DiskAction::Remove { only_rest, .. }, .. }) => {
            format!("remove {path} only_rest={only_rest}")
        }
        Effect::Disk(task) => panic!("{task:?}"),
        Effect::Forget { path } => format!("forget {path}"),
        Effect::Ended { path, gone, .. } => format!("ended {path} gone={gone}"),
        Effect::Review { .. } => "review".to_owned(),
        Effect::Trouble { failure, .. } => format!("trouble: {}", failure.text),
    }
}

fn failure(text: &str) -> Failure {
    Failure { kind: FailureKind::Io, text: text.to_owned() }
}

#[test]
fn one_after_the_other() {
    let (mut world, begun) = World::new(0);
    assert_eq!(begun, ["survey"]);
    assert_eq!(world.surveyed(&["2"], (1..=4).map(present).collect()), ["review", "mark /k/1 true"]);
    assert!(world.engine.removes(&path(1)) && !world.engine.removes(&path(2)));
    // What changes meanwhile is seen afterwards.
    assert_eq!(world.tell(Input::Changed { directory: "k".into() }), [""; 0]);
    assert_eq!(world.tell(Input::Marked { path: path(1), result: Ok(true) }), ["remove /k/1 only_rest=false"]);
    let gone = Ok(DiskResult::Removed { gone: true });
    assert_eq!(world.tell(Input::Disk { path: path(1), result: gone }), ["forget /k/1"]);
    assert_eq!(world.tell(Input::Forgotten { path: path(1), result: Ok(()) }), ["ended /k/1 gone=true", "survey"]);
    assert_eq!(world.surveyed(&["2"], (2..=4).map(present).collect()), ["review", "mark /k/3 true"]);
    // Something else came to hold there.
    assert_eq!(world.tell(Input::Marked { path: path(3), result: Ok(false) }), ["ended /k/3 gone=false", "survey"]);
    let mut left: Vec<_> = (2..=4).map(present).collect();
    left[1].busy = true;
    assert_eq!(world.surveyed(&["2"], left), ["review"], "a deployment is under way there");
    assert_eq!(world.deadline(), Some(100 + 3_600));
    let (_, status) = world.engine.status().next().expect("it cleans");
    assert_eq!((status.newest, status.active, status.recent, status.removed), (1, 1, 0, 1));
}

#[test]
fn what_runs_out_is_looked_at_then() {
    let (mut world, _) = World::new(60);
    assert_eq!(world.surveyed(&[], [45, 50, 99].map(present).into()), ["review"]);
    assert_eq!(world.deadline(), Some(105));
    assert_eq!(world.pass(4), [""; 0]);
    assert_eq!(world.pass(1), ["survey"]);
    assert_eq!(world.surveyed(&[], [45, 50, 99].map(present).into()), ["review", "mark /k/45 true"]);
}

#[test]
fn what_changes_during_a_survey_is_surveyed_again() {
    let (mut world, _) = World::new(0);
    assert_eq!(world.tell(Input::Changed { directory: "k".into() }), [""; 0]);
    assert_eq!(world.surveyed(&[], vec![present(1), present(2)]), ["survey"]);
    assert_eq!(world.surveyed(&[], vec![present(1), present(2)]), ["review", "mark /k/1 true"]);
}

#[test]
fn what_was_begun_goes_on_or_is_taken_back() {
    let marked = || Present { marked: true, ..present(1) };
    let (mut world, _) = World::new(0);
    assert_eq!(world.surveyed(&[], vec![marked(), present(2)]), ["review", "remove /k/1 only_rest=false"]);
    let (mut world, _) = World::new(0);
    assert_eq!(world.surveyed(&["1"], vec![marked(), present(2)]), ["review", "remove /k/1 only_rest=true"]);
    let whole = Ok(DiskResult::Removed { gone: false });
    assert_eq!(world.tell(Input::Disk { path: path(1), result: whole }), ["mark /k/1 false"]);
    assert_eq!(world.tell(Input::Marked { path: path(1), result: Ok(false) }), ["ended /k/1 gone=false", "survey"]);
    assert_eq!(world.surveyed(&["1"], vec![present(1), present(2)]), ["review"]);
}

#[test]
fn trouble_is_told_once_and_tried_again() {
    let (mut world, _) = World::new(0);
    let unreadable = || Input::Surveyed { directory: "k".into(), result: Err(failure("no list")), present: Vec::new() };
    assert_eq!(world.tell(unreadable()), ["trouble: no list", "review"]);
    assert_eq!(world.deadline(), Some(160));
    assert_eq!(world.pass(60), ["survey"]);
    assert_eq!(world.tell(unreadable()), ["review"], "it was told");
    assert_eq!(world.pass(60), ["survey"]);
    // One that can't be removed doesn't keep the others from it.
    assert_eq!(world.surveyed(&[], (1..=3).map(present).collect()), ["review", "mark /k/1 true"]);
    world.tell(Input::Marked { path: path(1), result: Ok(true) });
    let ended = world.tell(Input::Disk { path: path(1), result: Err(failure("busy")) });
    assert_eq!(ended, ["trouble: busy", "ended /k/1 gone=false", "survey"]);
    assert_eq!(world.surveyed(&[], (1..=3).map(present).collect()), ["review", "mark /k/2 true"]);
    assert_eq!(
        world.tell(Input::Marked {
            path: path(2),
            result: Err(Failure { kind: FailureKind::NoSpace, text: "full".to_owned() })
        }),
        ["trouble: full", "ended /k/2 gone=false", "survey"]
    );
    assert_eq!(world.surveyed(&[], (1..=3).map(present).collect()), ["review"]);
    assert_eq!(world.deadline(), Some(220 + 60));
    assert_eq!(world.pass(60), ["survey"]);
    assert_eq!(world.surveyed(&[], vec![present(3)]), ["review"]);
    assert_eq!(world.engine.status().next().expect("it cleans").1.problem, None);
}

#[test]
fn a_config_that_stops_cleaning_ends_what_was_begun() {
    let (mut world, _) = World::new(0);
    world.surveyed(&[], vec![present(1), present(2)]);
    assert_eq!(world.tell(Input::Configured(Vec::new())), [""; 0]);
    assert_eq!(world.tell(Input::Marked { path: path(1), result: Ok(true) }), ["remove /k/1 only_rest=false"]);
    world.tell(Input::Disk { path: path(1), result: Ok(DiskResult::Removed { gone: true }) });
    assert_eq!(world.tell(Input::Forgotten { path: path(1), result: Ok(()) }), ["ended /k/1 gone=true"]);
    assert_eq!((world.engine.status().count(), world.deadline()), (0, None));
}
