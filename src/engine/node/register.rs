//! What should be at each path: decided by `access`, durable before it is acknowledged.

use super::proposals::Place;
use super::watch::Subject;
use super::{Effect, Node, Note, Purpose, Row};
use crate::engine::access;
use crate::engine::contract::Outbox;
use crate::format::change;
use crate::format::record::DamageRecord;
use crate::format::wire::{ChangeAnswer, Response, SubmitAnswer, VerdictWord};
use crate::model::change::SignedChange;
use crate::model::failure::Failure;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::reuse::Damage;
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
        let gone = self.gone(&path).is_some();
        let head = self.heads.access_head(&path, gone);
        let mut decision = access::decide(signed, &self.config, self.cluster_name.as_deref(), head, now.stamp);
        let full = self.deploys.len() >= limits::DEPLOYS_MAX && !signed.change.deletes();
        if decision.verdict == Verdict::Accept && full {
            decision.verdict = Verdict::Refused(Refusal::Overloaded);
        }
        let (verdict, image) = (&decision.verdict, signed.change.image);
        let words = verdict.reject_word().unwrap_or(verdict.word()).to_owned();
        let subject = signed.change.subject();
        outbox.push(Effect::Note(Note::Decided { path: path.to_string(), verdict: words, image: subject }));
        match decision.verdict {
            Verdict::Accept => {
                self.vouched(now, client.connection, image, outbox);
                self.accept(now, &path, decision.verified, Waiter::Client(client), outbox);
                self.follow_head(now, client.connection, &path, outbox);
            }
            Verdict::Have => {
                self.vouched(now, client.connection, image, outbox);
                if let Some((change, _)) = self.heads.change(&path) {
                    self.heads.publish_again(&path, change);
                }
                self.follow_head(now, client.connection, &path, outbox);
                self.merge(now, &path, &decision.verified, Waiter::Client(client), outbox);
            }
            Verdict::Superseded(_) | Verdict::Refused(_) => {
                self.answer_change(now, Waiter::Client(client), &path, &decision.verdict, outbox);
            }
        }
    }

    fn follow_head(&mut self, now: Now, client: ConnectionId, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some((_, signed)) = self.heads.change(path) else { return };
        if let Some(subject) = Subject::of(&signed.change) {
            self.follow(now, client, path, subject, outbox);
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
        result: Result<(), Failure>,
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
                self.carry_out_delete(now, &path, outbox);
                self.order(now, &path, outbox);
                self.spread(now, &path, outbox);
                self.keeping_changed(now, &path, outbox);
                self.tell_gone(now, &path, outbox);
            }
            Err(failure) => {
                if new && head.id == id {
                    self.heads.take_back_unwritten(&path);
                }
                match waiter {
                    Some(Waiter::Client(client)) => {
                        let text = format!("the change could not be written down: {}", failure.text);
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
        let answer = self.submit_answer(path, verdict);
        let SubmitAnswer { reject_reason, hosts, .. } = answer.clone();
        let accepted = matches!(verdict, Verdict::Accept | Verdict::Have);
        let response = match client.form {
            Form::AppendDir => Response::AppendDir(ChangeAnswer { accepted, reject_reason, hosts }),
            Form::ReplaceDir => Response::ReplaceDir(ChangeAnswer { accepted, reject_reason, hosts }),
            Form::SubmitChange => Response::SubmitChange(answer),
        };
        self.respond(client.connection, client.request, response, outbox);
    }

    /// A verdict, and all that a client may want to know of it.
    pub(super) fn submit_answer(&mut self, path: &VPath, verdict: &Verdict) -> SubmitAnswer {
        // Where else the directory is carried; so a client knows at once that there are others to wait for.
        let elsewhere = match verdict {
            Verdict::Accept | Verdict::Have | Verdict::Refused(Refusal::NoConfig { .. }) => self.elsewhere(path.key()),
            Verdict::Superseded(_) | Verdict::Refused(_) => Vec::new(),
        };
        let hosts = match verdict {
            // Who carries it instead.
            Verdict::Refused(Refusal::NoConfig { .. }) => self.cluster.hosts(&elsewhere),
            Verdict::Accept | Verdict::Have | Verdict::Superseded(_) | Verdict::Refused(_) => self.this_host(),
        };
        let (detail, accepted_keys, current, stamp) = self.detail(path, verdict);
        SubmitAnswer {
            verdict: match verdict {
                Verdict::Accept => VerdictWord::Accept,
                Verdict::Have => VerdictWord::Have,
                Verdict::Superseded(_) => VerdictWord::Superseded,
                Verdict::Refused(_) => VerdictWord::Refused,
            },
            reject_reason: verdict.reject_word().map(str::to_owned),
            detail,
            accepted_keys,
            current,
            stamp,
            // What is on disk is looked at again each time: the outcome follows in any case.
            done: false,
            host: self.host.clone(),
            hosts,
            addresses: elsewhere,
        }
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
                let image = if let Refusal::Removed { removed } = refusal { *removed } else { image };
                // Who didn't prove a key isn't told what is there.
                let known = !matches!(refusal, Refusal::NoConfig { .. } | Refusal::SignatureMismatch { .. });
                (Some(refusal.to_string()), keys, image.filter(|_| known), stamp.filter(|_| known))
            }
        }
    }
}
