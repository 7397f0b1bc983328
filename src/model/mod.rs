//! The nouns: ids, paths, images, changes, directories, limits.
//!
//! Pure values which can't be built wrong: constructors check, and nothing here does I/O or knows the time.

pub mod address;
pub mod block_set;
pub mod change;
pub mod directory;
pub mod disk_task;
pub mod escape;
pub mod estimate;
pub mod failure;
pub mod fingerprint;
pub mod hash_kind;
pub mod heads;
pub mod ids;
pub mod image;
pub mod key;
pub mod limits;
pub mod peer;
pub mod piece;
pub mod retention;
pub mod reuse;
pub mod run;
pub mod scrub;
pub mod time;
pub mod verdict;
pub mod vpath;
