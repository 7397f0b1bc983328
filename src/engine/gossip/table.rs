//! The members as the rest of the daemon sees them: who is up, what it says about itself, who is down since when.
//!
//! Who is up is what the SWIM library says. A member is told of when it is up *and* has said what it carries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use foca::State;

use super::Effect;
use super::values::{Known, Taken};
use crate::engine::contract::Outbox;
use crate::format::gossip::MemberId;
use crate::model::change::Rank;
use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::peer::{NodeId, NodeInfo};
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// A node whichever its start: its machine and address.
pub(super) type Key = (MachineId, SocketAddr);

pub(super) fn key(node: &NodeId) -> Key {
    (node.machine_id, node.address)
}

/// Whether a member takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It does, or is suspected.
    Up,
    /// It was found dead or has left.
    Down { since: Time, left: bool },
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: MemberId,
    pub(super) life: Life,
    /// [`Effect::Up`] was given, and no [`Effect::Down`] since.
    told: bool,
    /// Its SWIM incarnation, and whether it is suspected with it.
    pub(super) swim: u16,
    pub(super) suspected: bool,
    /// Of which start the values are.
    values_of: u64,
    pub(super) values: Known,
    /// Since when this start of it is up.
    pub(super) up_since: Time,
    twin_told: bool,
}

/// All members but this node itself.
pub(super) struct Table {
    me: Key,
    entries: BTreeMap<Key, Entry>,
    /// Those that are up.
    up: BTreeSet<Key>,
    /// Those that are up and haven't said what they carry.
    silent: BTreeSet<Key>,
    /// Those at which somebody waits for something.
    watching: BTreeSet<Key>,
    downs: BTreeSet<(Time, Key)>,
    /// Nodes that may turn out to be twins, and when to look again.
    twins: BTreeSet<(Time, Key)>,
}

impl Table {
    pub(super) fn new(me: &NodeId) -> Self {
        Self {
            me: key(me),
            entries: BTreeMap::new(),
            up: BTreeSet::new(),
            silent: BTreeSet::new(),
            watching: BTreeSet::new(),
            downs: BTreeSet::new(),
            twins: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Entry> {
        self.entries.get(&key(node))
    }

    pub(super) fn by_key(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All of them, in the order of their keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Whether no unknown member is taken.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= limits::MEMBERS_MAX
    }

    pub(super) fn up_count(&self) -> usize {
        self.up.len()
    }

    pub(super) fn is_up(&self, key: &Key) -> bool {
        self.up.contains(key)
    }

    pub(super) fn up_ids(&self) -> impl Iterator<Item = MemberId> {
        self.up.iter().filter_map(|key| self.entries.get(key)).map(|entry| entry.id)
    }

    /// Members that were told of: live ones that have said what they carry.
    pub(super) fn told(&self) -> impl Iterator<Item = (&NodeId, &NodeInfo)> {
        let told = self.entries.values().filter(|entry| entry.told);
        told.filter_map(|entry| Some((&entry.id.node, entry.values.info()?)))
    }

    pub(super) fn is_told(&self, node: &NodeId) -> bool {
        self.get(node).is_some_and(|entry| entry.told && entry.id.node == *node)
    }

    /// Members which were found dead and have not left.
    pub(super) fn dead(&self) -> impl Iterator<Item = (&Entry, Time)> {
        self.downs.iter().filter_map(|(_, key)| self.entries.get(key)).filter_map(|entry| match entry.life {
            Life::Down { since, left: false } => Some((entry, since)),
            Life::Down { .. } | Life::Up => None,
        })
    }

    /// Members that are down, and what is known of them.
    pub(super) fn down(&self) -> impl Iterator<Item = (&Entry, Time, bool)> {
        self.downs.iter().filter_map(|(_, key)| self.entries.get(key)).filter_map(|entry| match entry.life {
            Life::Down { since, left } => Some((entry, since, left)),
            Life::Up => None,
        })
    }

    /// Members without values for some time.
    pub(super) fn silent(&self, now: Time) -> impl Iterator<Item = &Entry> {
        let entries = self.silent.iter().filter_map(|key| self.entries.get(key));
        entries.filter(move |entry| now.since(entry.up_since) >= limits::ASK_AFTER)
    }

    pub(super) fn watchers<'a>(&'a self, path: &'a VPath) -> impl Iterator<Item = (&'a NodeId, &'a Rank)> {
        let watching = self.watching.iter().filter_map(|key| self.entries.get(key));
        watching.filter(|entry| entry.told).flat_map(move |entry| {
            let here = entry.values.watches().filter(move |watch| watch.0 == *path);
            here.map(|watch| (&entry.id.node, &watch.1))
        })
    }

    /// What somebody says about a member's state; the first suspicion is told.
    pub(super) fn state(&mut self, id: &MemberId, swim: u16, state: State, outbox: &mut Outbox<Effect>) {
        let Some(entry) = self.entries.get_mut(&key(&id.node)).filter(|entry| entry.id == *id) else { return };
        let newer = swim > entry.swim;
        entry.swim = entry.swim.max(swim);
        match state {
            State::Suspect if newer || (swim == entry.swim && !entry.suspected) => {
                entry.suspected = true;
                if entry.told {
                    outbox.push(Effect::Suspect { node: id.node });
                }
            }
            State::Alive if newer => entry.suspected = false,
            State::Alive | State::Suspect | State::Down => {}
        }
    }

    /// The library says that it takes part. `true`: it is new among those that do.
    pub(super) fn member_up(&mut self, now: Time, id: MemberId, outbox: &mut Outbox<Effect>) -> bool {
        let key = key(&id.node);
        if key == self.me {
            return false;
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            id,
            life: Life::Up,
            told: false,
            swim: 0,
            suspected: false,
            values_of: id.node.incarnation,
            values: Known::default(),
            up_since: now,
            twin_told: false,
        });
        if let Life::Down { since, .. } = entry.life {
            self.downs.remove(&(since, key));
        }
        (entry.id, entry.life, entry.up_since) = (id, Life::Up, now);
        (entry.swim, entry.suspected) = (0, false);
        if entry.values.info().is_none() {
            self.silent.insert(key);
        }
        let new = self.up.insert(key);
        self.look_for_twins(now, key);
        self.tell(key, outbox);
        new
    }

    /// The library says that it is dead.
    pub(super) fn member_down(&mut self, now: Time, id: MemberId, outbox: &mut Outbox<Effect>) {
        let key = key(&id.node);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let left = entry.values.is_left();
        entry.life = Life::Down { since: now, left };
        self.untell(key, outbox);
        self.up.remove(&key);
        self.silent.remove(&key);
        self.downs.insert((now, key));
    }

    /// The library says that a member has a new identity. When only the renewal differs it is the same node still.
    pub(super) fn member_renamed(&mut self, now: Time, old: MemberId, new: MemberId, outbox: &mut Outbox<Effect>) {
        let key = key(&new.node);
        if old.node != new.node {
            self.untell(key, outbox);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        (entry.id, entry.swim, entry.suspected) = (new, 0, false);
        if entry.values_of < new.node.incarnation {
            (entry.values_of, entry.values) = (new.node.incarnation, Known::default());
            self.watching.remove(&key);
            if entry.life == Life::Up {
                entry.up_since = now;
                self.silent.insert(key);
            }
        }
        self.tell(key, outbox);
    }

    /// Takes something new about a member's values; `false`: of a start that is over, or of nobody known.
    pub(super) fn values(
        &mut self,
        origin: &MemberId,
        outbox: &mut Outbox<Effect>,
        take: impl FnOnce(&mut Known) -> Taken,
    ) -> Option<Taken> {
        let key = key(&origin.node);
        let entry = self.entries.get_mut(&key).filter(|entry| entry.values_of == origin.node.incarnation)?;
        let node = entry.id.node;
        let taken = take(&mut entry.values);
        if entry.values.watches().next().is_some() {
            self.watching.insert(key);
        } else {
            self.watching.remove(&key);
        }
        match &taken {
            Taken::About => {
                let news = entry.told;
                self.silent.remove(&key);
                if news && let Some(info) = self.entries.get(&key).and_then(|entry| entry.values.info()) {
                    outbox.push(Effect::Up { node, info: info.clone() });
                }
                self.tell(key, outbox);
            }
            Taken::Watch { off, on } if entry.told => {
                for (watch, on) in [(off, false), (on, true)] {
                    if let Some((path, change)) = watch.clone() {
                        outbox.push(Effect::Watched { node, path, change, on });
                    }
                }
            }
            Taken::Left if let Life::Down { left, .. } = &mut entry.life => *left = true,
            Taken::Watch { .. } | Taken::Left | Taken::Old | Taken::Wrong | Taken::Part => {}
        }
        Some(taken)
    }

    fn tell(&mut self, key: Key, outbox: &mut Outbox<Effect>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(info) = entry.values.info().filter(|_| entry.life == Life::Up && !entry.told) else { return };
        outbox.push(Effect::Up { node: entry.id.node, info: info.clone() });
        entry.told = true;
        for (path, change) in entry.values.watches() {
            let (path, change) = (path.clone(), *change);
            outbox.push(Effect::Watched { node: entry.id.node, path, change, on: true });
        }
    }

    fn untell(&mut self, key: Key, outbox: &mut Outbox<Effect>) {
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.told
        {
            entry.told = false;
            outbox.push(Effect::Down { node: entry.id.node, left: entry.values.is_left() });
        }
    }

    fn look_for_twins(&mut self, now: Time, key: Key) {
        if self.is_twin(key) {
            self.twins.insert((now + limits::TWIN_AFTER, key));
        }
    }

    fn is_twin(&self, key: Key) -> bool {
        let lowest = SocketAddr::from(([0, 0, 0, 0], 0));
        let same = self.up.range((key.0, lowest)..).take_while(|other| other.0 == key.0);
        self.up.contains(&key) && (self.me.0 == key.0 || same.count() > 1)
    }

    /// When to call [`Self::time_out`].
    pub(super) fn deadline(&self) -> Option<Time> {
        let twin = self.twins.first().map(|(due, _)| *due);
        let down = self.downs.first().map(|(since, _)| *since + limits::DOWN_REMEMBERED);
        twin.into_iter().chain(down).min()
    }

    /// Tells of twins, forgets who has been down for long.
    pub(super) fn time_out(&mut self, now: Time, outbox: &mut Outbox<Effect>) {
        while let Some((due, key)) = self.twins.first().copied()
            && due <= now
        {
            self.twins.pop_first();
            let twin = self.is_twin(key);
            if let Some(entry) = self.entries.get_mut(&key).filter(|entry| twin && !entry.twin_told) {
                entry.twin_told = true;
                outbox.push(Effect::Twin { node: entry.id.node });
            }
        }
        while let Some((since, key)) = self.downs.first().copied()
            && since + limits::DOWN_REMEMBERED <= now
        {
            self.downs.pop_first();
            self.entries.remove(&key);
            self.watching.remove(&key);
        }
    }
}
