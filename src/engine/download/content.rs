//! Index and blocks: who is asked for what, and what comes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::nodes::{Asked, Link};
use super::runs::Runs;
use super::{Download, Effect, Event, Failure, Found, Phase, Selection, StoreError, below};
use crate::engine::contract::Outbox;
use crate::format::wire::{Message, Request, Response};
use crate::model::image::Image;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::run::Run;
use crate::model::time::Now;

impl Download {
    pub(super) fn message(
        &mut self,
        now: Now,
        connection: ConnectionId,
        message: Message,
        outbox: &mut Outbox<Effect>,
    ) {
        let Message::Response { id, response } = message else { return };
        let Some(address) = self.by_connection.get(&connection).copied() else { return };
        let Some(asked) = self.nodes.get_mut(&address).and_then(|node| node.asked.remove(&id)) else { return };
        match (asked, response) {
            (Asked::Part { .. }, Response::GetIndexPart { data, total }) => {
                self.index_part(now, address, &data, total, outbox);
            }
            (Asked::Run { run, .. }, Response::GetBlocks { data }) => self.blocks(address, run, data, outbox),
            (Asked::Part { .. }, Response::Error(reason)) => self.leave(address, reason, outbox),
            (Asked::Run { run, .. }, Response::Error(reason)) => self.refused(address, run, reason, outbox),
            (_, other) => {
                let name = other.request_type().map_or("Error", |request_type| request_type.name());
                self.leave(address, format!("it answers with {name}, which nobody asked for"), outbox);
            }
        }
    }

    /// Asks for the index, or for what is missing of it.
    pub(super) fn ask_for_index(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let Phase::Index { id, from, text, .. } = &mut self.phase else { return };
        if from.is_some() {
            return;
        }
        let up = self.nodes.iter_mut().find(|(_, node)| matches!(node.link, Link::Up { .. }));
        if let Some((address, node)) = up {
            *from = Some(*address);
            let request = Request::GetIndexPart { id: *id, offset: text.len() as u64 };
            node.ask(Asked::Part { at: now.time }, request, outbox);
            return;
        }
        if !self.nodes.values().any(|node| matches!(node.link, Link::Looking | Link::Connecting | Link::Pausing { .. }))
        {
            let what = format!("the index of image {id}");
            let reasons = self.troubles();
            self.finish(Err(Failure::NotGiven { what, reasons }), outbox);
        }
    }

    fn index_part(&mut self, now: Now, address: SocketAddr, data: &Bytes, total: u64, outbox: &mut Outbox<Effect>) {
        let Phase::Index { path, id, from, text } = &mut self.phase else { return };
        if *from != Some(address) {
            return;
        }
        let length = (text.len() + data.len()) as u64;
        if data.is_empty() || length > total || total > limits::INDEX_BYTES_MAX as u64 {
            self.leave(address, "it gives a part of an index that can't be one".to_owned(), outbox);
            return;
        }
        text.extend_from_slice(data);
        if length < total {
            let request = Request::GetIndexPart { id: *id, offset: length };
            if let Some(node) = self.nodes.get_mut(&address) {
                node.ask(Asked::Part { at: now.time }, request, outbox);
            }
            return;
        }
        outbox.push(Effect::Check { id: *id, text: std::mem::take(text) });
        self.phase = Phase::Checking { path: path.clone(), id: *id, from: address };
    }

    pub(super) fn checked(&mut self, result: Result<Arc<Image>, String>, outbox: &mut Outbox<Effect>) {
        let Phase::Checking { path, id, from } = &self.phase else { return };
        let (path, id, from) = (path.clone(), *id, *from);
        let image = match result {
            Ok(image) => image,
            Err(reason) => {
                self.phase = Phase::Index { path, id, from: None, text: Vec::new() };
                self.leave(from, format!("it gives a wrong index: {reason}"), outbox);
                return;
            }
        };
        let inner = below(path.as_str(), &self.wanted.path).unwrap_or_default();
        let Some(selection) = Selection::find(&image, inner) else {
            let (directory, entry) = (path.to_string(), inner.to_owned());
            self.finish(Err(Failure::NoEntry { directory, image: id, entry }), outbox);
            return;
        };
        let found = Found { path, id, image, selection };
        if self.wanted.content {
            outbox.push(Effect::Begin { found: found.clone() });
            self.phase = Phase::Beginning { found };
        } else {
            self.finish(Ok(found), outbox);
        }
    }

    pub(super) fn begun(&mut self, result: Result<(), String>, outbox: &mut Outbox<Effect>) {
        let Phase::Beginning { found } = &self.phase else { return };
        match result {
            Err(reason) => self.finish(Err(Failure::Local(reason)), outbox),
            Ok(()) => {
                let found = found.clone();
                let blocks = found.selection.blocks(&found.image);
                let length = |block| found.image.place(block).map_or(0, |place| place.len as u64);
                outbox.push(Effect::Event(Event::Begins { bytes: blocks.clone().map(length).sum() }));
                let runs = Runs::new(Arc::clone(&found.image), blocks);
                self.phase = Phase::Content { found, runs };
            }
        }
    }

    /// Keeps everybody busy, and ends when all is there or can't be had.
    pub(super) fn ask_for_blocks(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let Phase::Content { found, runs } = &mut self.phase else { return };
        if runs.is_done() {
            let found = found.clone();
            self.finish(Ok(found), outbox);
            return;
        }
        self.ask_everybody(now, outbox);
        self.give_up(now, outbox);
    }

    /// Looks for further nodes if what is missing can't be had from those that are known; without them it is over.
    fn give_up(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let chosen = self.chosen();
        if self.nodes.values().any(|node| node.link == Link::Looking) {
            return;
        }
        let sources = self.nodes.iter().filter(|(_, node)| !node.is_gone() && node.there == chosen);
        let sources: BTreeSet<_> = sources.map(|(address, _)| *address).collect();
        let Phase::Content { found, runs } = &mut self.phase else { return };
        let what = if sources.is_empty() {
            format!("image {}", found.id)
        } else {
            // What nobody could give in one is then asked for block by block.
            let Some(run) = runs.given_up(&sources) else { return self.ask_everybody(now, outbox) };
            let place = found.image.place(run.first);
            let file = place.map_or_else(String::new, |place| place.file.path());
            format!("block {} of image {}, which is in {file:?}", run.first, found.id)
        };
        if !self.look_at_one(outbox) {
            let reasons = self.troubles();
            self.finish(Err(Failure::NotGiven { what, reasons }), outbox);
        }
    }

    fn ask_everybody(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let Phase::Content { found, runs } = &mut self.phase else { return };
        let image = found.id;
        for (address, node) in &mut self.nodes {
            while matches!(node.link, Link::Up { .. }) && runs.held_by(*address) < limits::RUNS_IN_FLIGHT_MAX {
                let Some(run) = runs.take(now.time, *address) else { break };
                node.ask(Asked::Run { at: now.time, run }, Request::GetBlocks { image, run }, outbox);
            }
        }
    }

    fn blocks(&mut self, address: SocketAddr, run: Run, data: Bytes, outbox: &mut Outbox<Effect>) {
        let Phase::Content { runs, .. } = &mut self.phase else { return };
        if runs.arrived(run, address) {
            outbox.push(Effect::Store { run, data });
        }
    }

    fn refused(&mut self, address: SocketAddr, run: Run, reason: String, outbox: &mut Outbox<Effect>) {
        let Phase::Content { runs, .. } = &mut self.phase else { return };
        let Some(node) = self.nodes.get_mut(&address) else { return };
        runs.refuse(run, address);
        node.refusals += 1;
        node.refusal = Some(reason.clone());
        if node.refusals == 1 {
            outbox.push(Effect::Event(Event::Lost { node: node.name(address), reason: reason.clone() }));
        }
        if node.refusals > limits::DOWNLOAD_REFUSALS_MAX {
            self.leave(address, reason, outbox);
        }
    }

    pub(super) fn stored(&mut self, run: Run, result: Result<(), StoreError>, outbox: &mut Outbox<Effect>) {
        let Phase::Content { runs, .. } = &mut self.phase else { return };
        let bytes = runs.bytes(run);
        match result {
            Ok(()) => {
                let from = runs.stored(run, true);
                if let Some(node) = from.and_then(|from| self.nodes.get_mut(&from)) {
                    node.has_helped();
                }
                outbox.push(Effect::Event(Event::Stored { bytes }));
            }
            Err(StoreError::Wrong) => {
                if let Some(from) = runs.stored(run, false) {
                    self.leave(from, "it gives blocks that aren't those of the image".to_owned(), outbox);
                }
            }
            Err(StoreError::Local(reason)) => self.finish(Err(Failure::Local(reason)), outbox),
        }
    }
}
