//! Orders that meet a deployment which is under way, paused or about to end. Whole deployments run in `tests/sim/`.

use std::collections::VecDeque;

use super::*;
use crate::model::disk_task::{Sealed, Target};
use crate::model::failure::FailureKind;
use crate::model::hash_kind::HashKind;
use crate::model::image::ImageBuilder;
use crate::model::reuse::Reused;

fn path() -> VPath {
    "/key/name".parse().expect("valid")
}

const OURS: FileIdentity = FileIdentity { dev: 1, ino: 77 };

/// Image and change have the same number.
fn order(number: u8, committed: Option<u8>) -> Order {
    let directory = DirectoryConfig { append_only: false, ..DirectoryConfig::plain("key", "/srv") };
    Order {
        path: path(),
        directory: Arc::new(directory),
        change: ChangeId::new([number; 32]),
        image: ImageId::new([number; 32]),
        committed: committed.map(|image| (ImageId::new([image; 32]), OURS)),
        heal: false,
        intent: None,
        siblings: Arc::default(),
        replaces: false,
        previous: None,
    }
}

fn tell(deploys: &mut Deploys, input: Input) -> Vec<Effect> {
    let mut outbox = Outbox::new();
    deploys.handle(Now::default(), input, &mut outbox);
    outbox.collect()
}

fn disk(result: Result<DiskResult, Failure>) -> Input {
    Input::Disk { path: path(), result }
}

fn is_task(effect: &Effect, wanted: fn(&DiskAction) -> bool) -> bool {
    matches!(effect, Effect::Disk(task) if wanted(&task.action))
}

const LOOK: fn(&DiskAction) -> bool = |action| matches!(action, DiskAction::Look);
const COLLECT: fn(&DiskAction) -> bool = |action| matches!(action, DiskAction::Collect { .. });

#[test]
fn an_order_again_while_it_is_collected_is_answered_at_once() {
    let mut deploys = Deploys::default();
    let effects = tell(&mut deploys, Input::Order(order(1, Some(1))));
    assert!(matches!(&effects[..], [look] if is_task(look, LOOK)), "{effects:?}");
    let effects = tell(&mut deploys, disk(Ok(DiskResult::Target(Some(Target { identity: OURS, empty: false })))));
    assert!(
        matches!(&effects[..], [Effect::Done { already: true, .. }, collect] if is_task(collect, COLLECT)),
        "{effects:?}"
    );
    let effects = tell(&mut deploys, Input::Order(order(1, Some(1))));
    assert!(matches!(&effects[..], [Effect::Done { already: true, .. }]), "{effects:?}");
    // Another one waits for the end of this one.
    assert!(tell(&mut deploys, Input::Order(order(2, Some(1)))).is_empty());
    let effects = tell(&mut deploys, disk(Ok(DiskResult::Done)));
    assert!(matches!(&effects[..], [look] if is_task(look, LOOK)), "{effects:?}");
}

#[test]
fn an_order_again_ends_a_pause() {
    let mut deploys = Deploys::default();
    tell(&mut deploys, Input::Order(order(1, None)));
    let failure = Failure { kind: FailureKind::MissingBase, text: "not there".to_owned() };
    let effects = tell(&mut deploys, disk(Err(failure)));
    assert!(matches!(&effects[..], [Effect::Paused { .. }]), "{effects:?}");
    assert!(deploys.deadline().is_some());
    let effects = tell(&mut deploys, Input::Order(order(1, None)));
    assert!(matches!(&effects[..], [look] if is_task(look, LOOK)), "{effects:?}");
    assert_eq!(deploys.deadline(), None);
    // While it is at work, nothing is to be done.
    assert!(tell(&mut deploys, Input::Order(order(1, None))).is_empty());
}

/// Newer orders for those which wait don't start them; whoever pauses gives its place to the next.
#[test]
fn no_more_are_active_than_the_bound() {
    let mut deploys = Deploys::default();
    let name = |number: usize| -> VPath { format!("/key/{number}").parse().expect("valid") };
    let count = limits::DEPLOYS_ACTIVE_MAX * 2;
    let mut asked = VecDeque::new();
    let paths = |effects: Vec<Effect>| {
        let path = |effect| if let Effect::Disk(task) = effect { Some(task.path) } else { None };
        effects.into_iter().filter_map(path).collect::<Vec<_>>()
    };
    for change in [1, 2] {
        for number in 0..count {
            asked.extend(paths(tell(&mut deploys, Input::Order(Order { path: name(number), ..order(change, None) }))));
        }
    }
    assert_eq!(asked.len(), limits::DEPLOYS_ACTIVE_MAX);
    let mut seen = BTreeSet::new();
    while let Some(path) = asked.pop_front() {
        seen.insert(path.clone());
        let failure = Failure { kind: FailureKind::MissingBase, text: "not there".to_owned() };
        asked.extend(paths(tell(&mut deploys, Input::Disk { path, result: Err(failure) })));
        assert!(asked.len() <= limits::DEPLOYS_ACTIVE_MAX, "{}", asked.len());
    }
    assert_eq!(seen.len(), count, "all got their turn");
}

#[test]
fn a_deployment_that_is_no_longer_wanted_ends_unless_it_is_being_swapped() {
    let cancel = || Input::Cancel { path: path() };
    let is_cancel =
        |effect: &Effect| matches!(effect, Effect::Cancelled { change, .. } if *change == ChangeId::new([1; 32]));
    let mut deploys = Deploys::default();
    tell(&mut deploys, Input::Order(order(1, None)));
    assert!(tell(&mut deploys, cancel()).is_empty(), "a step's answer is awaited");
    assert!(tell(&mut deploys, cancel()).is_empty());
    let effects = tell(&mut deploys, disk(Ok(DiskResult::Target(None))));
    assert!(matches!(&effects[..], [effect] if is_cancel(effect)), "{effects:?}");
    assert!(deploys.is_empty());
    // While it waits for others, at once.
    tell(&mut deploys, Input::Order(order(1, None)));
    tell(&mut deploys, disk(Ok(DiskResult::Target(None))));
    let effects = tell(&mut deploys, cancel());
    assert!(matches!(&effects[..], [Effect::CancelIndex { .. }, effect] if is_cancel(effect)), "{effects:?}");
    assert!(deploys.is_empty());
    // The same order once more takes it back.
    tell(&mut deploys, Input::Order(order(1, None)));
    tell(&mut deploys, cancel());
    assert!(tell(&mut deploys, Input::Order(order(1, None))).is_empty());
    let effects = tell(&mut deploys, disk(Ok(DiskResult::Target(None))));
    assert!(matches!(&effects[..], [look] if is_task(look, LOOK)), "it begins again: {effects:?}");
    // What is visible already is only cleaned up.
    let visible = Target { identity: OURS, empty: false };
    tell(&mut deploys, Input::Order(order(2, Some(2))));
    tell(&mut deploys, disk(Ok(DiskResult::Target(Some(visible)))));
    tell(&mut deploys, disk(Ok(DiskResult::Target(Some(visible)))));
    assert!(tell(&mut deploys, cancel()).is_empty());
    assert!(tell(&mut deploys, disk(Ok(DiskResult::Done))).is_empty());
    assert!(deploys.is_empty());
}

/// In an append-only directory the other image's tree stays; when somebody removed it, the head's takes its place.
#[test]
fn what_is_visible_in_an_append_only_directory_stays() {
    let append_only = |order: Order| {
        let directory = Arc::new(DirectoryConfig { append_only: true, ..(*order.directory).clone() });
        Order { directory, ..order }
    };
    let ours = || disk(Ok(DiskResult::Target(Some(Target { identity: OURS, empty: false }))));
    let mut deploys = Deploys::default();
    tell(&mut deploys, Input::Order(append_only(order(2, Some(1)))));
    let effects = tell(&mut deploys, ours());
    let [Effect::Conflict { change, standing, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((change.as_bytes()[0], standing.as_bytes()[0]), (2, 1));
    assert!(deploys.is_empty() && deploys.deadline().is_none());
    // Ordered again, it is looked at again; the very image is no conflict, even by another change.
    tell(&mut deploys, Input::Order(append_only(order(2, Some(1)))));
    let effects = tell(&mut deploys, disk(Ok(DiskResult::Target(None))));
    assert!(matches!(&effects[..], [Effect::NeedIndex { .. }]), "{effects:?}");
    let mut deploys = Deploys::default();
    let same_image = Order { change: ChangeId::new([9; 32]), ..order(1, Some(1)) };
    tell(&mut deploys, Input::Order(append_only(same_image)));
    let effects = tell(&mut deploys, ours());
    assert!(matches!(&effects[..], [Effect::Done { already: true, .. }, _]), "{effects:?}");
}

/// A directory that is damaged is staged anew and swapped in, also where nothing is ever replaced by another image.
#[test]
fn healing() {
    for append_only in [false, true] {
        let order = |heal| {
            let order = order(1, Some(1));
            let directory = DirectoryConfig { append_only, ..DirectoryConfig::clone(&order.directory) };
            Order { heal, directory: Arc::new(directory), ..order }
        };
        let mut deploys = Deploys::default();
        let path = order(true).path;
        let (_, root) = order(true).committed.expect("it is there");
        let there = || Ok(DiskResult::Target(Some(Target { identity: root, empty: false })));
        let look = |deploys: &mut Deploys| tell(deploys, Input::Disk { path: path.clone(), result: there() });
        tell(&mut deploys, Input::Order(order(false)));
        let effects = look(&mut deploys);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Done { already: true, .. })), "{effects:?}");
        let mut deploys = Deploys::default();
        tell(&mut deploys, Input::Order(order(true)));
        let effects = look(&mut deploys);
        assert!(matches!(effects[..], [Effect::NeedIndex { .. }]), "{effects:?}");
        let id = order(true).image;
        let mut builder = ImageBuilder::new(HashKind::default());
        builder.directory("").expect("root");
        let image = Arc::new(builder.finish().expect("complete"));
        tell(&mut deploys, Input::Index { path: path.clone(), id, image });
        let staged =
            DiskResult::Staged { have: BlockSet::none(0), kept_bytes: 0, reused: Box::new(Reused::nothing(0)) };
        tell(&mut deploys, Input::Disk { path: path.clone(), result: Ok(staged) });
        tell(&mut deploys, Input::Fetched { path: path.clone(), bytes: 0, from: Vec::new() });
        let sealed = Sealed { root: FileIdentity { dev: 1, ino: 99 }, fingerprints: Vec::new() };
        tell(&mut deploys, Input::Disk { path: path.clone(), result: Ok(DiskResult::Sealed(sealed)) });
        let effects = look(&mut deploys);
        assert!(
            matches!(&effects[..], [Effect::PutIntent { intent, .. }] if intent.exchange),
            "append_only={append_only}: {effects:?}"
        );
    }
}
