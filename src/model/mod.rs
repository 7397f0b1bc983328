//! The nouns: ids, paths, images, changes, directories, limits.
//!
//! Pure values which can't be built wrong: constructors check, and nothing here does I/O or knows the time.

pub mod address;
pub mod change;
pub mod directory;
pub mod failure;
pub mod hash_kind;
pub mod ids;
pub mod image;
pub mod key;
pub mod limits;
pub mod peer;
pub mod run;
pub mod time;
pub mod verdict;
pub mod vpath;
