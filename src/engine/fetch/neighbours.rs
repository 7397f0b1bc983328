//! What other nodes say that they have, and what they are told to ask for first.

use std::collections::BTreeMap;

use super::blocks::Job;
use super::sources::{Known, Source, State};
use super::{Effect, Fetches};
use crate::engine::contract::Outbox;
use crate::model::ids::ImageId;
use crate::model::peer::ConnectionId;
use crate::model::piece::{Has, PieceSet};
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// The most shares that a node deals which gets nothing from a publisher: with one for each neighbour, a piece waits too often for its turn;
/// with fewer, too many ask a slow node for the same.
const SHARES: u32 = 5;

impl Fetches {
    /// A node says what it has; what doesn't fit the image costs it its place.
    pub(super) fn pieces(
        &mut self,
        connection: ConnectionId,
        image: ImageId,
        count: u32,
        have: &[u8],
        outbox: &mut Outbox<Effect>,
    ) {
        let fits = |has: &Has| self.jobs.values().all(|job| job.id() != image || has.fits(job.pieces.count()));
        let Some(has) = Has::told(count, have).filter(fits) else {
            if self.sources.get(image, connection).is_none() {
                let _ = self.sources.neighbour(connection, image, Has::Some(PieceSet::none(0)));
            }
            self.drop_source(connection, image, format!("it says it has some of {count} pieces"), outbox);
            return;
        };
        let known = self.sources.neighbour(connection, image, has);
        for job in self.jobs.values_mut().filter(|job| job.id() == image) {
            match &known {
                Known::Ignored => continue,
                Known::New => {}
                Known::Changed(before) => job.rarity.leave(before),
            }
            self.sources.get(image, connection).and_then(Source::has).into_iter().for_each(|has| job.rarity.join(has));
        }
        if matches!(known, Known::New) {
            self.deal(image, outbox);
        }
    }

    /// A node has more pieces; or a publisher says that one of those which it gives the image to has.
    pub(super) fn has_more(&mut self, now: Time, connection: ConnectionId, image: ImageId, pieces: &[u32]) {
        let jobs = self.jobs.values_mut().filter(|job| job.id() == image);
        jobs.for_each(|job| job.given(connection, pieces));
        for piece in pieces {
            if !self.sources.has_piece(connection, image, *piece) {
                continue;
            }
            let share = self.sources.get(image, connection).and_then(|source| source.share);
            let jobs = self.jobs.values_mut().filter(|job| job.id() == image);
            jobs.for_each(|job| job.heard_of(now, *piece, share));
        }
    }

    /// It can't give what it was asked for. A node that says what it has is taken at its next word: until then it has nothing.
    pub(super) fn source_failed(
        &mut self,
        connection: ConnectionId,
        image: ImageId,
        reason: String,
        outbox: &mut Outbox<Effect>,
    ) {
        let count = self.jobs.values().find(|job| job.id() == image).map(|job| job.pieces.count());
        let Some(before) = count.and_then(|count| self.sources.has_nothing(image, connection, count)) else {
            return self.stop_asking(connection, image, State::Failed, reason, outbox);
        };
        for job in self.jobs.values_mut().filter(|job| job.id() == image) {
            job.rarity.leave(&before);
        }
        self.forget(connection, Some(image));
        outbox.push(Effect::Dropped { connection, image, reason });
    }

    /// It isn't asked for the image any more.
    pub(super) fn stop_asking(
        &mut self,
        connection: ConnectionId,
        image: ImageId,
        state: State,
        reason: String,
        outbox: &mut Outbox<Effect>,
    ) {
        if let Some(source) = self.sources.stop(image, connection, state) {
            let neighbour = left(&mut self.jobs, image, source);
            self.forget(connection, Some(image));
            outbox.push(Effect::Dropped { connection, image, reason });
            if neighbour {
                self.deal(image, outbox);
            }
        }
    }

    /// Gives each node that takes part another share of what it can get from this one alone. Who gets pieces from a publisher has more of
    /// those than it could give to many at once; others give theirs to a few, so that they spread quickly.
    pub(super) fn deal(&self, image: ImageId, outbox: &mut Outbox<Effect>) {
        if !self.jobs.values().any(|job| job.id() == image) {
            return;
        }
        let count = u32::try_from(self.sources.neighbours(image).count()).unwrap_or(u32::MAX);
        let of = if self.sources.publishers(image).next().is_some() { count } else { count.min(SHARES) };
        for (index, (connection, _)) in (0..).zip(self.sources.neighbours(image)) {
            outbox.push(Effect::Share { connection, image, index: index % of, of });
        }
    }
}

/// Nobody counts any more what a source has; says whether it was a node.
pub(super) fn left(jobs: &mut BTreeMap<VPath, Job>, image: ImageId, source: &Source) -> bool {
    let Some(has) = source.has() else { return false };
    let jobs = jobs.values_mut().filter(|job| job.id() == image && has.fits(job.pieces.count()));
    jobs.for_each(|job| job.rarity.leave(has));
    true
}
