//! The order of the steps, what a failure leads to, and newer orders at any moment.

use std::time::Duration;

use super::*;
use crate::model::disk_task::{Previous, Sealed, Side, Target};
use crate::model::failure::FailureKind;
use crate::model::hash_kind::HashKind;
use crate::model::image::ImageBuilder;
use crate::model::origins::Origins;
use crate::model::reuse::Reused;

const STAGED: FileIdentity = FileIdentity { dev: 1, ino: 100 };
const OLD: FileIdentity = FileIdentity { dev: 1, ino: 50 };
const FOREIGN: FileIdentity = FileIdentity { dev: 1, ino: 66 };

fn path() -> VPath {
    "/key/image".parse().expect("valid")
}

fn image() -> Arc<Image> {
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("root");
    Arc::new(builder.finish().expect("complete"))
}

fn order(n: u8, committed: Option<(ImageId, FileIdentity)>) -> Order {
    let directory = DirectoryConfig { append_only: false, ..DirectoryConfig::plain("key", "/srv") };
    let (change, image) = (ChangeId::new([n; 32]), ImageId::new([n; 32]));
    Order {
        path: path(),
        directory: Arc::new(directory),
        change,
        image,
        committed,
        heal: false,
        intent: None,
        siblings: Arc::default(),
        replaces: false,
        previous: None,
    }
}

/// A world in which every step goes well, but for what a test changes.
struct World {
    engine: Deploys,
    now: Now,
    visible: Option<Target>,
    /// Words for the effects that were given.
    seen: Vec<String>,
    /// Fails the step of that name, that often.
    failing: Option<(&'static str, FailureKind, usize)>,
    /// A newer order comes while that step runs.
    meanwhile: Option<(&'static str, Order)>,
    adopted: bool,
}

impl World {
    fn new(visible: Option<Target>) -> Self {
        let (engine, now, seen) = (Deploys::default(), Now::default(), Vec::new());
        Self { engine, now, visible, seen, failing: None, meanwhile: None, adopted: false }
    }

    fn order(&mut self, order: Order) {
        let mut outbox = Outbox::new();
        self.engine.handle(self.now, Input::Order(order), &mut outbox);
        self.settle(outbox);
    }

    /// Answers every effect, and lets pauses pass.
    fn settle(&mut self, mut outbox: Outbox<Effect>) {
        for _ in 0..1_000 {
            while let Some(effect) = outbox.pop() {
                let word = word(&effect);
                self.seen.push(word.clone());
                let step = self.engine.status(&path()).map_or("", |status| status.step);
                if let Some((_, order)) = self.meanwhile.take_if(|(at, _)| *at == step) {
                    self.engine.handle(self.now, Input::Order(order), &mut outbox);
                }
                if let Some(input) = self.answer(step, effect) {
                    self.engine.handle(self.now, input, &mut outbox);
                }
            }
            let Some((at, _)) = self.engine.deadline() else { return };
            self.now.time = at;
            self.engine.handle_timeout(self.now, &mut outbox);
        }
        panic!("no end: {:?}", self.seen);
    }

    fn fails(&mut self, step: &str) -> Option<Failure> {
        let (at, kind, left) = self.failing.as_mut().filter(|(at, _, left)| *at == step && *left > 0)?;
        *left -= 1;
        Some(Failure { kind: *kind, text: format!("{at} failed") })
    }

    fn answer(&mut self, step: &str, effect: Effect) -> Option<Input> {
        let path = path();
        let can_fail = !matches!(effect, Effect::Paused { .. } | Effect::Done { .. } | Effect::NeedIndex { .. });
        let failure = if can_fail { self.fails(step) } else { None };
        Some(match (effect, failure) {
            (Effect::Disk(_), Some(failure)) => Input::Disk { path, result: Err(failure) },
            (Effect::PutIntent { .. } | Effect::PutCommitted { .. }, Some(failure)) => {
                Input::Written { path, result: Err(failure) }
            }
            (Effect::Fetch { .. }, Some(failure)) => Input::FetchFailed { path, failure },
            (Effect::NeedIndex { image: id, .. }, _) => Input::Index { path, id, image: image() },
            (Effect::Disk(task), None) => Input::Disk { path, result: Ok(self.disk(&task.action)) },
            (Effect::Fetch { .. }, None) => Input::Fetched { path, bytes: 0, from: Vec::new() },
            (Effect::CancelFetch { .. }, _) => Input::FetchCancelled { path },
            (Effect::PutIntent { .. } | Effect::PutCommitted { .. }, None) => Input::Written { path, result: Ok(()) },
            _ => return None,
        })
    }

    fn disk(&mut self, action: &DiskAction) -> DiskResult {
        let sealed = || Sealed { root: STAGED, fingerprints: Vec::new() };
        match action {
            DiskAction::Look => DiskResult::Target(self.visible),
            DiskAction::Side { .. } => {
                DiskResult::Side(if self.visible.is_some_and(|target| target.identity == STAGED) {
                    Side::After
                } else {
                    Side::Before
                })
            }
            DiskAction::Adopt { .. } => DiskResult::Adopted(self.adopted.then(sealed)),
            DiskAction::Stage { image, .. } => {
                let reused = Box::new(Reused::nothing(0));
                DiskResult::Staged { have: BlockSet::none(image.block_count()), kept_bytes: 0, reused }
            }
            DiskAction::Store { .. } => DiskResult::Stored { bad: Vec::new() },
            DiskAction::Seal { .. } => DiskResult::Sealed(sealed()),
            DiskAction::Swap { .. } => {
                self.visible = Some(Target { identity: STAGED, empty: false });
                DiskResult::Done
            }
            DiskAction::Collect { previous: Previous::Kept(_) } => DiskResult::Previous { kept: true },
            DiskAction::Collect { .. } | DiskAction::Forgo => DiskResult::Done,
            DiskAction::Remove { .. } => DiskResult::Removed { gone: true },
            DiskAction::Scrub { .. } => DiskResult::Scrubbed(None),
        }
    }

    fn ended(&self) -> Vec<&str> {
        let ends = |word: &&String| word.starts_with("done") || word.starts_with("superseded");
        self.seen.iter().filter(ends).map(String::as_str).collect()
    }
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Disk(DiskTask { action, .. }) => match action {
            DiskAction::Look => "look".to_owned(),
            DiskAction::Side { .. } => "side".to_owned(),
            DiskAction::Adopt { .. } => "adopt".to_owned(),
            DiskAction::Stage { .. } => "stage".to_owned(),
            DiskAction::Store { .. } => "store".to_owned(),
            DiskAction::Seal { .. } => "seal".to_owned(),
            DiskAction::Swap { exchange } => format!("swap exchange={exchange}"),
            DiskAction::Collect { previous: Previous::Kept(_) } => "collect but the previous one".to_owned(),
            DiskAction::Collect { .. } => "collect".to_owned(),
            DiskAction::Forgo => "forgo".to_owned(),
            DiskAction::Remove { .. } => "remove".to_owned(),
            DiskAction::Scrub { .. } => "scrub".to_owned(),
        },
        Effect::NeedIndex { .. } => "index".to_owned(),
        Effect::CancelIndex { .. } => "cancel index".to_owned(),
        Effect::Fetch { .. } => "fetch".to_owned(),
        Effect::CancelFetch { .. } => "cancel fetch".to_owned(),
        Effect::PutIntent { .. } => "intent".to_owned(),
        Effect::PutCommitted { .. } => "record".to_owned(),
        Effect::Forgone { for_room, .. } => format!("forgone for_room={for_room}"),
        Effect::Damaged(damage) => format!("damaged {}", damage.path),
        Effect::Done { change, already, .. } => format!("done {} already={already}", change.as_bytes()[0]),
        Effect::Superseded { change, .. } => format!("superseded {}", change.as_bytes()[0]),
        Effect::Failed { .. } => "failed".to_owned(),
        Effect::Paused { failure, .. } => format!("paused {}", failure.kind.name()),
        Effect::Conflict { standing, .. } => format!("conflict with {}", standing.as_bytes()[0]),
        Effect::Cancelled { change, .. } => format!("cancelled {}", change.as_bytes()[0]),
    }
}

#[test]
fn from_nothing_to_reported() {
    let mut world = World::new(None);
    world.order(order(1, None));
    let steps = ["look", "index", "stage", "fetch", "seal", "look", "intent", "swap exchange=false", "record"];
    let mut expected = steps.to_vec();
    expected.extend(["done 1 already=false", "collect"]);
    assert_eq!(world.seen, expected);
    assert!(world.engine.is_empty());
}

#[test]
fn in_the_place_of_an_older_one() {
    let old = Some((ImageId::new([9; 32]), OLD));
    let mut world = World::new(Some(Target { identity: OLD, empty: false }));
    world.order(order(1, old));
    assert!(world.seen.contains(&"swap exchange=true".to_owned()), "{:?}", world.seen);
    assert_eq!(world.ended(), ["done 1 already=false"]);
}

#[test]
fn what_is_there_is_only_looked_at() {
    let mut world = World::new(Some(Target { identity: OLD, empty: false }));
    world.order(order(1, Some((ImageId::new([1; 32]), OLD))));
    assert_eq!(world.seen, ["look", "done 1 already=true", "collect"]);
}

#[test]
fn what_somebody_else_put_there_is_adopted_or_left_alone() {
    let mut world = World::new(Some(Target { identity: FOREIGN, empty: false }));
    world.adopted = true;
    world.order(order(1, None));
    assert_eq!(world.seen, ["look", "index", "adopt", "record", "done 1 already=false", "collect"]);

    let mut world = World::new(Some(Target { identity: FOREIGN, empty: false }));
    let mut outbox = Outbox::new();
    world.engine.handle(world.now, Input::Order(order(1, None)), &mut outbox);
    for _ in 0..3 {
        let effect = outbox.pop().expect("one step after the other");
        let input = world.answer("", effect).expect("answered");
        world.engine.handle(world.now, input, &mut outbox);
    }
    let status = world.engine.status(&path()).expect("it goes on");
    assert_eq!(status.failure.map(|failure| failure.kind), Some(FailureKind::Occupied));
    // Moved away, it goes on by itself.
    world.visible = None;
    world.settle(outbox);
    assert_eq!(world.ended(), ["done 1 already=false"]);
}

#[test]
fn every_step_may_fail_for_a_while() {
    let kinds = [FailureKind::NoSpace, FailureKind::MissingBase, FailureKind::Io, FailureKind::Poisoned];
    for step in ["check", "stage", "fetch", "seal", "intend", "swap", "record"] {
        for kind in kinds {
            let mut world = World::new(None);
            world.failing = Some((step, kind, 3));
            world.order(order(1, None));
            assert_eq!(world.ended(), ["done 1 already=false"], "{step} {kind:?}: {:?}", world.seen);
            let pauses = world.seen.iter().filter(|word| **word == format!("paused {}", kind.name())).count();
            assert_eq!(pauses, 3, "{step} {kind:?}: {:?}", world.seen);
            assert!(world.now.time.since_start() >= Duration::from_secs(3), "pauses grow");
        }
    }
}

#[test]
fn a_poisoned_tree_is_thrown_away() {
    let mut world = World::new(None);
    world.failing = Some(("seal", FailureKind::Poisoned, 1));
    world.order(order(1, None));
    let after: Vec<_> = world.seen.iter().skip_while(|word| *word != "paused poisoned").take(3).collect();
    assert_eq!(after, ["paused poisoned", "collect", "stage"]);
}

/// What is only kept for convenience goes before anything waits for room.
#[test]
fn the_previous_tree_makes_room() {
    let kept = |n: u8| Some((ImageId::new([n; 32]), FileIdentity { dev: 1, ino: 40 }));
    let old = Some((ImageId::new([9; 32]), OLD));
    let keeping = |previous, keep_previous| {
        let mut order = Order { previous, ..order(1, old) };
        order.directory = Arc::new(DirectoryConfig { keep_previous, ..(*order.directory).clone() });
        order
    };
    for step in ["stage", "fetch"] {
        let mut world = World::new(Some(Target { identity: OLD, empty: false }));
        world.failing = Some((step, FailureKind::NoSpace, 1));
        world.order(keeping(kept(8), true));
        let after: Vec<_> = world.seen.iter().skip_while(|word| *word != step).skip(1).take(3).collect();
        assert_eq!(after, ["forgo", "forgone for_room=true", "stage"], "{:?}", world.seen);
        assert_eq!(world.now, Now::default(), "nothing waited");
        // What was visible is the previous one now.
        assert_eq!(world.seen.last().map(String::as_str), Some("collect but the previous one"));
    }
    // It is the very one that is wanted again; or other room is missing.
    for (previous, kind) in [(1, FailureKind::NoSpace), (8, FailureKind::Io)] {
        let mut world = World::new(Some(Target { identity: OLD, empty: false }));
        world.failing = Some(("stage", kind, 2));
        world.order(keeping(kept(previous), true));
        assert!(!world.seen.contains(&"forgo".to_owned()), "{:?}", world.seen);
        assert_eq!(world.ended(), ["done 1 already=false"]);
    }
    // It can't be removed either: then it waits.
    let mut world = World::new(Some(Target { identity: OLD, empty: false }));
    world.failing = Some(("stage", FailureKind::NoSpace, 4));
    world.order(keeping(kept(8), true));
    let count = |what: &str| world.seen.iter().filter(|word| *word == what).count();
    // Of each two failures the first was the tree's, the second one that of removing it.
    assert_eq!((count("forgo"), count("paused no_space")), (2, 2), "{:?}", world.seen);
    // The option was turned off.
    let standing = || Some(Target { identity: OLD, empty: false });
    for (keep_previous, expected) in [(true, "collect but the previous one"), (false, "forgone for_room=false")] {
        let mut world = World::new(standing());
        let mut order = keeping(kept(8), keep_previous);
        order.image = ImageId::new([9; 32]);
        world.order(order);
        assert_eq!(world.seen.last().map(String::as_str), Some(expected), "{:?}", world.seen);
    }
}

#[test]
fn garbage_that_stays_is_no_failure() {
    let mut world = World::new(None);
    world.failing = Some(("collect", FailureKind::Io, 1));
    world.order(order(1, None));
    assert_eq!(world.ended(), ["done 1 already=false"]);
    assert!(world.engine.is_empty());
}

#[test]
fn a_newer_order_takes_over_at_any_step() {
    for step in ["check", "index", "stage", "fetch", "seal", "intend", "swap", "record", "collect"] {
        let mut world = World::new(None);
        world.meanwhile = Some((step, order(2, None)));
        world.order(order(1, None));
        assert_eq!(world.meanwhile.as_ref().map(|(at, _)| *at), None, "{step} never ran: {:?}", world.seen);
        let ended = world.ended();
        assert_eq!(ended.last(), Some(&"done 2 already=false"), "{step}: {:?}", world.seen);
        assert_eq!(ended.len(), 2, "{step}: each order ends once: {ended:?}");
        assert!(ended[0] == "superseded 1" || ended[0] == "done 1 already=false", "{step}: {ended:?}");
    }
}

#[test]
fn the_same_order_again_is_told_of_the_end() {
    for step in ["check", "index", "stage", "fetch", "seal", "intend", "swap", "record"] {
        let mut world = World::new(None);
        world.meanwhile = Some((step, order(1, None)));
        world.order(order(1, None));
        assert_eq!(world.ended(), ["done 1 already=false"], "{step}");
    }
    // The end was told already, but garbage is still being collected.
    let mut world = World::new(None);
    world.meanwhile = Some(("collect", order(1, None)));
    world.order(order(1, None));
    assert_eq!(world.ended(), ["done 1 already=false", "done 1 already=true"]);
}

#[test]
fn a_waiting_order_is_not_superseded_by_itself() {
    let mut world = World::new(None);
    let mut outbox = Outbox::new();
    for n in [1, 2, 2, 2] {
        world.engine.handle(world.now, Input::Order(order(n, None)), &mut outbox);
    }
    world.settle(outbox);
    assert_eq!(world.ended(), ["superseded 1", "done 2 already=false"]);
}

#[test]
fn a_corrected_directory_is_taken_at_once() {
    let mut world = World::new(None);
    world.failing = Some(("check", FailureKind::MissingBase, 1));
    let mut outbox = Outbox::new();
    world.engine.handle(world.now, Input::Order(order(1, None)), &mut outbox);
    let input = world.answer("check", outbox.pop().expect("a look")).expect("answered");
    world.engine.handle(world.now, input, &mut outbox);
    let mut corrected = order(1, None);
    corrected.directory = Arc::new(DirectoryConfig { directory: "/other".into(), ..(*corrected.directory).clone() });
    let mut outbox = Outbox::new();
    world.engine.handle(world.now, Input::Order(corrected), &mut outbox);
    let Some(Effect::Disk(task)) = outbox.pop() else { panic!("it looks again at once") };
    assert_eq!(task.directory.directory, std::path::Path::new("/other"));
    // The same order again doesn't wait for the pause to end either.
    let mut paused = World::new(None);
    paused.failing = Some(("check", FailureKind::MissingBase, 1));
    let mut outbox = Outbox::new();
    paused.engine.handle(paused.now, Input::Order(order(1, None)), &mut outbox);
    let input = paused.answer("check", outbox.pop().expect("a look")).expect("answered");
    paused.engine.handle(paused.now, input, &mut outbox);
    let mut outbox = Outbox::new();
    paused.engine.handle(paused.now, Input::Order(order(1, None)), &mut outbox);
    assert!(matches!(outbox.pop(), Some(Effect::Disk(_))));
}

#[test]
fn a_crash_before_or_after_the_swap_is_mended() {
    let committed = CommittedRecord {
        change: ChangeId::new([1; 32]),
        image: ImageId::new([1; 32]),
        root: STAGED,
        bytes: Origins { kept: 0, fetched: 5, ..Origins::default() },
        fingerprints: Arc::default(),
        previous: None,
    };
    let intent = Some(IntentRecord { committed, exchange: false });
    let mut world = World::new(Some(Target { identity: STAGED, empty: false }));
    world.order(Order { intent: intent.clone(), ..order(1, None) });
    assert_eq!(world.seen, ["side", "record", "done 1 already=false", "collect"]);

    let mut world = World::new(None);
    world.order(Order { intent: intent.clone(), ..order(1, None) });
    assert_eq!(world.seen[..3], ["side", "look", "index"]);
    assert_eq!(world.ended(), ["done 1 already=false"]);

    // The crash was in an older change's swap; the newer one follows it.
    let mut world = World::new(Some(Target { identity: STAGED, empty: false }));
    world.order(Order { intent, ..order(2, None) });
    assert_eq!(world.seen[..3], ["side", "record", "look"]);
    assert_eq!(world.ended(), ["done 2 already=false"]);
}

#[test]
fn only_some_are_active_at_once() {
    let mut engine = Deploys::default();
    let mut outbox = Outbox::new();
    for n in 0..20 {
        let path: VPath = format!("/key/image{n}").parse().expect("valid");
        engine.handle(Now::default(), Input::Order(Order { path, ..order(n, None) }), &mut outbox);
    }
    assert_eq!((engine.len(), outbox.count()), (20, limits::DEPLOYS_ACTIVE_MAX));
}
