//! The daemon's decisions: composes access, deploy and fetch, and speaks with connections.
//!
//! It knows what holds at each path (heads, durable before they are acknowledged), what is on disk (committed), who watches,
//! and which wire request belongs to which question. How anything is carried out is the event loop's.

mod connections;
mod register;
mod serve;
mod status;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "tests look for some effects")]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::connections::Connections;
use self::register::{Heads, Registration};
pub use self::serve::Serving;
pub use self::status::{NodeStatus, PathStatus};
use self::watch::Watch;
use super::contract::{Engine, Outbox, earlier};
use super::deploy::{self, Deploys};
use super::fetch::{self, Fetches};
use crate::format::record::{CommittedRecord, HeadRecord, IntentRecord};
use crate::format::wire::Message;
use crate::model::directory::NodeConfig;
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::failure::{Failure, FailureKind};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::run::Run;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// Ties an answer to the effect that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// A handshake ended well.
    Connected { connection: ConnectionId, version: ProtocolVersion },
    /// A message came in.
    Message { connection: ConnectionId, message: Message },
    /// A connection is gone, whoever closed it.
    Disconnected { connection: ConnectionId },
    /// Answer to [`Effect::Disk`].
    Disk { job: JobId, result: Result<DiskResult, Failure> },
    /// Answer to [`Effect::Write`]: durable, or not written at all.
    Written { job: JobId, result: Result<(), String> },
    /// Answer to [`Effect::LoadIndex`].
    IndexLoaded { image: ImageId, index: Option<Arc<Image>> },
    /// Answer to [`Effect::CheckIndex`].
    IndexChecked { image: ImageId, result: Result<Arc<Image>, IndexProblem> },
    /// Answer to [`Effect::Serve`]: the answer is on its way to the connection.
    Served { connection: ConnectionId },
    /// The configuration was read (again).
    Configured(Arc<NodeConfig>),
}

/// Why an index that arrived can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexProblem {
    /// It isn't the text that hashes to the image's id.
    Lie(String),
    /// It is, but no daemon may deploy it.
    Unusable(String),
    /// It couldn't be kept on disk.
    NotStored(String),
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Send a message. No answer.
    Send { connection: ConnectionId, message: Message },
    /// Work on the trees.
    Disk { job: JobId, task: DiskTask },
    /// Write rows in one durable transaction, in the order of these effects.
    Write { job: JobId, rows: Vec<Row> },
    /// Read an index from the cache and parse it.
    LoadIndex { image: ImageId },
    /// Check an index against its id, parse it, keep it.
    CheckIndex { image: ImageId, data: Vec<u8> },
    /// Read something and answer the connection's request with it.
    Serve { connection: ConnectionId, request: u64, what: Serving },
    /// Something worth a log line. No answer.
    Note(Note),
}

/// What operators want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A change was decided on.
    Decided { path: String, verdict: String, image: Option<ImageId> },
    /// A directory is visible.
    Done { path: VPath, image: ImageId, bytes_reused: u64, bytes_fetched: u64, already: bool },
    /// A deployment ended without success.
    Ended { path: VPath, image: ImageId, reason: String },
    /// A step failed and will be tried again.
    Paused { path: VPath, failure: Failure },
    /// A source isn't asked any more for an image.
    SourceDropped { connection: ConnectionId, image: ImageId, reason: String },
}

/// A change of the state database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// What should be at a path.
    Head { path: VPath, record: HeadRecord },
    /// Nothing should be there.
    NoHead { path: VPath },
    /// A swap is about to happen.
    Intent { path: VPath, record: IntentRecord },
    /// A swap has happened: this is visible.
    Committed { path: VPath, record: CommittedRecord },
}

/// What the state database held at start.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Changes that hold.
    pub heads: BTreeMap<VPath, HeadRecord>,
    /// Swaps that were begun.
    pub intents: BTreeMap<VPath, IntentRecord>,
    /// Trees that are visible.
    pub committed: BTreeMap<VPath, CommittedRecord>,
}

/// Whose disk work or write it is.
#[derive(Debug)]
enum Purpose {
    Deploy(VPath),
    Store(VPath, Run),
    Register(Registration),
}

/// A node.
#[derive(Debug)]
pub struct Node {
    host: Host,
    cluster: Option<Box<str>>,
    version: &'static str,
    config: Arc<NodeConfig>,
    heads: Heads,
    connections: Connections,
    deploys: Deploys,
    fetches: Fetches,
    watch: Watch,
    /// Who waits for an index, by image.
    index_waiters: BTreeMap<ImageId, BTreeSet<VPath>>,
    jobs: BTreeMap<JobId, Purpose>,
    last_job: u64,
}

impl Node {
    /// A node with what its database held. Follow with [`Node::start`].
    pub fn new(
        host: Host,
        cluster: Option<Box<str>>,
        version: &'static str,
        config: Arc<NodeConfig>,
        snapshot: Snapshot,
    ) -> Self {
        // Different hosts choose differently.
        let seed = host.machine_id.as_bytes().iter().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
        Self {
            host,
            cluster,
            version,
            config,
            heads: Heads::new(snapshot),
            connections: Connections::default(),
            deploys: Deploys::default(),
            fetches: Fetches::new(seed),
            watch: Watch::default(),
            index_waiters: BTreeMap::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
        }
    }

    /// Compares what should be with what is, and goes on where the last run stopped.
    pub fn start(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for path in self.heads.paths() {
            self.order(now, &path, outbox);
        }
    }

    fn job(&mut self, purpose: Purpose) -> JobId {
        self.last_job += 1;
        let job = JobId(self.last_job);
        self.jobs.insert(job, purpose);
        job
    }

    /// Orders the deployment of the head at a path, if its directory is configured.
    fn order(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some(directory) = self.config.directory_of(path).filter(|directory| directory.num_levels == path.levels())
        else {
            return;
        };
        let Some(order) = self.heads.order(path, directory.clone()) else { return };
        self.deploy(now, deploy::Input::Order(order), outbox);
    }

    fn deploy(&mut self, now: Now, input: deploy::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.deploys.handle(now, input, &mut inner);
        self.deployed(now, inner, outbox);
    }

    fn fetch(&mut self, now: Now, input: fetch::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.fetches.handle(now, input, &mut inner);
        self.fetched(now, inner, outbox);
    }

    fn deployed(&mut self, now: Now, effects: Outbox<deploy::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                deploy::Effect::NeedIndex { path, image } => {
                    self.watch.touch(&path);
                    self.index_waiters.entry(image).or_default().insert(path);
                    outbox.push(Effect::LoadIndex { image });
                }
                deploy::Effect::CancelIndex { path, image } => self.cancel_index(now, &path, image, outbox),
                deploy::Effect::Disk(task) => {
                    self.watch.touch(&task.path);
                    let job = self.job(Purpose::Deploy(task.path.clone()));
                    outbox.push(Effect::Disk { job, task });
                }
                deploy::Effect::Fetch { path, directory, id, image, have } => {
                    self.watch.touch(&path);
                    self.fetch(now, fetch::Input::Start { path, directory, id, image, have }, outbox);
                }
                deploy::Effect::CancelFetch { path } => self.fetch(now, fetch::Input::Cancel { path }, outbox),
                deploy::Effect::PutIntent { path, intent } => {
                    let job = self.job(Purpose::Deploy(path.clone()));
                    outbox.push(Effect::Write { job, rows: vec![Row::Intent { path, record: intent }] });
                }
                deploy::Effect::PutCommitted { path, committed } => {
                    let job = self.job(Purpose::Deploy(path.clone()));
                    self.heads.committing(&path, committed.clone());
                    outbox.push(Effect::Write { job, rows: vec![Row::Committed { path, record: committed }] });
                }
                deploy::Effect::Done { path, change, image, bytes_reused, bytes_fetched, already } => {
                    self.heads.committed(&path, change);
                    outbox.push(Effect::Note(Note::Done {
                        path: path.clone(),
                        image,
                        bytes_reused,
                        bytes_fetched,
                        already,
                    }));
                    let result = if already { "already" } else { "done" };
                    self.outcome(&path, change, image, result, None, (bytes_reused, bytes_fetched), outbox);
                }
                deploy::Effect::Superseded { path, change, image } => {
                    let reason = "a newer change took its place".to_owned();
                    outbox.push(Effect::Note(Note::Ended { path: path.clone(), image, reason: reason.clone() }));
                    self.outcome(&path, change, image, "superseded", Some(&reason), (0, 0), outbox);
                }
                deploy::Effect::Failed { path, change, image, reason } => {
                    outbox.push(Effect::Note(Note::Ended { path: path.clone(), image, reason: reason.clone() }));
                    self.withdraw(&path, change, outbox);
                    self.outcome(&path, change, image, "failed", Some(&reason), (0, 0), outbox);
                }
                deploy::Effect::Paused { path, failure } => {
                    self.watch.touch(&path);
                    outbox.push(Effect::Note(Note::Paused { path, failure }));
                }
            }
        }
    }

    fn fetched(&mut self, now: Now, effects: Outbox<fetch::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                fetch::Effect::Ask { connection, question } => self.ask(connection, question, outbox),
                fetch::Effect::Store { path, directory, image, run, data } => {
                    let job = self.job(Purpose::Store(path.clone(), run));
                    outbox.push(Effect::Disk {
                        job,
                        task: DiskTask { directory, path, action: DiskAction::Store { image, run, data } },
                    });
                }
                fetch::Effect::CheckIndex { image, data } => outbox.push(Effect::CheckIndex { image, data }),
                fetch::Effect::Announce { .. } | fetch::Effect::Share { .. } | fetch::Effect::TellCorrupt { .. } => {}
                fetch::Effect::Finished { path, bytes } => {
                    self.deploy(now, deploy::Input::Fetched { path, bytes }, outbox);
                }
                fetch::Effect::Failed { path, failure } => {
                    self.deploy(now, deploy::Input::FetchFailed { path, failure }, outbox);
                }
                fetch::Effect::Cancelled { path } => self.deploy(now, deploy::Input::FetchCancelled { path }, outbox),
                fetch::Effect::Dropped { connection, image, reason } => {
                    outbox.push(Effect::Note(Note::SourceDropped { connection, image, reason }));
                }
            }
        }
    }

    fn disk_done(&mut self, now: Now, job: JobId, result: Result<DiskResult, Failure>, outbox: &mut Outbox<Effect>) {
        match self.jobs.remove(&job) {
            Some(Purpose::Deploy(path)) => self.deploy(now, deploy::Input::Disk { path, result }, outbox),
            Some(Purpose::Store(path, run)) => {
                self.watch.touch(&path);
                let result = result.and_then(|result| {
                    let DiskResult::Stored { bad } = result else {
                        let text = format!("internal error: {result:?} for a store");
                        return Err(Failure { kind: FailureKind::Io, text });
                    };
                    Ok(bad)
                });
                self.fetch(now, fetch::Input::Stored { path, run, result }, outbox);
            }
            Some(Purpose::Register(_)) | None => {}
        }
    }

    fn written(&mut self, now: Now, job: JobId, result: Result<(), String>, outbox: &mut Outbox<Effect>) {
        match self.jobs.remove(&job) {
            Some(Purpose::Deploy(path)) => self.deploy(now, deploy::Input::Written { path, result }, outbox),
            Some(Purpose::Register(done)) => self.registered(now, done, result, outbox),
            Some(Purpose::Store(..)) | None => {}
        }
    }

    fn cancel_index(&mut self, now: Now, path: &VPath, image: ImageId, outbox: &mut Outbox<Effect>) {
        let Some(waiters) = self.index_waiters.get_mut(&image) else { return };
        waiters.remove(path);
        if waiters.is_empty() {
            self.index_waiters.remove(&image);
            self.fetch(now, fetch::Input::DropIndex { image }, outbox);
        }
    }

    fn index_loaded(&mut self, now: Now, image: ImageId, index: Option<Arc<Image>>, outbox: &mut Outbox<Effect>) {
        match index {
            Some(index) => self.index_known(now, image, &index, outbox),
            None if self.index_waiters.contains_key(&image) => {
                self.fetch(now, fetch::Input::WantIndex { image }, outbox);
            }
            None => {}
        }
    }

    fn index_known(&mut self, now: Now, image: ImageId, index: &Arc<Image>, outbox: &mut Outbox<Effect>) {
        for path in self.index_waiters.remove(&image).unwrap_or_default() {
            self.deploy(now, deploy::Input::Index { path, id: image, image: index.clone() }, outbox);
        }
    }

    fn index_checked(
        &mut self,
        now: Now,
        image: ImageId,
        result: Result<Arc<Image>, IndexProblem>,
        outbox: &mut Outbox<Effect>,
    ) {
        let genuine = match &result {
            Err(IndexProblem::Lie(reason)) => Err(reason.clone()),
            Ok(_) | Err(IndexProblem::Unusable(_) | IndexProblem::NotStored(_)) => Ok(()),
        };
        self.fetch(now, fetch::Input::IndexChecked { image, genuine }, outbox);
        match result {
            Ok(index) => self.index_known(now, image, &index, outbox),
            Err(IndexProblem::Lie(_)) => {}
            Err(IndexProblem::Unusable(reason)) => {
                for path in self.index_waiters.remove(&image).unwrap_or_default() {
                    self.deploy(now, deploy::Input::Unusable { path, id: image, reason: reason.clone() }, outbox);
                }
            }
            Err(IndexProblem::NotStored(text)) => {
                for path in self.index_waiters.remove(&image).unwrap_or_default() {
                    let failure = Failure { kind: FailureKind::Io, text: text.clone() };
                    self.deploy(now, deploy::Input::FetchFailed { path, failure }, outbox);
                }
            }
        }
    }

    fn configured(&mut self, now: Now, config: Arc<NodeConfig>, outbox: &mut Outbox<Effect>) {
        let before = std::mem::replace(&mut self.config, config);
        for path in self.heads.paths() {
            let idle = !self.heads.is_committed(&path) && self.deploys.status(&path).is_none();
            if idle || before.directory_of(&path) != self.config.directory_of(&path) {
                self.order(now, &path, outbox);
            }
        }
        self.deploy(now, deploy::Input::Retry, outbox);
    }
}

impl Engine for Node {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Connected { connection, version } => self.connected(connection, version, outbox),
            Input::Message { connection, message } => self.message(now, connection, message, outbox),
            Input::Disconnected { connection } => {
                self.connections.remove(connection);
                self.watch.gone(connection);
                self.fetch(now, fetch::Input::Gone { connection }, outbox);
            }
            Input::Disk { job, result } => self.disk_done(now, job, result, outbox),
            Input::Written { job, result } => self.written(now, job, result, outbox),
            Input::IndexLoaded { image, index } => self.index_loaded(now, image, index, outbox),
            Input::IndexChecked { image, result } => self.index_checked(now, image, result, outbox),
            Input::Served { connection } => self.connections.served(connection),
            Input::Configured(config) => self.configured(now, config, outbox),
        }
        self.report_progress(now, outbox);
    }

    /// Changes with every input: the earliest of deploy's, fetch's and the next progress report.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        earlier(earlier(self.deploys.deadline(), self.fetches.deadline()), self.watch.deadline())
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.deploys.handle_timeout(now, &mut inner);
        self.deployed(now, inner, outbox);
        let mut inner = Outbox::new();
        self.fetches.handle_timeout(now, &mut inner);
        self.fetched(now, inner, outbox);
        self.report_progress(now, outbox);
    }
}
