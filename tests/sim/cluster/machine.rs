//! A host: disk, database storage, and the node that runs on it between two crashes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ciruela::driver::db::{self, Db, Write};
use ciruela::driver::disk::survey::survey;
use ciruela::driver::disk::task::perform;
use ciruela::driver::index_store::IndexStore;
use ciruela::driver::library::{DbLibrary, committed, scrubbed};
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::node::{Effect, IndexProblem, Input, Node, Row, Setup, Snapshot};
use ciruela::format::index;
use ciruela::model::directory::NodeConfig;
use ciruela::model::estimate::NoEstimate;
use ciruela::model::ids::{ImageId, MachineId};
use ciruela::model::image::Image;
use ciruela::model::peer::{ClusterKey, Host};
use ciruela::model::time::{Now, Stamp, Time};

use super::wires::address;
use crate::disk::memory_db::MemoryStorage;
use crate::disk::memory_fs::{Abilities, MemoryFs};
use crate::disk::power::{Power, Random, Survival};

pub(super) const BASE: &str = "/srv/images";
const DB_DIR: &str = "/var/lib/ciruela";

pub(super) struct Machine {
    pub(super) host: Host,
    pub(super) power: Power,
    pub(super) fs: MemoryFs,
    db_fs: MemoryFs,
    storage: MemoryStorage,
    config: Arc<NodeConfig>,
    /// `None` while it is down.
    pub(super) running: Option<Running>,
    /// Counts boots: answers of an earlier one are nobody's.
    pub(super) boot: u64,
    /// The last end was no crash: everything survives.
    pub(super) ended_well: bool,
    /// What all machines of a cluster know.
    pub(super) key: Option<ClusterKey>,
    /// Of a thousand answers with content, how many are wrong.
    pub(super) lies_permille: u64,
    /// How long it takes until a row is durable.
    pub(super) write_time: Duration,
    /// Of the last boot.
    incarnation: u64,
}

/// What a crash ends.
pub(super) struct Running {
    pub(super) node: Node,
    db: Db,
    pub(super) indexes: IndexStore<MemoryFs>,
}

/// Wall-clock time in the simulation.
pub(super) fn clock(at: Duration) -> Now {
    let millis = u64::try_from(at.as_millis()).expect("short");
    Now { time: Time::new(at), stamp: Stamp(1_800_000_000_000 + millis) }
}

impl Machine {
    pub(super) fn new(number: u8, config: Arc<NodeConfig>, abilities: Abilities) -> Self {
        let power = Power::default();
        Self {
            host: Host { machine_id: MachineId::new([number; 16]), hostname: format!("node{number}").into() },
            fs: MemoryFs::new(power.clone(), Path::new(BASE), abilities),
            db_fs: MemoryFs::new(power.clone(), Path::new(DB_DIR), abilities),
            storage: MemoryStorage::new(power.clone()),
            power,
            config,
            running: None,
            boot: 0,
            ended_well: false,
            key: None,
            lies_permille: 0,
            write_time: Duration::from_millis(1),
            incarnation: 0,
        }
    }

    /// One that has the key which all have that know each other.
    pub(super) fn in_cluster(number: u8, config: Arc<NodeConfig>, abilities: Abilities) -> Self {
        Self { key: Some(ClusterKey([9; 32])), ..Self::new(number, config, abilities) }
    }

    /// Starts the daemon; `None` if the machine crashed meanwhile.
    pub(super) fn boot(&mut self, at: Duration, random: &mut Random, outbox: &mut Outbox<Effect>) -> Option<()> {
        self.boot += 1;
        let db = Db::open_with(self.storage.clone()).ok()?;
        let loaded = db.load().ok()?;
        assert!(loaded.bad_rows.is_empty(), "the database has bad rows: {:?}", loaded.bad_rows);
        let db::Snapshot { heads, intents, committed, damaged, scrubbed, .. } = loaded;
        let snapshot = Snapshot { heads, intents, committed, damaged, scrubbed };
        let indexes = IndexStore::open(self.db_fs.clone(), Path::new(DB_DIR)).ok()?;
        let incarnation = db.next_incarnation().ok()?;
        assert!(incarnation > self.incarnation, "incarnation {incarnation} after {}", self.incarnation);
        self.incarnation = incarnation;
        let mut drawn = [0; 32];
        drawn.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
        let mut node = Node::new(Setup {
            host: self.host.clone(),
            cluster: None,
            version: "simulated",
            address: address(usize::from(self.host.machine_id.as_bytes()[0]) - 1),
            incarnation,
            key: self.key.clone(),
            random: drawn,
            config: self.config.clone(),
            snapshot,
        });
        node.start(clock(at), outbox);
        self.running = Some(Running { node, db, indexes });
        Some(())
    }

    /// The power comes back: what wasn't durable survives as `survival` says.
    pub(super) fn power_on(&mut self, mut survival: Survival) {
        self.running = None;
        if std::mem::take(&mut self.ended_well) {
            survival = Survival::Everything;
        }
        self.power.on();
        self.fs.crash(&mut survival);
        self.db_fs.crash(&mut survival);
        self.storage.crash(&mut survival);
    }

    pub(super) fn handle(&mut self, at: Duration, input: Input, outbox: &mut Outbox<Effect>) {
        if let Some(running) = &mut self.running {
            running.node.handle(clock(at), input, outbox);
        }
    }

    /// Carries out disk and database work, and gives the answer; `None` for effects of other kinds.
    pub(super) fn work(&self, effect: Effect) -> Option<Input> {
        let running = self.running.as_ref()?;
        let images = |id| {
            let text = running.indexes.load(id).ok().flatten()?;
            index::parse_for(id, &text).ok().map(Arc::new)
        };
        Some(match effect {
            Effect::Disk { job, task } => {
                let library = DbLibrary { db: &running.db, images: &images };
                Input::Disk { job, result: perform(&self.fs, &library, &task) }
            }
            Effect::Write { job, rows } => {
                let rows: Vec<Write> = rows.into_iter().flat_map(|row| writes(row, &images)).collect();
                Input::Written { job, result: running.db.write(&rows).map_err(|error| error.failure()) }
            }
            Effect::Survey { job, directory } => Input::Surveyed { job, result: survey(&self.fs, &directory) },
            Effect::Estimate { job, .. } => {
                Input::Estimated { job, result: Err(NoEstimate::Unknown("not simulated".to_owned())) }
            }
            Effect::LoadIndex { image } => Input::IndexLoaded { image, index: images(image) },
            Effect::ListIndexes => Input::IndexesListed { images: running.indexes.list().unwrap_or_default() },
            Effect::RemoveIndexes { images } => {
                for image in images {
                    let _ = running.indexes.remove(image);
                }
                Input::IndexesRemoved
            }
            Effect::CheckIndex { image, data } => {
                let result = match index::parse_for(image, &data) {
                    Err(error) => Err(IndexProblem::Lie(error.to_string())),
                    Ok(parsed) => match running.indexes.store(image, &data) {
                        Ok(()) => Ok(Arc::new(parsed)),
                        Err(error) => Err(IndexProblem::NotStored(error.failure())),
                    },
                };
                Input::IndexChecked { image, result }
            }
            Effect::Tell { ticket, .. } => Input::Told { ticket, alive: true },
            Effect::Serve { connection, .. } => Input::Served { connection },
            Effect::Send { .. }
            | Effect::Close { .. }
            | Effect::Connect { .. }
            | Effect::Datagram { .. }
            | Effect::Note(_) => return None,
        })
    }
}

fn writes(row: Row, images: &dyn Fn(ImageId) -> Option<Arc<Image>>) -> Vec<Write> {
    match row {
        Row::Head { path, record } => vec![Write::PutHead(path, record)],
        Row::NoHead { path } => vec![Write::DeleteHead(path)],
        Row::Intent { path, record } => vec![Write::PutIntent(path, record)],
        Row::Incarnation(number) => vec![Write::PutIncarnation(number)],
        Row::Damaged { path, record } => vec![Write::PutDamage(path, record)],
        Row::Scrubbed { path, verdict, sound } => scrubbed(path, verdict, sound),
        Row::NoPrevious { path, root } => vec![Write::DeletePrevious(path, root)],
        Row::NotCommitted { path } => vec![Write::DeleteCommitted(path.clone()), Write::DeleteIntent(path)],
        Row::Committed { path, directory, record } => committed(&directory, path, record, images),
    }
}
