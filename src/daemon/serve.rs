//! The daemon from its first file to its last: opens what it needs, runs the loop, obeys signals.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use super::args::Args;
use super::configuration;
use super::control;
use super::identity;
use super::pages::Pages;
use super::status::Metrics;
use crate::driver::clock::Clock;
use crate::driver::db::{self, Db};
use crate::driver::disk::claims::Claims;
use crate::driver::disk::place::staging_name;
use crate::driver::disk::real::RealFileSystem;
use crate::driver::node_loop::{Control, Dialer, EVENTS_QUEUED_MAX, Ears, Hands, NodeLoop, answers};
use crate::driver::peers;
use crate::driver::udp::Datagrams;
use crate::driver::ws::{self, Hub, ServerOptions};
use crate::engine::node::{Node, Note, Setup, Snapshot};
use crate::model::directory::NodeConfig;
use crate::model::limits;
use crate::model::origins::Origins;
use crate::model::peer::{ClusterKey, Host};
use crate::model::scrub::Verdict;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Requests to the loop from pages and signals that may wait.
const CONTROLS_QUEUED_MAX: usize = 64;
/// Ports to try when any will do.
const ANY_PORT_TRIES: usize = 20;

/// Runs until SIGTERM or SIGINT.
pub(super) fn serve(args: &Args) -> anyhow::Result<()> {
    raise_file_limit();
    let config = Arc::new(load(args)?);
    let host = identity::host(args)?;
    std::fs::create_dir_all(&args.db_dir)
        .with_context(|| format!("can't make the folder {}", args.db_dir.display()))?;
    let db = Db::open(&args.db_dir)?;
    let snapshot = db.load()?;
    for row in &snapshot.bad_rows {
        tracing::error!("a row of the state database is left out: {row}");
    }
    // A row that can't be read may be about any path: then nothing that is staged is garbage for sure.
    let needed = snapshot.heads.keys().chain(snapshot.intents.keys()).map(staging_name).collect();
    let claims = Claims::new(snapshot.bad_rows.is_empty().then_some(needed));
    let db::Snapshot { heads, intents, committed, damaged, scrubbed, .. } = snapshot;
    let snapshot = Snapshot { heads, intents, committed, damaged, scrubbed };
    tracing::info!(version = VERSION, host = %host.hostname, machine_id = %host.machine_id, heads = snapshot.heads.len(), "starting");
    if config.directories.is_empty() {
        let folder = args.config_base_dir.join("configs");
        tracing::warn!("no directories are configured in {}: every change will be refused", folder.display());
    }
    let key = config.cluster_key.clone();
    if key.is_none() && !config.peers.is_empty() {
        let folder = args.config_base_dir.display();
        tracing::warn!(
            "there is no {folder}/cluster.key: whoever can send from an address in peers.txt may speak as a node; \
             `ciruela-server new-cluster-key` makes one for all nodes"
        );
    }
    let origin = Origin { host, incarnation: db.next_incarnation()?, key, snapshot };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start the event loop")?;
    runtime.block_on(run(args, config, origin, db, claims))
}

/// What the node begins with.
struct Origin {
    host: Host,
    incarnation: u64,
    key: Option<ClusterKey>,
    snapshot: Snapshot,
}

/// Each connection is an open file, and the usual limit leaves no room for what else is opened. More than the system's
/// administrator allows can't be had, and that is fine.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

fn load(args: &Args) -> anyhow::Result<NodeConfig> {
    let cwd = std::env::current_dir().context("can't tell the working directory")?;
    for warning in configuration::warnings(&args.config_base_dir) {
        tracing::warn!("{warning}");
    }
    configuration::load(&args.config_base_dir, &cwd).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(
            "the configuration in {} can't be used:\n  {}",
            args.config_base_dir.display(),
            lines.join("\n  ")
        )
    })
}

async fn run(
    args: &Args,
    config: Arc<NodeConfig>,
    origin: Origin,
    db: Db,
    claims: Claims<RealFileSystem>,
) -> anyhow::Result<()> {
    let address = SocketAddr::new(args.host, args.port);
    let (listener, socket) = bind(address).await?;
    let address = listener.local_addr().context("can't tell the address that is listened on")?;
    let Origin { host, incarnation, key, snapshot } = origin;
    let advertised = identity::address(args, address, &config);
    if advertised.ip().is_unspecified() && !config.peers.is_empty() {
        tracing::warn!("it isn't known at which address the other nodes find this one: give it with --advertise");
    }
    let node = Node::new(Setup {
        host,
        cluster: args.cluster.clone().map(Into::into),
        version: VERSION,
        address: advertised,
        incarnation,
        key,
        random: random().context("the system gives no random bytes")?,
        config: config.clone(),
        snapshot,
    });
    let metrics = Arc::new(Metrics::install().context("can't start metrics")?);
    let (answer, answered) = answers();
    let (events, happened) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (control, controls) = mpsc::channel(CONTROLS_QUEUED_MAX);
    let hands = Hands::start(RealFileSystem, db, &args.db_dir, claims, answer.clone())?;
    hands.claim(&config);
    let noted = metrics.clone();
    let note = Box::new(move |note: &Note| {
        noted.note(note);
        log(note);
    });
    let hub = Hub::new(events);
    let (udp, datagrams) = Datagrams::start(socket).await.context("can't use the UDP socket")?;
    let dialer = Dialer::new(hub.clone(), args.host);
    let ears = Ears { answers: answered, events: happened, control: controls, datagrams };
    let node_loop = NodeLoop::new(node, Clock::new(), hands, (dialer, udp), ears, note);
    let (configure, configured) = watch::channel(config);
    let (known, peers) = watch::channel(BTreeSet::new());
    tokio::spawn(peers::follow(configured, answer, known));
    let pages = Arc::new(Pages { control: control.clone(), metrics, version: VERSION, clock: Clock::new() });
    match control::listen(&args.db_dir) {
        Ok(listener) => _ = tokio::spawn(control::serve(listener, control.clone())),
        Err(error) => {
            let socket = control::socket(&args.db_dir);
            tracing::warn!(
                "`ciruela-server scrub` won't reach this daemon: can't listen at {}: {error}",
                socket.display()
            );
        }
    }
    let stopped = Arc::new(Notify::new());
    let shutdown = stopped.clone();
    let options = ServerOptions { max_connections: args.max_connections as usize, peers };
    let server = tokio::spawn(ws::serve(listener, options, pages, hub, async move { shutdown.notified().await }));
    let looping = tokio::spawn(node_loop.run());
    // From here on signals mean what the manual says; whoever reads the next line may send them.
    let mut signals = Signals::listen()?;
    tracing::info!(%address, "listening");
    // Without systemd there is nobody to be told.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    signals.obey(args, &control, &configure).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // The loop first: it takes it for the end when there is nobody left to bring events.
    if control.send(Control::Stop).await.is_err() {
        bail!("the event loop has ended by itself");
    }
    looping.await.context("the event loop broke off")?;
    stopped.notify_one();
    server.await.context("the server broke off")?;
    tracing::info!("stopped");
    Ok(())
}

/// The same port for TCP and UDP.
async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, UdpSocket)> {
    let mut left = if address.port() == 0 { ANY_PORT_TRIES } else { 1 };
    loop {
        let listener = listen(address).with_context(|| format!("can't listen on {address}"))?;
        let bound = listener.local_addr().context("can't tell the address that is listened on")?;
        left -= 1;
        match UdpSocket::bind(bound).await {
            Ok(datagrams) => return Ok((listener, datagrams)),
            // The system chose a port whose UDP half somebody has.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {}
            Err(error) => return Err(error).with_context(|| format!("can't listen on {bound} (UDP)")),
        }
    }
}

/// With a queue in which many who come at once have room: whoever finds it full tries again after a second at the earliest.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::CONNECTIONS_WAITING_MAX)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("can't listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Ends with SIGTERM or SIGINT; SIGHUP reads the configuration again, and keeps the old one if the new one is wrong.
    async fn obey(
        &mut self,
        args: &Args,
        control: &mpsc::Sender<Control>,
        configure: &watch::Sender<Arc<NodeConfig>>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.hangup.recv() => match load(args) {
                    Ok(config) => {
                        let (directories, config) = (config.directories.len(), Arc::new(config));
                        configure.send_replace(config.clone());
                        if control.send(Control::Configure(config)).await.is_err() {
                            bail!("the event loop has ended by itself");
                        }
                        // Whoever asks after this line is told of the new one.
                        tracing::info!(directories, "configuration read again");
                    }
                    Err(error) => tracing::error!("the old configuration stays: {error:#}"),
                },
                () = control.closed() => bail!("the event loop has ended by itself"),
            }
        }
    }
}

fn log(note: &Note) {
    match note {
        Note::Decided { path, verdict, image } => {
            tracing::info!(%path, image = shown(*image), %verdict, "change");
        }
        Note::Done { path, image, already: true, .. } => tracing::debug!(%path, %image, "is in place"),
        Note::Done { path, image, bytes, already: false } => {
            let Origins { linked, copied, kept, fetched } = *bytes;
            tracing::info!(%path, %image, fetched, linked, copied, kept, "visible");
        }
        Note::Damaged { path, file, what } => {
            tracing::warn!(%path, %file, "the directory is damaged: {file} {what}; nothing of it is used for others");
        }
        Note::Flaw { path, file, what, extra } => tracing::warn!(%path, %file, extra, "found: {file} {what}"),
        Note::Scrubbed { path, verdict: Verdict { damaged: 0, extras: 0, .. }, bytes } => {
            tracing::debug!(%path, bytes, "compared with its image: clean");
        }
        Note::Scrubbed { path, verdict: Verdict { damaged, extras, .. }, bytes } => {
            tracing::warn!(%path, bytes, damaged, extras, "compared with its image");
        }
        Note::NotScrubbed { path, failure } => {
            tracing::warn!(%path, kind = failure.kind.name(), "can't be compared with its image: {}", failure.text);
        }
        Note::Sound { path } => tracing::info!(%path, "the directory was damaged, and is right again"),
        Note::Removed { path, reason } => tracing::info!(%path, "removed: {reason}"),
        Note::Forgone { path, image, why } => tracing::warn!(%path, %image, "what was there before isn't kept: {why}"),
        Note::NotRemoved { directory, failure } => {
            tracing::warn!(%directory, kind = failure.kind.name(), "retention: {}", failure.text);
        }
        Note::Ended { path, image, reason } => tracing::warn!(%path, %image, %reason, "given up"),
        Note::Paused { path, failure } => {
            tracing::warn!(%path, kind = failure.kind.name(), "will try again: {}", failure.text);
        }
        Note::Learned { path, image } => {
            tracing::info!(%path, image = shown(*image), "change from another node");
        }
        Note::CaughtUp { directory, address, pulled: 0, pushed: 0 } => {
            tracing::debug!(%directory, %address, "compared with another node: nothing to exchange");
        }
        Note::CaughtUp { directory, address, pulled, pushed } => {
            tracing::info!(%directory, %address, pulled, pushed, "compared with another node");
        }
        Note::CatchUpBroken { directory, address, reason } => {
            tracing::debug!(%directory, %address, "comparing with another node broke off: {reason}");
        }
        Note::NodeUp { address, hostname } => tracing::info!(%address, %hostname, "a node is there"),
        Note::NodeDown { address, hostname, left: true } => tracing::info!(%address, %hostname, "a node has left"),
        Note::NodeDown { address, hostname, left: false } => tracing::warn!(%address, %hostname, "a node is down"),
        Note::Restored { incarnation } => {
            tracing::warn!(incarnation, "the others know a later start of this node: its state is an older copy's");
        }
        Note::Stranger { from } => {
            tracing::warn!(%from, "datagrams from there can't be opened: has it another cluster.key?");
        }
        Note::Alone { peers } => {
            tracing::warn!(
                peers,
                "none of peers.txt answers: is a daemon there, are UDP and TCP let through, is it the same cluster.key?"
            );
        }
        Note::Twin { address } => {
            tracing::warn!(%address, "another node has this one's machine id: is it a clone? --override-machine-id gives it one of its own");
        }
        Note::ToldCorrupt { from, image, block } => {
            tracing::warn!(from = %shown(*from), %image, block, "another node got a wrong block from here");
        }
        Note::NodeUnreachable { address, reason } => tracing::debug!(%address, "a node can't be reached: {reason}"),
        Note::SourceDropped { from, image, reason } => {
            tracing::warn!(from = %shown(*from), %image, "a source is not asked any more: {reason}");
        }
    }
}

fn shown(what: Option<impl Display>) -> String {
    what.map_or_else(|| "-".to_owned(), |what| what.to_string())
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    // The system gives as many as that in one go (getrandom(2)).
    if filled == bytes.len() { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
