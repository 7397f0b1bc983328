//! Which node should ask the client for which pieces: all of them together for each piece once (003-10).
//!
//! Each is also told which pieces another one has: it takes long until it hears that from its neighbours, and whoever is done with
//! its share would ask for them.

use std::net::SocketAddr;

use super::peer::{Link, Peer, Stage};
use super::{Effect, Uploads};
use crate::engine::contract::Outbox;
use crate::format::wire::{Message, Notice, Notification};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::ConnectionId;

impl Uploads {
    /// Tells the nodes their shares where somebody came or went.
    pub(super) fn share_out(&mut self, outbox: &mut Outbox<Effect>) {
        let images: Vec<_> =
            self.intents.iter().filter(|intent| intent.upload.given).map(|intent| intent.upload.image).collect();
        for image in images {
            let now = self.sharers(image);
            let before = self.shares.get(&image).map(Vec::as_slice).unwrap_or_default();
            if now == before {
                continue;
            }
            let of = u32::try_from(now.len()).unwrap_or(u32::MAX);
            for (index, (_, connection)) in (0..of).zip(&now) {
                let share = Notice::Share { image, index, of };
                let message = Message::Notification(Notification::Cluster(share));
                outbox.push(Effect::Send { connection: *connection, message });
            }
            self.shares.insert(image, now.clone());
            for (address, _) in now {
                self.tell_given(address, image, outbox);
            }
        }
    }

    /// A node that has a share is told what those from which it gets that have.
    pub(super) fn tell_given(&self, to: SocketAddr, image: ImageId, outbox: &mut Outbox<Effect>) {
        let Some((upload, peer, connection)) = self.sharer(to, image) else { return };
        let near = self.peers.values().filter(|other| other.address != to && self.is_near(upload, peer, other));
        let near: Vec<_> = near.filter_map(|other| other.known_pieces(image)).collect();
        let count = near.iter().map(|pieces| pieces.len()).max().unwrap_or(0);
        let given: Vec<_> = (0..count).filter(|piece| near.iter().any(|pieces| pieces.contains(*piece))).collect();
        send_given(connection, image, &given, outbox);
    }

    /// A node has these pieces, if it can: what no other one has is told to all others that have a share.
    pub(super) fn pass_on(&self, from: SocketAddr, image: ImageId, pieces: &[u32], outbox: &mut Outbox<Effect>) {
        let Some((_, peer, _)) = self.sharer(from, image) else { return };
        let Some(here) = peer.known_pieces(image) else { return };
        let others = || self.peers.values().filter(|other| other.address != from);
        let known = |piece| others().filter_map(|other| other.known_pieces(image)).any(|pieces| pieces.contains(piece));
        let news: Vec<_> = pieces.iter().copied().filter(|piece| here.contains(*piece) && !known(*piece)).collect();
        for (other, _) in self.shares.get(&image).into_iter().flatten().filter(|(other, _)| *other != from) {
            let Some((upload, other, connection)) = self.sharer(*other, image) else { continue };
            if self.is_near(upload, other, peer) {
                send_given(connection, image, &news, outbox);
            }
        }
    }

    /// A connected node that has a share of an image, and an upload of it.
    fn sharer(&self, address: SocketAddr, image: ImageId) -> Option<(usize, &Peer, ConnectionId)> {
        let (_, connection) = self.shares.get(&image)?.iter().find(|(sharer, _)| *sharer == address)?;
        let upload = self.intents.iter().position(|intent| intent.upload.image == image)?;
        Some((upload, self.peers.get(&address)?, *connection))
    }

    /// Connected nodes that took an image. One that is done keeps its share, because it has it; one that was done before
    /// gets none.
    fn sharers(&self, image: ImageId) -> Vec<(SocketAddr, ConnectionId)> {
        let before = self.shares.get(&image).map(Vec::as_slice).unwrap_or_default();
        let takes = |stage: &Stage, had_one: bool| {
            matches!(stage, Stage::Accepted { .. })
                || matches!(stage, Stage::Ended(outcome) if had_one && outcome.result == "done")
        };
        let sharer = |peer: &Peer| {
            let Link::Up { connection } = peer.link else { return None };
            let had_one = before.contains(&(peer.address, connection));
            let mut stages = self.intents.iter().zip(&peer.stages);
            let one = stages.any(|(intent, stage)| intent.upload.image == image && takes(stage, had_one));
            one.then_some((peer.address, connection))
        };
        self.peers.values().filter_map(sharer).collect()
    }
}

fn send_given(connection: ConnectionId, image: ImageId, pieces: &[u32], outbox: &mut Outbox<Effect>) {
    for pieces in pieces.chunks(limits::HAVE_PIECES_MAX) {
        let have = Notice::Have { image, pieces: pieces.to_vec() };
        let message = Message::Notification(Notification::Cluster(have));
        outbox.push(Effect::Send { connection, message });
    }
}
