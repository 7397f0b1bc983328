//! When changes are answered, and what holds after a write or an index turns out badly.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::format::change;
use crate::format::signature;
use crate::format::ssh::SecretKey;
use crate::format::wire::{Message, Notice, Notification, Request, Response, VerdictWord};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::{DiskAction, DiskResult, Sealed, Target};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::hash_kind::HashKind;
use crate::model::ids::MachineId;
use crate::model::image::{Image, ImageBuilder};
use crate::model::key::{NamedKey, Scheme, Signature};
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::Stamp;

pub(super) const C: ConnectionId = ConnectionId(1);
const END: End = End::Accepted { from: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5) };
pub(super) const D: ConnectionId = ConnectionId(2);

pub(super) fn secret() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn now() -> Now {
    Now { time: Time::new(Duration::from_secs(5)), stamp: Stamp(1_000_000) }
}

pub(super) fn node() -> Node {
    let directory = DirectoryConfig { append_only: false, ..DirectoryConfig::plain("key", "/srv") };
    let master = NamedKey { key: secret().public_key(), name: "master".into() };
    let directories = [("key".into(), Arc::new(directory))].into();
    let config = NodeConfig { directories, master_keys: vec![master], ..NodeConfig::default() };
    let host = Host { machine_id: MachineId::new([3; 16]), hostname: "n".into() };
    Node::new(Setup {
        host,
        cluster: None,
        version: "test",
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        incarnation: 1,
        key: None,
        random: [0; 32],
        config: Arc::new(config),
        snapshot: Snapshot::default(),
    })
}

pub(super) fn submit(n: u8, verb: Verb, stamp: u64) -> SignedChange {
    let path = "/key/a".parse().expect("valid");
    let image = Some(ImageId::new([n; 32]));
    let change = Change { cluster: None, verb, path, image, old_image: None, stamp: Stamp(stamp) };
    let message = change::signed_bytes(&change, Scheme::V2).expect("it can be signed");
    let bytes = signature::sign(&secret(), &message);
    let signature = Signature { scheme: Scheme::V2, key: Some(secret().public_key()), bytes };
    SignedChange::new(change, vec![signature])
}

pub(super) fn tell(node: &mut Node, input: Input) -> Vec<Effect> {
    let mut outbox = Outbox::new();
    node.handle(now(), input, &mut outbox);
    outbox.collect()
}

pub(super) fn connect(node: &mut Node, connection: ConnectionId) {
    tell(node, Input::Connected { connection, version: ProtocolVersion::V2, end: END });
}

fn ask(node: &mut Node, connection: ConnectionId, id: u64, change: SignedChange) -> Vec<Effect> {
    tell(node, Input::Message { connection, message: Message::Request { id, request: Request::SubmitChange(change) } })
}

/// Who got which verdict (`None`: an error).
fn answers(effects: &[Effect]) -> Vec<(ConnectionId, u64, Option<VerdictWord>)> {
    let answer = |effect: &Effect| match effect {
        Effect::Send { connection, message: Message::Response { id, response } } => match response {
            Response::SubmitChange(answer) => Some((*connection, *id, Some(answer.verdict))),
            _ => Some((*connection, *id, None)),
        },
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

fn writes(effects: &[Effect]) -> Vec<JobId> {
    effects.iter().filter_map(|effect| if let Effect::Write { job, .. } = effect { Some(*job) } else { None }).collect()
}

/// Carries everything out, with this answer for indexes; gives the outcomes and all rows.
fn settle(node: &mut Node, effects: Vec<Effect>, index: &Result<Arc<Image>, IndexProblem>) -> (Vec<String>, Vec<Row>) {
    let (mut todo, mut outcomes, mut rows) = (VecDeque::from(effects), Vec::new(), Vec::new());
    let sealed = Sealed { root: FileIdentity { dev: 1, ino: 7 }, fingerprints: Vec::new() };
    let slow_to_collect = SLOW_TO_COLLECT.get();
    let mut committed = node.status().paths.iter().any(|path| path.visible.is_some());
    while let Some(effect) = todo.pop_front() {
        let input = match effect {
            Effect::Write { job, rows: more } => {
                rows.extend(more);
                Input::Written { job, result: Ok(()) }
            }
            Effect::LoadIndex { image } => Input::IndexChecked { image, result: index.clone() },
            Effect::Disk { task, .. } if slow_to_collect && matches!(task.action, DiskAction::Collect { .. }) => {
                continue;
            }
            Effect::Disk { job, task } => {
                let result = match task.action {
                    DiskAction::Look => {
                        DiskResult::Target(committed.then_some(Target { identity: sealed.root, empty: false }))
                    }
                    DiskAction::Stage { .. } => DiskResult::Staged {
                        have: crate::model::block_set::BlockSet::none(0),
                        kept_bytes: 0,
                        reused: Box::new(crate::model::reuse::Reused::nothing(0)),
                    },
                    DiskAction::Seal { .. } => DiskResult::Sealed(sealed.clone()),
                    DiskAction::Swap { .. } => {
                        committed = true;
                        DiskResult::Done
                    }
                    _ => DiskResult::Done,
                };
                Input::Disk { job, result: Ok(result) }
            }
            Effect::Send { message: Message::Notification(Notification::Outcome(outcome)), .. } => {
                outcomes.push(outcome.result);
                continue;
            }
            _ => continue,
        };
        todo.extend(tell(node, input));
    }
    (outcomes, rows)
}

thread_local! {
    /// Whether removing what a swap left behind takes longer than the test.
    static SLOW_TO_COLLECT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What was told of the only node, each time: its result.
fn told(effects: Vec<Effect>) -> Vec<Option<String>> {
    let row = |effect| match effect {
        Effect::Send { message: Message::Notification(Notification::Cluster(Notice::Nodes(nodes))), .. } => {
            Some(nodes.nodes.last()?.result.clone())
        }
        _ => None,
    };
    effects.into_iter().filter_map(row).collect()
}

#[test]
fn what_is_done_stays_so_while_its_remains_are_removed() {
    let mut node = node();
    connect(&mut node, C);
    SLOW_TO_COLLECT.set(true);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    let (outcomes, _) = settle(&mut node, effects, &Ok(empty_image()));
    assert_eq!(outcomes, ["done"]);
    let (mut outbox, mut later) = (Outbox::new(), now());
    later.time = later.time + limits::PROGRESS_INTERVAL;
    node.handle_timeout(later, &mut outbox);
    assert_eq!(told(outbox.collect()).last(), Some(&Some("done".to_owned())));
    // Nor does anything later take it back.
    for _ in 0..3 {
        node.watch.touch(&"/key/a".parse().expect("valid"));
        later.time = later.time + limits::PROGRESS_INTERVAL;
        let mut outbox = Outbox::new();
        node.handle_timeout(later, &mut outbox);
        assert!(!told(outbox.collect()).contains(&None));
    }
}

/// A node on which image 1 is visible.
pub(super) fn deployed() -> Node {
    let mut node = node();
    connect(&mut node, C);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    settle(&mut node, effects, &Ok(empty_image()));
    node
}

fn empty_image() -> Arc<Image> {
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("root");
    Arc::new(builder.finish().expect("complete"))
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut node = node();
    connect(&mut node, C);
    connect(&mut node, D);
    let first = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    assert_eq!(answers(&first), []);
    // The same from somebody else, while the write is under way.
    let second = ask(&mut node, D, 9, submit(1, Verb::Append, 5));
    assert_eq!(answers(&second), []);
    let [first, second] = [writes(&first)[0], writes(&second)[0]];
    let effects = tell(&mut node, Input::Written { job: first, result: Ok(()) });
    assert_eq!(answers(&effects), [(C, 1, Some(VerdictWord::Accept))]);
    let effects = tell(&mut node, Input::Written { job: second, result: Ok(()) });
    assert_eq!(answers(&effects), [(D, 9, Some(VerdictWord::Have))]);
    let third = ask(&mut node, C, 2, submit(1, Verb::Append, 5));
    assert_eq!(answers(&third), [(C, 2, Some(VerdictWord::Have))]);
}

#[test]
fn a_write_that_fails_takes_the_change_back() {
    let mut node = node();
    connect(&mut node, C);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    let effects = tell(
        &mut node,
        Input::Written {
            job: writes(&effects)[0],
            result: Err(Failure { kind: FailureKind::NoSpace, text: "full".to_owned() }),
        },
    );
    assert_eq!(answers(&effects), [(C, 1, None)]);
    assert!(node.status().paths.is_empty());
    let effects = ask(&mut node, C, 2, submit(2, Verb::Append, 6));
    let (outcomes, _) = settle(&mut node, effects, &Ok(empty_image()));
    assert_eq!(outcomes, ["done"]);
}

#[test]
fn an_unusable_image_gives_way() {
    let unusable = || Err(IndexProblem::Unusable("bad names".to_owned()));
    let mut node = node();
    connect(&mut node, C);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    let (outcomes, rows) = settle(&mut node, effects, &unusable());
    assert_eq!(outcomes, ["failed"]);
    assert!(matches!(rows.last(), Some(Row::NoHead { .. })), "{rows:?}");
    assert!(node.status().paths.is_empty());
    let effects = ask(&mut node, C, 2, submit(2, Verb::Append, 6));
    assert_eq!(settle(&mut node, effects, &Ok(empty_image())).0, ["done"]);
    // In the place of a good one: that one holds again, also after a restart.
    let effects = ask(&mut node, C, 3, submit(3, Verb::Replace, 7));
    let (outcomes, rows) = settle(&mut node, effects, &unusable());
    assert_eq!(outcomes, ["failed", "already"], "what holds again is looked at");
    let Some(Row::Head { record, .. }) = rows.last() else { panic!("{rows:?}") };
    assert_eq!(record.change.change.image, Some(ImageId::new([2; 32])));
    assert_eq!(node.status().paths[0].state, "done");
}

#[test]
fn the_gone_are_not_spoken_to() {
    let mut node = node();
    connect(&mut node, C);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    tell(&mut node, Input::Disconnected { connection: C });
    let effects = tell(&mut node, Input::Written { job: writes(&effects)[0], result: Ok(()) });
    assert_eq!(answers(&effects), []);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { .. })));
}

/// What the database holds after these rows.
fn snapshot(rows: Vec<Row>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for row in rows {
        match row {
            Row::Head { path, record } => drop(snapshot.heads.insert(path, record)),
            Row::NoHead { path } => drop(snapshot.heads.remove(&path)),
            Row::Intent { path, record } => drop(snapshot.intents.insert(path, record)),
            Row::Incarnation(_) => {}
            Row::Scrubbed { path, verdict, .. } => _ = snapshot.scrubbed.insert(path, verdict),
            Row::NoPrevious { path, .. } => {
                if let Some(record) = snapshot.committed.get_mut(&path) {
                    record.previous = None;
                }
            }
            Row::NotCommitted { path } => drop(snapshot.committed.remove(&path)),
            Row::Damaged { path, record } => _ = snapshot.damaged.insert(path, record),
            Row::Committed { path, record, .. } => {
                snapshot.intents.remove(&path);
                snapshot.committed.insert(path, record);
            }
        }
    }
    snapshot
}

/// Two that can't be used, one after the other, in the place of one that is visible: that one holds again.
#[test]
fn what_is_visible_outlasts_several_that_are_unusable() {
    let unusable = Err(IndexProblem::Unusable("bad names".to_owned()));
    let mut node = node();
    connect(&mut node, C);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Replace, 5));
    settle(&mut node, effects, &Ok(empty_image()));
    let waiting = |node: &mut Node, n: u8| {
        let effects = ask(node, C, u64::from(n), submit(n, Verb::Replace, 10 + u64::from(n)));
        tell(node, Input::Written { job: writes(&effects)[0], result: Ok(()) })
    };
    let mut effects = waiting(&mut node, 2);
    effects.extend(waiting(&mut node, 3));
    let (_, rows) = settle(&mut node, effects, &unusable);
    let Some(Row::Head { record, .. }) = rows.last() else { panic!("{rows:?}") };
    assert_eq!(record.change.change.image, Some(ImageId::new([1; 32])));
    // One that couldn't be written down leaves the one that waits.
    let effects = waiting(&mut node, 4);
    let unwritten = ask(&mut node, C, 5, submit(5, Verb::Replace, 20));
    tell(
        &mut node,
        Input::Written {
            job: writes(&unwritten)[0],
            result: Err(Failure { kind: FailureKind::NoSpace, text: "disk full".to_owned() }),
        },
    );
    let (outcomes, _) = settle(&mut node, effects, &Ok(empty_image()));
    assert_eq!(outcomes, ["done"]);
    assert_eq!(node.status().paths[0].visible, Some(ImageId::new([4; 32])));
}

#[test]
fn what_held_before_is_known_after_a_restart() {
    let mut first = node();
    connect(&mut first, C);
    let effects = ask(&mut first, C, 1, submit(1, Verb::Append, 5));
    let (_, mut rows) = settle(&mut first, effects, &Ok(empty_image()));
    rows.extend(ask(&mut first, C, 2, submit(2, Verb::Replace, 6)).into_iter().flat_map(|effect| match effect {
        Effect::Write { rows, .. } => rows,
        _ => Vec::new(),
    }));
    let mut second = node();
    second.heads = Heads::new(snapshot(rows));
    let mut outbox = Outbox::new();
    second.start(now(), &mut outbox);
    let unusable = Err(IndexProblem::Unusable("bad names".to_owned()));
    let (_, rows) = settle(&mut second, outbox.collect(), &unusable);
    let Some(Row::Head { record, .. }) = rows.last() else { panic!("{rows:?}") };
    assert_eq!(record.change.change.image, Some(ImageId::new([1; 32])));
}

#[test]
fn a_directory_that_is_taken_from_the_configuration_gets_nothing_until_it_returns() {
    let mut node = node();
    connect(&mut node, C);
    let effects = ask(&mut node, C, 1, submit(1, Verb::Append, 5));
    let effects = tell(&mut node, Input::Written { job: writes(&effects)[0], result: Ok(()) });
    let config = node.config.clone();
    tell(&mut node, Input::Configured(Arc::new(NodeConfig { directories: BTreeMap::new(), ..(*config).clone() })));
    let (outcomes, rows) = settle(&mut node, effects, &Ok(empty_image()));
    assert_eq!((&outcomes[..], rows.len()), (&["failed".to_owned()][..], 0));
    assert_eq!(node.deploys.len(), 0);
    let effects = tell(&mut node, Input::Configured(config));
    let (outcomes, _) = settle(&mut node, effects, &Ok(empty_image()));
    assert_eq!(outcomes, ["done"]);
}
