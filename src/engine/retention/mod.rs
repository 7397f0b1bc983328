//! Which directories are removed, and when: `Survey → Mark → Remove → Forget`, one directory at a time in each config.
//!
//! What is in use is read again before each removal. Which directories there are, and whether a removal is still right when its mark is
//! durable, is `node`'s; how one is removed so that it is whole or gone, `driver/disk`'s.

mod directory;
mod interface;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::directory::{Directory, State};
pub use self::interface::{Effect, Input, Present, Status};
use crate::engine::contract::{Engine, Outbox};
use crate::model::directory::DirectoryConfig;
use crate::model::retention::Active;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// All configs that clean.
#[derive(Debug, Default)]
pub struct Retentions {
    directories: BTreeMap<Box<str>, Directory>,
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
