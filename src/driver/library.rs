//! What the state database and the cached indexes know of files on this node's disks, for staging.

use std::sync::Arc;

use super::db::{CommittedFile, CommittedFiles, Db, Write};
use super::disk::place::Place;
use super::disk::reuse::Library;
use crate::format::record::{CommittedRecord, content_key};
use crate::model::directory::DirectoryConfig;
use crate::model::ids::ImageId;
use crate::model::image::{FileRef, Image};
use crate::model::reuse::{ContentKey, Source, Touch, TreePlace};
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
    let files = images(record.image).and_then(|image| committed_files(directory, &path, &record, &image));
    let mut writes = vec![Write::DeleteIntent(path.clone()), Write::PutCommitted(path.clone(), record)];
    writes.extend(files.map(|files| Write::PutFiles(path, files)));
    writes
}

/// `None`: the row doesn't fit the image.
fn committed_files(
    directory: &DirectoryConfig,
    path: &VPath,
    record: &CommittedRecord,
    image: &Image,
) -> Option<CommittedFiles> {
    let place = Place::new(directory, path).ok()?;
    let tree = TreePlace { base: place.base().to_owned(), target: place.target().to_owned(), root: record.root };
    let tag = u64::from_le_bytes(record.change.as_bytes()[..8].try_into().ok()?);
    let files = image.files().zip(&record.fingerprints).filter(|(file, _)| file.size > 0);
    let files = files.map(|(file, fingerprint)| CommittedFile {
        content: content_key(image, &file),
        file: file.directory.join(file.name).into(),
        executable: file.executable,
        fingerprint: *fingerprint,
    });
    (image.files().count() == record.fingerprints.len()).then(|| CommittedFiles { tag, tree, files: files.collect() })
}
