//! Carries out what an engine asks of the disk, one task at a time; runs on a pool's thread.

use super::commit::SwapMode;
use super::fs::FileSystem;
use super::place::Place;
use super::{collect, commit, read, recover, stage, store};
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::failure::Failure;

/// Carries out one task. Tasks of one path must follow each other, but that its `Store`s may overlap.
pub fn perform<F: FileSystem>(fs: &F, task: &DiskTask) -> Result<DiskResult, Failure> {
    let place = Place::new(&task.directory, &task.path)?;
    Ok(match &task.action {
        DiskAction::Look => DiskResult::Target(read::look(fs, &place)?),
        DiskAction::Side { staged, exchange: _ } => DiskResult::Side(recover::side(fs, &place, *staged)?),
        DiskAction::Adopt { id: _, image } => DiskResult::Adopted(read::adopt(fs, &place, image)?),
        DiskAction::Stage { id, image } => {
            let staged = stage::stage(fs, &place, image, *id)?;
            DiskResult::Staged { have: staged.have, kept_bytes: staged.kept_bytes }
        }
        DiskAction::Store { image, run, data } => {
            DiskResult::Stored { bad: store::store(fs, &place, image, *run, data)?.bad }
        }
        DiskAction::Seal { image } => DiskResult::Sealed(commit::seal(fs, &place, image)?),
        DiskAction::Swap { exchange } => {
            commit::swap(fs, &place, if *exchange { SwapMode::Exchange } else { SwapMode::Create })?;
            DiskResult::Done
        }
        DiskAction::Collect => {
            while !collect::collect(fs, &place)? {}
            DiskResult::Done
        }
    })
}
