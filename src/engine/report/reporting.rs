//! The side of a node that deploys: which watching node is told what, and when again.

use std::collections::BTreeMap;

use crate::engine::contract::{Engine, Outbox};
use crate::format::report::{self, Standing};
use crate::model::change::Rank;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Gossip: somebody connected to the node waits for the change at the path, or does no more.
    Watched { node: NodeId, path: VPath, change: Rank, on: bool },
    /// How the change fares here; nothing is kept of changes that nobody watches, so it is also to be said when a watch
    /// begins.
    Standing { path: VPath, change: ChangeId, standing: Standing },
    /// Gossip: the node has got the report.
    Acked { node: NodeId, number: u64 },
    /// The node is down, or left.
    Down { node: NodeId },
}

/// What should be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the report, again and again until it is acknowledged, instead of an older one that may be on its way still.
    /// Numbers grow and are never used again.
    Send { to: NodeId, number: u64, replaces: Option<u64>, body: Vec<u8> },
    /// Don't send the report any more. No answer.
    Forget { to: NodeId, number: u64 },
}

/// Reports to all watching nodes.
#[derive(Debug, Default)]
pub struct Reporting {
    watches: BTreeMap<(VPath, ChangeId), Watch>,
    /// Which watch a report is of that wasn't acknowledged yet.
    open: BTreeMap<(NodeId, u64), (VPath, ChangeId)>,
    last_number: u64,
}

/// A change that somebody watches.
#[derive(Debug, Default)]
struct Watch {
    /// Of the change.
    stamp: Stamp,
    /// Whether it overrides.
    overrides: bool,
    /// With the number of the last report to each, while that isn't acknowledged.
    watchers: BTreeMap<NodeId, Option<u64>>,
    standing: Option<Standing>,
    /// When progress may be told again.
    next: Time,
    /// The last progress wasn't told.
    late: bool,
}

impl Reporting {
    /// The changes at a path that somebody watches: what holds there now, or didn't come to hold.
    pub fn watched(&self, path: &VPath) -> impl Iterator<Item = Rank> {
        let first = (path.clone(), ChangeId::new([0; ChangeId::LEN]));
        let here = self.watches.range(first..).take_while(move |((at, _), _)| at == path);
        here.map(|((_, id), watch)| Rank { stamp: watch.stamp, id: *id, overrides: watch.overrides })
    }

    /// Whether the watchers of a change know how it ended here.
    pub fn has_ended(&self, path: &VPath, change: ChangeId) -> bool {
        let watch = self.watches.get(&(path.clone(), change));
        watch.and_then(|watch| watch.standing.as_ref()).is_some_and(|standing| standing.result.is_some())
    }

    /// Reports that weren't acknowledged yet.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn watch(&mut self, node: NodeId, path: VPath, change: Rank, outbox: &mut Outbox<Effect>) {
        let key = &(path, change.id);
        let known = self.watches.contains_key(key);
        if !known && self.watches.len() >= limits::WATCHES_MAX {
            return;
        }
        let Rank { stamp, overrides, .. } = change;
        let watch = self.watches.entry(key.clone()).or_insert(Watch { stamp, overrides, ..Watch::default() });
        if watch.watchers.len() >= limits::WATCHERS_MAX || watch.watchers.contains_key(&node) {
            return;
        }
        watch.watchers.insert(node, None);
        self.tell(key, Some(node), outbox);
    }

    fn unwatch(&mut self, node: NodeId, key: &(VPath, ChangeId), outbox: &mut Outbox<Effect>) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        if let Some(Some(number)) = watch.watchers.remove(&node) {
            self.open.remove(&(node, number));
            outbox.push(Effect::Forget { to: node, number });
        }
        if watch.watchers.is_empty() {
            self.watches.remove(key);
        }
    }

    fn stands(&mut self, now: Time, key: &(VPath, ChangeId), standing: Standing, outbox: &mut Outbox<Effect>) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        let standing = standing.cut();
        if watch.standing.as_ref() == Some(&standing) {
            return;
        }
        let only_progress = watch.standing.as_ref().is_some_and(|before| is_progress(before, &standing));
        watch.standing = Some(standing);
        if only_progress && now < watch.next {
            watch.late = true;
            return;
        }
        self.tell_all(now, key, outbox);
    }

    fn tell_all(&mut self, now: Time, key: &(VPath, ChangeId), outbox: &mut Outbox<Effect>) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        watch.late = false;
        watch.next = now + limits::REPORT_PROGRESS_INTERVAL;
        self.tell(key, None, outbox);
    }

    /// Tells one watcher, or all, how the change stands.
    fn tell(&mut self, key: &(VPath, ChangeId), only: Option<NodeId>, outbox: &mut Outbox<Effect>) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        let Some(standing) = &watch.standing else { return };
        let body = report::encode(&key.1, standing);
        for (to, last) in watch.watchers.iter_mut().filter(|(node, _)| only.is_none_or(|only| only == **node)) {
            self.last_number += 1;
            let (to, number) = (*to, self.last_number);
            let replaces = last.replace(number);
            if let Some(replaced) = replaces {
                self.open.remove(&(to, replaced));
            }
            self.open.insert((to, number), key.clone());
            outbox.push(Effect::Send { to, number, replaces, body: body.clone() });
        }
    }

    fn acked(&mut self, node: NodeId, number: u64) {
        let Some(key) = self.open.remove(&(node, number)) else { return };
        if let Some(last) = self.watches.get_mut(&key).and_then(|watch| watch.watchers.get_mut(&node)) {
            *last = None;
        }
    }

    fn down(&mut self, node: NodeId, outbox: &mut Outbox<Effect>) {
        let watched = self.watches.iter().filter(|(_, watch)| watch.watchers.contains_key(&node));
        let keys: Vec<_> = watched.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.unwatch(node, &key, outbox);
        }
    }
}

/// Whether only numbers of bytes differ, and it goes on.
fn is_progress(before: &Standing, after: &Standing) -> bool {
    let words = |standing: &Standing| {
        let Standing { state, result, reason, waiting, .. } = standing.clone();
        (state, result, reason, waiting)
    };
    after.result.is_none() && words(before) == words(after)
}

impl Engine for Reporting {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Watched { node, path, change, on: true } => self.watch(node, path, change, outbox),
            Input::Watched { node, path, change, on: false } => self.unwatch(node, &(path, change.id), outbox),
            Input::Standing { path, change, standing } => self.stands(now.time, &(path, change), standing, outbox),
            Input::Acked { node, number } => self.acked(node, number),
            Input::Down { node } => self.down(node, outbox),
        }
    }

    /// Changes with every input: when progress that was held back is to be told.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        let late = self.watches.values().filter(|watch| watch.late);
        late.map(|watch| (watch.next, "report: tell progress")).min()
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let due = self.watches.iter().filter(|(_, watch)| watch.late && watch.next <= now.time);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            self.tell_all(now.time, &key, outbox);
        }
    }
}
