//! Which index parts and blocks to ask from whom, and what to do with the answers.
//!
//! Sources are the connections which offered an image; those who also signed for it come first. Each is asked with its own
//! window; one that lies, fails or falls silent is dropped for that image and what it was asked goes to the next. Whether an image should be fetched at all is
//! `deploy`'s; checking and writing what arrived is the disk's.

#[cfg(test)]
mod asking_tests;
mod blocks;
mod index;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use self::blocks::Job;
use self::index::IndexJob;
use self::sources::Sources;
use crate::engine::contract::{Engine, Outbox};
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::failure::Failure;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::Image;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::run::Run;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// What a source can be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The whole index (`ciruela.v1`).
    Index { image: ImageId },
    /// The index from an offset on (`ciruela.v2`).
    IndexPart { image: ImageId, offset: u64 },
    /// A run of blocks (`ciruela.v2`).
    Run { path: VPath, image: ImageId, run: Run },
    /// One block by its hash (`ciruela.v1`), with where it is in the image as a hint.
    Block { path: VPath, image: ImageId, block: u64, hash: BlockHash, file: String, offset: u64 },
}

/// What a source answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The blocks, or the whole index.
    Data(Bytes),
    /// A part of an index of `total` bytes.
    Part { data: Bytes, total: u64 },
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// A connection offers an image (again). `vouched`: it has also submitted a well signed change which wants the image.
    Offered { connection: ConnectionId, version: ProtocolVersion, image: ImageId, vouched: bool },
    /// A connection is gone: all that it was asked stays unanswered.
    Gone { connection: ConnectionId },
    /// An index is wanted.
    WantIndex { image: ImageId },
    /// An index is no longer wanted.
    DropIndex { image: ImageId },
    /// Answer to [`Effect::CheckIndex`]: genuine, or an error: not the text that hashes to the id.
    IndexChecked { image: ImageId, genuine: Result<(), String> },
    /// The blocks of an image are wanted, but those which are there.
    Start { path: VPath, directory: Arc<DirectoryConfig>, id: ImageId, image: Arc<Image>, have: BlockSet },
    /// They are no longer wanted. Answered by [`Effect::Cancelled`] unless the end was told already.
    Cancel { path: VPath },
    /// Answer to [`Effect::Ask`], unless [`Input::Gone`] came first.
    Answered { connection: ConnectionId, question: Question, answer: Result<Answer, String> },
    /// Answer to [`Effect::Store`]: numbers of the blocks that don't fit their hashes.
    Stored { path: VPath, run: Run, result: Result<Vec<u64>, Failure> },
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Ask a source.
    Ask { connection: ConnectionId, question: Question },
    /// Check what arrived and write what is right.
    Store { path: VPath, directory: Arc<DirectoryConfig>, image: Arc<Image>, run: Run, data: Bytes },
    /// Check an index against its id and keep it.
    CheckIndex { image: ImageId, data: Vec<u8> },
    /// Every block of the path's image is there; this many bytes were fetched. No answer.
    Finished { path: VPath, bytes: u64 },
    /// Storing failed; what was asked is forgotten. No answer.
    Failed { path: VPath, failure: Failure },
    /// Nothing of the path is under way any more. No answer.
    Cancelled { path: VPath },
    /// A source isn't asked for that image any more, and why. No answer.
    Dropped { connection: ConnectionId, image: ImageId, reason: String },
}

/// All fetching of a node.
#[derive(Debug, Default)]
pub struct Fetches {
    sources: Sources,
    indexes: BTreeMap<ImageId, IndexJob>,
    jobs: BTreeMap<VPath, Job>,
}

impl Fetches {
    /// Bytes stored so far of a path's image, not counting those that were there at the start.
    pub fn bytes_fetched(&self, path: &VPath) -> Option<u64> {
        self.jobs.get(path).map(Job::bytes_fetched)
    }

    /// How many connections can be asked for an image.
    pub fn source_count(&self, image: ImageId) -> usize {
        self.sources.usable(image).count()
    }

    /// Whether the index is being asked for.
    pub fn wants_index(&self, image: ImageId) -> bool {
        self.indexes.contains_key(&image)
    }

    fn answered(
        &mut self,
        now: Now,
        connection: ConnectionId,
        question: &Question,
        answer: Result<Answer, String>,
        outbox: &mut Outbox<Effect>,
    ) {
        let image = question.image();
        let asked = match question {
            Question::Index { .. } | Question::IndexPart { .. } => {
                self.indexes.get_mut(&image).and_then(|job| job.answered_by(connection, question))
            }
            Question::Run { path, .. } | Question::Block { path, .. } => self
                .jobs
                .get_mut(path)
                .filter(|job| job.id() == image)
                .and_then(|job| job.landed(connection, question.run())),
        };
        let Some(asked) = asked else { return };
        self.sources.answered(now.time, image, connection, asked);
        let taken = answer.and_then(|answer| match question {
            Question::Index { .. } | Question::IndexPart { .. } => {
                self.indexes.get_mut(&image).map_or(Ok(()), |job| job.take(connection, answer, outbox))
            }
            Question::Run { path, .. } | Question::Block { path, .. } => {
                self.jobs.get_mut(path).map_or(Ok(()), |job| job.take(path, connection, question.run(), answer, outbox))
            }
        });
        if let Err(reason) = taken {
            if let Question::Run { path, .. } | Question::Block { path, .. } = question
                && let Some(job) = self.jobs.get_mut(path)
            {
                job.put_back(question.run());
            }
            self.drop_source(connection, image, reason, outbox);
        }
    }

    fn stored(&mut self, path: &VPath, run: Run, result: Result<Vec<u64>, Failure>, outbox: &mut Outbox<Effect>) {
        let Some(job) = self.jobs.get_mut(path) else { return };
        let liar = job.stored(run, result);
        let (id, end) = (job.id(), job.end(path));
        if let Some((connection, block)) = liar {
            self.drop_source(connection, id, format!("block {block} doesn't fit its hash"), outbox);
        }
        if let Some(effect) = end {
            self.jobs.remove(path);
            outbox.push(effect);
        }
    }

    /// Never asks this connection for the image again.
    fn drop_source(&mut self, connection: ConnectionId, image: ImageId, reason: String, outbox: &mut Outbox<Effect>) {
        if self.sources.drop_for(image, connection) {
            self.forget(connection, Some(image));
            outbox.push(Effect::Dropped { connection, image, reason });
        }
    }

    /// What the source was asked goes back to what is to be asked.
    fn forget(&mut self, connection: ConnectionId, image: Option<ImageId>) {
        for job in self.jobs.values_mut().filter(|job| image.is_none_or(|image| job.id() == image)) {
            job.forget(connection);
        }
        for (_, job) in self.indexes.iter_mut().filter(|(id, _)| image.is_none_or(|image| **id == image)) {
            job.forget(connection);
        }
    }

    /// Ends jobs whose last reason to wait went away.
    fn end_idle(&mut self, outbox: &mut Outbox<Effect>) {
        let ended: Vec<_> =
            self.jobs.iter().filter_map(|(path, job)| job.end(path).map(|effect| (path.clone(), effect))).collect();
        for (path, effect) in ended {
            self.jobs.remove(&path);
            outbox.push(effect);
        }
    }

    /// Asks as much as the windows allow.
    fn pump(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for (image, job) in &mut self.indexes {
            if let Some((connection, version)) = job.idle().then(|| self.sources.usable(*image).next()).flatten() {
                let question = job.ask(now.time, *image, connection, version);
                outbox.push(Effect::Ask { connection, question });
            }
        }
        let mut in_flight: usize = self.jobs.values().map(Job::in_flight).sum();
        for (path, job) in &mut self.jobs {
            let sources: Vec<_> = self.sources.usable(job.id()).collect();
            for (connection, version) in sources {
                let window = self.sources.window(job.id(), connection);
                while in_flight < crate::model::limits::QUESTIONS_IN_FLIGHT_MAX && job.asked_of(connection) < window {
                    let Some(question) = job.ask(now.time, path, connection, version) else { break };
                    in_flight += 1;
                    outbox.push(Effect::Ask { connection, question });
                }
            }
        }
    }

    /// Sources that were asked, with the time of the oldest unanswered question.
    fn waiting(&self) -> BTreeMap<(ConnectionId, ImageId), Time> {
        let blocks = self
            .jobs
            .values()
            .flat_map(|job| job.oldest_by_source().map(|(connection, at)| ((connection, job.id()), at)));
        let indexes = self
            .indexes
            .iter()
            .filter_map(|(image, job)| job.asked().map(|(connection, at)| ((connection, *image), at)));
        let mut waiting = BTreeMap::new();
        for (source, at) in blocks.chain(indexes) {
            let oldest = waiting.entry(source).or_insert(at);
            *oldest = at.min(*oldest);
        }
        waiting
    }

    fn silence_ends(&self) -> impl Iterator<Item = (Time, ConnectionId, ImageId)> {
        let ends = |((connection, image), asked): ((ConnectionId, ImageId), Time)| {
            let heard = self.sources.heard(image, connection).max(asked);
            (heard + crate::model::limits::SOURCE_ANSWER_TIMEOUT, connection, image)
        };
        self.waiting().into_iter().map(ends)
    }
}

impl Engine for Fetches {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Offered { connection, version, image, vouched } => {
                for stranger in self.sources.offered(now.time, connection, version, image, vouched) {
                    self.forget(stranger, Some(image));
                }
            }
            Input::Gone { connection } => {
                self.sources.gone(connection);
                self.forget(connection, None);
            }
            Input::WantIndex { image } => {
                self.indexes.entry(image).or_default();
            }
            Input::DropIndex { image } => {
                self.indexes.remove(&image);
            }
            Input::IndexChecked { image, genuine } => {
                let Some(job) = self.indexes.get_mut(&image) else { return };
                match (genuine, job.checked()) {
                    (Ok(()), _) => {
                        self.indexes.remove(&image);
                    }
                    (Err(reason), Some(liar)) => self.drop_source(liar, image, reason, outbox),
                    (Err(_), None) => {}
                }
            }
            Input::Start { path, directory, id, image, have } => {
                self.jobs.insert(path, Job::new(directory, id, image, have));
                self.end_idle(outbox);
            }
            Input::Cancel { path } => {
                if let Some(job) = self.jobs.get_mut(&path) {
                    job.cancel();
                    self.end_idle(outbox);
                }
            }
            Input::Answered { connection, question, answer } => {
                self.answered(now, connection, &question, answer, outbox);
            }
            Input::Stored { path, run, result } => self.stored(&path, run, result, outbox),
        }
        self.pump(now, outbox);
    }

    /// Changes with every input: when the first source will have been silent for too long.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        self.silence_ends().map(|(at, _, _)| (at, "fetch: a source is silent")).min()
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let silent: BTreeSet<_> =
            self.silence_ends().filter(|(at, _, _)| *at <= now.time).map(|(_, c, i)| (c, i)).collect();
        for (connection, image) in silent {
            self.drop_source(connection, image, "it was asked and stayed silent".to_owned(), outbox);
        }
        self.pump(now, outbox);
    }
}

impl Question {
    /// Which image it is about.
    pub fn image(&self) -> ImageId {
        match self {
            Self::Index { image }
            | Self::IndexPart { image, .. }
            | Self::Run { image, .. }
            | Self::Block { image, .. } => *image,
        }
    }

    /// The blocks asked for; meaningless for an index.
    fn run(&self) -> Run {
        match self {
            Self::Run { run, .. } => *run,
            Self::Block { block, .. } => Run { first: *block, count: 1 },
            Self::Index { .. } | Self::IndexPart { .. } => Run { first: 0, count: 0 },
        }
    }
}
