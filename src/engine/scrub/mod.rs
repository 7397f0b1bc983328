//! Which directory is compared with its image, and when: those that are due, the one first which was so longest ago, and
//! what somebody has ordered before all others. One step of one directory at a time.
//!
//! What is wrong with a directory, and what follows from that, is `node`'s; how it is read, `driver/disk`'s.

mod run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::run::{Command, Run, Stepped};
use crate::engine::contract::{Engine, Outbox};
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::{DiskResult, DiskTask};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::scrub::{End, Finding, News, Ticket, Verdict};
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// All configs, and how many bytes are read in a second.
    Configured { directories: Vec<Arc<DirectoryConfig>>, rate: u64 },
    /// This is visible at a path.
    Visible { path: VPath, tree: Tree },
    /// Nothing of ours is visible there any more.
    Gone { path: VPath },
    /// Something else than a scrub has found it damaged.
    Doubted { path: VPath },
    /// Compare the directories at and below this path now; `None`: all.
    Command { ticket: Ticket, path: Option<VPath> },
    /// Answer to [`Effect::Disk`].
    Disk { result: Result<DiskResult, Failure> },
    /// Another answer to it: a deployment is under way there, so nothing was done.
    Busy,
    /// Answer to [`Effect::Tell`]; not `alive`: nobody listens any more.
    Told { ticket: Ticket, alive: bool },
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Do a step; `ordered`: by somebody, so that a deployment there doesn't matter.
    Disk { task: DiskTask, ordered: bool },
    /// Something is wrong with what is visible at a path; `log`: it is one of the first. No answer.
    Found { path: VPath, root: FileIdentity, finding: Finding, log: bool },
    /// A directory was read to its end; `sound`: all is as it should be, also what was known to be wrong. No answer.
    Read { path: VPath, root: FileIdentity, verdict: Verdict, bytes: u64, sound: bool },
    /// It could not be read. No answer.
    Failed { path: VPath, failure: Failure },
    /// A directory isn't being compared any more, however that ended. No answer.
    Released { path: VPath },
    /// Tell whoever gave the command, in this order.
    Tell { ticket: Ticket, news: Vec<News> },
}

/// A directory that is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// What it should be.
    pub image: ImageId,
    /// Its root.
    pub root: FileIdentity,
    /// How it was when it was read last, or deployed; `None`: that isn't known, so it is due.
    pub verdict: Option<Verdict>,
}

/// All directories of a node.
#[derive(Debug, Default)]
pub struct Scrubs {
    directories: BTreeMap<Box<str>, Arc<DirectoryConfig>>,
    rate: u64,
    trees: BTreeMap<VPath, Tree>,
    /// When each directory of a config with an interval is due.
    due: BTreeSet<(Stamp, VPath)>,
    due_at: BTreeMap<VPath, Stamp>,
    background: Option<Run>,
    /// When the next step in the background may be done.
    resume: Time,
    commands: VecDeque<Command>,
    /// Whose step is being done.
    reading: Option<By>,
    wake: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Clock,
    Command(Ticket),
}

impl Scrubs {
    /// Which directory is being compared, and how many bytes of it were read: that of a command first.
    pub fn current(&self) -> Option<(&VPath, u64)> {
        self.runs().next().map(|run| (&run.path, run.bytes))
    }

    /// Whether a directory is being compared.
    pub fn reads(&self, path: &VPath) -> bool {
        self.runs().any(|run| run.path == *path)
    }

    /// A directory that is visible.
    pub fn tree(&self, path: &VPath) -> Option<&Tree> {
        self.trees.get(path)
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.commands.iter().filter_map(|command| command.run.as_ref()).chain(&self.background)
    }

    fn config(&self, path: &VPath) -> Option<&Arc<DirectoryConfig>> {
        self.directories.get(path.key()).filter(|config| config.num_levels == path.levels())
    }

    fn configured(&mut self, now: Now, directories: Vec<Arc<DirectoryConfig>>, rate: u64) {
        self.rate = rate;
        self.directories = directories.into_iter().map(|config| (config.name.clone(), config)).collect();
        let paths: Vec<_> = self.trees.keys().cloned().collect();
        for path in paths {
            self.schedule(now, &path, None);
        }
    }

    /// Sets when a directory is due: an interval after it was whole, or at `at`.
    fn schedule(&mut self, now: Now, path: &VPath, at: Option<Stamp>) {
        if let Some(before) = self.due_at.remove(path) {
            self.due.remove(&(before, path.clone()));
        }
        let interval = self.config(path).and_then(|config| config.scrub_interval);
        let (Some(tree), Some(interval)) = (self.trees.get(path), interval) else { return };
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        // A clock that was ahead is no reason to wait for it.
        let last = |verdict: Verdict| verdict.at.0.min(now.stamp.0);
        let due = tree.verdict.map_or(Stamp(0), |verdict| Stamp(last(verdict).saturating_add(interval)));
        let due = at.unwrap_or(due);
        self.due.insert((due, path.clone()));
        self.due_at.insert(path.clone(), due);
    }

    /// Not now: later.
    fn put_off(&mut self, now: Now, path: &VPath) {
        let interval = self.config(path).and_then(|config| config.scrub_interval);
        let pause = interval.map_or(limits::SCRUB_RETRY_PAUSE, |interval| interval.min(limits::SCRUB_RETRY_PAUSE));
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.schedule(now, path, Some(Stamp(now.stamp.0.saturating_add(pause))));
    }

    fn visible(&mut self, now: Now, path: &VPath, tree: Tree) {
        self.trees.insert(path.clone(), tree);
        self.schedule(now, path, None);
    }

    fn gone(&mut self, now: Now, path: &VPath) {
        self.trees.remove(path);
        self.schedule(now, path, None);
    }

    fn doubted(&mut self, path: &VPath) {
        let commands = self.commands.iter_mut().filter_map(|command| command.run.as_mut());
        for run in commands.chain(&mut self.background).filter(|run| run.path == *path) {
            run.doubted = true;
        }
    }

    fn command(&mut self, ticket: Ticket, path: Option<&VPath>, outbox: &mut Outbox<Effect>) {
        let refuse = |text: String| Effect::Tell { ticket, news: vec![News::Refused(text)] };
        if self.commands.len() >= limits::SCRUB_COMMANDS_MAX {
            outbox.push(refuse(format!("{} others are being carried out, try again later", self.commands.len())));
            return;
        }
        let below = |found: &VPath| {
            path.is_none_or(|path| {
                found.as_str().strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let todo: VecDeque<_> = self.trees.keys().filter(|found| below(found)).cloned().collect();
        if let Some(path) = path.filter(|_| todo.is_empty()) {
            outbox.push(refuse(format!("nothing that this node has made visible is at {path}")));
            return;
        }
        let news = vec![News::Begun { directories: todo.len() as u64 }];
        self.commands.push_back(Command { ticket, todo, run: None, news, telling: false, ended: false });
    }

    fn told(&mut self, ticket: Ticket, alive: bool, outbox: &mut Outbox<Effect>) {
        let Some(at) = self.commands.iter().position(|command| command.ticket == ticket) else { return };
        self.commands[at].telling = false;
        if alive {
            return;
        }
        if let Some(run) = self.commands.remove(at).and_then(|command| command.run) {
            outbox.push(Effect::Released { path: run.path });
        }
    }

    /// Begins the next step, if one is due and none is being done.
    fn next(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        while self.reading.is_none() {
            let Some(command) = self.commands.iter_mut().find(|command| command.is_ready()) else { break };
            let ticket = command.ticket;
            if command.run.is_none() {
                let Some(path) = command.todo.pop_front() else {
                    command.news.push(News::Ended);
                    continue;
                };
                command.run = self.trees.get(&path).map(|tree| Run::new(path.clone(), tree));
                if command.run.is_none() {
                    command.news.push(News::Directory { path, end: End::Changed });
                    continue;
                }
            }
            self.step(now, By::Command(ticket), outbox);
        }
        if self.reading.is_some() || self.resume > now.time {
            return;
        }
        if self.background.is_none() {
            let Some((_, path)) = self.due.first().filter(|(due, _)| *due <= now.stamp).cloned() else { return };
            self.background = self.trees.get(&path).map(|tree| Run::new(path, tree));
        }
        self.step(now, By::Clock, outbox);
    }

    /// Hands over what commands are to be told; of each one thing at a time is on its way.
    fn tell(&mut self, outbox: &mut Outbox<Effect>) {
        for command in self.commands.iter_mut().filter(|command| !command.telling && !command.news.is_empty()) {
            outbox.push(Effect::Tell { ticket: command.ticket, news: command.hand_over() });
        }
        self.commands.retain(|command| !command.ended);
    }

    fn news(&mut self, by: By, news: News) {
        let by_it = |command: &&mut Command| By::Command(command.ticket) == by;
        if let Some(command) = self.commands.iter_mut().find(by_it) {
            command.news.push(news);
        }
    }

    fn run(&mut self, by: By) -> Option<&mut Option<Run>> {
        match by {
            By::Clock => Some(&mut self.background),
            By::Command(ticket) => {
                let command = self.commands.iter_mut().find(|command| command.ticket == ticket);
                command.map(|command| &mut command.run)
            }
        }
    }

    fn running(&mut self, by: By) -> Option<Run> {
        self.run(by)?.clone()
    }

    /// Does the next step of a run.
    fn step(&mut self, now: Now, by: By, outbox: &mut Outbox<Effect>) {
        let Some(run) = self.running(by) else { return };
        let stands = self.trees.get(&run.path).is_some_and(|tree| tree.root == run.root);
        match self.config(&run.path).cloned() {
            _ if !stands => self.over(now, by, End::Changed, outbox),
            None => self.over(now, by, End::Failed("its directory isn't configured any more".to_owned()), outbox),
            Some(directory) => {
                self.reading = Some(by);
                if by == By::Clock {
                    self.resume = now.time;
                }
                let task = DiskTask { directory, path: run.path.clone(), action: run.action() };
                outbox.push(Effect::Disk { task, ordered: by != By::Clock });
            }
        }
    }

    fn stepped(&mut self, now: Now, result: Result<DiskResult, Failure>, outbox: &mut Outbox<Effect>) {
        let Some(by) = self.reading.take() else { return };
        let Some(mut run) = self.running(by) else { return };
        if self.trees.get(&run.path).is_none_or(|tree| tree.root != run.root) {
            return self.over(now, by, End::Changed, outbox);
        }
        let part = match result {
            Ok(DiskResult::Scrubbed(part)) => part.map_or_else(|| run::replaced(&run), |part| *part),
            Ok(other) => {
                let text = format!("internal error: {other:?} for a scrub");
                return self.failed(now, by, Failure { kind: FailureKind::Io, text }, outbox);
            }
            Err(failure) => return self.failed(now, by, failure, outbox),
        };
        let Stepped { cost, found, ended } = run.stepped(part, outbox);
        if by == By::Clock {
            let nanos = u128::from(cost) * 1_000_000_000 / u128::from(self.rate.max(1));
            let takes = std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.resume = self.resume + takes;
        }
        let (path, bytes, bytes_total) = (run.path.clone(), run.bytes, run.bytes_total);
        self.news(by, News::Found { path, findings: found, bytes, bytes_total });
        if let Some(running) = self.run(by) {
            *running = Some(run.clone());
        }
        if ended {
            let (path, verdict) = (run.path.clone(), run.verdict(now.stamp));
            let sound = verdict.damaged == 0 && !run.doubted;
            if let Some(tree) = self.trees.get_mut(&path) {
                tree.verdict = Some(verdict);
            }
            self.schedule(now, &path, None);
            if verdict.damaged == 0 && run.doubted {
                // Who is right shows the next time.
                self.put_off(now, &path);
            }
            outbox.push(Effect::Read { path, root: run.root, verdict, bytes: run.bytes, sound });
            let heals = verdict.damaged > 0 && self.config(&run.path).is_some_and(|config| config.heal);
            self.over(now, by, End::Read { verdict, bytes: run.bytes, heals }, outbox);
        }
    }

    fn busy(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let Some(by) = self.reading.take() else { return };
        if let Some(run) = self.running(by) {
            self.put_off(now, &run.path);
        }
        self.resume = now.time + limits::SCRUB_INTERVAL_MIN;
        self.over(now, by, End::Failed("a deployment is under way there".to_owned()), outbox);
    }

    fn failed(&mut self, now: Now, by: By, failure: Failure, outbox: &mut Outbox<Effect>) {
        if let Some(run) = self.running(by) {
            self.put_off(now, &run.path);
            outbox.push(Effect::Failed { path: run.path, failure: failure.clone() });
        }
        self.resume = now.time + limits::SCRUB_INTERVAL_MIN;
        self.over(now, by, End::Failed(failure.text), outbox);
    }

    /// A run has ended.
    fn over(&mut self, now: Now, by: By, end: End, outbox: &mut Outbox<Effect>) {
        let Some(run) = self.run(by).and_then(Option::take) else { return };
        if end == End::Changed {
            self.schedule(now, &run.path, None);
        } else if self.due_at.get(&run.path).is_some_and(|due| *due <= now.stamp) {
            // Nothing said when to try again, and at once would be for ever.
            self.put_off(now, &run.path);
        }
        outbox.push(Effect::Released { path: run.path.clone() });
        self.news(by, News::Directory { path: run.path, end });
    }

    /// Does what is to be done now, and sets when to look again.
    fn go_on(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.next(now, outbox);
        self.tell(outbox);
        let due = self.due.first().map(|(due, _)| {
            let left = std::time::Duration::from_millis(due.0.saturating_sub(now.stamp.0));
            now.time + left.min(limits::SCRUB_LOOK_INTERVAL)
        });
        let due = if self.background.is_some() { Some(now.time) } else { due };
        self.wake = due.filter(|_| self.reading.is_none()).map(|due| {
            let soon = now.time + std::time::Duration::from_millis(1);
            due.max(self.resume).max(soon)
        });
    }
}

impl Engine for Scrubs {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Configured { directories, rate } => self.configured(now, directories, rate),
            Input::Visible { path, tree } => self.visible(now, &path, tree),
            Input::Gone { path } => self.gone(now, &path),
            Input::Doubted { path } => self.doubted(&path),
            Input::Command { ticket, path } => self.command(ticket, path.as_ref(), outbox),
            Input::Disk { result } => self.stepped(now, result, outbox),
            Input::Busy => self.busy(now, outbox),
            Input::Told { ticket, alive } => self.told(ticket, alive, outbox),
        }
        self.go_on(now, outbox);
    }

    /// Changes with every input: when the next step may be done.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        self.wake.map(|at| (at, "scrub: a directory is due"))
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.wake.is_some_and(|wake| wake <= now.time) {
            self.go_on(now, outbox);
        }
    }
}
