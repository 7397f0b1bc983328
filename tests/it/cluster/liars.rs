//! Nodes which prove the cluster's key and have something else than they say.

use std::fs;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use ciruela::format::proof::{Greeting, Role, prove, verify};
use ciruela::format::wire::{Message, NodeRequest, NodeResponse, Notice, Notification, Request, Response, VerdictWord};
use ciruela::model::change::{SignedChange, Verb};
use ciruela::model::ids::{ImageId, MachineId};
use ciruela::model::peer::{ClusterKey, NodeId};

use super::{cluster, join, source, wait_for_all, wait_for_members};
use crate::daemon::Daemon;
use crate::peer::{Peer, honest, signed};
use crate::publisher::{Publisher, to};
use crate::trees::{mixed, plain, scanned};

/// What [`super::KEY`] says.
fn key() -> ClusterKey {
    let half: [u8; 16] = std::array::from_fn(|at| u8::try_from(at * 0x11).expect("small"));
    ClusterKey([half, half].concat().try_into().expect("32 bytes"))
}

/// Connects as a node of the cluster.
fn greet(daemon: &Daemon, me: NodeId) -> Peer {
    let mut peer = Peer::connect(daemon);
    let opener_nonce = [7; 32];
    let hello = Request::Node(NodeRequest::Hello { node: me, nonce: opener_nonce });
    let response = peer.ask(hello, |_, _, early| panic!("{early:?}"));
    let Response::Node(NodeResponse::Hello { node, nonce, proof }) = response else { panic!("{response:?}") };
    let greeting = Greeting { opener: me, opener_nonce, acceptor: node, acceptor_nonce: nonce };
    assert!(verify(&key(), Role::Acceptor, &greeting, &proof.expect("it has a key")));
    let proof = prove(&key(), Role::Opener, &greeting);
    peer.send(&Message::Notification(Notification::Cluster(Notice::NodeProof { proof })));
    peer
}

fn propose(peer: &mut Peer, change: SignedChange) {
    let proposal = Request::Node(NodeRequest::Propose { changes: vec![change] });
    let response = peer.ask(proposal, |_, _, early| panic!("{early:?}"));
    let Response::Node(NodeResponse::Propose { verdicts }) = response else { panic!("{response:?}") };
    assert_eq!(verdicts[0].verdict, VerdictWord::Accept, "{verdicts:?}");
}

fn say_to_have_all(peer: &mut Peer, image: ImageId) {
    let notice = Notice::Pieces { image, count: 0, have: Bytes::new() };
    peer.send(&Message::Notification(Notification::Cluster(notice)));
}

/// Serves the right index and wrong blocks until it is told of one.
fn lie(peer: &mut Peer, serve: impl Fn(&Request) -> Response) -> (ImageId, u64) {
    loop {
        match peer.receive() {
            Message::Request { id, request } => {
                let response = match serve(&request) {
                    Response::GetBlocks { data } => {
                        let mut data = BytesMut::from(&data[..]);
                        data[0] ^= 1;
                        Response::GetBlocks { data: data.freeze() }
                    }
                    other => other,
                };
                peer.respond(id, response);
            }
            Message::Notification(Notification::Cluster(Notice::Corrupt { image, block })) => return (image, block),
            Message::Notification(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_node_that_serves_wrong_blocks_is_named_and_left() {
    let publisher = Publisher::new(239);
    let daemons = cluster(&publisher, [239, 240, 241]);
    wait_for_members(&daemons.each_ref(), 3);
    let source = source(&publisher, "source", |root| plain(root, 10, 4, 300_000));
    let scan = scanned(&source);
    let me = SocketAddr::from(([127, 0, 0, 242], 1));
    let mut liar = greet(&daemons[1], NodeId { address: me, machine_id: MachineId::new([242; 16]), incarnation: 1 });
    propose(&mut liar, signed(publisher.secret(), Verb::Append, "/data/large", scan.id));
    say_to_have_all(&mut liar, scan.id);
    let (image, _) = lie(&mut liar, |request| honest(&source, &scan, request));
    assert_eq!(image, scan.id);
    let line = daemons[1].wait_for_line("a source is not asked any more");
    assert!(line.contains(&me.to_string()) && line.contains("doesn't fit its hash"), "{line}");
    // The right blocks come from a client of another node.
    publisher.run(&["--append", &to(&source, "/data/large")], &[daemons[2].address.to_string()]).expect(0);
    wait_for_all(&daemons.each_ref(), "/data/large", "data/large", &source);
}

#[test]
fn what_was_changed_on_a_disk_is_not_passed_on() {
    let publisher = Publisher::new(243);
    let [first, second] = cluster(&publisher, [243, 244]);
    wait_for_members(&[&first, &second], 2);
    let source = source(&publisher, "source", |root| mixed(root, 11));
    publisher.run(&["--append", &to(&source, "/data/mixed")], &[first.address.to_string()]).expect(0);
    wait_for_all(&[&first, &second], "/data/mixed", "data/mixed", &source);
    // The same size and other bytes, in all files of one of the two.
    for (name, (kind, _, content)) in crate::daemon::tree(&source) {
        if kind == 'f' && !content.is_empty() {
            let changed: Vec<_> = content.iter().map(|byte| byte ^ 1).collect();
            fs::write(first.data("data/mixed").join(name), changed).expect("write");
        }
    }
    let mut fresh = Daemon::prepare(245, &publisher.public_key());
    join(&mut fresh, Some(first.address));
    wait_for_all(&[&fresh], "/data/mixed", "data/mixed", &source);
}
