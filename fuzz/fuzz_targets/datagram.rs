//! Any bytes as a datagram: as they are, and as the text of one that somebody with the key has sealed. No panic, the engine
//! obeys its contract, and what it sends fits.
//!
//! The first byte says how the rest is used, the second one how much time passes between two texts; 0xff parts texts.

#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::gossip::{Effect, Gossip, Input};
use ciruela::format::gossip::{Envelope, Header, Item, MemberId, Seal, plain, read_datagram, read_page};
use ciruela::model::ids::MachineId;
use ciruela::model::peer::{ClusterKey, NodeId, NodeInfo};
use ciruela::model::time::{Now, Stamp, Time};
use libfuzzer_sys::fuzz_target;

const KEY: ClusterKey = ClusterKey([7; 32]);

fn member(number: u8) -> MemberId {
    let address = SocketAddr::from(([10, 0, 0, number], 1));
    let node = NodeId { address, machine_id: MachineId::new([number; 16]), incarnation: 3 };
    MemberId { node, renewal: 0 }
}

fn check(engine: &mut Gossip, now: Now, input: Input) {
    let mut outbox = Outbox::new();
    engine.handle(now, input, &mut outbox);
    engine.handle_timeout(now, &mut outbox);
    assert!(engine.deadline().is_none_or(|(due, _)| due > now.time), "it stays due");
    for effect in outbox {
        if let Effect::Send { data, .. } = effect {
            assert!(data.len() <= 1_400);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [mode, pause, rest @ ..] = input else { return };
    let key = (mode & 1 == 0).then_some(KEY);
    let info = NodeInfo { hostname: "h".into(), version: "v".into(), directories: vec!["images".into()] };
    let mut engine = Gossip::new(member(1).node, info, key.as_ref(), [1; 16], u64::from(*mode));
    let mut now = Now { time: Time::default(), stamp: Stamp(1_800_000_000_000) };
    let peers = (1..4).map(|number| member(number).node.address).collect();
    check(&mut engine, now, Input::Peers(peers));
    check(&mut engine, now, Input::Start);
    let seal = Seal::new(&KEY);
    for (counter, text) in rest.split(|byte| *byte == 0xff).enumerate().take(64) {
        now.time = now.time + Duration::from_millis(u64::from(*pause) * 10);
        let header = Header { seconds: now.stamp.0 / 1_000, from: member(2 + mode / 64), to: Some(member(1)) };
        let whole = match mode & 6 {
            // As it is: a header must be guessed.
            0 => text.to_vec(),
            // Items behind a header that fits.
            2 => [Envelope::new(&header).finish(), text.to_vec()].concat(),
            // A packet of the library, or a page.
            4 => {
                let mut envelope = Envelope::new(&header);
                envelope.push(&Item::Swim(text));
                envelope.finish()
            }
            _ => {
                let _ = read_page(text);
                check(&mut engine, now, Input::Members { page: Bytes::copy_from_slice(text), last: mode & 8 == 0 });
                continue;
            }
        };
        if let Ok((header, items)) = read_datagram(&whole) {
            let mut again = Envelope::new(&header);
            if items.iter().all(|item| again.push(item)) {
                let again = again.finish();
                assert_eq!(read_datagram(&again), Ok((header, items)));
            }
        }
        let sealed = if key.is_some() { seal.seal(&[2; 16], counter as u64, whole) } else { Some(plain(&whole)) };
        if let Some(data) = sealed {
            check(&mut engine, now, Input::Datagram { from: member(2).node.address, data });
        }
        check(&mut engine, now, Input::Datagram { from: member(2).node.address, data: Bytes::copy_from_slice(text) });
    }
});
