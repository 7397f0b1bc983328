//! Whom to ask for what next.
//!
//! Publishers are asked for what no neighbour has, each for its share first. Neighbours are asked, the least busy first, for the
//! rarest piece; pieces that are begun go before. What takes too long is asked of somebody else too, and so, when
//! everything is asked, is what is still missing.

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use super::blocks::Job;
use super::flow::{Flow, HELPING_QUESTIONS, PUBLISHER_QUESTIONS};
use super::sources::{Share, Shared, Source, Sources};
use super::{Effect, Question};
use crate::engine::contract::Outbox;
use crate::engine::pace::Pace;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::piece::Has;
use crate::model::run::Run;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// What asking needs besides the job.
pub(super) struct Round<'a> {
    pub(super) now: Time,
    pub(super) path: &'a VPath,
    pub(super) sources: &'a Sources,
    pub(super) random: &'a mut ChaCha8Rng,
    pub(super) pace: &'a mut Pace,
    /// Until when the pace lets nothing more through.
    pub(super) paused: &'a mut Option<Time>,
    /// Questions that the job may have in flight.
    pub(super) quota: usize,
    pub(super) outbox: &'a mut Outbox<Effect>,
}

/// Neighbours together are asked for so many questions of the usual size, and for what fits on a long way. With more, all
/// answers take longer and every piece takes longer to spread; with less, neighbours have nothing to do.
const TOGETHER_QUESTIONS: u64 = 6;
/// A run is asked of at most so many sources at a time.
const ASKERS_MAX: usize = 3;
/// Of the image's bytes, one in so many may come twice because the end is near, or because answers were late.
const DOUBLED_AT_END: u64 = 100;
const DOUBLED_LATE: u64 = 20;

impl Job {
    /// Asks as much as the windows allow.
    pub(super) fn pump(&mut self, round: &mut Round<'_>) {
        if self.stop.is_some() {
            return;
        }
        let sources = round.sources;
        for (connection, source) in sources.publishers(self.id) {
            self.note_share(connection, source.share);
            while self.may_ask(connection, source, round) {
                let Some(run) = self.unheld(connection, round) else { break };
                if !self.ask(connection, source.version, run, round) {
                    break;
                }
            }
            while self.may_ask(connection, source, round)
                && let Some(run) = self.helping(connection)
                && self.ask(connection, source.version, run, round)
            {}
            if self.may_ask(connection, source, round)
                && let Some((run, given)) = self.foreign(round.now, connection)
                && self.ask(connection, source.version, run, round)
            {
                self.flows.entry(connection).or_default().asked_foreign(given);
            }
        }
        let mut neighbours: Vec<_> = sources.neighbours(self.id).collect();
        while self.has_room(round) && !neighbours.is_empty() {
            let ready = neighbours.iter().enumerate().filter(|(_, (connection, _))| self.is_ready(*connection));
            let best = ready.min_by_key(|(_, (connection, has))| {
                let rare = self.idle(*connection) && self.rarity.has_rare(has);
                (!rare, self.flows.get(connection).map(Flow::expected), round.random.next_u32())
            });
            let Some((at, (connection, has))) = best.map(|(at, neighbour)| (at, *neighbour)) else { break };
            if !self.ask_neighbour(connection, has, round) {
                neighbours.swap_remove(at);
            }
        }
        for (connection, source) in sources.publishers(self.id) {
            if self.may_ask(connection, source, round)
                && self.idle(connection)
                && let Some(run) = self.last_resort(connection)
            {
                self.ask(connection, source.version, run, round);
            }
        }
    }

    /// Asks one neighbour, which has something more.
    pub(super) fn pump_one(&mut self, connection: ConnectionId, round: &mut Round<'_>) {
        let Some(has) = round.sources.get(self.id, connection).and_then(Source::has) else { return };
        while self.stop.is_none()
            && self.has_room(round)
            && self.is_ready(connection)
            && self.ask_neighbour(connection, has, round)
        {}
    }

    fn ask_neighbour(&mut self, connection: ConnectionId, has: &Has, round: &mut Round<'_>) -> bool {
        let run = self
            .late(connection, has)
            .or_else(|| self.begun(|piece, _| has.contains(piece)))
            .or_else(|| self.rarity.rarest(has, round.random).and_then(|piece| self.first_run(piece)))
            .or_else(|| self.again(connection, has));
        run.is_some_and(|run| self.ask(connection, ProtocolVersion::V2, run, round))
    }

    /// For a publisher: what no neighbour has.
    fn unheld(&self, connection: ConnectionId, round: &mut Round<'_>) -> Option<Run> {
        let share = self.shares.get(&connection).map(|shared| &shared.own);
        let mine = |piece| share.is_none_or(|share| share.contains(piece));
        self.begun(|piece, job| mine(piece) && !job.rarity.has_holder(piece))
            .or_else(|| self.rarity.unheld(share, round.random).and_then(|piece| self.first_run(piece)))
    }

    /// For a publisher of whose share everything is asked for: what others were to fetch, and won't have asked for yet. They begin
    /// with the first pieces, so these are the last ones.
    fn helping(&self, connection: ConnectionId) -> Option<Run> {
        let Shared { share, others, helped, .. } = self.shares.get(&connection)?;
        self.flows.get(&connection).filter(|flow| flow.has_room_to_help(self.usual_run()))?;
        let begun = self.begun(|piece, job| others.contains(piece) && !job.rarity.has_holder(piece));
        if begun.is_some() {
            return begun;
        }
        let asked_by_others = (PUBLISHER_QUESTIONS + HELPING_QUESTIONS) * u64::from(share.of.saturating_sub(1));
        if u64::from(self.rarity.count_unheld(|at| others.words()[at])) <= asked_by_others {
            return None;
        }
        let piece = self.rarity.last_unheld(|at| helped.words()[at]);
        let piece = piece.or_else(|| self.rarity.last_unheld(|at| others.words()[at]))?;
        self.first_run(piece)
    }

    /// For a publisher that has had nothing to do for a while: what no neighbour has, and others were to fetch; much later, also
    /// what one of them has got and doesn't pass on. Says which of both.
    fn foreign(&self, now: Time, connection: ConnectionId) -> Option<(Run, bool)> {
        let Shared { others, given, .. } = self.shares.get(&connection)?;
        let flow = self.flows.get(&connection);
        [(others, false), (given, true)].into_iter().find_map(|(pieces, given)| {
            flow.is_none_or(|flow| flow.foreign_at(given).is_some_and(|at| at <= now)).then_some(())?;
            let begun = self.begun(|piece, job| pieces.contains(piece) && !job.rarity.has_holder(piece));
            let last = || self.first_run(self.rarity.last_unheld(|at| pieces.words()[at])?);
            Some((begun.or_else(last)?, given))
        })
    }

    fn note_share(&mut self, connection: ConnectionId, share: Option<Share>) {
        if self.shares.get(&connection).map(|shared| shared.share) != share {
            self.shares.remove(&connection);
            self.flows.entry(connection).or_default().share_changed();
            let count = self.pieces.count();
            self.shares.extend(share.map(|share| (connection, Shared::new(share, count))));
        }
    }

    /// For a publisher that has nothing else to do: what neighbours have, but are too busy or too slow to give. As long as there is
    /// what nobody has, others need the publisher for that.
    fn last_resort(&self, connection: ConnectionId) -> Option<Run> {
        self.rarity.all_held().then(|| self.late(connection, &Has::All)).flatten()
    }

    /// The first pending run of a piece that was begun.
    fn begun(&self, suits: impl Fn(u32, &Self) -> bool) -> Option<Run> {
        self.open.iter().filter(|piece| suits(**piece, self)).find_map(|piece| self.first_run(*piece))
    }

    fn first_run(&self, piece: u32) -> Option<Run> {
        self.pending.range(self.pieces.blocks(piece)).next().map(|(first, count)| Run { first: *first, count: *count })
    }

    /// A run that all who were asked for it are late with.
    fn late(&self, connection: ConnectionId, has: &Has) -> Option<Run> {
        let runs = self.asked.values().filter(|asked| asked.late).map(|asked| asked.run);
        runs.filter(|run| self.askers(run.first).all(|(_, asked)| asked.late))
            .find(|run| self.may_double(connection, has, *run, ASKERS_MAX, DOUBLED_LATE))
    }

    /// When everything is asked: the run that was asked first.
    fn again(&self, connection: ConnectionId, has: &Has) -> Option<Run> {
        if !self.pending.is_empty() || !self.idle(connection) {
            return None;
        }
        let asked = self.asked.values().filter(|asked| self.may_double(connection, has, asked.run, 2, DOUBLED_AT_END));
        asked.min_by_key(|asked| asked.late_at).map(|asked| asked.run)
    }

    fn may_double(&self, connection: ConnectionId, has: &Has, run: Run, askers: usize, part: u64) -> bool {
        let piece = self.pieces.piece(run.first);
        let budget = self.image.total_bytes() / part + limits::RUN_BYTES_MAX as u64;
        self.bytes_doubled < budget
            && !self.arrived(run)
            && piece.is_some_and(|piece| has.contains(piece))
            && self.askers(run.first).count() < askers
            && !self.asked.contains_key(&(run.first, connection))
    }

    /// Whether a source owes nothing.
    fn idle(&self, connection: ConnectionId) -> bool {
        self.flows.get(&connection).is_none_or(Flow::is_idle)
    }

    fn is_ready(&self, connection: ConnectionId) -> bool {
        self.flows.get(&connection).is_none_or(Flow::has_room)
    }

    fn may_ask(&self, connection: ConnectionId, source: &Source, round: &Round<'_>) -> bool {
        let run = self.usual_run();
        let ready = self.flows.get(&connection).is_none_or(|flow| flow.publisher_has_room(source.version, run));
        let asked = self.asked.values().filter(|asked| !asked.of_neighbour()).count();
        // Neighbours get a part in any case.
        ready && asked < round.quota - round.quota / 4 && self.in_flight() < round.quota && round.paused.is_none()
    }

    /// Whether neighbours may be asked for more.
    fn has_room(&self, round: &Round<'_>) -> bool {
        if self.in_flight() >= round.quota || round.paused.is_some() {
            return false;
        }
        let run = self.usual_run();
        let asked = self.asked.values().filter(|asked| asked.of_neighbour() && !asked.late);
        let bytes: u64 = asked.map(|asked| asked.bytes).sum();
        let window = TOGETHER_QUESTIONS * run + self.together.product().saturating_sub(2 * run);
        bytes < window
    }

    /// Bytes of the image's largest questions.
    fn usual_run(&self) -> u64 {
        let piece = self.image.total_bytes() / limits::PIECES_AIMED;
        piece.clamp(limits::PIECE_BYTES_MIN, limits::RUN_BYTES_MAX as u64)
    }

    /// Asks for a run, or a part of it; says whether the pace allows it.
    fn ask(&mut self, connection: ConnectionId, version: ProtocolVersion, run: Run, round: &mut Round<'_>) -> bool {
        let run = self.cut(connection, version, run);
        let Some(question) = self.question(round.path, version, run) else { return false };
        let bytes = run.bytes(&self.image).unwrap_or(0) as u64;
        if let Err(when) = round.pace.take(round.now, bytes) {
            *round.paused = Some(when);
            return false;
        }
        self.unpend(run);
        let neighbour = round.sources.get(self.id, connection).is_some_and(|source| source.has().is_some());
        self.note_asked(round.now, connection, run, bytes, neighbour);
        round.outbox.push(Effect::Ask { connection, question });
        true
    }

    /// As much of the run as the source can be asked for at once. What is asked a second time stays whole.
    fn cut(&self, connection: ConnectionId, version: ProtocolVersion, run: Run) -> Run {
        if !self.pending.contains_key(&run.first) {
            return run;
        }
        let most = self.flows.get(&connection).map_or(u64::MAX, Flow::question_bytes);
        let blocks = match version {
            ProtocolVersion::V1 => 1,
            ProtocolVersion::V2 => u32::try_from(most / limits::BLOCK_BYTES as u64).unwrap_or(u32::MAX).max(1),
        };
        Run { count: run.count.min(blocks), ..run }
    }

    fn question(&self, path: &VPath, version: ProtocolVersion, run: Run) -> Option<Question> {
        let (path, image) = (path.clone(), self.id);
        if version == ProtocolVersion::V2 {
            return Some(Question::Run { path, image, run });
        }
        if run.count > 1 {
            return None;
        }
        let place = self.image.place(run.first)?;
        let hash = *self.image.block_hashes(run.first, 1).first()?;
        let file = place.file.path();
        Some(Question::Block { path, image, block: run.first, hash, file, offset: place.offset })
    }

    /// The run, the beginning of a pending one, isn't pending any more.
    fn unpend(&mut self, run: Run) {
        let Some(count) = self.pending.remove(&run.first) else { return };
        if count > run.count {
            self.pending.insert(run.end(), count - run.count);
        }
        let Some(piece) = self.pieces.piece(run.first) else { return };
        self.rarity.begin(piece);
        if self.first_run(piece).is_some() {
            self.open.insert(piece);
        } else {
            self.open.remove(&piece);
        }
    }
}
