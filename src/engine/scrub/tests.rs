//! What is due first, how fast, what comes in between, and what commands are told.

use std::time::Duration;

use super::*;
use crate::model::disk_task::DiskAction;
use crate::model::scrub::{Cursor, Flaw, Part};

const ROOT: FileIdentity = FileIdentity { dev: 1, ino: 7 };
const TICKET: Ticket = Ticket(1);

fn now(seconds: u64) -> Now {
    Now { time: Time::new(Duration::from_secs(seconds)), stamp: Stamp(1_000_000 + seconds * 1_000) }
}

fn config(interval_s: Option<u64>) -> Arc<DirectoryConfig> {
    Arc::new(DirectoryConfig {
        scrub_interval: interval_s.map(Duration::from_secs),
        heal: true,
        ..DirectoryConfig::plain("k", "/srv/k")
    })
}

fn path(n: u64) -> VPath {
    format!("/k/{n}").parse().expect("valid")
}

/// Looked at in that second.
fn tree(second: Option<u64>) -> Tree {
    let verdict = second.map(|second| Verdict { at: now(second).stamp, damaged: 0, extras: 0 });
    Tree { image: ImageId::new([1; 32]), root: ROOT, verdict }
}

fn finding(flaw: Flaw) -> Finding {
    Finding { file: "f".into(), flaw, what: "x".into() }
}

/// So much was read, and there is more.
fn part(bytes: u64, more: Option<usize>, flaws: &[Flaw]) -> Part {
    let next = more.map(|directory| Cursor { directory, ..Cursor::default() });
    let findings: Vec<_> = flaws.iter().map(|flaw| finding(*flaw)).collect();
    let extras = flaws.iter().filter(|flaw| !flaw.is_damage()).count() as u64;
    Part { findings, extras, bytes, entries: 0, bytes_total: 100, next }
}

/// The engine, and each effect as a word.
struct World {
    engine: Scrubs,
    seconds: u64,
}

impl World {
    /// At 1,000 seconds; a megabyte is read in a second.
    fn new(interval_s: Option<u64>, trees: &[(u64, Option<u64>)]) -> (Self, Vec<String>) {
        let mut world = Self { engine: Scrubs::default(), seconds: 1_000 };
        let mut seen = world.tell(Input::Configured { directories: vec![config(interval_s)], rate: 1_000_000 });
        for (n, second) in trees {
            seen.extend(world.tell(Input::Visible { path: path(*n), tree: tree(*second) }));
        }
        (world, seen)
    }

    fn tell(&mut self, input: Input) -> Vec<String> {
        let mut outbox = Outbox::new();
        self.engine.handle(now(self.seconds), input, &mut outbox);
        outbox.map(|effect| word(&effect)).collect()
    }

    fn part(&mut self, part: Part) -> Vec<String> {
        self.tell(Input::Disk { result: Ok(DiskResult::Scrubbed(Some(Box::new(part)))) })
    }

    fn told(&mut self) -> Vec<String> {
        self.tell(Input::Told { ticket: TICKET, alive: true })
    }

    /// Waits for the deadline, which must be in that second.
    fn wait(&mut self, second: u64) -> Vec<String> {
        let at = self.engine.deadline().map(|(at, _)| at.since_start().as_secs());
        assert_eq!(at, Some(second));
        self.seconds = second;
        let mut outbox = Outbox::new();
        self.engine.handle_timeout(now(second), &mut outbox);
        assert!(self.engine.deadline().is_none_or(|(at, _)| at > now(second).time), "it stays due");
        outbox.map(|effect| word(&effect)).collect()
    }
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Disk { task: DiskTask { path, action: DiskAction::Scrub { from, .. }, .. }, ordered } => {
            format!("scrub {path} from {}{}", from.directory, if *ordered { " ordered" } else { "" })
        }
        Effect::Disk { task, .. } => panic!("{task:?}"),
        Effect::Found { path, finding, log, .. } => format!("found {path} {} log={log}", finding.flaw.name()),
        Effect::Read { path, verdict, sound, .. } => {
            format!("read {path} damaged={} extras={} sound={sound}", verdict.damaged, verdict.extras)
        }
        Effect::Failed { path, .. } => format!("failed {path}"),
        Effect::Released { path } => format!("released {path}"),
        Effect::Tell { news, .. } => {
            let words: Vec<_> = news.iter().map(news_word).collect();
            format!("tell {}", words.join(", "))
        }
    }
}

fn news_word(news: &News) -> String {
    match news {
        News::Begun { directories } => format!("begun {directories}"),
        News::Found { findings, bytes, .. } => format!("found {} in {bytes}", findings.len()),
        News::Directory { path, end } => match end {
            End::Read { verdict, heals, .. } => format!("{path} damaged={} heals={heals}", verdict.damaged),
            End::Failed(text) => format!("{path} failed: {text}"),
            End::Changed => format!("{path} changed"),
        },
        News::Ended => "ended".to_owned(),
        News::Refused(text) => format!("refused: {text}"),
    }
}

fn command(path: Option<&str>) -> Input {
    Input::Command { ticket: TICKET, path: path.map(|path| path.parse().expect("valid")) }
}

#[test]
fn without_an_interval_only_commands_read() {
    let (world, seen) = World::new(None, &[(1, None), (2, Some(1))]);
    assert_eq!((seen, world.engine.deadline()), (vec![], None));
}

#[test]
fn the_oldest_first_and_one_at_a_time() {
    let (mut world, seen) = World::new(Some(500), &[(1, Some(700)), (2, Some(600)), (3, Some(650))]);
    assert_eq!(seen, [""; 0]);
    assert_eq!(world.wait(1_100), ["scrub /k/2 from 0"]);
    // Others that get due have to wait.
    world.seconds = 1_190;
    assert_eq!(world.tell(Input::Visible { path: path(4), tree: tree(None) }), [""; 0]);
    assert_eq!(
        world.part(part(0, None, &[])),
        ["read /k/2 damaged=0 extras=0 sound=true", "released /k/2", "scrub /k/4 from 0"]
    );
    assert_eq!(world.part(part(0, None, &[])).last().map(String::as_str), Some("scrub /k/3 from 0"));
    assert_eq!(world.part(part(0, None, &[])).len(), 2);
    assert_eq!(world.wait(1_200), ["scrub /k/1 from 0"]);
}

#[test]
fn a_clock_that_was_ahead_is_not_waited_for() {
    let (mut world, _) = World::new(Some(500), &[(1, Some(1_000_000))]);
    assert_eq!(world.wait(1_500), ["scrub /k/1 from 0"]);
}

#[test]
fn the_rate_is_kept() {
    let (mut world, seen) = World::new(Some(5_000), &[(1, None)]);
    assert_eq!(seen, ["scrub /k/1 from 0"]);
    assert_eq!(world.part(part(8_000_000, Some(1), &[])), [""; 0]);
    assert_eq!(world.wait(1_008), ["scrub /k/1 from 1"]);
    // The time that reading takes counts.
    world.seconds = 1_012;
    assert_eq!(world.part(part(8_000_000, Some(2), &[])), [""; 0]);
    assert_eq!(world.wait(1_016), ["scrub /k/1 from 2"]);
    assert_eq!(world.part(part(0, None, &[])).len(), 2);
    assert_eq!(world.engine.deadline().map(|(at, _)| at.since_start().as_secs()), Some(1_016 + 3_600));
}

#[test]
fn what_is_found() {
    let (mut world, _) = World::new(Some(5_000), &[(1, None)]);
    assert_eq!(
        world.part(part(0, Some(1), &[Flaw::Extra, Flaw::Missing, Flaw::Mode])),
        ["found /k/1 extra log=true", "found /k/1 missing log=true", "found /k/1 mode log=true", "scrub /k/1 from 1"]
    );
    assert!(world.engine.reads(&path(1)) && !world.engine.reads(&path(2)));
    let many = vec![Flaw::Content; 30];
    assert_eq!(world.part(part(0, Some(2), &many)).len(), 17 + 1, "the others aren't logged");
    assert_eq!(world.part(part(0, None, &[])), ["read /k/1 damaged=32 extras=1 sound=false", "released /k/1"]);
    assert!(!world.engine.reads(&path(1)));
    let verdict = world.engine.tree(&path(1)).and_then(|tree| tree.verdict).expect("known");
    assert_eq!((verdict.damaged, verdict.extras, verdict.at), (32, 1, now(1_000).stamp));
}

#[test]
fn what_comes_in_between() {
    // A deployment.
    let (mut world, _) = World::new(Some(5_000), &[(1, None)]);
    assert_eq!(world.tell(Input::Busy), ["released /k/1"]);
    assert_eq!(world.wait(1_600), ["scrub /k/1 from 0"]);
    // Somebody else finds it damaged: it isn't right, whatever was read before.
    assert_eq!(world.tell(Input::Doubted { path: path(1) }), [""; 0]);
    assert_eq!(world.part(part(0, None, &[])), ["read /k/1 damaged=0 extras=0 sound=false", "released /k/1"]);
    assert_eq!(world.wait(2_200), ["scrub /k/1 from 0"], "who is right shows soon");
    // Another directory, a removal, another configuration.
    let (mut world, _) = World::new(Some(5_000), &[(1, None)]);
    let other = Tree { root: FileIdentity { dev: 1, ino: 8 }, ..tree(Some(1_000)) };
    assert_eq!(world.tell(Input::Visible { path: path(1), tree: other }), [""; 0]);
    assert_eq!(world.part(part(0, None, &[Flaw::Missing])), ["released /k/1"], "it was about what was there");
    let (mut world, _) = World::new(Some(5_000), &[(1, None)]);
    world.tell(Input::Gone { path: path(1) });
    assert_eq!(world.part(part(0, Some(1), &[Flaw::Missing])), ["released /k/1"]);
    assert_eq!(world.engine.deadline(), None);
    let (mut world, _) = World::new(Some(5_000), &[(1, None)]);
    world.tell(Input::Configured { directories: vec![config(None)], rate: 1 });
    assert_eq!(world.part(part(0, None, &[])).len(), 2, "what was begun ends");
    assert_eq!(world.engine.deadline(), None);
    // It can't be read now.
    let (mut world, _) = World::new(Some(30), &[(1, None)]);
    let failure = Failure { kind: FailureKind::MissingBase, text: "no disk".to_owned() };
    assert_eq!(world.tell(Input::Disk { result: Err(failure) }), ["failed /k/1", "released /k/1"]);
    assert_eq!(world.wait(1_030), ["scrub /k/1 from 0"]);
    // It was replaced, and nobody deployed anything.
    let seen = world.tell(Input::Disk { result: Ok(DiskResult::Scrubbed(None)) });
    assert_eq!(seen[..2], ["found /k/1 kind log=true", "read /k/1 damaged=1 extras=0 sound=false"]);
}

#[test]
fn a_disk_that_goes_back_is_no_endless_scrub() {
    let (mut world, _) = World::new(Some(5_000), &[(1, None)]);
    assert_eq!(world.part(part(0, Some(3), &[])), ["scrub /k/1 from 3"]);
    assert_eq!(world.part(part(0, Some(3), &[])).len(), 2);
}

#[test]
fn a_command_goes_first() {
    let (mut world, _) = World::new(Some(5_000), &[(1, None), (2, Some(1_000))]);
    assert_eq!(world.tell(command(None)), ["tell begun 2"]);
    // The step under way ends, the rest of it waits.
    assert_eq!(world.part(part(1, Some(1), &[])), [""; 0]);
    assert_eq!(world.told(), ["scrub /k/1 from 0 ordered"]);
    // As fast as the disk can, but not faster than the listener.
    assert_eq!(
        world.part(part(9_000_000, Some(1), &[Flaw::Size])),
        ["found /k/1 size log=true", "tell found 1 in 9000000"]
    );
    assert_eq!(world.told(), ["scrub /k/1 from 1 ordered"]);
    assert_eq!(
        world.part(part(1, None, &[])),
        [
            "read /k/1 damaged=1 extras=0 sound=false",
            "released /k/1",
            "tell found 0 in 9000001, /k/1 damaged=1 heals=true"
        ]
    );
    assert_eq!(world.told(), ["scrub /k/2 from 0 ordered"]);
    world.tell(Input::Gone { path: path(2) });
    assert_eq!(world.part(part(0, None, &[])), ["released /k/2", "tell /k/2 changed"]);
    assert_eq!(world.told(), ["tell ended"]);
    assert_eq!(world.told(), [""; 0]);
    world.seconds += 1;
    assert_eq!(world.told(), ["scrub /k/1 from 1"], "the background goes on where it was");
}

#[test]
fn what_a_command_names() {
    let (mut world, _) = World::new(None, &[(1, None), (10, None)]);
    assert_eq!(world.tell(command(Some("/k/1"))), ["tell begun 1"]);
    for named in ["/k/2", "/k/1/x", "/other", "/"] {
        let Ok(named) = named.parse() else { continue };
        let ticket = Ticket(9);
        let seen = world.tell(Input::Command { ticket, path: Some(named) });
        assert!(seen[0].starts_with("tell refused: nothing that this node has made visible is at /"), "{seen:?}");
    }
    for n in 2..=limits::SCRUB_COMMANDS_MAX as u64 {
        assert_eq!(world.tell(Input::Command { ticket: Ticket(n), path: Some("/k".parse().expect("valid")) }).len(), 1);
    }
    let seen = world.tell(Input::Command { ticket: Ticket(77), path: None });
    assert!(seen[0].contains("others are being carried out"), "{seen:?}");
}

#[test]
fn who_goes_away_is_not_read_for() {
    let (mut world, _) = World::new(None, &[(1, None)]);
    world.tell(command(None));
    assert_eq!(world.told(), ["scrub /k/1 from 0 ordered"]);
    assert_eq!(world.part(part(0, Some(1), &[])), ["tell found 0 in 0"]);
    assert_eq!(world.tell(Input::Told { ticket: TICKET, alive: false }), ["released /k/1"]);
    assert_eq!((world.engine.current(), world.engine.deadline()), (None, None));
}
