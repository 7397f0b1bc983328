//! Changes that other nodes have admitted: decided on one by one, answered together when what follows from them is durable.

use std::collections::{BTreeMap, BTreeSet};

use super::register::Waiter;
use super::{Effect, Node, Note};
use crate::engine::access;
use crate::engine::catch_up::SessionId;
use crate::engine::contract::Outbox;
use crate::format::change;
use crate::format::wire::{NodeResponse, ProposalVerdict, Response, VerdictWord};
use crate::model::change::SignedChange;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::time::Now;
use crate::model::verdict::{Refusal, Verdict};
use crate::model::vpath::VPath;

/// Proposals that are not answered.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    batches: BTreeMap<u64, Batch>,
    last: u64,
}

#[derive(Debug)]
struct Batch {
    asker: Asker,
    /// `None`: it isn't durable yet.
    verdicts: Vec<Option<ProposalVerdict>>,
}

/// Who wants to know what came of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A node which proposed them.
    Node { connection: ConnectionId, request: u64 },
    /// Catch-up, which asked another node for them.
    CatchUp(SessionId),
    /// Nobody: a node answered with something newer.
    Nobody,
}

/// The place of one change in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    batch: u64,
    at: usize,
}

impl Node {
    /// Decides on changes that another node has admitted.
    pub(super) fn consider(&mut self, now: Now, changes: &[SignedChange], asker: Asker, outbox: &mut Outbox<Effect>) {
        self.proposals.last += 1;
        let batch = self.proposals.last;
        self.proposals.batches.insert(batch, Batch { asker, verdicts: vec![None; changes.len()] });
        for (at, change) in changes.iter().enumerate() {
            self.consider_one(now, change, Place { batch, at }, outbox);
        }
        self.answer_batch(now, batch, outbox);
    }

    fn consider_one(&mut self, now: Now, signed: &SignedChange, place: Place, outbox: &mut Outbox<Effect>) {
        let path = signed.change.path.clone();
        if let Some(reason) = self.catch_ups.withdrawn(change::id(&signed.change)) {
            let (verdict, reason) = (VerdictWord::Refused, Some(reason.to_owned()));
            return self.settle_proposal(now, place, ProposalVerdict { verdict, reason, newer: None }, outbox);
        }
        let gone = self.gone(&path).is_some();
        let head = self.heads.access_head(&path, gone);
        let mut decision =
            access::decide_from_node(signed, &self.config, self.cluster_name.as_deref(), head, now.stamp);
        let full = self.deploys.len() >= limits::DEPLOYS_MAX && !signed.change.deletes();
        if decision.verdict == Verdict::Accept && full {
            decision.verdict = Verdict::Refused(Refusal::Overloaded);
        }
        match decision.verdict {
            Verdict::Accept => {
                let image = signed.change.subject();
                outbox.push(Effect::Note(Note::Learned { path: path.clone(), image }));
                self.accept(now, &path, decision.verified, Waiter::Batch(place), outbox);
            }
            Verdict::Have => self.merge(now, &path, &decision.verified, Waiter::Batch(place), outbox),
            Verdict::Refused(refusal) => {
                self.refuse(now, &path, change::id(&signed.change), refusal.to_string(), outbox);
                self.proposal_decided(now, place, &Verdict::Refused(refusal), outbox);
            }
            verdict @ Verdict::Superseded(_) => self.proposal_decided(now, place, &verdict, outbox),
        }
    }

    /// A change of a batch is decided on, and that is durable.
    pub(super) fn proposal_decided(&mut self, now: Now, place: Place, verdict: &Verdict, outbox: &mut Outbox<Effect>) {
        let reason = verdict.reject_word().map(str::to_owned);
        let (word, newer) = match verdict {
            Verdict::Accept => (VerdictWord::Accept, None),
            Verdict::Have => (VerdictWord::Have, None),
            Verdict::Superseded(newer) => (VerdictWord::Superseded, Some((**newer).clone())),
            Verdict::Refused(_) => (VerdictWord::Refused, None),
        };
        self.settle_proposal(now, place, ProposalVerdict { verdict: word, reason, newer }, outbox);
    }

    /// A change of a batch could not be written down.
    pub(super) fn proposal_failed(&mut self, now: Now, place: Place, outbox: &mut Outbox<Effect>) {
        let reason = Some(Refusal::Overloaded.word().to_owned());
        self.settle_proposal(
            now,
            place,
            ProposalVerdict { verdict: VerdictWord::Refused, reason, newer: None },
            outbox,
        );
    }

    fn settle_proposal(&mut self, now: Now, place: Place, verdict: ProposalVerdict, outbox: &mut Outbox<Effect>) {
        let Some(batch) = self.proposals.batches.get_mut(&place.batch) else { return };
        if let Some(slot) = batch.verdicts.get_mut(place.at) {
            *slot = Some(verdict);
        }
        self.answer_batch(now, place.batch, outbox);
    }

    fn answer_batch(&mut self, now: Now, number: u64, outbox: &mut Outbox<Effect>) {
        let Some(batch) = self.proposals.batches.get(&number) else { return };
        let Some(verdicts) = batch.verdicts.iter().cloned().collect::<Option<Vec<_>>>() else { return };
        let asker = batch.asker;
        self.proposals.batches.remove(&number);
        match asker {
            Asker::Node { connection, request } => {
                self.respond(connection, request, Response::Node(NodeResponse::Propose { verdicts }), outbox);
            }
            Asker::CatchUp(session) => self.catch_up_decided(now, session, verdicts, outbox),
            Asker::Nobody => {}
        }
    }

    /// What another node said to the heads at these paths.
    pub(super) fn proposed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        paths: &[VPath],
        verdicts: Vec<ProposalVerdict>,
        outbox: &mut Outbox<Effect>,
    ) {
        if verdicts.iter().all(|verdict| verdict.verdict == VerdictWord::Refused) {
            self.neighbour_refuses(now, connection, paths);
        }
        // Whoever takes a change, or has it, wants the image from now on, unless it is there.
        let taken = paths.iter().zip(&verdicts).filter(|(_, verdict)| verdict.verdict != VerdictWord::Refused);
        let images: BTreeSet<_> = taken.filter_map(|(path, _)| self.heads.change(path)?.1.change.image).collect();
        for image in images {
            self.connections.takes_part(connection, image);
            self.tell_pieces_anew(connection, image, outbox);
        }
        let newer: Vec<_> = verdicts
            .into_iter()
            .filter_map(|verdict| verdict.newer)
            .filter(|newer| paths.contains(&newer.change.path))
            .take(limits::CHANGES_PER_MESSAGE_MAX)
            .collect();
        if !newer.is_empty() {
            self.consider(now, &newer, Asker::Nobody, outbox);
        }
    }
}
