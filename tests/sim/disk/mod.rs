//! The disk: a fake file system and database which lose what wasn't synced, and crashes between any two operations.

mod crash;
pub(crate) mod memory_db;
pub(crate) mod memory_fs;
mod memory_tree;
pub(crate) mod power;
mod previous;
mod removal;
mod reuse;
mod suite;
pub(crate) mod trees;

use std::path::{Path, PathBuf};

use ciruela::driver::disk::fs::Space;
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::real::RealFileSystem;
use ciruela::driver::disk::reuse::EmptyLibrary;
use ciruela::driver::disk::stage::stage;
use ciruela::model::failure::FailureKind;

use memory_fs::{Abilities, MemoryFs};
use power::Power;
use suite::World;
use trees::{Sample, config, vpath};

/// A temporary folder of the machine that runs the tests.
struct Real(tempfile::TempDir);

impl World for Real {
    type Fs = RealFileSystem;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn fs(&self) -> &RealFileSystem {
        &RealFileSystem
    }

    fn base(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn hard_link(&self, from: &Path, to: &Path) {
        std::fs::hard_link(from, to).expect("linked");
    }
}

/// The fake, with or without the newer kinds of rename.
struct Memory<const MODERN: bool>(MemoryFs);

impl<const MODERN: bool> World for Memory<MODERN> {
    type Fs = MemoryFs;

    fn new() -> Self {
        let abilities = Abilities::renames(MODERN);
        Self(MemoryFs::new(Power::default(), Path::new("/srv/images"), abilities))
    }

    fn fs(&self) -> &MemoryFs {
        &self.0
    }

    fn base(&self) -> PathBuf {
        "/srv/images".into()
    }

    fn hard_link(&self, from: &Path, to: &Path) {
        self.0.hard_link(from, to).expect("linked");
    }
}

macro_rules! suite {
    ($module:ident, $world:ty, $($test:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $test() {
                    suite::$test::<$world>();
                }
            )+
        }
    };
    ($($module:ident: $world:ty),+ $(,)?) => {
        $(suite!(
            $module, $world, appears_whole, replaces, an_old_tree_is_put_back, resumes, junk_in_the_stage_is_removed, bad_blocks_are_not_written,
            an_incomplete_tree_is_not_sealed, the_unmanaged_stays, no_link_is_followed, a_missing_base_is_not_empty,
            damage_is_not_served, garbage_is_swept, one_daemon_claims_a_base, tasks_do_it_all,
        );)+
    };
}

suite!(real: Real, memory: Memory<true>, memory_with_old_renames: Memory<false>);

#[test]
fn too_little_space_is_known_before_anything_is_written() {
    let world = Memory::<true>::new();
    let place = Place::new(&config(&world.base(), 1), &vpath("/key/image")).expect("fits");
    for sample in [Sample::new(1), Sample::large(2)] {
        for space in [Space { bytes: 10_000, inodes: 1_000 }, Space { bytes: 1 << 30, inodes: 0 }] {
            world.fs().set_space(space);
            let failure =
                stage(world.fs(), &EmptyLibrary, &place, (sample.id, &sample.image), &[]).expect_err("no space");
            assert_eq!(failure.kind, FailureKind::NoSpace);
            assert!(failure.text.contains("needs") && failure.text.contains("left"), "{failure}");
        }
    }
}
