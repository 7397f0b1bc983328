//! The daemon's decisions: composes access, deploy and fetch, and speaks with connections.
//!
//! It knows what holds at each path (heads, durable before they are acknowledged), what is on disk (committed), who watches,
//! and which wire request belongs to which question. How anything is carried out is the event loop's.

mod answers;
mod catching_up;
mod cluster;
mod connections;
mod damage;
mod deletes;
mod deploying;
mod heads;
mod index_sweep;
mod indexes;
mod interface;
mod keeping;
mod links;
mod messages;
mod neighbours;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "tests look for some effects")]
mod plan_tests;
mod plans;
mod proposals;
mod register;
mod scrubbing;
mod serve;
mod siblings;
mod standing;
mod status;
mod talk;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "tests look for some effects")]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::catching_up::Unasked;
use self::cluster::Cluster;
use self::connections::Connections;
use self::heads::Heads;
use self::index_sweep::IndexSweep;
pub use self::interface::{Effect, End, IndexProblem, Input, JobId, Note, Row, Setup, Snapshot, Sound};
use self::links::Links;
use self::neighbours::Neighbours;
use self::plans::Plans;
use self::proposals::Proposals;
use self::register::Registration;
use self::serve::Uploads;
pub use self::serve::{ServedTree, Serving};
pub use self::status::{MemberStatus, NodeStatus, PathStatus};
use self::watch::Watch;
use super::catch_up::{self, CatchUp};
use super::contract::{Engine, Outbox, earlier};
use super::deploy::{self, Deploys};
use super::fetch::{self, Fetches};
use super::gossip;
use super::removal::Removals;
use super::retention::Retentions;
use super::scrub::{self, Scrubs};
use crate::model::directory::NodeConfig;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::peer::{ConnectionId, Host, NodeId};
use crate::model::run::Run;
use crate::model::scrub::Verdict;
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

/// Whose disk work or write it is.
#[derive(Debug)]
enum Purpose {
    Deploy(VPath),
    Store(VPath, Run),
    Register(Registration),
    Incarnation(u64),
    Damage,
    Forgone,
    Survey(Box<str>),
    Mark(VPath, ChangeId, bool),
    Remove(VPath),
    Forget(VPath),
    Delete(VPath),
    ForgetDeleted(VPath),
    Estimate(ConnectionId),
    Scrub(VPath),
    Verdict,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    host: Host,
    cluster_name: Option<Box<str>>,
    version: &'static str,
    config: Arc<NodeConfig>,
    heads: Heads,
    connections: Connections,
    deploys: Deploys,
    fetches: Fetches,
    watch: Watch,
    links: Links,
    cluster: Cluster,
    neighbours: Neighbours,
    proposals: Proposals,
    catch_ups: CatchUp,
    unasked: Unasked,
    uploads: Uploads,
    retentions: Retentions,
    plans: Plans,
    removals: Removals,
    /// Paths where a delete holds and is to be carried out as soon as nothing is under way there; whether something was.
    deletes: BTreeMap<VPath, bool>,
    scrubs: Scrubs,
    /// What the database knew of earlier scrubs, until the start.
    verdicts: BTreeMap<VPath, Verdict>,
    index_sweep: IndexSweep,
    /// The wall clock's time at the last input.
    stamp: Stamp,
    /// Who waits for an index, by image.
    index_waiters: BTreeMap<ImageId, BTreeSet<VPath>>,
    jobs: BTreeMap<JobId, Purpose>,
    last_job: u64,
}

impl Node {
    /// A node with what its database held. Follow with [`Node::start`].
    pub fn new(setup: Setup) -> Self {
        let Setup { host, cluster, version, address, incarnation, key, random, config, snapshot } = setup;
        let me = NodeId { address, machine_id: host.machine_id, incarnation };
        let seed = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().expect("eight bytes"));
        let mut snapshot = snapshot;
        let verdicts = std::mem::take(&mut snapshot.scrubbed);
        let heads = Heads::new(snapshot);
        let session = random[..16].try_into().expect("sixteen bytes");
        let info = cluster::info(&host, version, &config);
        Self {
            links: Links::new(me, key.clone(), seed(16)),
            neighbours: Neighbours::new(seed(24).rotate_left(1)),
            cluster: Cluster::new(me, info, key.as_ref(), session, seed(24)),
            proposals: Proposals::default(),
            catch_ups: CatchUp::default(),
            unasked: Unasked::default(),
            uploads: Uploads::default(),
            host,
            cluster_name: cluster,
            version,
            config,
            heads,
            connections: Connections::default(),
            deploys: Deploys::default(),
            fetches: Fetches::new(seed(16).rotate_left(1)),
            watch: Watch::default(),
            retentions: Retentions::default(),
            plans: Plans::default(),
            removals: Removals::default(),
            deletes: BTreeMap::new(),
            scrubs: Scrubs::default(),
            verdicts,
            index_sweep: IndexSweep::default(),
            stamp: Stamp::default(),
            index_waiters: BTreeMap::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
        }
    }

    /// Compares what should be with what is, and goes on where the last run stopped.
    pub fn start(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.stamp = now.stamp;
        for path in self.heads.paths() {
            let change = self.heads.change(&path).map(|(id, _)| id);
            self.catch_up(now, catch_up::Input::Head { path, change }, outbox);
        }
        self.set_rates(now, outbox);
        self.tell_info(now, None, outbox);
        self.gossip(now, gossip::Input::Start, outbox);
        for path in self.heads.paths() {
            self.order(now, &path, outbox);
            self.spread(now, &path, outbox);
            self.carry_out_delete(now, &path, outbox);
        }
        self.keeping_configured(now, outbox);
        self.scrubs_start(now, outbox);
        self.index_sweep.start(now);
        self.begin_removals(now, outbox);
    }

    fn job(&mut self, purpose: Purpose) -> JobId {
        self.last_job += 1;
        let job = JobId(self.last_job);
        self.jobs.insert(job, purpose);
        job
    }

    fn set_rates(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.uploads.pace.set(self.config.rates.upload);
        self.serve_waiting(now, outbox);
        self.fetch(now, fetch::Input::MaxDownloadRate(self.config.rates.download), outbox);
    }

    fn configured(&mut self, now: Now, config: Arc<NodeConfig>, outbox: &mut Outbox<Effect>) {
        let before = std::mem::replace(&mut self.config, config);
        for path in self.heads.paths() {
            if self.config.serves(&path).is_none() {
                self.deploy(now, deploy::Input::Cancel { path }, outbox);
                continue;
            }
            let idle = !self.heads.is_committed(&path) && self.deploys.status(&path).is_none();
            if idle || before.directory_of(&path) != self.config.directory_of(&path) {
                self.order(now, &path, outbox);
                self.spread(now, &path, outbox);
            }
            if self.heads.is_deleted(&path) {
                self.carry_out_delete(now, &path, outbox);
            }
        }
        self.keeping_configured(now, outbox);
        self.scrubs_configured(now, outbox);
        self.deploy(now, deploy::Input::Retry, outbox);
        self.set_rates(now, outbox);
        self.tell_info(now, Some(&before), outbox);
    }
}

impl Engine for Node {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        self.stamp = now.stamp;
        match input {
            Input::Connected { connection, version, end } => self.connected(now, connection, version, end, outbox),
            Input::NotConnected { address, reason } => self.dial_failed(now, address, &reason, outbox),
            Input::Datagram { from, data } => self.gossip(now, gossip::Input::Datagram { from, data }, outbox),
            Input::Leave => self.gossip(now, gossip::Input::Leave, outbox),
            Input::Peers(peers) => {
                self.links.trust(&peers);
                self.gossip(now, gossip::Input::Peers(peers), outbox);
            }
            Input::Message { connection, message } => self.message(now, connection, message, outbox),
            Input::Disconnected { connection } => {
                let lost = self.connections.remove(connection);
                self.plans.forget(connection);
                self.unfollow(now, connection, outbox);
                if let Some(lost) = lost {
                    self.link_lost(now, lost, outbox);
                }
                self.fetch(now, fetch::Input::Gone { connection }, outbox);
            }
            Input::Disk { job, result } => self.disk_done(now, job, result, outbox),
            Input::Written { job, result } => self.written(now, job, result, outbox),
            Input::IndexLoaded { image, index } => self.index_loaded(now, image, index, outbox),
            Input::IndexChecked { image, result } => self.index_checked(now, image, result, outbox),
            Input::IndexesListed { images } => self.indexes_listed(now, &images, outbox),
            Input::IndexesRemoved => self.indexes_removed(now, outbox),
            Input::Served { connection } => self.connections.served(connection),
            Input::Estimated { job, result } => self.estimated(job, result, outbox),
            Input::Damaged(damage) => self.found_damaged(now, damage, outbox),
            Input::Scrub { ticket, path } => self.scrub_command(now, ticket, path, outbox),
            Input::Told { ticket, alive } => self.scrub(now, scrub::Input::Told { ticket, alive }, outbox),
            Input::Surveyed { job, result } => self.survey_done(now, job, result, outbox),
            Input::Configured(config) => self.configured(now, config, outbox),
        }
        self.begin_removals(now, outbox);
        self.report_progress(now, outbox);
    }

    /// Changes with every input: the earliest of all parts.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        let all = [
            self.deploys.deadline(),
            self.fetches.deadline(),
            self.watch.deadline(),
            self.catch_ups.deadline(),
            self.links_deadline(),
            self.neighbours.deadline(),
            self.cluster.deadline(),
            self.uploads.deadline(),
            self.retentions.deadline(),
            self.removals.deadline(),
            self.plans.deadline(),
            self.scrubs.deadline(),
            self.index_sweep.deadline(),
        ];
        all.into_iter().fold(None, earlier)
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.stamp = now.stamp;
        let mut inner = Outbox::new();
        self.deploys.handle_timeout(now, &mut inner);
        self.deployed(now, inner, outbox);
        let mut inner = Outbox::new();
        self.fetches.handle_timeout(now, &mut inner);
        self.fetched(now, inner, outbox);
        let mut inner = Outbox::new();
        self.catch_ups.handle_timeout(now, &mut inner);
        self.caught_up(now, inner, outbox);
        let mut inner = Outbox::new();
        self.retentions.handle_timeout(now, &mut inner);
        self.retained(now, inner, outbox);
        let mut inner = Outbox::new();
        self.removals.handle_timeout(now, &mut inner);
        self.removed(now, inner, outbox);
        self.plans_timeout(now, outbox);
        self.scrubs_timeout(now, outbox);
        self.index_sweep_timeout(now, outbox);
        self.serve_waiting(now, outbox);
        self.cluster_timeout(now, outbox);
        self.links_timeout(now, outbox);
        self.neighbours_timeout(now, outbox);
        self.begin_removals(now, outbox);
        self.report_progress(now, outbox);
    }
}
