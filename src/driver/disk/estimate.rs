//! What staging an image would take here: looked at, with nothing changed. See `doc/plan.md`.

use std::path::Path;

use super::error;
use super::fs::FileSystem;
use super::place::Place;
use super::reuse::{Copier, Library, Linker, SiblingTree};
use super::stage::SPACE_UNIT_BYTES;
use crate::model::block_set::BlockSet;
use crate::model::estimate::Estimate;
use crate::model::failure::Failure;
use crate::model::image::{FileRef, Image, blocks_of};
use crate::model::limits::FILES_LOOKED_UP_MAX;

/// How much of the image would be linked, copied and fetched, and whether there is room. Files whose status has changed since they were
/// known count as missing: whether they are right, only hashing would tell.
pub fn estimate<F: FileSystem>(
    fs: &F,
    library: &dyn Library,
    place: &Place,
    image: &Image,
    siblings: &[SiblingTree],
) -> Result<Estimate, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let left = fs.free_space(&root).map_err(|e| error::at(place, "look at", Path::new(""), &e))?;
    let files: Vec<FileRef<'_>> = image.files().collect();
    let (mut linker, mut have) = (Linker::new(fs, &root, image), BlockSet::none(image.block_count()));
    let mut estimate = Estimate {
        files: files.len() as u64,
        bytes: image.total_bytes(),
        bytes_free: left.bytes,
        inodes_free: Some(left.inodes).filter(|inodes| *inodes < u64::MAX),
        inodes_needed: image.entry_count() as u64,
        ..Estimate::default()
    };
    for some in files.chunks(FILES_LOOKED_UP_MAX) {
        let sources = linker.look_up(library, some);
        for (file, sources) in some.iter().zip(&sources) {
            if !linker.would_link(file, sources) {
                estimate.bytes_needed += file.size.next_multiple_of(SPACE_UNIT_BYTES);
                continue;
            }
            estimate.files_linked += 1;
            estimate.bytes_linked += file.size;
            estimate.inodes_needed = estimate.inodes_needed.saturating_sub(1);
            for block in file.first_block..file.first_block + blocks_of(file.size) {
                have.insert(block);
            }
        }
    }
    let mut copier = Copier::new(image);
    linker.donors.drain(..).for_each(|(file, donor)| copier.add(file, donor));
    copier.search(library, &have, siblings);
    estimate.bytes_copied = copier.bytes_found(&have);
    estimate.bytes_fetched = estimate.bytes.saturating_sub(estimate.bytes_linked + estimate.bytes_copied);
    Ok(estimate)
}
