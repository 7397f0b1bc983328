//! A client of `ciruela.v2` made of the library's parts, which can also be made to misbehave.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ciruela::driver::scan::Scan;
use ciruela::format::wire::{self, Message, Notification, Outcome, Request, Response, SubmitAnswer};
use ciruela::format::{change, signature, ssh::SecretKey};
use ciruela::model::change::{Change, SignedChange, Verb};
use ciruela::model::ids::ImageId;
use ciruela::model::key::{Scheme, Signature};
use ciruela::model::time::Stamp;
use tokio_tungstenite::tungstenite::client::{IntoClientRequest as _, client};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message as Frame, WebSocket};

use crate::daemon::Daemon;

/// A daemon that says nothing for this long has failed the test.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Peer {
    pub(crate) socket: WebSocket<TcpStream>,
    last_request: u64,
    /// Outcomes that came while something else was waited for.
    outcomes: Vec<Outcome>,
}

impl Peer {
    /// Connects and hears the daemon's `Hello`.
    pub(crate) fn connect(daemon: &Daemon) -> Self {
        let mut peer = Self::connect_silently(daemon);
        let hello = peer.receive();
        assert!(matches!(hello, Message::Notification(Notification::Hello(_))), "{hello:?}");
        peer
    }

    /// Connects and reads nothing.
    pub(crate) fn connect_silently(daemon: &Daemon) -> Self {
        let stream = TcpStream::connect(daemon.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        let mut request = format!("ws://{}/", daemon.address).into_client_request().expect("a URL");
        let offer = "ciruela.v2".parse().expect("a header");
        request.headers_mut().insert("sec-websocket-protocol", offer);
        let (mut socket, _) = client(request, stream).expect("a WebSocket");
        // What this side may receive isn't under test.
        socket.set_config(|config| *config = WebSocketConfig::default());
        Self { socket, last_request: 0, outcomes: Vec::new() }
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let frame = wire::encode(message).expect("it can be sent");
        self.socket.send(Frame::Binary(frame.into())).expect("sent");
    }

    pub(crate) fn receive(&mut self) -> Message {
        self.try_receive().expect("not closed")
    }

    /// `Err`: why the daemon closed.
    pub(crate) fn try_receive(&mut self) -> Result<Message, String> {
        loop {
            match self.socket.read() {
                Ok(Frame::Binary(frame)) => return Ok(decoded(&frame)),
                Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_)) => {}
                Ok(Frame::Text(text)) => panic!("a text frame: {text}"),
                Ok(Frame::Close(frame)) => return Err(frame.map_or_else(String::new, |f| f.reason.to_string())),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the daemon says nothing")
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Waits until the daemon closes the connection; says why.
    pub(crate) fn closed(&mut self) -> String {
        loop {
            if let Err(reason) = self.try_receive() {
                return reason;
            }
        }
    }

    pub(crate) fn publish(&mut self, image: ImageId) {
        self.send(&Message::Notification(Notification::PublishImage { id: image }));
    }

    /// Sends a request; its id.
    pub(crate) fn request(&mut self, request: Request) -> u64 {
        self.last_request += 1;
        self.send(&Message::Request { id: self.last_request, request });
        self.last_request
    }

    /// Asks; requests of the daemon that come before the answer are given to `serve`.
    pub(crate) fn ask(&mut self, request: Request, mut serve: impl FnMut(&mut Self, u64, Request)) -> Response {
        let asked = self.request(request);
        loop {
            match self.receive() {
                Message::Response { id, response } if id == asked => return response,
                other => self.react(other, &mut serve),
            }
        }
    }

    fn react(&mut self, message: Message, serve: &mut impl FnMut(&mut Self, u64, Request)) {
        match message {
            Message::Request { id, request } => serve(self, id, request),
            Message::Notification(Notification::Outcome(outcome)) => self.outcomes.push(outcome),
            Message::Notification(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Serves until an outcome comes.
    pub(crate) fn outcome(&mut self, mut serve: impl FnMut(&mut Self, u64, Request)) -> Outcome {
        while self.outcomes.is_empty() {
            let message = self.receive();
            self.react(message, &mut serve);
        }
        self.outcomes.remove(0)
    }

    /// Submits a change; nothing of its image is served meanwhile.
    pub(crate) fn submit(&mut self, signed: SignedChange) -> SubmitAnswer {
        let response =
            self.ask(Request::SubmitChange(signed), |_, _, request| panic!("nothing is offered: {request:?}"));
        let Response::SubmitChange(answer) = response else { panic!("{response:?}") };
        answer
    }

    pub(crate) fn respond(&mut self, id: u64, response: Response) {
        self.send(&Message::Response { id, response });
    }
}

fn decoded(frame: &Bytes) -> Message {
    wire::decode(frame).expect("a message")
}

/// A signed append or replace, dated now.
pub(crate) fn signed(key: &SecretKey, verb: Verb, path: &str, image: ImageId) -> SignedChange {
    signed_at(key, verb, path, image, ciruela::driver::clock::stamp())
}

pub(crate) fn signed_at(key: &SecretKey, verb: Verb, path: &str, image: ImageId, stamp: Stamp) -> SignedChange {
    let path = path.parse().expect("a path");
    let change = Change { cluster: None, verb, path, image: Some(image), old_image: None, stamp };
    let message = change::signed_bytes(&change, Scheme::V2).expect("it can be signed");
    let bytes = signature::sign(key, &message);
    let signature = Signature { scheme: Scheme::V2, key: Some(key.public_key()), bytes };
    SignedChange::new(change, vec![signature])
}

/// Answers as an honest source of the scanned tree would.
pub(crate) fn honest(root: &Path, scan: &Scan, request: &Request) -> Response {
    match request {
        Request::GetIndexPart { id, offset } if *id == scan.id => {
            let offset = usize::try_from(*offset).expect("small");
            let index = scan.index.to_vec();
            let end = index.len().min(offset + ciruela::model::limits::INDEX_PART_BYTES_MAX);
            let data = Bytes::copy_from_slice(&index[offset..end]);
            Response::GetIndexPart { data, total: index.len() as u64 }
        }
        Request::GetBlocks { image, run } if *image == scan.id => {
            let mut data = Vec::new();
            for block in run.blocks() {
                let place = scan.image.place(block).expect("in the image");
                let content = std::fs::read(root.join(place.file.path())).expect("readable");
                let start = usize::try_from(place.offset).expect("small");
                data.extend_from_slice(&content[start..start + place.len]);
            }
            Response::GetBlocks { data: data.into() }
        }
        other => panic!("not asked of a source of {}: {other:?}", scan.id),
    }
}
