//! The task of one connection: reads, writes and watches at once, until one of them says why it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_websockets::{ClientBuilder, CloseCode, Error, Limits, ServerBuilder, WebSocketStream};

use super::guard::{Answers, Guarded, MessageTooLong};
use super::handle::{Books, ConnectionHandle, Queued, message_bytes_max};
use super::writer::{Opcode, Writer};
use super::{CloseReason, Event, Patience, Role};
use crate::format::wire::{self, Message};
use crate::model::limits;
use crate::model::peer::ConnectionId;

/// Bytes that the peer of a closing frame may be told, by RFC 6455.
const CLOSE_REASON_BYTES_MAX: usize = 123;

type Reader<S> = WebSocketStream<Guarded<ReadHalf<S>>>;

/// Runs until the connection is gone. `read`: what was read after the handshake.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    read: Bytes,
    role: Role,
    handle: ConnectionHandle,
    mut queue: mpsc::Receiver<Queued>,
    events: mpsc::Sender<Event>,
    patience: Patience,
) {
    let ConnectionHandle { id, version, peer, .. } = handle;
    let books = Arc::clone(&handle.books);
    let (reads, writes) = tokio::io::split(stream);
    let answers = Arc::new(Answers::default());
    let guarded = Guarded::new(reads, read, Arc::clone(&books.meter), Arc::clone(&answers));
    let limits = Limits::default().max_payload_len(Some(message_bytes_max(version)));
    let mut reader = match role {
        Role::Client => ClientBuilder::new().limits(limits).take_over(guarded),
        Role::Server => ServerBuilder::new().limits(limits).serve(guarded),
    };
    let mut writer = Writer::new(writes, role, Arc::clone(&books.meter));
    if events.send(Event::Opened(handle)).await.is_err() {
        return;
    }
    let reason = tokio::select! {
        reason = read_all(&mut reader, id, &books, &events) => reason,
        ended = write_all(&mut writer, &answers, &books, &mut queue, patience.ping) => {
            ended.map_or_else(|error| CloseReason::Lost(error.to_string()), CloseReason::ByUs)
        }
        reason = watch(&books, patience) => reason,
        reason = books.aborted() => CloseReason::ByUs(reason),
    };
    // From here on, whoever queues is told that the connection is closed.
    queue.close();
    log(id, peer, &reason);
    // Whether the peer hears it or not, it ends now.
    let goodbye = async { timeout(limits::CLOSE_TIMEOUT, say_goodbye(reader, writer, &answers, &reason)).await };
    let closed = |reason| events.send(Event::Closed { id, reason });
    // Who closes may want to end after it, with everything delivered. Nobody else should wait for a goodbye. A failure to
    // send means that there is no owner any more.
    if matches!(reason, CloseReason::ByUs(_)) {
        let _ = goodbye.await;
        let _ = closed(reason).await;
    } else {
        let _ = closed(reason.clone()).await;
        let _ = goodbye.await;
    }
}

fn log(id: ConnectionId, peer: SocketAddr, reason: &CloseReason) {
    tracing::debug!(connection = id.0, %peer, %reason, "connection ended");
}

async fn read_all<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Reader<S>,
    id: ConnectionId,
    books: &Books,
    events: &mpsc::Sender<Event>,
) -> CloseReason {
    loop {
        let frame = match stream.next().await {
            Some(Ok(frame)) if frame.is_binary() => Bytes::from(frame.into_payload()),
            Some(Ok(frame)) if frame.is_text() => {
                return CloseReason::Protocol("a text frame where only binary ones are".into());
            }
            Some(Ok(frame)) => match frame.as_close() {
                Some((code, reason)) => return CloseReason::ByPeer(told(code, reason)),
                None => continue,
            },
            Some(Err(error)) => return broken(&error),
            None => return CloseReason::Lost("ended by the peer".into()),
        };
        let message = match wire::decode(&frame) {
            Ok(message) => message,
            Err(error) => return CloseReason::BadMessage(error),
        };
        drop(frame);
        books.spoken.store(true, Ordering::Relaxed);
        books.owner_busy.store(true, Ordering::Relaxed);
        match &message {
            Message::Response { id, response } => {
                if let Err(reason) = books.note_response(*id, response) {
                    return reason;
                }
            }
            Message::Request { .. } | Message::Malformed { .. } => books.owe().await,
            Message::Notification(_) => {}
            Message::Unknown { .. } => continue,
        }
        if events.send(Event::Message { from: id, message }).await.is_err() {
            return CloseReason::ByUs("shutting down".into());
        }
        books.owner_busy.store(false, Ordering::Relaxed);
    }
}

/// Writes until the owner closes; gives the reason.
async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(
    writer: &mut Writer<WriteHalf<S>>,
    answers: &Answers,
    books: &Books,
    queue: &mut mpsc::Receiver<Queued>,
    ping: Duration,
) -> io::Result<String> {
    let mut pings = interval(ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    loop {
        let (mut next, ping_is_due) = tokio::select! {
            biased;
            queued = queue.recv() => (Some(queued.unwrap_or_else(|| Queued::Close("no longer needed".into()))), false),
            () = answers.there() => (None, false),
            _ = pings.tick() => (None, true),
        };
        books.writing.store(true, Ordering::Relaxed);
        if ping_is_due {
            writer.feed(Opcode::Ping, Bytes::new(), Bytes::new()).await?;
        }
        writer.feed_frames(&answers.take()).await?;
        let mut fed = 0;
        let mut closing = None;
        // Several messages before one flush, but not so many that the first one waits long.
        while let Some(queued) = next {
            match queued {
                Queued::Close(reason) => {
                    closing = Some(reason);
                    break;
                }
                Queued::Frame { frame, data, is_response } => {
                    let bytes = frame.len() + data.len();
                    writer.feed(Opcode::Binary, frame, data).await?;
                    books.note_written(bytes, is_response);
                    fed += bytes;
                }
            }
            next = if fed < limits::SOCKET_BUFFER_BYTES { queue.try_recv().ok() } else { None };
        }
        writer.flush().await?;
        books.writing.store(false, Ordering::Relaxed);
        if let Some(reason) = closing {
            return Ok(reason);
        }
    }
}

/// Ends when the peer has been silent, or has read nothing, for so long. One that reads on is not silent: on a slow link its
/// answer to a ping comes after all that was sent before.
async fn watch(books: &Books, patience: Patience) -> CloseReason {
    let seconds = patience.silence.as_secs();
    let ticks_max = seconds / patience.ping.as_secs();
    let counts = || (books.meter.received.load(Ordering::Relaxed), books.meter.sent.load(Ordering::Relaxed));
    let mut ticks = interval(patience.ping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let (mut silent, mut stuck, mut before) = (0, 0, counts());
    loop {
        ticks.tick().await;
        let after = counts();
        let reads = after.1 > before.1 + limits::PING_BYTES_MAX;
        let heard = after.0 != before.0 || reads || books.owner_busy.load(Ordering::Relaxed);
        let moved = after.1 != before.1 || !books.writing.load(Ordering::Relaxed);
        silent = if heard { 0 } else { silent + 1 };
        stuck = if moved { 0 } else { stuck + 1 };
        if stuck >= ticks_max {
            return CloseReason::Stuck(seconds);
        }
        if silent >= ticks_max {
            return CloseReason::Silent(seconds);
        }
        before = after;
    }
}

/// Tells the peer why, and gives it time to read that: data which nobody read would make the system drop it.
async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(
    mut reader: Reader<S>,
    mut writer: Writer<WriteHalf<S>>,
    answers: &Answers,
    reason: &CloseReason,
) -> Result<(), Error> {
    let code = match reason {
        CloseReason::ByPeer(_) => {
            // The library has an answer; there is room for it.
            writer.feed_frames(&answers.take()).await?;
            reader.flush().await?;
            writer.feed_frames(&answers.take()).await?;
            writer.flush().await?;
            writer.io.shutdown().await?;
            return Ok(());
        }
        CloseReason::Lost(_) => return Ok(()),
        CloseReason::ByUs(_) => CloseCode::NORMAL_CLOSURE,
        CloseReason::Protocol(_) => CloseCode::PROTOCOL_ERROR,
        CloseReason::BadMessage(_) => CloseCode::INVALID_FRAME_PAYLOAD_DATA,
        CloseReason::Silent(_) | CloseReason::Stuck(_) => CloseCode::GOING_AWAY,
    };
    let text = match reason {
        CloseReason::ByUs(text) | CloseReason::Protocol(text) => text.clone(),
        CloseReason::BadMessage(error) => error.to_string(),
        CloseReason::ByPeer(_) | CloseReason::Silent(_) | CloseReason::Stuck(_) | CloseReason::Lost(_) => {
            reason.to_string()
        }
    };
    let text = &text[..text.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let payload = [&u16::from(code).to_be_bytes(), text.as_bytes()].concat();
    writer.feed(Opcode::Close, payload.into(), Bytes::new()).await?;
    writer.flush().await?;
    writer.io.shutdown().await?;
    // Not through the library: after an error it can't go on reading.
    let mut scratch = vec![0; limits::SOCKET_BUFFER_BYTES];
    while reader.get_mut().stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

/// What the peer said when it closed.
fn told(code: CloseCode, reason: &str) -> String {
    match (code, reason) {
        (CloseCode::NO_STATUS_RECEIVED, _) => "no reason given".into(),
        (code, "") => format!("code {}", u16::from(code)),
        (_, reason) => reason.to_owned(),
    }
}

/// Whether the peer or the network is to blame.
fn broken(error: &Error) -> CloseReason {
    let over_bound = matches!(error, Error::Io(error) if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<MessageTooLong>));
    if over_bound {
        CloseReason::Protocol(error.to_string())
    } else if matches!(error, Error::Protocol(_) | Error::PayloadTooLong { .. }) {
        CloseReason::Protocol(format!("no proper WebSocket frame: {error}"))
    } else {
        CloseReason::Lost(error.to_string())
    }
}
