//! The part of an image that a path in it names, and which blocks belong to it.

use std::ops::Range;

use crate::model::image::{Directory, EntryKind, Image, blocks_of, directory_order};

/// An entry of an image. Paths are relative to the image's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// A directory and all below; the empty path is the whole image.
    Directory { path: Box<str> },
    /// One file.
    File { path: Box<str> },
    /// A symbolic link.
    Link { path: Box<str>, target: Box<str> },
}

impl Selection {
    /// What is at `path`.
    pub fn find(image: &Image, path: &str) -> Option<Self> {
        let directory = |path: &str| {
            let at = image.directories().binary_search_by(|directory| directory_order(&directory.path, path)).ok()?;
            image.directories().get(at)
        };
        if directory(path).is_some() {
            return Some(Self::Directory { path: path.into() });
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match &directory(parent)?.entry(name)?.kind {
            EntryKind::File { .. } => Some(Self::File { path: path.into() }),
            EntryKind::Symlink { target } => Some(Self::Link { path: path.into(), target: (*target).into() }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        match self {
            Self::Directory { path } | Self::File { path } | Self::Link { path, .. } => path,
        }
    }

    /// Its directories, itself first, in index order; none of a file or link.
    pub fn directories<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = &'a Directory> {
        let root = match self {
            Self::Directory { path } => Some(path),
            Self::File { .. } | Self::Link { .. } => None,
        };
        let is_in = move |directory: &&Directory| root.is_some_and(|root| below(root, &directory.path).is_some());
        image.directories().iter().filter(is_in)
    }

    /// The numbers of its blocks: what is together in the tree is so in the image.
    pub fn blocks(&self, image: &Image) -> Range<u64> {
        match self {
            Self::Link { .. } => 0..0,
            Self::File { path } => {
                image.file(path).map_or(0..0, |file| file.first_block..file.first_block + blocks_of(file.size))
            }
            Self::Directory { .. } => {
                let files = self.directories(image).flat_map(|directory| &directory.entries);
                files.fold(0..0, |blocks, entry| match entry.kind {
                    EntryKind::File { size, first_block, .. } if size > 0 => {
                        let start = if blocks.is_empty() { first_block } else { blocks.start };
                        start..first_block + blocks_of(size)
                    }
                    EntryKind::File { .. } | EntryKind::Symlink { .. } => blocks,
                })
            }
        }
    }
}

/// `path` relative to `root`, if it is that or below it.
pub fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    if root.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(root)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}
