//! What is said to nodes and what they answer: offers, changes, verdicts, progress, outcomes.

use std::net::SocketAddr;

use super::peer::{Link, Stage};
use super::{Effect, Event, Refused, Uploads};
use crate::engine::contract::Outbox;
use crate::format::change;
use crate::format::wire::{Message, Notification, Outcome, Progress, Request, Response, SubmitAnswer, VerdictWord};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host};
use crate::model::time::{Now, Stamp};
use crate::model::vpath::VPath;

impl Uploads {
    /// Submits whatever the peer has not yet been asked, once it said who it is and the change is signed.
    pub(super) fn submit(&mut self, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let Link::Up { connection } = peer.link else { return };
        for (upload, intent) in self.intents.iter().enumerate() {
            let (Some(signed), Stage::Unsent) = (&intent.signed, &peer.stages[upload]) else { continue };
            if peer.published.insert(intent.upload.image) {
                let publish = Message::Notification(Notification::PublishImage { id: intent.upload.image });
                outbox.push(Effect::Send { connection, message: publish });
            }
            let id = peer.next_request();
            peer.stages[upload] = Stage::Asked { request: id, change: change::id(&signed.change), stamp: intent.stamp };
            let message = Message::Request { id, request: Request::SubmitChange(signed.clone()) };
            outbox.push(Effect::Send { connection, message });
        }
    }

    pub(super) fn message(
        &mut self,
        now: Now,
        connection: ConnectionId,
        message: Message,
        outbox: &mut Outbox<Effect>,
    ) {
        match message {
            Message::Notification(Notification::Hello(hello)) => self.hello(now, connection, hello.host, outbox),
            Message::Notification(Notification::Progress(progress)) => self.progressed(connection, progress, outbox),
            Message::Notification(Notification::Outcome(outcome)) => self.ended(connection, outcome, outbox),
            Message::Response { id, response } => self.answered(now, connection, id, response, outbox),
            // Of older versions, or nothing that is for an engine.
            Message::Notification(
                Notification::PublishImage { .. }
                | Notification::ReceivedImage(_)
                | Notification::AbortedImage { .. }
                | Notification::Cluster(_),
            )
            | Message::Request { .. }
            | Message::Malformed { .. }
            | Message::Unknown { .. } => {}
        }
    }

    fn answered(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u64,
        response: Response,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(peer) = self.by_connection.get(&connection).and_then(|address| self.peers.get(address)) else {
            return;
        };
        let asked = peer.stages.iter().enumerate().find_map(|(upload, stage)| match stage {
            Stage::Asked { request, change, stamp } => (*request == id).then_some((upload, *change, *stamp)),
            Stage::Unsent
            | Stage::Accepted { .. }
            | Stage::NotHere
            | Stage::Kept { .. }
            | Stage::Refused(_)
            | Stage::NotServed { .. }
            | Stage::Ended(_) => None,
        });
        let (Some((upload, change, signed)), Some(host)) = (asked, peer.host.clone()) else { return };
        let path = self.intents[upload].upload.path.clone();
        let place = Place { address: peer.address, host, upload, change, path };
        match response {
            Response::SubmitChange(answer) => self.judged(now, &place, signed, answer, outbox),
            Response::Error(detail) => {
                let refusal = Refused { word: "error".to_owned(), detail, ..Refused::default() };
                self.refused(place, refusal, outbox);
            }
            Response::AppendDir(_)
            | Response::ReplaceDir(_)
            | Response::GetIndex { .. }
            | Response::GetIndexAt { .. }
            | Response::GetBlock { .. }
            | Response::GetBlocks { .. }
            | Response::Node(_)
            | Response::GetIndexPart { .. } => {}
        }
    }

    fn judged(&mut self, now: Now, place: &Place, signed: Stamp, answer: SubmitAnswer, outbox: &mut Outbox<Effect>) {
        let Place { address, host, upload, change, path } = place.clone();
        let word = answer.reject_reason.clone().unwrap_or_default();
        let there = matches!(word.as_str(), "already_exists" | "already_uploading_different_version");
        match answer.verdict {
            VerdictWord::Accept | VerdictWord::Have if answer.done => {
                let outcome = self.already(place);
                self.set(place, Stage::Ended(outcome.clone()));
                outbox.push(Effect::Event(Event::Ended { address, outcome }));
            }
            VerdictWord::Accept | VerdictWord::Have => {
                let change = (answer.verdict == VerdictWord::Accept).then_some(change);
                self.set(place, Stage::Accepted { change, progress: None });
                outbox.push(Effect::Event(Event::Accepted { address, host, path }));
            }
            VerdictWord::Refused if word == "no_config" => {
                self.set(place, Stage::NotHere);
                outbox.push(Effect::Event(Event::NotHere {
                    address,
                    host,
                    path,
                    elsewhere: answer.hosts.len().max(answer.addresses.len()),
                }));
                self.redirect(now, answer.hosts, answer.addresses, outbox);
            }
            VerdictWord::Refused if there && self.intents[upload].upload.weak => {
                let current = answer.current;
                self.set(place, Stage::Kept { current });
                outbox.push(Effect::Event(Event::Kept { address, host, path, current }));
            }
            VerdictWord::Superseded if self.try_again(now, place, signed, answer.stamp, outbox) => {}
            VerdictWord::Superseded | VerdictWord::Refused => {
                let refusal = Refused {
                    word: if word.is_empty() { "refused".to_owned() } else { word },
                    detail: answer.detail.unwrap_or_default(),
                    accepted_keys: answer.accepted_keys,
                    current: answer.current,
                    stamp: answer.stamp,
                    signed: Some(signed),
                };
                self.refused(place.clone(), refusal, outbox);
            }
        }
    }

    /// What holds at the path may have been signed by a clock ahead of ours: our change is the later one all the same, and
    /// gets a later stamp. What was really published after ours stays.
    fn try_again(
        &mut self,
        now: Now,
        place: &Place,
        signed: Stamp,
        head: Option<Stamp>,
        outbox: &mut Outbox<Effect>,
    ) -> bool {
        let intent = &mut self.intents[place.upload];
        let Some(head) = head.filter(|head| *head > now.stamp && *head >= signed) else { return false };
        if intent.stamp <= head {
            if intent.renewals >= limits::SIGN_AGAIN_MAX {
                return false;
            }
            intent.renewals += 1;
            let stamp = Stamp(head.0.saturating_add(1));
            outbox.push(Effect::Event(Event::SignedAgain { path: place.path.clone(), stamp }));
            self.sign(place.upload, stamp, outbox);
        }
        self.set(place, Stage::Unsent);
        self.submit(place.address, outbox);
        true
    }

    fn refused(&mut self, place: Place, refusal: Refused, outbox: &mut Outbox<Effect>) {
        self.set(&place, Stage::Refused(refusal.clone()));
        let Place { address, host, path, .. } = place;
        outbox.push(Effect::Event(Event::Refused { address, host, path, refusal }));
    }

    fn set(&mut self, place: &Place, stage: Stage) {
        if let Some(peer) = self.peers.get_mut(&place.address) {
            peer.stages[place.upload] = stage;
        }
    }

    /// The outcome that a node doesn't send, because it said with its verdict that all is done.
    fn already(&self, place: &Place) -> Outcome {
        Outcome {
            path: place.path.clone(),
            image: Some(self.intents[place.upload].upload.image),
            change: place.change,
            host: place.host.clone(),
            result: "already".to_owned(),
            reason: None,
            bytes_reused: 0,
            bytes_fetched: 0,
        }
    }

    fn progressed(&mut self, connection: ConnectionId, progress: Progress, outbox: &mut Outbox<Effect>) {
        let found = self.stage_of(connection, &progress.host, &progress.path, progress.image);
        if let Some((address, Stage::Accepted { progress: last, .. })) = found {
            *last = Some(progress.clone());
            outbox.push(Effect::Event(Event::Progress { address, progress }));
        }
    }

    fn ended(&mut self, connection: ConnectionId, outcome: Outcome, outbox: &mut Outbox<Effect>) {
        let Some(image) = outcome.image else { return };
        let found = self.stage_of(connection, &outcome.host, &outcome.path, image);
        let Some((address, stage)) = found else { return };
        if stage.takes(&outcome) {
            *stage = Stage::Ended(outcome.clone());
            outbox.push(Effect::Event(Event::Ended { address, outcome }));
        }
    }

    /// Each node speaks for itself only.
    fn stage_of(
        &mut self,
        connection: ConnectionId,
        host: &Host,
        path: &VPath,
        image: ImageId,
    ) -> Option<(SocketAddr, &mut Stage)> {
        let wanted = |upload: &super::Upload| upload.path == *path && upload.image == image;
        let upload = self.intents.iter().position(|intent| wanted(&intent.upload))?;
        let peer = self.peers.get_mut(self.by_connection.get(&connection)?)?;
        let speaks = peer.host.as_ref().is_some_and(|speaker| speaker.machine_id == host.machine_id);
        speaks.then_some((peer.address, peer.stages.get_mut(upload)?))
    }

    /// The node won't ask here again for that image, and nobody else is known to have it.
    pub(super) fn not_served(
        &mut self,
        connection: ConnectionId,
        image: ImageId,
        reason: &str,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(address) = self.by_connection.get(&connection).copied() else { return };
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let Some(host) = peer.host.clone() else { return };
        for (intent, stage) in self.intents.iter().zip(&mut peer.stages) {
            if intent.upload.image == image && !stage.is_final() {
                *stage = Stage::NotServed { reason: reason.to_owned() };
                let (host, path, reason) = (host.clone(), intent.upload.path.clone(), reason.to_owned());
                outbox.push(Effect::Event(Event::NotServed { address, host, path, reason }));
            }
        }
    }
}

/// Which upload at which node.
#[derive(Debug, Clone)]
struct Place {
    address: SocketAddr,
    host: Host,
    upload: usize,
    change: ChangeId,
    path: VPath,
}
