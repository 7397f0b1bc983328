//! What is known to be wrong with visible directories. What finds that, and what is done about it, stands elsewhere.

use std::collections::BTreeMap;

use super::heads::Heads;
use crate::format::record::DamageRecord;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ChangeId;
use crate::model::reuse::Damage;
use crate::model::vpath::VPath;

/// Visible directories with which something is wrong.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    by_path: BTreeMap<VPath, Known>,
    /// Those that could not be read when they were to be compared with their images last, and why.
    unread: BTreeMap<VPath, String>,
}

#[derive(Debug)]
struct Known {
    record: DamageRecord,
    /// Somebody has published it once more since.
    again: bool,
}

impl Damaged {
    pub(super) fn new(records: BTreeMap<VPath, DamageRecord>) -> Self {
        let known = |(path, record)| (path, Known { record, again: false });
        Self { by_path: records.into_iter().map(known).collect(), unread: BTreeMap::new() }
    }

    /// Nothing is wrong there any more; says whether something was.
    pub(super) fn remove(&mut self, path: &VPath) -> bool {
        self.unread.remove(path);
        self.by_path.remove(path).is_some()
    }
}

impl Heads {
    /// Notes that something is wrong with a visible directory; `None` if that is known, or isn't about what is there now.
    pub(super) fn damage(&mut self, damage: Damage) -> Option<(VPath, DamageRecord)> {
        let Damage { path, root, file, what } = damage;
        // Device numbers may have changed at a reboot.
        let stands = self.committed_at(&path).is_some_and(|committed| committed.root.ino == root.ino);
        if !stands || self.is_damaged(&path) {
            return None;
        }
        let record = DamageRecord { root, file, what };
        self.damaged.by_path.insert(path.clone(), Known { record: record.clone(), again: false });
        Some((path, record))
    }

    /// Whether something is wrong with the visible directory.
    pub(super) fn is_damaged(&self, path: &VPath) -> bool {
        self.damaged.by_path.contains_key(path)
    }

    /// What is wrong with the visible directory.
    pub(super) fn damage_of(&self, path: &VPath) -> Option<&DamageRecord> {
        self.damaged.by_path.get(path).map(|known| &known.record)
    }

    /// A visible directory was read, or could not be.
    pub(super) fn compared(&mut self, path: &VPath, failure: Option<String>) {
        match failure.filter(|_| self.committed_at(path).is_some()) {
            Some(failure) => _ = self.damaged.unread.insert(path.clone(), failure),
            None => _ = self.damaged.unread.remove(path),
        }
    }

    /// What is known to be wrong at a path, for people.
    pub(super) fn trouble(&self, path: &VPath) -> Option<String> {
        let unread = || Some(format!("it can't be compared with its image: {}", self.damaged.unread.get(path)?));
        self.damage_of(path).map(|damage| format!("{} {}", damage.file, damage.what)).or_else(unread)
    }

    /// Nothing is wrong with what is visible after all; gives by which change it is visible, if something was known to be.
    pub(super) fn sound(&mut self, path: &VPath, root: FileIdentity) -> Option<ChangeId> {
        let change = self.committed_at(path).filter(|committed| committed.root == root)?.change;
        self.damaged.remove(path).then_some(change)
    }

    /// A change is published which, maybe, holds at the path; says whether something is wrong with what is visible by it.
    pub(super) fn publish_again(&mut self, path: &VPath, change: ChangeId) -> bool {
        let holds = self.change(path).is_some_and(|(id, _)| id == change);
        let known = self.damaged.by_path.get_mut(path).filter(|_| holds);
        known.map(|known| known.again = true).is_some()
    }

    /// Whether it is damaged, and was published once more since.
    pub(super) fn is_published_again(&self, path: &VPath) -> bool {
        self.damaged.by_path.get(path).is_some_and(|known| known.again)
    }
}
