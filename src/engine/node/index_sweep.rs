//! Cached indexes that nothing needs any more go, some time after they became unneeded; never while something wants them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Node};
use crate::engine::contract::Outbox;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::time::{Now, Time};

/// What is known of cached indexes.
#[derive(Debug, Default)]
pub(super) struct IndexSweep {
    /// When they are looked at next; `None`: they are being looked at, or removed.
    next: Option<Time>,
    /// Since when nothing has needed them.
    unneeded: BTreeMap<ImageId, Time>,
    /// Who wants one of them waits.
    removing: BTreeSet<ImageId>,
}

impl IndexSweep {
    pub(super) fn start(&mut self, now: Now) {
        self.next = Some(now.time + limits::INDEX_SWEEP_INTERVAL);
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        self.next.map(|at| (at, "indexes: which are needed?"))
    }

    pub(super) fn removes(&self, image: ImageId) -> bool {
        self.removing.contains(&image)
    }
}

impl Node {
    pub(super) fn index_sweep_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.index_sweep.next.is_some_and(|next| next <= now.time) {
            self.index_sweep.next = None;
            outbox.push(Effect::ListIndexes);
        }
    }

    pub(super) fn indexes_listed(&mut self, now: Now, images: &[ImageId], outbox: &mut Outbox<Effect>) {
        let needed = self.needed_images();
        let sweep = &mut self.index_sweep;
        let before = std::mem::take(&mut sweep.unneeded);
        let unneeded = images.iter().filter(|image| !needed.contains(image));
        sweep.unneeded = unneeded.map(|image| (*image, before.get(image).copied().unwrap_or(now.time))).collect();
        let due = sweep.unneeded.iter().filter(|(_, since)| now.time.since(**since) >= limits::INDEX_UNNEEDED_KEPT);
        sweep.removing = due.map(|(image, _)| *image).take(limits::INDEXES_REMOVED_AT_ONCE_MAX).collect();
        if sweep.removing.is_empty() {
            return sweep.start(now);
        }
        outbox.push(Effect::RemoveIndexes { images: sweep.removing.iter().copied().collect() });
    }

    pub(super) fn indexes_removed(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for image in std::mem::take(&mut self.index_sweep.removing) {
            self.index_sweep.unneeded.remove(&image);
            if self.index_waiters.contains_key(&image) {
                outbox.push(Effect::LoadIndex { image });
            }
        }
        self.index_sweep.start(now);
    }

    /// Images of which something is visible, or is to be, or is under way.
    fn needed_images(&self) -> BTreeSet<ImageId> {
        let gone = self.all_gone();
        let mut needed: BTreeSet<_> = self.heads.images(|path| !gone.contains_key(path)).collect();
        needed.extend(self.deploys.images());
        needed.extend(self.index_waiters.keys());
        needed.extend(self.neighbours.images());
        needed
    }
}
