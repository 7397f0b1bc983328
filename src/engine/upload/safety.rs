//! Whether the nodes have everything together, so that the client may go away (003-14).

use std::net::SocketAddr;

use super::follow::{Teller, is_good};
use super::peer::{Link, Peer, Stage};
use super::{Effect, Event, Upload, Uploads};
use crate::engine::contract::Outbox;
use crate::model::ids::ImageId;
use crate::model::piece::{Has, PieceSet};

/// How many pieces some have together, and of how many; those who cut the image otherwise than the first don't count.
fn together<'a>(all: impl Iterator<Item = &'a Has>) -> (u32, u32) {
    let mut sum: Option<PieceSet> = None;
    for has in all {
        let Has::Some(pieces) = has else { return (1, 1) };
        sum.get_or_insert_with(|| PieceSet::none(pieces.len())).add(pieces);
    }
    sum.map_or((0, 0), |sum| (sum.count(), sum.len()))
}

impl Uploads {
    pub(super) fn told_pieces(
        &mut self,
        from: SocketAddr,
        image: ImageId,
        (count, have): (u32, &[u8]),
        outbox: &mut Outbox<Effect>,
    ) {
        let published = self.intents.iter().any(|intent| intent.upload.image == image);
        if let (true, Some(peer), Some(pieces)) = (published, self.peers.get_mut(&from), Has::told(count, have)) {
            peer.pieces.insert(image, pieces);
            let all: Vec<_> = (0..count).collect();
            self.pass_on(from, image, &all, outbox);
            self.tell_given(from, image, outbox);
        }
    }

    pub(super) fn told_have(&mut self, from: SocketAddr, image: ImageId, pieces: &[u32], outbox: &mut Outbox<Effect>) {
        if let Some(known) = self.peers.get_mut(&from).and_then(|peer| peer.pieces.get_mut(&image)) {
            for piece in pieces {
                known.insert(*piece);
            }
            self.pass_on(from, image, pieces, outbox);
        }
    }

    /// Says when it becomes safe to go away, and when it isn't any more.
    pub(super) fn look_at_safety(&mut self, outbox: &mut Outbox<Effect>) {
        let safe = (0..self.intents.len()).all(|upload| self.is_upload_safe(upload));
        if safe != self.safe {
            self.safe = safe;
            outbox.push(Effect::Event(Event::Safe { safe }));
        }
    }

    /// Whether every node that takes it can get it from nodes which it hears: each connected one is asked, as they needn't be of
    /// one cluster. One that doesn't tell of others passes nothing on.
    pub(super) fn is_upload_safe(&self, upload: usize) -> bool {
        let mut anybody = false;
        for peer in self.peers.values() {
            match (&peer.link, &peer.stages[upload]) {
                (Link::Up { .. }, Stage::Accepted { .. }) => {
                    if !self.is_supplied(upload, peer) {
                        return false;
                    }
                    anybody = true;
                }
                (Link::Up { .. }, Stage::Ended(outcome)) => anybody |= is_good(&outcome.result),
                (
                    _,
                    Stage::NotHere | Stage::Kept(_) | Stage::Refused(_) | Stage::NotServed { .. } | Stage::Ended(_),
                ) => {}
                // It may be alone, and need what is only here.
                (Link::Up { .. } | Link::Greeting { .. }, Stage::Unsent | Stage::Asked { .. }) => return false,
                // Those that hear it supply it when it returns; and who is down for all is named.
                (
                    Link::Connecting | Link::Pausing { .. } | Link::Closed | Link::Greeting { .. },
                    Stage::Unsent | Stage::Asked { .. } | Stage::Accepted { .. },
                ) => {
                    let known = self.rows_of(peer)[upload].is_some();
                    if !known && !peer.is_down() {
                        return false;
                    }
                }
            }
        }
        anybody
    }

    /// Whether the end depends on which pieces nodes have.
    pub(super) fn is_anything_not_served(&self) -> bool {
        let not_served = |stage: &Stage| matches!(stage, Stage::NotServed { .. });
        self.peers.values().any(|peer| peer.stages.iter().any(not_served))
    }

    /// Whether those of a connected node's cluster that are connected too have all pieces together, or a live one has it.
    fn is_supplied(&self, upload: usize, peer: &Peer) -> bool {
        let id = peer.host.as_ref().map(|host| host.machine_id);
        let Some(told) = self.followed[upload].told_by_or_of(peer.address, id) else { return false };
        let Upload { image, given, .. } = self.intents[upload].upload;
        if !given {
            // Nothing is to be had from here.
            return true;
        }
        let near = |other: &&Peer| other.address == peer.address || hears(told, other);
        let connected = || self.peers.values().filter(|other| is_up(other)).filter(near);
        let done = |other: &Peer| matches!(&other.stages[upload], Stage::Ended(end) if is_good(&end.result));
        let (held, total) = together(connected().filter_map(|other| other.pieces.get(&image)));
        told.is_done_anywhere() || connected().any(done) || (total > 0 && held == total)
    }

    /// Whether a node gets from the other one what this one has.
    pub(super) fn is_near(&self, upload: usize, peer: &Peer, other: &Peer) -> bool {
        let id = peer.host.as_ref().map(|host| host.machine_id);
        self.followed[upload].told_by_or_of(peer.address, id).is_some_and(|told| hears(told, other))
    }

    /// How many pieces of an upload the connected nodes have together, and of how many; zeros: nothing is known.
    pub(super) fn held(&self, upload: usize) -> (u32, u32) {
        let image = self.intents[upload].upload.image;
        let connected = self.peers.values().filter(|peer| is_up(peer));
        together(connected.filter_map(|peer| peer.pieces.get(&image)))
    }
}

fn hears(told: &Teller, other: &Peer) -> bool {
    other.host.as_ref().is_some_and(|host| told.hears(other.address, host.machine_id))
}

fn is_up(peer: &Peer) -> bool {
    matches!(peer.link, Link::Up { .. })
}
