//! What scrubs mean for heads: which directories are damaged, which are right again, which are deployed once more.

use super::watch::Ending;
use super::{Effect, Node, Note, Purpose, Row};
use crate::engine::contract::{Engine, Outbox};
use crate::engine::deploy;
use crate::engine::scrub::{self, Tree};
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::DiskResult;
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::origins::Origins;
use crate::model::reuse::Damage;
use crate::model::scrub::{Finding, Ticket, Verdict};
use crate::model::time::Now;
use crate::model::vpath::VPath;

/// How a directory is that was deployed now: all of it was verified.
const fn whole(now: Now) -> Verdict {
    Verdict { at: now.stamp, damaged: 0, extras: 0 }
}

/// The row that says so.
pub(super) fn deployed(now: Now, path: &VPath) -> Row {
    Row::Scrubbed { path: path.clone(), verdict: whole(now), sound: None }
}

impl Node {
    /// Everything that is visible is known to `scrub` from now on.
    pub(super) fn scrubs_start(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.scrubs_configured(now, outbox);
        let verdicts = std::mem::take(&mut self.verdicts);
        let visible = self.heads.all_visible();
        let trees = visible.map(|(path, committed)| {
            let tree = Tree { image: committed.image, root: committed.root, verdict: verdicts.get(path).copied() };
            (path.clone(), tree)
        });
        let trees: Vec<_> = trees.collect();
        for (path, tree) in trees {
            self.scrub(now, scrub::Input::Visible { path, tree }, outbox);
        }
    }

    /// The configuration is another one.
    pub(super) fn scrubs_configured(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let directories = self.config.directories.values().cloned().collect();
        let rate = self.config.rates.scrub.unwrap_or(limits::SCRUB_RATE);
        self.scrub(now, scrub::Input::Configured { directories, rate }, outbox);
    }

    /// A deployment was taken back before its end.
    pub(super) fn cancelled(
        &mut self,
        now: Now,
        path: &VPath,
        (change, image): (ChangeId, ImageId),
        outbox: &mut Outbox<Effect>,
    ) {
        if self.config.serves(path).is_some() && self.heads.is_committed(path) {
            // It was to heal what is visible.
            if self.is_to_be_healed(path) {
                let (result, reason, bytes) = ("already", None, Origins::default());
                self.done(now, path, image, Ending { change, image: Some(image), result, reason, bytes }, outbox);
            } else {
                // Nothing is wrong any more: that is looked at once more, and what was staged goes.
                self.order(now, path, outbox);
            }
        } else {
            let why = self.why_cancelled(path);
            self.given_up(now, path, (change, image), why, outbox);
        }
    }

    pub(super) fn scrubs_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.scrubs.handle_timeout(now, &mut inner);
        self.scrubbed(now, inner, outbox);
    }

    /// What is visible at a path may have changed, or not be visible any more; `deployed`: all of it has just been verified.
    pub(super) fn scrubs_changed(&mut self, now: Now, path: &VPath, deployed: bool, outbox: &mut Outbox<Effect>) {
        let path = path.clone();
        let input = match self.heads.committed_at(&path) {
            Some(committed) => {
                let known = self.scrubs.tree(&path).filter(|tree| tree.root == committed.root);
                let fresh = deployed.then(|| whole(now));
                let verdict = fresh.or_else(|| known?.verdict);
                let tree = Tree { image: committed.image, root: committed.root, verdict };
                scrub::Input::Visible { path, tree }
            }
            None => scrub::Input::Gone { path },
        };
        self.scrub(now, input, outbox);
    }

    /// Somebody has ordered it.
    pub(super) fn scrub_command(&mut self, now: Now, ticket: Ticket, path: Option<VPath>, outbox: &mut Outbox<Effect>) {
        self.scrub(now, scrub::Input::Command { ticket, path }, outbox);
    }

    /// Something else than a scrub has found a directory damaged.
    pub(super) fn found_damaged(&mut self, now: Now, damage: Damage, outbox: &mut Outbox<Effect>) {
        let path = damage.path.clone();
        self.scrub(now, scrub::Input::Doubted { path: path.clone() }, outbox);
        self.damaged(damage, outbox);
        self.heal(now, &path, outbox);
    }

    /// Deploys a damaged directory again, if its config says so.
    fn heal(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        if self.heals(path) {
            self.order(now, path, outbox);
            self.spread(now, path, outbox);
        }
    }

    /// Whether what is visible at a path is to be deployed again, since it is damaged: what the head says, after all of the
    /// damage is known.
    pub(super) fn heals(&self, path: &VPath) -> bool {
        self.is_to_be_healed(path) && !self.scrubs.reads(path)
    }

    /// If its config says so, or somebody has published it once more.
    fn is_to_be_healed(&self, path: &VPath) -> bool {
        let configured = |directory: &DirectoryConfig| directory.heal || self.heads.is_published_again(path);
        self.heads.is_damaged(path)
            && self.heads.is_committed(path)
            && self.config.serves(path).is_some_and(|directory| configured(directory))
    }

    /// A client, of this node or another one, wants to have there what the head says: what is damaged of it is put right.
    pub(super) fn published_again(&mut self, now: Now, path: &VPath, change: ChangeId, outbox: &mut Outbox<Effect>) {
        if self.heads.publish_again(path, change) {
            self.heal(now, path, outbox);
        }
    }

    pub(super) fn scrub(&mut self, now: Now, input: scrub::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.scrubs.handle(now, input, &mut inner);
        self.scrubbed(now, inner, outbox);
    }

    pub(super) fn scrubbed(&mut self, now: Now, effects: Outbox<scrub::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                scrub::Effect::Disk { task, ordered } => {
                    // What is to be healed may wait for long, and be put right by somebody meanwhile.
                    let deploys = self.deploys.status(&task.path).is_some() && !self.is_to_be_healed(&task.path);
                    if !ordered && deploys {
                        self.scrub(now, scrub::Input::Busy, outbox);
                    } else {
                        let job = self.job(Purpose::Scrub(task.path.clone()));
                        outbox.push(Effect::Disk { job, task });
                    }
                }
                scrub::Effect::Found { path, root, finding, log } => {
                    let Finding { file, flaw, what } = finding;
                    if log {
                        let (path, file, what) = (path.clone(), file.clone(), what.clone());
                        outbox.push(Effect::Note(Note::Flaw { path, file, what, extra: !flaw.is_damage() }));
                    }
                    if flaw.is_damage() {
                        self.damaged(Damage { path, root, file, what }, outbox);
                    }
                }
                scrub::Effect::Read { path, root, verdict, bytes, sound } => {
                    self.heads.compared(&path, None);
                    outbox.push(Effect::Note(Note::Scrubbed { path: path.clone(), verdict, bytes }));
                    self.verdict(now, path, root, (verdict, sound), outbox);
                }
                scrub::Effect::Failed { path, failure } => {
                    self.heads.compared(&path, Some(failure.text.clone()));
                    outbox.push(Effect::Note(Note::NotScrubbed { path, failure }));
                }
                scrub::Effect::Released { path } => self.heal(now, &path, outbox),
                scrub::Effect::Tell { ticket, news } => outbox.push(Effect::Tell { ticket, news }),
            }
        }
    }

    /// The answer to a step.
    pub(super) fn scrub_done(
        &mut self,
        now: Now,
        path: &VPath,
        result: Result<DiskResult, Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
        // What is there may be what a deployment has just made visible, and not yet recorded.
        let other = match &result {
            Ok(DiskResult::Scrubbed(part)) => part.as_ref().is_none_or(|part| part.has_no_root()),
            Ok(_) | Err(_) => false,
        };
        let swapped = other && self.deploys.status(path).is_some();
        let input = if swapped { scrub::Input::Busy } else { scrub::Input::Disk { result } };
        self.scrub(now, input, outbox);
    }

    /// Writes down how a directory was found. What was damaged and is right again needs no deployment any more.
    fn verdict(
        &mut self,
        now: Now,
        path: VPath,
        root: FileIdentity,
        (verdict, sound): (Verdict, bool),
        outbox: &mut Outbox<Effect>,
    ) {
        let change = if sound { self.heads.sound(&path, root) } else { None };
        let directory = self.config.serves(&path).cloned();
        let sound = directory.zip(change).map(|(directory, change)| super::Sound { directory, change, root });
        let job = self.job(Purpose::Verdict);
        outbox.push(Effect::Write { job, rows: vec![Row::Scrubbed { path: path.clone(), verdict, sound }] });
        if change.is_some() {
            outbox.push(Effect::Note(Note::Sound { path: path.clone() }));
            let heals =
                self.heads.is_committed(&path) && self.deploys.status(&path).is_some_and(|status| !status.reported);
            if heals {
                self.deploy(now, deploy::Input::Cancel { path }, outbox);
            }
        }
    }
}
