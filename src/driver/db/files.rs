//! The tables by which files of committed directories are found again, see `doc/reuse.md`.
//!
//! A row that can't be understood is as good as none: what it knew is found out again.
//!
//! The files of a tree count only by its place: so they are written before it, in several transactions, and whatever a crash leaves of
//! them does no harm.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::format::record::{InodeRecord, PlaceRecord, SourceRecord, SourcesRecord, content_key};
use crate::model::fingerprint::Fingerprint;
use crate::model::image::Image;
use crate::model::limits::FILES_WRITTEN_MAX;
use crate::model::reuse::{ContentKey, Hashed, Source, Touch, TreePlace};
use crate::model::vpath::VPath;

const PLACES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("places");
const FILES: TableDefinition<'static, [u8; 16], &[u8]> = TableDefinition::new("files");
/// By device and inode.
const INODES: TableDefinition<'static, (u64, u64), &[u8]> = TableDefinition::new("inodes");

/// All files of a tree that is being committed. Those without content don't become known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedFiles {
    /// Tells the tree from others at the same path.
    tag: u64,
    /// Where it lies.
    tree: TreePlace,
    image: Arc<Image>,
    /// What each file was when the tree was sealed.
    fingerprints: Arc<[Fingerprint]>,
}

impl CommittedFiles {
    /// `None`: the fingerprints aren't those of the image's files, one each.
    pub fn new(tag: u64, tree: TreePlace, image: Arc<Image>, fingerprints: Arc<[Fingerprint]>) -> Option<Self> {
        (image.files().count() == fingerprints.len()).then_some(Self { tag, tree, image, fingerprints })
    }

    pub(super) fn place(&self) -> PlaceRecord {
        PlaceRecord { tag: self.tag, tree: self.tree.clone() }
    }

    /// In the order of their keys: which lie near each other in the database then.
    pub(super) fn by_content(&self) -> FilesByContent<'_> {
        let mut files = Vec::new();
        let mut number = 0;
        for (directory, at) in (0..).zip(self.image.directories()) {
            for (entry, file) in (0..).zip(at.entries.iter().map(|entry| entry.file(at))) {
                let Some(file) = file else { continue };
                if file.size > 0 {
                    files.push(File { content: content_key(&self.image, &file), directory, entry, number });
                }
                number += 1;
            }
        }
        files.sort_unstable();
        FilesByContent { of: self, files }
    }
}

/// The files of a tree by their contents.
pub(super) struct FilesByContent<'a> {
    of: &'a CommittedFiles,
    files: Vec<File>,
}

/// The same by their inodes.
pub(super) struct FilesByInode<'a>(FilesByContent<'a>);

/// A file: there may be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    content: ContentKey,
    /// Where it is in the image.
    directory: u32,
    entry: u32,
    /// Among all files.
    number: u32,
}

impl<'a> FilesByContent<'a> {
    /// Parts to be written one after the other, each in a transaction of its own.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[File]> {
        self.files.chunks(FILES_WRITTEN_MAX)
    }

    /// Makes a part of the files known as sources.
    pub(super) fn put(&self, transaction: &WriteTransaction, path: &VPath, part: &[File]) -> Result<()> {
        let mut table = transaction.open_table(FILES)?;
        for same in part.chunk_by(|a, b| a.content == b.content) {
            let key = same[0].content.0;
            let known = table.get(key)?.and_then(|row| SourcesRecord::decode(row.value()).ok());
            let mut sources = known.unwrap_or_default();
            same.iter().filter_map(|file| self.source(path, file)).for_each(|source| sources.add(source));
            table.insert(key, &*sources.encode())?;
        }
        Ok(())
    }

    fn source(&self, path: &VPath, file: &File) -> Option<SourceRecord> {
        let CommittedFiles { tag, image, fingerprints, .. } = self.of;
        let directory = image.directories().get(file.directory as usize)?;
        let entry = directory.entries.get(file.entry as usize)?.file(directory)?;
        let ino = fingerprints.get(file.number as usize)?.ino;
        let (path, file) = (path.clone(), directory.join(entry.name).into());
        Some(SourceRecord { path, tag: *tag, file, ino, executable: entry.executable })
    }

    pub(super) fn by_inode(mut self) -> FilesByInode<'a> {
        let fingerprints = &self.of.fingerprints;
        let inode = |file: &File| fingerprints[file.number as usize].ino;
        self.files.sort_by_key(inode);
        self.files.dedup_by_key(|file| inode(file));
        FilesByInode(self)
    }
}

impl FilesByInode<'_> {
    /// As [`FilesByContent::parts`].
    pub(super) fn parts(&self) -> impl Iterator<Item = &[File]> {
        self.0.parts()
    }

    /// Makes a part of the files known by their inodes.
    pub(super) fn put(&self, transaction: &WriteTransaction, part: &[File]) -> Result<()> {
        let mut inodes = transaction.open_table(INODES)?;
        let CommittedFiles { tree, fingerprints, .. } = self.0.of;
        for File { content, number, .. } in part {
            let fingerprint = fingerprints[*number as usize];
            let key = (tree.root.dev, fingerprint.ino);
            let known = inodes.get(key)?.and_then(|row| InodeRecord::decode(fingerprint.ino, row.value()).ok());
            // It was linked: what was recorded then is what was looked at, somebody may have changed it since.
            let linked = known.is_some_and(|known| {
                let same =
                    known.fingerprint.size == fingerprint.size && known.fingerprint.mtime_ns == fingerprint.mtime_ns;
                known.content == *content && same
            });
            if !linked {
                inodes.insert(key, &InodeRecord { content: *content, fingerprint }.encode()[..])?;
            }
        }
        Ok(())
    }
}

type Result<T> = std::result::Result<T, redb::Error>;

/// Files of the tree are used again.
pub(super) fn put_place(transaction: &WriteTransaction, path: &VPath, place: &PlaceRecord) -> Result<()> {
    transaction.open_table(PLACES)?.insert(path.as_str(), &*place.encode())?;
    Ok(())
}

/// Files of the tree aren't used any more.
pub(super) fn forget(transaction: &WriteTransaction, path: &VPath) -> Result<()> {
    transaction.open_table(PLACES)?.remove(path.as_str())?;
    Ok(())
}

/// Inodes whose status this node has changed.
pub(super) fn touch(transaction: &WriteTransaction, touches: &[Touch]) -> Result<()> {
    let mut inodes = transaction.open_table(INODES)?;
    for Touch { dev, before, after } in touches {
        let key = (*dev, before.ino);
        let known = inodes.get(key)?.and_then(|row| InodeRecord::decode(before.ino, row.value()).ok());
        if let Some(known) = known.filter(|known| known.fingerprint == *before) {
            inodes.insert(key, &InodeRecord { fingerprint: *after, ..known }.encode()[..])?;
        }
    }
    Ok(())
}

/// Inodes that don't have a content which they are recorded with.
pub(super) fn distrust(transaction: &WriteTransaction, wrong: &[(u64, u64, ContentKey)]) -> Result<()> {
    let mut inodes = transaction.open_table(INODES)?;
    for (dev, ino, content) in wrong {
        let known = inodes.get((*dev, *ino))?.and_then(|row| InodeRecord::decode(*ino, row.value()).ok());
        if known.is_some_and(|known| known.content == *content) {
            inodes.remove((*dev, *ino))?;
        }
    }
    Ok(())
}

/// Of files with a right content those that are recorded with another status: what to take back with [`touch`].
pub(super) fn outdated(transaction: &ReadTransaction, hashed: &[Hashed]) -> Result<Vec<Touch>> {
    let inodes = match transaction.open_table(INODES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other?,
    };
    let mut touches = Vec::new();
    for Hashed { dev, fingerprint: after, content, .. } in hashed.iter().filter(|file| file.right) {
        let row = inodes.get((*dev, after.ino))?;
        let known = row.and_then(|row| InodeRecord::decode(after.ino, row.value()).ok());
        let known = known.filter(|known| known.content == *content && known.fingerprint != *after);
        touches.extend(known.map(|known| Touch { dev: *dev, before: known.fingerprint, after: *after }));
    }
    Ok(touches)
}

/// For each content where it may be, the newest first.
pub(super) fn sources(transaction: &ReadTransaction, contents: &[ContentKey]) -> Result<Vec<Vec<Source>>> {
    let (files, places, inodes) =
        match (transaction.open_table(FILES), transaction.open_table(PLACES), transaction.open_table(INODES)) {
            (Ok(files), Ok(places), Ok(inodes)) => (files, places, inodes),
            // Nothing was committed yet.
            (Err(TableError::TableDoesNotExist(_)), ..)
            | (_, Err(TableError::TableDoesNotExist(_)), _)
            | (.., Err(TableError::TableDoesNotExist(_))) => return Ok(vec![Vec::new(); contents.len()]),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => return Err(error.into()),
        };
    let mut found = Vec::with_capacity(contents.len());
    for content in contents {
        let row = files.get(content.0)?.and_then(|row| SourcesRecord::decode(row.value()).ok()).unwrap_or_default();
        let mut sources = Vec::with_capacity(row.0.len());
        for SourceRecord { path, tag, file, ino, executable } in row.0 {
            let place = places.get(path.as_str())?.and_then(|row| PlaceRecord::decode(row.value()).ok());
            let Some(PlaceRecord { tree, .. }) = place.filter(|place| place.tag == tag) else { continue };
            let inode = inodes.get((tree.root.dev, ino))?;
            let inode = inode.and_then(|row| InodeRecord::decode(ino, row.value()).ok());
            let fingerprint = inode.filter(|inode| inode.content == *content).map(|inode| inode.fingerprint);
            sources.push(Source { path, tree, file, executable, fingerprint });
        }
        found.push(sources);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::db::{Db, Write};
    use crate::format::record::DamageRecord;
    use crate::model::fingerprint::FileIdentity;
    use crate::model::hash_kind::HashKind;
    use crate::model::ids::BlockHash;
    use crate::model::image::ImageBuilder;

    const ROOT: FileIdentity = FileIdentity { dev: 5, ino: 2 };

    fn path(text: &str) -> VPath {
        text.parse().expect("valid")
    }

    fn print(ino: u64, ctime_ns: i64) -> Fingerprint {
        Fingerprint { ino, size: 10, mtime_ns: 1, ctime_ns }
    }

    /// With one file, and an empty one.
    fn image(file: &str) -> Image {
        let mut builder = ImageBuilder::new(HashKind::default());
        builder.directory("").expect("root");
        builder.file("A", false, 0, &[]).expect("added");
        builder.file(file, false, 10, &[BlockHash::new([1; 32])]).expect("added");
        builder.finish().expect("an image")
    }

    /// What is in the file, whatever its name is.
    fn content() -> ContentKey {
        let image = image("x");
        content_key(&image, &image.files().nth(1).expect("there"))
    }

    fn files(tag: u64, file: &str, fingerprint: Fingerprint) -> CommittedFiles {
        let tree = TreePlace { base: "/srv".into(), target: "t".into(), root: ROOT };
        let fingerprints = [print(1, 1), fingerprint];
        CommittedFiles::new(tag, tree, Arc::new(image(file)), fingerprints.into()).expect("two files")
    }

    /// Path, and change time if known.
    fn found(db: &Db) -> Vec<(String, Option<i64>)> {
        let sources = db.sources(&[content(), ContentKey([2; 16])]).expect("readable");
        assert!(sources[1].is_empty());
        let one = |source: &Source| (source.path.to_string(), source.fingerprint.map(|print| print.ctime_ns));
        sources[0].iter().map(one).collect()
    }

    #[test]
    fn files_are_found_while_their_directory_is_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = Db::open(folder.path()).expect("opens");
        assert_eq!(found(&db), []);
        db.write(&[Write::PutFiles(path("/d/1"), files(1, "a", print(7, 100)))]).expect("written");
        // Linked meanwhile: what was recorded when that was done stays.
        let touch =
            |before, after| Write::Touch(vec![Touch { dev: 5, before: print(7, before), after: print(7, after) }]);
        db.write(&[touch(100, 200), Write::PutFiles(path("/d/2"), files(1, "b", print(7, 300)))]).expect("written");
        assert_eq!(found(&db), [("/d/2".to_owned(), Some(200)), ("/d/1".to_owned(), Some(200))]);
        // Somebody else's doing isn't taken over by a later touch.
        db.write(&[touch(250, 300)]).expect("written");
        assert_eq!(found(&db)[0].1, Some(200));
        // Another tree at the same path; a damaged one.
        db.write(&[Write::PutFiles(path("/d/1"), files(2, "c", print(8, 400)))]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), Some(400)), ("/d/2".to_owned(), Some(200))]);
        let damage = DamageRecord { root: ROOT, file: "c".into(), what: "is gone".into() };
        db.write(&[Write::PutDamage(path("/d/1"), damage.clone())]).expect("written");
        assert_eq!(found(&db), [("/d/2".to_owned(), Some(200))]);
        assert_eq!(db.load().expect("readable").damaged[&path("/d/1")], damage);
        // It is right again.
        let tree = files(2, "c", print(8, 400)).tree;
        db.write(&[Write::DeleteDamage(path("/d/1"), Some(PlaceRecord { tag: 2, tree }))]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), Some(400)), ("/d/2".to_owned(), Some(200))]);
        assert!(db.load().expect("readable").damaged.is_empty());
    }

    #[test]
    fn files_count_from_their_place_on() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = Db::open(folder.path()).expect("opens");
        let (one, two) = (files(1, "a", print(7, 100)), files(2, "b", print(8, 200)));
        db.write_files(&path("/d/1"), &one).expect("written");
        assert_eq!(found(&db), [], "as after a crash");
        db.write(&[Write::PutFiles(path("/d/1"), one)]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), Some(100))]);
        db.write_files(&path("/d/1"), &two).expect("written");
        assert_eq!(found(&db), [], "the place is that of what was there before");
        db.write(&[Write::PutFiles(path("/d/1"), two)]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), Some(200))]);
    }

    #[test]
    fn each_file_is_in_one_part() {
        let mut builder = ImageBuilder::new(HashKind::default());
        builder.directory("").expect("root");
        let count = u32::try_from(FILES_WRITTEN_MAX).expect("small") + 10;
        for number in 0..count {
            let hash = BlockHash::new(std::array::from_fn(|at| (number / 2).to_le_bytes()[at % 4]));
            builder.file(&format!("{number:08}"), false, 10, &[hash]).expect("added");
        }
        let image = Arc::new(builder.finish().expect("an image"));
        let tree = TreePlace { base: "/srv".into(), target: "t".into(), root: ROOT };
        // Each inode has two names, which are far from each other.
        let prints = (0..u64::from(count)).map(|number| print(1_000_000 - number / 2, 1));
        let files = CommittedFiles::new(1, tree.clone(), Arc::clone(&image), prints.collect()).expect("as many");
        let by_content = files.by_content();
        assert_eq!(by_content.parts().map(<[File]>::len).collect::<Vec<_>>(), [FILES_WRITTEN_MAX, 10]);
        assert!(by_content.parts().flatten().is_sorted_by_key(|file| file.content));
        let all: std::collections::BTreeSet<_> = by_content.parts().flatten().map(|file| file.number).collect();
        assert_eq!(all.len(), image.files().count());
        let by_inode = by_content.by_inode();
        let inodes: Vec<_> =
            by_inode.parts().flatten().map(|file| files.fingerprints[file.number as usize].ino).collect();
        assert!(inodes.len() == all.len() / 2 && inodes.is_sorted_by(|a, b| a < b));
        assert_eq!(CommittedFiles::new(1, tree, image, Arc::default()), None);
    }

    #[test]
    fn what_was_hashed_is_known_better() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = Db::open(folder.path()).expect("opens");
        let key = |number| if number == 1 { content() } else { ContentKey([number; 16]) };
        let hashed = |number, fingerprint, right| Hashed { dev: 5, fingerprint, content: key(number), right };
        assert_eq!(db.outdated(&[hashed(1, print(7, 1), true)]).expect("readable"), []);
        db.write(&[Write::PutFiles(path("/d/1"), files(1, "a", print(7, 100)))]).expect("written");
        let outdated = |file| db.outdated(&[file]).expect("readable");
        for known in [
            hashed(1, print(7, 100), true),
            hashed(2, print(7, 200), true),
            hashed(1, print(8, 200), true),
            hashed(1, print(7, 200), false),
        ] {
            assert_eq!(outdated(known), [], "{known:?}");
        }
        let touch = Touch { dev: 5, before: print(7, 100), after: print(7, 200) };
        assert_eq!(outdated(hashed(1, print(7, 200), true)), [touch]);
        db.write(&[Write::Touch(vec![touch])]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), Some(200))]);
        db.write(&[Write::Distrust(vec![(5, 7, key(2)), (5, 8, key(1))])]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), Some(200))]);
        db.write(&[Write::Distrust(vec![(5, 7, key(1))])]).expect("written");
        assert_eq!(found(&db), [("/d/1".to_owned(), None)]);
    }
}
