//! Round trips of any message between nodes, and hostile frames.

use std::net::SocketAddr;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::format::supply::tests::supplies;
use crate::format::wire::{Message, Notification, Request, Response, decode, encode};
use crate::model::change::{Change, Verb};
use crate::model::ids::MachineId;
use crate::model::key::{PublicKey, Scheme, Signature, SignatureBytes};
use crate::model::limits;
use crate::model::origins::Origins;
use crate::model::time::Stamp;

fn path() -> impl Strategy<Value = VPath> {
    "(/[a-zé0-9]{1,12}){1,4}".prop_map(|text| text.parse().expect("valid"))
}

fn image() -> impl Strategy<Value = ImageId> {
    any::<[u8; 32]>().prop_map(ImageId::new)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<([u8; 4], [u16; 8], u16, bool)>()
        .prop_map(|(v4, v6, port, six)| if six { (v6, port).into() } else { (v4, port).into() })
}

fn node() -> impl Strategy<Value = NodeId> {
    (address(), any::<[u8; 16]>(), any::<u64>()).prop_map(|(address, id, incarnation)| NodeId {
        address,
        machine_id: MachineId::new(id),
        incarnation,
    })
}

fn fingerprint() -> impl Strategy<Value = HeadsFingerprint> {
    any::<[u8; 16]>().prop_map(HeadsFingerprint)
}

fn range() -> impl Strategy<Value = HeadRange> {
    (option::of(path()), option::of(path()), fingerprint(), any::<u64>())
        .prop_map(|(from, to, fingerprint, count)| HeadRange { from, to, fingerprint, count })
}

fn change() -> impl Strategy<Value = SignedChange> {
    (path(), image(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(path, image, stamp, key)| {
        let image = Some(image);
        let change = Change { cluster: None, verb: Verb::Append, path, image, old_image: None, stamp: Stamp(stamp) };
        let signature = Signature { scheme: Scheme::V2, key: Some(PublicKey(key)), bytes: SignatureBytes([7; 64]) };
        SignedChange::new(change, vec![signature])
    })
}

fn report() -> impl Strategy<Value = NodeReport> {
    let texts = (".{0,20}", option::of(".{0,20}"), option::of(".{0,20}"), option::of(".{0,20}"));
    (any::<[u8; 16]>(), "[a-z]{0,9}", address(), any::<bool>(), texts, any::<[u64; 6]>(), supplies()).prop_map(
        |(id, hostname, address, alive, (state, result, reason, waiting), bytes, sources)| {
            let [bytes_done, bytes_total, linked, copied, kept, fetched] = bytes;
            let bytes = Origins { linked, copied, kept, fetched };
            let host = Host { machine_id: MachineId::new(id), hostname: hostname.into() };
            let address = address.to_string().into();
            NodeReport { host, address, alive, state, result, reason, waiting, bytes_done, bytes_total, bytes, sources }
        },
    )
}

fn notice() -> impl Strategy<Value = Notice> {
    let nodes = (path(), image(), any::<[u8; 32]>(), any::<u64>(), vec(report(), 0..4), any::<bool>()).prop_map(
        |(path, image, change, total, nodes, complete)| {
            Notice::Nodes(Nodes { path, image, change: ChangeId::new(change), total, nodes, complete })
        },
    );
    prop_oneof![
        (image(), any::<u32>(), vec(any::<u8>(), 0..40)).prop_map(|(image, count, have)| Notice::Pieces {
            image,
            count,
            have: have.into()
        }),
        (image(), vec(any::<u32>(), 0..40)).prop_map(|(image, pieces)| Notice::Have { image, pieces }),
        (image(), any::<u32>(), any::<u32>()).prop_map(|(image, index, of)| Notice::Share { image, index, of }),
        (image(), any::<u64>()).prop_map(|(image, block)| Notice::Corrupt { image, block }),
        any::<[u8; 32]>().prop_map(|proof| Notice::NodeProof { proof: Proof(proof) }),
        ("[a-z]{1,20}", fingerprint())
            .prop_map(|(directory, fingerprint)| Notice::SyncComplete { directory: directory.into(), fingerprint }),
        nodes,
    ]
}

fn request() -> impl Strategy<Value = NodeRequest> {
    prop_oneof![
        (node(), any::<[u8; 32]>()).prop_map(|(node, nonce)| NodeRequest::Hello { node, nonce }),
        any::<u64>().prop_map(|cursor| NodeRequest::GetMembers { cursor }),
        ("[a-z]{1,20}", vec(range(), 0..4))
            .prop_map(|(directory, ranges)| NodeRequest::CompareHeads { directory: directory.into(), ranges }),
        vec(path(), 0..4).prop_map(|paths| NodeRequest::GetHeads { paths }),
        vec(change(), 0..4).prop_map(|changes| NodeRequest::Propose { changes }),
    ]
}

fn response() -> impl Strategy<Value = NodeResponse> {
    let heads = vec((path(), any::<[u8; 32]>().prop_map(ChangeId::new)), 0..4);
    let answer = prop_oneof![
        Just(RangeAnswer::Same),
        vec(range(), 0..4).prop_map(RangeAnswer::Finer),
        heads.prop_map(RangeAnswer::Heads),
    ];
    let words = [VerdictWord::Accept, VerdictWord::Have, VerdictWord::Superseded, VerdictWord::Refused];
    let verdict = (prop::sample::select(words.to_vec()), option::of(".{0,20}"), option::of(change()))
        .prop_map(|(verdict, reason, newer)| ProposalVerdict { verdict, reason, newer });
    prop_oneof![
        (node(), any::<[u8; 32]>(), option::of(any::<[u8; 32]>()))
            .prop_map(|(node, nonce, proof)| NodeResponse::Hello { node, nonce, proof: proof.map(Proof) }),
        (vec(any::<u8>(), 0..300), option::of(any::<u64>()))
            .prop_map(|(data, next)| NodeResponse::GetMembers { data: data.into(), next }),
        vec(answer, 0..4).prop_map(|answers| NodeResponse::CompareHeads { answers }),
        vec(change(), 0..4).prop_map(|changes| NodeResponse::GetHeads { changes }),
        vec(verdict, 0..4).prop_map(|verdicts| NodeResponse::Propose { verdicts }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        notice().prop_map(|notice| Message::Notification(Notification::Cluster(notice))),
        (any::<u64>(), request()).prop_map(|(id, request)| Message::Request { id, request: Request::Node(request) }),
        (any::<u64>(), response())
            .prop_map(|(id, response)| Message::Response { id, response: Response::Node(response) }),
    ]
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        let frame: Bytes = encode(&message).expect("sendable").into();
        prop_assert_eq!(decode(&frame), Ok(message));
    }

    #[test]
    fn what_is_taken_survives_a_round_trip(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = encode(&message).expect("sendable");
        let at = at.index(frame.len());
        frame[at] = byte;
        let Ok(first) = decode(&frame.into()) else { return Ok(()) };
        if let Ok(again) = encode(&first) {
            prop_assert_eq!(decode(&again.into()), Ok(first));
        }
    }
}

#[test]
fn lists_are_bounded() {
    let many = |count: usize| Notice::Have { image: ImageId::new([1; 32]), pieces: vec![0; count] };
    let frame = |notice| Bytes::from(encode(&Message::Notification(Notification::Cluster(notice))).expect("sendable"));
    // What is over the bound is cut by who sends it.
    assert_eq!(frame(many(limits::HAVE_PIECES_MAX + 1)), frame(many(limits::HAVE_PIECES_MAX)));
    let Notice::Have { image, .. } = many(0) else { panic!("it is one") };
    let mut forged = frame(Notice::Have { image, pieces: Vec::new() }).to_vec();
    forged.pop();
    forged.extend([0x99, 0xff, 0xff]);
    forged.resize(forged.len() + 0xffff, 0);
    assert!(decode(&forged.into()).is_err());
}
