//! Which directories are removed, and when: `Survey → Mark → Remove → Forget`, one directory at a time in each config.
//!
//! What is in use is read again before each removal. Which directories there are, and whether a removal is still right when its mark is
//! durable, is `node`'s; how one is removed so that it is whole or gone, `driver/disk`'s.

pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::rules::{Candidate, Kept, Sorted, Unneeded};
use crate::engine::contract::{Engine, Outbox};
use crate::model::directory::{DirectoryConfig, Retention};
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::retention::Active;
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

/// A directory that is visible.
#[derive(Debug, Clone)]
pub struct Present {
    /// Where, and what decides.
    pub candidate: Candidate,
    /// Its root.
    pub root: FileIdentity,
    /// Its head says that it was cleaned: a removal was begun.
    pub marked: bool,
    /// A deployment is under way there: it counts, and is left alone.
    pub busy: bool,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// All configs that clean.
    Configured(Vec<Arc<DirectoryConfig>>),
    /// Something became visible in a config, or came to hold there.
    Changed { directory: Box<str> },
    /// Answer to [`Effect::Survey`], and what is visible at this moment.
    Surveyed { directory: Box<str>, result: Result<Active, Failure>, present: Vec<Present> },
    /// Answer to [`Effect::Mark`]: durable, and whether the path is still to be removed.
    Marked { path: VPath, result: Result<bool, Failure> },
    /// Answer to [`Effect::Disk`].
    Disk { path: VPath, result: Result<DiskResult, Failure> },
    /// Answer to [`Effect::Forget`].
    Forgotten { path: VPath, result: Result<(), Failure> },
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Find out what is in use.
    Survey { directory: Arc<DirectoryConfig> },
    /// Write down that the head was cleaned, or that it wasn't.
    Mark { path: VPath, change: ChangeId, cleaned: bool },
    /// Remove the directory.
    Disk(DiskTask),
    /// Write down that nothing is there.
    Forget { path: VPath },
    /// The removal has ended: the path is free for deployments. No answer.
    Ended { path: VPath, gone: bool, reason: String },
    /// What is in use may be another set than before, or other heads hold. No answer.
    Review { directory: Box<str> },
    /// Something stands in the way. No answer.
    Trouble { directory: Box<str>, failure: Failure },
}

/// How a config stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Directories that are kept because they are the newest.
    pub newest: usize,
    /// Because they are in use.
    pub active: usize,
    /// Because they are recent.
    pub recent: usize,
    /// Removed since the start.
    pub removed: u64,
    /// Why nothing is removed, or not all that should be.
    pub problem: Option<String>,
}

/// All configs that clean.
#[derive(Debug, Default)]
pub struct Retentions {
    directories: BTreeMap<Box<str>, Directory>,
}

#[derive(Debug)]
struct Directory {
    config: Arc<DirectoryConfig>,
    state: State,
    /// Something changed while it was being looked at.
    again: bool,
    /// It doesn't clean any more: what was begun is its last.
    last: bool,
    active: Arc<Active>,
    /// Could not be removed: the others are tried first.
    failed: BTreeSet<VPath>,
    status: Status,
}

/// A removal.
#[derive(Debug, Clone)]
struct Removal {
    path: VPath,
    change: ChangeId,
    root: FileIdentity,
    /// `None`: a rule keeps it now, so only what is left of it goes, if it isn't whole.
    why: Option<Unneeded>,
}

/// What a config is at: each but the first waits for an answer.
#[derive(Debug)]
enum State {
    Idle {
        next: Time,
    },
    Surveying,
    Marking(Removal),
    Removing(Removal),
    Forgetting(Removal),
    /// It is whole, and kept: the mark is taken back.
    Unmarking(Removal),
}

impl State {
    const fn removal(&self) -> Option<&Removal> {
        match self {
            Self::Idle { .. } | Self::Surveying => None,
            Self::Marking(removal) | Self::Removing(removal) | Self::Forgetting(removal) | Self::Unmarking(removal) => {
                Some(removal)
            }
        }
    }
}

impl Retentions {
    /// Whether the path is being removed: no deployment may begin there.
    pub fn removes(&self, path: &VPath) -> bool {
        self.directories
            .get(path.key())
            .and_then(|one| one.state.removal())
            .is_some_and(|removal| removal.path == *path)
    }

    /// What was in use when a config was last looked at.
    pub fn active(&self, directory: &str) -> Option<&Active> {
        self.directories.get(directory).map(|one| &*one.active)
    }

    /// How each config stands.
    pub fn status(&self) -> impl Iterator<Item = (&str, &Status)> {
        self.directories.iter().map(|(name, one)| (&**name, &one.status))
    }

    fn configured(&mut self, now: Now, configs: Vec<Arc<DirectoryConfig>>, outbox: &mut Outbox<Effect>) {
        let names: BTreeSet<_> = configs.iter().map(|config| config.name.clone()).collect();
        self.directories.retain(|name, one| {
            one.last = !names.contains(name);
            !one.last || one.state.removal().is_some()
        });
        for config in configs {
            let name = config.name.clone();
            let one = self.directories.entry(name).or_insert_with(|| Directory {
                config: config.clone(),
                state: State::Idle { next: now.time },
                again: false,
                last: false,
                active: Arc::default(),
                failed: BTreeSet::new(),
                status: Status::default(),
            });
            one.config = config;
            one.changed(outbox);
        }
    }

    /// Lets the config of a path that is being removed take its answer.
    fn advance(&mut self, path: &VPath, step: impl FnOnce(&mut Directory)) {
        let Some(one) = self.directories.get_mut(path.key()) else { return };
        if one.state.removal().is_none_or(|removal| removal.path != *path) {
            return;
        }
        step(one);
        if one.last && one.state.removal().is_none() {
            self.directories.remove(path.key());
        }
    }
}

impl Directory {
    fn changed(&mut self, outbox: &mut Outbox<Effect>) {
        match &self.state {
            State::Idle { .. } => self.survey(outbox),
            State::Surveying => self.again = true,
            // It is looked at again in any case.
            State::Marking(_) | State::Removing(_) | State::Forgetting(_) | State::Unmarking(_) => {}
        }
    }

    fn survey(&mut self, outbox: &mut Outbox<Effect>) {
        self.again = false;
        self.state = State::Surveying;
        outbox.push(Effect::Survey { directory: self.config.clone() });
    }

    fn surveyed(
        &mut self,
        now: Now,
        result: Result<Active, Failure>,
        present: &[Present],
        outbox: &mut Outbox<Effect>,
    ) {
        if !matches!(self.state, State::Surveying) {
            return;
        }
        let Some(rules) = self.config.retention.clone() else { return };
        if self.again {
            return self.survey(outbox);
        }
        match result {
            Ok(active) => {
                self.active = Arc::new(active);
                outbox.push(Effect::Review { directory: self.config.name.clone() });
                self.choose(now, &rules, present, outbox);
            }
            Err(failure) => {
                self.trouble(failure, outbox);
                outbox.push(Effect::Review { directory: self.config.name.clone() });
                self.state = State::Idle { next: now.time + limits::RETENTION_RETRY_PAUSE };
            }
        }
    }

    /// Takes the next directory that is to be removed, if there is one.
    fn choose(&mut self, now: Now, rules: &Retention, present: &[Present], outbox: &mut Outbox<Effect>) {
        let candidates = present.iter().map(|one| one.candidate.clone()).collect();
        let Sorted { kept, unneeded } = rules::sort_out(rules, candidates, &self.active, now.stamp);
        let count = |which: fn(&Kept) -> bool| kept.values().filter(|kept| which(kept)).count();
        self.status.newest = count(|kept| matches!(kept, Kept::Newest));
        self.status.active = count(|kept| matches!(kept, Kept::Active(_)));
        self.status.recent = count(|kept| matches!(kept, Kept::Recent { .. }));
        let by_path: BTreeMap<_, _> = present.iter().map(|one| (&one.candidate.path, one)).collect();
        let begun = by_path.values().filter(|one| one.marked && kept.contains_key(&one.candidate.path));
        let begun = begun.map(|one| (*one, None));
        let unneeded = unneeded.iter().filter_map(|(one, why)| Some((*by_path.get(&one.path)?, Some(*why))));
        let next = begun.chain(unneeded).find(|(one, _)| !one.busy && !self.failed.contains(&one.candidate.path));
        let Some((present, why)) = next else { return self.rest(now, &kept) };
        let Candidate { path, rank, .. } = present.candidate.clone();
        let removal = Removal { path, change: rank.id, root: present.root, why };
        if present.marked {
            self.remove(removal, outbox);
        } else {
            outbox.push(Effect::Mark { path: removal.path.clone(), change: removal.change, cleaned: true });
            self.state = State::Marking(removal);
        }
    }

    /// Nothing is to be removed now.
    fn rest(&mut self, now: Now, kept: &BTreeMap<VPath, Kept>) {
        let mut pause = limits::RETENTION_INTERVAL;
        if self.failed.is_empty() {
            self.status.problem = None;
        } else {
            self.failed.clear();
            pause = limits::RETENTION_RETRY_PAUSE;
        }
        let ends = kept.values().filter_map(|kept| match kept {
            Kept::Recent { until } => Some(*until),
            Kept::Newest | Kept::Active(_) => None,
        });
        if let Some(Stamp(end)) = ends.min() {
            let left = std::time::Duration::from_millis(end.saturating_sub(now.stamp.0).max(1));
            pause = pause.min(left);
        }
        self.state = State::Idle { next: now.time + pause };
    }

    fn remove(&mut self, removal: Removal, outbox: &mut Outbox<Effect>) {
        let action = DiskAction::Remove { root: removal.root, only_rest: removal.why.is_none() };
        let (directory, path) = (self.config.clone(), removal.path.clone());
        self.state = State::Removing(removal);
        outbox.push(Effect::Disk(DiskTask { directory, path, action }));
    }

    fn marked(&mut self, result: Result<bool, Failure>, outbox: &mut Outbox<Effect>) {
        match (&self.state, result) {
            (State::Marking(removal), Ok(true)) => self.remove(removal.clone(), outbox),
            (State::Marking(_) | State::Unmarking(_), Ok(_)) => self.end(false, outbox),
            (_, Ok(_)) => {}
            (_, Err(failure)) => self.fail(failure, outbox),
        }
    }

    fn removed(&mut self, result: Result<DiskResult, Failure>, outbox: &mut Outbox<Effect>) {
        let State::Removing(removal) = &self.state else { return };
        let removal = removal.clone();
        match result {
            Ok(DiskResult::Removed { gone: true }) => {
                outbox.push(Effect::Forget { path: removal.path.clone() });
                self.state = State::Forgetting(removal);
            }
            Ok(DiskResult::Removed { gone: false }) => {
                outbox.push(Effect::Mark { path: removal.path.clone(), change: removal.change, cleaned: false });
                self.state = State::Unmarking(removal);
            }
            Ok(other) => {
                let text = format!("internal error: {other:?} for a removal");
                self.fail(Failure { kind: FailureKind::Io, text }, outbox);
            }
            Err(failure) => self.fail(failure, outbox),
        }
    }

    fn forgotten(&mut self, result: Result<(), Failure>, outbox: &mut Outbox<Effect>) {
        match result {
            Ok(()) => {
                self.status.removed += 1;
                self.end(true, outbox);
            }
            Err(failure) => self.fail(failure, outbox),
        }
    }

    fn fail(&mut self, failure: Failure, outbox: &mut Outbox<Effect>) {
        if let Some(removal) = self.state.removal() {
            self.failed.insert(removal.path.clone());
        }
        self.trouble(failure, outbox);
        self.end(false, outbox);
    }

    /// Shown as long as it lasts, told once.
    fn trouble(&mut self, failure: Failure, outbox: &mut Outbox<Effect>) {
        if self.status.problem.as_ref() != Some(&failure.text) {
            self.status.problem = Some(failure.text.clone());
            outbox.push(Effect::Trouble { directory: self.config.name.clone(), failure });
        }
    }

    /// The removal has ended: the config is looked at again.
    fn end(&mut self, gone: bool, outbox: &mut Outbox<Effect>) {
        if let Some(Removal { path, why, .. }) = self.state.removal().cloned() {
            let reason = why.map_or_else(|| "its removal had been begun".to_owned(), |why| self.reason(why));
            outbox.push(Effect::Ended { path, gone, reason });
        }
        if self.last {
            self.state = State::Idle { next: Time::default() };
        } else {
            self.survey(outbox);
        }
    }

    fn reason(&self, Unneeded { newer, recent }: Unneeded) -> String {
        match &self.config.retention {
            Some(rules) if recent => {
                format!("{newer} newer ones are there, keep-max-directories is {}", rules.keep_max_directories)
            }
            Some(rules) => {
                let age = humantime::format_duration(rules.keep_recent);
                format!("{newer} newer ones are there, it is not in use, and older than keep-recent ({age})")
            }
            None => format!("{newer} newer ones are there"),
        }
    }
}

impl Engine for Retentions {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Configured(configs) => self.configured(now, configs, outbox),
            Input::Changed { directory } => {
                if let Some(one) = self.directories.get_mut(&directory) {
                    one.changed(outbox);
                }
            }
            Input::Surveyed { directory, result, present } => {
                if let Some(one) = self.directories.get_mut(&directory) {
                    one.surveyed(now, result, &present, outbox);
                }
            }
            Input::Marked { path, result } => self.advance(&path, |one| one.marked(result, outbox)),
            Input::Disk { path, result } => self.advance(&path, |one| one.removed(result, outbox)),
            Input::Forgotten { path, result } => self.advance(&path, |one| one.forgotten(result, outbox)),
        }
    }

    /// Changes with every input: when a config is looked at again.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        let next = self.directories.values().filter_map(|one| match &one.state {
            State::Idle { next } => Some(*next),
            State::Surveying | State::Marking(_) | State::Removing(_) | State::Forgetting(_) | State::Unmarking(_) => {
                None
            }
        });
        next.min().map(|at| (at, "retention: look at a config again"))
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for one in self.directories.values_mut() {
            if matches!(one.state, State::Idle { next } if next <= now.time) {
                one.survey(outbox);
            }
        }
    }
}
