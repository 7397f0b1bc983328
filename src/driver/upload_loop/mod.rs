//! The client's event loop: tells each cluster's engine what happened, has its effects carried out, and gives the nodes what
//! they ask for. It decides nothing; what people see of it is its [`Audience`]'s.

mod meter;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::meter::Meter;
use self::serve::Shop;
pub use self::serve::Source;
use super::clock::{Clock, sleep_until};
use super::interrupt::Interrupts;
use super::reach::{self, Resolving};
use super::resolve::ResolveOptions;
use super::ws::{self, ConnectError, Connected, ConnectionHandle, Hub};
use crate::engine::contract::{Engine, Outbox, earlier};
use crate::engine::upload::{Effect, Event, Input, Summary, Uploads};
use crate::format::wire::Message;
use crate::model::change::{Change, SignedChange};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::time::Time;

/// Signs with every key at hand. May ask somebody first, and so take a while.
pub type Sign = Arc<dyn Fn(&Change) -> Signing + Send + Sync>;

/// What came of signing.
#[derive(Debug)]
pub struct Signing {
    /// With at least one signature; or why there is none.
    pub result: Result<SignedChange, String>,
    /// Keys that failed while others did not.
    pub warnings: Vec<String>,
}

/// What people should know, though the engines don't care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Something that was scanned can't be given any more.
    SourceLost,
    /// A key doesn't sign; others do.
    KeyFailed,
}

/// Who is told what happens. Everything is called on the loop, so it must return at once.
pub trait Audience {
    /// Something happened in a cluster.
    fn event(&mut self, at: Time, cluster: usize, event: &Event);

    /// Something is wrong. Told once for each reason.
    fn trouble(&mut self, at: Time, trouble: Trouble, reason: &str);

    /// How often [`Audience::status`] is wanted.
    fn interval(&self) -> Duration;

    /// How it stands, one for each cluster.
    fn status(&mut self, at: Time, status: &[Status]);

    /// A cluster is finished.
    fn finished(&mut self, at: Time, cluster: usize, status: &Status);
}

/// How a cluster stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// As the engine says.
    pub summary: Summary,
    /// Bytes sent to each address.
    pub bytes_sent: BTreeMap<SocketAddr, u64>,
    /// How long something was being sent.
    pub sending: Duration,
}

impl Status {
    /// The time to send every byte once, at the rate at which the client did send; `None`: too little was sent to tell.
    pub fn ideal(&self) -> Option<Duration> {
        let sent: u64 = self.bytes_sent.values().sum();
        let needed = self.summary.bytes_needed();
        let measured = self.sending >= limits::SENDING_MEASURED_MIN && sent > 0 && needed > 0;
        measured.then(|| self.sending.mul_f64(needed as f64 / sent as f64))
    }
}

/// What the loop needs.
pub struct Setup {
    /// One for each cluster, not started.
    pub clusters: Vec<Uploads>,
    /// What can be given to nodes.
    pub sources: Vec<Source>,
    /// Makes signatures.
    pub sign: Sign,
    /// The port of names that say none.
    pub port: u16,
    /// How names are looked up.
    pub resolve: ResolveOptions,
}

/// An answer to an effect, or something else from another task or thread.
#[derive(Debug)]
enum Answer {
    Engine { cluster: usize, input: Input },
    Signed { cluster: usize, upload: usize, signing: Signing },
    Dialed { cluster: usize, address: SocketAddr, result: Result<Connected, ConnectError> },
    NotServed { connection: ConnectionId, image: ImageId, reason: String },
}

/// A connection and whose it is.
struct Link {
    cluster: usize,
    address: SocketAddr,
    handle: ConnectionHandle,
}

/// One cluster.
struct Cluster {
    engine: Uploads,
    /// Bytes sent to each address by connections that are gone.
    sent_before: BTreeMap<SocketAddr, u64>,
    meter: Meter,
    end: Option<Status>,
}

struct Loop<'a> {
    clusters: Vec<Cluster>,
    links: BTreeMap<ConnectionId, Link>,
    hub: Hub,
    shop: Shop,
    answers: mpsc::Sender<Answer>,
    clock: Clock,
    sign: Sign,
    resolving: Resolving,
    audience: &'a mut dyn Audience,
    /// What was told already.
    troubles: BTreeSet<String>,
}

/// Runs until every cluster is finished; one status for each. Needs a tokio runtime with everything enabled.
pub async fn run(
    setup: Setup,
    clock: Clock,
    interrupts: &mut Interrupts,
    audience: &mut dyn Audience,
) -> io::Result<Vec<Status>> {
    let (answers, mut answered) = mpsc::channel(limits::CLIENT_ANSWERS_QUEUED_MAX);
    let (events, mut heard) = mpsc::channel(limits::CLIENT_EVENTS_QUEUED_MAX);
    let cluster = |engine| Cluster { engine, sent_before: BTreeMap::new(), meter: Meter::default(), end: None };
    let mut this = Loop {
        clusters: setup.clusters.into_iter().map(cluster).collect(),
        links: BTreeMap::new(),
        hub: Hub::new(events).impatient(),
        shop: Shop::open(setup.sources, answers.clone())?,
        answers,
        clock,
        sign: setup.sign,
        resolving: Resolving { port: setup.port, options: Arc::new(setup.resolve) },
        audience,
        troubles: BTreeSet::new(),
    };
    let mut shows = ticks(this.audience.interval());
    let mut samples = ticks(limits::SENDING_SAMPLE_INTERVAL);
    for cluster in 0..this.clusters.len() {
        this.tell(cluster, Input::Start);
    }
    while this.clusters.iter().any(|cluster| cluster.end.is_none()) {
        let deadline = this.deadline();
        tokio::select! {
            biased;
            () = interrupts.next() => this.tell_all(|| Input::Interrupted),
            Some(answer) = answered.recv() => this.answered(answer),
            Some(event) = heard.recv() => this.heard(event),
            () = sleep_until(deadline) => this.timeout(),
            _ = samples.tick() => this.sample(),
            _ = shows.tick() => this.show(),
        }
    }
    this.show();
    this.shop.close();
    // Whoever still wants to answer must not wait for it.
    answered.close();
    reach::close_all(this.links.values().map(|link| &link.handle), &mut heard).await;
    Ok(this.clusters.into_iter().filter_map(|cluster| cluster.end).collect())
}

impl Loop<'_> {
    fn tell(&mut self, cluster: usize, input: Input) {
        let mut outbox = Outbox::new();
        let now = self.clock.now();
        self.clusters[cluster].engine.handle(now, input, &mut outbox);
        self.carry_out(cluster, outbox);
    }

    fn tell_all(&mut self, input: impl Fn() -> Input) {
        for cluster in 0..self.clusters.len() {
            self.tell(cluster, input());
        }
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        let deadlines = self.clusters.iter().map(|cluster| cluster.engine.deadline());
        deadlines.fold(None, earlier).map(|(at, _)| self.clock.instant(at))
    }

    fn timeout(&mut self) {
        for cluster in 0..self.clusters.len() {
            let now = self.clock.now();
            let engine = &mut self.clusters[cluster].engine;
            if engine.deadline().is_some_and(|(at, _)| at <= now.time) {
                let mut outbox = Outbox::new();
                engine.handle_timeout(now, &mut outbox);
                self.carry_out(cluster, outbox);
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Engine { cluster, input } => self.tell(cluster, input),
            Answer::Signed { cluster, upload, signing } => {
                for warning in &signing.warnings {
                    self.trouble(Trouble::KeyFailed, warning);
                }
                self.tell(cluster, Input::Signed { upload, result: signing.result });
            }
            Answer::Dialed { cluster, address, result: Ok(connected) } => {
                let version = connected.version;
                let handle = self.hub.open(connected);
                let connection = handle.id;
                self.links.insert(connection, Link { cluster, address, handle });
                self.tell(cluster, Input::Connected { address, connection, version });
            }
            Answer::Dialed { cluster, address, result: Err(error) } => {
                self.tell(cluster, Input::ConnectFailed { address, reason: error.to_string() });
            }
            Answer::NotServed { connection, image, reason } => {
                self.trouble(Trouble::SourceLost, &reason);
                if let Some(cluster) = self.links.get(&connection).map(|link| link.cluster) {
                    self.tell(cluster, Input::NotServed { connection, image, reason });
                }
            }
        }
    }

    fn trouble(&mut self, trouble: Trouble, reason: &str) {
        if self.troubles.len() < limits::TROUBLES_TOLD_MAX && self.troubles.insert(reason.to_owned()) {
            self.audience.trouble(self.clock.now().time, trouble, reason);
        }
    }

    fn heard(&mut self, event: ws::Event) {
        match event {
            ws::Event::Opened(_) => {}
            ws::Event::Message { from, message: Message::Request { id, request } } => {
                if let Some(link) = self.links.get(&from) {
                    self.shop.serve(&link.handle, id, request);
                }
            }
            ws::Event::Message { from, message: Message::Malformed { id, request_type, error } } => {
                if let Some(link) = self.links.get(&from) {
                    serve::refuse(&link.handle, id, format!("bad {request_type} request: {error}"));
                }
            }
            ws::Event::Message { from, message } => {
                if let Some(cluster) = self.links.get(&from).map(|link| link.cluster) {
                    self.tell(cluster, Input::Message { connection: from, message });
                }
            }
            ws::Event::Closed { id, reason } => {
                let Some(link) = self.links.remove(&id) else { return };
                let sent = self.clusters[link.cluster].sent_before.entry(link.address).or_default();
                *sent += link.handle.bytes_sent();
                self.tell(link.cluster, Input::Disconnected { connection: id, reason: reason.to_string() });
            }
        }
    }

    fn carry_out(&mut self, cluster: usize, outbox: Outbox<Effect>) {
        for effect in outbox {
            match effect {
                Effect::Resolve { name } => self.look_up(cluster, name),
                Effect::Sign { upload, change } => self.have_signed(cluster, upload, change),
                Effect::Connect { address } => self.dial(cluster, address),
                Effect::Send { connection, message } => {
                    if let Some(link) = self.links.get(&connection) {
                        reach::send(&link.handle, message);
                    }
                }
                Effect::Close { connection } => {
                    if let Some(link) = self.links.get(&connection) {
                        reach::close(&link.handle, "not needed");
                    }
                }
                Effect::Event(event) => self.audience.event(self.clock.now().time, cluster, &event),
                Effect::Finish(summary) => {
                    self.sample();
                    let status = self.status(cluster, summary);
                    self.audience.finished(self.clock.now().time, cluster, &status);
                    self.clusters[cluster].end = Some(status);
                }
            }
        }
    }

    fn look_up(&self, cluster: usize, name: String) {
        self.resolving.look_up(name, self.answers.clone(), move |name, result| Answer::Engine {
            cluster,
            input: Input::Resolved { name, result },
        });
    }

    fn have_signed(&self, cluster: usize, upload: usize, change: Change) {
        let (answers, sign) = (self.answers.clone(), Arc::clone(&self.sign));
        tokio::task::spawn_blocking(move || {
            let _ = answers.blocking_send(Answer::Signed { cluster, upload, signing: sign(&change) });
        });
    }

    fn dial(&self, cluster: usize, address: SocketAddr) {
        reach::dial(address, self.answers.clone(), move |result| Answer::Dialed { cluster, address, result });
    }

    fn bytes_sent(&self, cluster: usize) -> BTreeMap<SocketAddr, u64> {
        let mut sent = self.clusters[cluster].sent_before.clone();
        for link in self.links.values().filter(|link| link.cluster == cluster) {
            *sent.entry(link.address).or_default() += link.handle.bytes_sent();
        }
        sent
    }

    fn status(&self, cluster: usize, summary: Summary) -> Status {
        Status { summary, bytes_sent: self.bytes_sent(cluster), sending: self.clusters[cluster].meter.sending() }
    }

    fn sample(&mut self) {
        let now = self.clock.now().time;
        for cluster in 0..self.clusters.len() {
            let sent = self.bytes_sent(cluster).values().sum();
            self.clusters[cluster].meter.sample(now, sent);
        }
    }

    fn show(&mut self) {
        let status = |(number, cluster): (usize, &Cluster)| match &cluster.end {
            Some(end) => end.clone(),
            None => self.status(number, cluster.engine.status()),
        };
        let status: Vec<_> = self.clusters.iter().enumerate().map(status).collect();
        self.audience.status(self.clock.now().time, &status);
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes when there is something to be seen.
    ticks.reset();
    ticks
}
