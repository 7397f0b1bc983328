//! What the state database and the cached indexes know of files on this node's disks, for staging.

use std::sync::Arc;

use super::db::{CommittedFiles, Db, Write};
use super::disk::place::Place;
use super::disk::reuse::Library;
use crate::engine::node::Sound;
use crate::format::record::{CommittedRecord, PlaceRecord, content_key};
use crate::model::directory::DirectoryConfig;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::image::{FileRef, Image};
use crate::model::reuse::{ContentKey, Hashed, Source, Touch, TreePlace};
use crate::model::scrub::Verdict;
use crate::model::vpath::VPath;

/// The database, and where indexes come from.
pub struct DbLibrary<'a> {
    /// Knows files.
    pub db: &'a Db,
    /// Gives an image whose index is here.
    pub images: &'a dyn Fn(ImageId) -> Option<Arc<Image>>,
}

impl Library for DbLibrary<'_> {
    fn sources(&self, image: &Image, files: &[FileRef<'_>]) -> Vec<Vec<Source>> {
        let contents: Vec<ContentKey> = files.iter().map(|file| content_key(image, file)).collect();
        self.db.sources(&contents).unwrap_or_else(|error| {
            tracing::warn!("files on this node aren't used again: {error}");
            vec![Vec::new(); files.len()]
        })
    }

    fn image(&self, id: ImageId) -> Option<Arc<Image>> {
        (self.images)(id)
    }

    fn hashed(&self, files: &[Hashed]) {
        let wrong = files.iter().filter(|file| !file.right).map(|file| (file.dev, file.fingerprint.ino, file.content));
        let wrong: Vec<_> = wrong.collect();
        if !wrong.is_empty()
            && let Err(error) = self.db.write(&[Write::Distrust(wrong)])
        {
            tracing::warn!("what is known of damaged files isn't forgotten: {error}");
        }
        match self.db.outdated(files) {
            Ok(touches) => self.touched(touches),
            Err(error) => tracing::warn!("files that were hashed will be hashed again: {error}"),
        }
    }

    fn touched(&self, touches: Vec<Touch>) {
        if touches.is_empty() {
            return;
        }
        if let Err(error) = self.db.write(&[Write::Touch(touches)]) {
            tracing::warn!("linked files will be hashed again: {error}");
        }
    }
}

/// What to write when a tree is visible: that it is there, and so that its files are found later.
pub fn committed(
    directory: &DirectoryConfig,
    path: VPath,
    record: CommittedRecord,
    images: &dyn Fn(ImageId) -> Option<Arc<Image>>,
) -> Vec<Write> {
    let files = images(record.image).and_then(|image| committed_files(directory, &path, &record, image));
    let mut writes = vec![Write::DeleteIntent(path.clone()), Write::PutCommitted(path.clone(), record)];
    writes.extend(files.map(|files| Write::PutFiles(path, files)));
    writes
}

/// What to write when a tree was compared with its image; `sound`: nothing is wrong with it, whatever was known.
pub fn scrubbed(path: VPath, verdict: Verdict, sound: Option<Sound>) -> Vec<Write> {
    let sound = sound.map(|Sound { directory, change, root }| {
        let place = Place::new(&directory, &path).ok();
        let place = place.map(|place| PlaceRecord { tag: tag(change), tree: tree(&place, root) });
        Write::DeleteDamage(path.clone(), place)
    });
    let mut writes: Vec<_> = sound.into_iter().collect();
    writes.push(Write::PutScrubbed(path, verdict));
    writes
}

/// Tells what a change brought from what was or will be at the same path.
fn tag(change: ChangeId) -> u64 {
    let (first, _) = change.as_bytes().as_chunks::<8>();
    first.first().map_or(0, |first| u64::from_le_bytes(*first))
}

fn tree(place: &Place, root: FileIdentity) -> TreePlace {
    TreePlace { base: place.base().to_owned(), target: place.target().to_owned(), root }
}

/// `None`: the row doesn't fit the image.
fn committed_files(
    directory: &DirectoryConfig,
    path: &VPath,
    record: &CommittedRecord,
    image: Arc<Image>,
) -> Option<CommittedFiles> {
    let place = Place::new(directory, path).ok()?;
    CommittedFiles::new(tag(record.change), tree(&place, record.root), image, Arc::clone(&record.fingerprints))
}
