//! Single steps of gossip which `tests/sim/gossip` doesn't look at: what is said when, and to whom.

use std::time::Duration;

use bytes::Bytes;

use super::join::Fetch;
use super::*;
use crate::format::gossip::{Seal, read_datagram};
use crate::model::ids::{ChangeId, MachineId};
use crate::model::time::Stamp;

const KEY: ClusterKey = ClusterKey([7; 32]);

fn node(number: u8) -> NodeId {
    NodeId { address: ([10, 0, 0, number], 1).into(), machine_id: MachineId::new([number; 16]), incarnation: 5 }
}

fn info() -> NodeInfo {
    NodeInfo { hostname: "h".into(), version: "v".into(), directories: vec!["images".into()] }
}

fn at(millis: u64) -> Now {
    Now { time: Time::new(Duration::from_millis(millis)), stamp: Stamp(1_800_000_000_000 + millis) }
}

fn gossip(number: u8) -> Gossip {
    Gossip::new(node(number), info(), Some(&KEY), [number; 16], u64::from(number))
}

fn tell(engine: &mut Gossip, now: Now, input: Input) -> Vec<Effect> {
    let mut outbox = Outbox::new();
    engine.handle(now, input, &mut outbox);
    outbox.collect()
}

/// What a datagram holds, in words.
fn words(data: &Bytes) -> Vec<String> {
    let opened = Seal::new(&KEY).open(data).expect("sealed");
    let (_, items) = read_datagram(&opened.text).expect("ours");
    items.iter().map(|item| format!("{item:?}").split([' ', '(']).next().unwrap_or_default().to_owned()).collect()
}

fn sent(effects: &[Effect]) -> Vec<(SocketAddr, Vec<String>)> {
    let send = |effect: &Effect| {
        let Effect::Send { to, data } = effect else { return None };
        Some((*to, words(data)))
    };
    effects.iter().filter_map(send).collect()
}

/// Lets two nodes talk until nothing more is said at this moment.
fn talk(nodes: &mut [Gossip], now: Now, from: usize, effects: Vec<Effect>) -> Vec<(usize, Effect)> {
    let mut open: std::collections::VecDeque<_> = effects.into_iter().map(|effect| (from, effect)).collect();
    let mut told = Vec::new();
    while let Some((from, effect)) = open.pop_front() {
        let Effect::Send { to, data } = effect else {
            told.push((from, effect));
            continue;
        };
        let sender = nodes[from].me().address;
        if let Some(number) = nodes.iter().position(|node| node.me().address == to) {
            let input = Input::Datagram { from: sender, data };
            open.extend(tell(&mut nodes[number], now, input).into_iter().map(|effect| (number, effect)));
        }
    }
    told
}

fn time_out(engine: &mut Gossip, now: Now) -> Vec<Effect> {
    let mut outbox = Outbox::new();
    engine.handle_timeout(now, &mut outbox);
    outbox.collect()
}

/// Two nodes that know each other.
fn pair() -> [Gossip; 2] {
    let mut nodes = [gossip(1), gossip(2)];
    for engine in &mut nodes {
        tell(engine, at(0), Input::Peers(vec![node(1).address, node(2).address]));
        tell(engine, at(0), Input::Start);
    }
    let mut millis = 0;
    while !(nodes[0].alive(&node(2)) && nodes[1].alive(&node(1))) {
        millis += 50;
        assert!(millis < 3_000, "they don't find each other");
        for number in 0..2 {
            let effects = time_out(&mut nodes[number], at(millis));
            talk(&mut nodes, at(millis), number, effects);
        }
    }
    nodes
}

const LATER: u64 = 4_000;

#[test]
fn it_may_go_to_another_thread() {
    fn check<T: Send>(_: &T) {}
    check(&gossip(1));
}

#[test]
fn nothing_is_done_before_the_start_and_after_the_end() {
    let mut engine = gossip(1);
    assert_eq!(engine.deadline(), None);
    assert!(tell(&mut engine, at(0), Input::Peers(vec![node(2).address])).is_empty());
    assert!(time_out(&mut engine, at(10_000)).is_empty());
    tell(&mut engine, at(10_000), Input::Start);
    assert!(engine.deadline().is_some());
    tell(&mut engine, at(10_000), Input::Leave);
    assert_eq!(engine.deadline(), None);
    assert!(time_out(&mut engine, at(20_000)).is_empty());
}

#[test]
fn peers_are_called_again_and_again_but_not_itself() {
    let mut engine = gossip(1);
    tell(&mut engine, at(0), Input::Peers(vec![node(1).address, node(2).address]));
    tell(&mut engine, at(0), Input::Start);
    let (mut calls, mut now) = (Vec::new(), at(0));
    while now.time < at(120_000).time {
        let due = engine.deadline().expect("it never ends").0;
        now = at(u64::try_from(due.since_start().as_millis()).expect("short") + 1);
        for (to, items) in sent(&time_out(&mut engine, now)) {
            assert_eq!((to, items), (node(2).address, vec!["Swim".to_owned()]));
            calls.push(now.time);
        }
    }
    assert!((10..40).contains(&calls.len()), "{} calls", calls.len());
    assert!(calls[1].since(calls[0]) < Duration::from_secs(2));
}

#[test]
fn two_find_each_other_and_ask_for_all_members() {
    let mut nodes = pair();
    assert_eq!(nodes[0].members().collect::<Vec<_>>(), [(&node(2), &info())]);
    assert_eq!(nodes[1].carriers("images").collect::<Vec<_>>(), [&node(1)]);
    assert_eq!(nodes[1].carriers("other").count(), 0);
    assert!(matches!(nodes[0].join.fetch, Fetch::Asked { node: asked, .. } if asked == node(2)));
    let (page, next) = nodes[1].members_page(0);
    assert_eq!(next, None);
    tell(&mut nodes[0], at(LATER), Input::Members { page, last: true });
    assert!(matches!(nodes[0].join.fetch, Fetch::Due(due) if due > at(60_000).time));
    assert_eq!(nodes[0].members_page(7).1, None);
}

#[test]
fn a_changed_head_is_told_at_once_and_together_with_others() {
    let mut nodes = pair();
    let heads = |number: u8, urgent| Input::Heads {
        directory: format!("d{number}").into(),
        fingerprint: HeadsFingerprint([number; 16]),
        urgent,
    };
    let pulses = |effects: &[Effect]| sent(effects).iter().filter(|(_, items)| items[0] == "Pulse").count();
    assert_eq!(pulses(&tell(&mut nodes[0], at(LATER), heads(1, false))), 0);
    assert_eq!(pulses(&tell(&mut nodes[0], at(LATER), heads(2, true))), 1);
    assert_eq!(pulses(&tell(&mut nodes[0], at(LATER), heads(2, true))), 0, "it is the same");
    assert_eq!(pulses(&tell(&mut nodes[0], at(LATER + 1), heads(3, true))), 0, "it waits for more");
    assert_eq!(pulses(&tell(&mut nodes[0], at(LATER + 2), heads(4, true))), 0, "it waits for more");
    tell(&mut nodes[1], at(LATER), heads(3, false));
    tell(
        &mut nodes[1],
        at(LATER),
        Input::Heads { directory: "d4".into(), fingerprint: HeadsFingerprint([9; 16]), urgent: false },
    );
    let now = at(LATER + 51);
    let effects = time_out(&mut nodes[0], now);
    assert!(pulses(&effects) >= 1);
    let told = talk(&mut nodes, now, 0, effects);
    let differs = |name: &str| (1, Effect::Differs { node: node(1), directory: name.into() });
    assert!(told.contains(&differs("d4")) && !told.contains(&differs("d3")), "{told:?}");
    tell(&mut nodes[1], now, Input::NoHeads { directory: "d4".into() });
    let effects = tell(&mut nodes[0], at(LATER + 200), heads(5, true));
    assert!(!talk(&mut nodes, at(LATER + 200), 0, effects).contains(&differs("d4")));
}

#[test]
fn more_heads_than_fit_take_turns() {
    let mut pulses = Pulses::default();
    let count = limits::PULSE_HEADS_MAX * 2 + 5;
    for number in 0..count {
        pulses.set(at(0).time, format!("d{number}").into(), HeadsFingerprint([1; 16]), false);
    }
    pulses.set(at(0).time, "d7".into(), HeadsFingerprint([2; 16]), true);
    let first = pulses.heads();
    assert!(first.iter().any(|head| head.1 == HeadsFingerprint([2; 16])), "the one that changed comes first");
    let mut seen: std::collections::BTreeSet<_> = first.into_iter().collect();
    for _ in 0..2 {
        let heads = pulses.heads();
        assert_eq!(heads.len(), limits::PULSE_HEADS_MAX);
        seen.extend(heads);
    }
    assert_eq!(seen.len(), count);
}

#[test]
fn reports_are_repeated_with_growing_pauses() {
    let mut reports = Reports::default();
    assert!(reports.add(at(0).time, node(2), 1, Bytes::from_static(b"x")));
    assert!(!reports.add(at(0).time, node(2), 2, vec![0; limits::REPORT_BYTES_MAX + 1].into()), "too long");
    let mut times = Vec::new();
    while times.len() < 10 {
        let due = reports.deadline().expect("not acknowledged");
        assert_eq!(reports.take_due(due).len(), 1);
        assert!(reports.take_due(due).is_empty());
        times.push(due.since_start().as_millis());
    }
    assert_eq!(times, [0, 500, 1_500, 3_500, 7_500, 12_500, 17_500, 22_500, 27_500, 32_500]);
    assert!(reports.remove(&node(2), 1) && !reports.remove(&node(2), 1));
    assert!(reports.add(at(0).time, node(2), 3, Bytes::new()) && reports.add(at(0).time, node(3), 3, Bytes::new()));
    reports.forget(&node(2));
    assert_eq!((reports.len(), reports.deadline()), (1, Some(at(0).time)));
}

#[test]
fn reports_to_nobody_are_not_kept() {
    let mut nodes = pair();
    let report = |to| Input::SendReport { to, number: 1, body: Bytes::from_static(b"x") };
    tell(&mut nodes[0], at(LATER), report(node(9)));
    tell(&mut nodes[0], at(LATER), report(NodeId { incarnation: 4, ..node(2) }));
    assert_eq!(nodes[0].reports_pending(), 0);
    let effects = tell(&mut nodes[0], at(LATER), report(node(2)));
    assert_eq!(nodes[0].reports_pending(), 1);
    let told = talk(&mut nodes, at(LATER), 0, effects);
    assert!(told.contains(&(1, Effect::ReportReceived { from: node(1), number: 1, body: Bytes::from_static(b"x") })));
    tell(&mut nodes[0], at(LATER), Input::DropReport { to: node(2), number: 1 });
    assert_eq!(nodes[0].reports_pending(), 0);
}

#[test]
fn watches_are_bounded_and_their_places_used_again() {
    let mut values = OwnValues::default();
    let path = |number: usize| format!("/k/{number}").parse::<VPath>().expect("a path");
    let change = Rank { stamp: Stamp(1), id: ChangeId::new([1; 32]), overrides: false };
    for number in 0..limits::WATCHES_MAX {
        assert_eq!(values.watch(path(number), change, true), u32::try_from(number + 1).ok());
    }
    assert_eq!(values.watch(path(limits::WATCHES_MAX), change, true), None);
    assert_eq!(values.watch(path(3), change, true), None, "it is there already");
    assert_eq!(values.watch(path(3), change, false), Some(4));
    assert_eq!(values.watch(path(3), change, false), None);
    assert_eq!(values.watch(path(limits::WATCHES_MAX), change, true), Some(4));
}
