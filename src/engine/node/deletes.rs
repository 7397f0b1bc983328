//! Paths where a delete holds: what is on its way there ends, then what is visible goes. Carries out what `removal` decides.

use super::watch::Ending;
use super::{Effect, Node, Note, Purpose, Row};
use crate::engine::contract::{Engine, Outbox};
use crate::engine::{deploy, removal};
use crate::format::report::Standing;
use crate::model::time::Now;
use crate::model::vpath::VPath;

/// The word for the end of a delete.
const REMOVED: &str = "removed";

impl Node {
    /// Another change holds at a path, durably, or the configuration is another one: if it is a delete, it is carried out.
    pub(super) fn carry_out_delete(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        if !self.heads.is_deleted(path) {
            self.deletes.remove(path);
            return self.removal(now, removal::Input::Drop { path: path.clone() }, outbox);
        }
        let Some(directory) = self.config.serves(path).filter(|_| !self.removals.removes(path)).cloned() else {
            return;
        };
        // On which side of the swap a crash was must be known before.
        if let Some(order) = self.heads.interrupted(path, directory) {
            self.deploy(now, deploy::Input::Order(order), outbox);
        }
        let under_way = self.deploys.status(path).is_some();
        if under_way {
            self.deploy(now, deploy::Input::Cancel { path: path.clone() }, outbox);
        }
        *self.deletes.entry(path.clone()).or_default() |= under_way;
    }

    /// Begins removals where nothing is under way any more.
    pub(super) fn begin_removals(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let under_way = |path: &VPath| self.deploys.status(path).is_some() || self.retentions.removes(path);
        // One that is not durable yet may have taken its place.
        let free = |path: &VPath| self.heads.is_deleted(path) && !under_way(path);
        let due: Vec<_> =
            self.deletes.iter().filter(|(path, _)| free(path)).map(|(path, cut)| (path.clone(), *cut)).collect();
        for (path, cut) in due {
            self.deletes.remove(&path);
            let Some(directory) = self.config.serves(&path).cloned() else { continue };
            let root = self.heads.committed_at(&path).map(|committed| committed.root);
            if root.is_none() && !cut {
                self.tell_removed(now, &path, outbox);
                continue;
            }
            self.heads.hide(&path);
            self.scrubs_changed(now, &path, false, outbox);
            self.removal(now, removal::Input::Begin { path: path.clone(), directory, root }, outbox);
            self.watch.touch(&path);
        }
    }

    pub(super) fn removal(&mut self, now: Now, input: removal::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.removals.handle(now, input, &mut inner);
        self.removed(now, inner, outbox);
    }

    pub(super) fn removed(&mut self, now: Now, effects: Outbox<removal::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                removal::Effect::Disk(task) => {
                    let job = self.job(Purpose::Delete(task.path.clone()));
                    outbox.push(Effect::Disk { job, task });
                }
                removal::Effect::Forget { path } => {
                    let job = self.job(Purpose::ForgetDeleted(path.clone()));
                    outbox.push(Effect::Write { job, rows: vec![Row::NotCommitted { path }] });
                }
                removal::Effect::Ended { path, result } => {
                    self.heads.hidden_ended(&path, result.is_ok());
                    self.scrubs_changed(now, &path, false, outbox);
                    match result {
                        Ok(()) => {
                            let reason = "a signed change removes it".to_owned();
                            outbox.push(Effect::Note(Note::Removed { path: path.clone(), reason }));
                            self.tell_removed(now, &path, outbox);
                        }
                        Err(failure) => {
                            self.watch.touch(&path);
                            outbox.push(Effect::Note(Note::Paused { path: path.clone(), failure }));
                        }
                    }
                    // What came meanwhile had to wait.
                    self.order(now, &path, outbox);
                    self.spread(now, &path, outbox);
                    self.keeping_changed(now, &path, outbox);
                }
                removal::Effect::Again { path } => self.carry_out_delete(now, &path, outbox),
            }
        }
    }

    /// Whether the delete that holds at a path is carried out.
    pub(super) fn is_removed(&self, path: &VPath) -> bool {
        let under_way = self.deletes.contains_key(path)
            || self.deploys.status(path).is_some()
            || self.removals.removes(path)
            || self.removals.failure(path).is_some()
            || self.retentions.removes(path);
        self.heads.is_deleted(path) && !under_way && self.heads.committed_at(path).is_none()
    }

    /// Whoever waits for a delete is told that it is carried out.
    pub(super) fn tell_removed(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        if !self.is_removed(path) {
            return;
        }
        let Some((change, _)) = self.heads.change(path) else { return };
        let ending = Ending { change, image: None, result: REMOVED, reason: None, bytes_reused: 0, bytes_fetched: 0 };
        self.outcome(now, path, ending, outbox);
    }

    /// How a delete fares.
    pub(super) fn standing_of_delete(&self, path: &VPath) -> Standing {
        if self.is_removed(path) {
            return Standing::ended(REMOVED, None, (0, 0));
        }
        let waiting = self.removals.failure(path).map(|failure| failure.text.clone());
        Standing { state: "removing".to_owned(), waiting, ..Standing::default() }
    }
}
