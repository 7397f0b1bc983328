//! Deployments and their fetches: what they want done, and what their ends mean for everything else.

use super::messages::notify;
use super::standing::conflict;
use super::watch::Ending;
use super::{Effect, Node, Note, Purpose, Row, scrubbing};
use crate::engine::contract::{Engine as _, Outbox};
use crate::engine::{catch_up, deploy, fetch};
use crate::format::wire::{Notice, Notification};
use crate::model::disk_task::{DiskAction, DiskTask};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::origins::Origins;
use crate::model::time::Now;
use crate::model::vpath::VPath;

impl Node {
    /// Orders the deployment of the head at a path, if its directory is configured.
    pub(super) fn order(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some(directory) = self.config.serves(path).filter(|_| !self.is_held_back(path)) else { return };
        let heal = self.heals(path);
        let Some(order) = self.heads.order(path, directory.clone(), heal) else { return };
        self.deploy(now, deploy::Input::Order(order), outbox);
    }

    pub(super) fn deploy(&mut self, now: Now, input: deploy::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.deploys.handle(now, input, &mut inner);
        self.deployed(now, inner, outbox);
    }

    pub(super) fn fetch(&mut self, now: Now, input: fetch::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.fetches.handle(now, input, &mut inner);
        self.fetched(now, inner, outbox);
    }

    pub(super) fn deployed(&mut self, now: Now, effects: Outbox<deploy::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                deploy::Effect::NeedIndex { path, image } => {
                    self.watch.touch(&path);
                    self.index_waiters.entry(image).or_default().insert(path);
                    if !self.index_sweep.removes(image) {
                        outbox.push(Effect::LoadIndex { image });
                    }
                }
                deploy::Effect::CancelIndex { path, image } => self.cancel_index(now, &path, image, outbox),
                deploy::Effect::Disk(task) => {
                    self.watch.touch(&task.path);
                    let job = self.job(Purpose::Deploy(task.path.clone()));
                    outbox.push(Effect::Disk { job, task });
                }
                deploy::Effect::Fetch { path, directory, id, image, have } => {
                    self.watch.touch(&path);
                    self.seek(now, &path, outbox);
                    self.fetch(now, fetch::Input::Start { path, directory, id, image, have }, outbox);
                    // What was told of an earlier time isn't true any more.
                    self.tell_all_pieces_anew(id, outbox);
                }
                deploy::Effect::CancelFetch { path } => self.fetch(now, fetch::Input::Cancel { path }, outbox),
                deploy::Effect::PutIntent { path, intent } => {
                    let job = self.job(Purpose::Deploy(path.clone()));
                    outbox.push(Effect::Write { job, rows: vec![Row::Intent { path, record: intent }] });
                }
                deploy::Effect::PutCommitted { path, directory, committed: record } => {
                    let job = self.job(Purpose::Deploy(path.clone()));
                    self.heads.committing(&path, record.clone());
                    let scrubbed = scrubbing::deployed(now, &path);
                    let rows = vec![Row::Committed { path, directory, record }, scrubbed];
                    outbox.push(Effect::Write { job, rows });
                }
                deploy::Effect::Forgone { path, image, root, for_room } => {
                    self.forgone(path, (image, root), for_room, outbox);
                }
                deploy::Effect::Damaged(damage) => self.found_damaged(now, damage, outbox),
                deploy::Effect::Done { path, change, image, bytes, already, found } => {
                    let result = if already { "already" } else { "done" };
                    self.heads.came_from(&path, *found);
                    let ending = Ending { change, image: Some(image), result, reason: None, bytes };
                    self.done(now, &path, image, ending, outbox);
                }
                deploy::Effect::Superseded { path, change, image } => {
                    let reason = self.why_superseded(&path);
                    self.given_up(now, &path, (change, image), ("superseded", reason), outbox);
                }
                deploy::Effect::Conflict { path, change, image, standing } => {
                    let reason = conflict(standing);
                    self.given_up(now, &path, (change, image), ("conflict", reason), outbox);
                }
                deploy::Effect::Cancelled { path, change, image } => {
                    self.cancelled(now, &path, (change, image), outbox);
                }
                deploy::Effect::Failed { path, change, image, reason } => {
                    self.catch_up(now, catch_up::Input::Withdrawn { change, reason: reason.clone() }, outbox);
                    self.withdraw(now, &path, change, outbox);
                    self.given_up(now, &path, (change, image), ("failed", reason), outbox);
                }
                deploy::Effect::Paused { path, failure } => {
                    self.watch.touch(&path);
                    self.occupied(now, &path, outbox);
                    outbox.push(Effect::Note(Note::Paused { path, failure }));
                }
            }
        }
    }

    /// A deployment has reached its end.
    pub(super) fn done(
        &mut self,
        now: Now,
        path: &VPath,
        image: ImageId,
        ending: Ending<'_>,
        outbox: &mut Outbox<Effect>,
    ) {
        let Ending { change, result, bytes, .. } = ending;
        let healed = result == "done" && self.heads.is_damaged(path);
        self.heads.committed(path, change);
        self.scrubs_changed(now, path, result == "done", outbox);
        if healed {
            // Until now only what was damaged could be read: who has asked for it doesn't ask any more.
            self.tell_all_pieces_anew(image, outbox);
        } else {
            self.tell_all_pieces(image, outbox);
        }
        self.spread_ended(now, path, image, outbox);
        let already = result == "already";
        outbox.push(Effect::Note(Note::Done { path: path.clone(), image, bytes, already }));
        self.outcome(now, path, ending, outbox);
        self.keeping_changed(now, path, outbox);
    }

    /// A deployment has ended before its end.
    pub(super) fn given_up(
        &mut self,
        now: Now,
        path: &VPath,
        (change, image): (ChangeId, ImageId),
        (result, reason): (&'static str, String),
        outbox: &mut Outbox<Effect>,
    ) {
        self.spread_ended(now, path, image, outbox);
        outbox.push(Effect::Note(Note::Ended { path: path.clone(), image, reason: reason.clone() }));
        let reason = Some(&*reason);
        let ending = Ending { change, image: Some(image), result, reason, bytes: Origins::default() };
        self.outcome(now, path, ending, outbox);
        self.keeping_changed(now, path, outbox);
    }

    pub(super) fn fetched(&mut self, now: Now, effects: Outbox<fetch::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                fetch::Effect::Ask { connection, question } => self.ask(connection, question, outbox),
                fetch::Effect::Store { path, directory, image, run, data } => {
                    let job = self.job(Purpose::Store(path.clone(), run));
                    outbox.push(Effect::Disk {
                        job,
                        task: DiskTask { directory, path, action: DiskAction::Store { image, run, data } },
                    });
                }
                fetch::Effect::CheckIndex { image, data } => outbox.push(Effect::CheckIndex { image, data }),
                fetch::Effect::Finished { path, bytes, from } => {
                    let from = from.into_iter().map(|(connection, bytes)| self.connections.supply(connection, bytes));
                    let from = from.collect();
                    self.deploy(now, deploy::Input::Fetched { path, bytes, from }, outbox);
                }
                fetch::Effect::Failed { path, failure } => {
                    self.deploy(now, deploy::Input::FetchFailed { path, failure }, outbox);
                }
                fetch::Effect::Cancelled { path } => self.deploy(now, deploy::Input::FetchCancelled { path }, outbox),
                fetch::Effect::Announce { image, pieces } => self.announce(image, &pieces, outbox),
                fetch::Effect::Share { connection, image, index, of } => {
                    notify(connection, Notification::Cluster(Notice::Share { image, index, of }), outbox);
                }
                fetch::Effect::TellCorrupt { connection, image, block } => {
                    let notice = Notice::Corrupt { image, block };
                    notify(connection, Notification::Cluster(notice), outbox);
                }
                fetch::Effect::Dropped { connection, image, reason } => {
                    outbox.push(Effect::Note(Note::SourceDropped {
                        from: self.connections.who(connection),
                        image,
                        reason,
                    }));
                }
            }
        }
    }
}
