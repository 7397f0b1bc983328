//! A daemon made of the library's transport alone, which does as a test says: takes images and checks every block, refuses,
//! stays silent, breaks off.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ciruela::driver::ws::{ConnectionHandle, Event, Handler, Hub, Outgoing, Page, ServerOptions, serve};
use ciruela::format::hash::hash_blocks;
use ciruela::format::wire::{
    Hello, Hosts, Message, NodeReport, Nodes, Notice, Notification, Outcome, Request, Response, SubmitAnswer,
    VerdictWord,
};
use ciruela::format::{change, index, signature};
use ciruela::model::change::{Change, SignedChange};
use ciruela::model::ids::{ImageId, MachineId};
use ciruela::model::image::Image;
use ciruela::model::key::{PublicKey, Scheme};
use ciruela::model::origins::Origins;
use ciruela::model::peer::{ConnectionId, Host};
use ciruela::model::run::{Run, runs_of};
use ciruela::model::time::Stamp;
use tokio::sync::mpsc;

/// What the daemon does with a change.
#[derive(Clone)]
pub(crate) enum Play {
    /// Accepts it, fetches everything, checks it, says done.
    Take,
    /// The same, but breaks the connection off once after so many runs of blocks.
    BreakOff(usize),
    /// The same, but calls this between the index and the blocks.
    Meanwhile(Arc<dyn Fn() + Send + Sync>),
    /// Accepts it, asks these questions one after the other, says done.
    Ask(Vec<Request>),
    /// Says that it is there already.
    Have,
    /// Accepts it and does nothing.
    Accept,
    /// Says nothing.
    Silence,
    /// Says no, with this word.
    Refuse(&'static str, Refusal),
    /// Accepts it, then says that it ended so.
    End(&'static str, &'static str),
    /// The same as [`Play::Take`]; tells that these nodes are at work, and when it is done, that they ended so. `down`: not alive.
    Follow(Vec<(u8, &'static str)>),
    /// The same, but says that it has all pieces, and never that anybody is done.
    Hold(u8),
}

/// What comes with a refusal.
#[derive(Clone, Default)]
pub(crate) struct Refusal {
    pub(crate) accepted_keys: Vec<String>,
    pub(crate) current: Option<ImageId>,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) hosts: Vec<(u8, String)>,
    pub(crate) superseded: bool,
}

/// A running one; it ends with its test.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    /// Changes that were submitted, those which came again too.
    changes: Mutex<Receiver<Change>>,
    /// Images that arrived, with all their bytes.
    images: Arc<Mutex<BTreeMap<ImageId, Vec<u8>>>>,
    /// Answers to [`Play::Ask`].
    answers: Arc<Mutex<Vec<Response>>>,
    _runtime: tokio::runtime::Runtime,
}

struct NoPages;

impl Handler for NoPages {
    fn page<'a>(&'a self, _: &'a str) -> std::pin::Pin<Box<dyn Future<Output = Option<Page>> + Send + 'a>> {
        Box::pin(std::future::ready(None))
    }
}

/// An image on its way.
struct Arriving {
    connection: ConnectionId,
    signed: SignedChange,
    index_request: u64,
    text: Vec<u8>,
    image: Option<Image>,
    todo: VecDeque<Run>,
    asked: BTreeMap<u64, Run>,
    got: BTreeMap<u64, Vec<u8>>,
}

struct Node {
    host: Host,
    key: PublicKey,
    play: Play,
    connections: BTreeMap<ConnectionId, ConnectionHandle>,
    arriving: Vec<Arriving>,
    last_request: u64,
    runs: usize,
    broke_off: bool,
    changes: SyncSender<Change>,
    images: Arc<Mutex<BTreeMap<ImageId, Vec<u8>>>>,
    answers: Arc<Mutex<Vec<Response>>>,
    asking: Option<SignedChange>,
}

impl Fake {
    /// Starts one with that number, on a free port of `127.0.0.1`. `key`: whose signatures it expects.
    pub(crate) fn start(number: u8, key: PublicKey, play: Play) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (changes, submitted) = sync_channel(1_000);
        let (images, answers) = (Arc::new(Mutex::default()), Arc::new(Mutex::default()));
        let node = Node {
            host: Host { machine_id: MachineId::new([number; 16]), hostname: format!("node{number}").into() },
            key,
            play,
            connections: BTreeMap::new(),
            arriving: Vec::new(),
            last_request: 0,
            runs: 0,
            broke_off: false,
            changes,
            images: Arc::clone(&images),
            answers: Arc::clone(&answers),
            asking: None,
        };
        let (events, heard) = mpsc::channel(16);
        let options = ServerOptions::new(100);
        runtime.spawn(serve(listener, options, Arc::new(NoPages), Hub::new(events), std::future::pending()));
        runtime.spawn(node.run(heard));
        Self { address, changes: Mutex::new(submitted), images, answers, _runtime: runtime }
    }

    /// The next change that was submitted; waits for it.
    pub(crate) fn next_change(&self) -> Change {
        self.changes.lock().expect("not poisoned").recv().expect("it runs")
    }

    /// How many were submitted and not looked at yet.
    pub(crate) fn changes_left(&self) -> usize {
        self.changes.lock().expect("not poisoned").try_iter().count()
    }

    /// What the client answered to the questions of [`Play::Ask`].
    pub(crate) fn answers(&self) -> Vec<Response> {
        self.answers.lock().expect("not poisoned").clone()
    }

    /// The bytes of an image's files, one after the other, if it arrived.
    pub(crate) fn image(&self, id: ImageId) -> Option<Vec<u8>> {
        self.images.lock().expect("not poisoned").get(&id).cloned()
    }
}

impl Node {
    async fn run(mut self, mut heard: mpsc::Receiver<Event>) {
        while let Some(event) = heard.recv().await {
            match event {
                Event::Opened(handle) => {
                    let hello = Hello { host: self.host.clone(), version: "fake".to_owned() };
                    let id = handle.id;
                    self.connections.insert(id, handle);
                    self.send(id, Message::Notification(Notification::Hello(hello)));
                }
                Event::Message { from, message: Message::Request { id, request: Request::SubmitChange(signed) } } => {
                    self.submitted(from, id, signed);
                }
                Event::Message { from, message: Message::Response { id, response } } => {
                    self.answered(from, id, response);
                }
                Event::Message { .. } => {}
                Event::Closed { id, .. } => {
                    self.connections.remove(&id);
                    self.arriving.retain(|arriving| arriving.connection != id);
                }
            }
        }
    }

    fn send(&self, to: ConnectionId, message: Message) {
        if let Some(handle) = self.connections.get(&to) {
            handle.try_send(Outgoing::Message(message)).expect("there is room");
        }
    }

    fn ask(&mut self, to: ConnectionId, request: Request) -> u64 {
        self.last_request += 1;
        self.send(to, Message::Request { id: self.last_request, request });
        self.last_request
    }

    fn submitted(&mut self, from: ConnectionId, id: u64, signed: SignedChange) {
        let message = change::signed_bytes(&signed.change, Scheme::V2).expect("expressible");
        let fits = |one: &ciruela::model::key::Signature| {
            one.scheme == Scheme::V2 && one.key == Some(self.key) && signature::verify(&self.key, &message, &one.bytes)
        };
        assert!(signed.signatures.iter().any(fits), "no good signature on {:?}", signed.change);
        self.changes.send(signed.change.clone()).expect("the test is there");
        let mut answer = SubmitAnswer {
            verdict: VerdictWord::Accept,
            reject_reason: None,
            detail: None,
            accepted_keys: Vec::new(),
            current: None,
            stamp: None,
            done: false,
            host: self.host.clone(),
            hosts: Hosts::new(),
            addresses: Vec::new(),
        };
        match self.play.clone() {
            Play::Silence => return,
            Play::Have => (answer.verdict, answer.done) = (VerdictWord::Have, true),
            Play::Refuse(word, refusal) => {
                answer.verdict = if refusal.superseded { VerdictWord::Superseded } else { VerdictWord::Refused };
                answer.reject_reason = Some(word.to_owned());
                (answer.accepted_keys, answer.current) = (refusal.accepted_keys, refusal.current);
                answer.stamp = refusal.stamp;
                let host = |(n, name): (u8, String)| (MachineId::new([n; 16]), name.into());
                answer.hosts = refusal.hosts.into_iter().map(host).collect();
            }
            Play::Take
            | Play::BreakOff(_)
            | Play::Meanwhile(_)
            | Play::Ask(_)
            | Play::Accept
            | Play::Follow(_)
            | Play::Hold(_)
            | Play::End(..) => {}
        }
        self.send(from, Message::Response { id, response: Response::SubmitChange(answer) });
        match self.play.clone() {
            Play::End(result, reason) => self.end(from, &signed, result, Some(reason), 0),
            Play::Take | Play::BreakOff(_) | Play::Meanwhile(_) => self.fetch(from, signed),
            Play::Follow(others) => {
                let others: Vec<_> = others.iter().map(|(n, _)| (*n, "fetch")).collect();
                self.tell_of(from, &signed, &others);
                self.fetch(from, signed);
            }
            Play::Hold(other) => {
                self.tell_of(from, &signed, &[(other, "fetch")]);
                self.fetch(from, signed);
            }
            Play::Ask(_) => {
                self.asking = Some(signed);
                self.ask_next(from);
            }
            Play::Have | Play::Accept | Play::Silence | Play::Refuse(..) => {}
        }
    }

    fn ask_next(&mut self, from: ConnectionId) {
        let Play::Ask(questions) = &self.play else { return };
        let answered = self.answers.lock().expect("not poisoned").len();
        match questions.get(answered).cloned() {
            Some(question) => _ = self.ask(from, question),
            None => self.end(from, &self.asking.clone().expect("accepted"), "done", None, 0),
        }
    }

    fn end(&self, to: ConnectionId, signed: &SignedChange, result: &str, reason: Option<&str>, bytes_fetched: u64) {
        let outcome = Outcome {
            path: signed.change.path.clone(),
            image: signed.change.image,
            change: change::id(&signed.change),
            host: self.host.clone(),
            result: result.to_owned(),
            reason: reason.map(str::to_owned),
            bytes: Origins { fetched: bytes_fetched, ..Origins::default() },
            sources: Vec::new(),
        };
        self.send(to, Message::Notification(Notification::Outcome(outcome)));
    }

    fn fetch(&mut self, from: ConnectionId, signed: SignedChange) {
        let image = signed.change.image.expect("an image");
        let index_request = self.ask(from, Request::GetIndexPart { id: image, offset: 0 });
        self.arriving.push(Arriving {
            index_request,
            connection: from,
            signed,
            text: Vec::new(),
            image: None,
            todo: VecDeque::new(),
            asked: BTreeMap::new(),
            got: BTreeMap::new(),
        });
    }

    fn answered(&mut self, from: ConnectionId, id: u64, response: Response) {
        if self.asking.is_some() {
            self.answers.lock().expect("not poisoned").push(response);
            self.ask_next(from);
            return;
        }
        match response {
            Response::GetIndexPart { data, total } => {
                let Some(at) = self.arriving.iter().position(|one| one.index_request == id) else { return };
                self.arriving[at].text.extend_from_slice(&data);
                let (image, offset) = (self.wanted(at), self.arriving[at].text.len() as u64);
                if offset < total {
                    self.arriving[at].index_request = self.ask(from, Request::GetIndexPart { id: image, offset });
                    return;
                }
                let parsed = index::parse_for(image, &self.arriving[at].text).expect("the index is right");
                self.arriving[at].todo = runs_of(&parsed).into();
                self.arriving[at].image = Some(parsed);
                if let Play::Meanwhile(act) = &self.play {
                    act();
                }
                self.pump(at);
            }
            Response::GetBlocks { data } => {
                let Some(at) = self.arriving.iter().position(|one| one.asked.contains_key(&id)) else { return };
                self.got(at, id, &data);
                self.runs += 1;
                if let Play::BreakOff(after) = self.play
                    && self.runs >= after
                    && !self.broke_off
                {
                    self.broke_off = true;
                    let close = Outgoing::Close("by a test".to_owned());
                    self.connections[&from].try_send(close).expect("there is room");
                    return;
                }
                self.pump(at);
            }
            // A source that says so isn't asked again.
            Response::Error(_) => self.arriving.retain(|one| one.connection != from),
            other @ (Response::AppendDir(_)
            | Response::ReplaceDir(_)
            | Response::GetIndex { .. }
            | Response::GetIndexAt { .. }
            | Response::Node(_)
            | Response::GetBlock { .. }
            | Response::SubmitChange(_)
            | Response::Plan(_)) => panic!("{other:?}"),
        }
    }

    fn wanted(&self, at: usize) -> ImageId {
        self.arriving[at].signed.change.image.expect("an image")
    }

    fn got(&mut self, at: usize, id: u64, data: &[u8]) {
        let one = &mut self.arriving[at];
        let run = one.asked.remove(&id).expect("asked");
        let image = one.image.as_ref().expect("the index came first");
        let mut blocks = Vec::new();
        let mut rest = data;
        for block in run.blocks() {
            let (head, tail) = rest.split_at(image.place(block).expect("in the image").len);
            blocks.push(head);
            rest = tail;
        }
        assert!(rest.is_empty(), "too much");
        let hashes = hash_blocks(image.hash_kind(), &blocks);
        assert_eq!(hashes, image.block_hashes(run.first, run.count.into()), "wrong blocks");
        one.got.insert(run.first, data.to_vec());
    }

    /// Asks for more, or says that all is there.
    fn pump(&mut self, at: usize) {
        const IN_FLIGHT_MAX: usize = 4;
        let image = self.wanted(at);
        while self.arriving[at].asked.len() < IN_FLIGHT_MAX
            && let Some(run) = self.arriving[at].todo.pop_front()
        {
            let id = self.ask(self.arriving[at].connection, Request::GetBlocks { image, run });
            self.arriving[at].asked.insert(id, run);
        }
        if self.arriving[at].asked.is_empty() {
            let one = self.arriving.remove(at);
            let bytes = one.got.into_values().flatten().collect::<Vec<_>>();
            let len = bytes.len() as u64;
            self.images.lock().expect("not poisoned").insert(image, bytes);
            match self.play.clone() {
                Play::Hold(_) => {
                    let pieces = Notice::Pieces { image, count: 0, have: Bytes::new() };
                    self.send(one.connection, Message::Notification(Notification::Cluster(pieces)));
                    return;
                }
                Play::Follow(others) => self.tell_of(one.connection, &one.signed, &others),
                _ => {}
            }
            self.end(one.connection, &one.signed, "done", None, len);
        }
    }

    /// How other nodes fare.
    fn tell_of(&self, to: ConnectionId, signed: &SignedChange, others: &[(u8, &str)]) {
        let report = |(n, word): &(u8, &str)| NodeReport {
            host: Host { machine_id: MachineId::new([*n; 16]), hostname: format!("node{n}").into() },
            address: format!("10.0.0.{n}:1").into(),
            alive: *word != "down",
            state: "fetch".to_owned(),
            result: (!matches!(*word, "fetch" | "down")).then(|| (*word).to_owned()),
            reason: (*word == "failed").then(|| "the disk is broken".to_owned()),
            waiting: None,
            bytes_done: 1,
            bytes_total: 2,
            bytes: Origins { kept: 0, fetched: 2, ..Origins::default() },
            sources: Vec::new(),
        };
        let (path, change) = (signed.change.path.clone(), change::id(&signed.change));
        let (image, total) = (signed.change.image.expect("an image"), others.len() as u64);
        let nodes = others.iter().map(report).collect();
        let nodes = Nodes { path, image, change, total, nodes, complete: true };
        self.send(to, Message::Notification(Notification::Cluster(Notice::Nodes(nodes))));
    }
}
