//! Which index parts and blocks to ask from whom, and what to do with the answers.
//!
//! Sources are publishers, clients which have all of an image, and neighbours, nodes which take part in it and tell which
//! pieces they have. Each is asked with its own window; one that lies, fails or falls silent is dropped for that image and
//! what it was asked goes to the next. Whether an image should be fetched at all, and from which nodes, is decided elsewhere; checking
//! and writing what arrived is the disk's.

mod asking;
#[cfg(test)]
mod asking_tests;
mod blocks;
mod flow;
mod index;
mod interface;
mod meter;
mod neighbours;
mod rarity;
mod sources;
#[cfg(test)]
mod swarm_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use self::asking::Round;
use self::blocks::Job;
use self::index::IndexJob;
pub use self::interface::{Answer, Effect, Input, Question};
use self::sources::{Sources, State};
use crate::engine::contract::{Engine, Outbox, earlier};
use crate::engine::pace::Pace;
use crate::model::failure::Failure;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::piece::{Has, PieceSet};
use crate::model::run::Run;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// All fetching of a node.
#[derive(Debug)]
pub struct Fetches {
    sources: Sources,
    indexes: BTreeMap<ImageId, IndexJob>,
    jobs: BTreeMap<VPath, Job>,
    random: ChaCha8Rng,
    pace: Pace,
    /// When it was last looked at whom to ask.
    pumped: Time,
    /// Until when the pace lets nothing more through.
    paused: Option<Time>,
}

impl Fetches {
    /// Choices between equals follow from the seed; different nodes should have different ones.
    pub fn new(seed: u64) -> Self {
        Self {
            sources: Sources::default(),
            indexes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            pace: Pace::default(),
            pumped: Time::default(),
            paused: None,
        }
    }

    /// Which pieces of an image are verified and written, while it is being fetched: what other nodes may be told. The set's
    /// length is the number of the image's pieces.
    pub fn have(&self, image: ImageId) -> Option<&PieceSet> {
        let jobs = self.jobs.values().filter(|job| job.id() == image);
        jobs.map(Job::complete).max_by_key(|complete| complete.count())
    }

    /// Whether all of a run is in pieces that are verified and written.
    pub fn has_run(&self, path: &VPath, run: Run) -> bool {
        self.jobs.get(path).is_some_and(|job| job.has_run(run))
    }

    /// Bytes stored so far of a path's image, not counting those that were there at the start.
    pub fn bytes_fetched(&self, path: &VPath) -> Option<u64> {
        self.jobs.get(path).map(Job::bytes_fetched)
    }

    /// Bytes of a path's image that came a second time.
    pub fn bytes_doubled(&self, path: &VPath) -> Option<u64> {
        self.jobs.get(path).map(|job| job.bytes_doubled)
    }

    /// How many connections can be asked for an image.
    pub fn source_count(&self, image: ImageId) -> usize {
        let neighbours = self.sources.neighbours(image).filter(|(_, has)| !has.is_empty());
        self.sources.publishers(image).count() + neighbours.count()
    }

    /// Whether somebody can be asked for a piece of an image that isn't here.
    pub fn has_useful_source(&self, image: ImageId) -> bool {
        let complete = self.have(image);
        let useful = |has: &Has| match complete {
            None => !has.is_empty(),
            Some(complete) => complete.words().iter().enumerate().any(|(at, word)| has.word(at) & !word != 0),
        };
        self.sources.publishers(image).next().is_some() || self.sources.neighbours(image).any(|(_, has)| useful(has))
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
        let awaited = match question {
            Question::Index { .. } | Question::IndexPart { .. } => {
                self.indexes.get_mut(&image).and_then(|job| job.answered_by(connection, question)).map(|()| 0)
            }
            Question::Run { path, .. } | Question::Block { path, .. } => self
                .jobs
                .get_mut(path)
                .filter(|job| job.id() == image)
                .and_then(|job| job.landed(now.time, connection, question.run())),
        };
        let Some(bytes) = awaited else { return };
        let failed = answer.is_err();
        let taken = answer.and_then(|answer| match question {
            Question::Index { .. } | Question::IndexPart { .. } => {
                self.indexes.get_mut(&image).map_or(Ok(()), |job| job.take(image, connection, answer, outbox))
            }
            Question::Run { path, .. } | Question::Block { path, .. } => self
                .jobs
                .get_mut(path)
                .map_or(Ok(()), |job| job.take(path, connection, (question.run(), bytes), answer, outbox)),
        });
        if let Err(reason) = taken {
            if let Question::Run { path, .. } | Question::Block { path, .. } = question
                && let Some(job) = self.jobs.get_mut(path)
            {
                job.put_back(question.run());
            }
            if failed {
                self.source_failed(connection, image, reason, outbox);
            } else {
                self.drop_source(connection, image, reason, outbox);
            }
        }
    }

    fn stored(&mut self, path: &VPath, run: Run, result: Result<Vec<u64>, Failure>, outbox: &mut Outbox<Effect>) {
        let Some(job) = self.jobs.get_mut(path) else { return };
        let told = job.stored(run, result);
        let (image, end) = (job.id(), job.end(path));
        if !told.pieces.is_empty() {
            outbox.push(Effect::Announce { image, pieces: told.pieces });
        }
        if let Some((connection, block)) = told.liar {
            self.drop_source(connection, image, format!("block {block} doesn't fit its hash"), outbox);
            outbox.push(Effect::TellCorrupt { connection, image, block });
        }
        if let Some(effect) = end {
            self.jobs.remove(path);
            outbox.push(effect);
        }
    }

    fn start(&mut self, path: VPath, job: Job, outbox: &mut Outbox<Effect>) {
        let (image, count) = (job.id(), job.pieces.count());
        let wrong = self.sources.neighbours(image).filter(|(_, has)| !has.fits(count));
        for connection in wrong.map(|(connection, _)| connection).collect::<Vec<_>>() {
            self.drop_source(
                connection,
                image,
                format!("it has pieces of an image which isn't cut into {count}"),
                outbox,
            );
        }
        self.jobs.insert(path, job);
        self.deal(image, outbox);
        self.end_idle(outbox);
    }

    /// Never asks this connection for the image again.
    fn drop_source(&mut self, connection: ConnectionId, image: ImageId, reason: String, outbox: &mut Outbox<Effect>) {
        self.stop_asking(connection, image, State::Dropped, reason, outbox);
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

    /// Asks for blocks as much as the windows allow; if `only` is given, that connection for that image.
    fn pump(&mut self, now: Now, only: Option<(ConnectionId, ImageId)>, outbox: &mut Outbox<Effect>) {
        if only.is_none() {
            self.pumped = now.time;
        }
        self.paused = self.paused.filter(|until| *until > now.time);
        let mut in_flight: usize = self.jobs.values().map(Job::in_flight).sum();
        let share = limits::QUESTIONS_IN_FLIGHT_MAX / self.jobs.len().max(1);
        for (path, job) in &mut self.jobs {
            let before = job.in_flight();
            let mut round = Round {
                now: now.time,
                path,
                sources: &self.sources,
                random: &mut self.random,
                pace: &mut self.pace,
                paused: &mut self.paused,
                quota: share.max(1).min(before + limits::QUESTIONS_IN_FLIGHT_MAX.saturating_sub(in_flight)),
                outbox,
            };
            match only {
                None => job.pump(&mut round),
                Some((connection, image)) if image == job.id() => job.pump_one(connection, &mut round),
                Some(_) => {}
            }
            in_flight += job.in_flight() - before;
        }
    }

    fn silence_ends(&self) -> impl Iterator<Item = (Time, ConnectionId, ImageId)> {
        let blocks =
            self.jobs.values().flat_map(|job| job.silent_at().map(|(at, connection)| (at, connection, job.id())));
        let indexes = self.indexes.iter().filter_map(|(image, job)| {
            let (connection, asked) = job.asked()?;
            Some((asked + limits::SOURCE_ANSWER_TIMEOUT, connection, *image))
        });
        blocks.chain(indexes)
    }
}

impl Engine for Fetches {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Offered { connection, version, image, vouched } => {
                let first = self.sources.publishers(image).next().is_none();
                for stranger in self.sources.offered(connection, version, image, vouched) {
                    self.forget(stranger, Some(image));
                }
                if first {
                    self.deal(image, outbox);
                }
            }
            Input::Gone { connection } => {
                for (image, source) in self.sources.gone(connection) {
                    if neighbours::left(&mut self.jobs, image, &source) {
                        self.deal(image, outbox);
                    }
                }
                self.forget(connection, None);
            }
            Input::Share { connection, image, index, of } => {
                self.sources.share(connection, image, index, of);
                let jobs = self.jobs.values_mut().filter(|job| job.id() == image);
                jobs.for_each(|job| _ = job.shares.remove(&connection));
            }
            Input::Pieces { connection, image, count, have } => {
                self.pieces(connection, image, count, &have, outbox);
            }
            Input::Have { connection, image, pieces } => {
                self.has_more(now.time, connection, image, &pieces);
                self.pump(now, Some((connection, image)), outbox);
                return;
            }
            Input::MaxDownloadRate(rate) => self.pace.set(rate),
            Input::Forget { image } if self.jobs.values().any(|job| job.id() == image) => {}
            Input::Forget { image } => self.sources.forget_neighbours(image),
            Input::WantIndex { image } => {
                self.indexes.entry(image).or_default();
            }
            Input::DropIndex { image } => {
                self.indexes.remove(&image);
            }
            Input::IndexChecked { image, genuine } => self.index_checked(image, genuine, outbox),
            Input::Start { path, directory, id, image, have } => {
                let job = Job::new(directory, id, image, have, &self.sources);
                self.start(path, job, outbox);
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
        self.pump_indexes(now, outbox);
        self.pump(now, None, outbox);
    }

    /// Changes with every input: when the first answer will be late, the first source will have been silent for too long, or
    /// the bounded rate allows the next question.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        let silence = self.silence_ends().map(|(at, _, _)| at).min().map(|at| (at, "fetch: a source is silent"));
        let late = self.jobs.values().filter_map(Job::late_at).min().map(|at| (at, "fetch: an answer is late"));
        let next = self
            .jobs
            .values()
            .filter_map(|job| job.foreign_at(self.pumped))
            .min()
            .map(|at| (at, "fetch: a publisher has nothing to do"));
        let held = self.jobs.values().filter_map(|job| job.rarity.held_until()).min();
        let held = held.map(|at| (at, "fetch: it is this node's turn for a piece"));
        let late = earlier(earlier(late, held), next);
        earlier(earlier(silence, late), self.paused.map(|until| (until, "fetch: the rate is bounded")))
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.deadline().is_none_or(|(at, _)| at > now.time) {
            return;
        }
        let silent: BTreeSet<_> =
            self.silence_ends().filter(|(at, _, _)| *at <= now.time).map(|(_, c, i)| (c, i)).collect();
        for (connection, image) in silent {
            self.drop_source(connection, image, "it was asked and stayed silent".to_owned(), outbox);
        }
        self.jobs.values_mut().for_each(|job| {
            job.note_late(now.time);
            job.rarity.release(now.time);
        });
        self.pump_indexes(now, outbox);
        self.pump(now, None, outbox);
    }
}
