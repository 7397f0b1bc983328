//! Getting the blocks of one path's image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Answer, Effect, Question};
use crate::engine::contract::Outbox;
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::failure::Failure;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::run::{Run, runs_of};
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// The missing blocks of one image at one path.
#[derive(Debug)]
pub(super) struct Job {
    directory: Arc<DirectoryConfig>,
    id: ImageId,
    image: Arc<Image>,
    have: BlockSet,
    /// Not asked for: first block → number of blocks; runs within the bounds of one question.
    pending: BTreeMap<u64, u32>,
    /// Asked for: (source, first block) → blocks, and when.
    asked: BTreeMap<(ConnectionId, u64), (Run, Time)>,
    /// Arrived from a source, being checked and written.
    storing: BTreeMap<Run, ConnectionId>,
    bytes_fetched: u64,
    stop: Option<Stop>,
}

/// Why nothing more is asked.
#[derive(Debug, Clone)]
enum Stop {
    Cancelled,
    Failed(Failure),
}

impl Job {
    pub(super) fn new(directory: Arc<DirectoryConfig>, id: ImageId, image: Arc<Image>, have: BlockSet) -> Self {
        let mut pending = BTreeMap::new();
        for run in runs_of(&image) {
            for part in missing_parts(run, &have) {
                pending.insert(part.first, part.count);
            }
        }
        let (asked, storing) = (BTreeMap::new(), BTreeMap::new());
        Self { directory, id, image, have, pending, asked, storing, bytes_fetched: 0, stop: None }
    }

    pub(super) fn id(&self) -> ImageId {
        self.id
    }

    pub(super) fn bytes_fetched(&self) -> u64 {
        self.bytes_fetched
    }

    pub(super) fn in_flight(&self) -> usize {
        self.asked.len() + self.storing.len()
    }

    /// Questions to this source that are unanswered, or whose answers are not yet stored.
    pub(super) fn asked_of(&self, connection: ConnectionId) -> usize {
        let asked = self.asked.range((connection, 0)..=(connection, u64::MAX)).count();
        asked + self.storing.values().filter(|source| **source == connection).count()
    }

    pub(super) fn oldest_by_source(&self) -> impl Iterator<Item = (ConnectionId, Time)> {
        self.asked.iter().map(|((connection, _), (_, at))| (*connection, *at))
    }

    /// The next question for a source of the given version.
    pub(super) fn ask(
        &mut self,
        now: Time,
        path: &VPath,
        connection: ConnectionId,
        version: ProtocolVersion,
    ) -> Option<Question> {
        if self.stop.is_some() {
            return None;
        }
        let (first, count) = self.pending.pop_first()?;
        let (path, image) = (path.clone(), self.id);
        let (run, question) = match version {
            ProtocolVersion::V2 => {
                let run = Run { first, count };
                (run, Question::Run { path, image, run })
            }
            ProtocolVersion::V1 => {
                if count > 1 {
                    self.pending.insert(first + 1, count - 1);
                }
                let place = self.image.place(first)?;
                let file = place.directory.join(place.name);
                let hash = *self.image.hashes().get(usize::try_from(first).ok()?)?;
                let question = Question::Block { path, image, block: first, hash, file, offset: place.offset };
                (Run { first, count: 1 }, question)
            }
        };
        self.asked.insert((connection, first), (run, now));
        Some(question)
    }

    /// Takes the question off the list; says when it was asked, `None` if it isn't waited for.
    pub(super) fn landed(&mut self, connection: ConnectionId, run: Run) -> Option<Time> {
        let (_, at) = self.asked.get(&(connection, run.first)).filter(|(asked, _)| *asked == run)?;
        let at = *at;
        self.asked.remove(&(connection, run.first));
        Some(at)
    }

    /// An error is a lie of the source.
    pub(super) fn take(
        &mut self,
        path: &VPath,
        connection: ConnectionId,
        run: Run,
        answer: Answer,
        outbox: &mut Outbox<Effect>,
    ) -> Result<(), String> {
        let Answer::Data(data) = answer else { return Err("an answer to another question".to_owned()) };
        let expected = run.bytes(&self.image).unwrap_or(0);
        if data.len() != expected {
            return Err(format!("{} bytes for blocks of {expected}", data.len()));
        }
        if self.stop.is_some() {
            return Ok(());
        }
        self.storing.insert(run, connection);
        let (path, directory, image) = (path.clone(), self.directory.clone(), self.image.clone());
        outbox.push(Effect::Store { path, directory, image, run, data });
        Ok(())
    }

    /// Not answered with blocks: to be asked again.
    pub(super) fn put_back(&mut self, run: Run) {
        if run.count > 0 {
            self.pending.insert(run.first, run.count);
        }
    }

    /// The run is checked and written; says who lied, and with which block.
    pub(super) fn stored(&mut self, run: Run, result: Result<Vec<u64>, Failure>) -> Option<(ConnectionId, u64)> {
        let source = self.storing.remove(&run)?;
        let bad = match result {
            Ok(bad) => bad,
            Err(failure) => {
                self.stop.get_or_insert(Stop::Failed(failure));
                return None;
            }
        };
        for block in run.blocks() {
            if bad.contains(&block) {
                self.pending.insert(block, 1);
            } else if self.have.insert(block) {
                self.bytes_fetched += self.image.place(block).map_or(0, |place| place.len as u64);
            }
        }
        bad.first().map(|block| (source, *block))
    }

    pub(super) fn cancel(&mut self) {
        self.stop = Some(Stop::Cancelled);
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let runs: Vec<Run> =
            self.asked.range((connection, 0)..=(connection, u64::MAX)).map(|(_, (run, _))| *run).collect();
        for run in runs {
            self.asked.remove(&(connection, run.first));
            self.put_back(run);
        }
    }

    /// The job's last effect, if it is over.
    pub(super) fn end(&self, path: &VPath) -> Option<Effect> {
        let path = path.clone();
        match &self.stop {
            _ if !self.storing.is_empty() => None,
            Some(Stop::Cancelled) => Some(Effect::Cancelled { path }),
            Some(Stop::Failed(failure)) => Some(Effect::Failed { path, failure: failure.clone() }),
            None => self.have.is_full().then_some(Effect::Finished { path, bytes: self.bytes_fetched }),
        }
    }
}

/// The parts of a run whose blocks are missing.
fn missing_parts(run: Run, have: &BlockSet) -> Vec<Run> {
    let mut parts = Vec::<Run>::new();
    for block in run.blocks().filter(|block| !have.contains(*block)) {
        match parts.last_mut() {
            Some(part) if part.end() == block && part.count < limits::RUN_BLOCKS_MAX => part.count += 1,
            _ => parts.push(Run { first: block, count: 1 }),
        }
    }
    parts
}
