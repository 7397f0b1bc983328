//! Crashes between any two operations of a deployment, then recovery: the old tree or the new one, never a mixture, and
//! in the end the new one.
//!
//! What the deploy engine decides is here a few lines ([`Machine::deploy`], [`Machine::recover`]): the order of the steps.

use std::collections::BTreeMap;
use std::path::Path;

use ciruela::driver::db::{Db, Write};
use ciruela::driver::disk::collect::collect;
use ciruela::driver::disk::commit::{SwapMode, seal, swap};
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::read::{fingerprints, look};
use ciruela::driver::disk::recover::side;
use ciruela::driver::disk::reuse::EmptyLibrary;
use ciruela::driver::disk::stage::stage;
use ciruela::format::record::{CommittedRecord, IntentRecord};
use ciruela::model::block_set::BlockSet;
use ciruela::model::disk_task::{Previous, Sealed, Side};
use ciruela::model::failure::FailureKind;
use ciruela::model::ids::ChangeId;
use ciruela::model::origins::Origins;
use ciruela::model::vpath::VPath;
use rustix::io::Errno;

use super::memory_db::MemoryStorage;
use super::memory_fs::{Abilities, MemoryFs};
use super::power::{Power, Random, Survival};
use super::trees::{Item, Sample, config, read_tree, vpath};
use crate::seeds::seeds;

const BASE: &str = "/srv/images";
const ALL_ABILITIES: [Abilities; 3] =
    [Abilities::renames(true), Abilities { noreplace: true, ..Abilities::renames(false) }, Abilities::renames(false)];

/// One machine: its disks, and how the current try goes.
struct Machine {
    power: Power,
    fs: MemoryFs,
    storage: MemoryStorage,
    place: Place,
    path: VPath,
    abilities: Abilities,
    /// The new image was reported as there.
    reported: bool,
}

/// What a test case is about: which tree becomes which.
#[derive(Clone)]
struct Case {
    name: &'static str,
    old: Option<Sample>,
    new: Sample,
    abilities: Abilities,
    path: &'static str,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for abilities in ALL_ABILITIES {
        let (old, new) = (Some(Sample::new(1)), Sample::new(2));
        cases.push(Case { name: "append", old: None, new: new.clone(), abilities, path: "/key/x/y/image" });
        cases.push(Case { name: "replace", old, new, abilities, path: "/key/x/y/image" });
    }
    cases
}

type Text = String;

impl Machine {
    /// A machine on which the case's old tree is deployed.
    fn new(case: &Case) -> Self {
        let power = Power::default();
        let machine = Self {
            fs: MemoryFs::new(power.clone(), Path::new(BASE), case.abilities),
            storage: MemoryStorage::new(power.clone()),
            power,
            place: Place::new(&config(Path::new(BASE), 3), &vpath(case.path)).expect("fits"),
            path: vpath(case.path),
            abilities: case.abilities,
            reported: false,
        };
        let mut machine = machine;
        let db = machine.db().expect("opens");
        if let Some(old) = &case.old {
            machine.deploy(&db, old, SwapMode::Create).expect("nothing fails");
        }
        drop(db);
        machine.reported = false;
        machine
    }

    /// The same machine with a future of its own.
    fn copy(&self) -> Self {
        let power = Power::default();
        Self {
            fs: self.fs.copy(power.clone()),
            storage: self.storage.copy(power.clone()),
            power,
            place: self.place.clone(),
            path: self.path.clone(),
            ..*self
        }
    }

    fn db(&self) -> Result<Db, Text> {
        Db::open_with(self.storage.clone()).map_err(|e| e.to_string())
    }

    /// From nothing to collected, as the engine orders it.
    fn deploy(&mut self, db: &Db, sample: &Sample, mode: SwapMode) -> Result<(), Text> {
        let text = |failure: ciruela::model::failure::Failure| failure.to_string();
        let staged = stage(&self.fs, &EmptyLibrary, &self.place, (sample.id, &sample.image), &[]).map_err(text)?;
        sample.store_missing(&self.fs, &self.place, &staged.have).map_err(text)?;
        let sealed = match seal(&self.fs, &self.place, &sample.image, &BlockSet::none(0)) {
            Err(failure) if failure.kind == FailureKind::Poisoned => {
                while !collect(&self.fs, &self.place, Previous::Untouched, &mut Vec::new()).map_err(text)? {}
                return Err(text(failure));
            }
            other => other.map_err(text)?,
        };
        let intent = intent_of(sample, sealed, mode);
        db.write(&[Write::PutIntent(self.path.clone(), intent.clone())]).map_err(|e| e.to_string())?;
        self.finish(db, &intent)
    }

    /// From the intent on.
    fn finish(&mut self, db: &Db, intent: &IntentRecord) -> Result<(), Text> {
        let mode = if intent.exchange { SwapMode::Exchange } else { SwapMode::Create };
        swap(&self.fs, &self.place, mode).map_err(|e| e.to_string())?;
        self.record(db, intent)
    }

    fn record(&mut self, db: &Db, intent: &IntentRecord) -> Result<(), Text> {
        let committed = Write::PutCommitted(self.path.clone(), intent.committed.clone());
        db.write(&[committed, Write::DeleteIntent(self.path.clone())]).map_err(|e| e.to_string())?;
        self.reported = true;
        while !collect(&self.fs, &self.place, Previous::Untouched, &mut Vec::new()).map_err(|e| e.to_string())? {}
        Ok(())
    }

    /// What a start does about an intent that is left.
    fn recover(&mut self, db: &Db, samples: &[&Sample]) -> Result<(), Text> {
        let snapshot = db.load().map_err(|e| e.to_string())?;
        assert!(snapshot.bad_rows.is_empty(), "{:?}", snapshot.bad_rows);
        let Some(intent) = snapshot.intents.get(&self.path).cloned() else {
            return Ok(());
        };
        let sample = samples.iter().find(|sample| sample.id == intent.committed.image).expect("one of ours");
        match side(&self.fs, &self.place, intent.committed.root).map_err(|e| e.to_string())? {
            Side::Lost => db.write(&[Write::DeleteIntent(self.path.clone())]).map_err(|e| e.to_string()),
            Side::After => self.record_visible(db, &intent, sample),
            Side::Before | Side::Between => {
                let mode = if intent.exchange { SwapMode::Exchange } else { SwapMode::Create };
                swap(&self.fs, &self.place, mode).map_err(|e| e.to_string())?;
                self.record_visible(db, &intent, sample)
            }
        }
    }

    fn record_visible(&mut self, db: &Db, intent: &IntentRecord, sample: &Sample) -> Result<(), Text> {
        let sealed = fingerprints(&self.fs, &self.place, &sample.image).map_err(|e| e.to_string())?;
        let sealed = sealed.ok_or("the visible tree isn't the image's shape")?;
        assert_eq!(*sealed.fingerprints, *intent.committed.fingerprints, "the swap changed a fingerprint");
        self.record(db, intent)
    }

    /// A start of the daemon: recover, then deploy what isn't there.
    fn restart(&mut self, case: &Case) -> Result<(), Text> {
        let db = self.db()?;
        let samples: Vec<_> = case.old.iter().chain([&case.new]).collect();
        self.recover(&db, &samples)?;
        self.check_rows(case, &db);
        self.go_on(case, &db)
    }

    /// Deploys the new image unless it is recorded as there.
    fn go_on(&mut self, case: &Case, db: &Db) -> Result<(), Text> {
        let snapshot = db.load().map_err(|e| e.to_string())?;
        if snapshot.committed.get(&self.path).is_some_and(|row| row.image == case.new.id) {
            while !collect(&self.fs, &self.place, Previous::Untouched, &mut Vec::new()).map_err(|e| e.to_string())? {}
            return Ok(());
        }
        let mode = if case.old.is_some() { SwapMode::Exchange } else { SwapMode::Create };
        self.deploy(db, &case.new, mode)
    }

    /// The power is cut (if it wasn't yet) and comes back.
    fn reboot(&self, mut survival: Survival) {
        self.power.cut();
        self.fs.crash(&mut survival);
        self.storage.crash(&mut survival);
        self.power.on();
    }

    fn visible(&self) -> BTreeMap<String, Item> {
        read_tree(&self.fs, self.place.base(), self.place.target())
    }

    /// I2: absent, old or new, never mixed.
    fn check_visible(&self, case: &Case, when: &str) {
        let visible = self.visible();
        if self.reported {
            assert_eq!(visible, case.new.items, "{when}: what was reported isn't there");
        } else if visible.is_empty() {
            let gap = case.old.is_none() || !self.abilities.exchange;
            assert!(gap, "{when}: nothing is visible");
        } else if visible != case.new.items {
            assert_eq!(Some(&visible), case.old.as_ref().map(|old| &old.items), "{when}: a mixture is visible");
        }
    }

    /// What the database says is there is what is there, as far as no intent says that it is in question.
    fn check_rows(&self, case: &Case, db: &Db) {
        let snapshot = db.load().expect("readable");
        if snapshot.intents.contains_key(&self.path) {
            return;
        }
        let visible = self.visible();
        let Some(row) = snapshot.committed.get(&self.path) else {
            assert!(visible.is_empty(), "something is visible that isn't recorded");
            return;
        };
        let sample = case.old.iter().chain([&case.new]).find(|sample| sample.id == row.image).expect("one of ours");
        let sealed = fingerprints(&self.fs, &self.place, &sample.image).expect("readable").expect("whole");
        assert_eq!((row.root, &*row.fingerprints), (sealed.root, &*sealed.fingerprints));
        assert_eq!(visible, sample.items, "the recorded tree isn't the visible one");
    }

    /// The new tree is there, for good, and nothing else is left.
    fn check_end(&self, case: &Case) {
        self.reboot(Survival::Nothing);
        assert_eq!(self.visible(), case.new.items, "the new tree isn't durable");
        let db = self.db().expect("opens");
        let snapshot = db.load().expect("readable");
        assert_eq!(snapshot.committed.get(&self.path).map(|row| row.image), Some(case.new.id));
        assert_eq!(snapshot.intents.len(), 0);
        self.check_rows(case, &db);
        while !collect(&self.fs, &self.place, Previous::Untouched, &mut Vec::new()).expect("collected") {}
        assert_eq!(look(&self.fs, &self.place).expect("readable").map(|target| target.empty), Some(false));
    }
}

fn intent_of(sample: &Sample, sealed: Sealed, mode: SwapMode) -> IntentRecord {
    let committed = CommittedRecord {
        change: ChangeId::new(*sample.id.as_bytes()),
        image: sample.id,
        root: sealed.root,
        bytes: Origins::default(),
        fingerprints: sealed.fingerprints.into(),
        previous: None,
    };
    IntentRecord { committed, exchange: mode == SwapMode::Exchange }
}

/// One try: what happens before the deployment ends.
fn attempt(machine: &mut Machine, case: &Case) -> Result<(), Text> {
    let db = machine.db()?;
    machine.go_on(case, &db)
}

/// Operations of the whole case when nothing fails.
fn operations(start: &Machine, case: &Case) -> u64 {
    let mut machine = start.copy();
    attempt(&mut machine, case).expect("nothing fails");
    machine.check_visible(case, "without a crash");
    machine.power.operations()
}

#[test]
fn every_crash_ends_well() {
    for case in cases() {
        let start = Machine::new(&case);
        let operations = operations(&start, &case);
        assert!(operations > 50, "{operations} operations are too few to be true");
        for crash_at in 0..operations {
            for seed in seeds(5) {
                let when = format!("{} with {:?}, crash at {crash_at}, seed {seed}", case.name, case.abilities);
                let mut machine = start.copy();
                machine.power.crash_after(crash_at);
                // In the last operations only the database is closed: then all is done already.
                let _ = attempt(&mut machine, &case);
                assert!(machine.power.crashed(), "{when}");
                machine.reboot(Survival::of_seed(seed));
                machine.check_visible(&case, &when);
                machine.restart(&case).unwrap_or_else(|text| panic!("{when}: {text}"));
                machine.check_visible(&case, &when);
                machine.check_end(&case);
            }
        }
    }
}

#[test]
fn crashes_during_recovery_end_well() {
    for (number, case) in (0..).zip(cases()) {
        let start = Machine::new(&case);
        let operations = operations(&start, &case);
        for seed in seeds(120) {
            let mut random = Random::new(seed << 8 | number);
            let mut machine = start.copy();
            machine.power.crash_after(random.below(operations));
            let _ = attempt(&mut machine, &case);
            assert!(machine.power.crashed());
            for restart in 0..4 {
                let when = format!("{} with {:?}, seed {seed}, restart {restart}", case.name, case.abilities);
                // The first is often a killed process: everything is visible, and nothing of it durable.
                machine.reboot(Survival::of_seed(random.below(20)));
                machine.check_visible(&case, &when);
                machine.power.crash_after(random.below(operations));
                match machine.restart(&case) {
                    Ok(()) => {}
                    Err(text) => assert!(machine.power.crashed(), "{when}: {text}"),
                }
                machine.power.cut();
            }
            machine.reboot(Survival::of_seed(random.below(20)));
            machine.restart(&case).unwrap_or_else(|text| panic!("seed {seed}: {text}"));
            machine.check_end(&case);
        }
    }
}

/// A newer change comes between the intent and the swap of another one, whose tree is thrown away: its inode is free for
/// the new tree, and the intent still names it.
#[test]
fn a_stale_intent_swaps_nothing_else() {
    let between = Sample::new(4);
    for case in cases().into_iter().filter(|case| case.old.is_some()) {
        let start = Machine::new(&case);
        let db = start.db().expect("opens");
        let staged = stage(&start.fs, &EmptyLibrary, &start.place, (between.id, &between.image), &[]).expect("staged");
        between.store_missing(&start.fs, &start.place, &staged.have).expect("stored");
        let sealed = seal(&start.fs, &start.place, &between.image, &BlockSet::none(0)).expect("sealed");
        let intent = intent_of(&between, sealed, SwapMode::Exchange);
        db.write(&[Write::PutIntent(start.path.clone(), intent)]).expect("written");
        drop(db);
        let operations = operations(&start, &case);
        for (crash_at, seed) in (0..operations).flat_map(|at| (0..6).map(move |seed| (at, seed))) {
            let when = format!("{:?}, crash at {crash_at}, seed {seed}", case.abilities);
            let mut machine = start.copy();
            machine.power.crash_after(crash_at);
            let _ = attempt(&mut machine, &case);
            after_a_stale_intent(machine, &case, &between, seed, &when);
        }
        for (crash_at, seed) in (0..25).flat_map(|at| (0..20).map(move |seed| (at, seed))) {
            let when = format!("{:?}, crash at {crash_at} of collecting, seed {seed}", case.abilities);
            let machine = start.copy();
            machine.power.crash_after(crash_at);
            let _ = collect(&machine.fs, &machine.place, Previous::Untouched, &mut Vec::new());
            after_a_stale_intent(machine, &case, &between, seed, &when);
        }
    }
}

fn after_a_stale_intent(mut machine: Machine, case: &Case, between: &Sample, seed: u64, when: &str) {
    machine.reboot(Survival::of_seed(seed));
    let db = machine.db().expect("opens");
    let samples: Vec<_> = case.old.iter().chain([between, &case.new]).collect();
    machine.recover(&db, &samples).unwrap_or_else(|text| panic!("{when}: {text}"));
    let visible = machine.visible();
    let whole = samples.iter().any(|sample| sample.items == visible);
    assert!(whole || visible.is_empty() && !case.abilities.exchange, "{when}: {:?}", visible.keys());
    machine.go_on(case, &db).unwrap_or_else(|text| panic!("{when}: {text}"));
    drop(db);
    machine.check_end(case);
}

#[test]
fn every_fault_ends_well() {
    for case in cases() {
        let start = Machine::new(&case);
        let operations = operations(&start, &case);
        for errno in [Errno::IO, Errno::NOSPC] {
            for fault_at in 0..operations {
                let when = format!("{} with {:?}, {errno:?} at {fault_at}", case.name, case.abilities);
                let mut machine = start.copy();
                machine.power.fail_after(fault_at, errno);
                let failed = attempt(&mut machine, &case);
                machine.check_visible(&case, &when);
                if failed.is_err() {
                    machine.restart(&case).unwrap_or_else(|text| panic!("{when}: {text}"));
                }
                machine.check_visible(&case, &when);
                machine.check_end(&case);
            }
        }
    }
}

#[test]
fn a_failed_sync_poisons_what_others_staged() {
    let case = &cases()[0];
    let mut machine = Machine::new(case);
    let other = Place::new(&config(Path::new(BASE), 3), &vpath("/key/x/y/other")).expect("fits");
    let sample = Sample::new(3);
    let staged = stage(&machine.fs, &EmptyLibrary, &other, (sample.id, &sample.image), &[]).expect("staged");
    sample.store_missing(&machine.fs, &other, &staged.have).expect("stored");
    let staged =
        stage(&machine.fs, &EmptyLibrary, &machine.place, (case.new.id, &case.new.image), &[]).expect("staged");
    case.new.store_missing(&machine.fs, &machine.place, &staged.have).expect("stored");
    // The link that names a sealed tree is removed, made, and then comes the sync.
    machine.power.fail_after(2, Errno::IO);
    let failure = seal(&machine.fs, &machine.place, &case.new.image, &BlockSet::none(0)).expect_err("the sync fails");
    assert_eq!(failure.kind, FailureKind::Poisoned);
    assert!(failure.text.contains("can't sync"), "{failure}");
    let failure =
        seal(&machine.fs, &other, &sample.image, &BlockSet::none(0)).expect_err("its blocks may be lost as well");
    assert_eq!(failure.kind, FailureKind::Poisoned);
    let staged = stage(&machine.fs, &EmptyLibrary, &other, (sample.id, &sample.image), &[]).expect("staged");
    assert!(staged.have.is_empty(), "what may be lost was kept");
    attempt(&mut machine, case).expect("from the start");
    machine.check_end(case);
}
