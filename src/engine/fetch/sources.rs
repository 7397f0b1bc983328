//! Who can be asked for which image, and what they have of it.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;

use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::piece::{Has, PieceSet};

/// The sources of each image.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_image: BTreeMap<ImageId, BTreeMap<ConnectionId, Source>>,
    /// The same the other way round: many connections may come and go.
    by_connection: BTreeMap<ConnectionId, BTreeSet<ImageId>>,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) version: ProtocolVersion,
    pub(super) role: Role,
    /// What it would like to be asked for.
    pub(super) share: Option<Share>,
    state: State,
}

/// Whether it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Whenever it has something.
    Asked,
    /// It said that it couldn't give something: not until it says anew what it has.
    Failed,
    /// It lied or fell silent: never again.
    Dropped,
}

/// What a source is.
#[derive(Debug)]
pub(super) enum Role {
    /// A client, which has everything. `vouched`: a change that it submitted, signed by an accepted key, wants the image here.
    Publisher { vouched: bool },
    /// Another node.
    Neighbour(Has),
}

/// One of `of` shares of the pieces, of about the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) index: u32,
    pub(super) of: u32,
}

/// The pieces of an image as a share divides them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) share: Share,
    /// In it.
    pub(super) own: PieceSet,
    /// In those of others.
    pub(super) others: PieceSet,
    /// Of these, the ones to fetch first when all of the own ones are asked for, so that those who help don't fetch the same.
    pub(super) helped: PieceSet,
    /// In none of the above any more: the publisher knows that another node has got it, which will give it to all.
    pub(super) given: PieceSet,
}

impl Share {
    /// Whether the piece is in it: its number, divided by `of`, leaves `index`.
    fn contains(self, piece: u32) -> bool {
        piece % self.of.max(1) == self.index
    }

    /// Whether a piece of somebody else's share is this one's to fetch, should it be done with its own first: each piece is that of one of the others.
    fn helps_with(self, piece: u32) -> bool {
        let of = self.of.max(1);
        let (owner, round) = (piece % of, piece / of);
        owner != self.index && (owner + 1 + round % (of - 1)) % of == self.index
    }

    /// How many shares of a node's pieces come before this one for a piece; 0: it is in this one. Their order differs from piece to
    /// piece, and has nothing to do with publishers' shares, as the node may have got just one of these.
    pub(super) fn turn(self, piece: u32) -> u32 {
        let scrambled = u64::from(piece.wrapping_add(1).wrapping_mul(0x9e37_79b1));
        let of = u64::from(self.of.max(1));
        let first = (scrambled * of) >> 32;
        u32::try_from((u64::from(self.index) + of - first) % of).unwrap_or(0)
    }
}

impl Shared {
    /// Of an image of `count` pieces.
    pub(super) fn new(share: Share, count: u32) -> Self {
        let those = |wanted: &dyn Fn(u32) -> bool| {
            let mut pieces = PieceSet::none(count);
            (0..count).filter(|piece| wanted(*piece)).for_each(|piece| _ = pieces.insert(piece));
            pieces
        };
        Self {
            share,
            own: those(&|piece| share.contains(piece)),
            others: those(&|piece| !share.contains(piece)),
            helped: those(&|piece| share.helps_with(piece)),
            given: PieceSet::none(count),
        }
    }

    /// Another node has got the piece.
    pub(super) fn give(&mut self, piece: u32) {
        if self.own.remove(piece) | self.others.remove(piece) {
            self.helped.remove(piece);
            self.given.insert(piece);
        }
    }
}

impl Source {
    fn new(version: ProtocolVersion, role: Role) -> Self {
        Self { version, role, share: None, state: State::Asked }
    }

    fn is_asked(&self) -> bool {
        self.state == State::Asked
    }

    /// What it has, if it is a node.
    pub(super) fn has(&self) -> Option<&Has> {
        match &self.role {
            Role::Neighbour(has) => Some(has),
            Role::Publisher { .. } => None,
        }
    }
}

impl Sources {
    /// Offering again changes nothing: who was dropped stays so. Gives the connections which are not to be asked any more,
    /// because one is there now that signed.
    pub(super) fn offered(
        &mut self,
        connection: ConnectionId,
        version: ProtocolVersion,
        image: ImageId,
        signed: bool,
    ) -> Vec<ConnectionId> {
        self.by_connection.entry(connection).or_default().insert(image);
        let fresh = Source::new(version, Role::Publisher { vouched: false });
        let source = self.by_image.entry(image).or_default().entry(connection).or_insert(fresh);
        let Role::Publisher { vouched } = &mut source.role else { return Vec::new() };
        if *vouched || !signed {
            return Vec::new();
        }
        *vouched = true;
        let stranger = |source: &Source| matches!(source.role, Role::Publisher { vouched: false });
        let sources = self.by_image.get(&image).into_iter().flatten();
        sources.filter(|(_, source)| stranger(source)).map(|(connection, _)| *connection).collect()
    }

    /// Which share a source would like to be asked for.
    pub(super) fn share(&mut self, connection: ConnectionId, image: ImageId, index: u32, of: u32) {
        if let Some(source) = self.get_mut(image, connection) {
            source.share = (index < of).then_some(Share { index, of });
        }
    }

    /// A node takes part in the image; gives what it said before, unless it was dropped. A publisher stays one.
    pub(super) fn neighbour(&mut self, connection: ConnectionId, image: ImageId, has: Has) -> Known {
        let sources = self.by_image.entry(image).or_default();
        if let Some(source) = sources.get_mut(&connection) {
            let Role::Neighbour(before) = &mut source.role else { return Known::Ignored };
            match source.state {
                State::Asked => return Known::Changed(std::mem::replace(before, has)),
                State::Failed => {
                    (*before, source.state) = (has, State::Asked);
                    return Known::New;
                }
                State::Dropped => return Known::Ignored,
            }
        }
        if sources.values().filter(|source| source.has().is_some()).count() >= limits::NEIGHBOURS_MAX {
            return Known::Ignored;
        }
        self.by_connection.entry(connection).or_default().insert(image);
        sources.insert(connection, Source::new(ProtocolVersion::V2, Role::Neighbour(has)));
        Known::New
    }

    /// A neighbour has one more piece; says whether that is news.
    pub(super) fn has_piece(&mut self, connection: ConnectionId, image: ImageId, piece: u32) -> bool {
        let source = self.get_mut(image, connection).filter(|source| source.is_asked());
        match source.map(|source| &mut source.role) {
            Some(Role::Neighbour(has)) => has.insert(piece),
            Some(Role::Publisher { .. }) | None => false,
        }
    }

    /// Gives what it was a source of.
    pub(super) fn gone(&mut self, connection: ConnectionId) -> Vec<(ImageId, Source)> {
        let mut gone = Vec::new();
        for image in self.by_connection.remove(&connection).unwrap_or_default() {
            let Some(sources) = self.by_image.get_mut(&image) else { continue };
            gone.extend(sources.remove(&connection).filter(Source::is_asked).map(|source| (image, source)));
            if sources.is_empty() {
                self.by_image.remove(&image);
            }
        }
        gone
    }

    /// A neighbour has none of so many pieces; gives what it said before.
    pub(super) fn has_nothing(&mut self, image: ImageId, connection: ConnectionId, count: u32) -> Option<Has> {
        let source = self.get_mut(image, connection).filter(|source| source.is_asked())?;
        let Role::Neighbour(has) = &mut source.role else { return None };
        Some(std::mem::replace(has, Has::Some(PieceSet::none(count))))
    }

    /// What nodes have said of the image isn't counted on any more.
    pub(super) fn forget_neighbours(&mut self, image: ImageId) {
        if let Some(sources) = self.by_image.get_mut(&image) {
            sources.retain(|_, source| source.has().is_none());
        }
    }

    /// It isn't to be asked for the image any more; gives it if it could be until now.
    pub(super) fn stop(&mut self, image: ImageId, connection: ConnectionId, state: State) -> Option<&Source> {
        let source = self.get_mut(image, connection).filter(|source| source.is_asked())?;
        source.state = state;
        Some(source)
    }

    /// One that may be asked.
    pub(super) fn get(&self, image: ImageId, connection: ConnectionId) -> Option<&Source> {
        self.by_image.get(&image)?.get(&connection).filter(|source| source.is_asked())
    }

    /// Whom to ask for an index: any node, as each that takes part has it; else a client.
    pub(super) fn of_index(&self, image: ImageId, random: &mut impl Rng) -> Option<(ConnectionId, ProtocolVersion)> {
        let neighbours: Vec<_> = self.neighbours(image).map(|(connection, _)| connection).collect();
        let at = random.next_u32() as usize % neighbours.len().max(1);
        let neighbour = neighbours.get(at).map(|connection| (*connection, ProtocolVersion::V2));
        neighbour.or_else(|| self.publishers(image).next().map(|(connection, source)| (connection, source.version)))
    }

    /// Nodes that can be asked, with what they have.
    pub(super) fn neighbours(&self, image: ImageId) -> impl Iterator<Item = (ConnectionId, &Has)> {
        self.all(image).filter_map(|(connection, source)| Some((connection, source.has()?)))
    }

    /// Clients that can be asked. Those without a key only if there is no other: anyone may connect, offer and then say nothing.
    pub(super) fn publishers(&self, image: ImageId) -> impl Iterator<Item = (ConnectionId, &Source)> {
        let publishers = || {
            self.all(image).filter_map(|(connection, source)| match source.role {
                Role::Publisher { vouched } => Some((connection, source, vouched)),
                Role::Neighbour(_) => None,
            })
        };
        let any_vouched = publishers().any(|(_, _, vouched)| vouched);
        publishers()
            .filter(move |(_, _, vouched)| *vouched || !any_vouched)
            .map(|(connection, source, _)| (connection, source))
            .take(limits::SOURCES_MAX)
    }

    fn all(&self, image: ImageId) -> impl Iterator<Item = (ConnectionId, &Source)> {
        let sources = self.by_image.get(&image).into_iter().flatten();
        sources.filter(|(_, source)| source.is_asked()).map(|(connection, source)| (*connection, source))
    }

    fn get_mut(&mut self, image: ImageId, connection: ConnectionId) -> Option<&mut Source> {
        self.by_image.get_mut(&image)?.get_mut(&connection)
    }
}

/// Whether a neighbour was known.
#[derive(Debug)]
pub(super) enum Known {
    /// It wasn't.
    New,
    /// It was, and had this.
    Changed(Has),
    /// It isn't asked: it was dropped, is a publisher, or there are enough others.
    Ignored,
}
