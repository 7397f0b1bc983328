//! What a difference costs between two nodes with 100,000 heads.

use ciruela::engine::catch_up::{CatchUp, Effect, Input};
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::format::change;
use ciruela::format::wire::{
    self, Message, NodeRequest, NodeResponse, ProposalVerdict, Request, Response, VerdictWord,
};
use ciruela::model::change::{SignedChange, Verb};
use ciruela::model::ids::ChangeId;
use ciruela::model::peer::NodeId;
use ciruela::model::time::Now;
use ciruela::model::vpath::VPath;

use super::scenarios::signed;

const HEADS: u32 = 100_000;

fn path(n: u32) -> VPath {
    format!("/append/project/release-{n:06}").parse().expect("valid")
}

fn full() -> CatchUp {
    let mut catch_up = CatchUp::default();
    for n in 0..HEADS {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_le_bytes());
        let input = Input::Head { path: path(n), change: Some(ChangeId::new(id)) };
        catch_up.handle(Now::default(), input, &mut Outbox::new());
    }
    catch_up
}

fn forget(catch_up: &mut CatchUp, n: u32) {
    catch_up.handle(Now::default(), Input::Head { path: path(n), change: None }, &mut Outbox::new());
}

fn know(catch_up: &mut CatchUp, signed: &SignedChange) {
    let change = Some(change::id(&signed.change));
    let input = Input::Head { path: signed.change.path.clone(), change };
    catch_up.handle(Now::default(), input, &mut Outbox::new());
}

fn bytes(message: &Message) -> usize {
    wire::encode(message).expect("sendable").len()
}

/// Questions and bytes both ways until the opener is done; the other has the one change.
fn cost(opener: &mut CatchUp, other: &mut CatchUp, one: &SignedChange) -> (usize, usize) {
    let node = NodeId {
        address: ([10, 0, 0, 1], 1).into(),
        machine_id: ciruela::model::ids::MachineId::new([1; 16]),
        incarnation: 1,
    };
    let (mut questions, mut total) = (0, 0);
    let mut outbox = Outbox::new();
    opener.handle(Now::default(), Input::Differs { node, directory: "append".into() }, &mut outbox);
    let accept = || vec![ProposalVerdict { verdict: VerdictWord::Accept, reason: None, newer: None }];
    while let Some(effect) = outbox.pop() {
        let (session, request) = match effect {
            Effect::Ask { session, request, .. } => (session, request),
            Effect::Propose { session, .. } => (session, NodeRequest::Propose { changes: vec![one.clone()] }),
            Effect::Decide { session, changes, .. } => {
                assert_eq!(changes, std::slice::from_ref(one));
                know(opener, one);
                opener.handle(Now::default(), Input::Decided { session, verdicts: accept() }, &mut outbox);
                continue;
            }
            Effect::Done { fingerprint, .. } => {
                assert_eq!(fingerprint, other.fingerprint("append"));
                continue;
            }
            Effect::Release { .. } => continue,
            Effect::Broken { reason, .. } => panic!("{reason}"),
        };
        let response = match &request {
            NodeRequest::CompareHeads { directory, ranges } => {
                NodeResponse::CompareHeads { answers: other.answer(directory, ranges) }
            }
            NodeRequest::GetHeads { .. } => NodeResponse::GetHeads { changes: vec![one.clone()] },
            NodeRequest::Propose { changes } => {
                assert_eq!(changes, std::slice::from_ref(one));
                know(other, one);
                NodeResponse::Propose { verdicts: accept() }
            }
            NodeRequest::Hello { .. } | NodeRequest::GetMembers { .. } => panic!("not of catch-up"),
        };
        questions += 1;
        total += bytes(&Message::Request { id: 1, request: Request::Node(request) });
        total += bytes(&Message::Response { id: 1, response: Response::Node(response.clone()) });
        opener.handle(Now::default(), Input::Answered { session, answer: Ok(response) }, &mut outbox);
    }
    (questions, total)
}

/// Each answer has up to 64 ranges, and heads come by 64: three questions find one of 100,000, one more exchanges it.
#[test]
fn one_difference_in_a_hundred_thousand_costs_its_logarithm() {
    let (mut left, mut right) = (full(), full());
    for n in [0, 1, 31_415, HEADS - 1] {
        let one = signed(Verb::Append, path(n).as_str(), 1, 5);
        know(&mut right, &one);
        for lacks in [true, false] {
            forget(&mut left, n);
            // Pulled by who lacks it, proposed by who has it.
            let (opener, other) = if lacks { (&mut left, &mut right) } else { (&mut right, &mut left) };
            let (questions, bytes) = cost(opener, other, &one);
            assert!(questions <= 4 && bytes < 20_000, "{n}: {questions} questions, {bytes} bytes");
            assert_eq!(left.fingerprint("append"), right.fingerprint("append"));
        }
    }
}
