//! Answers requests for content: cached indexes, and blocks of visible trees, each checked before it is sent.

use bytes::Bytes;

use super::shared::Shared;
use crate::driver::disk::fs::FileSystem;
use crate::driver::disk::place::Place;
use crate::driver::disk::read::{self, Tree};
use crate::driver::ws::{ConnectionHandle, Outgoing};
use crate::engine::node::{Input, ServedTree, Serving};
use crate::format::wire::{DataResponse, Message, Response, data_response_head};
use crate::model::directory::DirectoryConfig;
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::Image;
use crate::model::limits;
use crate::model::reuse::Damage;
use crate::model::run::Run;
use crate::model::vpath::VPath;

/// Reads and queues the answer; whatever goes wrong becomes an error response.
pub(super) fn serve<F: FileSystem + Clone>(shared: &Shared<F>, handle: &ConnectionHandle, request: u64, what: Serving) {
    match answer(shared, request, what) {
        Ok(outgoing) => deliver(handle, outgoing),
        Err(text) => refuse(handle, request, text),
    }
}

/// Answers a request with an error.
pub(super) fn refuse(handle: &ConnectionHandle, request: u64, text: String) {
    deliver(handle, Outgoing::Message(Message::Response { id: request, response: Response::Error(text) }));
}

fn deliver(handle: &ConnectionHandle, outgoing: Outgoing) {
    if let Err(error) = handle.try_send(outgoing) {
        tracing::debug!(peer = %handle.peer, "an answer is not sent: {error}");
        let _ = handle.try_send(Outgoing::Close("you don't read what you asked for".to_owned()));
    }
}

fn answer<F: FileSystem + Clone>(shared: &Shared<F>, request: u64, what: Serving) -> Result<Outgoing, String> {
    let index = |image| shared.indexes.load(image).map_err(|error| error.to_string());
    let (response, data) = match what {
        Serving::Index { image } => {
            let data = index(image)?.ok_or_else(|| format!("no index of image {image} here"))?;
            (DataResponse::GetIndex, data.into())
        }
        Serving::IndexPart { image, offset } => {
            let part = shared.indexes.load_part(image, offset, limits::INDEX_PART_BYTES_MAX);
            let (part, total) =
                part.map_err(|error| error.to_string())?.ok_or_else(|| format!("no index of image {image} here"))?;
            if part.is_empty() {
                return Err(format!("offset {offset} is beyond the index of {total} bytes"));
            }
            (DataResponse::GetIndexPart { total }, part.into())
        }
        Serving::IndexAt { image, hosts } => {
            let data = index(image)?.map(Bytes::from);
            let response = Response::GetIndexAt { data, hosts };
            return Ok(Outgoing::Message(Message::Response { id: request, response }));
        }
        Serving::Block { image, directory, path, root, hash, file, offset } => {
            let tree = Wanted { directory: &directory, path: &path, tree: ServedTree::Visible(root) };
            (DataResponse::GetBlock, block(shared, image, tree, hash, &file, offset)?)
        }
        Serving::Run { image, directory, path, tree, run } => {
            let tree = Wanted { directory: &directory, path: &path, tree };
            (DataResponse::GetBlocks, run_data(shared, image, tree, run)?)
        }
    };
    let frame = data_response_head(response, request, data.len()).into();
    Ok(Outgoing::Encoded { frame, data, is_response: true })
}

/// A tree to be read.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    directory: &'a DirectoryConfig,
    path: &'a VPath,
    tree: ServedTree,
}

fn block<F: FileSystem + Clone>(
    shared: &Shared<F>,
    image: ImageId,
    tree: Wanted<'_>,
    hash: BlockHash,
    file: &str,
    offset: u64,
) -> Result<Bytes, String> {
    let missing = || format!("no block {hash} at the hinted place");
    let known = shared.image(image)?.ok_or_else(missing)?;
    let found = known.file(file).ok_or_else(missing)?;
    let number = found.first_block + offset / limits::BLOCK_BYTES as u64;
    let belongs = offset < found.size && offset.is_multiple_of(limits::BLOCK_BYTES as u64);
    let at = usize::try_from(number).map_err(|_| missing())?;
    if !belongs || known.hashes().get(at) != Some(&hash) {
        return Err(missing());
    }
    let len = known.place(number).ok_or_else(missing)?.len;
    read_data(shared, tree, &known, Run { first: number, count: 1 }, len)
}

fn run_data<F: FileSystem + Clone>(
    shared: &Shared<F>,
    image: ImageId,
    tree: Wanted<'_>,
    run: Run,
) -> Result<Bytes, String> {
    let known = shared.image(image)?.ok_or_else(|| format!("no index of image {image} here"))?;
    let bytes =
        run.bytes(&known).ok_or_else(|| "these blocks are not in the image, or too many for one request".to_owned())?;
    let hashes = known.block_hashes(run.first, u64::from(run.count));
    let is_staged = matches!(tree.tree, ServedTree::Staged | ServedTree::Stored);
    let recent = is_staged.then(|| shared.recent.find(known.hash_kind(), hashes, bytes, &shared.frames)).flatten();
    recent.map_or_else(|| read_data(shared, tree, &known, run, bytes), Ok)
}

fn read_data<F: FileSystem + Clone>(
    shared: &Shared<F>,
    tree: Wanted<'_>,
    image: &Image,
    run: Run,
    bytes: usize,
) -> Result<Bytes, String> {
    let mut data = shared.frames.filled(bytes);
    let (text, damage) = match read(&shared.fs, tree, image, run, &mut data) {
        Ok(()) => return Ok(shared.frames.finish(data)),
        Err(Unread::Failed(failure)) => return Err(failure.to_string()),
        Err(Unread::NotYet(block)) => return Err(format!("block {block} is not here yet")),
        Err(Unread::Gone) => return Err(format!("{} is not here any more", tree.path)),
        Err(Unread::Damaged { block, root }) => {
            let what = format!("was changed on this node: block {block} doesn't fit its hash").into();
            let damage = image.place(block).map(|place| Damage {
                path: tree.path.clone(),
                root,
                file: place.file.path().into(),
                what,
            });
            (format!("block {block} is damaged on this node"), damage)
        }
    };
    if let Some(damage) = damage {
        shared.answer(Input::Damaged(damage));
    }
    Err(text)
}

/// Why blocks can't be given.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    /// The disk says no.
    Failed(Failure),
    /// A block of a tree that is being staged.
    NotYet(u64),
    /// The tree was removed, or another one came to its place.
    Gone,
    /// The tree is there, and the block isn't.
    Damaged { block: u64, root: FileIdentity },
}

fn read<F: FileSystem>(fs: &F, wanted: Wanted<'_>, image: &Image, run: Run, out: &mut [u8]) -> Result<(), Unread> {
    let place = Place::new(wanted.directory, wanted.path).map_err(Unread::Failed)?;
    let mut wrong = |tree| Ok(read::read_run(fs, (&place, tree), image, run, out)?.first().copied());
    match wanted.tree {
        ServedTree::Damaged(_) if matches!(wrong(Tree::Staged), Ok(None)) => Ok(()),
        ServedTree::Visible(root) | ServedTree::Damaged(root) => {
            let Some(block) = wrong(Tree::Visible).map_err(Unread::Failed)? else { return Ok(()) };
            match read::look(fs, &place) {
                // Device numbers may have changed at a reboot.
                Ok(Some(there)) if there.identity.ino == root.ino => {
                    Err(Unread::Damaged { block, root: there.identity })
                }
                Ok(_) => Err(Unread::Gone),
                Err(failure) => Err(Unread::Failed(failure)),
            }
        }
        ServedTree::Staged | ServedTree::Stored => {
            let stored = wanted.tree == ServedTree::Stored;
            let why = match wrong(if stored { Tree::Stored } else { Tree::Staged }) {
                Ok(None) => return Ok(()),
                Ok(Some(block)) => Unread::NotYet(block),
                Err(failure) => Unread::Failed(failure),
            };
            // It may have been made visible since it was asked for. If not, another tree may be there: nothing is wrong with that.
            if matches!(wrong(Tree::Visible), Ok(None)) { Ok(()) } else { Err(why) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use std::sync::Arc;

    use super::super::hands::Hands;
    use super::*;
    use crate::driver::db::Db;
    use crate::driver::disk::claims::Claims;
    use crate::driver::disk::real::RealFileSystem;
    use crate::driver::scan::{Scan, ScanOptions, scan};
    use crate::format::index;
    use crate::model::disk_task::{DiskAction, DiskResult, DiskTask, Previous};

    const RUN: Run = Run { first: 0, count: 1 };

    fn tree(path: &std::path::Path, content: &str) -> (Scan, FileIdentity) {
        fs::create_dir_all(path).expect("mkdir");
        fs::write(path.join("f"), content).expect("written");
        let meta = fs::metadata(path).expect("there");
        let root = FileIdentity { dev: meta.dev(), ino: meta.ino() };
        (scan(path, &ScanOptions::default(), &|_| ()).expect("readable"), root)
    }

    /// What is gone, or has another tree in its place, isn't damaged; what was changed is.
    #[test]
    fn what_was_removed_is_no_damage() {
        let folder = tempfile::tempdir().expect("tempdir");
        let directory = DirectoryConfig::plain("k", folder.path());
        let path: VPath = "/k/x".parse().expect("valid");
        let (visible, aside) = (folder.path().join("x"), folder.path().join("aside"));
        let (scan, root) = tree(&visible, "first");
        let give = |tree| {
            let mut out = vec![0; 5];
            let wanted = Wanted { directory: &directory, path: &path, tree };
            read(&RealFileSystem, wanted, &scan.image, RUN, &mut out).map(|()| out)
        };
        let visible_one = || give(ServedTree::Visible(root));
        assert_eq!(visible_one(), Ok(b"first".to_vec()));
        for staged in [ServedTree::Staged, ServedTree::Stored] {
            assert_eq!(give(staged), Ok(b"first".to_vec()), "it was staged a moment ago");
        }
        fs::write(visible.join("f"), "other").expect("written");
        assert_eq!(visible_one(), Err(Unread::Damaged { block: 0, root }));
        assert_eq!(give(ServedTree::Damaged(root)), Err(Unread::Damaged { block: 0, root }), "nothing is staged");
        fs::remove_file(visible.join("f")).expect("removed");
        assert_eq!(visible_one(), Err(Unread::Damaged { block: 0, root }));
        // The old one stays, so that its inode number isn't used again.
        rustix::fs::rename(&visible, &aside).expect("moved");
        assert_eq!(visible_one(), Err(Unread::Gone));
        tree(&visible, "second");
        assert_eq!(visible_one(), Err(Unread::Gone));
        // It is on its way there, in the place of the second.
        assert_eq!(give(ServedTree::Staged), Err(Unread::NotYet(0)));
        // Blocks of a staged file that aren't stored yet aren't given either.
        let place = Place::new(&directory, &path).expect("a place");
        let file = folder.path().join(place.tree()).join("f");
        fs::create_dir_all(file.parent().expect("below")).expect("mkdir");
        fs::write(&file, "\0\0\0\0\0").expect("written");
        assert_eq!(give(ServedTree::Staged), Err(Unread::NotYet(0)));
        fs::write(&file, "first").expect("written");
        assert_eq!(give(ServedTree::Staged), Ok(b"first".to_vec()));
        assert_eq!(give(ServedTree::Stored), Ok(b"first".to_vec()));
        assert_eq!(give(ServedTree::Damaged(root)), Ok(b"first".to_vec()));
    }

    /// What was stored is given from memory until the deployment ends: here the disk has something else by then.
    #[test]
    fn what_was_stored_last_is_at_hand() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (source, base) = (folder.path().join("source"), folder.path().join("base"));
        fs::create_dir(&base).expect("mkdir");
        let (scan, _) = tree(&source, "first");
        let image = Arc::clone(&scan.image);
        let (id, index) = index::emit(&image);
        let directory = Arc::new(DirectoryConfig::plain("k", &base));
        let path: VPath = "/k/x".parse().expect("valid");
        let db = Db::open(folder.path()).expect("a database");
        let (answers, _inbox) = tokio::sync::mpsc::channel(1);
        let hands = Hands::start(RealFileSystem, db, folder.path(), Claims::new(None), answers).expect("threads");
        let shared = hands.shared();
        shared.check(id, &index).expect("a good index");
        let perform = |action| {
            shared.perform(&DiskTask { directory: Arc::clone(&directory), path: path.clone(), action }).expect("done")
        };
        let give = |tree| {
            let wanted = Wanted { directory: &directory, path: &path, tree };
            run_data(shared, id, wanted, RUN).ok()
        };
        let store = |data: &'static [u8]| {
            perform(DiskAction::Store { image: Arc::clone(&image), run: RUN, data: Bytes::from_static(data) })
        };
        perform(DiskAction::Stage { id, image: Arc::clone(&image), siblings: Arc::new([]) });
        assert_eq!(store(b"wrong"), DiskResult::Stored { bad: vec![0] });
        assert_eq!(give(ServedTree::Stored), None);
        assert_eq!(store(b"first"), DiskResult::Stored { bad: vec![] });
        let place = Place::new(&directory, &path).expect("a place");
        fs::write(base.join(place.tree()).join("f"), "other").expect("written");
        let first = Some(Bytes::from_static(b"first"));
        assert_eq!([ServedTree::Stored, ServedTree::Staged].map(give), [first.clone(), first]);
        let root = FileIdentity { dev: 1, ino: 1 };
        assert_eq!([ServedTree::Visible(root), ServedTree::Damaged(root)].map(give), [None, None]);
        perform(DiskAction::Collect { previous: Previous::Untouched });
        assert_eq!(give(ServedTree::Staged), None);
    }
}
