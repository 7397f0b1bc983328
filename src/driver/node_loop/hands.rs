//! The threads which carry out a node's effects: disk work, database writes, index files. Before anything is written below a
//! base directory, it is claimed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::Sender;

use super::answering::Requests;
use super::shared::{Shared, guarded, tell, writes};
use crate::driver::db::{Db, DbError};
use crate::driver::disk::claims::Claims;
use crate::driver::disk::fs::FileSystem;
use crate::driver::disk::place::base_of;
use crate::driver::disk::survey::survey;
use crate::driver::index_store::{IndexStore, IndexStoreError};
use crate::driver::pool::{Full, Job, Pool};
use crate::driver::ws::ConnectionHandle;
use crate::engine::node::{IndexProblem, Input, JobId, Row};
use crate::model::directory::{DirectoryConfig, NodeConfig};
use crate::model::disk_task::DiskTask;
use crate::model::estimate::{EstimateTask, NoEstimate};
use crate::model::failure::{Failure, FailureKind};
use crate::model::ids::ImageId;
use crate::model::limits;

/// Writes joined in one transaction.
const WRITES_JOINED_MAX: usize = 256;

/// Why the threads can't be started.
#[derive(Debug, thiserror::Error)]
pub enum HandsError {
    /// The system gives no thread.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The index folder.
    #[error(transparent)]
    Indexes(#[from] IndexStoreError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// All threads of a node, and what they share.
pub struct Hands<F: FileSystem + Clone> {
    shared: Arc<Shared<F>>,
    disk: Pool,
    reads: Arc<Pool>,
    writes: Option<SyncSender<(JobId, Vec<Row>)>>,
    writer: Option<JoinHandle<()>>,
}

impl<F: FileSystem + Clone> Hands<F> {
    /// Starts the threads. Answers go to `answers`.
    pub fn start(fs: F, db: Db, db_dir: &Path, claims: Claims<F>, answers: Sender<Input>) -> Result<Self, HandsError> {
        let indexes = IndexStore::open(fs.clone(), db_dir)?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        let (writes, queue) = sync_channel(limits::DEPLOYS_MAX * 4);
        let shared = Arc::new(Shared::new(fs, db, indexes, claims, answers));
        let writer = std::thread::Builder::new().name("db".to_owned()).spawn({
            let shared = shared.clone();
            move || write_all(&shared, &queue)
        })?;
        Ok(Self {
            shared,
            disk: Pool::new("disk", threads, limits::DISK_JOBS_QUEUED_MAX)?,
            reads: Arc::new(Pool::new("read", 2, limits::DISK_JOBS_QUEUED_MAX)?),
            writes: Some(writes),
            writer: Some(writer),
        })
    }

    /// Claims the base directories of the configuration and gives back all others. One that can't be claimed now is tried
    /// again by whatever wants to write there.
    pub fn claim(&self, config: &NodeConfig) {
        let bases: BTreeSet<_> = config.directories.values().filter_map(|config| base_of(config).ok()).collect();
        self.shared.claims.retain(&bases);
        for base in bases {
            let shared = self.shared.clone();
            let run: Job = Box::new(move || match shared.claims.claim(&shared.fs, &base) {
                Ok(claimed) => tell(&base, claimed),
                Err(failure) => tracing::warn!(kind = failure.kind.name(), "{}", failure.text),
            });
            if let Err(Full(_)) = self.disk.submit(run) {
                return;
            }
        }
    }

    pub(super) fn disk(&self, job: JobId, task: DiskTask) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            let broken = |text| Err(Failure { kind: FailureKind::Io, text });
            let result = guarded(|| shared.perform(&task)).unwrap_or_else(broken);
            shared.answer(Input::Disk { job, result });
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            let text = "the disk has too much queued".to_owned();
            self.refuse(Input::Disk { job, result: Err(Failure { kind: FailureKind::Io, text }) });
        }
    }

    pub(super) fn survey(&self, job: JobId, directory: Arc<DirectoryConfig>) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            let broken = |text| Err(Failure { kind: FailureKind::Io, text });
            let result = guarded(|| survey(&shared.fs, &directory)).unwrap_or_else(broken);
            shared.answer(Input::Surveyed { job, result });
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            let text = "the disk has too much queued".to_owned();
            self.refuse(Input::Surveyed { job, result: Err(Failure { kind: FailureKind::Io, text }) });
        }
    }

    pub(super) fn estimate(&self, job: JobId, task: EstimateTask) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            let broken = |text| Err(NoEstimate::Unknown(text));
            let result = guarded(|| shared.estimate(&task)).unwrap_or_else(broken);
            shared.answer(Input::Estimated { job, result });
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            let none = NoEstimate::Unknown("the disk has too much queued".to_owned());
            self.refuse(Input::Estimated { job, result: Err(none) });
        }
    }

    pub(super) fn write(&self, job: JobId, rows: Vec<Row>) {
        let refused = self.writes.as_ref().is_none_or(|writes| writes.try_send((job, rows)).is_err());
        if refused {
            let text = "the database has too much queued".to_owned();
            self.refuse(Input::Written { job, result: Err(Failure { kind: FailureKind::Io, text }) });
        }
    }

    pub(super) fn load_index(&self, image: ImageId) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            let index = guarded(|| shared.image(image)).and_then(|index| index).unwrap_or_else(|error| {
                tracing::warn!(%image, "the cached index is not used: {error}");
                None
            });
            shared.answer(Input::IndexLoaded { image, index });
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            self.refuse(Input::IndexLoaded { image, index: None });
        }
    }

    pub(super) fn list_indexes(&self) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            let listed = guarded(|| shared.indexes.list().map_err(|error| error.to_string()));
            let images = listed.and_then(|listed| listed).unwrap_or_else(|error| {
                tracing::warn!("unneeded indexes stay: {error}");
                Vec::new()
            });
            shared.answer(Input::IndexesListed { images });
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            self.refuse(Input::IndexesListed { images: Vec::new() });
        }
    }

    pub(super) fn remove_indexes(&self, images: Vec<ImageId>) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            for image in images {
                shared.forget(image);
                if let Err(error) = shared.indexes.remove(image) {
                    tracing::warn!("an unneeded index stays: {error}");
                }
            }
            shared.answer(Input::IndexesRemoved);
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            self.refuse(Input::IndexesRemoved);
        }
    }

    pub(super) fn check_index(&self, image: ImageId, data: Vec<u8>) {
        let shared = self.shared.clone();
        let run: Job = Box::new(move || {
            let broken = |text| Err(IndexProblem::NotStored(Failure { kind: FailureKind::Io, text }));
            let result = guarded(|| shared.check(image, &data)).unwrap_or_else(broken);
            shared.answer(Input::IndexChecked { image, result });
        });
        if let Err(Full(_)) = self.disk.submit(run) {
            let text = "the disk has too much queued".to_owned();
            let problem = IndexProblem::NotStored(Failure { kind: FailureKind::Io, text });
            self.refuse(Input::IndexChecked { image, result: Err(problem) });
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared<F> {
        &self.shared
    }

    /// Begins to answer a connection's requests for content.
    pub(super) fn requests(&self, handle: &ConnectionHandle) -> Requests {
        Requests::of(Arc::clone(&self.shared), Arc::clone(&self.reads), handle.clone())
    }

    /// Answers for a thread that could not be asked, without waiting for the loop which calls this.
    fn refuse(&self, input: Input) {
        self.answer_later(std::future::ready(input));
    }

    /// Answers when that is there.
    pub(super) fn answer_later(&self, input: impl Future<Output = Input> + Send + 'static) {
        let answers = self.shared.answers.clone();
        tokio::spawn(async move { _ = answers.send(input.await).await });
    }
}

impl<F: FileSystem + Clone> Drop for Hands<F> {
    fn drop(&mut self) {
        // Whatever was to be read or staged can be done again by the next start.
        self.disk.discard();
        self.reads.discard();
        // The writer ends with its queue: what was accepted is written.
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The writer's thread: joins what waits into one transaction.
fn write_all<F: FileSystem + Clone>(shared: &Shared<F>, queue: &Receiver<(JobId, Vec<Row>)>) {
    while let Ok((job, mut rows)) = queue.recv() {
        let mut jobs = vec![job];
        while let Some((job, more)) = (jobs.len() < WRITES_JOINED_MAX).then(|| queue.try_recv().ok()).flatten() {
            jobs.push(job);
            rows.extend(more);
        }
        let images = |id| shared.image(id).ok().flatten();
        let writes = rows.into_iter().flat_map(|row| writes(row, &images)).collect::<Vec<_>>();
        let result = shared.db.write(&writes).map_err(|error| error.failure());
        for job in jobs {
            shared.answer(Input::Written { job, result: result.clone() });
        }
    }
}
