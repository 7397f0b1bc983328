//! What a node's threads share: the file system, the state, the images that are parsed, and the data at hand; and what they do with
//! it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use crate::driver::db::{Db, Write};
use crate::driver::disk::claims::{Claimed, Claims};
use crate::driver::disk::estimate::{Known, estimate};
use crate::driver::disk::fs::FileSystem;
use crate::driver::disk::place::Place;
use crate::driver::disk::reuse;
use crate::driver::disk::task::perform;
use crate::driver::frames::{FramePool, RecentRuns};
use crate::driver::index_store::IndexStore;
use crate::driver::library::{DbLibrary, committed, scrubbed};
use crate::engine::node::{IndexProblem, Input, Row};
use crate::format::index;
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::estimate::{Estimate, EstimateTask, NoEstimate};
use crate::model::failure::Failure;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::limits;

/// Images kept parsed for serving, by number of entries in all of them.
const IMAGES_KEPT_ENTRIES_MAX: usize = 2_000_000;

pub(super) struct Shared<F: FileSystem + Clone> {
    pub(super) fs: F,
    pub(super) indexes: IndexStore<F>,
    pub(super) db: Db,
    pub(super) frames: FramePool,
    pub(super) recent: RecentRuns,
    pub(super) claims: Claims<F>,
    images: Mutex<BTreeMap<ImageId, Arc<Image>>>,
    pub(super) answers: Sender<Input>,
    /// Whole indexes that are being sent.
    pub(super) whole_indexes: Semaphore,
}

impl<F: FileSystem + Clone> Shared<F> {
    pub(super) fn new(fs: F, db: Db, indexes: IndexStore<F>, claims: Claims<F>, answers: Sender<Input>) -> Self {
        Self {
            fs,
            indexes,
            db,
            frames: FramePool::default(),
            recent: RecentRuns::new(limits::RECENT_BYTES_MAX),
            claims,
            images: Mutex::default(),
            answers,
            whole_indexes: Semaphore::new(limits::WHOLE_INDEXES_SENT_MAX),
        }
    }

    /// The loop may be gone already, which ends the process anyway.
    pub(super) fn answer(&self, input: Input) {
        let _ = self.answers.blocking_send(input);
    }

    pub(super) fn perform(&self, task: &DiskTask) -> Result<DiskResult, Failure> {
        if !matches!(task.action, DiskAction::Look | DiskAction::Adopt { .. } | DiskAction::Scrub { .. }) {
            let place = Place::new(&task.directory, &task.path)?;
            tell(place.base(), self.claims.ensure(&self.fs, &place)?);
        }
        let images = |id| self.image(id).ok().flatten();
        let result = perform(&self.fs, &DbLibrary { db: &self.db, images: &images }, task);
        self.remember(&task.action, &result);
        result
    }

    /// Keeps what was stored, until a deployment ends.
    fn remember(&self, action: &DiskAction, result: &Result<DiskResult, Failure>) {
        match (action, result) {
            (DiskAction::Store { image, run, data }, Ok(DiskResult::Stored { bad })) if bad.is_empty() => {
                self.recent.keep(image.hash_kind(), image.block_hashes(run.first, u64::from(run.count)), data);
            }
            (DiskAction::Collect { .. }, _) => self.recent.clear(),
            _ => {}
        }
    }

    /// Reads only.
    pub(super) fn estimate(&self, task: &EstimateTask) -> Result<Estimate, NoEstimate> {
        let EstimateTask { directory, path, image, index, siblings, occupied, heals, forgoes } = task;
        let unusable = |error| NoEstimate::Unknown(format!("your index can't be used: {error}"));
        let parsed = index::parse_for(*image, index).map_err(unusable)?;
        let place = Place::new(directory, path).map_err(NoEstimate::Hindered)?;
        let images = |id| self.image(id).ok().flatten();
        let library = DbLibrary { db: &self.db, images: &images };
        let siblings = reuse::siblings(directory, siblings);
        // What can't be read of it counts as changed.
        let damaged = if *heals { self.db.committed(path).ok().flatten() } else { None };
        let damaged = damaged.filter(|committed| committed.image == *image).map(|committed| committed.fingerprints);
        let known = Known { occupied: *occupied, damaged: damaged.as_deref().unwrap_or_default(), forgoes: *forgoes };
        estimate(&self.fs, &library, &place, (*image, &parsed), &siblings, known)
    }

    /// An image whose index is cached; `None` if it isn't.
    pub(super) fn image(&self, id: ImageId) -> Result<Option<Arc<Image>>, String> {
        if let Some(image) = self.images().get(&id) {
            return Ok(Some(image.clone()));
        }
        let Some(data) = self.indexes.load(id).map_err(|error| error.to_string())? else { return Ok(None) };
        let image = Arc::new(index::parse_for(id, &data).map_err(|error| error.to_string())?);
        self.keep(id, &image);
        Ok(Some(image))
    }

    /// Its index is not needed any more.
    pub(super) fn forget(&self, id: ImageId) {
        self.images().remove(&id);
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<ImageId, Arc<Image>>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: ImageId, image: &Arc<Image>) {
        let mut images = self.images();
        images.insert(id, image.clone());
        while images.len() > 1
            && images.values().map(|image| image.entry_count()).sum::<usize>() > IMAGES_KEPT_ENTRIES_MAX
        {
            // Whoever still uses one holds it himself.
            let Some(other) = images.keys().find(|other| **other != id).copied() else { return };
            images.remove(&other);
        }
    }

    pub(super) fn check(&self, id: ImageId, data: &[u8]) -> Result<Arc<Image>, IndexProblem> {
        let image = match index::parse_for(id, data) {
            Ok(image) => Arc::new(image),
            Err(error) if index::is_genuine(id, data) => return Err(IndexProblem::Unusable(error.to_string())),
            Err(error) => return Err(IndexProblem::Lie(error.to_string())),
        };
        self.indexes.store(id, data).map_err(|error| IndexProblem::NotStored(error.failure()))?;
        self.keep(id, &image);
        Ok(image)
    }
}

/// Keeps a bug in one job from leaving its question unanswered.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| "internal error: a job of the daemon panicked, see its log".to_owned())
}

/// Logs what a new claim found.
pub(super) fn tell(base: &Path, claimed: Claimed) {
    let Claimed::Now { swept, unlocked } = claimed else { return };
    let base = base.display();
    if let Some(why) = unlocked {
        tracing::warn!("no other daemon is kept out of {base}: {why}");
    }
    match swept {
        Ok(swept) => {
            if swept.removed > 0 {
                tracing::info!(directories = swept.removed, "removed from {base} what nobody deploys any more");
            }
            for name in swept.left {
                tracing::warn!("left alone in {base}: the old tree of an unfinished swap, in .ciruela-staging/{name}");
            }
        }
        Err(failure) => tracing::warn!(kind = failure.kind.name(), "{}", failure.text),
    }
}

/// What a row of the node is in the database.
pub(super) fn writes(row: Row, images: &dyn Fn(ImageId) -> Option<Arc<Image>>) -> Vec<Write> {
    match row {
        Row::Head { path, record } => vec![Write::PutHead(path, record)],
        Row::NoHead { path } => vec![Write::DeleteHead(path)],
        Row::Intent { path, record } => vec![Write::PutIntent(path, record)],
        Row::Incarnation(number) => vec![Write::PutIncarnation(number)],
        Row::Damaged { path, record } => vec![Write::PutDamage(path, record)],
        Row::Scrubbed { path, verdict, sound } => scrubbed(path, verdict, sound),
        Row::NoPrevious { path, root } => vec![Write::DeletePrevious(path, root)],
        Row::NotCommitted { path } => vec![Write::DeleteCommitted(path.clone()), Write::DeleteIntent(path)],
        Row::Committed { path, directory, record } => committed(&directory, path, record, images),
    }
}
