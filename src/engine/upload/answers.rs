//! What is said to nodes and what they answer: offers, changes, verdicts, progress, outcomes.

use std::net::SocketAddr;

use super::follow::{Row, is_other};
use super::peer::{Link, Peer, Stage};
use super::{Effect, Event, Kept, Past, Refused, Upload, Uploads};
use crate::engine::contract::Outbox;
use crate::format::change;
use crate::format::wire::{
    Message, Nodes, Notice, Notification, Outcome, Progress, Request, Response, SubmitAnswer, VerdictWord,
};
use crate::model::change::{SignedChange, Verb};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::origins::Origins;
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
            if intent.upload.given && peer.published.insert(intent.upload.image) {
                let publish = Message::Notification(Notification::PublishImage { id: intent.upload.image });
                outbox.push(Effect::Send { connection, message: publish });
            }
            let id = peer.next_request();
            let (change, stamp) = (change::id(&signed.change), intent.stamp);
            peer.stages[upload] = Stage::Asked { request: id, change, stamp, early: None };
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
            Message::Notification(Notification::Progress(progress)) => {
                self.progressed(connection, progress, outbox);
                self.help_others(now, outbox);
            }
            Message::Notification(Notification::Outcome(outcome)) => self.ended(connection, outcome, outbox),
            Message::Notification(Notification::Cluster(notice)) => self.noticed(now, connection, notice, outbox),
            Message::Response { id, response } => self.answered(now, connection, id, response, outbox),
            // Of older versions, or nothing that is for an engine.
            Message::Notification(
                Notification::PublishImage { .. } | Notification::ReceivedImage(_) | Notification::AbortedImage { .. },
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
        let asked = peer.stages.iter().enumerate().find_map(|(upload, stage)| {
            let Stage::Asked { request, change, stamp, early } = stage else { return None };
            (*request == id).then(|| (upload, *change, *stamp, early.clone()))
        });
        let (Some((upload, change, signed, early)), Some(host)) = (asked, peer.host.clone()) else { return };
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
            | Response::Plan(_)
            | Response::Node(_)
            | Response::GetIndexPart { .. } => {}
        }
        if let Some(outcome) = early {
            self.ended(connection, *outcome, outbox);
        }
    }

    fn judged(&mut self, now: Now, place: &Place, signed: Stamp, answer: SubmitAnswer, outbox: &mut Outbox<Effect>) {
        let Place { address, host, upload, change, path } = place.clone();
        if matches!(answer.verdict, VerdictWord::Accept | VerdictWord::Have) && !answer.addresses.is_empty() {
            self.followed[upload].aware = true;
        }
        let word = answer.reject_reason.clone().unwrap_or_default();
        let there = matches!(word.as_str(), "already_exists" | "already_uploading_different_version");
        match answer.verdict {
            VerdictWord::Accept | VerdictWord::Have if answer.done => {
                let outcome = self.already(place);
                self.end(address, upload, outcome, outbox);
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
                let kept = Kept { current: answer.current, coming: word != "already_exists" };
                self.set(place, Stage::Kept(kept));
                outbox.push(Effect::Event(Event::Kept { address, host, path, kept }));
            }
            VerdictWord::Refused if word == "cleaned" && self.append_again(place, Past::Cleaned, outbox) => {}
            VerdictWord::Refused
                if word == "removed"
                    && let Some(removed) = answer.current
                    && self.append_again(place, Past::Removed(removed), outbox) => {}
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

    /// Something was there and is gone: the change is signed once more, so that it says that it knows of it.
    fn append_again(&mut self, place: &Place, past: Past, outbox: &mut Outbox<Effect>) -> bool {
        let intent = &mut self.intents[place.upload];
        if intent.upload.verb != Verb::Append {
            return false;
        }
        let refused = |signed: &SignedChange| change::id(&signed.change) == place.change;
        if intent.past == past && intent.signed.as_ref().is_some_and(refused) {
            return false;
        }
        if intent.past != past {
            if intent.renewals >= limits::SIGN_AGAIN_MAX {
                return false;
            }
            intent.renewals += 1;
            intent.past = past;
            let stamp = intent.stamp;
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
            image: self.intents[place.upload].upload.outcome_image(),
            change: place.change,
            host: place.host.clone(),
            result: "already".to_owned(),
            reason: None,
            bytes: Origins::default(),
            sources: Vec::new(),
        }
    }

    fn progressed(&mut self, connection: ConnectionId, progress: Progress, outbox: &mut Outbox<Effect>) {
        let wanted = |upload: &Upload| upload.path == progress.path && upload.image == progress.image;
        let deletes = |upload: usize| self.intents[upload].upload.deletes();
        let meant = self.intents.iter().position(|intent| wanted(&intent.upload));
        // What was on its way before it was to be removed may still be told of.
        let meant =
            meant.filter(|upload| !deletes(*upload) || self.intents[*upload].changes.contains(&progress.change));
        let found = self.place_of(connection, &progress.host, meant);
        let Some((peer, upload)) = found else { return };
        if let Stage::Accepted { progress: last, .. } = &mut peer.stages[upload] {
            *last = Some(progress.clone());
            let address = peer.address;
            outbox.push(Effect::Event(Event::Progress { address, progress }));
        }
    }

    fn ended(&mut self, connection: ConnectionId, outcome: Outcome, outbox: &mut Outbox<Effect>) {
        let is_meant = |upload: &Upload| upload.path == outcome.path && upload.outcome_image() == outcome.image;
        let meant = self.intents.iter().position(|intent| is_meant(&intent.upload));
        let weak = meant.is_some_and(|upload| self.intents[upload].upload.weak);
        let Some((peer, upload)) = self.place_of(connection, &outcome.host, meant) else { return };
        if !peer.stages[upload].takes(&outcome) {
            return;
        }
        if let Stage::Asked { early, .. } = &mut peer.stages[upload] {
            *early = Some(Box::new(outcome));
            return;
        }
        let address = peer.address;
        if weak && is_other(&outcome.result) {
            let kept = Kept::default();
            peer.stages[upload] = Stage::Kept(kept);
            let Outcome { host, path, .. } = outcome;
            outbox.push(Effect::Event(Event::Kept { address, host, path, kept }));
        } else {
            self.end(address, upload, outcome, outbox);
        }
    }

    /// A peer told how an upload ended there: that is news unless it, or another one, had told of its end before.
    fn end(&mut self, address: SocketAddr, upload: usize, outcome: Outcome, outbox: &mut Outbox<Effect>) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let news = peer.end(upload, outcome.clone());
        let Some(peer) = self.peers.get(&address) else { return };
        let row = self.rows_of(peer)[upload].as_ref().map(|(key, _)| *key);
        let told = row.is_some_and(|key| !self.followed[upload].ends(key));
        if news && !told {
            outbox.push(Effect::Event(Event::Ended { address, outcome }));
        }
    }

    /// What one machine can't take others may, if somebody gives it to them.
    fn help_others(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let waits =
            |stage: &Stage| matches!(stage, Stage::Accepted { progress: Some(last), .. } if last.waiting.is_some());
        if self.peers.values().any(|peer| peer.stages.iter().any(waits)) {
            self.replace_with_spare(now, outbox);
        }
    }

    fn noticed(&mut self, now: Now, connection: ConnectionId, notice: Notice, outbox: &mut Outbox<Effect>) {
        let Some(address) = self.by_connection.get(&connection).copied() else { return };
        match notice {
            Notice::Pieces { image, count, have } => self.told_pieces(address, image, (count, &have), outbox),
            Notice::Have { image, pieces } => self.told_have(address, image, &pieces, outbox),
            Notice::Nodes(nodes) => {
                self.told_nodes(address, nodes, outbox);
                self.help_others(now, outbox);
            }
            // Between nodes, or what a client says.
            Notice::Share { .. } | Notice::Corrupt { .. } | Notice::NodeProof { .. } | Notice::SyncComplete { .. } => {}
        }
    }

    /// A node tells how others fare: with the change that was submitted, or with one of the same image that it had before.
    fn told_nodes(&mut self, address: SocketAddr, nodes: Nodes, outbox: &mut Outbox<Effect>) {
        let wanted = |upload: &Upload| upload.path == nodes.path && upload.image == nodes.image;
        let Some(upload) = self.intents.iter().position(|intent| wanted(&intent.upload)) else { return };
        let Some(peer) = self.peers.get(&address) else { return };
        let here = |outcome: &Outcome| outcome.change == nodes.change || outcome.result == "already";
        let stage = &peer.stages[upload];
        let had_it = matches!(stage, Stage::Accepted { change: None, .. })
            || matches!(stage, Stage::Ended(outcome) if here(outcome));
        if !had_it && !self.intents[upload].changes.contains(&nodes.change) {
            return;
        }
        let change = nodes.change;
        let nodes =
            if self.intents[upload].changes.contains(&change) { nodes } else { self.followed[upload].before(nodes) };
        for key in self.followed[upload].tell(address, nodes) {
            let is_peer = |peer: &Peer| peer.host.as_ref().is_some_and(|host| host.machine_id == key.1);
            let Some(row) = self.followed[upload].row(key) else { continue };
            // Who is connected speaks for itself.
            if self.peers.values().any(|peer| matches!(peer.link, Link::Up { .. }) && is_peer(peer)) {
                continue;
            }
            let event = news_of(key.0, &self.intents[upload].upload, change, row);
            // An end is told once, by whomever.
            let ends = matches!(event, Event::Ended { .. } | Event::Kept { .. });
            let ended = |peer: &Peer| matches!(peer.stages[upload], Stage::Ended(_)) || peer.before[upload].is_some();
            let known = self.peers.values().any(|peer| is_peer(peer) && ended(peer));
            if !ends || (!known && self.followed[upload].ends(key)) {
                outbox.push(Effect::Event(event));
            }
        }
    }

    /// Each node speaks for itself only.
    fn place_of(&mut self, connection: ConnectionId, host: &Host, upload: Option<usize>) -> Option<(&mut Peer, usize)> {
        let upload = upload?;
        let peer = self.peers.get_mut(self.by_connection.get(&connection)?)?;
        let speaks = peer.host.as_ref().is_some_and(|speaker| speaker.machine_id == host.machine_id);
        speaks.then_some((peer, upload))
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

/// What a node told of another one.
fn news_of(address: SocketAddr, upload: &Upload, change: ChangeId, row: Row<'_>) -> Event {
    let (report, path, weak) = (row.report.clone(), upload.path.clone(), upload.weak);
    let image = upload.outcome_image();
    match &report.result {
        Some(result) if weak && is_other(result) => {
            Event::Kept { address, host: report.host, path, kept: Kept::default() }
        }
        Some(result) => {
            let outcome = Outcome {
                path,
                image,
                change,
                host: report.host,
                result: result.clone(),
                reason: report.reason,
                bytes: report.bytes,
                sources: report.sources,
            };
            Event::Ended { address, outcome }
        }
        None if row.alive => Event::Told { address, path, image: upload.image, report },
        None => {
            let reason = "the other machines don't hear from it".to_owned();
            Event::Unreachable { address, host: Some(report.host), reason, down: true }
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
