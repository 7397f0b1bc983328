//! What should be at each path, and what is: the rows of the state database as the node has them in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Snapshot;
use super::damage::Damaged;
use super::siblings::{self, Recent, Usable};
use crate::engine::access;
use crate::engine::deploy::{self, Found};
use crate::engine::retention::rules::Candidate;
use crate::format::change;
use crate::format::record::{CommittedRecord, HeadRecord, IntentRecord};
use crate::model::change::{Rank, SignedChange, Verb};
use crate::model::directory::DirectoryConfig;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::origins::Origins;
use crate::model::reuse::Sibling;
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// What should be at one path, and what is.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) record: HeadRecord,
    pub(super) id: ChangeId,
    /// Writes of this head that are not yet answered.
    pub(super) writes: usize,
    /// The head in whose place it came, until its first write is answered: it holds on if that fails.
    pub(super) displaced: Option<Box<HeadRecord>>,
}

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) heads: BTreeMap<VPath, Head>,
    committed: BTreeMap<VPath, Committed>,
    /// Being removed.
    hidden: BTreeMap<VPath, Committed>,
    /// Where each visible image is.
    visible: BTreeMap<ImageId, BTreeSet<VPath>>,
    intents: BTreeMap<VPath, IntentRecord>,
    /// Being recorded, not yet durable.
    committing: BTreeMap<VPath, Committed>,
    recent: Recent,
    /// Where visible directories came from, of those that were made visible since the start.
    origins: BTreeMap<VPath, (ChangeId, Found)>,
    pub(super) damaged: Damaged,
}

/// What this node made visible at a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Committed {
    pub(super) change: ChangeId,
    pub(super) image: ImageId,
    pub(super) root: FileIdentity,
    pub(super) bytes: Origins,
    /// What was visible before and is set aside.
    pub(super) previous: Option<(ImageId, FileIdentity)>,
}

impl From<CommittedRecord> for Committed {
    fn from(record: CommittedRecord) -> Self {
        let CommittedRecord { change, image, root, bytes, previous, .. } = record;
        Self { change, image, root, bytes, previous }
    }
}

impl Head {
    fn rank(&self) -> Rank {
        let change = &self.record.change.change;
        Rank { stamp: change.stamp, id: self.id, overrides: change.overrides() }
    }

    fn deletes(&self) -> bool {
        self.record.change.change.deletes()
    }
}

/// What is below a path, without the path itself.
fn below<'a, T>(all: &'a BTreeMap<VPath, T>, parent: &str) -> impl Iterator<Item = (&'a VPath, &'a T)> + use<'a, T> {
    // The first name that there may be.
    let first = format!("{parent}/ ").parse::<VPath>().ok();
    let inside = format!("{parent}/");
    let rest = first.map(|first| all.range(first..)).into_iter().flatten();
    rest.take_while(move |(path, _)| path.as_str().starts_with(&inside))
}

impl Heads {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let head = |(path, record): (VPath, HeadRecord)| {
            let id = change::id(&record.change.change);
            (path, Head { record, id, writes: 0, displaced: None })
        };
        let mut heads = Self {
            heads: snapshot.heads.into_iter().map(head).collect(),
            intents: snapshot.intents,
            ..Self::default()
        };
        let mut committed: Vec<_> = snapshot.committed.into_iter().collect();
        committed.sort_by_key(|(path, _)| heads.heads.get(path).map(|head| head.record.change.change.stamp));
        for (path, record) in committed {
            heads.show(path, record.into());
        }
        heads.damaged = Damaged::new(snapshot.damaged);
        heads
    }

    pub(super) fn paths(&self) -> Vec<VPath> {
        self.heads.keys().cloned().collect()
    }

    pub(super) fn change(&self, path: &VPath) -> Option<(ChangeId, &SignedChange)> {
        self.heads.get(path).map(|head| (head.id, &head.record.change))
    }

    /// Whether a delete holds at the path.
    pub(super) fn is_deleted(&self, path: &VPath) -> bool {
        self.heads.get(path).is_some_and(Head::deletes)
    }

    /// The visible image, if this node committed it.
    pub(super) fn committed_at(&self, path: &VPath) -> Option<Committed> {
        self.committed.get(path).copied()
    }

    /// Some path where the image is visible.
    pub(super) fn path_of(&self, image: ImageId) -> Option<&VPath> {
        self.visible.get(&image)?.first()
    }

    /// Some path where it is visible with nothing known to be wrong.
    pub(super) fn whole_at(&self, image: ImageId) -> Option<&VPath> {
        self.visible.get(&image)?.iter().find(|path| !self.is_damaged(path))
    }

    fn show(&mut self, path: VPath, committed: Committed) {
        self.recent.committed(&path);
        self.damaged.remove(&path);
        self.take(&path);
        self.put(path, committed);
    }

    fn put(&mut self, path: VPath, committed: Committed) {
        self.committed.insert(path.clone(), committed);
        self.visible.entry(committed.image).or_default().insert(path);
    }

    fn take(&mut self, path: &VPath) -> Option<Committed> {
        let old = self.committed.remove(path)?;
        if let Some(paths) = self.visible.get_mut(&old.image) {
            paths.remove(path);
            if paths.is_empty() {
                self.visible.remove(&old.image);
            }
        }
        Some(old)
    }

    /// What is visible is about to be removed: nothing of it is used or offered from now on.
    pub(super) fn hide(&mut self, path: &VPath) {
        if let Some(committed) = self.take(path) {
            self.hidden.insert(path.clone(), committed);
        }
    }

    /// Whether something that was visible is still recorded as being there.
    pub(super) fn is_left(&self, path: &VPath) -> bool {
        self.committed.contains_key(path) || self.hidden.contains_key(path)
    }

    /// It is gone, or will stay for now.
    pub(super) fn hidden_ended(&mut self, path: &VPath, gone: bool) {
        let Some(committed) = self.hidden.remove(path) else { return };
        if gone {
            self.damaged.remove(path);
            self.origins.remove(path);
            self.recent.removed(path);
        } else {
            self.put(path.clone(), committed);
        }
    }

    /// Whether what the head says was removed by the rules of retention.
    pub(super) fn is_cleaned(&self, path: &VPath) -> bool {
        self.heads.get(path).is_some_and(|head| head.record.cleaned)
    }

    /// Says that a head was cleaned, or that it wasn't, and gives the row; `None`: another change holds there.
    pub(super) fn set_cleaned(&mut self, path: &VPath, change: ChangeId, cleaned: bool) -> Option<HeadRecord> {
        let head = self.heads.get_mut(path).filter(|head| head.id == change)?;
        head.record.cleaned = cleaned;
        head.record.before = None;
        Some(head.record.clone())
    }

    /// Heads that were cleaned.
    pub(super) fn cleaned(&self) -> impl Iterator<Item = &VPath> {
        self.heads.iter().filter(|(_, head)| head.record.cleaned).map(|(path, _)| path)
    }

    /// Heads of a config that were not cleaned.
    pub(super) fn uncleaned(&self, directory: &str) -> impl Iterator<Item = Candidate> + use<'_> {
        let heads = below(&self.heads, &format!("/{directory}"));
        let heads = heads.filter(|(_, head)| !head.record.cleaned && head.record.change.change.image.is_some());
        heads.map(|(path, head)| Candidate { path: path.clone(), rank: head.rank(), damaged: false })
    }

    /// What decides of siblings of a path that were not cleaned, this one included.
    pub(super) fn siblings(&self, path: &VPath) -> impl Iterator<Item = Rank> + use<'_> {
        let parent = path.parent().unwrap_or_else(|| path.clone());
        let heads = below(&self.heads, parent.as_str()).filter(|(_, head)| !head.record.cleaned && !head.deletes());
        let levels = path.levels();
        heads.filter(move |(other, _)| other.levels() == levels).map(|(_, head)| head.rank())
    }

    /// What decides of the head at a path.
    pub(super) fn rank(&self, path: &VPath) -> Option<Rank> {
        self.heads.get(path).map(Head::rank)
    }

    /// Visible directories of a config: path and what decides, root, whether the head says that it was cleaned.
    pub(super) fn present(&self, directory: &str) -> impl Iterator<Item = (Candidate, FileIdentity, bool)> + use<'_> {
        below(&self.committed, &format!("/{directory}")).filter_map(|(path, committed)| {
            let head = self.heads.get(path).filter(|head| !head.deletes())?;
            let candidate = Candidate { path: path.clone(), rank: head.rank(), damaged: self.is_damaged(path) };
            Some((candidate, committed.root, head.record.cleaned))
        })
    }

    /// Images which are visible, or of a head that `wanted` says is to be deployed, or would hold again in its place.
    pub(super) fn images(&self, wanted: impl Fn(&VPath) -> bool) -> impl Iterator<Item = ImageId> {
        let image = |record: &HeadRecord| record.change.change.image;
        let heads = self.heads.iter().filter(move |(path, _)| wanted(path));
        let heads = heads.flat_map(move |(_, head)| {
            let others = head.record.before.iter().chain(&head.displaced);
            others.filter_map(move |one| image(one)).chain(image(&head.record))
        });
        let there = [&self.committed, &self.hidden, &self.committing].into_iter().flat_map(BTreeMap::values);
        let swaps = self.intents.values().map(|intent| intent.committed.image);
        let images = |committed: &Committed| [Some(committed.image), committed.previous.map(|(image, _)| image)];
        heads.chain(there.flat_map(images).flatten()).chain(swaps)
    }

    /// Whether the head's image is visible.
    pub(super) fn is_committed(&self, path: &VPath) -> bool {
        let wanted = self.heads.get(path).and_then(|head| head.record.change.change.image);
        wanted.is_some() && self.committed.get(path).map(|committed| committed.image) == wanted
    }

    /// What `access` wants to know of a path.
    pub(super) fn access_head(&self, path: &VPath, gone: bool) -> Option<access::Head<'_>> {
        let committed = self.is_committed(path);
        self.heads.get(path).map(|head| access::Head { change: &head.record.change, id: head.id, committed, gone })
    }

    /// What is to be deployed at a path; `heal`: also if it is visible and damaged.
    pub(super) fn order(&mut self, path: &VPath, directory: Arc<DirectoryConfig>, heal: bool) -> Option<deploy::Order> {
        let head = self.heads.get(path)?;
        let image = head.record.change.change.image?;
        let committed = self.committed.get(path).map(|committed| (committed.image, committed.root));
        let change = head.id;
        let needed = committed.is_none_or(|(standing, _)| standing != image);
        let heal = heal && !needed && self.is_damaged(path);
        let siblings = if needed || heal { self.siblings_of(path) } else { Arc::default() };
        // What is right of the damaged one itself.
        let itself = committed.filter(|_| heal);
        let itself =
            itself.map(|(image, root)| Sibling { path: path.clone(), image, root, damaged: true, previous: false });
        let siblings = if heal { itself.into_iter().chain(siblings.iter().cloned()).collect() } else { siblings };
        let previous = self.previous(path);
        let intent = self.intents.remove(path);
        let replaces = head.record.change.change.verb == Verb::Replace;
        Some(deploy::Order {
            path: path.clone(),
            directory,
            change,
            image,
            committed,
            heal,
            intent,
            siblings,
            replaces,
            previous,
        })
    }

    /// What was visible at a path before what is now, if it is set aside.
    pub(super) fn previous(&self, path: &VPath) -> Option<(ImageId, FileIdentity)> {
        self.committed.get(path)?.previous
    }

    /// What was set aside with that root isn't any more; says whether it was.
    pub(super) fn forgo(&mut self, path: &VPath, root: FileIdentity) -> bool {
        let Some(committed) = self.committed.get_mut(path) else { return false };
        committed.previous.take_if(|(_, kept)| *kept == root).is_some()
    }

    /// Directories that may have blocks of what goes to a path.
    pub(super) fn siblings_of(&self, path: &VPath) -> Arc<[Sibling]> {
        let siblings = self.recent.siblings(path, self);
        let Some((image, root)) = self.previous(path) else { return siblings };
        let previous = Sibling { path: path.clone(), image, root, damaged: true, previous: true };
        std::iter::once(previous).chain(siblings.iter().cloned()).collect()
    }

    /// The order whose swap a crash interrupted, where a delete holds now.
    pub(super) fn interrupted(&mut self, path: &VPath, directory: Arc<DirectoryConfig>) -> Option<deploy::Order> {
        let intent = self.intents.remove(path)?;
        let CommittedRecord { change, image, .. } = intent.committed;
        let committed = self.committed.get(path).map(|committed| (committed.image, committed.root));
        let (path, siblings) = (path.clone(), Arc::default());
        let replaces = intent.exchange;
        Some(deploy::Order {
            path,
            directory,
            change,
            image,
            committed,
            heal: false,
            intent: Some(intent),
            siblings,
            replaces,
            previous: None,
        })
    }

    /// The deployment which ends now took its content from there.
    pub(super) fn came_from(&mut self, path: &VPath, found: Found) {
        if let Some(committing) = self.committing.get(path) {
            self.origins.insert(path.clone(), (committing.change, found));
        }
    }

    /// Where the visible directory came from.
    pub(super) fn origin(&self, path: &VPath) -> Option<&Found> {
        let (change, found) = self.origins.get(path)?;
        self.committed.get(path).filter(|committed| committed.change == *change).map(|_| found)
    }

    /// All that is visible.
    pub(super) fn all_visible(&self) -> impl Iterator<Item = (&VPath, Committed)> {
        self.committed.iter().map(|(path, committed)| (path, *committed))
    }

    /// The head at a path can't be deployed: the one which was visible last, or came before it, holds again; or none. Says
    /// whether there was one.
    pub(super) fn take_back(&mut self, path: &VPath) -> bool {
        let Some(Head { record, writes, .. }) = self.heads.remove(path) else { return false };
        self.put_back(path, record.before, writes)
    }

    /// The head at a path couldn't be written down: the one in whose place it came holds on.
    pub(super) fn take_back_unwritten(&mut self, path: &VPath) -> bool {
        let Some(Head { displaced, writes, .. }) = self.heads.remove(path) else { return false };
        self.put_back(path, displaced, writes)
    }

    fn put_back(&mut self, path: &VPath, record: Option<Box<HeadRecord>>, writes: usize) -> bool {
        let Some(record) = record else { return false };
        let id = change::id(&record.change.change);
        self.heads.insert(path.clone(), Head { record: *record, id, writes, displaced: None });
        true
    }

    /// A new head comes in the place of another.
    pub(super) fn displace(&mut self, path: &VPath, change: SignedChange, admitted: Stamp) {
        let id = change::id(&change.change);
        let committed = self.is_committed(path);
        let old = self.heads.remove(path);
        let writes = old.as_ref().map_or(0, |old| old.writes);
        let displaced = old.map(|old| Box::new(old.record));
        // Of several that didn't get to be visible, only the last is of interest.
        let before = displaced.as_ref().map(|old| match &old.before {
            Some(visible) if !committed => visible.clone(),
            _ => Box::new(HeadRecord { before: None, ..(**old).clone() }),
        });
        // A delete is never taken back, so nothing before it is kept.
        let before = before.filter(|_| !change.change.deletes());
        let record = HeadRecord { change, admitted, before, cleaned: false };
        self.heads.insert(path.clone(), Head { record, id, writes, displaced });
    }

    pub(super) fn committing(&mut self, path: &VPath, record: CommittedRecord) {
        self.committing.insert(path.clone(), record.into());
    }

    /// A deployment is recorded (or was found to be).
    pub(super) fn committed(&mut self, path: &VPath, change: ChangeId) {
        if let Some(committed) = self.committing.remove(path) {
            self.show(path.clone(), committed);
        }
        if let Some(head) = self.heads.get_mut(path).filter(|head| head.id == change) {
            head.record.before = None;
        }
    }
}

impl Usable for Heads {
    fn sibling(&self, path: &VPath) -> Option<Sibling> {
        let Committed { image, root, .. } = *self.committed.get(path).filter(|_| !self.is_damaged(path))?;
        Some(Sibling { path: path.clone(), image, root, damaged: false, previous: false })
    }

    fn neighbours(&self, path: &VPath) -> Vec<&VPath> {
        siblings::neighbours(&self.committed, path)
    }
}
