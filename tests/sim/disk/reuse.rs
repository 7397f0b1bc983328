//! Files that are on disk already: shared, never written, never trusted wrongly, whatever crashes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ciruela::driver::db::{Db, Write};
use ciruela::driver::disk::collect::collect;
use ciruela::driver::disk::commit::{SwapMode, seal, swap};
use ciruela::driver::disk::fs::FileSystem;
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::reuse::{Library, siblings};
use ciruela::driver::disk::stage::stage;
use ciruela::driver::disk::task::perform;
use ciruela::driver::library::{DbLibrary, committed};
use ciruela::format::record::{CommittedRecord, IntentRecord};
use ciruela::model::disk_task::{DiskAction, DiskResult, DiskTask, Previous};
use ciruela::model::ids::{ChangeId, ImageId};
use ciruela::model::image::Image;
use ciruela::model::origins::Origins;
use ciruela::model::reuse::{Reused, Sibling};
use ciruela::model::scrub::Cursor;

use super::memory_db::MemoryStorage;
use super::memory_fs::{Abilities, MemoryFs};
use super::power::{Power, Survival};
use super::trees::{Item, Sample, bytes, config, read_tree, vpath};
use crate::seeds::seeds;

const BASE: &str = "/srv/images";
const OLD: &str = "/key/old";

struct Machine {
    power: Power,
    fs: MemoryFs,
    storage: MemoryStorage,
    images: BTreeMap<ImageId, Arc<Image>>,
    /// A directory with which something is known to be wrong, though not to the database.
    damaged: Option<&'static str>,
}

/// The tree of a sample with one file changed, one executable, and one larger in which a block was changed.
fn next(sample: &Sample, version: u8) -> Sample {
    let mut items = sample.items.clone();
    items.insert("version".into(), Item::File { mode: 0o644, bytes: bytes(version.into(), 12) });
    if let Some(Item::File { mode, .. }) = items.get_mut("a") {
        *mode = 0o755;
    }
    if let Some(Item::File { bytes, .. }) = items.get_mut("sub/deep/blocks") {
        bytes[40_000] ^= version;
    }
    Sample::of(version, items)
}

fn place(path: &str) -> Place {
    Place::new(&config(Path::new(BASE), 1), &vpath(path)).expect("fits")
}

impl Machine {
    fn new(abilities: Abilities, samples: &[&Sample]) -> Self {
        let power = Power::default();
        let fs = MemoryFs::new(power.clone(), Path::new(BASE), abilities);
        let images = samples.iter().map(|sample| (sample.id, Arc::new(sample.image.clone()))).collect();
        Self { fs, storage: MemoryStorage::new(power.clone()), power, images, damaged: None }
    }

    fn copy(&self) -> Self {
        let power = Power::default();
        let (fs, storage) = (self.fs.copy(power.clone()), self.storage.copy(power.clone()));
        Self { power, fs, storage, images: self.images.clone(), damaged: self.damaged }
    }

    /// What the daemon does from a start on which finds nothing at the path, or what is to be replaced.
    fn deploy(&self, path: &str, sample: &Sample) -> Result<Reused, String> {
        let db = Db::open_with(self.storage.clone()).map_err(|e| e.to_string())?;
        let images = |id| self.images.get(&id).cloned();
        let library = DbLibrary { db: &db, images: &images };
        let (directory, place, path) = (config(Path::new(BASE), 1), place(path), vpath(path));
        let text = |failure: ciruela::model::failure::Failure| failure.to_string();
        let snapshot = db.load().map_err(|e| e.to_string())?;
        assert!(snapshot.bad_rows.is_empty(), "{:?}", snapshot.bad_rows);
        let sibling = |(path, row): (&_, &CommittedRecord)| Sibling {
            path: Clone::clone(path),
            image: row.image,
            root: row.root,
            previous: false,
            damaged: self.damaged == Some(path.as_str()),
        };
        let known: Vec<_> = snapshot.committed.iter().map(sibling).collect();
        let trees = siblings(&directory, &known);
        let staged = stage(&self.fs, &library, &place, (sample.id, &sample.image), &trees).map_err(text)?;
        sample.store_missing(&self.fs, &place, &staged.have).map_err(text)?;
        let sealed = seal(&self.fs, &place, &sample.image, &staged.reused.linked).map_err(text)?;
        let record = CommittedRecord {
            change: ChangeId::new(*sample.id.as_bytes()),
            image: sample.id,
            root: sealed.root,
            bytes: Origins::default(),
            fingerprints: sealed.fingerprints.into(),
            previous: None,
        };
        let root = self.fs.open_root(place.base()).map_err(|e| e.to_string())?;
        let exchange = self.fs.stat(&root, place.target()).is_ok();
        let intent = IntentRecord { committed: record.clone(), exchange };
        db.write(&[Write::PutIntent(path.clone(), intent)]).map_err(|e| e.to_string())?;
        swap(&self.fs, &place, if exchange { SwapMode::Exchange } else { SwapMode::Create }).map_err(text)?;
        db.write(&committed(&directory, path, record, &images)).map_err(|e| e.to_string())?;
        let mut touches = Vec::new();
        let collected = collect(&self.fs, &place, Previous::Untouched, &mut touches);
        library.touched(touches);
        collected.map_err(text)?;
        Ok(staged.reused)
    }

    /// Compares a directory with its image, and gives the findings.
    fn scrub(&self, path: &str) -> Vec<String> {
        let db = Db::open_with(self.storage.clone()).expect("opens");
        let images = |id| self.images.get(&id).cloned();
        let library = DbLibrary { db: &db, images: &images };
        let row = db.load().expect("readable").committed.remove(&vpath(path)).expect("committed");
        let action = DiskAction::Scrub { id: row.image, root: row.root, from: Cursor::default() };
        let task = DiskTask { directory: Arc::new(config(Path::new(BASE), 1)), path: vpath(path), action };
        let Ok(DiskResult::Scrubbed(Some(part))) = perform(&self.fs, &library, &task) else { panic!("not compared") };
        part.findings.iter().map(|finding| format!("{} {}", finding.file, finding.what)).collect()
    }

    fn visible(&self, path: &str) -> BTreeMap<String, Item> {
        read_tree(&self.fs, Path::new(BASE), place(path).target())
    }

    fn inode(&self, path: &str, file: &str) -> u64 {
        let root = self.fs.open_root(Path::new(BASE)).expect("there");
        self.fs.stat(&root, &place(path).target().join(file)).expect("there").ino
    }
}

#[test]
fn what_is_the_same_is_shared() {
    let (old, new) = (Sample::new(1), next(&Sample::new(1), 2));
    let abilities = Abilities::renames(true);
    for (abilities, shares) in [
        (abilities, true),
        (Abilities { links: 1, ..abilities }, false),
        (Abilities { clone: true, ..abilities }, false),
    ] {
        let machine = Machine::new(abilities, &[&old, &new]);
        machine.deploy(OLD, &old).expect("nothing fails");
        let reused = machine.deploy("/key/new", &new).expect("nothing fails");
        assert_eq!(machine.visible(OLD), old.items);
        assert_eq!(machine.visible("/key/new"), new.items);
        for (file, same) in
            [("sub/run", true), ("only-in-1/x", true), ("a", false), ("empty", false), ("version", false)]
        {
            let shared = machine.inode(OLD, file) == machine.inode("/key/new", file);
            assert_eq!(shared, same && shares, "{file} with {abilities:?}");
        }
        // What can't be shared is copied; of the changed file all blocks but one, and the one that may be executed now.
        let (linked, copied) = (reused.bytes_linked, reused.bytes_copied);
        let whole = 33 + 5 + 9;
        let parts = 100 + 32_768 + 77;
        let shares = shares || abilities.clone;
        assert_eq!((linked, copied), if shares { (whole, parts) } else { (0, whole + parts) }, "{abilities:?}");
        assert_eq!((reused.rehashed, reused.damaged.len()), (0, 0));
    }
}

#[test]
fn crashes_with_shared_files_end_well() {
    let old = Sample::new(1);
    let (new, third) = (next(&old, 2), next(&old, 3));
    for (abilities, path) in [(true, OLD), (true, "/key/new"), (false, OLD), (false, "/key/new")] {
        let start = Machine::new(Abilities::renames(abilities), &[&old, &new, &third]);
        start.deploy(OLD, &old).expect("nothing fails");
        let whole = start.copy();
        whole.deploy(path, &new).expect("nothing fails");
        for (crash_at, seed) in (0..whole.power.operations()).flat_map(|at| seeds(4).map(move |seed| (at, seed))) {
            let when = format!("{path}, modern {abilities}, crash at {crash_at}, seed {seed}");
            let machine = start.copy();
            machine.power.crash_after(crash_at);
            let _ = machine.deploy(path, &new);
            let mut survival = Survival::of_seed(seed);
            machine.power.cut();
            machine.fs.crash(&mut survival);
            machine.storage.crash(&mut survival);
            machine.power.on();
            let visible = machine.visible(OLD);
            let gap = visible.is_empty() && path == OLD && !abilities;
            assert!(gap || visible == old.items || path == OLD && visible == new.items, "{when}: {:?}", visible.keys());
            // Again, and once more at a third place: whatever the database says of inodes by now.
            for (path, sample) in [(path, &new), ("/key/third", &third)] {
                let reused = machine.deploy(path, sample).unwrap_or_else(|text| panic!("{when}: {text}"));
                assert_eq!(reused.damaged, [], "{when}: nobody changed anything");
                assert_eq!(machine.visible(path), sample.items, "{when}");
            }
            if path != OLD {
                assert_eq!(machine.visible(OLD), old.items, "{when}");
            }
        }
    }
}

#[test]
fn what_somebody_changed_is_found_and_left_alone() {
    let old = Sample::new(1);
    let (new, third) = (next(&old, 2), next(&old, 3));
    for file in ["sub/run", "only-in-1/x", "turns"] {
        let machine = Machine::new(Abilities::renames(true), &[&old, &new, &third]);
        machine.deploy(OLD, &old).expect("nothing fails");
        machine.deploy("/key/new", &new).expect("nothing fails");
        machine.fs.edit(&Path::new(BASE).join("old").join(file), b"x");
        let reused = machine.deploy("/key/third", &third).expect("nothing fails");
        assert_eq!(machine.visible("/key/third"), third.items, "{file}");
        let damaged: Vec<_> = reused.damaged.iter().map(|damage| (damage.path.as_str(), &*damage.file)).collect();
        assert_eq!(damaged, [("/key/new", file), (OLD, file)]);
        assert_ne!(machine.inode("/key/third", file), machine.inode(OLD, file));
    }
    // A file that is gone is damage; a directory that is gone isn't.
    let machine = Machine::new(Abilities::renames(true), &[&old, &new, &third]);
    machine.deploy(OLD, &old).expect("nothing fails");
    let root = machine.fs.open_root(Path::new(BASE)).expect("there");
    machine.fs.unlink(&root, Path::new("old/sub/run")).expect("removed");
    let reused = machine.deploy("/key/new", &new).expect("nothing fails");
    assert_eq!(reused.damaged.iter().map(|damage| &*damage.what).collect::<Vec<_>>(), ["is gone"]);
    machine.fs.rename(&root, Path::new("old"), Path::new("elsewhere")).expect("renamed");
    machine.fs.rename(&root, Path::new("new"), Path::new("elsewhere too")).expect("renamed");
    assert_eq!(machine.deploy("/key/third", &third).expect("nothing fails").damaged, []);
    assert_eq!(machine.visible("/key/third"), third.items);
}

/// A fault of the disk changes no times: what a scrub has found wrong isn't trusted by them, under any name.
#[test]
fn what_has_rotted_is_not_trusted_by_its_status() {
    let old = Sample::new(1);
    let (new, third) = (next(&old, 2), next(&old, 3));
    for scrubbed in [false, true] {
        let machine = Machine::new(Abilities::renames(true), &[&old, &new, &third]);
        machine.deploy(OLD, &old).expect("nothing fails");
        machine.deploy("/key/new", &new).expect("nothing fails");
        machine.fs.rot(&Path::new(BASE).join("old/sub/run"), b"x");
        if scrubbed {
            assert_eq!(machine.scrub(OLD), ["sub/run was changed on this node: 1 of 1 blocks don't fit"]);
            assert_eq!(machine.scrub("/key/new").len(), 1);
        }
        let reused = machine.deploy("/key/third", &third).expect("nothing fails");
        assert_eq!(machine.visible("/key/third") == third.items, scrubbed, "who looks at no byte can't know");
        assert_eq!(reused.damaged.len(), if scrubbed { 2 } else { 0 });
    }
}

/// What is found wrong while it is given to another node isn't in the database at once.
#[test]
fn nothing_of_what_is_to_be_healed_is_linked() {
    let old = Sample::new(1);
    for known in [false, true] {
        let mut machine = Machine::new(Abilities::renames(true), &[&old]);
        machine.deploy(OLD, &old).expect("nothing fails");
        machine.fs.rot(&Path::new(BASE).join("old/sub/run"), b"x");
        machine.damaged = known.then_some(OLD);
        let reused = machine.deploy(OLD, &old).expect("nothing fails");
        assert_eq!(machine.visible(OLD) == old.items, known, "who looks at no byte can't know");
        assert_eq!(reused.bytes_linked == 0, known);
        assert!(!known || reused.bytes_copied > 0, "what is right is copied");
    }
}

#[test]
fn what_was_touched_is_not_hashed_again() {
    let old = Sample::new(1);
    let new = next(&old, 2);
    for scrubbed in [false, true] {
        let machine = Machine::new(Abilities::renames(true), &[&old, &new]);
        machine.deploy(OLD, &old).expect("nothing fails");
        let Some(Item::File { bytes, .. }) = old.items.get("sub/run") else { panic!("it is a file") };
        machine.fs.edit(&Path::new(BASE).join("old/sub/run"), bytes);
        if scrubbed {
            assert_eq!(machine.scrub(OLD), [""; 0]);
        }
        let reused = machine.deploy("/key/new", &new).expect("nothing fails");
        assert_eq!((reused.rehashed, reused.damaged.len()), (u64::from(!scrubbed), 0));
    }
}
