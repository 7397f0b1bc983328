//! One session of the side which opened it: compare, pull, propose, until nothing is left to look at.
//!
//! Differing ranges are looked at depth first, and what was found is exchanged before more is asked for, so a session
//! needs little memory whatever the two have. Each answer must make ranges finer; a node that does so for ever runs into
//! the session's end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::withdrawn::Withdrawn;
use super::{Effect, HeadIndex, SessionId};
use crate::format::wire::{NodeRequest, NodeResponse, ProposalVerdict, VerdictWord};
use crate::model::change::SignedChange;
use crate::model::heads::{HeadRange, RangeAnswer};
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    node: NodeId,
    directory: Box<str>,
    /// When it has taken too long.
    end: Time,
    /// When the question has.
    until: Time,
    state: State,
    /// Still to be compared, the last one first.
    ranges: Vec<Span>,
    /// The other's heads, which aren't those of this node.
    pull: VecDeque<(VPath, ChangeId)>,
    /// Where this node has a head that the other lacks, or that wins.
    push: BTreeSet<VPath>,
    /// Came from the other, to be decided on next; with what [`State::Deciding`] says of `push`.
    came: (Vec<SignedChange>, bool),
    /// All heads were the same at the first look.
    same: bool,
    pulled: u64,
    pushed: u64,
}

/// From a path on, before another; `None`: from the beginning, to the end.
#[derive(Debug, Clone)]
struct Span {
    from: Option<VPath>,
    to: Option<VPath>,
}

/// What it waits for.
#[derive(Debug)]
enum State {
    /// Nothing.
    Ready,
    /// How these ranges compare.
    Comparing(Vec<Span>),
    /// The changes at these paths.
    Pulling(BTreeSet<VPath>),
    /// Verdicts of the other on these heads.
    Pushing(Vec<(VPath, ChangeId)>),
    /// Verdicts of this node on changes at these paths. `push`: the other is told what wins over its own.
    Deciding { paths: Vec<VPath>, push: bool },
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// This, which will be answered.
    Effect(Effect),
    /// The answer is still to come.
    Wait,
    /// Nothing.
    Done,
}

impl Session {
    pub(super) fn new(id: SessionId, node: NodeId, directory: Box<str>, now: Time) -> Self {
        Self {
            id,
            node,
            directory,
            end: now + limits::CATCH_UP_SESSION_TIMEOUT,
            until: now + limits::CATCH_UP_ANSWER_TIMEOUT,
            state: State::Ready,
            ranges: vec![Span { from: None, to: None }],
            pull: VecDeque::new(),
            push: BTreeSet::new(),
            came: (Vec::new(), false),
            same: false,
            pulled: 0,
            pushed: 0,
        }
    }

    pub(super) fn directory(&self) -> &str {
        &self.directory
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// How many heads changed, here and there.
    pub(super) fn exchanged(&self) -> (u64, u64) {
        (self.pulled, self.pushed)
    }

    /// Whether it was needed: there was a difference, and it is still all there.
    pub(super) fn was_fruitless(&self) -> bool {
        !self.same && self.exchanged() == (0, 0)
    }

    /// When it has taken too long.
    pub(super) fn until(&self) -> Time {
        self.until.min(self.end)
    }

    /// The next question, if the last one was answered.
    pub(super) fn next(&mut self, now: Time, index: &HeadIndex, withdrawn: &Withdrawn) -> Step {
        if !matches!(self.state, State::Ready) {
            return Step::Wait;
        }
        self.until = now + limits::CATCH_UP_ANSWER_TIMEOUT;
        let (changes, push) = std::mem::take(&mut self.came);
        if !changes.is_empty() {
            return Step::Effect(self.decide(changes, push));
        }
        let next = self.ask_for_heads(index, withdrawn).or_else(|| self.propose(index));
        next.or_else(|| self.compare(index)).map_or(Step::Done, Step::Effect)
    }

    fn decide(&mut self, changes: Vec<SignedChange>, push: bool) -> Effect {
        let paths = changes.iter().map(|signed| signed.change.path.clone()).collect();
        self.state = State::Deciding { paths, push };
        // Its own disk may take longer than an answer.
        self.until = self.end;
        Effect::Decide { session: self.id, node: self.node, changes }
    }

    fn ask_for_heads(&mut self, index: &HeadIndex, withdrawn: &Withdrawn) -> Option<Effect> {
        let mut paths = BTreeSet::new();
        while paths.len() < limits::CHANGES_PER_MESSAGE_MAX
            && let Some((path, change)) = self.pull.pop_front()
        {
            if index.get(&path) != Some(change) && withdrawn.reason(change).is_none() {
                paths.insert(path);
            }
        }
        if paths.is_empty() {
            return None;
        }
        let request = NodeRequest::GetHeads { paths: paths.iter().cloned().collect() };
        self.state = State::Pulling(paths);
        Some(Effect::Ask { session: self.id, node: self.node, request })
    }

    fn propose(&mut self, index: &HeadIndex) -> Option<Effect> {
        let mut heads = Vec::new();
        while heads.len() < limits::CHANGES_PER_MESSAGE_MAX
            && let Some(path) = self.push.pop_first()
        {
            heads.extend(index.get(&path).map(|change| (path, change)));
        }
        if heads.is_empty() {
            return None;
        }
        self.state = State::Pushing(heads.clone());
        Some(Effect::Propose { session: self.id, node: self.node, heads })
    }

    fn compare(&mut self, index: &HeadIndex) -> Option<Effect> {
        let first = self.ranges.len().saturating_sub(limits::HEAD_RANGES_MAX);
        let spans = self.ranges.split_off(first);
        if spans.is_empty() {
            return None;
        }
        let ranges = spans.iter().map(|span| index.range(span.from.as_ref(), span.to.as_ref())).collect();
        self.state = State::Comparing(spans);
        let request = NodeRequest::CompareHeads { directory: self.directory.clone(), ranges };
        Some(Effect::Ask { session: self.id, node: self.node, request })
    }

    /// The other's answer; an error, if it isn't one that an honest node gives.
    pub(super) fn answered(&mut self, answer: NodeResponse, index: &HeadIndex) -> Result<(), String> {
        match (std::mem::replace(&mut self.state, State::Ready), answer) {
            (State::Comparing(spans), NodeResponse::CompareHeads { answers }) => self.compared(spans, answers, index),
            (State::Pulling(paths), NodeResponse::GetHeads { changes }) => self.got_heads(paths, changes),
            (State::Pushing(heads), NodeResponse::Propose { verdicts }) => self.proposed(&heads, verdicts),
            (state @ (State::Ready | State::Deciding { .. }), _) => {
                // Of no question that is open.
                self.state = state;
                Ok(())
            }
            (State::Comparing(_) | State::Pulling(_) | State::Pushing(_), _) => {
                Err("it answered another question".to_owned())
            }
        }
    }

    fn compared(&mut self, mut spans: Vec<Span>, answers: Vec<RangeAnswer>, index: &HeadIndex) -> Result<(), String> {
        if answers.is_empty() || answers.len() > spans.len() {
            return Err(format!("{} answers to {} ranges", answers.len(), spans.len()));
        }
        // Those that it had no room for are asked for again.
        self.ranges.extend(spans.split_off(answers.len()));
        for (span, answer) in spans.iter().zip(answers) {
            match answer {
                RangeAnswer::Same => self.same |= span.from.is_none() && span.to.is_none(),
                RangeAnswer::Finer(ranges) => self.finer(span, ranges, index)?,
                RangeAnswer::Heads(heads) => self.listed(span, heads, index)?,
            }
        }
        if self.ranges.len() > limits::CATCH_UP_RANGES_MAX {
            return Err("too many ranges".to_owned());
        }
        Ok(())
    }

    fn finer(&mut self, span: &Span, ranges: Vec<HeadRange>, index: &HeadIndex) -> Result<(), String> {
        if !is_finer(span, &ranges) {
            return Err("ranges that aren't finer".to_owned());
        }
        for HeadRange { from, to, fingerprint, count } in ranges {
            let here = index.range(from.as_ref(), to.as_ref());
            if (here.fingerprint, here.count) != (fingerprint, count) {
                self.ranges.push(Span { from, to });
            }
        }
        Ok(())
    }

    fn listed(&mut self, span: &Span, heads: Vec<(VPath, ChangeId)>, index: &HeadIndex) -> Result<(), String> {
        let ascending = heads.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascending || !heads.iter().all(|(path, _)| path.key() == &*self.directory && span.contains(path)) {
            return Err("heads that aren't in the range".to_owned());
        }
        let theirs: BTreeMap<_, _> = heads.into_iter().collect();
        for (path, _) in index.heads(span.from.as_ref(), span.to.as_ref()) {
            if !theirs.contains_key(path) {
                self.push.insert(path.clone());
            }
        }
        self.pull.extend(theirs.into_iter().filter(|(path, change)| index.get(path) != Some(*change)));
        Ok(())
    }

    fn got_heads(&mut self, mut asked: BTreeSet<VPath>, changes: Vec<SignedChange>) -> Result<(), String> {
        if !changes.iter().all(|signed| asked.remove(&signed.change.path)) {
            return Err("changes that it wasn't asked for".to_owned());
        }
        self.came = (changes, true);
        Ok(())
    }

    fn proposed(&mut self, heads: &[(VPath, ChangeId)], verdicts: Vec<ProposalVerdict>) -> Result<(), String> {
        if verdicts.len() != heads.len() {
            return Err(format!("{} verdicts on {} changes", verdicts.len(), heads.len()));
        }
        for ((path, _), verdict) in heads.iter().zip(verdicts) {
            self.pushed += u64::from(verdict.verdict == VerdictWord::Accept);
            let Some(newer) = verdict.newer else { continue };
            if newer.change.path != *path {
                return Err("another path's change as the newer one".to_owned());
            }
            self.came.0.push(newer);
        }
        Ok(())
    }

    /// This node's own verdicts.
    pub(super) fn decided(&mut self, verdicts: &[ProposalVerdict]) {
        let State::Deciding { paths, push } = &mut self.state else { return };
        let (paths, push) = (std::mem::take(paths), *push);
        self.state = State::Ready;
        for (path, verdict) in paths.into_iter().zip(verdicts) {
            match verdict.verdict {
                VerdictWord::Accept => self.pulled += 1,
                VerdictWord::Superseded if push => {
                    self.push.insert(path);
                }
                VerdictWord::Superseded | VerdictWord::Have | VerdictWord::Refused => {}
            }
        }
    }
}

impl Span {
    fn contains(&self, path: &VPath) -> bool {
        self.from.as_ref().is_none_or(|from| from <= path) && self.to.as_ref().is_none_or(|to| path < to)
    }
}

/// Whether the ranges are the span, cut at least once.
fn is_finer(span: &Span, ranges: &[HeadRange]) -> bool {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return false };
    let cuts = ranges.windows(2).all(|pair| pair[0].to.is_some() && pair[0].to == pair[1].from);
    let grows = |range: &HeadRange| range.from.is_none() || range.to.is_none() || range.from < range.to;
    ranges.len() > 1 && first.from == span.from && last.to == span.to && cuts && ranges.iter().all(grows)
}
