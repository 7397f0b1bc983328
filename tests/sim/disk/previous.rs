//! The tree that is set aside: whole or gone, whatever happens while it is removed, and nothing else is hurt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ciruela::driver::disk::claims::Claims;
use ciruela::driver::disk::commit::{SwapMode, seal, swap};
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::reuse::EmptyLibrary;
use ciruela::driver::disk::stage::stage;
use ciruela::driver::disk::task::perform;
use ciruela::model::block_set::BlockSet;
use ciruela::model::disk_task::{DiskAction, DiskResult, DiskTask, Previous};
use ciruela::model::failure::Failure;
use ciruela::model::fingerprint::FileIdentity;

use super::memory_fs::{Abilities, MemoryFs};
use super::power::{Power, Survival};
use super::trees::{Sample, config, read_tree, vpath};
use crate::seeds::seeds;

const BASE: &str = "/srv/images";
const PATH: &str = "/key/image";

struct Machine {
    power: Power,
    fs: MemoryFs,
    /// Of what was visible before.
    root: FileIdentity,
}

fn place() -> Place {
    Place::new(&config(Path::new(BASE), 1), &vpath(PATH)).expect("fits")
}

impl Machine {
    /// On which `old` was replaced by `new` and is set aside.
    fn new(abilities: Abilities, old: &Sample, new: &Sample) -> Self {
        let power = Power::default();
        let fs = MemoryFs::new(power.clone(), Path::new(BASE), abilities);
        let deploy = |sample: &Sample, mode| {
            let staged = stage(&fs, &EmptyLibrary, &place(), (sample.id, &sample.image), &[]).expect("staged");
            sample.store_missing(&fs, &place(), &staged.have).expect("stored");
            let sealed = seal(&fs, &place(), &sample.image, &BlockSet::none(0)).expect("sealed");
            swap(&fs, &place(), mode).expect("visible");
            sealed.root
        };
        let root = deploy(old, SwapMode::Create);
        let mut machine = Self { power, root, fs: fs.clone() };
        machine.perform(DiskAction::Collect { previous: Previous::Dropped }).expect("collected");
        deploy(new, SwapMode::Exchange);
        let kept = DiskAction::Collect { previous: Previous::Kept(root) };
        assert_eq!(machine.perform(kept), Ok(DiskResult::Previous { kept: true }));
        machine.restart(Survival::Everything);
        machine
    }

    fn copy(&self) -> Self {
        let power = Power::default();
        Self { fs: self.fs.copy(power.clone()), power, root: self.root }
    }

    fn perform(&self, action: DiskAction) -> Result<DiskResult, Failure> {
        let directory = Arc::new(config(Path::new(BASE), 1));
        perform(&self.fs, &EmptyLibrary, &DiskTask { directory, path: vpath(PATH), action })
    }

    fn restart(&mut self, mut survival: Survival) {
        self.power.cut();
        self.fs.crash(&mut survival);
        self.power.on();
    }

    /// Whether the old tree is still there, which then is whole.
    fn check(&self, old: &Sample, new: &Sample, case: &str) -> bool {
        assert_eq!(read_tree(&self.fs, Path::new(BASE), Path::new("image")), new.items, "{case}");
        let kept = read_tree(&self.fs, Path::new(BASE), &place().previous());
        assert!(kept.is_empty() || kept == old.items, "{case}: a half is kept: {:?}", kept.keys());
        !kept.is_empty()
    }

    /// Names in the staging directory.
    fn left(&self) -> usize {
        read_tree(&self.fs, Path::new(BASE), &PathBuf::from(".ciruela-staging")).len()
    }
}

#[test]
fn a_crash_before_each_operation() {
    let (old, new) = (Sample::new(1), Sample::new(2));
    for (number, abilities) in [Abilities::renames(true), Abilities::renames(false)].into_iter().enumerate() {
        let ready = Machine::new(abilities, &old, &new);
        let (mut whole, mut gone) = (0, 0);
        let ways = [DiskAction::Forgo, DiskAction::Collect { previous: Previous::Dropped }];
        for (way, action) in ways.into_iter().enumerate() {
            for operation in 0.. {
                let machine = ready.copy();
                machine.power.crash_after(operation);
                if machine.perform(action.clone()).is_ok() && !machine.power.crashed() {
                    assert!(operation > 10, "{operation} operations");
                    assert!(!machine.check(&old, &new, "without a crash") && machine.left() <= 1);
                    break;
                }
                for seed in seeds(12) {
                    let case = format!("abilities {number}, way {way}, operation {operation}, seed {seed}");
                    let mut machine = ready.copy();
                    machine.power.crash_after(operation);
                    let _ = machine.perform(action.clone());
                    machine.restart(Survival::of_seed(seed));
                    let kept = machine.check(&old, &new, &case);
                    if kept {
                        whole += 1;
                    } else {
                        gone += 1;
                    }
                    // A start: what is garbage is swept, what is kept is known to be, or not to be.
                    let claims = Claims::<MemoryFs>::new(Some([place().staging_name().to_owned()].into()));
                    claims.ensure(&machine.fs, &place()).expect("claimed");
                    let collect = DiskAction::Collect { previous: Previous::Kept(machine.root) };
                    assert_eq!(machine.perform(collect), Ok(DiskResult::Previous { kept }), "{case}");
                    assert_eq!(machine.check(&old, &new, &case), kept, "{case}");
                    machine.perform(action.clone()).unwrap_or_else(|failure| panic!("{case}: {failure}"));
                    assert!(!machine.check(&old, &new, &case) && machine.left() <= 1, "{case}: something is left");
                }
            }
        }
        assert!(whole > 0 && gone > 0, "{whole} times whole, {gone} times gone");
    }
}
