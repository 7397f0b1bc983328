//! What should be at each path: decided by `access`, durable before it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::proposals::Place;
use super::siblings::{self, Recent, Usable};
use super::{Effect, Node, Note, Purpose, Row, Snapshot};
use crate::engine::access;
use crate::engine::contract::Outbox;
use crate::engine::deploy::{self, Found};
use crate::format::change;
use crate::format::record::{CommittedRecord, DamageRecord, HeadRecord, IntentRecord};
use crate::format::wire::{ChangeAnswer, Response, SubmitAnswer, VerdictWord};
use crate::model::change::{Rank, SignedChange};
use crate::model::directory::DirectoryConfig;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::reuse::{Damage, Sibling};
use crate::model::time::{Now, Stamp};
use crate::model::verdict::{Refusal, Verdict};
use crate::model::vpath::VPath;

/// In which words a request wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// `AppendDir` of `ciruela.v1`.
    AppendDir,
    /// `ReplaceDir` of `ciruela.v1`.
    ReplaceDir,
    /// `SubmitChange` of `ciruela.v2`.
    SubmitChange,
}

/// A client's request to put a change in force.
#[derive(Debug, Clone, Copy)]
pub(super) struct Submission {
    pub(super) connection: ConnectionId,
    pub(super) request: u64,
    pub(super) form: Form,
}

/// Who waits until a change is durable.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waiter {
    /// A client.
    Client(Submission),
    /// One of the changes that another node has admitted.
    Batch(Place),
}

/// A write of a head.
#[derive(Debug)]
pub(super) struct Registration {
    path: VPath,
    id: ChangeId,
    waiter: Option<Waiter>,
    /// Whether the head is new with this write: then it is taken back if the write fails.
    new: bool,
}

/// What should be at one path, and what is.
#[derive(Debug)]
struct Head {
    record: HeadRecord,
    id: ChangeId,
    /// Writes of this head that are not yet answered.
    writes: usize,
    /// The head in whose place it came, until its first write is answered: it holds on if that fails.
    displaced: Option<Box<HeadRecord>>,
}

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Heads {
    heads: BTreeMap<VPath, Head>,
    committed: BTreeMap<VPath, Committed>,
    /// Where each visible image is.
    visible: BTreeMap<ImageId, BTreeSet<VPath>>,
    intents: BTreeMap<VPath, IntentRecord>,
    /// Being recorded, not yet durable.
    committing: BTreeMap<VPath, Committed>,
    recent: Recent,
    /// Where visible directories came from, of those that were made visible since the start.
    origins: BTreeMap<VPath, (ChangeId, Found)>,
    /// What is wrong with visible directories.
    damaged: BTreeMap<VPath, DamageRecord>,
}

/// What this node made visible at a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Committed {
    pub(super) change: ChangeId,
    pub(super) image: ImageId,
    pub(super) root: FileIdentity,
    pub(super) bytes_reused: u64,
    pub(super) bytes_fetched: u64,
}

impl From<CommittedRecord> for Committed {
    fn from(record: CommittedRecord) -> Self {
        let CommittedRecord { change, image, root, bytes_reused, bytes_fetched, .. } = record;
        Self { change, image, root, bytes_reused, bytes_fetched }
    }
}

impl Heads {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let head = |(path, record): (VPath, HeadRecord)| {
            let id = change::id(&record.change.change);
            (path, Head { record, id, writes: 0, displaced: None })
        };
        let mut heads = Self {
            heads: snapshot.heads.into_iter().map(head).collect(),
            intents: snapshot.intents,
            ..Self::default()
        };
        let mut committed: Vec<_> = snapshot.committed.into_iter().collect();
        committed.sort_by_key(|(path, _)| heads.heads.get(path).map(|head| head.record.change.change.stamp));
        for (path, record) in committed {
            heads.show(path, record.into());
        }
        heads.damaged = snapshot.damaged;
        heads
    }

    pub(super) fn paths(&self) -> Vec<VPath> {
        self.heads.keys().cloned().collect()
    }

    pub(super) fn change(&self, path: &VPath) -> Option<(ChangeId, &SignedChange)> {
        self.heads.get(path).map(|head| (head.id, &head.record.change))
    }

    /// The visible image, if this node committed it.
    pub(super) fn committed_at(&self, path: &VPath) -> Option<Committed> {
        self.committed.get(path).copied()
    }

    /// Some path where the image is visible.
    pub(super) fn path_of(&self, image: ImageId) -> Option<&VPath> {
        self.visible.get(&image)?.first()
    }

    /// Whether the image is visible at the path.
    pub(super) fn shows(&self, path: &VPath, image: ImageId) -> bool {
        self.committed.get(path).is_some_and(|committed| committed.image == image)
    }

    fn show(&mut self, path: VPath, committed: Committed) {
        self.recent.committed(&path);
        self.damaged.remove(&path);
        if let Some(old) = self.committed.insert(path.clone(), committed)
            && let Some(paths) = self.visible.get_mut(&old.image)
        {
            paths.remove(&path);
            if paths.is_empty() {
                self.visible.remove(&old.image);
            }
        }
        self.visible.entry(committed.image).or_default().insert(path);
    }

    /// Whether the head's image is visible.
    pub(super) fn is_committed(&self, path: &VPath) -> bool {
        let wanted = self.heads.get(path).and_then(|head| head.record.change.change.image);
        wanted.is_some() && self.committed.get(path).map(|committed| committed.image) == wanted
    }

    /// What `access` wants to know of a path.
    pub(super) fn access_head(&self, path: &VPath) -> Option<access::Head<'_>> {
        let committed = self.is_committed(path);
        self.heads.get(path).map(|head| access::Head { change: &head.record.change, id: head.id, committed })
    }

    pub(super) fn order(&mut self, path: &VPath, directory: Arc<DirectoryConfig>) -> Option<deploy::Order> {
        let head = self.heads.get(path)?;
        let image = head.record.change.change.image?;
        let committed = self.committed.get(path).map(|committed| (committed.image, committed.root));
        let change = head.id;
        let needed = committed.is_none_or(|(standing, _)| standing != image);
        let siblings = if needed { self.recent.siblings(path, self) } else { Arc::default() };
        let intent = self.intents.remove(path);
        Some(deploy::Order { path: path.clone(), directory, change, image, committed, intent, siblings })
    }

    /// Notes that something is wrong with a visible directory; `None` if that is known, or isn't about what is there now.
    fn damage(&mut self, damage: Damage) -> Option<(VPath, DamageRecord)> {
        let Damage { path, root, file, what } = damage;
        // Device numbers may have changed at a reboot.
        let stands = self.committed.get(&path).is_some_and(|committed| committed.root.ino == root.ino);
        if !stands || self.damaged.contains_key(&path) {
            return None;
        }
        let record = DamageRecord { root, file, what };
        self.damaged.insert(path.clone(), record.clone());
        Some((path, record))
    }

    /// The deployment which ends now took its content from there.
    pub(super) fn came_from(&mut self, path: &VPath, found: Found) {
        if let Some(committing) = self.committing.get(path) {
            self.origins.insert(path.clone(), (committing.change, found));
        }
    }

    /// Where the visible directory came from.
    pub(super) fn origin(&self, path: &VPath) -> Option<&Found> {
        let (change, found) = self.origins.get(path)?;
        self.committed.get(path).filter(|committed| committed.change == *change).map(|_| found)
    }

    /// What is wrong with the visible directory.
    pub(super) fn damage_of(&self, path: &VPath) -> Option<&DamageRecord> {
        self.damaged.get(path)
    }

    /// The head at a path can't be deployed: the one which was visible last, or came before it, holds again; or none. Says
    /// whether there was one.
    fn take_back(&mut self, path: &VPath) -> bool {
        let Some(Head { record, writes, .. }) = self.heads.remove(path) else { return false };
        self.put_back(path, record.before, writes)
    }

    /// The head at a path couldn't be written down: the one in whose place it came holds on.
    fn take_back_unwritten(&mut self, path: &VPath) -> bool {
        let Some(Head { displaced, writes, .. }) = self.heads.remove(path) else { return false };
        self.put_back(path, displaced, writes)
    }

    fn put_back(&mut self, path: &VPath, record: Option<Box<HeadRecord>>, writes: usize) -> bool {
        let Some(record) = record else { return false };
        let id = change::id(&record.change.change);
        self.heads.insert(path.clone(), Head { record: *record, id, writes, displaced: None });
        true
    }

    /// A new head comes in the place of another.
    fn displace(&mut self, path: &VPath, change: SignedChange, admitted: Stamp) {
        let id = change::id(&change.change);
        let committed = self.is_committed(path);
        let old = self.heads.remove(path);
        let writes = old.as_ref().map_or(0, |old| old.writes);
        let displaced = old.map(|old| Box::new(old.record));
        // Of several that didn't get to be visible, only the last is of interest.
        let before = displaced.as_ref().map(|old| match &old.before {
            Some(visible) if !committed => visible.clone(),
            _ => Box::new(HeadRecord { before: None, ..(**old).clone() }),
        });
        let record = HeadRecord { change, admitted, before };
        self.heads.insert(path.clone(), Head { record, id, writes, displaced });
    }

    pub(super) fn committing(&mut self, path: &VPath, record: CommittedRecord) {
        self.committing.insert(path.clone(), record.into());
    }

    /// A deployment is recorded (or was found to be).
    pub(super) fn committed(&mut self, path: &VPath, change: ChangeId) {
        if let Some(committed) = self.committing.remove(path) {
            self.show(path.clone(), committed);
        }
        if let Some(head) = self.heads.get_mut(path).filter(|head| head.id == change) {
            head.record.before = None;
        }
    }
}

impl Usable for Heads {
    fn sibling(&self, path: &VPath) -> Option<Sibling> {
        let Committed { image, root, .. } = *self.committed.get(path).filter(|_| !self.damaged.contains_key(path))?;
        Some(Sibling { path: path.clone(), image, root })
    }

    fn neighbours(&self, path: &VPath) -> Vec<&VPath> {
        siblings::neighbours(&self.committed, path)
    }
}

impl Node {
    /// Something is wrong with a visible directory: it is told of, and not used any more.
    pub(super) fn damaged(&mut self, damage: Damage, outbox: &mut Outbox<Effect>) {
        if let Some((path, record)) = self.heads.damage(damage) {
            let DamageRecord { file, what, .. } = record.clone();
            outbox.push(Effect::Note(Note::Damaged { path: path.clone(), file, what }));
            let job = self.job(Purpose::Damage);
            outbox.push(Effect::Write { job, rows: vec![Row::Damaged { path, record }] });
        }
    }

    /// Decides about a change and answers when what follows from it is durable.
    pub(super) fn submit(&mut self, now: Now, client: Submission, signed: &SignedChange, outbox: &mut Outbox<Effect>) {
        let path = signed.change.path.clone();
        let head = self.heads.access_head(&path);
        let mut decision = access::decide(signed, &self.config, self.cluster_name.as_deref(), head, now.stamp);
        if decision.verdict == Verdict::Accept && self.deploys.len() >= limits::DEPLOYS_MAX {
            decision.verdict = Verdict::Refused(Refusal::Overloaded);
        }
        let (verdict, image) = (&decision.verdict, signed.change.image);
        let words = verdict.reject_word().unwrap_or(verdict.word()).to_owned();
        outbox.push(Effect::Note(Note::Decided { path: path.to_string(), verdict: words, image }));
        match decision.verdict {
            Verdict::Accept => {
                self.vouched(now, client.connection, image, outbox);
                self.accept(now, &path, decision.verified, Waiter::Client(client), outbox);
                self.follow_head(now, client.connection, &path, outbox);
            }
            Verdict::Have => {
                self.vouched(now, client.connection, image, outbox);
                self.follow_head(now, client.connection, &path, outbox);
                self.merge(now, &path, &decision.verified, Waiter::Client(client), outbox);
            }
            Verdict::Superseded(_) | Verdict::Refused(_) => {
                self.answer_change(now, Waiter::Client(client), &path, &decision.verdict, outbox);
            }
        }
    }

    fn follow_head(&mut self, now: Now, client: ConnectionId, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some((id, signed)) = self.heads.change(path) else { return };
        let rank = Rank { stamp: signed.change.stamp, id };
        if let Some(image) = signed.change.image {
            self.follow(now, client, path, (rank, image), outbox);
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Now,
        path: &VPath,
        verified: SignedChange,
        waiter: Waiter,
        outbox: &mut Outbox<Effect>,
    ) {
        self.heads.displace(path, verified, now.stamp);
        self.write_head(path, Some(waiter), true, outbox);
    }

    /// The same image again: its signatures are added, and an answer never overtakes the write that it speaks of.
    pub(super) fn merge(
        &mut self,
        now: Now,
        path: &VPath,
        verified: &SignedChange,
        waiter: Waiter,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(head) = self.heads.heads.get_mut(path) else { return };
        let same = change::id(&verified.change) == head.id;
        let merged = same && head.record.change.merge(&verified.signatures);
        if merged || head.writes > 0 {
            self.write_head(path, Some(waiter), false, outbox);
        } else {
            self.answer_change(now, waiter, path, &Verdict::Have, outbox);
            self.order(now, path, outbox);
            self.spread(now, path, outbox);
        }
    }

    fn write_head(&mut self, path: &VPath, waiter: Option<Waiter>, new: bool, outbox: &mut Outbox<Effect>) {
        let Some(head) = self.heads.heads.get_mut(path) else { return };
        head.writes += 1;
        let (record, id) = (head.record.clone(), head.id);
        let job = self.job(Purpose::Register(Registration { path: path.clone(), id, waiter, new }));
        outbox.push(Effect::Write { job, rows: vec![Row::Head { path: path.clone(), record }] });
    }

    /// The answer to [`Self::write_head`].
    pub(super) fn registered(
        &mut self,
        now: Now,
        done: Registration,
        result: Result<(), String>,
        outbox: &mut Outbox<Effect>,
    ) {
        let Registration { path, id, waiter, new } = done;
        let Some(head) = self.heads.heads.get_mut(&path) else { return };
        head.writes = head.writes.saturating_sub(1);
        match result {
            Ok(()) => {
                if head.id == id {
                    head.displaced = None;
                }
                if let Some(waiter) = waiter {
                    let verdict = if new { Verdict::Accept } else { Verdict::Have };
                    self.answer_change(now, waiter, &path, &verdict, outbox);
                }
                self.head_changed(now, &path, outbox);
                self.order(now, &path, outbox);
                self.spread(now, &path, outbox);
            }
            Err(text) => {
                if new && head.id == id {
                    self.heads.take_back_unwritten(&path);
                }
                match waiter {
                    Some(Waiter::Client(client)) => {
                        let text = format!("the change could not be written down: {text}");
                        self.respond(client.connection, client.request, Response::Error(text), outbox);
                    }
                    Some(Waiter::Batch(place)) => self.proposal_failed(now, place, outbox),
                    None => {}
                }
            }
        }
    }

    /// The image can never be deployed: what held before holds again.
    pub(super) fn withdraw(&mut self, now: Now, path: &VPath, change: ChangeId, outbox: &mut Outbox<Effect>) {
        let Some(head) = self.heads.heads.get(path).filter(|head| head.id == change) else { return };
        let id = head.id;
        if self.heads.take_back(path) {
            self.write_head(path, None, false, outbox);
        } else {
            let job = self.job(Purpose::Register(Registration { path: path.clone(), id, waiter: None, new: false }));
            outbox.push(Effect::Write { job, rows: vec![Row::NoHead { path: path.clone() }] });
        }
        self.head_changed(now, path, outbox);
    }

    fn answer_change(
        &mut self,
        now: Now,
        waiter: Waiter,
        path: &VPath,
        verdict: &Verdict,
        outbox: &mut Outbox<Effect>,
    ) {
        match waiter {
            Waiter::Client(client) => self.answer_client(client, path, verdict, outbox),
            Waiter::Batch(place) => self.proposal_decided(now, place, verdict, outbox),
        }
    }

    fn answer_client(&mut self, client: Submission, path: &VPath, verdict: &Verdict, outbox: &mut Outbox<Effect>) {
        let accepted = matches!(verdict, Verdict::Accept | Verdict::Have);
        // Where else the directory is carried; so a client knows at once that there are others to wait for.
        let elsewhere = match verdict {
            Verdict::Accept | Verdict::Have | Verdict::Refused(Refusal::NoConfig { .. }) => self.elsewhere(path.key()),
            Verdict::Superseded(_) | Verdict::Refused(_) => Vec::new(),
        };
        let reject_reason = verdict.reject_word().map(str::to_owned);
        let hosts = match verdict {
            // Who carries it instead.
            Verdict::Refused(Refusal::NoConfig { .. }) => self.cluster.hosts(&elsewhere),
            Verdict::Accept | Verdict::Have | Verdict::Superseded(_) | Verdict::Refused(_) => self.this_host(),
        };
        let response = match client.form {
            Form::AppendDir => Response::AppendDir(ChangeAnswer { accepted, reject_reason, hosts }),
            Form::ReplaceDir => Response::ReplaceDir(ChangeAnswer { accepted, reject_reason, hosts }),
            Form::SubmitChange => {
                let (detail, accepted_keys, current, stamp) = self.detail(path, verdict);
                Response::SubmitChange(SubmitAnswer {
                    verdict: match verdict {
                        Verdict::Accept => VerdictWord::Accept,
                        Verdict::Have => VerdictWord::Have,
                        Verdict::Superseded(_) => VerdictWord::Superseded,
                        Verdict::Refused(_) => VerdictWord::Refused,
                    },
                    reject_reason,
                    detail,
                    accepted_keys,
                    current,
                    stamp,
                    // What is on disk is looked at again each time: the outcome follows in any case.
                    done: false,
                    host: self.host.clone(),
                    hosts,
                    addresses: elsewhere,
                })
            }
        };
        self.respond(client.connection, client.request, response, outbox);
    }

    /// What a person wants to know about a verdict: in words, whose keys, which image, of what time.
    fn detail(&self, path: &VPath, verdict: &Verdict) -> (Option<String>, Vec<String>, Option<ImageId>, Option<Stamp>) {
        let current = self.heads.change(path).map(|(_, signed)| signed);
        let (image, stamp) =
            (current.and_then(|signed| signed.change.image), current.map(|signed| signed.change.stamp));
        match verdict {
            Verdict::Accept | Verdict::Have => (None, Vec::new(), image, stamp),
            Verdict::Superseded(newer) => {
                let detail = "a newer change holds at this path".to_owned();
                (Some(detail), Vec::new(), newer.change.image, Some(newer.change.stamp))
            }
            Verdict::Refused(refusal) => {
                let keys = if let Refusal::SignatureMismatch { accepted, .. } = refusal {
                    accepted.clone()
                } else {
                    Vec::new()
                };
                let stamp = if let Refusal::StampInFuture { node_clock } = refusal { Some(*node_clock) } else { stamp };
                // Who didn't prove a key isn't told what is there.
                let known = !matches!(refusal, Refusal::NoConfig { .. } | Refusal::SignatureMismatch { .. });
                (Some(refusal.to_string()), keys, image.filter(|_| known), stamp.filter(|_| known))
            }
        }
    }
}
