//! Nodes that the client isn't connected to.

use super::*;
use crate::format::wire::{NodeReport, Nodes};
use crate::model::origins::Origins;

/// How node `n` fares: `done`, another result, or a state; `down` as the others see it.
pub(super) fn report(n: u8, word: &str) -> NodeReport {
    let state = matches!(word, "unknown" | "fetch" | "down");
    NodeReport {
        host: host(n),
        address: address(n).to_string().into(),
        alive: word != "down",
        state: if state { word } else { "ended" }.to_owned(),
        result: (!state).then(|| word.to_owned()),
        reason: None,
        waiting: None,
        bytes_done: 5,
        bytes_total: 10,
        bytes: Origins { kept: 0, fetched: 10, ..Origins::default() },
        sources: Vec::new(),
    }
}

impl World {
    /// Node `n` tells of others, that is of all of `total`.
    pub(super) fn tell_nodes(&mut self, n: u8, total: u64, nodes: &[(u8, &str)]) {
        let nodes = nodes.iter().map(|(n, word)| report(*n, word)).collect();
        let change = change::id(&self.asked(n, 1).change);
        let nodes = Nodes { path: upload(1).path, image: image(1), change, total, nodes, complete: true };
        self.hear(n, Notification::Cluster(Notice::Nodes(nodes)));
    }

    fn results(&self) -> Vec<(u8, bool, bool)> {
        let summary = self.end.clone().unwrap_or_else(|| self.engine.status());
        let number = |address: SocketAddr| (1..=50).find(|n| super::address(*n) == address).expect("one of ours");
        let one = |node: &super::super::NodeResult| (number(node.address), node.is_done(), node.down.is_some());
        summary.nodes.iter().map(one).collect()
    }
}

#[test]
fn it_ends_when_every_node_is_done_or_down() {
    let mut world = World::accepted(&[1, 2], rules());
    world.tell_nodes(1, 4, &[(1, "fetch"), (2, "fetch"), (3, "unknown"), (4, "fetch")]);
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), None, "two are at work");
    assert_eq!(world.engine.status().known().count(), 4);
    world.tell_nodes(1, 4, &[(3, "done")]);
    assert_eq!(world.ending(), None);
    assert!(world.events.iter().any(|event| matches!(event, Event::Ended { address: a, .. } if *a == address(3))));
    world.tell_nodes(1, 4, &[(1, "done"), (2, "done"), (4, "down")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert_eq!(world.results(), [(1, true, false), (2, true, false), (3, true, false), (4, false, true)]);
    let end = world.end.expect("ended");
    assert!(end.nodes[3].followed && end.nodes[3].down.is_some());
}

#[test]
fn it_does_not_end_before_all_were_told_of() {
    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 300, &[(1, "done")]);
    world.outcome(1, 1, "done");
    assert_eq!(world.ending(), None, "299 more");
    world.tell_nodes(1, 2, &[(2, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
    // A node that names addresses will tell.
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    world.answer(1, 1, |answer| answer.addresses = vec![address(2)]);
    world.outcome(1, 1, "done");
    assert_eq!(world.ending(), None, "it hasn't told yet");
    world.tell_nodes(1, 2, &[(1, "done"), (2, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn a_failure_elsewhere_is_a_failure() {
    let mut world = World::accepted(&[1], rules());
    world.outcome(1, 1, "failed");
    assert_eq!(world.ending(), Some(&Ending::Refused));
    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "failed"), (3, "fetch")]);
    world.outcome(1, 1, "done");
    assert_eq!(world.ending(), None, "the others go on");
    world.tell_nodes(1, 3, &[(1, "done"), (3, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Refused));
    let reason = "failed".to_owned();
    assert_eq!(world.result(2), UploadResult::Aborted { result: reason.clone(), reason });
}

#[test]
fn require_all_waits_for_those_that_are_down() {
    let mut world = World::accepted(&[1], Rules { require_all: true, ..rules() });
    world.tell_nodes(1, 2, &[(1, "done"), (2, "down")]);
    world.outcome(1, 1, "done");
    assert_eq!(world.ending(), None);
    world.tell_nodes(1, 2, &[(2, "fetch")]);
    world.tell_nodes(1, 2, &[(2, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn nodes_of_other_changes_are_passed_over() {
    let mut world = World::accepted(&[1], rules());
    let mut nodes = Nodes {
        path: upload(1).path,
        image: image(1),
        change: ChangeId::new([9; 32]),
        total: 2,
        nodes: vec![report(2, "superseded")],
        complete: true,
    };
    world.hear(1, Notification::Cluster(Notice::Nodes(nodes.clone())));
    nodes.image = image(7);
    world.hear(1, Notification::Cluster(Notice::Nodes(nodes.clone())));
    assert_eq!(world.engine.status().nodes.len(), 1);
    // A node that had the image already names the change which brought it.
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    world.answer(1, 1, |answer| answer.verdict = VerdictWord::Have);
    nodes.image = image(1);
    world.hear(1, Notification::Cluster(Notice::Nodes(nodes)));
    assert_eq!(world.engine.status().nodes.len(), 2);
}

#[test]
fn what_others_tell_of_a_node_out_of_our_reach() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.connect(1);
    world.accept(1, 1);
    world.connect(2);
    world.accept(2, 1);
    world.tell_nodes(1, 2, &[(1, "done"), (2, "fetch")]);
    world.outcome(1, 1, "done");
    world.lose(2);
    for _ in 0..60 {
        world.pass(0.5);
        if world.dialed.contains(&address(2)) {
            world.refuse_connection(2);
        }
    }
    assert_eq!(world.ending(), None, "it lives and works");
    assert_eq!(world.results(), [(1, true, false), (2, false, false)]);
    world.tell_nodes(1, 2, &[(2, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert_eq!(world.results(), [(1, true, false), (2, true, false)]);
}

#[test]
fn a_node_is_known_by_another_address() {
    let mut world = World::accepted(&[1], rules());
    let behind = NodeReport { address: address(40).to_string().into(), ..report(1, "fetch") };
    let change = change::id(&world.asked(1, 1).change);
    let nodes = Nodes { path: upload(1).path, image: image(1), change, total: 1, nodes: vec![behind], complete: true };
    world.hear(1, Notification::Cluster(Notice::Nodes(nodes)));
    assert_eq!(world.results(), [(1, false, false)], "it is one node");
}

#[test]
fn when_an_entry_node_dies_another_one_tells() {
    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "fetch"), (3, "down")]);
    world.lose(1);
    assert!(world.dialed.is_empty(), "it may be back at once");
    world.pass(0.25);
    world.refuse_connection(1);
    assert_eq!(world.dialed, [address(2)], "the one that lives");
    world.connect(2);
    world.answer(2, 1, |answer| answer.verdict = VerdictWord::Have);
    assert_eq!(world.shares.get(&(2, image(1))), Some(&(0, 1)));
    world.tell_nodes(2, 3, &[(1, "down"), (2, "fetch"), (3, "down")]);
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), None);
    world.tell_nodes(2, 3, &[(2, "done"), (3, "fetch")]);
    world.pass(20.0);
    assert_eq!(world.ending(), None, "the third is back and at work");
    world.tell_nodes(2, 3, &[(3, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert_eq!(world.results(), [(1, false, true), (2, true, false), (3, true, false)]);
}

/// The only one that is connected has no room: another one is connected, too, so that it can fetch.
#[test]
fn who_waits_is_not_the_only_one_that_is_connected() {
    let mut world = World::accepted(&[1], rules());
    let before = world.dialed.len();
    world.tell_nodes(1, 2, &[(1, "fetch"), (2, "fetch")]);
    assert_eq!(world.dialed.len(), before);
    world.progress(1, "fetch", Some("the disk is full"));
    assert_eq!(world.dialed[before..], [address(2)]);
    world.connect(2);
    world.accept(2, 1);
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), None);
}

/// Whether there are others, the verdict says.
#[test]
fn an_outcome_before_the_verdict_is_no_end() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    world.outcome(1, 1, "already");
    assert_eq!(world.ending(), None);
    world.answer(1, 1, |answer| {
        answer.verdict = VerdictWord::Have;
        answer.addresses = vec![address(2)];
    });
    assert_eq!(world.ending(), None, "another one carries it");
    world.tell_nodes(1, 2, &[(1, "already"), (2, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn nodes_that_are_done_are_asked_again_for_what_they_tell() {
    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 2, &[(1, "fetch"), (2, "fetch")]);
    world.outcome(1, 1, "done");
    world.lose(1);
    assert_eq!(
        world.result(1),
        UploadResult::Done {
            already: false,
            bytes: Origins { kept: 1, fetched: 2, ..Origins::default() },
            sources: Vec::new()
        }
    );
    world.pass(0.25);
    world.connect(1);
    world.answer(1, 1, |answer| answer.verdict = VerdictWord::Have);
    let ends = |world: &World| world.events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    let before = ends(&world);
    world.outcome(1, 1, "already");
    assert_eq!(ends(&world), before, "that is no news");
    assert_eq!(world.ending(), None);
    world.tell_nodes(1, 2, &[(1, "already"), (2, "done")]);
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert_eq!(
        world.result(1),
        UploadResult::Done {
            already: false,
            bytes: Origins { kept: 1, fetched: 2, ..Origins::default() },
            sources: Vec::new()
        }
    );
}

#[test]
fn an_end_is_told_once_by_others_or_by_the_node_itself() {
    let mut world = World::accepted(&[1, 2], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "fetch"), (3, "fetch")]);
    world.lose(2);
    world.tell_nodes(1, 3, &[(2, "done")]);
    let ends = |world: &World, n: u8| {
        let is_end = |event: &&Event| matches!(event, Event::Ended { address: a, .. } if *a == address(n));
        world.events.iter().filter(is_end).count()
    };
    assert_eq!(ends(&world, 2), 1);
    world.pass(0.25);
    world.connect(2);
    world.answer(2, 1, |answer| answer.verdict = VerdictWord::Have);
    world.outcome(2, 1, "already");
    assert_eq!(ends(&world, 2), 1, "the others had told of it");
    world.outcome(1, 1, "done");
    world.lose(1);
    world.tell_nodes(2, 3, &[(1, "done"), (2, "done"), (3, "done")]);
    assert_eq!([ends(&world, 1), ends(&world, 2), ends(&world, 3)], [1, 1, 1]);
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn who_was_denied_waits_for_nobody_who_would_tell() {
    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "unknown"), (3, "unknown")]);
    world.lose(1);
    world.pass(0.25);
    world.connect(1);
    world.answer(1, 1, |answer| {
        answer.verdict = VerdictWord::Refused;
        answer.reject_reason = Some("already_uploading_different_version".to_owned());
    });
    assert_eq!(world.ending(), Some(&Ending::Refused));
}

#[test]
fn when_nobody_can_be_reached_any_more_it_ends() {
    let nodes: Vec<u8> = (1..=40).collect();
    for silent in [false, true] {
        let mut world = World::accepted(&[1, 2, 3], rules());
        let told: Vec<_> = nodes.iter().map(|n| (*n, "fetch")).collect();
        world.tell_nodes(1, 40, &told);
        world.outcome(1, 1, "done");
        for n in [1, 2, 3] {
            world.lose(n);
        }
        while world.end.is_none() {
            match world.dialed.first() {
                Some(next) if !silent => {
                    let next = nodes.iter().find(|n| address(**n) == *next).expect("one of ours");
                    world.refuse_connection(*next);
                }
                _ => world.pass(0.25),
            }
        }
        assert_eq!(world.ending(), Some(&Ending::Unreachable), "39 are at work, as far as is known");
        assert!(world.time <= Duration::from_mins(2), "{:?}", world.time);
    }
    // All that there was to be known is known.
    let mut world = World::accepted(&[1, 2], rules());
    world.tell_nodes(1, 2, &[(1, "fetch"), (2, "fetch")]);
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "done");
    world.lose(1);
    world.lose(2);
    world.pass(30.0);
    assert_eq!(world.ending(), Some(&Ending::Done));
}
