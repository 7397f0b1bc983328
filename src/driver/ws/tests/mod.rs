//! Tests of the transport. Those about time run on a paused clock over in-memory streams.

mod crowd;
mod handshake;
mod hostile;
mod limits_kept;
mod talk;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::{self, WebSocketConfig};

use super::*;
use crate::format::wire::{self, Notification, Request, Response};
use crate::model::ids::ImageId;

/// What existing clients send, `Origin` and all.
const EXISTING_CLIENT: &str = "GET / HTTP/1.1\r\nHost: ciruela.example\r\nOrigin: http://ciruela.example/\r\n\
    User-Agent: minihttp/0.2\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

struct Pages;

impl Handler for Pages {
    fn page<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Page>> {
        let page = || Page { content_type: "application/json", body: Bytes::from_static(b"{}") };
        Box::pin(std::future::ready((path == "/status.json").then(page)))
    }
}

/// A server on a loopback port, until dropped.
struct Server {
    addr: SocketAddr,
    events: mpsc::Receiver<Event>,
    _stop: oneshot::Sender<()>,
}

impl Server {
    async fn start(max_connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let (sender, events) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let options = ServerOptions::new(max_connections);
        tokio::spawn(serve(listener, options, Arc::new(Pages), Hub::new(sender), shutdown));
        Self { addr, events, _stop: stop }
    }

    /// Sends `request` and reads to the end, or to the end of the head if that switches protocols.
    async fn raw(&self, request: &[u8]) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(self.addr).await.expect("listens");
        stream.write_all(request).await.expect("sent");
        let mut answer = Vec::new();
        while !(answer.starts_with(b"HTTP/1.1 101") && answer.ends_with(b"\r\n\r\n")) {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
        (String::from_utf8(answer).expect("text"), stream)
    }

    async fn opened(&mut self) -> ConnectionHandle {
        opened(&mut self.events).await
    }
}

async fn opened(events: &mut mpsc::Receiver<Event>) -> ConnectionHandle {
    match events.recv().await {
        Some(Event::Opened(handle)) => handle,
        other => panic!("expected an opened connection, got {other:?}"),
    }
}

async fn heard(events: &mut mpsc::Receiver<Event>) -> Message {
    match events.recv().await {
        Some(Event::Message { message, .. }) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

async fn closed(events: &mut mpsc::Receiver<Event>) -> CloseReason {
    match events.recv().await {
        Some(Event::Closed { reason, .. }) => reason,
        other => panic!("expected the end, got {other:?}"),
    }
}

/// A connection of ours over an in-memory stream, and the bare other end.
struct Pair {
    handle: ConnectionHandle,
    events: mpsc::Receiver<Event>,
    peer: WebSocketStream<DuplexStream>,
}

async fn pair(version: ProtocolVersion) -> Pair {
    pair_of(version, |hub| hub).await
}

async fn pair_of(version: ProtocolVersion, kind: impl FnOnce(Hub) -> Hub) -> Pair {
    let (ours, theirs) = duplex(64 << 10);
    let (sender, mut events) = mpsc::channel(1024);
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let (_, task) = kind(Hub::new(sender)).connection(ours, Bytes::new(), Role::Server, version, addr);
    tokio::spawn(task);
    let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let peer = WebSocketStream::from_raw_socket(theirs, protocol::Role::Client, Some(config)).await;
    let handle = opened(&mut events).await;
    Pair { handle, events, peer }
}

impl Pair {
    async fn peer_says(&mut self, message: &Message) {
        let frame = wire::encode(message).expect("sendable");
        self.peer.send(Frame::Binary(frame.into())).await.expect("sent");
    }

    /// The next message at the bare end; pings are passed over.
    async fn peer_hears(&mut self) -> Message {
        loop {
            match self.peer.next().await {
                Some(Ok(Frame::Binary(frame))) => return wire::decode(&frame).expect("a message"),
                Some(Ok(Frame::Ping(_))) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// Code and reason of the closing frame at the bare end.
    async fn peer_is_told(&mut self) -> (u16, String) {
        loop {
            match self.peer.next().await {
                Some(Ok(Frame::Close(Some(frame)))) => return (frame.code.into(), frame.reason.as_str().into()),
                Some(Ok(_)) => {}
                other => panic!("expected a closing frame, got {other:?}"),
            }
        }
    }
}

fn image() -> ImageId {
    ImageId::new([1; 32])
}

fn publish() -> Message {
    Message::Notification(Notification::PublishImage { id: image() })
}

fn ask(id: u64) -> Message {
    Message::Request { id, request: Request::GetIndexPart { id: image(), offset: 0 } }
}

fn error(id: u64) -> Message {
    Message::Response { id, response: Response::Error("no".into()) }
}
