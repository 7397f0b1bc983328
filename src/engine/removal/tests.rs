//! Steps in order, failures that are tried again, and how many go on at once.

use super::*;
use crate::model::time::Stamp;

fn at(seconds: u64) -> Now {
    Now { time: Time::new(Duration::from_secs(seconds)), stamp: Stamp(seconds * 1_000) }
}

fn path(n: usize) -> VPath {
    format!("/key/{n}").parse().expect("valid")
}

fn root() -> FileIdentity {
    FileIdentity { dev: 1, ino: 2 }
}

fn begin(n: usize, root: Option<FileIdentity>) -> Input {
    let directory = DirectoryConfig::plain("key", "/srv");
    Input::Begin { path: path(n), directory: Arc::new(directory), root }
}

fn told(result: &Result<(), Failure>) -> &'static str {
    if result.is_ok() { "gone" } else { "failed" }
}

fn tell(removals: &mut Removals, now: Now, input: Input) -> Vec<String> {
    let mut outbox = Outbox::new();
    removals.handle(now, input, &mut outbox);
    words(outbox)
}

fn words(outbox: Outbox<Effect>) -> Vec<String> {
    let word = |effect| match effect {
        Effect::Disk(DiskTask { path, action: DiskAction::Collect { .. }, .. }) => format!("collect {path}"),
        Effect::Disk(DiskTask { path, action: DiskAction::Remove { only_rest: false, .. }, .. }) => {
            format!("remove {path}")
        }
        Effect::Disk(other) => format!("{other:?}"),
        Effect::Forget { path } => format!("forget {path}"),
        Effect::Ended { path, result } => format!("{} {path}", told(&result)),
        Effect::Again { path } => format!("again {path}"),
    };
    outbox.into_iter().map(word).collect()
}

fn disk(n: usize, result: DiskResult) -> Input {
    Input::Disk { path: path(n), result: Ok(result) }
}

fn failure() -> Failure {
    Failure { kind: FailureKind::NotWritable, text: "read-only".to_owned() }
}

#[test]
fn what_is_staged_goes_then_the_tree_then_the_record() {
    let mut removals = Removals::default();
    assert_eq!(tell(&mut removals, at(0), begin(1, Some(root()))), ["collect /key/1"]);
    assert!(removals.removes(&path(1)));
    assert_eq!(tell(&mut removals, at(0), begin(1, Some(root()))), [""; 0], "once at a time");
    assert_eq!(tell(&mut removals, at(0), disk(1, DiskResult::Done)), ["remove /key/1"]);
    assert_eq!(tell(&mut removals, at(0), disk(1, DiskResult::Removed { gone: true })), ["forget /key/1"]);
    let forgotten = Input::Forgotten { path: path(1), result: Ok(()) };
    assert_eq!(tell(&mut removals, at(0), forgotten), ["gone /key/1"]);
    assert!(!removals.removes(&path(1)));
    // Nothing is visible.
    tell(&mut removals, at(0), begin(2, None));
    assert_eq!(tell(&mut removals, at(0), disk(2, DiskResult::Done)), ["forget /key/2"]);
}

#[test]
fn what_fails_is_tried_again_and_the_path_is_free_meanwhile() {
    let mut removals = Removals::default();
    tell(&mut removals, at(0), begin(1, Some(root())));
    let failed = || Input::Disk { path: path(1), result: Err(failure()) };
    assert_eq!(tell(&mut removals, at(0), failed()), ["failed /key/1"]);
    assert_eq!((removals.removes(&path(1)), removals.failure(&path(1))), (false, Some(&failure())));
    let mut outbox = Outbox::new();
    removals.handle_timeout(at(1), &mut outbox);
    assert_eq!(words(outbox), ["again /key/1"]);
    assert_eq!(removals.deadline(), None);
    assert_eq!(tell(&mut removals, at(1), begin(1, Some(root()))), ["collect /key/1"]);
    tell(&mut removals, at(1), disk(1, DiskResult::Done));
    tell(&mut removals, at(1), disk(1, DiskResult::Removed { gone: true }));
    let unwritten = Input::Forgotten {
        path: path(1),
        result: Err(Failure { kind: FailureKind::NoSpace, text: "full".to_owned() }),
    };
    assert_eq!(tell(&mut removals, at(1), unwritten), ["failed /key/1"]);
    let (until, _) = removals.deadline().expect("a pause");
    assert_eq!(until, at(1).time + limits::RETRY_PAUSE_MIN * 2);
    assert_eq!(tell(&mut removals, at(1), Input::Drop { path: path(1) }), [""; 0]);
    assert_eq!(removals.deadline(), None);
}

#[test]
fn only_so_many_at_once() {
    let mut removals = Removals::default();
    let count = limits::REMOVALS_ACTIVE_MAX + 2;
    let begun: usize = (0..count).map(|n| tell(&mut removals, at(0), begin(n, None)).len()).sum();
    assert_eq!(begun, limits::REMOVALS_ACTIVE_MAX);
    assert!(removals.removes(&path(count - 1)), "it waits");
    let failed = Input::Disk { path: path(0), result: Err(failure()) };
    let next = format!("collect {}", path(limits::REMOVALS_ACTIVE_MAX));
    assert_eq!(tell(&mut removals, at(0), failed), ["failed /key/0".to_owned(), next]);
    // An answer that fits nothing changes nothing.
    assert_eq!(tell(&mut removals, at(0), Input::Forgotten { path: path(1), result: Ok(()) }), [""; 0]);
}
