//! What the rules of retention mean for heads: which are deployed, which are removed. Carries out what `retention` decides.

use std::collections::{BTreeMap, BTreeSet};

use super::watch::Ending;
use super::{Effect, Node, Note, Purpose, Row};
use crate::engine::contract::{Engine, Outbox};
use crate::engine::deploy;
use crate::engine::retention::rules::{self, Candidate};
use crate::engine::retention::{self, Present};
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::origins::Origins;
use crate::model::retention::{Active, NOTHING_ACTIVE};
use crate::model::time::Now;
use crate::model::vpath::VPath;

/// Why nothing is visible at a path, nor on its way, though there is a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was removed.
    Cleaned,
    /// It would be removed at once.
    NotKept,
}

impl Gone {
    /// The state in `/status.json`.
    pub(super) const fn state(self) -> &'static str {
        match self {
            Self::Cleaned => "cleaned",
            Self::NotKept => "not kept",
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Cleaned => "it was removed: the directory's rules don't keep it",
            Self::NotKept => "it would be removed at once: the directory's rules don't keep it",
        }
    }
}

impl Node {
    /// Why the head at a path isn't deployed; `None`: it is, or will be.
    pub(super) fn gone(&self, path: &VPath) -> Option<Gone> {
        let under_way = self.deploys.status(path).is_some();
        if self.heads.committed_at(path).is_some() || under_way || self.heads.is_deleted(path) {
            return None;
        }
        if self.heads.is_cleaned(path) {
            return Some(Gone::Cleaned);
        }
        let rules = self.config.serves(path).filter(|_| path.levels() > 0)?.retention.as_ref()?;
        // Nothing of it is here that could be damaged.
        let candidate = Candidate { path: path.clone(), rank: self.heads.rank(path)?, damaged: false };
        let newer = self.heads.siblings(path).filter(|rank| *rank > candidate.rank).count();
        let active = self.retentions.active(path.key()).unwrap_or(&NOTHING_ACTIVE);
        rules::keep(rules, &candidate, newer, active, self.stamp).is_err().then_some(Gone::NotKept)
    }

    /// The same for all paths.
    pub(super) fn all_gone(&self) -> BTreeMap<VPath, Gone> {
        let idle = |path: &VPath| self.heads.committed_at(path).is_none() && self.deploys.status(path).is_none();
        let mut gone: BTreeMap<_, _> =
            self.heads.cleaned().filter(|path| idle(path)).map(|path| (path.clone(), Gone::Cleaned)).collect();
        for directory in self.config.directories.keys() {
            let unneeded = self.unneeded(directory).into_iter().filter(idle);
            gone.extend(unneeded.map(|path| (path, Gone::NotKept)));
        }
        gone
    }

    /// Paths of a config which the rules wouldn't keep if all heads were visible.
    fn unneeded(&self, directory: &str) -> BTreeSet<VPath> {
        let Some(config) = self.config.directories.get(directory).filter(|config| config.num_levels > 0) else {
            return BTreeSet::new();
        };
        let Some(rules) = &config.retention else { return BTreeSet::new() };
        let heads = self.heads.uncleaned(directory).filter(|one| one.path.levels() == config.num_levels).collect();
        let active = self.retentions.active(directory).unwrap_or(&NOTHING_ACTIVE);
        rules::sort_out(rules, heads, active, self.stamp).unneeded.into_iter().map(|(one, _)| one.path).collect()
    }

    /// Whether no deployment may begin at a path now.
    pub(super) fn is_held_back(&self, path: &VPath) -> bool {
        let cleans = self.config.serves(path).is_some_and(|directory| directory.retention.is_some());
        let to_be_removed = cleans && self.heads.is_cleaned(path);
        to_be_removed || self.retentions.removes(path) || self.removals.removes(path) || self.gone(path).is_some()
    }

    /// Who waits for a change of which nothing will be visible is told so.
    pub(super) fn tell_gone(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some(gone) = self.gone(path) else { return };
        let Some((change, signed)) = self.heads.change(path) else { return };
        let image = signed.change.image;
        let (result, reason) = ("cleaned", Some(gone.reason()));
        self.outcome(now, path, Ending { change, image, result, reason, bytes: Origins::default() }, outbox);
    }

    /// How a deployment ended that was taken back.
    pub(super) fn why_cancelled(&self, path: &VPath) -> (&'static str, String) {
        match self.gone(path) {
            Some(gone) => ("cleaned", gone.reason().to_owned()),
            None if self.heads.is_deleted(path) => ("superseded", self.why_superseded(path)),
            None => ("failed", "its directory isn't configured here any more".to_owned()),
        }
    }

    /// Something became visible, or came to hold, or came to its end at a path.
    pub(super) fn keeping_changed(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        self.retention(now, retention::Input::Changed { directory: path.key().into() }, outbox);
    }

    /// What was set aside at a path isn't any more.
    pub(super) fn forgone(
        &mut self,
        path: VPath,
        (image, root): (ImageId, FileIdentity),
        for_room: bool,
        outbox: &mut Outbox<Effect>,
    ) {
        if self.heads.forgo(&path, root) {
            let why = match self.config.serves(&path) {
                _ if for_room => "there was no room for what comes",
                Some(directory) if directory.keep_previous => "it is gone",
                Some(_) | None => "its directory's configuration doesn't say `keep-previous: true`",
            };
            outbox.push(Effect::Note(Note::Forgone { path: path.clone(), image, why }));
            let job = self.job(Purpose::Forgone);
            outbox.push(Effect::Write { job, rows: vec![Row::NoPrevious { path, root }] });
        }
    }

    /// The configuration is another one.
    pub(super) fn keeping_configured(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let configs = self.config.directories.values();
        let configs = configs.filter(|config| config.retention.is_some() && config.num_levels > 0).cloned().collect();
        self.retention(now, retention::Input::Configured(configs), outbox);
    }

    pub(super) fn retention(&mut self, now: Now, input: retention::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.retentions.handle(now, input, &mut inner);
        self.retained(now, inner, outbox);
    }

    pub(super) fn retained(&mut self, now: Now, effects: Outbox<retention::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                retention::Effect::Survey { directory } => {
                    let job = self.job(Purpose::Survey(directory.name.clone()));
                    outbox.push(Effect::Survey { job, directory });
                }
                retention::Effect::Mark { path, change, cleaned } => self.mark(now, path, change, cleaned, outbox),
                retention::Effect::Disk(task) => {
                    self.heads.hide(&task.path);
                    self.scrubs_changed(now, &task.path, false, outbox);
                    let job = self.job(Purpose::Remove(task.path.clone()));
                    outbox.push(Effect::Disk { job, task });
                }
                retention::Effect::Forget { path } => {
                    let job = self.job(Purpose::Forget(path.clone()));
                    outbox.push(Effect::Write { job, rows: vec![Row::NotCommitted { path }] });
                }
                retention::Effect::Ended { path, gone, reason } => {
                    self.heads.hidden_ended(&path, gone);
                    self.scrubs_changed(now, &path, false, outbox);
                    if gone {
                        outbox.push(Effect::Note(Note::Removed { path: path.clone(), reason }));
                    }
                    // What came meanwhile had to wait.
                    self.order(now, &path, outbox);
                    self.spread(now, &path, outbox);
                }
                retention::Effect::Review { directory } => self.review(now, &directory, outbox),
                retention::Effect::Trouble { directory, failure } => {
                    outbox.push(Effect::Note(Note::NotRemoved { directory, failure }));
                }
            }
        }
    }

    pub(super) fn surveyed(
        &mut self,
        now: Now,
        directory: Box<str>,
        result: Result<Active, Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
        let levels = self.config.directories.get(&directory).map(|config| config.num_levels);
        let present = self.heads.present(&directory).filter(|(one, ..)| Some(one.path.levels()) == levels);
        let present = present.map(|(candidate, root, marked)| {
            let busy = self.deploys.status(&candidate.path).is_some();
            Present { candidate, root, marked, busy }
        });
        let present = present.collect();
        self.retention(now, retention::Input::Surveyed { directory, result, present }, outbox);
    }

    /// Writes down that the head was cleaned, if it still is the same.
    fn mark(&mut self, now: Now, path: VPath, change: ChangeId, cleaned: bool, outbox: &mut Outbox<Effect>) {
        match self.heads.set_cleaned(&path, change, cleaned) {
            Some(record) => {
                let job = self.job(Purpose::Mark(path.clone(), change, cleaned));
                outbox.push(Effect::Write { job, rows: vec![Row::Head { path, record }] });
            }
            None => self.retention(now, retention::Input::Marked { path, result: Ok(false) }, outbox),
        }
    }

    /// The answer to [`Self::mark`].
    pub(super) fn marked(
        &mut self,
        now: Now,
        path: VPath,
        (change, cleaned): (ChangeId, bool),
        result: Result<(), Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
        if result.is_err() {
            self.heads.set_cleaned(&path, change, !cleaned);
        }
        // Another change may have come to hold there.
        let same = self.heads.rank(&path).is_some_and(|rank| rank.id == change);
        let still = same && self.heads.is_cleaned(&path) && self.deploys.status(&path).is_none();
        self.retention(now, retention::Input::Marked { path, result: result.map(|()| still) }, outbox);
    }

    /// What is in use, or which heads there are, has changed: what is to be deployed is, and what only waits for content that
    /// wouldn't be kept doesn't any more.
    fn review(&mut self, now: Now, directory: &str, outbox: &mut Outbox<Effect>) {
        let heads = self.heads.uncleaned(directory).map(|one| one.path);
        // Damaged ones may be on their way again.
        let open = heads.filter(|path| self.heads.committed_at(path).is_none() || self.heals(path));
        let open: Vec<_> = open.collect();
        if open.is_empty() {
            return;
        }
        let unneeded = self.unneeded(directory);
        for path in open {
            let under_way = self.deploys.status(&path).is_some();
            if unneeded.contains(&path) {
                // Nobody has it, most likely; what is on its way may come.
                if under_way && self.fetches.bytes_fetched(&path).unwrap_or(0) == 0 {
                    self.deploy(now, deploy::Input::Cancel { path }, outbox);
                }
            } else if !under_way {
                self.order(now, &path, outbox);
                self.spread(now, &path, outbox);
            }
        }
    }
}
