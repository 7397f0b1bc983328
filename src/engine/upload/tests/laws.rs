//! The contract's laws, under inputs in any order.

use proptest::prelude::*;

use super::*;

/// One thing that happens, to a node of a few.
#[derive(Debug, Clone)]
enum Step {
    Connect(u8),
    Fail(u8),
    Hello(u8, u8),
    Lose(u8),
    Verdict(u8, u8, u8),
    Outcome(u8, u8, bool),
    NotServed(u8),
    Nodes(u8, u8, u8),
    Pieces(u8, u8),
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 1_u8..=4;
    let step = prop_oneof![
        4 => node().prop_map(Step::Connect),
        1 => node().prop_map(Step::Fail),
        4 => (node(), 1_u8..=3).prop_map(|(n, machine)| Step::Hello(n, machine)),
        1 => node().prop_map(Step::Lose),
        4 => (node(), 1_u8..=2, 0_u8..7).prop_map(|(n, upload, verdict)| Step::Verdict(n, upload, verdict)),
        3 => (node(), 1_u8..=2, any::<bool>()).prop_map(|(n, upload, good)| Step::Outcome(n, upload, good)),
        1 => node().prop_map(Step::NotServed),
        3 => (node(), 1_u8..=6, 0_u8..4).prop_map(|(n, of, kind)| Step::Nodes(n, of, kind)),
        1 => (node(), any::<u8>()).prop_map(|(n, have)| Step::Pieces(n, have)),
        2 => (0_u16..15_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

fn verdict(answer: &mut SubmitAnswer, kind: u8) {
    let (verdict, word) = match kind {
        0 | 1 => (VerdictWord::Accept, None),
        2 => (VerdictWord::Have, None),
        3 => (VerdictWord::Refused, Some("no_config")),
        4 => (VerdictWord::Refused, Some("already_exists")),
        5 => (VerdictWord::Superseded, Some("stale")),
        _ => (VerdictWord::Refused, None),
    };
    (answer.verdict, answer.reject_reason) = (verdict, word.map(str::to_owned));
    answer.done = kind == 2;
    answer.stamp = (kind == 5).then_some(Stamp(CLOCK_AT_START + 20_000));
    if kind == 3 {
        answer.hosts = [(host(9).machine_id, host(9).hostname)].into();
    }
}

fn run(steps: &[Step], require_all: bool) -> (World, Vec<String>) {
    let early_timeout = require_all.then_some(Duration::from_secs(20));
    let rules = Rules { require_all, early_timeout, early_hosts: 1, deadline: Duration::from_mins(2), ..rules() };
    let mut world = World::new(vec![upload(1), Upload { weak: true, ..upload(2) }], rules);
    world.found(&[1, 2, 3, 4]);
    let mut trace = Vec::new();
    for step in steps {
        if world.end.is_some() {
            break;
        }
        take(&mut world, step);
        trace.push(format!("{:?} {:?}", world.engine.deadline(), world.engine.status()));
    }
    (world, trace)
}

fn take(world: &mut World, step: &Step) {
    let is_connected = |world: &World, n: u8| world.connections.contains_key(&n);
    let is_submitted =
        |world: &World, n: u8| is_connected(world, n) && world.submitted.contains_key(&(n, "/key/1".to_owned()));
    match *step {
        Step::Connect(n) if world.dialed.contains(&address(n)) => drop(world.open(n, ProtocolVersion::V2)),
        Step::Fail(n) if world.dialed.contains(&address(n)) => world.refuse_connection(n),
        Step::Hello(n, machine) if is_connected(world, n) => world.hello(n, host(machine)),
        Step::Lose(n) if is_connected(world, n) => {
            world.lose(n);
            world.connections.remove(&n);
        }
        Step::Verdict(n, upload, kind)
            if is_connected(world, n) && world.submitted.contains_key(&(n, format!("/key/{upload}"))) =>
        {
            world.answer(n, upload, |answer| verdict(answer, kind));
        }
        Step::Outcome(n, upload, good)
            if is_connected(world, n) && world.submitted.contains_key(&(n, format!("/key/{upload}"))) =>
        {
            world.outcome(n, upload, if good { "done" } else { "failed" });
        }
        Step::NotServed(n) if is_connected(world, n) => {
            let connection = world.connections[&n];
            world.tell(Input::NotServed { connection, image: image(1), reason: "changed".to_owned() });
        }
        Step::Nodes(n, of, kind) if is_submitted(world, n) => {
            let word = ["unknown", "fetch", "done", "down"][usize::from(kind)];
            world.tell_nodes(n, 6, &[(of, word), (of % 6 + 1, "done")]);
        }
        Step::Pieces(n, have) if is_submitted(world, n) => {
            let have = vec![have].into();
            world.hear(n, Notification::Cluster(Notice::Pieces { image: image(1), count: 8, have }));
        }
        Step::Pass(millis) => world.pass(f64::from(millis) / 1000.0),
        Step::Connect(_)
        | Step::Fail(_)
        | Step::Hello(..)
        | Step::Lose(_)
        | Step::Verdict(..)
        | Step::Outcome(..)
        | Step::Nodes(..)
        | Step::Pieces(..)
        | Step::NotServed(_) => {}
    }
}

proptest! {
    /// `World` itself checks that nothing follows the end, and that each timeout moves the deadline on.
    #[test]
    fn whatever_happens_it_ends(steps in steps(), require_all: bool) {
        let (mut world, _) = run(&steps, require_all);
        // Redirects are never answered here, which must not keep it from ending.
        world.pass(130.0);
        let end = world.end.expect("the deadline ends it");
        prop_assert_ne!(&end.ending, &Ending::Open);
        if end.ending == Ending::Done {
            for upload in 0..2 {
                let landed = end.nodes.iter().any(|node| {
                    matches!(node.uploads[upload].1, UploadResult::Done { .. } | UploadResult::Kept(_))
                });
                prop_assert!(landed, "done, but upload {} is nowhere", upload);
            }
            let undone = end.nodes.iter().filter(|node| node.down.is_none() && !node.is_good()).count();
            prop_assert_eq!(undone, 0);
        }
        let machines: Vec<_> = end.nodes.iter().filter_map(|node| Some(node.host.as_ref()?.machine_id)).collect();
        let distinct: std::collections::BTreeSet<_> = machines.iter().collect();
        prop_assert_eq!(distinct.len(), machines.len(), "a machine is counted twice");
    }

    #[test]
    fn the_same_inputs_give_the_same(steps in steps(), require_all: bool) {
        let (first, second) = (run(&steps, require_all), run(&steps, require_all));
        prop_assert_eq!(first.1, second.1);
        prop_assert_eq!(first.0.events, second.0.events);
    }

    #[test]
    fn a_timeout_that_is_early_does_nothing(steps in steps()) {
        let (mut world, _) = run(&steps, false);
        if let Some((at, _)) = world.engine.deadline().filter(|(at, _)| *at > Time::new(world.time)) {
            let before = format!("{:?}", world.engine);
            let early = Time::new(at.since_start().saturating_sub(Duration::from_nanos(1)));
            let mut outbox = Outbox::new();
            world.engine.handle_timeout(Now { time: early, ..world.now() }, &mut outbox);
            prop_assert!(outbox.is_empty(), "{:?}", outbox);
            prop_assert_eq!(before, format!("{:?}", world.engine));
        }
    }
}
