//! The blocks of one path's image: which are there, asked for, or being stored. Whom to ask for what is `asking`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flow::Flow;
use super::meter::{Meter, Sent};
use super::rarity::Rarity;
use super::sources::{Share, Shared, Sources};
use super::{Answer, Effect};
use crate::engine::contract::Outbox;
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::failure::Failure;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::piece::{PieceSet, Pieces};
use crate::model::run::Run;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// The missing blocks of one image at one path.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) directory: Arc<DirectoryConfig>,
    pub(super) id: ImageId,
    pub(super) image: Arc<Image>,
    pub(super) pieces: Pieces,
    have: BlockSet,
    /// How many blocks of each piece are missing.
    missing: Vec<u32>,
    /// Pieces of which none is.
    complete: PieceSet,
    /// Pieces of which nothing was asked, the rarest first.
    pub(super) rarity: Rarity,
    /// Pieces of which something was asked, and something wasn't.
    pub(super) open: BTreeSet<u32>,
    /// Not asked for: first block → number of blocks; within one piece and the bounds of one question.
    pub(super) pending: BTreeMap<u64, u32>,
    /// Asked for: first block and whom.
    pub(super) asked: BTreeMap<(u64, ConnectionId), Asked>,
    /// Arrived from a source, so many bytes, being checked and written.
    storing: BTreeMap<Run, (ConnectionId, u64)>,
    pub(super) flows: BTreeMap<ConnectionId, Flow>,
    /// What publishers would like to be asked for.
    pub(super) shares: BTreeMap<ConnectionId, Shared>,
    /// Deliveries of all neighbours.
    pub(super) together: Meter,
    bytes_fetched: u64,
    /// From whom.
    fetched_from: BTreeMap<ConnectionId, u64>,
    /// Bytes that came twice.
    pub(super) bytes_doubled: u64,
    pub(super) stop: Option<Stop>,
}

/// A question without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) run: Run,
    pub(super) bytes: u64,
    sent: Sent,
    /// The same for the meter of all neighbours; `None`: asked of a publisher.
    together: Option<Sent>,
    /// When it takes too long.
    pub(super) late_at: Time,
    pub(super) late: bool,
}

impl Asked {
    pub(super) fn of_neighbour(&self) -> bool {
        self.together.is_some()
    }
}

/// Why nothing more is asked.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    Cancelled,
    Failed(Failure),
}

/// The next neighbour's turn for a piece comes after so many times the usual delay.
const TURN: u32 = 8;

/// What a stored run tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Pieces that are complete now.
    pub(super) pieces: Vec<u32>,
    /// Who sent a wrong block, and which.
    pub(super) liar: Option<(ConnectionId, u64)>,
}

impl Job {
    pub(super) fn new(
        directory: Arc<DirectoryConfig>,
        id: ImageId,
        image: Arc<Image>,
        have: BlockSet,
        sources: &Sources,
    ) -> Self {
        let pieces = Pieces::of(&image);
        let count = pieces.count();
        let (mut rarity, mut missing, mut complete) =
            (Rarity::new(count), vec![0; count as usize], PieceSet::none(count));
        for (_, has) in sources.neighbours(id).filter(|(_, has)| has.fits(count)) {
            rarity.join(has);
        }
        let pending = missing_runs(&image, &pieces, &have);
        for (first, blocks) in &pending {
            if let Some(piece) = pieces.piece(*first) {
                missing[piece as usize] += blocks;
                rarity.want(piece);
            }
        }
        (0..count).filter(|piece| missing[*piece as usize] == 0).for_each(|piece| _ = complete.insert(piece));
        Self {
            directory,
            id,
            image,
            pieces,
            have,
            missing,
            complete,
            rarity,
            open: BTreeSet::new(),
            pending,
            asked: BTreeMap::new(),
            storing: BTreeMap::new(),
            flows: BTreeMap::new(),
            shares: BTreeMap::new(),
            together: Meter::default(),
            bytes_fetched: 0,
            fetched_from: BTreeMap::new(),
            bytes_doubled: 0,
            stop: None,
        }
    }

    pub(super) fn id(&self) -> ImageId {
        self.id
    }

    pub(super) fn bytes_fetched(&self) -> u64 {
        self.bytes_fetched
    }

    /// Pieces that are verified and written.
    pub(super) fn complete(&self) -> &PieceSet {
        &self.complete
    }

    /// Whether all of a run is in them.
    pub(super) fn has_run(&self, run: Run) -> bool {
        let is_complete = |block| self.pieces.piece(block).is_some_and(|piece| self.complete.contains(piece));
        run.count > 0 && run.count <= limits::RUN_BLOCKS_MAX && run.blocks().all(is_complete)
    }

    /// Questions that are unanswered, or whose answers are not yet stored.
    pub(super) fn in_flight(&self) -> usize {
        self.asked.len() + self.storing.len()
    }

    /// A neighbour has one more piece. If it is the only one, its neighbours take turns, so that they don't all ask it for the same.
    pub(super) fn heard_of(&mut self, now: Time, piece: u32, share: Option<Share>) {
        self.rarity.add(piece);
        let turn = share.map_or(0, |share| share.turn(piece));
        if turn > 0 {
            let pause = self.together.usual().unwrap_or_default().saturating_mul(turn.saturating_mul(TURN));
            self.rarity.hold(piece, now + pause.min(limits::PIECE_HELD_MAX));
        }
    }

    /// Notes that a source is asked for a run, which isn't pending any more.
    pub(super) fn note_asked(&mut self, now: Time, connection: ConnectionId, run: Run, bytes: u64, neighbour: bool) {
        let flow = self.flows.entry(connection).or_default();
        let sent = flow.asked(now, bytes);
        let late_at = now + flow.patience(self.together.usual());
        let together = neighbour.then(|| self.together.sent(now));
        self.asked.insert((run.first, connection), Asked { run, bytes, sent, together, late_at, late: false });
    }

    /// Takes the question off the list and gives the bytes that were asked for; `None` if it isn't waited for.
    pub(super) fn landed(&mut self, now: Time, connection: ConnectionId, run: Run) -> Option<u64> {
        self.asked.get(&(run.first, connection)).filter(|asked| asked.run == run)?;
        let asked = self.asked.remove(&(run.first, connection))?;
        if let Some(sent) = asked.together {
            self.together.answered(now, sent, asked.bytes);
        }
        self.flows.entry(connection).or_default().answered(now, asked.sent, asked.bytes, asked.late);
        Some(asked.bytes)
    }

    /// An error is a lie of the source.
    pub(super) fn take(
        &mut self,
        path: &VPath,
        connection: ConnectionId,
        (run, expected): (Run, u64),
        answer: Answer,
        outbox: &mut Outbox<Effect>,
    ) -> Result<(), String> {
        let Answer::Data(data) = answer else { return Err("an answer to another question".to_owned()) };
        if data.len() as u64 != expected {
            return Err(format!("{} bytes for blocks of {expected}", data.len()));
        }
        if self.stop.is_some() {
            return Ok(());
        }
        // Somebody else was quicker.
        if self.arrived(run) {
            self.bytes_doubled += expected;
            return Ok(());
        }
        self.storing.insert(run, (connection, expected));
        self.flows.entry(connection).or_default().storing(expected);
        let (path, directory, image) = (path.clone(), self.directory.clone(), self.image.clone());
        outbox.push(Effect::Store { path, directory, image, run, data });
        Ok(())
    }

    /// Whether somebody else has answered the same.
    pub(super) fn arrived(&self, run: Run) -> bool {
        self.storing.contains_key(&run) || run.blocks().all(|block| self.have.contains(block))
    }

    /// To be asked again, unless that is under way.
    pub(super) fn put_back(&mut self, run: Run) {
        let Some(piece) = self.pieces.piece(run.first) else { return };
        if run.count == 0 || self.askers(run.first).next().is_some() || self.storing.contains_key(&run) {
            return;
        }
        for part in parts(run.blocks().filter(|block| !self.have.contains(*block))) {
            self.pending.insert(part.first, part.count);
            self.open.insert(piece);
        }
    }

    /// Who is asked for the run which begins with that block.
    pub(super) fn askers(&self, first: u64) -> impl Iterator<Item = (ConnectionId, &Asked)> {
        let range = (first, ConnectionId(0))..=(first, ConnectionId(u64::MAX));
        self.asked.range(range).map(|((_, connection), asked)| (*connection, asked))
    }

    /// The run is checked and written, but for the bad blocks.
    pub(super) fn stored(&mut self, run: Run, result: Result<Vec<u64>, Failure>) -> Told {
        let Some((source, bytes)) = self.storing.remove(&run) else { return Told::default() };
        if let Some(flow) = self.flows.get_mut(&source) {
            flow.stored(bytes);
        }
        let bad = match result {
            Ok(bad) => bad,
            Err(failure) => {
                self.stop.get_or_insert(Stop::Failed(failure));
                return Told::default();
            }
        };
        let mut told = Told { pieces: Vec::new(), liar: bad.first().map(|block| (source, *block)) };
        for block in run.blocks().filter(|block| !bad.contains(block)) {
            if self.have.insert(block) {
                let len = self.image.place(block).map_or(0, |place| place.len as u64);
                self.bytes_fetched += len;
                *self.fetched_from.entry(source).or_default() += len;
                told.pieces.extend(self.one_less(block));
            }
        }
        if !bad.is_empty() {
            self.put_back(run);
        }
        told
    }

    /// A block of its piece is there; gives the piece if that was the last one.
    fn one_less(&mut self, block: u64) -> Option<u32> {
        let piece = self.pieces.piece(block)?;
        let missing = &mut self.missing[piece as usize];
        *missing = missing.saturating_sub(1);
        (*missing == 0 && self.complete.insert(piece)).then_some(piece)
    }

    pub(super) fn cancel(&mut self) {
        self.stop = Some(Stop::Cancelled);
    }

    /// The source isn't asked any more: what it was asked is to be asked of others.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let runs: Vec<Run> =
            self.asked.iter().filter(|((_, asked), _)| *asked == connection).map(|(_, asked)| asked.run).collect();
        for run in runs {
            self.asked.remove(&(run.first, connection));
            self.put_back(run);
        }
        self.flows.remove(&connection);
        self.shares.remove(&connection);
    }

    /// Sources that owe answers, with when they will have been silent for too long.
    pub(super) fn silent_at(&self) -> impl Iterator<Item = (Time, ConnectionId)> {
        self.flows.iter().filter_map(|(connection, flow)| Some((flow.silent_at()?, *connection)))
    }

    /// When the first answer will be late.
    pub(super) fn late_at(&self) -> Option<Time> {
        self.asked.values().filter(|asked| !asked.late).map(|asked| asked.late_at).min()
    }

    /// When the next publisher may be asked for what others were to fetch.
    pub(super) fn foreign_at(&self, now: Time) -> Option<Time> {
        let idle = self.shares.keys().filter_map(|connection| self.flows.get(connection));
        let at = idle.flat_map(|flow| [flow.foreign_at(false), flow.foreign_at(true)]);
        at.flatten().filter(|at| *at > now).min()
    }

    /// A publisher says which pieces it has given to another node.
    pub(super) fn given(&mut self, connection: ConnectionId, pieces: &[u32]) {
        if let Some(shared) = self.shares.get_mut(&connection) {
            for piece in pieces {
                shared.give(*piece);
            }
        }
    }

    /// Marks what is late.
    pub(super) fn note_late(&mut self, now: Time) {
        for ((_, connection), asked) in &mut self.asked {
            if !asked.late && asked.late_at <= now {
                asked.late = true;
                self.flows.entry(*connection).or_default().is_late();
            }
        }
    }

    fn finished(&self, path: VPath) -> Effect {
        let mut from: Vec<_> = self.fetched_from.iter().map(|(connection, bytes)| (*connection, *bytes)).collect();
        from.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        from.truncate(limits::SOURCES_TOLD_MAX);
        Effect::Finished { path, bytes: self.bytes_fetched, from }
    }

    /// The job's last effect, if it is over.
    pub(super) fn end(&self, path: &VPath) -> Option<Effect> {
        let path = path.clone();
        match &self.stop {
            _ if !self.storing.is_empty() => None,
            Some(Stop::Cancelled) => Some(Effect::Cancelled { path }),
            Some(Stop::Failed(failure)) => Some(Effect::Failed { path, failure: failure.clone() }),
            None => self.have.is_full().then(|| self.finished(path)),
        }
    }
}

/// Joins consecutive blocks.
fn parts(blocks: impl Iterator<Item = u64>) -> Vec<Run> {
    let mut parts = Vec::<Run>::new();
    for block in blocks {
        match parts.last_mut() {
            Some(part) if part.end() == block && part.count < limits::RUN_BLOCKS_MAX => part.count += 1,
            _ => parts.push(Run { first: block, count: 1 }),
        }
    }
    parts
}

/// What is missing, in runs which one question may ask for and which lie in one piece.
fn missing_runs(image: &Image, pieces: &Pieces, have: &BlockSet) -> BTreeMap<u64, u32> {
    let mut runs = BTreeMap::new();
    let mut run = Run { first: 0, count: 0 };
    let (mut bytes, mut piece, mut piece_end) = (0, 0, 0);
    for (block, len) in (0..).zip(image.block_lengths()) {
        let new_piece = block == piece_end;
        if new_piece {
            piece_end = pieces.blocks(piece).end;
            piece += 1;
        }
        if have.contains(block) {
            continue;
        }
        let full = bytes + len > limits::RUN_BYTES_MAX as u64 || run.count >= limits::RUN_BLOCKS_MAX;
        if run.end() != block || run.count == 0 || new_piece || full {
            if run.count > 0 {
                runs.insert(run.first, run.count);
            }
            (run, bytes) = (Run { first: block, count: 0 }, 0);
        }
        run.count += 1;
        bytes += len;
    }
    if run.count > 0 {
        runs.insert(run.first, run.count);
    }
    runs
}
