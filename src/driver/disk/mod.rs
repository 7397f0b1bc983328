//! A directory on disk, from nothing to visible: staging, verifying, syncing, swapping, recovering, collecting, reading.
//!
//! Each function is one step and does no more than it is told: which step comes next, and what is written to the state
//! database between two of them, is `engine/deploy`'s. All of it runs over the trait [`fs::FileSystem`], so that the
//! simulator can crash between any two operations.

pub mod claims;
pub mod collect;
pub mod commit;
pub mod error;
pub mod estimate;
mod folder;
pub mod fs;
pub mod place;
pub mod read;
pub mod real;
pub mod recover;
pub mod remove;
pub mod reuse;
pub mod scrub;
pub mod stage;
pub mod store;
pub mod survey;
pub mod task;
mod verify;
