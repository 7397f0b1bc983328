//! What the node has on disk already, put into a staged tree: whole files linked, blocks copied; see `doc/reuse.md`.
//!
//! Which files are known is the library's; whether what is there is still what is known is found out here.

mod copy;
mod link;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use self::copy::Copier;
pub(super) use self::link::Linker;
use super::place::Place;
use crate::model::directory::DirectoryConfig;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ImageId;
use crate::model::image::{FileRef, Image};
use crate::model::reuse::{Hashed, Sibling, Source, Touch, TreePlace};
use crate::model::vpath::VPath;

/// What is known of files on this node. What can't be told is as good as unknown.
pub trait Library {
    /// For each of the image's files where its content should be, the newest first.
    fn sources(&self, image: &Image, files: &[FileRef<'_>]) -> Vec<Vec<Source>>;
    /// An image whose index is here.
    fn image(&self, id: ImageId) -> Option<Arc<Image>>;
    /// Files of committed directories were hashed, whatever was known of them.
    fn hashed(&self, files: &[Hashed]);
    /// Inodes got another change time by this node's doing.
    fn touched(&self, touches: Vec<Touch>);
}

/// Knows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyLibrary;

impl Library for EmptyLibrary {
    fn sources(&self, _image: &Image, files: &[FileRef<'_>]) -> Vec<Vec<Source>> {
        vec![Vec::new(); files.len()]
    }

    fn image(&self, _id: ImageId) -> Option<Arc<Image>> {
        None
    }

    fn hashed(&self, _files: &[Hashed]) {}

    fn touched(&self, _touches: Vec<Touch>) {}
}

/// A committed tree that may have blocks of the new image.
#[derive(Debug, Clone)]
pub struct SiblingTree {
    path: VPath,
    image: ImageId,
    tree: TreePlace,
    damaged: bool,
}

impl SiblingTree {
    /// Whether something is known to be wrong with the tree, and the file is of it. The library may not know that yet.
    pub(super) fn taints(&self, source: &Source) -> bool {
        self.damaged && self.path == source.path && self.tree == source.tree
    }

    /// Whether it is the tree at this place below the base.
    pub(super) fn lies_at(&self, target: &Path) -> bool {
        self.tree.target == target
    }
}

/// Where the siblings lie, as far as they have a place under this configuration.
pub fn siblings(directory: &DirectoryConfig, siblings: &[Sibling]) -> Vec<SiblingTree> {
    let tree = |Sibling { path, image, root, damaged, previous }: &Sibling| {
        let place = Place::new(directory, path).ok()?;
        let target = if *previous { place.previous() } else { place.target().to_owned() };
        let tree = TreePlace { base: place.base().to_owned(), target, root: *root };
        Some(SiblingTree { path: path.clone(), image: *image, tree, damaged: *damaged })
    };
    siblings.iter().filter_map(tree).collect()
}

/// A file whose blocks may be copied.
#[derive(Debug, Clone)]
pub(super) struct Donor {
    path: VPath,
    base: PathBuf,
    target: PathBuf,
    root: FileIdentity,
    file: Box<str>,
    /// Its directory is known to be damaged: a wrong block is no news, and others may be right.
    damaged: bool,
}

impl Donor {
    fn of(path: &VPath, tree: &TreePlace, file: &str) -> Self {
        let TreePlace { base, target, root } = tree.clone();
        Self { path: path.clone(), base, target, root, file: file.into(), damaged: false }
    }

    fn of_sibling(sibling: &SiblingTree, file: &str) -> Self {
        Self { damaged: sibling.damaged, ..Self::of(&sibling.path, &sibling.tree, file) }
    }
}
