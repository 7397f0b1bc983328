//! The daemon from its first file to its last: opens what it needs, runs the loop, obeys signals.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use super::args::Args;
use super::configuration;
use super::identity;
use super::pages::Pages;
use super::status::Metrics;
use crate::driver::clock::Clock;
use crate::driver::db::Db;
use crate::driver::disk::claims::Claims;
use crate::driver::disk::place::staging_name;
use crate::driver::disk::real::RealFileSystem;
use crate::driver::node_loop::{Control, EVENTS_QUEUED_MAX, Hands, NodeLoop, answers};
use crate::driver::ws::{self, Hub, ServerOptions};
use crate::engine::node::{Node, Note, Snapshot};
use crate::model::directory::NodeConfig;
use crate::model::limits;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Requests to the loop from pages and signals that may wait.
const CONTROLS_QUEUED_MAX: usize = 64;

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
    let snapshot = Snapshot { heads: snapshot.heads, intents: snapshot.intents, committed: snapshot.committed };
    tracing::info!(version = VERSION, host = %host.hostname, machine_id = %host.machine_id, heads = snapshot.heads.len(), "starting");
    if config.directories.is_empty() {
        let folder = args.config_base_dir.join("configs");
        tracing::warn!("no directories are configured in {}: every change will be refused", folder.display());
    }
    let node = Node::new(host, args.cluster.clone().map(Into::into), VERSION, config.clone(), snapshot);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start the event loop")?;
    runtime.block_on(run(args, &config, node, db, claims))
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
    config: &NodeConfig,
    node: Node,
    db: Db,
    claims: Claims<RealFileSystem>,
) -> anyhow::Result<()> {
    let address = SocketAddr::new(args.host, args.port);
    let listener = listen(address).with_context(|| format!("can't listen on {address}"))?;
    let address = listener.local_addr().context("can't tell the address that is listened on")?;
    let metrics = Arc::new(Metrics::install().context("can't start metrics")?);
    let (answer, answered) = answers();
    let (events, happened) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (control, controls) = mpsc::channel(CONTROLS_QUEUED_MAX);
    let hands = Hands::start(RealFileSystem, db, &args.db_dir, claims, answer)?;
    hands.claim(config);
    let noted = metrics.clone();
    let note = Box::new(move |note: &Note| {
        noted.note(note);
        log(note);
    });
    let node_loop = NodeLoop::new(node, Clock::new(), hands, answered, happened, controls, note);
    let pages = Arc::new(Pages { control: control.clone(), metrics, version: VERSION, clock: Clock::new() });
    let stopped = Arc::new(Notify::new());
    let shutdown = stopped.clone();
    let options = ServerOptions { max_connections: args.max_connections };
    let server =
        tokio::spawn(ws::serve(listener, options, pages, Hub::new(events), async move { shutdown.notified().await }));
    let looping = tokio::spawn(node_loop.run());
    // From here on signals mean what the manual says; whoever reads the next line may send them.
    let mut signals = Signals::listen()?;
    tracing::info!(%address, "listening");
    // Without systemd there is nobody to be told.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    signals.obey(args, &control).await?;
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
    async fn obey(&mut self, args: &Args, control: &mpsc::Sender<Control>) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.hangup.recv() => match load(args) {
                    Ok(config) => {
                        let directories = config.directories.len();
                        if control.send(Control::Configure(Arc::new(config))).await.is_err() {
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
            let image = image.map_or_else(|| "-".to_owned(), |image| image.to_string());
            tracing::info!(%path, %image, %verdict, "change");
        }
        Note::Done { path, image, already: true, .. } => tracing::debug!(%path, %image, "is in place"),
        Note::Done { path, image, bytes_reused, bytes_fetched, already: false } => {
            tracing::info!(%path, %image, bytes_reused, bytes_fetched, "visible");
        }
        Note::Ended { path, image, reason } => tracing::warn!(%path, %image, %reason, "given up"),
        Note::Paused { path, failure } => {
            tracing::warn!(%path, kind = failure.kind.name(), "will try again: {}", failure.text);
        }
        Note::SourceDropped { connection, image, reason } => {
            tracing::warn!(connection = connection.0, %image, "a source is not asked any more: {reason}");
        }
    }
}
