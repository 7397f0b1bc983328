//! Messages between nodes, from any bytes: what is taken survives a round trip, and neither a session of catch-up nor the
//! side which answers one can be brought to panic, to ask without end, or to send more than a message takes.

#![no_main]

use bytes::Bytes;
use ciruela::engine::catch_up::{CatchUp, Effect, Input, SessionId};
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::report::Watching;
use ciruela::format::wire::{
    Message, NodeRequest, NodeResponse, Notification, ProposalVerdict, Request, Response, VerdictWord, decode, encode,
};
use ciruela::model::ids::{ChangeId, MachineId};
use ciruela::model::limits;
use ciruela::model::peer::NodeId;
use ciruela::model::time::Now;
use libfuzzer_sys::fuzz_target;

const PARTS_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let node = NodeId { address: ([10, 0, 0, 1], 1).into(), machine_id: MachineId::new([1; 16]), incarnation: 1 };
    let mut catch_up = CatchUp::default();
    for n in 0..100_u8 {
        let path = format!("/d/{n}").parse().expect("valid");
        catch_up.handle(Now::default(), Input::Head { path, change: Some(ChangeId::new([n; 32])) }, &mut Outbox::new());
    }
    let mut outbox = Outbox::new();
    catch_up.handle(Now::default(), Input::Differs { node, directory: "d".into() }, &mut outbox);
    let mut open = carry_out(&mut catch_up, &mut outbox);
    // One message after the other: two bytes of length, then as many of CBOR.
    let mut rest = input;
    for _ in 0..PARTS_MAX {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { return };
        let (frame, after) = after.split_at(after.len().min(u16::from_le_bytes(*length).into()));
        rest = after;
        let _ = Watching::default().received(node, 1, frame);
        let Some(message) = round_trip(frame) else { continue };
        match message {
            Message::Request { request: Request::Node(NodeRequest::CompareHeads { directory, ranges }), .. } => {
                let answers = catch_up.answer(&directory, &ranges);
                assert!(answers.len() <= ranges.len() && (!answers.is_empty() || ranges.is_empty()));
                sendable(Message::Response { id: 0, response: Response::Node(NodeResponse::CompareHeads { answers }) });
            }
            Message::Response { response: Response::Node(response), .. } => {
                if let Some(session) = open {
                    let input = Input::Answered { session, answer: Ok(response) };
                    catch_up.handle(Now::default(), input, &mut outbox);
                    open = carry_out(&mut catch_up, &mut outbox);
                }
            }
            _ => {}
        }
    }
});

/// The session that waits for an answer, if one does.
fn carry_out(catch_up: &mut CatchUp, outbox: &mut Outbox<Effect>) -> Option<SessionId> {
    let mut open = None;
    while let Some(effect) = outbox.pop() {
        match effect {
            Effect::Ask { session, request, .. } => {
                sendable(Message::Request { id: 0, request: Request::Node(request) });
                open = Some(session);
            }
            Effect::Propose { session, heads, .. } => {
                assert!(!heads.is_empty() && heads.len() <= limits::CHANGES_PER_MESSAGE_MAX);
                open = Some(session);
            }
            Effect::Decide { session, changes, .. } => {
                let word = [VerdictWord::Accept, VerdictWord::Superseded, VerdictWord::Refused][changes.len() % 3];
                let verdict = ProposalVerdict { verdict: word, reason: None, newer: None };
                let verdicts = vec![verdict; changes.len()];
                catch_up.handle(Now::default(), Input::Decided { session, verdicts }, outbox);
            }
            Effect::Done { .. } | Effect::Broken { .. } | Effect::Release { .. } => open = None,
        }
    }
    open
}

fn round_trip(frame: &[u8]) -> Option<Message> {
    let message = decode(&Bytes::copy_from_slice(frame)).ok()?;
    let cluster = matches!(
        message,
        Message::Notification(Notification::Cluster(_))
            | Message::Request { request: Request::Node(_), .. }
            | Message::Response { response: Response::Node(_), .. }
    );
    if !cluster {
        return None;
    }
    let again = encode(&message).expect("messages of nodes can be sent");
    assert_eq!(decode(&again.into()).as_ref(), Ok(&message));
    Some(message)
}

fn sendable(message: Message) {
    let frame = encode(&message).expect("sendable");
    assert!(frame.len() <= limits::MESSAGE_BYTES_MAX);
    assert_eq!(decode(&frame.into()), Ok(message));
}
