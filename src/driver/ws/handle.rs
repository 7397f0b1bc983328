//! The owner's end of a connection: a bounded queue to it, and the books of requests in both directions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::guard::Meter;
use super::{CloseReason, Outgoing};
use crate::format::wire::{Message, RequestType, Response, WireError, encode};
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};

/// Speaks to one connection; clones speak to the same.
#[derive(Debug, Clone)]
pub struct ConnectionHandle {
    /// Its number.
    pub id: ConnectionId,
    /// What was negotiated.
    pub version: ProtocolVersion,
    /// The other end.
    pub peer: SocketAddr,
    sender: mpsc::Sender<Queued>,
    pub(super) books: Arc<Books>,
}

/// Why something was not queued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Too much is queued, or too many requests are unanswered: here it is, for later.
    #[error("the connection's queue is full")]
    Full(Box<Outgoing>),
    /// The connection is gone, its `Closed` event is there or on its way.
    #[error("the connection is closed")]
    Closed(Box<Outgoing>),
    /// A request with the id of one that is not answered yet.
    #[error("request {0} is not answered yet")]
    RepeatedId(u64),
    /// What a peer of this version would not take.
    #[error("a message of {bytes} bytes is over the bound of {max}")]
    TooLong { bytes: usize, max: usize },
    /// Not a message for sending.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// What is in the queue.
#[derive(Debug)]
pub(super) enum Queued {
    Frame { frame: Bytes, data: Bytes, is_response: bool },
    Close(String),
}

/// What a connection's handles and its task both know.
#[derive(Debug)]
pub(super) struct Books {
    version: ProtocolVersion,
    pub(super) meter: Arc<Meter>,
    /// Requests that we sent and that are not answered.
    asked: Mutex<BTreeMap<u64, RequestType>>,
    /// Requests that we received and whose answers are not written.
    owed: AtomicUsize,
    /// `owed` fell.
    answered: Notify,
    queued_bytes: AtomicUsize,
    /// `queued_bytes` fell.
    drained: Notify,
    /// Why to close without writing what is queued.
    abort: Mutex<Option<String>>,
    aborted: Notify,
    /// The reader waits for the owner, so the peer's silence means nothing.
    pub(super) owner_busy: AtomicBool,
    /// The writer waits for the peer.
    pub(super) writing: AtomicBool,
    /// The peer has sent a message.
    pub(super) spoken: AtomicBool,
}

impl ConnectionHandle {
    pub(super) fn new(id: ConnectionId, version: ProtocolVersion, peer: SocketAddr) -> (Self, mpsc::Receiver<Queued>) {
        let (sender, queue) = mpsc::channel(limits::SEND_QUEUE_MESSAGES_MAX);
        let books = Books {
            version,
            meter: Arc::new(Meter::new()),
            asked: Mutex::default(),
            owed: AtomicUsize::new(0),
            answered: Notify::new(),
            queued_bytes: AtomicUsize::new(0),
            drained: Notify::new(),
            abort: Mutex::default(),
            aborted: Notify::new(),
            owner_busy: AtomicBool::new(false),
            writing: AtomicBool::new(false),
            spoken: AtomicBool::new(false),
        };
        (Self { id, version, peer, sender, books: Arc::new(books) }, queue)
    }

    /// Queues without waiting. A response over the version's bound is replaced by an error response that says so.
    pub fn try_send(&self, outgoing: Outgoing) -> Result<(), SendError> {
        let permit = match self.sender.try_reserve() {
            Ok(permit) => permit,
            Err(TrySendError::Full(())) => return self.queue_full(outgoing),
            Err(TrySendError::Closed(())) => return Err(SendError::Closed(outgoing.into())),
        };
        if self.queued_bytes() >= limits::SEND_QUEUE_BYTES_MAX {
            return self.queue_full(outgoing);
        }
        let (frame, data, is_response) = match outgoing {
            Outgoing::Close(reason) => {
                permit.send(Queued::Close(reason));
                return Ok(());
            }
            Outgoing::Encoded { frame, data, is_response } => {
                self.check_len(frame.len() + data.len())?;
                (frame, data, is_response)
            }
            Outgoing::Message(Message::Request { id, request }) => {
                let message = Message::Request { id, request };
                let frame = self.fitting(encode(&message)?.into())?;
                self.books.ask(id, message)?;
                (frame, Bytes::new(), false)
            }
            Outgoing::Message(Message::Response { id, response }) => (self.response(id, response)?, Bytes::new(), true),
            Outgoing::Message(message) => (self.fitting(encode(&message)?.into())?, Bytes::new(), false),
        };
        self.books.queued_bytes.fetch_add(frame.len() + data.len(), Ordering::Relaxed);
        permit.send(Queued::Frame { frame, data, is_response });
        Ok(())
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.books.queued_bytes.load(Ordering::Relaxed)
    }

    /// Waits until at most so many bytes wait to be written, or the connection is closed. One task at a time.
    pub async fn drained_to(&self, bytes: usize) {
        let drained = async {
            while self.queued_bytes() > bytes {
                self.books.drained.notified().await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = self.sender.closed() => {}
        }
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Bytes received since the connection was opened.
    pub fn bytes_received(&self) -> u64 {
        self.books.meter.received.load(Ordering::Relaxed)
    }

    /// Bytes handed to the operating system since the connection was opened.
    pub fn bytes_sent(&self) -> u64 {
        self.books.meter.sent.load(Ordering::Relaxed)
    }

    fn queue_full(&self, outgoing: Outgoing) -> Result<(), SendError> {
        if let Outgoing::Close(reason) = outgoing {
            self.books.abort(reason);
            return Ok(());
        }
        Err(SendError::Full(outgoing.into()))
    }

    fn response(&self, id: u64, response: Response) -> Result<Bytes, SendError> {
        match self.fitting(encode(&Message::Response { id, response })?.into()) {
            Err(error @ SendError::TooLong { .. }) => {
                let response = Response::Error(format!("the answer can't be sent: {error}"));
                Ok(encode(&Message::Response { id, response })?.into())
            }
            other => other,
        }
    }

    fn fitting(&self, frame: Bytes) -> Result<Bytes, SendError> {
        self.check_len(frame.len())?;
        Ok(frame)
    }

    fn check_len(&self, bytes: usize) -> Result<(), SendError> {
        let max = message_bytes_max(self.version);
        if bytes > max { Err(SendError::TooLong { bytes, max }) } else { Ok(()) }
    }
}

impl Books {
    /// Notes a request that is about to be sent.
    fn ask(&self, id: u64, message: Message) -> Result<(), SendError> {
        let Message::Request { request, .. } = &message else { return Ok(()) };
        let mut asked = lock(&self.asked);
        if asked.contains_key(&id) {
            return Err(SendError::RepeatedId(id));
        }
        if asked.len() >= limits::REQUESTS_IN_FLIGHT_MAX {
            return Err(SendError::Full(Box::new(Outgoing::Message(message))));
        }
        asked.insert(id, request.request_type());
        self.set_message_bytes_max(&asked);
        Ok(())
    }

    /// Notes an answer that was received; fails when it answers nothing.
    pub(super) fn note_response(&self, id: u64, response: &Response) -> Result<(), CloseReason> {
        let mut asked = lock(&self.asked);
        let Some(request_type) = asked.remove(&id) else {
            return Err(CloseReason::Protocol(format!("an answer to no request, id {id}")));
        };
        self.set_message_bytes_max(&asked);
        match response.request_type() {
            Some(other) if other != request_type => {
                let (request, response) = (request_type.name(), other.name());
                Err(CloseReason::Protocol(format!("{response} in answer to {request}, id {id}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Only who was asked for an index in one piece may send a message of that size.
    fn set_message_bytes_max(&self, asked: &BTreeMap<u64, RequestType>) {
        let may_be_big = |kind: &RequestType| matches!(kind, RequestType::GetIndex | RequestType::GetIndexAt);
        let max =
            if asked.values().any(may_be_big) { message_bytes_max(self.version) } else { limits::MESSAGE_BYTES_MAX };
        self.meter.message_bytes_max.store(max as u64, Ordering::Relaxed);
    }

    /// Waits until the peer may have one more request unanswered, and counts it.
    pub(super) async fn owe(&self) {
        while self.owed.load(Ordering::Acquire) >= limits::REQUESTS_IN_FLIGHT_MAX {
            self.answered.notified().await;
        }
        self.owed.fetch_add(1, Ordering::AcqRel);
    }

    /// A frame left the queue for the socket.
    pub(super) fn note_written(&self, bytes: usize, is_response: bool) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.drained.notify_one();
        if is_response {
            // An owner that answers twice must not make room for more than the bound.
            let less = |owed: usize| owed.checked_sub(1);
            let _ = self.owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
            self.answered.notify_one();
        }
    }

    /// Closes at once.
    pub(super) fn abort(&self, reason: String) {
        *lock(&self.abort) = Some(reason);
        self.aborted.notify_one();
    }

    /// Waits until it is closed at once; says why.
    pub(super) async fn aborted(&self) -> String {
        loop {
            if let Some(reason) = lock(&self.abort).take() {
                return reason;
            }
            self.aborted.notified().await;
        }
    }
}

/// Bytes of a message that a peer of that version takes.
pub(super) const fn message_bytes_max(version: ProtocolVersion) -> usize {
    match version {
        ProtocolVersion::V1 => limits::MESSAGE_V1_BYTES_MAX,
        ProtocolVersion::V2 => limits::MESSAGE_BYTES_MAX,
    }
}

/// Nothing is left half-done under these locks, so a panic elsewhere doesn't matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
