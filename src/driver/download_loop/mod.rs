//! The client's event loop when it reads: tells the engine what happened, and has its effects carried out.
//! It decides nothing; what people see of it is its [`Audience`]'s.

mod content;
mod draft;
mod page;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use self::content::Content;
pub use self::draft::{Draft, DraftError};
use super::clock::{Clock, sleep_until};
use super::interrupt::Interrupts;
use super::reach::{self, Resolving};
use super::resolve::ResolveOptions;
use super::ws::{self, ConnectError, Connected, ConnectionHandle, Hub};
use crate::engine::contract::{Engine, Outbox};
use crate::engine::download::{Download, Effect, Event, Failure, Found, Input};
use crate::format::index::parse_for;
use crate::format::wire::{Message, Response};
use crate::model::limits;
use crate::model::peer::ConnectionId;

/// Who is told what happens. Called on the loop, so it must return at once.
pub trait Audience {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// What the loop needs.
pub struct Setup {
    /// Not started.
    pub engine: Download,
    /// Where content goes, if it is wanted.
    pub content: Option<Content>,
    /// The port of names that say none.
    pub port: u16,
    /// How names are looked up.
    pub resolve: ResolveOptions,
}

/// What comes from other tasks and threads.
#[derive(Debug)]
enum Answer {
    Engine(Input),
    Dialed { address: SocketAddr, result: Result<Connected, ConnectError> },
}

struct Loop<'a> {
    engine: Download,
    links: BTreeMap<ConnectionId, ConnectionHandle>,
    hub: Hub,
    answers: mpsc::Sender<Answer>,
    clock: Clock,
    resolving: Resolving,
    content: Option<Arc<Content>>,
    /// What is being written, or parsed.
    work: JoinSet<()>,
    audience: &'a mut dyn Audience,
    end: Option<Result<Found, Failure>>,
}

/// Runs until it is over; then nothing is written any more. Needs a tokio runtime with everything enabled.
pub async fn run(
    setup: Setup,
    clock: Clock,
    interrupts: &mut Interrupts,
    audience: &mut dyn Audience,
) -> Result<Found, Failure> {
    let (answers, mut answered) = mpsc::channel(limits::CLIENT_ANSWERS_QUEUED_MAX);
    let (events, mut heard) = mpsc::channel(limits::CLIENT_EVENTS_QUEUED_MAX);
    let mut this = Loop {
        engine: setup.engine,
        links: BTreeMap::new(),
        hub: Hub::new(events),
        answers,
        clock,
        resolving: Resolving { port: setup.port, options: Arc::new(setup.resolve) },
        content: setup.content.map(Arc::new),
        work: JoinSet::new(),
        audience,
        end: None,
    };
    this.tell(Input::Start);
    let end = loop {
        if let Some(end) = this.end.take() {
            break end;
        }
        let deadline = this.engine.deadline().map(|(at, _)| this.clock.instant(at));
        tokio::select! {
            biased;
            () = interrupts.next() => this.tell(Input::Interrupted),
            Some(answer) = answered.recv() => this.answered(answer),
            Some(event) = heard.recv() => this.heard(event),
            Some(_) = this.work.join_next() => {}
            () = sleep_until(deadline) => this.timeout(),
        }
    };
    // Whoever still wants to answer must not wait for it.
    answered.close();
    while this.work.join_next().await.is_some() {}
    reach::close_all(this.links.values(), &mut heard).await;
    end
}

impl Loop<'_> {
    fn tell(&mut self, input: Input) {
        let mut outbox = Outbox::new();
        self.engine.handle(self.clock.now(), input, &mut outbox);
        self.carry_out(outbox);
    }

    fn timeout(&mut self) {
        let mut outbox = Outbox::new();
        self.engine.handle_timeout(self.clock.now(), &mut outbox);
        self.carry_out(outbox);
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Engine(input) => self.tell(input),
            Answer::Dialed { address, result: Ok(connected) } => {
                let version = connected.version;
                let handle = self.hub.open(connected);
                let connection = handle.id;
                self.links.insert(connection, handle);
                self.tell(Input::Connected { address, connection, version });
            }
            Answer::Dialed { address, result: Err(error) } => {
                self.tell(Input::ConnectFailed { address, reason: error.to_string() });
            }
        }
    }

    fn heard(&mut self, event: ws::Event) {
        match event {
            ws::Event::Opened(_) => {}
            // Nodes may ask what they like: nothing is given.
            ws::Event::Message { from, message: Message::Request { id, .. } | Message::Malformed { id, .. } } => {
                if let Some(handle) = self.links.get(&from) {
                    let response = Response::Error("this client only reads".to_owned());
                    reach::send(handle, Message::Response { id, response });
                }
            }
            ws::Event::Message { from, message } => self.tell(Input::Message { connection: from, message }),
            ws::Event::Closed { id, reason } => {
                if self.links.remove(&id).is_some() {
                    self.tell(Input::Disconnected { connection: id, reason: reason.to_string() });
                }
            }
        }
    }

    fn carry_out(&mut self, outbox: Outbox<Effect>) {
        for effect in outbox {
            match effect {
                Effect::Resolve { name } => {
                    let answer = |name, result| Answer::Engine(Input::Resolved { name, result });
                    self.resolving.look_up(name, self.answers.clone(), answer);
                }
                Effect::Look { address } => self.look(address),
                Effect::Connect { address } => {
                    reach::dial(address, self.answers.clone(), move |result| Answer::Dialed { address, result });
                }
                Effect::Send { connection, message } => {
                    if let Some(handle) = self.links.get(&connection) {
                        reach::send(handle, message);
                    }
                }
                Effect::Close { connection } => {
                    if let Some(handle) = self.links.get(&connection) {
                        reach::close(handle, "not needed");
                    }
                }
                Effect::Check { id, text } => self.on_a_thread(move |_| {
                    let result = parse_for(id, &text).map(Arc::new).map_err(|error| error.to_string());
                    Input::Checked { result }
                }),
                Effect::Begin { found } => {
                    self.on_a_thread(move |content| Input::Begun { result: content.begin(found) });
                }
                Effect::Store { run, data } => {
                    self.on_a_thread(move |content| Input::Stored { run, result: content.store(run, &data) });
                }
                Effect::Event(event) => self.audience.event(&event),
                Effect::Finish(result) => self.end = Some(result),
            }
        }
    }

    fn look(&self, address: SocketAddr) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let result = page::fetch(address).await;
            let _ = answers.send(Answer::Engine(Input::Looked { address, result })).await;
        });
    }

    /// Reading, hashing and writing take their time.
    fn on_a_thread(&mut self, job: impl FnOnce(&Content) -> Input + Send + 'static) {
        let (answers, content) = (self.answers.clone(), self.content.clone().unwrap_or_default());
        self.work.spawn_blocking(move || {
            let _ = answers.blocking_send(Answer::Engine(job(&content)));
        });
    }
}
