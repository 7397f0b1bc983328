//! Removing a directory: a crash before any single operation, then what a start does. What is visible is whole or gone, rows and disk agree in
//! the end, and nothing that was linked from elsewhere is hurt.
//!
//! What the engine decides is here a few lines ([`Machine::remove`]): mark, remove, forget.

use std::path::Path;

use ciruela::driver::db::{Db, Write};
use ciruela::driver::disk::claims::Claims;
use ciruela::driver::disk::collect::collect;
use ciruela::driver::disk::commit::{SwapMode, seal, swap};
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::remove::remove;
use ciruela::driver::disk::reuse::EmptyLibrary;
use ciruela::driver::disk::stage::stage;
use ciruela::format::record::{CommittedRecord, HeadRecord};
use ciruela::model::block_set::BlockSet;
use ciruela::model::change::{Change, SignedChange, Verb};
use ciruela::model::disk_task::Previous;
use ciruela::model::disk_task::Sealed;
use ciruela::model::fingerprint::FileIdentity;
use ciruela::model::ids::ChangeId;
use ciruela::model::origins::Origins;
use ciruela::model::time::Stamp;

use super::memory_db::MemoryStorage;
use super::memory_fs::{Abilities, MemoryFs};
use super::power::{Power, Survival};
use super::trees::{Sample, config, read_tree, vpath};
use crate::seeds::seeds;

const BASE: &str = "/srv/images";
const PATH: &str = "/key/x/y/image";

struct Machine {
    power: Power,
    fs: MemoryFs,
    storage: MemoryStorage,
    root: FileIdentity,
}

fn place() -> Place {
    Place::new(&config(Path::new(BASE), 3), &vpath(PATH)).expect("fits")
}

fn head(sample: &Sample, cleaned: bool) -> HeadRecord {
    let (path, image) = (vpath(PATH), Some(sample.id));
    let change = Change { cluster: None, verb: Verb::Append, path, image, old_image: None, stamp: Stamp(1) };
    HeadRecord { change: SignedChange::new(change, Vec::new()), admitted: Stamp(1), before: None, cleaned }
}

impl Machine {
    /// On which the sample is deployed.
    fn new(abilities: Abilities, sample: &Sample) -> Self {
        let power = Power::default();
        let fs = MemoryFs::new(power.clone(), Path::new(BASE), abilities);
        let storage = MemoryStorage::new(power.clone());
        let staged = stage(&fs, &EmptyLibrary, &place(), (sample.id, &sample.image), &[]).expect("staged");
        sample.store_missing(&fs, &place(), &staged.have).expect("stored");
        let Sealed { root, fingerprints } = seal(&fs, &place(), &sample.image, &BlockSet::none(0)).expect("sealed");
        swap(&fs, &place(), SwapMode::Create).expect("visible");
        while !collect(&fs, &place(), Previous::Untouched, &mut Vec::new()).expect("collected") {}
        let (change, image) = (ChangeId::new([1; 32]), sample.id);
        let committed = CommittedRecord {
            change,
            image,
            root,
            bytes: Origins::default(),
            fingerprints: fingerprints.into(),
            previous: None,
        };
        let db = Db::open_with(storage.clone()).expect("opens");
        let rows = [Write::PutHead(vpath(PATH), head(sample, false)), Write::PutCommitted(vpath(PATH), committed)];
        db.write(&rows).expect("written");
        drop(db);
        let machine = Self { power, fs, storage, root };
        machine.restart(Survival::Everything);
        machine
    }

    fn copy(&self) -> Self {
        let power = Power::default();
        Self { fs: self.fs.copy(power.clone()), storage: self.storage.copy(power.clone()), power, root: self.root }
    }

    /// From a start on; `keep`: a rule keeps it now.
    fn remove(&self, sample: &Sample, keep: bool) -> Result<(), String> {
        let db = Db::open_with(self.storage.clone()).map_err(|e| e.to_string())?;
        let snapshot = db.load().map_err(|e| e.to_string())?;
        let claims = Claims::<MemoryFs>::new(Some(snapshot.heads.keys().map(staging).collect()));
        claims.ensure(&self.fs, &place()).map_err(|e| e.to_string())?;
        let marked = snapshot.heads[&vpath(PATH)].cleaned;
        let mark = |cleaned| db.write(&[Write::PutHead(vpath(PATH), head(sample, cleaned))]).map_err(|e| e.to_string());
        if !snapshot.committed.contains_key(&vpath(PATH)) || (keep && !marked) {
            return Ok(());
        }
        if !marked {
            mark(true)?;
        }
        if !remove(&self.fs, &place(), self.root, keep, &mut Vec::new()).map_err(|e| e.to_string())? {
            return mark(false);
        }
        db.write(&[Write::DeleteCommitted(vpath(PATH))]).map_err(|e| e.to_string())
    }

    fn restart(&self, mut survival: Survival) {
        self.power.cut();
        self.fs.crash(&mut survival);
        self.storage.crash(&mut survival);
        self.power.on();
    }

    fn check(&self, sample: &Sample, case: &str) -> bool {
        let visible = read_tree(&self.fs, Path::new(BASE), Path::new("x/y/image"));
        assert!(visible.is_empty() || visible == sample.items, "{case}: a half is visible: {:?}", visible.keys());
        let db = Db::open_with(self.storage.clone()).expect("opens");
        let snapshot = db.load().expect("readable");
        let marked = snapshot.heads[&vpath(PATH)].cleaned;
        assert!(!visible.is_empty() || marked, "{case}: it is gone, and the head doesn't say why");
        assert!(visible.is_empty() || snapshot.committed.contains_key(&vpath(PATH)), "{case}: visible without a row");
        !visible.is_empty()
    }

    /// Nothing is under way any more.
    fn check_end(&self, sample: &Sample, case: &str) -> bool {
        let visible = self.check(sample, case);
        let db = Db::open_with(self.storage.clone()).expect("opens");
        let snapshot = db.load().expect("readable");
        assert_eq!(snapshot.heads[&vpath(PATH)].cleaned, !visible, "{case}");
        assert_eq!(snapshot.committed.contains_key(&vpath(PATH)), visible, "{case}");
        let left = read_tree(&self.fs, Path::new(BASE), Path::new(".ciruela-staging"));
        assert!(left.len() <= 1, "{case}: left in staging: {:?}", left.keys());
        visible
    }
}

fn staging(path: &ciruela::model::vpath::VPath) -> String {
    ciruela::driver::disk::place::staging_name(path)
}

const ALL_ABILITIES: [Abilities; 2] = [Abilities::renames(true), Abilities::renames(false)];

#[test]
fn a_crash_before_each_operation() {
    let sample = Sample::new(1);
    for (number, abilities) in ALL_ABILITIES.into_iter().enumerate() {
        let ready = Machine::new(abilities, &sample);
        let (mut whole, mut gone) = (0, 0);
        for operation in 0.. {
            let machine = ready.copy();
            machine.power.crash_after(operation);
            let result = machine.remove(&sample, false);
            if result.is_ok() && !machine.power.crashed() {
                assert!(operation > 10, "{operation} operations");
                break;
            }
            for seed in seeds(12) {
                let case = format!("abilities {number}, operation {operation}, seed {seed}");
                for keep in [false, true] {
                    let machine = ready.copy();
                    machine.power.crash_after(operation);
                    let _ = machine.remove(&sample, false);
                    machine.restart(Survival::of_seed(seed));
                    machine.check(&sample, &case);
                    // Once more in the midst of going on, then to the end.
                    machine.power.crash_after(seed);
                    let _ = machine.remove(&sample, keep);
                    machine.restart(Survival::of_seed(seed * 7));
                    let there = machine.check(&sample, &case);
                    machine.remove(&sample, keep).unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert_eq!(machine.check_end(&sample, &case), keep && there, "{case}");
                    if there {
                        whole += 1;
                    } else {
                        gone += 1;
                    }
                    // And that is durable, but for garbage, which a start sweeps.
                    machine.restart(Survival::Nothing);
                    assert_eq!(machine.check(&sample, &case), keep && there, "{case}");
                    machine.remove(&sample, true).expect("nothing fails");
                    machine.check_end(&sample, &case);
                }
            }
        }
        assert!(whole > 0 && gone > 0, "{whole} times whole, {gone} times gone");
    }
}
