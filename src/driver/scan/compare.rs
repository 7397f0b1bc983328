//! A directory held against an image: what differs, is missing, is extra.

use std::cmp::Ordering;
use std::path::Path;

use super::digest::hash_files;
use super::error::ScanError;
use super::walk::{FileId, Tree, TreeFile, WalkedLink, walk};
use super::{OnProgress, ScanOptions};
use crate::model::escape::escaped;
use crate::model::ids::BlockHash;
use crate::model::image::{EntryKind, Image, blocks_of, path_order};

/// One entry that isn't as the image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Relative to the root, escaped as in the index text.
    pub path: String,
    /// In what way.
    pub kind: DifferenceKind,
}

/// How an entry differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It isn't there.
    Missing,
    /// It isn't in the image.
    Extra,
    /// It is of another type: file, directory, link, or something else.
    Type,
    /// The link points elsewhere.
    Target,
    /// The file's content is another one.
    Content,
    /// The file's executable bit is another one.
    Executable,
    /// Both the file's content and its executable bit.
    ContentAndExecutable,
}

/// All entries of `dir` that aren't as `image` says, in index order; empty if it is exactly that image.
///
/// What no image can hold is a difference, not an error; what can't be read is an error.
pub fn compare(
    dir: &Path,
    image: &Image,
    options: &ScanOptions,
    progress: OnProgress<'_>,
) -> Result<Vec<Difference>, ScanError> {
    let options = ScanOptions { kind: image.hash_kind(), ..options.clone() };
    let tree = walk(dir, &options, progress)?;
    let (expected, found) = (expected_nodes(image), found_nodes(&tree));
    let (mut differences, mut unread) = (Vec::new(), Vec::<Unread<'_>>::new());
    let (mut left, mut right) = (expected.as_slice(), found.as_slice());
    loop {
        let order = match (left, right) {
            ([], []) => break,
            ([_, ..], []) => Ordering::Less,
            ([], [_, ..]) => Ordering::Greater,
            ([(a, _), ..], [(b, _), ..]) => path_order(a, b),
        };
        let kind = match (order, left, right) {
            (Ordering::Equal, [(_, expected), ..], [(_, found), ..]) => {
                differs(image, expected, found, differences.len(), &mut unread)
            }
            (Ordering::Greater, ..) => Some(DifferenceKind::Extra),
            (Ordering::Less | Ordering::Equal, ..) => Some(DifferenceKind::Missing),
        };
        let (path, _) = if order == Ordering::Greater { &right[0] } else { &left[0] };
        differences.push((escaped(path), kind));
        left = &left[usize::from(order != Ordering::Greater)..];
        right = &right[usize::from(order != Ordering::Less)..];
    }
    // One behind the other, whatever else is in the directory.
    let mut blocks = 0;
    for one in &mut unread {
        one.file = one.file.at_block(blocks);
        blocks += one.expected.len();
    }
    let files = unread.iter().map(|unread| unread.file).collect::<Vec<_>>();
    let mut hashes = vec![BlockHash::new([0; 32]); blocks];
    hash_files(dir, &tree, &files, &mut hashes, &options, progress)?;
    for Unread { file, size, expected, at } in unread {
        if hashes.get(file.blocks(size)) != Some(expected) {
            let kind = &mut differences[at].1;
            *kind = Some(match kind {
                Some(_) => DifferenceKind::ContentAndExecutable,
                None => DifferenceKind::Content,
            });
        }
    }
    Ok(differences.into_iter().filter_map(|(path, kind)| Some(Difference { path, kind: kind? })).collect())
}

/// A file whose content must be read to know.
struct Unread<'a> {
    file: FileId,
    size: u64,
    expected: &'a [BlockHash],
    /// Its place in the list of differences.
    at: usize,
}

/// An entry of the image or the directory.
enum Node<'a> {
    Directory,
    Symlink { target: &'a str },
    Expected { executable: bool, size: u64, first_block: u64 },
    Found { executable: bool, size: u64, file: FileId },
    Stray,
}

fn differs<'a>(
    image: &'a Image,
    expected: &Node<'a>,
    found: &Node<'a>,
    at: usize,
    unread: &mut Vec<Unread<'a>>,
) -> Option<DifferenceKind> {
    match (expected, found) {
        (Node::Directory, Node::Directory) => None,
        (Node::Symlink { target: a }, Node::Symlink { target: b }) => (a != b).then_some(DifferenceKind::Target),
        (Node::Expected { executable: a, size, first_block }, Node::Found { executable: b, size: found, file }) => {
            let (same_size, file, size) = (size == found, *file, *size);
            if same_size {
                unread.push(Unread { file, size, expected: image.block_hashes(*first_block, blocks_of(size)), at });
            }
            match (same_size, a == b) {
                (true, true) => None,
                (true, false) => Some(DifferenceKind::Executable),
                (false, true) => Some(DifferenceKind::Content),
                (false, false) => Some(DifferenceKind::ContentAndExecutable),
            }
        }
        _ => Some(DifferenceKind::Type),
    }
}

/// Everything but the root, by path, in index order of the paths.
type Nodes<'a> = Vec<(Vec<u8>, Node<'a>)>;

fn expected_nodes(image: &Image) -> Nodes<'_> {
    let mut nodes = Nodes::new();
    for directory in image.directories() {
        nodes.push((directory.path.as_bytes().to_vec(), Node::Directory));
        for entry in &directory.entries {
            let node = match entry.kind {
                EntryKind::Symlink { target } => Node::Symlink { target },
                EntryKind::File { size, executable, first_block } => Node::Expected { executable, size, first_block },
            };
            nodes.push((directory.join(entry.name).into_bytes(), node));
        }
    }
    sorted(nodes)
}

fn found_nodes(tree: &Tree) -> Nodes<'_> {
    let mut nodes = Nodes::new();
    let path = |directory: &str, name: &str| {
        if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }.into_bytes()
    };
    for directory in &tree.directories {
        nodes.push((directory.path.as_bytes().to_vec(), Node::Directory));
        for WalkedLink { name, target } in &directory.links {
            nodes.push((path(&directory.path, name), Node::Symlink { target }));
        }
    }
    for TreeFile { id: file, directory, name, executable, fingerprint } in tree.files() {
        nodes.push((path(directory, name), Node::Found { executable, size: fingerprint.size, file }));
    }
    nodes.extend(tree.strays.iter().map(|stray| (stray.path.clone(), Node::Stray)));
    sorted(nodes)
}

fn sorted(mut nodes: Nodes<'_>) -> Nodes<'_> {
    nodes.sort_unstable_by(|(a, _), (b, _)| path_order(a, b));
    nodes
}
