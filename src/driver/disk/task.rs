//! Carries out what an engine asks of the disk, one task at a time; runs on a pool's thread.

use super::commit::SwapMode;
use super::fs::FileSystem;
use super::place::Place;
use super::reuse::Library;
use super::stage::Staged;
use super::{collect, commit, read, recover, remove, reuse, scrub, stage, store};
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask, Previous};
use crate::model::failure::{Failure, FailureKind};
use crate::model::reuse::Touch;

/// Carries out one task. Tasks of one path must follow each other, but that its `Store`s may overlap.
pub fn perform<F: FileSystem>(fs: &F, library: &dyn Library, task: &DiskTask) -> Result<DiskResult, Failure> {
    let place = Place::new(&task.directory, &task.path)?;
    Ok(match &task.action {
        DiskAction::Look => DiskResult::Target(read::look(fs, &place)?),
        DiskAction::Side { staged, exchange: _ } => DiskResult::Side(recover::side(fs, &place, *staged)?),
        DiskAction::Adopt { id: _, image } => DiskResult::Adopted(read::adopt(fs, &place, image)?),
        DiskAction::Stage { id, image, siblings } => {
            let siblings = reuse::siblings(&task.directory, siblings);
            let Staged { have, kept_bytes, reused } = stage::stage(fs, library, &place, (*id, image), &siblings)?;
            DiskResult::Staged { have, kept_bytes, reused: Box::new(reused) }
        }
        DiskAction::Store { image, run, data } => {
            DiskResult::Stored { bad: store::store(fs, &place, image, *run, data)?.bad }
        }
        DiskAction::Seal { image, linked } => DiskResult::Sealed(commit::seal(fs, &place, image, linked)?),
        DiskAction::Swap { exchange } => {
            commit::swap(fs, &place, if *exchange { SwapMode::Exchange } else { SwapMode::Create })?;
            DiskResult::Done
        }
        DiskAction::Collect { previous } => {
            let mut touches = Vec::new();
            let result = collect_all(fs, &place, *previous, &mut touches);
            library.touched(touches);
            result?;
            match previous {
                Previous::Untouched | Previous::Dropped => DiskResult::Done,
                Previous::Kept(root) => DiskResult::Previous { kept: collect::is_set_aside(fs, &place, *root)? },
            }
        }
        DiskAction::Forgo => {
            let mut touches = Vec::new();
            let result = collect::forgo(fs, &place, &mut touches);
            library.touched(touches);
            result?;
            DiskResult::Done
        }
        DiskAction::Remove { root, only_rest } => {
            let mut touches = Vec::new();
            let result = remove::remove(fs, &place, *root, *only_rest, &mut touches);
            library.touched(touches);
            DiskResult::Removed { gone: result? }
        }
        DiskAction::Scrub { id, root, from } => {
            let unknown = || Failure { kind: FailureKind::Io, text: format!("no index of image {id} is here") };
            let image = library.image(*id).ok_or_else(unknown)?;
            DiskResult::Scrubbed(scrub::scrub(fs, &place, &image, *root, *from)?.map(|(part, files)| {
                library.hashed(&files);
                Box::new(part)
            }))
        }
    })
}

fn collect_all<F: FileSystem>(
    fs: &F,
    place: &Place,
    previous: Previous,
    touches: &mut Vec<Touch>,
) -> Result<(), Failure> {
    while !collect::collect(fs, place, previous, touches)? {}
    Ok(())
}
