//! The nodes that are asked: what each has, its connection, and what it owes an answer to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Download, Effect, Event, Page, Phase};
use crate::engine::contract::{Outbox, earlier};
use crate::format::wire::{Message, Request};
use crate::model::address::{sample, split};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::run::Run;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) host: Option<Host>,
    pub(super) link: Link,
    /// It is configured for the directory.
    pub(super) carries: bool,
    /// What is visible there: the directory that contains what is wanted.
    pub(super) there: Option<(VPath, ImageId)>,
    /// Requests without an answer.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Connections lost without any use between.
    tries: u32,
    /// Runs which it couldn't give.
    pub(super) refusals: usize,
    /// Why it couldn't give the last of them.
    pub(super) refusal: Option<String>,
    last_request: u64,
}

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Its page is being read.
    Looking,
    /// Its page is known.
    Looked,
    /// A connection is being made.
    Connecting,
    /// Connected.
    Up { connection: ConnectionId },
    /// The next attempt is at this time.
    Pausing { retry: Time, reason: String },
    /// Not asked any more.
    Gone { reason: String },
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// For a part of the index.
    Part { at: Time },
    /// For blocks.
    Run { at: Time, run: Run },
}

impl Asked {
    fn at(&self) -> Time {
        match self {
            Self::Part { at } | Self::Run { at, .. } => *at,
        }
    }
}

impl Node {
    fn new() -> Self {
        Self {
            host: None,
            link: Link::Looking,
            carries: false,
            there: None,
            asked: BTreeMap::new(),
            tries: 0,
            refusals: 0,
            refusal: None,
            last_request: 0,
        }
    }

    /// For people.
    pub(super) fn name(&self, address: SocketAddr) -> String {
        match &self.host {
            Some(host) => format!("{} ({address})", host.hostname),
            None => address.to_string(),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.link, Link::Gone { .. })
    }

    /// Why it isn't asked, or doesn't give what it is asked for.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.link {
            Link::Gone { reason } | Link::Pausing { reason, .. } => Some(reason),
            Link::Looking | Link::Looked | Link::Connecting | Link::Up { .. } => self.refusal.as_deref(),
        }
    }

    /// Something good came.
    pub(super) fn has_helped(&mut self) {
        self.tries = 0;
    }

    /// Asks, if it is connected. The answer has the request's number.
    pub(super) fn ask(&mut self, asked: Asked, request: Request, outbox: &mut Outbox<Effect>) {
        if let Link::Up { connection } = self.link {
            self.last_request += 1;
            self.asked.insert(self.last_request, asked);
            let message = Message::Request { id: self.last_request, request };
            outbox.push(Effect::Send { connection, message });
        }
    }

    /// When it should have answered, or is tried again.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        let oldest = self.asked.values().map(Asked::at).min();
        let answer = oldest.map(|at| (at + limits::SOURCE_ANSWER_TIMEOUT, "download: a node is silent"));
        let retry = match &self.link {
            Link::Pausing { retry, .. } => Some((*retry, "download: connect again")),
            Link::Looking | Link::Looked | Link::Connecting | Link::Up { .. } | Link::Gone { .. } => None,
        };
        earlier(answer, retry)
    }
}

impl Download {
    pub(super) fn resolved(
        &mut self,
        name: String,
        result: Result<Vec<SocketAddr>, String>,
        outbox: &mut Outbox<Effect>,
    ) {
        if !self.resolving.remove(&name) {
            return;
        }
        match result {
            Ok(found) => {
                let (addresses, spare) = split(&found, limits::INITIAL_CONNECTIONS, &mut self.random);
                self.spare.extend(spare);
                for address in addresses {
                    self.look(address, outbox);
                }
            }
            Err(reason) => _ = self.unresolved.insert(name, reason),
        }
    }

    fn look(&mut self, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        if !self.nodes.contains_key(&address) && self.nodes.len() < limits::CLIENT_PEERS_MAX {
            self.nodes.insert(address, Node::new());
            outbox.push(Effect::Look { address });
        }
    }

    pub(super) fn looked(&mut self, address: SocketAddr, result: Result<Page, String>, outbox: &mut Outbox<Effect>) {
        let twin = result.as_ref().ok().and_then(|page| page.host.as_ref()).and_then(|host| {
            let same = |(_, node): &(&SocketAddr, &Node)| !node.is_gone() && node.host.as_ref() == Some(host);
            self.nodes.iter().find(same).map(|(twin, _)| format!("the same machine as {twin}"))
        });
        let Some(node) = self.nodes.get_mut(&address).filter(|node| node.link == Link::Looking) else { return };
        match (result, twin) {
            (Err(reason), _) | (Ok(_), Some(reason)) => node.link = Link::Gone { reason },
            (Ok(page), None) => {
                let key = key_of(&self.wanted.path);
                node.carries = page.directories.contains(key);
                node.there = longest(&page, &self.wanted.path);
                node.host = page.host;
                node.link = Link::Looked;
                let carriers = page.members.iter().filter(|(_, directories)| directories.contains(key));
                let carriers: Vec<_> = carriers.map(|(address, _)| *address).collect();
                // Those that were found by name come first: they are taken from the end.
                let carriers = sample(&carriers, carriers.len(), &mut self.random);
                let known = |address: &SocketAddr| self.nodes.contains_key(address) || self.spare.contains(address);
                let new: Vec<_> = carriers.into_iter().filter(|address| !known(address)).collect();
                self.spare.splice(0..0, new.into_iter().take(limits::CLIENT_PEERS_MAX));
                self.connect_if_useful(address, outbox);
            }
        }
        self.look_further(outbox);
    }

    /// Asks further nodes until enough of those that may have it are asked.
    pub(super) fn look_further(&mut self, outbox: &mut Outbox<Effect>) {
        loop {
            let chosen = self.chosen();
            let useful = |node: &&Node| match node.link {
                Link::Gone { .. } => false,
                Link::Looking => true,
                Link::Looked | Link::Connecting | Link::Up { .. } | Link::Pausing { .. } => match chosen {
                    Some(_) => node.there == chosen,
                    None => node.carries,
                },
            };
            if self.nodes.values().filter(useful).count() >= limits::INITIAL_CONNECTIONS || !self.look_at_one(outbox) {
                return;
            }
        }
    }

    /// Asks one more node, if there is one.
    pub(super) fn look_at_one(&mut self, outbox: &mut Outbox<Effect>) -> bool {
        while let Some(address) = self.spare.pop() {
            if !self.nodes.contains_key(&address) {
                self.look(address, outbox);
                return self.nodes.contains_key(&address);
            }
        }
        false
    }

    /// The directory and image that are read, once that is decided.
    pub(super) fn chosen(&self) -> Option<(VPath, ImageId)> {
        match &self.phase {
            Phase::Finding | Phase::Over => None,
            Phase::Index { path, id, .. } | Phase::Checking { path, id, .. } => Some((path.clone(), *id)),
            Phase::Beginning { found } | Phase::Content { found, .. } => Some((found.path.clone(), found.id)),
        }
    }

    pub(super) fn connect_if_useful(&mut self, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        let chosen = self.chosen();
        let Some(node) = self.nodes.get_mut(&address) else { return };
        if chosen.is_some() && node.there == chosen && node.link == Link::Looked {
            node.link = Link::Connecting;
            outbox.push(Effect::Connect { address });
        }
    }

    pub(super) fn connected(
        &mut self,
        address: SocketAddr,
        connection: ConnectionId,
        version: ProtocolVersion,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(node) = self.nodes.get_mut(&address).filter(|node| node.link == Link::Connecting) else {
            outbox.push(Effect::Close { connection });
            return;
        };
        if version == ProtocolVersion::V1 {
            node.link = Link::Gone { reason: ProtocolVersion::TOO_OLD.to_owned() };
            outbox.push(Effect::Close { connection });
            self.look_further(outbox);
            return;
        }
        node.link = Link::Up { connection };
        self.by_connection.insert(connection, address);
    }

    /// Its connection broke or can't be made: it is tried again, a few times.
    pub(super) fn lost(&mut self, now: Now, address: SocketAddr, reason: String, outbox: &mut Outbox<Effect>) {
        let Some(node) = self.nodes.get_mut(&address).filter(|node| !node.is_gone()) else { return };
        node.tries += 1;
        if node.tries >= limits::DOWNLOAD_TRIES_MAX {
            self.leave(address, reason, outbox);
            return;
        }
        node.asked.clear();
        outbox.push(Effect::Event(Event::Lost { node: node.name(address), reason: reason.clone() }));
        let pause = limits::RECONNECT_PAUSE_MIN.saturating_mul(2_u32.saturating_pow(node.tries - 1));
        node.link = Link::Pausing { retry: now.time + pause.min(limits::RECONNECT_PAUSE_MAX), reason };
        self.forget_questions(address);
    }

    /// It isn't asked any more.
    pub(super) fn leave(&mut self, address: SocketAddr, reason: String, outbox: &mut Outbox<Effect>) {
        let Some(node) = self.nodes.get_mut(&address) else { return };
        if let Link::Up { connection } = node.link {
            self.by_connection.remove(&connection);
            outbox.push(Effect::Close { connection });
        }
        node.asked.clear();
        outbox.push(Effect::Event(Event::Lost { node: node.name(address), reason: reason.clone() }));
        node.link = Link::Gone { reason };
        self.forget_questions(address);
        self.look_further(outbox);
    }

    fn forget_questions(&mut self, address: SocketAddr) {
        match &mut self.phase {
            Phase::Content { runs, .. } => runs.lose(address),
            Phase::Index { from, text, .. } if *from == Some(address) => {
                *from = None;
                text.clear();
            }
            Phase::Finding | Phase::Index { .. } | Phase::Checking { .. } | Phase::Beginning { .. } | Phase::Over => {}
        }
    }

    pub(super) fn nodes_deadline(&self) -> Option<(Time, &'static str)> {
        self.nodes.values().map(Node::deadline).fold(None, earlier)
    }

    pub(super) fn nodes_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let due = |node: &Node| node.deadline().is_some_and(|(at, _)| at <= now.time);
        let due: Vec<_> = self.nodes.iter().filter(|(_, node)| due(node)).map(|(address, _)| *address).collect();
        for address in due {
            let Some(node) = self.nodes.get_mut(&address) else { continue };
            match node.link {
                Link::Pausing { .. } => {
                    node.link = Link::Connecting;
                    outbox.push(Effect::Connect { address });
                }
                // Whoever waits at a terminal doesn't wait for that once more.
                Link::Up { .. } => {
                    let seconds = limits::SOURCE_ANSWER_TIMEOUT.as_secs();
                    self.leave(address, format!("no answer for {seconds} s"), outbox);
                }
                Link::Looking | Link::Looked | Link::Connecting | Link::Gone { .. } => {}
            }
        }
    }
}

/// The first component.
pub(super) fn key_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// The longest path of the page that is `wanted` or above it.
fn longest(page: &Page, wanted: &str) -> Option<(VPath, ImageId)> {
    let mut path = wanted;
    loop {
        if let Some(image) = page.visible.get(path) {
            return Some((path.parse().ok()?, *image));
        }
        path = path.rsplit_once('/')?.0;
    }
}
