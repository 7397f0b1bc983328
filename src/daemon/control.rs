//! The daemon's control socket, `DB_DIR/control.sock`: one request as a line of JSON, answered by lines of JSON.
//!
//! It is for root and the daemon's own user only, which the system vouches for.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::driver::node_loop::Control;
use crate::model::limits;
use crate::model::scrub::{End, Finding, News};
use crate::model::vpath::VPath;

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Compare the directories at and below a path with their images; all if there is none.
    Scrub { path: Option<String> },
}

/// A line of the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line {
    /// So many directories will be read.
    Begun { directories: u64 },
    /// Something isn't as it should be.
    Found { path: String, file: String, flaw: String, what: String },
    /// So far it is read.
    Progress { path: String, bytes_done: u64, bytes_total: u64 },
    /// One directory: `clean`, `damaged`, `failed` (and why), or `changed` (another one came to its place).
    Directory {
        path: String,
        result: String,
        damaged: u64,
        extras: u64,
        bytes: u64,
        heals: bool,
        reason: Option<String>,
    },
    /// All were read. The last line.
    Ended,
    /// Nothing is done. The last line.
    Refused { reason: String },
}

const NAME: &str = "control.sock";

/// Where the socket is.
pub(super) fn socket(db_dir: &Path) -> PathBuf {
    db_dir.join(NAME)
}

/// The socket by a name which a socket's address has room for (unix(7)): 107 bytes.
pub(super) struct Address {
    pub(super) path: PathBuf,
    /// What the name leads through.
    _folder: Option<OwnedFd>,
}

impl Address {
    /// A longer path goes through the opened folder.
    pub(super) fn of(db_dir: &Path) -> io::Result<Self> {
        let path = socket(db_dir);
        if std::os::unix::net::SocketAddr::from_pathname(&path).is_ok() {
            return Ok(Self { path, _folder: None });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(db_dir, flags, Mode::empty())?;
        let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        if !short.exists() {
            return Err(io::Error::other(format!(
                "{} is too long for a socket, and /proc, through which it could be shorter, isn't mounted: choose a shorter \
                 --db-dir, up to {DB_DIR_BYTES_MAX} bytes",
                path.display()
            )));
        }
        Ok(Self { path: short.join(NAME), _folder: Some(folder) })
    }
}

/// What always fits, with `/control.sock`.
const DB_DIR_BYTES_MAX: usize = 107 - 1 - NAME.len();

/// Makes the socket. One that is there is an earlier daemon's: the state database is this one's alone.
pub(super) fn listen(db_dir: &Path) -> io::Result<UnixListener> {
    let path = socket(db_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&Address::of(db_dir)?.path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, control: mpsc::Sender<Control>) {
    let places = Arc::new(Semaphore::new(limits::CONTROL_CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the control socket: {error}");
                tokio::time::sleep(limits::RETRY_PAUSE_MIN).await;
                continue;
            }
        };
        let control = control.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, control).await {
                tracing::debug!("a connection to the control socket ended: {error}");
            }
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, control: mpsc::Sender<Control>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        let reason = "this is for root and the daemon's user".to_owned();
        return write(&mut writer, &Line::Refused { reason }).await;
    }
    let mut reader = BufReader::new(reader.take(limits::CONTROL_REQUEST_BYTES_MAX as u64));
    let mut text = String::new();
    timeout(limits::CONTROL_TIMEOUT, reader.read_line(&mut text)).await??;
    let path = match parse(&text) {
        Ok(path) => path,
        Err(reason) => return write(&mut writer, &Line::Refused { reason }).await,
    };
    let (news, mut told) = mpsc::channel(limits::CONTROL_NEWS_QUEUED_MAX);
    if control.send(Control::Scrub(path, news)).await.is_err() {
        return Ok(());
    }
    let mut rest = [0; 64];
    loop {
        tokio::select! {
            next = told.recv() => match next {
                Some(next) => for line in lines(next) {
                    write(&mut writer, &line).await?;
                },
                None => return Ok(()),
            },
            // Nothing more is expected: who closes doesn't want to hear the rest.
            read = reader.read(&mut rest) => if read? == 0 {
                return Ok(());
            },
        }
    }
}

fn parse(text: &str) -> Result<Option<VPath>, String> {
    let Request::Scrub { path } = serde_json::from_str(text).map_err(|error| format!("not a request: {error}"))?;
    path.map(|path| path.parse().map_err(|error| format!("{error}"))).transpose()
}

async fn write(writer: &mut (impl tokio::io::AsyncWrite + Unpin), line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    timeout(limits::CONTROL_TIMEOUT, writer.write_all(text.as_bytes())).await?
}

fn lines(news: News) -> Vec<Line> {
    match news {
        News::Begun { directories } => vec![Line::Begun { directories }],
        News::Found { path, findings, bytes, bytes_total } => {
            let path = path.to_string();
            let found = findings.into_iter().map(|Finding { file, flaw, what }| {
                let flaw = flaw.name().to_owned();
                Line::Found { path: path.clone(), file: file.into(), flaw, what: what.into() }
            });
            let progress = Line::Progress { path: path.clone(), bytes_done: bytes, bytes_total };
            found.chain([progress]).collect()
        }
        News::Directory { path, end } => vec![directory(&path, end)],
        News::Ended => vec![Line::Ended],
        News::Refused(reason) => vec![Line::Refused { reason }],
    }
}

fn directory(path: &VPath, end: End) -> Line {
    let line = |result: &str, reason| Line::Directory {
        path: path.to_string(),
        result: result.to_owned(),
        damaged: 0,
        extras: 0,
        bytes: 0,
        heals: false,
        reason,
    };
    match end {
        End::Read { verdict, bytes, heals } => Line::Directory {
            path: path.to_string(),
            result: if verdict.damaged == 0 { "clean" } else { "damaged" }.to_owned(),
            damaged: verdict.damaged,
            extras: verdict.extras,
            bytes,
            heals,
            reason: None,
        },
        End::Failed(reason) => line("failed", Some(reason)),
        End::Changed => line("changed", None),
    }
}
