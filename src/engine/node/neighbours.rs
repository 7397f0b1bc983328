//! Which other nodes take part in an image together with this one, and what it tells them.
//!
//! For each image that is being deployed here some random members that carry the directory are connected to. Each of them is proposed
//! the change, which is how a change spreads, and then both sides tell each other which pieces they have. Who fails is
//! replaced; when the image is complete here, nobody is held any more, but all are served as long as they ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::connections::Asked;
use super::links::Need;
use super::messages::notify;
use super::{Effect, Node};
use crate::engine::contract::Outbox;
use crate::engine::fetch;
use crate::format::wire::{NodeRequest, Notice, Notification, Request};
use crate::model::address;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// Of all images that are being deployed.
#[derive(Debug)]
pub(super) struct Neighbours {
    images: BTreeMap<ImageId, Swarm>,
    random: ChaCha8Rng,
}

/// Of one image.
#[derive(Debug, Default)]
struct Swarm {
    /// Where this node deploys it.
    paths: BTreeSet<VPath>,
    /// Whom it chose.
    chosen: BTreeMap<SocketAddr, Choice>,
    /// When to look whether there are enough.
    next: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// The connection is being made.
    Linking,
    Linked(ConnectionId),
    /// Not to be had; after a round of pauses it's chosen again.
    Failed,
}

impl Neighbours {
    pub(super) fn new(seed: u64) -> Self {
        Self { images: BTreeMap::new(), random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// A path at which the image is being deployed.
    pub(super) fn path_of(&self, image: ImageId) -> Option<&VPath> {
        self.images.get(&image)?.paths.first()
    }

    /// Of which images.
    pub(super) fn images(&self) -> impl Iterator<Item = ImageId> {
        self.images.keys().copied()
    }

    /// For choices of members.
    pub(super) fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        let next = self.images.values().map(|swarm| swarm.next).min()?;
        Some((next, "neighbours: are there enough?"))
    }
}

impl Node {
    /// The head at this path is to be deployed: others should know of it and take part.
    pub(super) fn spread(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let needed = !self.heads.is_committed(path) || self.heals(path);
        if needed && !self.is_held_back(path) {
            self.seek(now, path, outbox);
        }
    }

    /// Chooses neighbours for what is to be at a path, also where it should be visible already and isn't.
    pub(super) fn seek(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        if self.config.serves(path).is_none() {
            return;
        }
        let Some(image) = self.heads.change(path).and_then(|(_, signed)| signed.change.image) else { return };
        let fresh = Swarm { next: now.time, ..Swarm::default() };
        let swarm = self.neighbours.images.entry(image).or_insert(fresh);
        if !swarm.paths.insert(path.clone()) {
            return;
        }
        let linked: Vec<_> = swarm.chosen.values().filter_map(Choice::connection).collect();
        for connection in linked {
            self.propose(connection, std::slice::from_ref(path), outbox);
        }
        self.top_up(now, image, outbox);
    }

    /// There is another member, which may be needed.
    pub(super) fn neighbours_join(&mut self, now: Now) {
        for swarm in self.neighbours.images.values_mut() {
            swarm.next = swarm.next.min(now.time + limits::NEIGHBOURS_PAUSE);
        }
    }

    /// The image is complete at this path, or isn't wanted there any more.
    pub(super) fn spread_ended(&mut self, now: Now, path: &VPath, image: ImageId, outbox: &mut Outbox<Effect>) {
        let Some(swarm) = self.neighbours.images.get_mut(&image) else { return };
        swarm.paths.remove(path);
        if swarm.paths.is_empty() {
            self.neighbours.images.remove(&image);
            let all: Vec<_> = self.connections.links().map(|(connection, _)| connection).collect();
            for connection in all {
                self.release(connection, Need::Image(image));
            }
            self.connections.forget(image);
            self.fetch(now, fetch::Input::Forget { image }, outbox);
        }
    }

    /// Chooses more members until there are enough.
    fn top_up(&mut self, now: Now, image: ImageId, outbox: &mut Outbox<Effect>) {
        let Some(swarm) = self.neighbours.images.get_mut(&image) else { return };
        swarm.next = now.time + limits::NEIGHBOURS_INTERVAL;
        let here = swarm.chosen.values().filter(|choice| **choice != Choice::Failed).count();
        let Some(missing) = limits::NEIGHBOURS_CHOSEN.checked_sub(here).filter(|missing| *missing > 0) else { return };
        let Some(key) = swarm.paths.first().map(|path| path.key().to_owned()) else { return };
        let carriers = self.cluster.carriers(&key);
        let untried: Vec<_> = carriers.into_iter().filter(|address| !swarm.chosen.contains_key(address)).collect();
        if untried.is_empty() {
            // Whoever failed may have come back by the next time.
            swarm.chosen.retain(|_, choice| *choice != Choice::Failed);
        }
        let chosen = address::sample(&untried, missing, &mut self.neighbours.random);
        for address in &chosen {
            swarm.chosen.insert(*address, Choice::Linking);
        }
        for address in chosen {
            self.link(now, address, Need::Image(image), outbox);
        }
    }

    /// The connection for an image is there.
    pub(super) fn neighbour_linked(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        image: ImageId,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(swarm) = self.neighbours.images.get_mut(&image) else {
            return self.release(connection, Need::Image(image));
        };
        swarm.chosen.insert(address, Choice::Linked(connection));
        let paths: Vec<_> = swarm.paths.iter().cloned().collect();
        // It is told of the pieces when it has taken the change: until then it doesn't want to know.
        self.propose(connection, &paths, outbox);
    }

    /// There is none, or not any more.
    pub(super) fn neighbour_unlinked(&mut self, now: Now, address: SocketAddr, image: ImageId) {
        let Some(swarm) = self.neighbours.images.get_mut(&image) else { return };
        swarm.chosen.insert(address, Choice::Failed);
        swarm.next = swarm.next.min(now.time + limits::NEIGHBOURS_PAUSE);
    }

    /// A neighbour takes none of the changes: another one is chosen in its place.
    pub(super) fn neighbour_refuses(&mut self, now: Now, connection: ConnectionId, paths: &[VPath]) {
        let Some(node) = self.connections.node(connection) else { return };
        let images: BTreeSet<_> = paths.iter().filter_map(|path| self.heads.change(path)?.1.change.image).collect();
        for image in images {
            self.release(connection, Need::Image(image));
            self.neighbour_unlinked(now, node.address, image);
        }
    }

    /// Proposes the heads at these paths.
    pub(super) fn propose(&mut self, connection: ConnectionId, paths: &[VPath], outbox: &mut Outbox<Effect>) {
        for paths in paths.chunks(limits::CHANGES_PER_MESSAGE_MAX) {
            let (paths, changes): (Vec<_>, Vec<_>) =
                paths.iter().filter_map(|path| Some((path.clone(), self.heads.change(path)?.1.clone()))).unzip();
            if !changes.is_empty() {
                let request = Request::Node(NodeRequest::Propose { changes });
                self.request(connection, request, Asked::Proposed(paths), outbox);
            }
        }
    }

    /// Tells a connection once what is here of an image.
    pub(super) fn tell_pieces(&mut self, connection: ConnectionId, image: ImageId, outbox: &mut Outbox<Effect>) {
        let (count, have) = match self.fetches.have(image) {
            Some(pieces) => (pieces.len(), Bytes::from(pieces.to_bytes())),
            // All of it.
            None if self.heads.whole_at(image).is_some() => (0, Bytes::new()),
            None => return,
        };
        if self.connections.tell_pieces(connection, image) {
            notify(connection, Notification::Cluster(Notice::Pieces { image, count, have }), outbox);
        }
    }

    /// The same, whatever it was told before: now is when it wants to know.
    pub(super) fn tell_pieces_anew(&mut self, connection: ConnectionId, image: ImageId, outbox: &mut Outbox<Effect>) {
        self.connections.untell(connection, image);
        self.tell_pieces(connection, image, outbox);
    }

    /// Tells all who take part what is here of an image, now that its index is known.
    pub(super) fn tell_all_pieces(&mut self, image: ImageId, outbox: &mut Outbox<Effect>) {
        for connection in self.connections.participants(image) {
            self.tell_pieces(connection, image, outbox);
        }
    }

    /// The same, whatever they were told before.
    pub(super) fn tell_all_pieces_anew(&mut self, image: ImageId, outbox: &mut Outbox<Effect>) {
        for connection in self.connections.participants(image) {
            self.tell_pieces_anew(connection, image, outbox);
        }
    }

    /// Pieces were verified and written.
    pub(super) fn announce(&mut self, image: ImageId, pieces: &[u32], outbox: &mut Outbox<Effect>) {
        for connection in self.connections.told(image) {
            for pieces in pieces.chunks(limits::HAVE_PIECES_MAX) {
                let notice = Notice::Have { image, pieces: pieces.to_vec() };
                notify(connection, Notification::Cluster(notice), outbox);
            }
        }
    }

    /// Somebody says which pieces it has.
    pub(super) fn neighbour_has(
        &mut self,
        now: Now,
        connection: ConnectionId,
        image: ImageId,
        (count, have): (u32, Bytes),
        outbox: &mut Outbox<Effect>,
    ) {
        let wanted = self.neighbours.images.contains_key(&image);
        if !wanted && self.heads.path_of(image).is_none() {
            return;
        }
        if wanted {
            self.fetch(now, fetch::Input::Pieces { connection, image, count, have }, outbox);
        }
        self.connections.takes_part(connection, image);
        self.tell_pieces(connection, image, outbox);
    }

    pub(super) fn neighbours_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let due = self.neighbours.images.iter().filter(|(_, swarm)| swarm.next <= now.time);
        let due: Vec<_> = due.map(|(image, _)| *image).collect();
        for image in due {
            self.top_up(now, image, outbox);
        }
    }
}

impl Choice {
    const fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Linked(connection) => Some(*connection),
            Self::Linking | Self::Failed => None,
        }
    }
}
