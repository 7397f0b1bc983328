//! When it is over, and how.

use super::*;
use crate::model::origins::Origins;

const DONE: UploadResult = UploadResult::Done {
    already: false,
    bytes: Origins { linked: 0, copied: 0, kept: 1, fetched: 2 },
    sources: Vec::new(),
};

#[test]
fn three_nodes_do_as_they_are_told() {
    let mut world = World::accepted(&[1, 2, 3], rules());
    world.progress(1, "fetch", None);
    let waiting = |state: &str, waiting: Option<&str>| UploadResult::Waiting {
        state: state.to_owned(),
        waiting: waiting.map(str::to_owned),
        bytes_done: 5,
        bytes_total: 10,
    };
    assert_eq!(world.result(1), waiting("fetch", None));
    world.progress(1, "fetch", Some("no source"));
    assert_eq!(world.result(1), waiting("fetch", Some("no source")));
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "done");
    world.pass(100.0);
    assert_eq!(world.ending(), None);
    world.outcome(3, 1, "already");
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert_eq!((world.result(1), world.result(2)), (DONE, DONE));
    assert_eq!(
        world.result(3),
        UploadResult::Done {
            already: true,
            bytes: Origins { kept: 1, fetched: 2, ..Origins::default() },
            sources: Vec::new()
        }
    );
    assert_eq!(world.end.as_ref().map(|end| end.took), Some(Duration::from_secs(100)));
    assert_eq!(world.engine.deadline(), None);
}

#[test]
fn done_at_once_where_it_was_already() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    for n in [1, 2] {
        world.connect(n);
        world.answer(n, 1, |answer| (answer.verdict, answer.done) = (VerdictWord::Have, true));
    }
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert!(matches!(world.result(1), UploadResult::Done { already: true, .. }));
}

#[test]
fn every_upload_must_be_done() {
    let mut world = World::new(vec![upload(1), upload(2)], rules());
    world.found(&[1]);
    world.connect(1);
    world.accept(1, 1);
    world.accept(1, 2);
    world.outcome(1, 2, "done");
    assert_eq!(world.ending(), None);
    world.outcome(1, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn one_dead_address_is_named_and_costs_ten_seconds() {
    for refuses in [true, false] {
        let mut world = World::new(vec![upload(1)], rules());
        world.found(&[1, 2, 3]);
        for n in [1, 2] {
            world.connect(n);
            world.accept(n, 1);
            world.outcome(n, 1, "done");
        }
        for _ in 0..40 {
            if refuses && world.dialed.contains(&address(3)) {
                world.refuse_connection(3);
            }
            if world.end.is_none() {
                world.pass(0.25);
            }
        }
        assert_eq!(world.ending(), Some(&Ending::Done));
        assert_eq!(world.time, Duration::from_secs(10));
        let end = world.end.expect("ended");
        let down: Vec<_> = end.nodes.iter().filter(|node| node.down.is_some()).map(|node| node.address).collect();
        assert_eq!(down, [address(3)]);
        let told = |event: &&Event| matches!(event, Event::Unreachable { down: true, .. });
        assert_eq!(world.events.iter().filter(told).count(), 1);
    }
}

#[test]
fn require_all_waits_for_the_dead() {
    let all = Rules { require_all: true, ..rules() };
    let mut world = World::accepted(&[1, 2], all.clone());
    world.outcome(1, 1, "done");
    world.lose(2);
    world.pass(600.0);
    assert_eq!(world.ending(), None);
    world.connect(2);
    world.accept(2, 1);
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done));

    let mut world = World::accepted(&[1, 2], all);
    world.outcome(1, 1, "done");
    world.lose(2);
    world.pass(1799.0);
    assert_eq!(world.ending(), None);
    world.pass(2.0);
    assert_eq!(world.ending(), Some(&Ending::Late));
}

#[test]
fn require_all_wants_every_name() {
    for require_all in [false, true] {
        let mut world = World::with_names(&["a", "b"], vec![upload(1)], Rules { require_all, ..rules() });
        world.tell(Input::Resolved { name: "a".to_owned(), result: Ok(vec![address(1)]) });
        world.connect(1);
        world.accept(1, 1);
        world.outcome(1, 1, "done");
        assert_eq!(world.ending(), None, "b is not known yet");
        world.tell(Input::Resolved { name: "b".to_owned(), result: Err("no such name".to_owned()) });
        assert_eq!(world.ending(), Some(if require_all { &Ending::Late } else { &Ending::Done }));
        let end = world.end.expect("ended");
        assert_eq!(end.unresolved, [("b".to_owned(), "no such name".to_owned())]);
    }
}

#[test]
fn a_node_that_is_down_but_done_is_done() {
    for require_all in [false, true] {
        let mut world = World::accepted(&[1, 2], Rules { require_all, ..rules() });
        world.outcome(1, 1, "done");
        world.lose(1);
        world.pass(60.0);
        assert_eq!(world.ending(), None);
        assert!(world.dialed.is_empty(), "there is nothing more to do at a node that is done");
        world.outcome(2, 1, "done");
        assert_eq!(world.ending(), Some(&Ending::Done));
        assert!(world.end.expect("ended").nodes.iter().all(|node| node.down.is_none()));
    }
}

#[test]
fn nobody_there() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.refuse_connection(1);
    world.refuse_connection(2);
    world.pass(9.0);
    assert_eq!(world.ending(), None, "attempts are not over");
    world.pass(1.0);
    assert_eq!(world.ending(), Some(&Ending::Unreachable));
    assert_eq!(world.end.expect("ended").nodes[0].down.as_deref(), Some("nothing listens at node 1"));

    let mut world = World::new(vec![upload(1)], rules());
    let name = world.resolved.pop().expect("a question");
    world.tell(Input::Resolved { name, result: Err("no such name".to_owned()) });
    assert_eq!(world.ending(), Some(&Ending::Unreachable));
}

#[test]
fn all_that_accepted_it_die() {
    let mut world = World::accepted(&[1], rules());
    world.lose(1);
    world.pass(9.0);
    assert_eq!(world.ending(), None);
    world.pass(2.0);
    assert_eq!(world.ending(), Some(&Ending::Unreachable));

    // One upload is done, the other one nowhere.
    let mut world = World::new(vec![upload(1), upload(2)], rules());
    world.found(&[1, 2]);
    for n in [1, 2] {
        world.connect(n);
        world.accept(n, 1);
        world.outcome(n, 1, "done");
    }
    world.accept(1, 2);
    world.reject(2, 2, "no_config");
    world.lose(1);
    world.pass(11.0);
    assert_eq!(world.ending(), Some(&Ending::Unreachable));
}

#[test]
fn the_deadline() {
    let mut world = World::accepted(&[1, 2], Rules { deadline: Duration::from_secs(5), ..rules() });
    world.outcome(1, 1, "done");
    world.pass(4.9);
    assert_eq!(world.ending(), None);
    world.pass(0.2);
    assert_eq!(world.ending(), Some(&Ending::Late));
    assert!(matches!(world.result(2), UploadResult::Waiting { .. }));

    // Nobody was reached by then.
    let mut world = World::new(vec![upload(1)], Rules { deadline: Duration::from_secs(5), ..rules() });
    world.found(&[1]);
    world.pass(5.0);
    assert_eq!(world.ending(), Some(&Ending::Unreachable));
    let mut world = World::new(vec![upload(1)], Rules { deadline: Duration::from_secs(5), ..rules() });
    world.pass(5.0);
    assert_eq!(world.ending(), Some(&Ending::Unreachable), "no answer from the name server");
}

#[test]
fn the_early_rule() {
    let early = Rules { early_timeout: Some(Duration::from_mins(1)), early_hosts: 2, early_fraction: 0.5, ..rules() };
    let mut world = World::accepted(&[1, 2, 3], early.clone());
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "done");
    world.pass(59.0);
    assert_eq!(world.ending(), None);
    world.pass(1.0);
    assert_eq!(world.ending(), Some(&Ending::DoneEarly));

    // Enough only after the time has passed.
    let mut world = World::accepted(&[1, 2, 3], early.clone());
    world.outcome(1, 1, "done");
    world.pass(100.0);
    assert_eq!(world.ending(), None);
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::DoneEarly));

    // A refusal is never enough.
    let mut world = World::accepted(&[1, 2], early.clone());
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "failed");
    assert_eq!(world.ending(), Some(&Ending::Refused));
    let mut world = World::accepted(&[1, 2, 3], early.clone());
    world.outcome(1, 1, "failed");
    world.outcome(2, 1, "done");
    world.outcome(3, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Refused));

    // A fraction of all that are known, also of those which were never reached.
    let mut world = World::new(vec![upload(1)], Rules { early_fraction: 0.75, require_all: true, ..early });
    world.found(&[1, 2, 3]);
    for n in [1, 2] {
        world.connect(n);
        world.accept(n, 1);
        world.outcome(n, 1, "done");
    }
    world.pass(120.0);
    assert_eq!(world.ending(), None, "two of three are less than three quarters");
}

#[test]
fn nodes_without_the_directory_count_for_nothing() {
    let early = Rules { early_timeout: Some(Duration::from_mins(1)), early_hosts: 1, early_fraction: 1.0, ..rules() };
    let mut world = World::new(vec![upload(1)], early);
    world.found(&[1, 2]);
    world.connect(1);
    world.reject(1, 1, "no_config");
    world.connect(2);
    world.accept(2, 1);
    world.pass(70.0);
    assert_eq!(world.ending(), None, "nobody is done");
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn interrupted() {
    let mut world = World::accepted(&[1, 2], rules());
    world.outcome(1, 1, "done");
    world.tell(Input::Interrupted);
    assert_eq!(world.ending(), Some(&Ending::Interrupted));
    assert_eq!(world.result(1), DONE);
}

#[test]
fn a_source_that_is_lost() {
    let mut world = World::accepted(&[1, 2, 3], rules());
    world.outcome(1, 1, "done");
    let connection = world.connections[&2];
    let reason = || "f: changed after it was indexed".to_owned();
    world.tell(Input::NotServed { connection, image: image(9), reason: reason() });
    assert!(matches!(world.result(2), UploadResult::Waiting { .. }), "of another image");
    world.tell(Input::NotServed { connection, image: image(1), reason: reason() });
    world.tell(Input::NotServed { connection, image: image(1), reason: reason() });
    let told = |event: &&Event| matches!(event, Event::NotServed { .. });
    assert_eq!(world.events.iter().filter(told).count(), 1);
    assert_eq!(world.ending(), None, "the third may have everything already");
    world.outcome(3, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::SourceLost));
    assert_eq!(world.result(2), UploadResult::NotServed { reason: reason() });

    // It found the content elsewhere.
    let mut world = World::accepted(&[1, 2], rules());
    let connection = world.connections[&1];
    world.tell(Input::NotServed { connection, image: image(1), reason: reason() });
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done));
}
