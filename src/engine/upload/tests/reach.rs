//! Names, addresses, connections.

use super::*;

fn hosts(nodes: &[u8]) -> crate::format::wire::Hosts {
    nodes.iter().map(|n| (host(*n).machine_id, host(*n).hostname)).collect()
}

fn not_here(world: &mut World, n: u8, elsewhere: &[u8]) {
    world.answer(n, 1, |answer| {
        answer.verdict = VerdictWord::Refused;
        answer.reject_reason = Some("no_config".to_owned());
        answer.hosts = hosts(elsewhere);
    });
}

#[test]
fn three_of_many_addresses() {
    let nodes: Vec<u8> = (1..=50).collect();
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&nodes);
    assert_eq!(world.dialed.len(), 3);
    let chosen = world.dialed.clone();
    let found = Event::Chosen { name: "cluster".to_owned(), found: 50, addresses: chosen.clone() };
    assert_eq!(world.events, [found]);
    // One that fails is made up for by another one, once.
    let (first, second) = (number(chosen[0]), number(chosen[1]));
    world.refuse_connection(first);
    assert_eq!(world.dialed.len(), 3);
    world.pass(3.0);
    world.refuse_connection(first);
    world.connect(second);
    world.accept(second, 1);
    world.pass(60.0);
    assert_eq!(world.engine.status().nodes.len(), 4);
    world.outcome(second, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done), "three are down");
}

#[test]
fn all_of_many_addresses_are_tried_before_giving_up() {
    let nodes: Vec<u8> = (1..=50).collect();
    for silent in [false, true] {
        let mut world = World::new(vec![upload(1)], rules());
        world.found(&nodes);
        while world.end.is_none() {
            match world.dialed.first() {
                Some(next) if !silent => world.refuse_connection(number(*next)),
                _ => world.pass(1.0),
            }
        }
        assert_eq!(world.ending(), Some(&Ending::Unreachable));
        assert_eq!(world.end.as_ref().map(|end| end.nodes.len()), Some(50));
        assert!(world.time <= Duration::from_secs(if silent { 50 } else { 11 }), "{:?}", world.time);
    }
}

fn number(address: SocketAddr) -> u8 {
    (1..=50).find(|n| super::address(*n) == address).expect("one of ours")
}

#[test]
fn reconnects_and_submits_again() {
    let mut world = World::accepted(&[1], rules());
    world.progress(1, "fetch", None);
    let before = world.asked(1, 1).clone();
    world.lose(1);
    let UploadResult::Waiting { waiting, .. } = world.result(1) else { panic!("not waiting") };
    assert_eq!(waiting.as_deref(), Some("reset"));
    assert!(world.dialed.is_empty(), "after a pause");
    world.pass(0.25);
    world.refuse_connection(1);
    world.pass(0.4);
    assert!(world.dialed.is_empty(), "after a longer one");
    world.pass(0.1);
    (world.submitted, world.published) = (BTreeMap::new(), Vec::new());
    world.connect(1);
    assert_eq!((world.asked(1, 1), world.published.len()), (&before, 1));
    world.answer(1, 1, |answer| answer.verdict = VerdictWord::Have);
    world.outcome(1, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn pauses_grow_to_a_bound() {
    let mut world = World::accepted(&[1], Rules { require_all: true, deadline: Duration::from_hours(24), ..rules() });
    world.lose(1);
    let mut attempts = 0;
    while world.time < Duration::from_hours(12) {
        let pause = world.engine.deadline().expect("waits").0.since(Time::new(world.time));
        assert!(pause <= Duration::from_secs(5));
        world.pass(pause.as_secs_f64() + 0.000_001);
        if world.dialed.contains(&address(1)) {
            attempts += 1;
            world.refuse_connection(1);
        }
    }
    assert!((8_000..9_000).contains(&attempts), "{attempts}");
    let told = |event: &&Event| matches!(event, Event::Unreachable { .. });
    assert_eq!(world.events.iter().filter(told).count(), 2, "once when lost, once when down");
    world.pass(5.0);
    world.connect(1);
    assert!(world.engine.status().nodes[0].down.is_none());
}

#[test]
fn two_addresses_of_one_machine() {
    let mut world = World::new(vec![upload(1)], Rules { initial_connections: 2, ..rules() });
    world.found(&[1, 2, 3]);
    let (first, second) = (world.dialed[0], world.dialed[1]);
    world.connect_as(number(first), host(7));
    world.connect_as(number(second), host(7));
    let twin = Event::Twin { address: second, of: first, host: host(7) };
    assert!(world.events.contains(&twin));
    assert_eq!(world.closed, [world.connections[&number(second)]]);
    assert_eq!(world.dialed.len(), 1, "another address in its place");
    let third = number(world.dialed[0]);
    world.lose(number(second));
    world.connect(third);
    assert_eq!(world.engine.status().nodes.len(), 2);
    assert_eq!(world.submitted.len(), 2);
}

#[test]
fn two_machines_with_one_id() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    for (n, hostname) in [(1, "a"), (2, "b")] {
        let host = Host { hostname: hostname.into(), ..host(7) };
        world.connect_as(n, host);
    }
    assert!(world.events.iter().any(|event| matches!(event, Event::SameId { .. })));
    assert_eq!(world.engine.status().nodes.len(), 2, "both are supplied");
    assert_eq!(world.submitted.len(), 2);
}

#[test]
fn a_machine_that_is_lost_goes_on_at_its_other_address() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.connect_as(1, host(7));
    world.accept(1, 1);
    world.lose(1);
    world.connect_as(2, host(7));
    assert_eq!(world.engine.status().nodes.len(), 1);
    assert!(world.submitted.contains_key(&(2, "/key/1".to_owned())));
    world.pass(60.0);
    assert!(!world.dialed.contains(&address(1)), "the first address isn't needed any more");
    assert_eq!(world.ending(), None);
}

#[test]
fn another_machine_takes_the_address() {
    let mut world = World::new(vec![upload(1), upload(2)], rules());
    world.found(&[1]);
    world.connect(1);
    world.accept(1, 1);
    world.outcome(1, 1, "done");
    world.accept(1, 2);
    world.lose(1);
    world.pass(0.25);
    world.submitted.clear();
    world.connect_as(1, host(9));
    assert_eq!(world.submitted.len(), 2, "nothing is known of the new one");
}

#[test]
fn daemons_of_the_first_protocol_are_too_old() {
    for require_all in [false, true] {
        let mut world = World::new(vec![upload(1)], Rules { require_all, ..rules() });
        world.found(&[1, 2]);
        let connection = world.open(1, ProtocolVersion::V1);
        assert_eq!(world.closed, [connection]);
        world.tell(Input::Disconnected { connection, reason: "closed".to_owned() });
        world.connect(2);
        world.accept(2, 1);
        world.outcome(2, 1, "done");
        assert_eq!(world.ending(), Some(if require_all { &Ending::Late } else { &Ending::Done }));
        let end = world.end.expect("ended");
        assert!(end.nodes[0].down.as_deref().is_some_and(|reason| reason.contains("too old")));
    }
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.open(1, ProtocolVersion::V1);
    assert_eq!(world.ending(), Some(&Ending::Unreachable));
}

#[test]
fn a_node_that_never_says_who_it_is() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    let connection = world.open(1, ProtocolVersion::V2);
    world.pass(10.0);
    assert_eq!(world.closed, [connection]);
    assert_eq!(world.ending(), Some(&Ending::Unreachable));
    let reason = world.end.expect("ended").nodes[0].down.clone().expect("down");
    assert!(reason.contains("who it is"), "{reason}");
}

#[test]
fn connections_that_nobody_wants_any_more_are_closed() {
    let mut world = World::new(vec![upload(1)], rules());
    let connection = ConnectionId(99);
    world.tell(Input::Connected { address: address(77), connection, version: ProtocolVersion::V2 });
    assert_eq!(world.closed, [connection]);
    world.tell(Input::ConnectFailed { address: address(78), reason: "x".to_owned() });
    world.tell(Input::Disconnected { connection, reason: "x".to_owned() });
    world.tell(Input::Resolved { name: "unasked".to_owned(), result: Ok(vec![address(1)]) });
    assert!(world.dialed.is_empty());
}

#[test]
fn follows_to_hosts_that_carry_the_directory() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    not_here(&mut world, 1, &[1, 4, 5, 6, 7]);
    // Itself isn't asked again; three are enough.
    assert_eq!(world.resolved, ["node4", "node5", "node6"]);
    assert_eq!(world.ending(), None);
    world.tell(Input::Resolved { name: "node4".to_owned(), result: Err("no such name".to_owned()) });
    assert_eq!(world.resolved.len(), 4, "one for that which wasn't found");
    for n in [5, 6, 7] {
        world.tell(Input::Resolved { name: format!("node{n}"), result: Ok(vec![address(n)]) });
        world.connect(n);
        world.accept(n, 1);
        assert_eq!(world.ending(), None);
        world.outcome(n, 1, "done");
    }
    assert_eq!(world.ending(), Some(&Ending::Done));
    assert_eq!(world.result(1), UploadResult::NotHere);
}

#[test]
fn follows_to_addresses_that_carry_the_directory() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.connect(1);
    world.answer(1, 1, |answer| {
        answer.verdict = VerdictWord::Refused;
        answer.reject_reason = Some("no_config".to_owned());
        answer.hosts = hosts(&[4, 5, 6, 7]);
        answer.addresses = [1, 4, 5, 6, 7].map(address).to_vec();
    });
    assert!(world.resolved.is_empty(), "addresses need no name server");
    assert_eq!(world.dialed, [2, 4, 5].map(address), "three may carry it");
    world.refuse_connection(4);
    world.connect(2);
    not_here(&mut world, 2, &[]);
    assert_eq!(world.dialed, [5, 6].map(address));
    for n in [5, 6] {
        world.connect(n);
        world.accept(n, 1);
    }
    world.pass(10.0);
    assert!(world.dialed.contains(&address(7)), "in the place of one that is down");
    world.connect(7);
    world.accept(7, 1);
    for n in [5, 6, 7] {
        world.outcome(n, 1, "done");
    }
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn nobody_carries_the_directory() {
    for require_all in [false, true] {
        let mut world = World::new(vec![upload(1)], Rules { require_all, ..rules() });
        world.found(&[1, 2]);
        for n in [1, 2] {
            world.connect(n);
            not_here(&mut world, n, &[]);
        }
        assert_eq!((world.ending(), world.time), (Some(&Ending::Refused), Duration::ZERO));
        assert_eq!(world.end.expect("ended").homeless, [upload(1).path]);
    }
    // One that is down might, but that is no success.
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.connect(1);
    not_here(&mut world, 1, &[]);
    world.pass(10.0);
    assert_eq!(world.ending(), Some(&Ending::Refused));
    // Redirects in a circle end.
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    not_here(&mut world, 1, &[2]);
    world.found(&[2]);
    world.connect(2);
    not_here(&mut world, 2, &[1]);
    assert_eq!(world.ending(), Some(&Ending::Refused));
}
