//! A change: one signed intent, "put this image at this path".

use super::ids::{ChangeId, ImageId};
use super::key::Signature;
use super::time::Stamp;
use super::vpath::VPath;

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Add the directory if it isn't there.
    Append,
    /// Put it in the place of whatever is there, or of `old_image` only.
    Replace,
    /// Remove it.
    Delete,
}

/// One intent, without its signatures. Its id and its signed bytes are `format/change`'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The cluster it is meant for; `None`: any whose keys fit.
    pub cluster: Option<Box<str>>,
    /// What to do.
    pub verb: Verb,
    /// Where.
    pub path: VPath,
    /// With what; `None` only for [`Verb::Delete`].
    pub image: Option<ImageId>,
    /// Only if this image is there now (replace, delete), or was there before it was removed (replace). Every
    /// [`Verb::Delete`] names one.
    pub old_image: Option<ImageId>,
    /// The author's time: the later one wins.
    pub stamp: Stamp,
}

/// A change with whatever signatures have been seen for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedChange {
    /// The intent.
    pub change: Change,
    /// Sorted, no duplicates, at most [`super::limits::SIGNATURES_MAX`].
    pub signatures: Vec<Signature>,
}

/// A change among others at its path: what decides which of them holds. Ordered by time, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Of what time.
    pub stamp: Stamp,
    /// Which.
    pub id: ChangeId,
    /// Whether it was made in view of what was there, see [`Change::overrides`].
    pub overrides: bool,
}

impl Change {
    /// An append of the very image that it says holds there: it brings back what isn't visible any more.
    pub fn restores(&self) -> bool {
        self.verb == Verb::Append && self.image.is_some() && self.old_image == self.image
    }

    /// Whether it was made in view of what was there: in an append-only directory it goes before plain appends.
    pub fn overrides(&self) -> bool {
        self.verb != Verb::Append || self.restores()
    }

    /// Whether it removes what is there.
    pub fn deletes(&self) -> bool {
        self.verb == Verb::Delete
    }

    /// The image that it is about: the one that it puts there, or removes.
    pub fn subject(&self) -> Option<ImageId> {
        self.image.or(self.old_image.filter(|_| self.deletes()))
    }
}

impl Verb {
    /// The word on the wire and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Delete => "delete",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Append, Self::Replace, Self::Delete].into_iter().find(|verb| verb.name() == name)
    }
}

impl SignedChange {
    /// Sorts the signatures and drops repeated ones and those beyond the bound.
    pub fn new(change: Change, mut signatures: Vec<Signature>) -> Self {
        signatures.sort_unstable();
        signatures.dedup();
        signatures.truncate(super::limits::SIGNATURES_MAX);
        Self { change, signatures }
    }

    /// Adds signatures not yet there; says whether there were any.
    pub fn merge(&mut self, signatures: &[Signature]) -> bool {
        let before = self.signatures.len();
        let all = self.signatures.iter().chain(signatures).copied().collect();
        *self = Self::new(self.change.clone(), all);
        self.signatures.len() != before
    }
}
