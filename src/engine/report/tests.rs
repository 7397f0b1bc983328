//! Reports between nodes over a network that loses, doubles and reorders: every watcher ends with the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::contract::{Engine, Outbox};
use crate::format::report::Standing;
use crate::format::wire::NodeReport;
use crate::model::change::Rank;
use crate::model::ids::{ChangeId, ImageId, MachineId};
use crate::model::limits;
use crate::model::peer::{NodeId, NodeInfo};
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

fn node(n: u8) -> NodeId {
    NodeId { address: ([10, 0, 0, n], 1).into(), machine_id: MachineId::new([n; 16]), incarnation: 1 }
}

fn info(n: u8) -> NodeInfo {
    let hostname = format!("n{n}").into();
    NodeInfo { hostname, version: "0".into(), directories: vec!["key".into()] }
}

fn path() -> VPath {
    "/key/a".parse().expect("valid")
}

const CHANGE: ChangeId = ChangeId::new([1; 32]);
const RANK: Rank = Rank { stamp: Stamp(7), id: CHANGE, overrides: false };
const IMAGE: ImageId = ImageId::new([2; 32]);

fn state(state: &str, done: u64) -> Standing {
    let result = (state == "done").then(|| "done".to_owned());
    Standing { state: state.to_owned(), result, bytes_done: done, bytes_total: 100, ..Standing::default() }
}

fn at(milliseconds: u64) -> Now {
    Now { time: Time::new(Duration::from_millis(milliseconds)), stamp: Stamp(0) }
}

fn tell(reporting: &mut Reporting, now: Now, input: Input) -> Vec<Effect> {
    let mut outbox = Outbox::new();
    reporting.handle(now, input, &mut outbox);
    outbox.collect()
}

fn watched(n: u8, on: bool) -> Input {
    Input::Watched { node: node(n), path: path(), change: RANK, on }
}

fn stands(standing: Standing) -> Input {
    Input::Standing { path: path(), change: CHANGE, standing }
}

fn numbers(effects: &[Effect]) -> Vec<(u64, Option<u64>)> {
    let number = |effect: &Effect| match effect {
        Effect::Send { number, replaces, .. } => (*number, *replaces),
        Effect::Forget { number, .. } => (*number, Some(0)),
    };
    effects.iter().map(number).collect()
}

#[test]
fn each_watcher_hears_of_changes_only() {
    let mut reporting = Reporting::default();
    assert!(tell(&mut reporting, at(0), stands(state("index", 0))).is_empty(), "nobody watches");
    assert!(tell(&mut reporting, at(0), watched(1, true)).is_empty(), "nothing is known yet");
    assert_eq!(numbers(&tell(&mut reporting, at(0), stands(state("index", 0)))), [(1, None)]);
    assert!(tell(&mut reporting, at(0), stands(state("index", 0))).is_empty());
    assert_eq!(numbers(&tell(&mut reporting, at(0), watched(2, true))), [(2, None)]);
    assert!(tell(&mut reporting, at(0), watched(2, true)).is_empty());
    assert_eq!(reporting.watched(&path()).collect::<Vec<_>>(), [RANK]);
    tell(&mut reporting, at(0), Input::Acked { node: node(1), number: 1 });
    // The second one didn't acknowledge: the new report takes the old one's place.
    assert_eq!(numbers(&tell(&mut reporting, at(0), stands(state("fetch", 0)))), [(3, None), (4, Some(2))]);
    // Late, and of no use any more.
    tell(&mut reporting, at(0), Input::Acked { node: node(2), number: 2 });
    assert_eq!(reporting.open(), 2);
    assert_eq!(numbers(&tell(&mut reporting, at(0), watched(1, false))), [(3, Some(0))]);
    assert_eq!(numbers(&tell(&mut reporting, at(0), Input::Down { node: node(2) })), [(4, Some(0))]);
    assert_eq!((reporting.open(), reporting.watched(&path()).count()), (0, 0));
    assert!(tell(&mut reporting, at(0), stands(state("done", 100))).is_empty());
}

#[test]
fn progress_is_told_now_and_then_and_ends_at_once() {
    let mut reporting = Reporting::default();
    tell(&mut reporting, at(0), watched(1, true));
    let mut sent = tell(&mut reporting, at(0), stands(state("fetch", 0))).len();
    for millisecond in 1..=10_000_u64 {
        sent += tell(&mut reporting, at(millisecond), stands(state("fetch", millisecond))).len();
        if reporting.deadline().is_some_and(|(due, _)| due <= at(millisecond).time) {
            let mut outbox = Outbox::new();
            reporting.handle_timeout(at(millisecond), &mut outbox);
            sent += outbox.count();
        }
    }
    assert_eq!(sent, 6);
    assert_eq!(tell(&mut reporting, at(10_001), stands(state("done", 100))).len(), 1);
    assert_eq!(reporting.deadline(), None);
}

fn watching(nodes: &[u8]) -> Watching {
    let mut watching = Watching::default();
    for n in nodes {
        watching.member(node(*n), &info(*n), true);
    }
    assert!(watching.watch(&path(), CHANGE, IMAGE));
    watching
}

fn news(watching: &Watching, since: u64) -> (Vec<NodeReport>, u64) {
    watching.news(&path(), CHANGE, since).map_or((Vec::new(), since), |(nodes, next)| (nodes.nodes, next))
}

fn states(reports: &[NodeReport]) -> Vec<(&str, &str, bool)> {
    reports.iter().map(|report| (&*report.host.hostname, &*report.state, report.alive)).collect()
}

fn body(standing: &Standing) -> Vec<u8> {
    crate::format::report::encode(&CHANGE, standing)
}

#[test]
fn the_client_is_told_of_all_and_then_of_news() {
    let mut watching = watching(&[1, 2]);
    let elsewhere = NodeInfo { directories: vec!["other".into()], ..info(9) };
    watching.member(node(9), &elsewhere, true);
    let (nodes, next) = watching.news(&path(), CHANGE, 0).expect("news");
    assert_eq!((nodes.total, nodes.complete, nodes.image), (2, true, IMAGE));
    assert_eq!(states(&nodes.nodes), [("n1", "unknown", true), ("n2", "unknown", true)]);
    assert_eq!(watching.news(&path(), CHANGE, next), None);

    assert!(watching.received(node(2), 7, &body(&state("fetch", 5))).is_some());
    watching.local(node(1), &path(), CHANGE, state("done", 100));
    let (reports, next) = news(&watching, next);
    assert_eq!(states(&reports), [("n2", "fetch", true), ("n1", "done", true)]);
    // Older, the same, of another change, not a report.
    assert!(watching.received(node(2), 6, &body(&state("index", 0))).is_none());
    assert!(watching.received(node(2), 7, &body(&state("index", 0))).is_none());
    assert!(watching.received(node(2), 8, &body(&state("fetch", 5))).is_none());
    assert!(
        watching
            .received(node(2), 9, &crate::format::report::encode(&ChangeId::new([8; 32]), &state("x", 0)))
            .is_none()
    );
    assert!(watching.received(node(2), 10, b"?").is_none());
    assert_eq!(watching.news(&path(), CHANGE, next), None);

    // A node that membership tells of only later, one that goes down and comes back.
    assert!(watching.received(node(3), 1, &body(&state("queued", 0))).is_some());
    watching.member(node(3), &info(3), true);
    watching.member(node(2), &info(2), false);
    let (reports, next) = news(&watching, next);
    assert_eq!(states(&reports), [("n3", "queued", true), ("n2", "fetch", false)]);
    let again = NodeId { incarnation: 2, ..node(2) };
    watching.member(again, &info(2), true);
    watching.member(node(2), &info(2), false);
    assert!(watching.received(again, 1, &body(&state("done", 100))).is_some());
    assert!(watching.received(node(2), 99, &body(&state("fetch", 50))).is_none(), "from before its restart");
    let (reports, next) = news(&watching, next);
    assert_eq!(states(&reports), [("n2", "done", true)]);
    watching.forgotten(node(3));
    assert_eq!(states(&news(&watching, next).0), [("n3", "queued", false)]);
    watching.unwatch(&path(), CHANGE);
    assert_eq!(watching.news(&path(), CHANGE, 0), None);
}

#[test]
fn many_nodes_take_several_messages() {
    let mut watching = Watching::default();
    watching.watch(&path(), CHANGE, IMAGE);
    for n in 0..700_u16 {
        let node = NodeId { address: ([10, 0, 0, 1], n + 1).into(), ..node(1) };
        watching.member(node, &info(1), true);
    }
    let (mut since, mut told, mut messages) = (0, 0, 0);
    while let Some((nodes, next)) = watching.news(&path(), CHANGE, since) {
        assert_eq!((nodes.complete, nodes.total), (messages == 2, 700));
        (since, told, messages) = (next, told + nodes.nodes.len(), messages + 1);
    }
    assert_eq!((told, messages), (700, 3));
}

proptest! {
    /// Whatever gets lost, doubled or overtaken: what is repeated until it is acknowledged makes all watchers right.
    #[test]
    fn watchers_end_with_the_truth(steps in prop::collection::vec((0_u8..8, any::<prop::sample::Index>(), 0_u64..4), 1..80)) {
        let mut reporting = Reporting::default();
        let mut watchers: BTreeMap<u8, Watching> = [1, 2].map(|n| (n, watching(&[1, 2, 3]))).into();
        // What gossip would repeat, and copies of what it sent that are still on their way.
        let mut repeated: BTreeMap<(NodeId, u64), Vec<u8>> = BTreeMap::new();
        let mut flying: Vec<(NodeId, u64, Vec<u8>)> = Vec::new();
        let (mut on, mut now, mut last) = (BTreeSet::new(), 0, None);
        let carry_out = |effects: Vec<Effect>, repeated: &mut BTreeMap<(NodeId, u64), Vec<u8>>| {
            for effect in effects {
                match effect {
                    Effect::Send { to, number, replaces, body } => {
                        assert!(body.len() <= limits::REPORT_BYTES_MAX);
                        replaces.map(|replaced| repeated.remove(&(to, replaced)));
                        repeated.insert((to, number), body);
                    }
                    Effect::Forget { to, number } => drop(repeated.remove(&(to, number)).expect("it was sent")),
                }
            }
        };
        for (what, which, bytes) in steps {
            now += 700;
            let effects = match what {
                0 | 1 => {
                    let node = 1 + what;
                    let watches = bytes > 0;
                    if watches { on.insert(node) } else { on.remove(&node) };
                    let mut effects = tell(&mut reporting, at(now), watched(node, watches));
                    if let Some(standing) = last.clone() {
                        effects.extend(tell(&mut reporting, at(now), stands(standing)));
                    }
                    effects
                }
                2 | 3 => {
                    let standing = state(if what == 2 { "fetch" } else { "seal" }, bytes);
                    last = Some(standing.clone());
                    tell(&mut reporting, at(now), stands(standing))
                }
                4 | 5 => {
                    flying.extend(repeated.iter().map(|((to, number), body)| (*to, *number, body.clone())));
                    Vec::new()
                }
                _ if flying.is_empty() => Vec::new(),
                _ => {
                    let (to, number, body) = flying.swap_remove(which.index(flying.len()));
                    let watching = watchers.get_mut(&to.machine_id.as_bytes()[0]).expect("one of the two");
                    watching.received(node(3), number, &body);
                    repeated.remove(&(to, number));
                    tell(&mut reporting, at(now), Input::Acked { node: to, number })
                }
            };
            carry_out(effects, &mut repeated);
            prop_assert_eq!(repeated.len(), reporting.open());
        }
        let mut outbox = Outbox::new();
        reporting.handle_timeout(at(now + 10_000), &mut outbox);
        carry_out(outbox.collect(), &mut repeated);
        for ((to, number), body) in &repeated {
            watchers.get_mut(&to.machine_id.as_bytes()[0]).expect("one of the two").received(node(3), *number, body);
        }
        for n in on {
            let (reports, _) = news(&watchers[&n], 0);
            let told = reports.iter().find(|report| &*report.host.hostname == "n3").expect("a row");
            let expected = last.as_ref().map_or(("unknown", 0), |standing| (&*standing.state, standing.bytes_done));
            prop_assert_eq!((&*told.state, told.bytes_done), expected);
        }
    }
}
