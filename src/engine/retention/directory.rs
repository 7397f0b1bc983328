//! One config that cleans: what it is at, and the removal that is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rules::{self, Candidate, Kept, Sorted, Unneeded};
use super::{Effect, Present, Status};
use crate::engine::contract::Outbox;
use crate::model::directory::{DirectoryConfig, Retention};
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::retention::Active;
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) config: Arc<DirectoryConfig>,
    pub(super) state: State,
    /// Something changed while it was being looked at.
    pub(super) again: bool,
    /// It doesn't clean any more: what was begun is its last.
    pub(super) last: bool,
    pub(super) active: Arc<Active>,
    /// Could not be removed: the others are tried first.
    pub(super) failed: BTreeSet<VPath>,
    pub(super) status: Status,
}

/// A removal.
#[derive(Debug, Clone)]
pub(super) struct Removal {
    pub(super) path: VPath,
    pub(super) change: ChangeId,
    pub(super) root: FileIdentity,
    /// `None`: a rule keeps it now, so only what is left of it goes, if it isn't whole.
    pub(super) why: Option<Unneeded>,
}

/// What a config is at: each but the first waits for an answer.
#[derive(Debug)]
pub(super) enum State {
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
    pub(super) const fn removal(&self) -> Option<&Removal> {
        match self {
            Self::Idle { .. } | Self::Surveying => None,
            Self::Marking(removal) | Self::Removing(removal) | Self::Forgetting(removal) | Self::Unmarking(removal) => {
                Some(removal)
            }
        }
    }
}

impl Directory {
    pub(super) fn changed(&mut self, outbox: &mut Outbox<Effect>) {
        match &self.state {
            State::Idle { .. } => self.survey(outbox),
            State::Surveying => self.again = true,
            // It is looked at again in any case.
            State::Marking(_) | State::Removing(_) | State::Forgetting(_) | State::Unmarking(_) => {}
        }
    }

    pub(super) fn survey(&mut self, outbox: &mut Outbox<Effect>) {
        self.again = false;
        self.state = State::Surveying;
        outbox.push(Effect::Survey { directory: self.config.clone() });
    }

    pub(super) fn surveyed(
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

    pub(super) fn marked(&mut self, result: Result<bool, Failure>, outbox: &mut Outbox<Effect>) {
        match (&self.state, result) {
            (State::Marking(removal), Ok(true)) => self.remove(removal.clone(), outbox),
            (State::Marking(_) | State::Unmarking(_), Ok(_)) => self.end(false, outbox),
            (_, Ok(_)) => {}
            (_, Err(failure)) => self.fail(failure, outbox),
        }
    }

    pub(super) fn removed(&mut self, result: Result<DiskResult, Failure>, outbox: &mut Outbox<Effect>) {
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

    pub(super) fn forgotten(&mut self, result: Result<(), Failure>, outbox: &mut Outbox<Effect>) {
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
