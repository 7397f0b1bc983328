//! Who waits to hear how changes end, here and on all other nodes, and when to tell them how far they are.
//!
//! A client that submitted a change follows its path. As long as somebody does, the other nodes are told (gossip's watches)
//! and report; what they told goes to the client as `Nodes`.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::notify;
use super::{Effect, Node};
use crate::engine::contract::Outbox;
use crate::engine::{access, gossip, report};
use crate::format::report::Standing;
use crate::format::wire::{ImageEvent, Notice, Notification, Outcome};
use crate::model::change::{Change, Rank};
use crate::model::failure::FailureKind;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::origins::Origins;
use crate::model::peer::{ConnectionId, Host, NodeId, ProtocolVersion};
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// Followers of paths, and paths whose progress was not told yet.
#[derive(Debug, Default)]
pub(super) struct Watch {
    followers: BTreeMap<ConnectionId, BTreeMap<VPath, Following>>,
    touched: BTreeSet<VPath>,
    /// Others have reported, or come, or gone, since clients were told last.
    news: bool,
    /// Not before this time again.
    next: Time,
    /// When clients were told last.
    told: Time,
    /// Changes that this node didn't take from another one, and why: who watches them is told.
    refused: BTreeMap<VPath, (ChangeId, String)>,
}

/// What a client waits for at a path.
#[derive(Debug)]
struct Following {
    subject: Subject,
    /// Of the news that it was told last.
    version: u64,
}

/// A change that is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    change: Rank,
    /// The image that it puts there or removes.
    image: ImageId,
    deletes: bool,
}

impl Subject {
    pub(super) fn of(change: &Change) -> Option<Self> {
        let image = change.subject()?;
        Some(Self { change: access::rank(change), image, deletes: change.deletes() })
    }

    /// The image that is there when it is carried out.
    fn outcome_image(&self) -> Option<ImageId> {
        Some(self.image).filter(|_| !self.deletes)
    }
}

impl Watch {
    pub(super) fn is_followed(&self, path: &VPath, change: ChangeId) -> bool {
        self.followers
            .values()
            .any(|paths| paths.get(path).is_some_and(|following| following.subject.change.id == change))
    }

    /// What is waited for at the path.
    fn followed<'a>(&'a self, path: &'a VPath) -> impl Iterator<Item = Subject> + 'a {
        self.followers.values().filter_map(|paths| paths.get(path)).map(|following| following.subject)
    }

    /// Something changed at the path.
    pub(super) fn touch(&mut self, path: &VPath) {
        self.touched.insert(path.clone());
    }

    /// Nodes came or went.
    pub(super) fn members_changed(&mut self) {
        self.news |= !self.followers.is_empty();
    }

    fn of(&self, path: &VPath) -> impl Iterator<Item = ConnectionId> {
        self.followers.iter().filter(|(_, paths)| paths.contains_key(path)).map(|(connection, _)| *connection)
    }

    fn waiting_for(&self, path: &VPath, change: ChangeId) -> Vec<ConnectionId> {
        let waits = |paths: &BTreeMap<VPath, Following>| {
            paths.get(path).is_some_and(|following| following.subject.change.id == change && !following.subject.deletes)
        };
        self.followers.iter().filter(|(_, paths)| waits(paths)).map(|(connection, _)| *connection).collect()
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        (self.news || !self.touched.is_empty()).then_some((self.next, "watch: tell progress"))
    }
}

/// How a change ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending<'a> {
    pub(super) change: ChangeId,
    /// What is, or should have been, there; `None` for a delete.
    pub(super) image: Option<ImageId>,
    /// In one word.
    pub(super) result: &'a str,
    /// Why, if that isn't obvious.
    pub(super) reason: Option<&'a str>,
    pub(super) bytes: Origins,
}

impl Node {
    /// The client wants to hear of the change at the path from now on.
    pub(super) fn follow(
        &mut self,
        now: Now,
        connection: ConnectionId,
        path: &VPath,
        subject: Subject,
        outbox: &mut Outbox<Effect>,
    ) {
        let paths = self.watch.followers.entry(connection).or_default();
        let before = paths.insert(path.clone(), Following { subject, version: 0 });
        let change = subject.change;
        if let Some(before) = before.map(|before| before.subject.change).filter(|before| *before != change) {
            self.unwatch(now, path, before, outbox);
        }
        if self.cluster.watching.watch(path, change.id, subject.image) {
            self.gossip(now, gossip::Input::Watch { path: path.clone(), change, on: true }, outbox);
        }
        self.watch.touch(path);
        self.watch.news = true;
        self.stand(now, path, outbox);
        self.occupied(now, path, outbox);
        self.tell_gone(now, path, outbox);
        self.tell_removed(now, path, outbox);
    }

    /// What stands in the way at the path goes only when a person moves it: who waits is told that this is the end for now.
    pub(super) fn occupied(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some(status) = self.deploys.status(path) else { return };
        let Some(failure) = status.failure.filter(|failure| failure.kind == FailureKind::Occupied) else { return };
        let (change, image, result) = (status.change, Some(status.image), FailureKind::Occupied.name());
        let ending = Ending { change, image, result, reason: Some(&failure.text), bytes: Origins::default() };
        self.outcome(now, path, ending, outbox);
    }

    /// The connection is gone: it waits for nothing any more.
    pub(super) fn unfollow(&mut self, now: Now, connection: ConnectionId, outbox: &mut Outbox<Effect>) {
        for (path, Following { subject, .. }) in self.watch.followers.remove(&connection).unwrap_or_default() {
            self.unwatch(now, &path, subject.change, outbox);
        }
    }

    fn unwatch(&mut self, now: Now, path: &VPath, change: Rank, outbox: &mut Outbox<Effect>) {
        if !self.watch.is_followed(path, change.id) {
            self.cluster.watching.unwatch(path, change.id);
            self.gossip(now, gossip::Input::Watch { path: path.clone(), change, on: false }, outbox);
        }
    }

    /// Tells everyone who waits for it how a change ended here.
    pub(super) fn outcome(&mut self, now: Now, path: &VPath, ending: Ending<'_>, outbox: &mut Outbox<Effect>) {
        let Ending { change, image, result, reason, bytes } = ending;
        let sources = self.sources(path, result);
        self.watch.touched.remove(path);
        let watchers: BTreeSet<_> =
            self.watch.of(path).chain(image.into_iter().flat_map(|image| self.connections.publishers(image))).collect();
        for connection in watchers {
            let host = self.host.clone();
            match self.connections.version(connection) {
                Some(ProtocolVersion::V2) => {
                    let outcome = Outcome {
                        path: path.clone(),
                        image,
                        change,
                        host,
                        result: result.to_owned(),
                        reason: reason.map(str::to_owned),
                        bytes,
                        sources: sources.clone(),
                    };
                    notify(connection, Notification::Outcome(outcome), outbox);
                }
                Some(ProtocolVersion::V1) => {
                    let Some(id) = image else { continue };
                    let event = ImageEvent { id, path: path.clone(), host, forwarded: false };
                    notify(connection, published_ending(event, reason), outbox);
                }
                None => {}
            }
        }
        let standing = Standing { sources, ..Standing::ended(result, reason.map(str::to_owned), bytes) };
        self.tell_all_standing(now, path, change, standing, outbox);
        self.stand_others(now, path, outbox);
    }

    /// A change of another node's was not taken here.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        path: &VPath,
        change: ChangeId,
        reason: String,
        outbox: &mut Outbox<Effect>,
    ) {
        if self.watch.refused.len() >= limits::WATCHES_MAX {
            self.watch.refused.pop_first();
        }
        self.watch.refused.insert(path.clone(), (change, reason));
        self.stand(now, path, outbox);
    }

    /// Tells those who watch the path elsewhere, and remembers for the clients here, how it stands.
    pub(super) fn stand(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        if let Some((change, standing)) = self.standing(path) {
            self.tell_all_standing(now, path, change, standing, outbox);
        }
        self.stand_others(now, path, outbox);
    }

    /// The same for changes that are watched and don't hold: once.
    fn stand_others(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let watched = self.cluster.reporting.watched(path).chain(self.watch.followed(path).map(|one| one.change));
        for rank in watched.collect::<BTreeSet<_>>() {
            let change = rank.id;
            let told = self.cluster.reporting.has_ended(path, change)
                || self.cluster.watching.ended(path, change, self.links.me).is_some();
            let Some(standing) = self.standing_of_other(path, rank).filter(|_| !told) else { continue };
            let follower = self.watch.followed(path).find(|followed| followed.change == rank);
            let Some(image) = follower.map(|followed| followed.outcome_image()) else {
                self.tell_all_standing(now, path, change, standing, outbox);
                continue;
            };
            let Standing { result, reason, bytes, .. } = &standing;
            let (result, reason) = (result.as_deref().unwrap_or_default(), reason.as_deref());
            let bytes = *bytes;
            let ending = Ending { change, image, result, reason, bytes };
            self.outcome(now, path, ending, outbox);
        }
    }

    /// How a change that doesn't hold at the path ended here, if it did.
    fn standing_of_other(&self, path: &VPath, rank: Rank) -> Option<Standing> {
        let head = self.heads.change(path);
        let under_way = self.deploys.status(path).is_some_and(|status| status.change == rank.id);
        if head.is_some_and(|(id, _)| id == rank.id) || under_way {
            return None;
        }
        let directory = self.config.serves(path)?;
        if let Some(reason) = self.catch_ups.withdrawn(rank.id) {
            return Some(Standing::ended("failed", Some(reason.to_owned()), Origins::default()));
        }
        let committed = self.heads.committed_at(path).filter(|committed| committed.change == rank.id);
        if let Some(committed) = committed.filter(|_| directory.append_only) {
            return Some(Standing::ended("done", None, committed.bytes));
        }
        if let Some((_, reason)) = self.watch.refused.get(path).filter(|(change, _)| *change == rank.id) {
            return Some(Standing::ended("refused", Some(reason.clone()), Origins::default()));
        }
        let (_, head) = head?;
        let lost = access::wins(directory, access::rank(&head.change), rank);
        lost.then(|| Standing::ended("superseded", Some(self.why_superseded(path)), Origins::default()))
    }

    fn tell_all_standing(
        &mut self,
        now: Now,
        path: &VPath,
        change: ChangeId,
        standing: Standing,
        outbox: &mut Outbox<Effect>,
    ) {
        if self.watch.is_followed(path, change) {
            self.cluster.watching.local(self.links.me, path, change, standing.clone());
            self.watch.news = true;
        }
        self.tell_standing(now, report::Input::Standing { path: path.clone(), change, standing }, outbox);
    }

    /// Another node has reported.
    pub(super) fn heard(
        &mut self,
        now: Now,
        path: &VPath,
        change: ChangeId,
        from: NodeId,
        outbox: &mut Outbox<Effect>,
    ) {
        self.watch.news = true;
        let Some((report, image)) = self.cluster.watching.ended(path, change, from) else { return };
        // Somebody waits for this one. In a large cluster it goes out together with those that come right behind.
        let members = u32::try_from(self.cluster.size()).unwrap_or(u32::MAX);
        let apart = limits::ENDS_INTERVAL_PER_MEMBER.saturating_mul(members).min(limits::ENDS_INTERVAL_MAX);
        self.watch.next = self.watch.next.min(now.time.max(self.watch.told + apart));
        // Existing clients are told of each host where what they wait for has ended, in their own words.
        let host = Host { machine_id: from.machine_id, hostname: report.host.hostname.clone() };
        for connection in self.watch.waiting_for(path, change) {
            if self.connections.version(connection) == Some(ProtocolVersion::V1) {
                let event = ImageEvent { id: image, path: path.clone(), host: host.clone(), forwarded: true };
                notify(connection, published_ending(event, report.reason.as_deref()), outbox);
            }
        }
    }

    /// Tells followers how far the touched paths are, here and elsewhere, if it is time.
    pub(super) fn report_progress(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.watch.deadline().is_none_or(|(at, _)| now.time < at) {
            return;
        }
        self.watch.next = now.time + limits::PROGRESS_INTERVAL;
        self.watch.told = now.time;
        for path in std::mem::take(&mut self.watch.touched) {
            self.stand(now, &path, outbox);
            let Some(progress) = self.progress(&path) else { continue };
            let followers: Vec<_> = self.watch.of(&path).collect();
            for connection in followers {
                if self.connections.version(connection) == Some(ProtocolVersion::V2) {
                    notify(connection, Notification::Progress(progress.clone()), outbox);
                }
            }
        }
        self.tell_news(outbox);
    }

    /// Tells clients what other nodes said: one message for each path, the rest next time.
    fn tell_news(&mut self, outbox: &mut Outbox<Effect>) {
        self.watch.news = false;
        for (connection, paths) in &mut self.watch.followers {
            if self.connections.version(*connection) != Some(ProtocolVersion::V2) {
                continue;
            }
            for (path, following) in paths {
                let news = self.cluster.watching.news(path, following.subject.change.id, following.version);
                let Some((nodes, version)) = news else { continue };
                following.version = version;
                self.watch.news |= !nodes.complete;
                notify(*connection, Notification::Cluster(Notice::Nodes(nodes)), outbox);
            }
        }
    }
}

fn published_ending(event: ImageEvent, reason: Option<&str>) -> Notification {
    match reason {
        None => Notification::ReceivedImage(event),
        Some(reason) => Notification::AbortedImage { event, reason: reason.to_owned() },
    }
}
