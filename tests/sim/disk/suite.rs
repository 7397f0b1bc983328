//! One suite for every file system: the real one and the one in memory must behave alike.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ciruela::driver::disk::claims::{Claimed, Claims};
use ciruela::driver::disk::collect::{Swept, collect, sweep};
use ciruela::driver::disk::commit::{SwapMode, seal, swap};
use ciruela::driver::disk::fs::{Access, FileSystem};
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::read::{Tree, adopt, fingerprints, look, read_run};
use ciruela::driver::disk::recover::side;
use ciruela::driver::disk::reuse::EmptyLibrary;
use ciruela::driver::disk::stage::stage;
use ciruela::driver::disk::store::store;
use ciruela::driver::disk::task::perform;
use ciruela::model::block_set::BlockSet;
use ciruela::model::disk_task::{DiskAction, DiskResult, DiskTask, Previous, Sealed, Side, Target};
use ciruela::model::failure::FailureKind;
use ciruela::model::image::blocks_of;
use ciruela::model::limits::BLOCK_BYTES;
use ciruela::model::run::{Run, runs_of};

use super::trees::{Item, Sample, config, read_tree, vpath};

/// A file system with an empty base directory, and what somebody else may do to it.
pub(crate) trait World: Sized {
    type Fs: FileSystem;
    fn new() -> Self;
    fn fs(&self) -> &Self::Fs;
    fn base(&self) -> PathBuf;
    fn hard_link(&self, from: &Path, to: &Path);
}

struct Setup<W: World> {
    world: W,
    place: Place,
    root: <W::Fs as FileSystem>::Root,
}

fn setup<W: World>(num_levels: usize, path: &str) -> Setup<W> {
    let world = W::new();
    let place = Place::new(&config(&world.base(), num_levels), &vpath(path)).expect("fits");
    let root = world.fs().open_root(place.base()).expect("the base is there");
    Setup { world, place, root }
}

impl<W: World> Setup<W> {
    fn fs(&self) -> &W::Fs {
        self.world.fs()
    }

    fn staged(&self, sample: &Sample) -> Sealed {
        let staged = stage(self.fs(), &EmptyLibrary, &self.place, (sample.id, &sample.image), &[]).expect("staged");
        sample.store_missing(self.fs(), &self.place, &staged.have).expect("stored");
        seal(self.fs(), &self.place, &sample.image, &BlockSet::none(0)).expect("sealed")
    }

    fn deployed(&self, sample: &Sample, mode: SwapMode) -> Sealed {
        let sealed = self.staged(sample);
        swap(self.fs(), &self.place, mode).expect("swapped");
        while !collect(self.fs(), &self.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
        sealed
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        let file = self.fs().create_file(&self.root, path, 0o644).expect("made");
        self.fs().write_at(&file, 0, bytes).expect("written");
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let file = self.fs().open_file(&self.root, path, Access::Write).expect("there");
        self.fs().write_at(&file, offset, bytes).expect("written");
    }

    fn target_is(&self, sample: &Sample) -> bool {
        read_tree(self.fs(), self.place.base(), self.place.target()) == sample.items
    }
}

pub(crate) fn appears_whole<W: World>() {
    for (levels, path) in [(1, "/key/image"), (3, "/key/x/y/image")] {
        let setup = setup::<W>(levels, path);
        let sample = Sample::new(1);
        let sealed = setup.staged(&sample);
        assert_eq!(look(setup.fs(), &setup.place), Ok(None), "nothing is visible before the swap");
        assert_eq!(side(setup.fs(), &setup.place, sealed.root), Ok(Side::Before));
        swap(setup.fs(), &setup.place, SwapMode::Create).expect("swapped");
        assert!(setup.target_is(&sample));
        assert_eq!(side(setup.fs(), &setup.place, sealed.root), Ok(Side::After));
        swap(setup.fs(), &setup.place, SwapMode::Create).expect("swapping again changes nothing");
        while !collect(setup.fs(), &setup.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
        assert!(collect(setup.fs(), &setup.place, Previous::Untouched, &mut Vec::new()).expect("nothing is left"));
        assert!(setup.target_is(&sample));
        let target = look(setup.fs(), &setup.place).expect("readable").expect("visible");
        assert_eq!((target.identity, target.empty), (sealed.root, false));
        assert_eq!(fingerprints(setup.fs(), &setup.place, &sample.image), Ok(Some(sealed.clone())));
        assert_eq!(adopt(setup.fs(), &setup.place, &sample.image), Ok(Some(sealed)));
        assert_eq!(adopt(setup.fs(), &setup.place, &Sample::new(3).image), Ok(None));
    }
}

pub(crate) fn replaces<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let (old, new) = (Sample::new(1), Sample::new(2));
    setup.deployed(&old, SwapMode::Create);
    let sealed = setup.staged(&new);
    assert!(setup.target_is(&old));
    for _ in 0..3 {
        swap(setup.fs(), &setup.place, SwapMode::Exchange).expect("swapped, however often");
        assert!(setup.target_is(&new), "a second exchange brought the old tree back");
    }
    // The old tree lies where the new one was staged: it is not taken for a stage.
    let staged = stage(setup.fs(), &EmptyLibrary, &setup.place, (new.id, &new.image), &[]).expect("staged");
    assert_eq!(staged.kept_bytes, 0);
    assert_eq!(side(setup.fs(), &setup.place, sealed.root), Ok(Side::After));
    while !collect(setup.fs(), &setup.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
    assert!(setup.target_is(&new));
}

pub(crate) fn an_old_tree_is_put_back<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let (old, new, newer) = (Sample::new(1), Sample::new(2), Sample::new(3));
    setup.deployed(&old, SwapMode::Create);
    let gap = || {
        let sealed = setup.staged(&new);
        setup.fs().rename(&setup.root, setup.place.target(), &setup.place.old()).expect("set aside");
        assert_eq!(side(setup.fs(), &setup.place, sealed.root), Ok(Side::Between));
    };
    gap();
    stage(setup.fs(), &EmptyLibrary, &setup.place, (newer.id, &newer.image), &[]).expect("staged");
    assert!(setup.target_is(&old));
    gap();
    while !collect(setup.fs(), &setup.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
    assert!(setup.target_is(&old));
    gap();
    swap(setup.fs(), &setup.place, SwapMode::Exchange).expect("finished");
    while !collect(setup.fs(), &setup.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
    assert!(setup.target_is(&new));
}

pub(crate) fn resumes<W: World>() {
    for sample in [Sample::new(1), Sample::large(2)] {
        let setup = setup::<W>(1, "/key/image");
        let staged = stage(setup.fs(), &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("staged");
        assert_eq!((staged.have.count(), staged.kept_bytes), (0, 0));
        let first = Run { first: 0, count: 3 };
        store(setup.fs(), &setup.place, &sample.image, first, &sample.data(first)).expect("stored");
        let again = stage(setup.fs(), &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("resumed");
        assert!((0..sample.image.block_count()).all(|block| again.have.contains(block) == (block < 3)));
        assert_eq!(again.kept_bytes, sample.data(first).len() as u64);
        sample.store_missing(setup.fs(), &setup.place, &again.have).expect("stored");
        let all = stage(setup.fs(), &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("resumed");
        assert!(all.have.is_full());
        assert_eq!(all.kept_bytes, sample.image.total_bytes());
        let other = Sample::new(9);
        let fresh = stage(setup.fs(), &EmptyLibrary, &setup.place, (other.id, &other.image), &[]).expect("staged");
        assert!(fresh.have.is_empty(), "another image's stage is thrown away");
        let staged = read_tree(setup.fs(), setup.place.base(), &setup.place.tree());
        assert!(staged.keys().all(|path| other.items.contains_key(path)), "{:?}", staged.keys());
    }
}

pub(crate) fn junk_in_the_stage_is_removed<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let sample = Sample::new(1);
    let outside = Path::new("outside");
    setup.write(outside, b"precious");
    let staged = stage(setup.fs(), &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("staged");
    sample.store_missing(setup.fs(), &setup.place, &staged.have).expect("stored");
    let tree = setup.place.tree();
    let fs = setup.fs();
    // A link where a directory is, a link and a shared file where files are, extra things, a file too long.
    fs.unlink(&setup.root, &tree.join("a")).expect("there");
    fs.symlink(&setup.root, OsStr::new("/etc/passwd"), &tree.join("a")).expect("made");
    fs.unlink(&setup.root, &tree.join("version")).expect("there");
    setup.world.hard_link(&setup.place.base().join(outside), &setup.place.base().join(tree.join("version")));
    fs.rename(&setup.root, &tree.join("sub"), &tree.join("moved")).expect("renamed");
    fs.symlink(&setup.root, OsStr::new("moved"), &tree.join("sub")).expect("made");
    fs.mkdir(&setup.root, &tree.join("empty-not"), 0o700).expect("made");
    setup.write(&tree.join("empty-not/x"), b"x");
    setup.overwrite(&tree.join("only-in-1/x"), 5, b"longer");
    let again = stage(fs, &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("resumed");
    let left = read_tree(fs, setup.place.base(), &tree);
    assert!(left.keys().all(|path| sample.items.contains_key(path)), "{:?}", left.keys());
    assert!(!left.contains_key("a") && !left.contains_key("version") && !left.contains_key("only-in-1/x"));
    sample.store_missing(fs, &setup.place, &again.have).expect("stored");
    seal(fs, &setup.place, &sample.image, &BlockSet::none(0)).expect("sealed");
    swap(fs, &setup.place, SwapMode::Create).expect("swapped");
    assert!(setup.target_is(&sample));
    let kept = read_tree(fs, setup.place.base(), outside);
    assert_eq!(kept[""], Item::File { mode: 0o644, bytes: b"precious".into() }, "a shared file was written to");
}

pub(crate) fn bad_blocks_are_not_written<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let sample = Sample::new(1);
    stage(setup.fs(), &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("staged");
    let run = runs_of(&sample.image)[0];
    let mut data = sample.data(run);
    let blocks = sample.image.file("sub/deep/blocks").expect("there");
    let middle = blocks.first_block + 1;
    let before: usize = (0..middle).map(|block| sample.image.place(block).expect("there").len).sum();
    data[before + 5] ^= 1;
    let stored = store(setup.fs(), &setup.place, &sample.image, run, &data).expect("stored");
    assert_eq!(stored.bad, [middle]);
    let again = stage(setup.fs(), &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("resumed");
    assert!((0..sample.image.block_count()).all(|block| again.have.contains(block) == (block != middle)));
    let right = Run { first: middle, count: 1 };
    for wrong in [Run { first: middle, count: 2 }, Run { first: 1 << 40, count: 3 }, Run { first: middle, count: 0 }] {
        let stored = store(setup.fs(), &setup.place, &sample.image, wrong, &sample.data(right)).expect("answered");
        assert_eq!(stored.bad, wrong.blocks().collect::<Vec<_>>());
    }
    store(setup.fs(), &setup.place, &sample.image, right, &sample.data(right)).expect("stored");
    seal(setup.fs(), &setup.place, &sample.image, &BlockSet::none(0)).expect("sealed");
}

pub(crate) fn an_incomplete_tree_is_not_sealed<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let sample = Sample::new(1);
    let fs = setup.fs();
    stage(fs, &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("staged");
    let failure = seal(fs, &setup.place, &sample.image, &BlockSet::none(0)).expect_err("files are missing");
    assert_eq!(failure.kind, FailureKind::Poisoned, "{failure}");
    assert!(failure.text.contains("is missing"), "{failure}");
    while !collect(fs, &setup.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
    for mode in [SwapMode::Create, SwapMode::Exchange] {
        assert_eq!(swap(fs, &setup.place, mode).expect_err("not sealed").kind, FailureKind::Poisoned);
    }
    let sealed = setup.staged(&sample);
    let staged = stage(fs, &EmptyLibrary, &setup.place, (sample.id, &sample.image), &[]).expect("resumed");
    assert!(staged.have.is_full());
    assert_eq!(side(fs, &setup.place, sealed.root), Ok(Side::Lost), "what is being staged again isn't sealed");
    assert!(swap(fs, &setup.place, SwapMode::Create).is_err());
}

pub(crate) fn the_unmanaged_stays<W: World>() {
    let setup = setup::<W>(2, "/key/x/image");
    let sample = Sample::new(1);
    let fs = setup.fs();
    fs.mkdir(&setup.root, Path::new("x"), 0o755).expect("made");
    setup.staged(&sample);
    setup.write(Path::new("x/image"), b"a file");
    assert_eq!(swap(fs, &setup.place, SwapMode::Create).expect_err("a file").kind, FailureKind::Occupied);
    assert_eq!(swap(fs, &setup.place, SwapMode::Exchange).expect_err("a file").kind, FailureKind::Occupied);
    assert_eq!(look(fs, &setup.place).expect_err("a file").kind, FailureKind::Occupied);
    fs.unlink(&setup.root, Path::new("x/image")).expect("removed");
    fs.symlink(&setup.root, OsStr::new("/etc"), Path::new("x/image")).expect("made");
    assert_eq!(swap(fs, &setup.place, SwapMode::Create).expect_err("a link").kind, FailureKind::Occupied);
    assert_eq!(swap(fs, &setup.place, SwapMode::Exchange).expect_err("a link").kind, FailureKind::Occupied);
    fs.unlink(&setup.root, Path::new("x/image")).expect("removed");
    fs.mkdir(&setup.root, Path::new("x/image"), 0o755).expect("made");
    setup.write(Path::new("x/image/theirs"), b"theirs");
    let failure = swap(fs, &setup.place, SwapMode::Create).expect_err("not empty");
    assert_eq!(failure.kind, FailureKind::Occupied);
    assert!(failure.text.contains("x/image"), "{failure}");
    fs.unlink(&setup.root, Path::new("x/image/theirs")).expect("nobody removed it");
    swap(fs, &setup.place, SwapMode::Create).expect("an empty directory is no obstacle");
    assert!(setup.target_is(&sample));
}

pub(crate) fn no_link_is_followed<W: World>() {
    let setup = setup::<W>(2, "/key/x/image");
    let sample = Sample::new(1);
    let fs = setup.fs();
    fs.mkdir(&setup.root, Path::new("elsewhere"), 0o755).expect("made");
    fs.symlink(&setup.root, OsStr::new("elsewhere"), Path::new("x")).expect("made");
    setup.staged(&sample);
    for mode in [SwapMode::Create, SwapMode::Exchange] {
        assert_eq!(swap(fs, &setup.place, mode).expect_err("through a link").kind, FailureKind::Hostile);
    }
    assert_eq!(look(fs, &setup.place).expect_err("through a link").kind, FailureKind::Hostile);
    let run = Run { first: 0, count: 1 };
    let mut out = vec![0; sample.data(run).len()];
    let failure =
        read_run(fs, (&setup.place, Tree::Visible), &sample.image, run, &mut out).expect_err("through a link");
    assert_eq!(failure.kind, FailureKind::Hostile);
    assert!(fs.stat(&setup.root, Path::new("../x")).is_err());
    assert!(fs.read_dir(&setup.root, Path::new("elsewhere")).expect("readable").is_empty());
    fs.symlink(&setup.root, OsStr::new("elsewhere"), Path::new("other")).expect("made");
    let staging = setup.place.tree().join("sub/deep");
    fs.unlink(&setup.root, &staging.join("blocks")).expect("there");
    fs.rmdir(&setup.root, &staging).expect("empty");
    fs.symlink(&setup.root, OsStr::new("/tmp"), &staging).expect("made");
    let first = sample.image.file("sub/deep/blocks").expect("there").first_block;
    let run = Run { first, count: 1 };
    let failure = store(fs, &setup.place, &sample.image, run, &sample.data(run)).expect_err("through a link");
    assert_eq!(failure.kind, FailureKind::Hostile);
}

pub(crate) fn a_missing_base_is_not_empty<W: World>() {
    let world = W::new();
    let place = Place::new(&config(&world.base().join("missing"), 1), &vpath("/key/image")).expect("fits");
    let sample = Sample::new(1);
    let fs = world.fs();
    let kinds = [
        stage(fs, &EmptyLibrary, &place, (sample.id, &sample.image), &[]).map(|_| ()),
        look(fs, &place).map(|_| ()),
        seal(fs, &place, &sample.image, &BlockSet::none(0)).map(|_| ()),
        swap(fs, &place, SwapMode::Create),
        collect(fs, &place, Previous::Untouched, &mut Vec::new()).map(|_| ()),
        Claims::new(None).claim(fs, place.base()).map(|_| ()),
        sweep(fs, place.base(), &BTreeSet::new()).map(|_| ()),
    ]
    .map(|result| result.expect_err("no base").kind);
    assert_eq!(kinds, [FailureKind::MissingBase; 7]);
}

pub(crate) fn damage_is_not_served<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let sample = Sample::new(1);
    setup.deployed(&sample, SwapMode::Create);
    let fs = setup.fs();
    let run = Run { first: 0, count: u32::try_from(sample.image.block_count()).expect("small") };
    let read = |run| {
        let mut out = vec![0; sample.data(run).len()];
        read_run(fs, (&setup.place, Tree::Visible), &sample.image, run, &mut out).map(|bad| (bad, out))
    };
    assert_eq!(read(run), Ok((Vec::new(), sample.data(run))));
    let blocks = sample.image.file("sub/deep/blocks").expect("there");
    setup.overwrite(&setup.place.target().join("sub/deep/blocks"), BLOCK_BYTES as u64, b"bad");
    fs.unlink(&setup.root, &setup.place.target().join("a")).expect("there");
    let a = sample.image.file("a").expect("there").first_block;
    let middle = blocks.first_block + 1;
    assert_eq!(read(run).expect("readable").0, [a, middle]);
    let last = Run { first: blocks.first_block + blocks_of(blocks.size) - 1, count: 1 };
    assert_eq!(read(last), Ok((Vec::new(), sample.data(last))));
    assert_eq!(sample.data(last).len(), 77);
    assert_eq!(adopt(fs, &setup.place, &sample.image), Ok(None));
}

pub(crate) fn garbage_is_swept<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let sample = Sample::new(1);
    let fs = setup.fs();
    assert_eq!(sweep(fs, setup.place.base(), &BTreeSet::new()).expect("nothing there").removed, 0);
    setup.staged(&sample);
    let keep = BTreeSet::from([setup.place.staging_name().to_owned()]);
    let staging = setup.place.staging();
    let beside = |name: &str| staging.with_file_name(name);
    for path in [beside("x"), beside("x/tree"), beside("gap"), beside("gap/tree"), beside("gap/old")] {
        fs.mkdir(&setup.root, &path, 0o700).expect("made");
    }
    setup.write(&beside("stray"), b"?");
    let swept = sweep(fs, setup.place.base(), &keep).expect("swept");
    assert_eq!((swept.removed, swept.left), (2, vec!["gap".to_owned()]));
    swap(fs, &setup.place, SwapMode::Create).expect("what was kept is whole");
    assert!(setup.target_is(&sample));
}

pub(crate) fn one_daemon_claims_a_base<W: World>() {
    let setup = setup::<W>(1, "/key/image");
    let (fs, base) = (setup.fs(), setup.place.base());
    let swept = |removed| Claimed::Now { swept: Ok(Swept { removed, left: Vec::new() }), unlocked: None };
    let claims = Claims::new(Some(BTreeSet::from(["known".to_owned()])));
    assert_eq!(claims.claim(fs, base), Ok(swept(0)));
    assert_eq!(claims.claim(fs, base), Ok(Claimed::Before));
    let other = Claims::new(Some(BTreeSet::new()));
    assert_eq!(other.claim(fs, base).expect_err("taken").kind, FailureKind::Claimed);
    assert_eq!(other.ensure(fs, &setup.place).expect_err("taken").kind, FailureKind::Claimed);
    claims.retain(&BTreeSet::new());
    // What has a head, what is being deployed, and what isn't: that is swept.
    let beside = |name: &str| setup.place.staging().with_file_name(name);
    for path in [beside("known"), setup.place.staging(), beside("garbage")] {
        fs.mkdir(&setup.root, &path, 0o700).expect("made");
    }
    assert_eq!(claims.ensure(fs, &setup.place), Ok(swept(1)));
    let left: Vec<_> = fs.read_dir(&setup.root, Path::new(".ciruela-staging")).expect("there");
    let left: BTreeSet<_> = left.into_iter().map(|entry| entry.name).collect();
    assert_eq!(left, BTreeSet::from(["known".into(), setup.place.staging_name().into()]));
    // Another directory has the name: the claim begins anew, and so does the sweep.
    for path in [beside("known"), setup.place.staging(), PathBuf::from(".ciruela-staging")] {
        fs.rmdir(&setup.root, &path).expect("empty");
    }
    fs.mkdir(&setup.root, Path::new(".ciruela-staging"), 0o700).expect("made");
    fs.mkdir(&setup.root, &beside("garbage"), 0o700).expect("made");
    assert_eq!(claims.ensure(fs, &setup.place), Ok(swept(1)));
    assert_eq!(other.claim(fs, base).expect_err("taken").kind, FailureKind::Claimed);
    fs.rmdir(&setup.root, Path::new(".ciruela-staging")).expect("empty");
    fs.symlink(&setup.root, OsStr::new("elsewhere"), Path::new(".ciruela-staging")).expect("made");
    assert_eq!(claims.ensure(fs, &setup.place).expect_err("a link").kind, FailureKind::Hostile);
    fs.unlink(&setup.root, Path::new(".ciruela-staging")).expect("removed");
    drop(claims);
    // A database that can't be read as a whole: nothing is swept.
    fs.mkdir(&setup.root, Path::new(".ciruela-staging"), 0o700).expect("made");
    fs.mkdir(&setup.root, &beside("garbage"), 0o700).expect("made");
    assert_eq!(Claims::new(None).claim(fs, base), Ok(swept(0)));
    fs.stat(&setup.root, &beside("garbage")).expect("left alone");
}

pub(crate) fn tasks_do_it_all<W: World>() {
    let world = W::new();
    let sample = Sample::new(1);
    let (directory, image, id) = (Arc::new(config(&world.base(), 1)), Arc::new(sample.image.clone()), sample.id);
    let perform = |action| {
        perform(
            world.fs(),
            &EmptyLibrary,
            &DiskTask { directory: Arc::clone(&directory), path: vpath("/key/image"), action },
        )
    };
    assert_eq!(perform(DiskAction::Look), Ok(DiskResult::Target(None)));
    let stage = DiskAction::Stage { id, image: image.clone(), siblings: Arc::default() };
    let Ok(DiskResult::Staged { have, kept_bytes: 0, .. }) = perform(stage) else { panic!("not staged") };
    assert!(have.is_empty());
    for run in runs_of(&sample.image) {
        let data = sample.data(run).into();
        let stored = perform(DiskAction::Store { image: image.clone(), run, data });
        assert_eq!(stored, Ok(DiskResult::Stored { bad: Vec::new() }));
    }
    let Ok(DiskResult::Sealed(sealed)) =
        perform(DiskAction::Seal { image: image.clone(), linked: Arc::new(BlockSet::none(0)) })
    else {
        panic!("not sealed")
    };
    let on_side = || perform(DiskAction::Side { staged: sealed.root, exchange: false });
    assert_eq!(on_side(), Ok(DiskResult::Side(Side::Before)));
    assert_eq!(perform(DiskAction::Swap { exchange: false }), Ok(DiskResult::Done));
    assert_eq!(on_side(), Ok(DiskResult::Side(Side::After)));
    assert_eq!(perform(DiskAction::Collect { previous: Previous::Dropped }), Ok(DiskResult::Done));
    assert_eq!(perform(DiskAction::Adopt { id, image }), Ok(DiskResult::Adopted(Some(sealed.clone()))));
    let target = Target { identity: sealed.root, empty: false };
    assert_eq!(perform(DiskAction::Look), Ok(DiskResult::Target(Some(target))));
}
