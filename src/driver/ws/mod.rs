//! The transport: WebSocket connections, accepted and made, and the HTTP pages on the same port.
//!
//! Each connection is one task which reads and writes at once. What it hears goes to one bounded channel of [`Event`]s for
//! all connections; what it should say is queued through its [`ConnectionHandle`]. The transport keeps the rules that hold
//! for any message: sizes, numbers of requests in flight, each answer to a request that was asked. It decides nothing else.

mod client;
mod connection;
mod fetch;
mod guard;
mod handle;
mod handshake;
mod places;
mod server;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::format::wire::{Message, WireError};
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};

pub use client::{ConnectError, Connected, connect, connect_from};
pub use fetch::fetch;
pub use handle::{ConnectionHandle, SendError};
pub use server::{Handler, Page, ServerOptions, serve};

const SUBPROTOCOL_V1: &str = "ciruela.v1";
const SUBPROTOCOL_V2: &str = "ciruela.v2";

/// What a connection should write.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// A message.
    Message(Message),
    /// A notification or response that is encoded already, most likely begun by `wire::data_response_head`.
    Encoded {
        /// All but `data`.
        frame: Bytes,
        /// Its end, if that is kept elsewhere.
        data: Bytes,
        /// Whether it answers a request.
        is_response: bool,
    },
    /// Write what was queued before, then close, telling the peer why. Sent to a full queue, it closes at once.
    Close(String),
}

/// What happens to connections. For each: `Opened` first, `Closed` last, and nothing after.
#[derive(Debug)]
pub enum Event {
    /// It is there. When the last handle is dropped, it closes.
    Opened(ConnectionHandle),
    /// It says something. Requests, also malformed ones, must each be answered by one response.
    Message { from: ConnectionId, message: Message },
    /// It is gone; whatever it had not answered will never be.
    Closed { id: ConnectionId, reason: CloseReason },
}

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The owner said so.
    #[error("closed: {0}")]
    ByUs(String),
    /// The peer said so.
    #[error("closed by the peer: {0}")]
    ByPeer(String),
    /// The peer sent what it must not.
    #[error("closed because the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer sent a frame that is no message.
    #[error("closed because of a bad message from the peer: {0}")]
    BadMessage(WireError),
    /// Nothing was heard from the peer, not even an answer to pings.
    #[error("closed: silent for {0} s")]
    Silent(u64),
    /// The peer doesn't read.
    #[error("closed: the peer has not read anything for {0} s")]
    Stuck(u64),
    /// The network, or the peer's end.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// What all connections of a process share: where their events go, and their numbers.
#[derive(Debug, Clone)]
pub struct Hub {
    events: mpsc::Sender<Event>,
    next_id: Arc<AtomicU64>,
    patience: Patience,
}

/// Which end of a connection this is: a client's frames are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// When a peer that shows no sign of life is given up.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// How often it is asked for one.
    ping: Duration,
    silence: Duration,
}

impl Hub {
    /// Events go to `events`; while it is full, connections don't read. Each event may hold a frame of up to
    /// [`crate::model::limits::MESSAGE_BYTES_MAX`], so its capacity bounds memory.
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        let patience = Patience { ping: limits::PING_INTERVAL, silence: limits::CONNECTION_IDLE_TIMEOUT };
        Self { events, next_id: Arc::new(AtomicU64::new(1)), patience }
    }

    /// The same for one who waits for answers, and can go elsewhere: a peer that hangs is given up after seconds.
    pub fn impatient(self) -> Self {
        Self { patience: Patience { ping: limits::IMPATIENT_PING_INTERVAL, silence: limits::DOWN_AFTER }, ..self }
    }

    /// Starts the task of a connection that [`connect`] made.
    pub fn open(&self, connected: Connected) -> ConnectionHandle {
        let Connected { stream, read, version, peer } = connected;
        let (handle, task) = self.connection(stream, read, Role::Client, version, peer);
        tokio::spawn(task);
        handle
    }

    /// A connection and the future which is its task.
    fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        read: Bytes,
        role: Role,
        version: ProtocolVersion,
        peer: std::net::SocketAddr,
    ) -> (ConnectionHandle, impl Future<Output = ()> + Send + 'static) {
        let id = ConnectionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (handle, queue) = ConnectionHandle::new(id, version, peer);
        let task = connection::run(stream, read, role, handle.clone(), queue, self.events.clone(), self.patience);
        (handle, task)
    }
}

/// Small messages shouldn't wait for big ones to fill a segment.
fn no_delay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY");
    }
}
