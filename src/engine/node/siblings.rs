//! Committed directories that are likely to have blocks of a new image: those that came last, and those named alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::heads::Committed;
use crate::model::limits;
use crate::model::reuse::Sibling;
use crate::model::vpath::VPath;

/// Neighbours in the order of names that are looked at, on each side.
const NEIGHBOURS: usize = 4;

/// What was committed last, by directory config; the newest first.
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeMap<Box<str>, VecDeque<VPath>>);

impl Recent {
    pub(super) fn committed(&mut self, path: &VPath) {
        let recent = self.0.entry(path.key().into()).or_default();
        recent.retain(|other| other != path);
        recent.push_front(path.clone());
        // One of them may be the path that is asked for.
        recent.truncate(limits::SIBLINGS_MAX + 1);
    }

    pub(super) fn removed(&mut self, path: &VPath) {
        if let Some(recent) = self.0.get_mut(path.key()) {
            recent.retain(|other| other != path);
        }
    }

    /// The directory at the path itself first.
    pub(super) fn siblings(&self, path: &VPath, usable: &impl Usable) -> Arc<[Sibling]> {
        let mut seen = BTreeSet::from([path]);
        let mut siblings: Vec<Sibling> = usable.sibling(path).into_iter().collect();
        let most = siblings.len() + limits::SIBLINGS_MAX;
        let recent: Vec<_> = self.0.get(path.key()).into_iter().flatten().filter(|other| *other != path).collect();
        let (newest, older) = recent.split_at(recent.len().min(limits::SIBLINGS_MAX / 2));
        let alike = usable.neighbours(path);
        for other in newest.iter().chain(&alike).chain(older) {
            if siblings.len() < most && seen.insert(other) {
                siblings.extend(usable.sibling(other));
            }
        }
        siblings.into()
    }
}

/// What may be used.
pub(super) trait Usable {
    /// The directory at a path.
    fn sibling(&self, path: &VPath) -> Option<Sibling>;
    /// Paths of the same directory config, those named most alike first.
    fn neighbours(&self, path: &VPath) -> Vec<&VPath>;
}

/// Paths near `path` in the order of names, below the same directory config: those with the longest beginning in common first.
pub(super) fn neighbours<'a>(committed: &'a BTreeMap<VPath, Committed>, path: &VPath) -> Vec<&'a VPath> {
    let same = |other: &&VPath| other.key() == path.key();
    let before = committed.range(..path).rev().map(|(other, _)| other).take(NEIGHBOURS).take_while(same);
    let after = committed.range((Bound::Excluded(path), Bound::Unbounded)).map(|(other, _)| other);
    let mut all: Vec<_> = before.chain(after.take(NEIGHBOURS).take_while(same)).collect();
    let common = |other: &VPath| other.as_str().bytes().zip(path.as_str().bytes()).take_while(|(a, b)| a == b).count();
    all.sort_by_key(|other| std::cmp::Reverse(common(other)));
    all
}
