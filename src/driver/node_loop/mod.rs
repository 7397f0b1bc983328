//! The daemon's event loop: tells the node what happened and has its effects carried out. It decides nothing.

mod answering;
mod dialer;
mod hands;
mod serve;
mod shared;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::answering::Requests;
pub use self::dialer::Dialer;
pub use self::hands::{Hands, HandsError};
use super::clock::{Clock, sleep_until};
use super::disk::fs::FileSystem;
use super::udp::{Datagrams, Received};
use super::ws::{ConnectionHandle, Event, Outgoing, SendError};
use crate::engine::contract::{Engine, Outbox};
use crate::engine::node::{Effect, End, Input, Node, NodeStatus, Note};
use crate::format::wire::Message;
use crate::model::directory::NodeConfig;
use crate::model::peer::ConnectionId;
use crate::model::scrub::{News, Ticket};
use crate::model::vpath::VPath;

/// Events of connections that wait for the loop; each may hold a frame of 1 MiB.
pub const EVENTS_QUEUED_MAX: usize = 32;
/// Answers of disk and database that wait for the loop.
const ANSWERS_QUEUED_MAX: usize = 1_024;

/// What the rest of the process asks of the loop.
#[derive(Debug)]
pub enum Control {
    /// The configuration was read again.
    Configure(Arc<NodeConfig>),
    /// Compare the directories at and below a path with their images, all if there is none; what is found is sent there.
    Scrub(Option<VPath>, mpsc::Sender<News>),
    /// How it stands.
    Status(oneshot::Sender<NodeStatus>),
    /// End, after what is being written.
    Stop,
}

/// A node and all that carries out its effects.
pub struct NodeLoop<F: FileSystem + Clone> {
    node: Node,
    clock: Clock,
    hands: Hands<F>,
    answers: mpsc::Receiver<Input>,
    events: mpsc::Receiver<Event>,
    control: mpsc::Receiver<Control>,
    dialer: Dialer,
    udp: Datagrams,
    datagrams: mpsc::Receiver<Received>,
    connections: BTreeMap<ConnectionId, Link>,
    /// Who is told what a scrub finds.
    listeners: BTreeMap<Ticket, mpsc::Sender<News>>,
    tickets: u64,
    note: Box<dyn Fn(&Note) + Send>,
    outbox: Outbox<Effect>,
}

/// What the loop waits for.
pub struct Ears {
    /// Answers of disk and database, and whatever else the rest of the process has for the node.
    pub answers: mpsc::Receiver<Input>,
    /// Of connections.
    pub events: mpsc::Receiver<Event>,
    /// Of pages and signals.
    pub control: mpsc::Receiver<Control>,
    /// Datagrams of other nodes.
    pub datagrams: mpsc::Receiver<Received>,
}

/// A connection, and what it wants to read, if it ever wanted anything.
struct Link {
    handle: ConnectionHandle,
    requests: Option<Requests>,
}

/// A channel for [`Hands`] to answer through.
pub fn answers() -> (mpsc::Sender<Input>, mpsc::Receiver<Input>) {
    mpsc::channel(ANSWERS_QUEUED_MAX)
}

impl<F: FileSystem + Clone> NodeLoop<F> {
    /// A loop which isn't running yet; `note` is told what operators want to know.
    pub fn new(
        node: Node,
        clock: Clock,
        hands: Hands<F>,
        (dialer, udp): (Dialer, Datagrams),
        ears: Ears,
        note: Box<dyn Fn(&Note) + Send>,
    ) -> Self {
        let Ears { answers, events, control, datagrams } = ears;
        Self {
            node,
            clock,
            hands,
            answers,
            events,
            control,
            dialer,
            udp,
            datagrams,
            connections: BTreeMap::new(),
            listeners: BTreeMap::new(),
            tickets: 0,
            note,
            outbox: Outbox::new(),
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        self.serve().await;
        // Nobody listens any more: threads that still answer must not wait.
        self.answers.close();
    }

    async fn serve(&mut self) {
        self.node.start(self.clock.now(), &mut self.outbox);
        loop {
            self.carry_out();
            let deadline = self.node.deadline().map(|(at, _)| self.clock.instant(at));
            tokio::select! {
                biased;
                control = self.control.recv() => match control {
                    Some(Control::Configure(config)) => {
                        self.hands.claim(&config);
                        self.tell(Input::Configured(config));
                    }
                    Some(Control::Scrub(path, news)) => {
                        self.tickets += 1;
                        let ticket = Ticket(self.tickets);
                        self.listeners.insert(ticket, news);
                        self.tell(Input::Scrub { ticket, path });
                    }
                    Some(Control::Status(reply)) => _ = reply.send(self.node.status()),
                    Some(Control::Stop) | None => {
                        self.tell(Input::Leave);
                        return self.carry_out();
                    }
                },
                answer = self.answers.recv() => match answer {
                    Some(input) => self.tell(input),
                    None => return,
                },
                happened = happening(&mut self.events, &mut self.dialer, &mut self.datagrams) => match happened {
                    Happening::Event(event) => self.event(event),
                    Happening::Datagram { from, data } => self.tell(Input::Datagram { from, data }),
                    Happening::NotConnected { address, reason } => self.tell(Input::NotConnected { address, reason }),
                    Happening::Connecting => {}
                    Happening::NoMoreEvents => return,
                },
                () = sleep_until(deadline) => self.node.handle_timeout(self.clock.now(), &mut self.outbox),
            }
        }
    }

    fn tell(&mut self, input: Input) {
        self.node.handle(self.clock.now(), input, &mut self.outbox);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Opened(handle) => {
                let (connection, version, from) = (handle.id, handle.version, handle.peer);
                let end = self.dialer.opened(connection).map_or(End::Accepted { from }, |to| End::Dialed { to });
                self.connections.insert(connection, Link { handle, requests: None });
                self.tell(Input::Connected { connection, version, end });
            }
            Event::Message { from, message } => self.tell(Input::Message { connection: from, message }),
            Event::Closed { id, .. } => {
                self.connections.remove(&id);
                self.tell(Input::Disconnected { connection: id });
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.outbox.pop() {
            match effect {
                Effect::Send { connection, message } => self.send(connection, message),
                Effect::Close { connection, reason } => self.close(connection, reason),
                Effect::Connect { address } => self.dialer.dial(address),
                Effect::Datagram { to, data } => self.udp.send(to, &data),
                Effect::Disk { job, task } => self.hands.disk(job, task),
                Effect::Tell { ticket, news } => self.news(ticket, news),
                Effect::Survey { job, directory } => self.hands.survey(job, directory),
                Effect::Estimate { job, task } => self.hands.estimate(job, task),
                Effect::Write { job, rows } => self.hands.write(job, rows),
                Effect::ListIndexes => self.hands.list_indexes(),
                Effect::RemoveIndexes { images } => self.hands.remove_indexes(images),
                Effect::LoadIndex { image } => self.hands.load_index(image),
                Effect::CheckIndex { image, data } => self.hands.check_index(image, data),
                Effect::Serve { connection, request, what } => {
                    let Some(link) = self.connections.get_mut(&connection) else {
                        self.tell(Input::Served { connection });
                        continue;
                    };
                    let requests = link.requests.get_or_insert_with(|| self.hands.requests(&link.handle));
                    if !requests.push(request, what) {
                        self.tell(Input::Served { connection });
                    }
                }
                Effect::Note(note) => (self.note)(&note),
            }
        }
    }

    /// Hands news to whoever ordered a scrub, at his pace.
    fn news(&mut self, ticket: Ticket, news: Vec<News>) {
        self.listeners.retain(|_, listener| !listener.is_closed());
        let last = matches!(news.last(), Some(News::Ended | News::Refused(_)));
        let listener = if last { self.listeners.remove(&ticket) } else { self.listeners.get(&ticket).cloned() };
        self.hands.answer_later(async move {
            let mut alive = listener.is_some();
            for (listener, news) in listener.iter().cycle().zip(news) {
                alive = alive && listener.send(news).await.is_ok();
            }
            Input::Told { ticket, alive }
        });
    }

    fn close(&self, connection: ConnectionId, reason: String) {
        let Some(Link { handle, .. }) = self.connections.get(&connection) else { return };
        // If its queue is full, it closes at once.
        let _ = handle.try_send(Outgoing::Close(reason));
    }

    /// A peer that doesn't read what it is told is cut off: its `Closed` event follows.
    fn send(&mut self, connection: ConnectionId, message: Message) {
        let Some(Link { handle, .. }) = self.connections.get(&connection) else { return };
        match handle.try_send(Outgoing::Message(message)) {
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(error) => {
                tracing::warn!(connection = connection.0, peer = %handle.peer, "cut off: {error}");
                let _ = handle.try_send(Outgoing::Close("you don't read what you are told".to_owned()));
            }
        }
    }
}

/// What comes from other hosts.
enum Happening {
    Event(Event),
    Datagram {
        from: SocketAddr,
        data: Bytes,
    },
    NotConnected {
        address: SocketAddr,
        reason: String,
    },
    /// The connection's event follows.
    Connecting,
    NoMoreEvents,
}

/// The next of either, all alike: whoever sends much of one doesn't hold the others up. Safe to drop.
async fn happening(
    events: &mut mpsc::Receiver<Event>,
    dialer: &mut Dialer,
    datagrams: &mut mpsc::Receiver<Received>,
) -> Happening {
    tokio::select! {
        event = events.recv() => event.map_or(Happening::NoMoreEvents, Happening::Event),
        Some((from, data)) = datagrams.recv() => Happening::Datagram { from, data },
        (address, dialed) = dialer.dialed() => match dialed {
            Ok(()) => Happening::Connecting,
            Err(reason) => Happening::NotConnected { address, reason },
        },
    }
}
