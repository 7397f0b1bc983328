//! `ciruela-server scrub`: asks the daemon of this host to compare directories with their images, and says what it finds.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::control::{Address, Line, Request, socket};
use crate::driver::interrupt::{INTERRUPTED_STATUS, Interrupts};
use crate::model::scrub::Flaw;

/// What was asked for was found to be right; there may be more than that.
const CLEAN: u8 = 0;
const DAMAGED: u8 = 1;
/// The daemon isn't there, or can't say.
const UNKNOWN: u8 = 3;

/// Gives the exit status.
pub(super) fn scrub(db_dir: &Path, path: Option<&str>, json: bool) -> u8 {
    let mut shown = Shown { json, terminal: !json && io::stderr().is_terminal(), ..Shown::default() };
    let (status, reason) = match run(&mut shown, db_dir, path) {
        // A reader that went away has seen enough.
        Ok(()) | Err(Trouble::Output) => shown.verdict(),
        Err(Trouble::Daemon(text)) => (UNKNOWN, Some(shown.complain(text))),
        Err(Trouble::Interrupted) => {
            (INTERRUPTED_STATUS, Some(shown.complain(format!("interrupted: {}", shown.so_far()))))
        }
    };
    if json {
        let _ = writeln!(io::stdout(), "{}", shown.finished(status, reason.as_deref()));
    }
    status
}

enum Trouble {
    /// Nobody reads what is printed.
    Output,
    /// In words.
    Daemon(String),
    /// Ctrl-C.
    Interrupted,
}

fn run(shown: &mut Shown, db_dir: &Path, path: Option<&str>) -> Result<(), Trouble> {
    let cannot = |error: io::Error| Trouble::Daemon(format!("can't start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    runtime.block_on(async {
        let mut interrupts = Interrupts::listen().map_err(cannot)?;
        tokio::select! {
            // What was read already is told before the end.
            biased;
            ended = async { shown.all(ask(db_dir, path).await?).await } => ended,
            () = interrupts.next() => Err(Trouble::Interrupted),
        }
    })
}

async fn ask(db_dir: &Path, path: Option<&str>) -> Result<UnixStream, Trouble> {
    let socket = socket(db_dir);
    let shown = socket.display();
    let trouble = |error: io::Error| {
        let is = |kind| error.kind() == kind;
        Trouble::Daemon(if is(io::ErrorKind::NotFound) || is(io::ErrorKind::ConnectionRefused) {
            format!(
                "no daemon answers at {shown}: is it running, and with this --db-dir? It knows what should be on this \
                 host, so start it, then scrub"
            )
        } else if is(io::ErrorKind::PermissionDenied) {
            format!("{shown} is for root and the daemon's user: {error}")
        } else {
            format!("can't reach the daemon at {shown}: {error}")
        })
    };
    let address = Address::of(db_dir).map_err(trouble)?;
    let mut stream = UnixStream::connect(&address.path).await.map_err(trouble)?;
    let request = Request::Scrub { path: path.map(str::to_owned) };
    let text = serde_json::to_string(&request).map_err(|error| Trouble::Daemon(error.to_string()))?;
    stream.write_all(format!("{text}\n").as_bytes()).await.map_err(trouble)?;
    Ok(stream)
}

/// What was printed so far, and what it amounts to.
#[derive(Default)]
struct Shown {
    json: bool,
    terminal: bool,
    ended: bool,
    /// Directories that shall be read.
    directories: u64,
    /// Those that were, or could not be.
    directories_done: u64,
    /// Of the former, how many aren't right.
    directories_damaged: u64,
    /// Of the directories that were read.
    bytes: u64,
    /// Of the one that is being read.
    bytes_begun: u64,
    /// Findings that are damage.
    damaged: u64,
    /// How many could not be read, and the first of them with its reason.
    unread: (u64, Option<String>),
}

impl Shown {
    async fn all(&mut self, stream: UnixStream) -> Result<(), Trouble> {
        let broke_off = |error: io::Error| Trouble::Daemon(format!("the daemon broke off: {error}"));
        let mut lines = BufReader::new(stream).lines();
        while let Some(text) = lines.next_line().await.map_err(broke_off)? {
            let line = serde_json::from_str::<Line>(&text)
                .map_err(|error| Trouble::Daemon(format!("the daemon says what isn't understood: {error}")))?;
            if self.json {
                self.print(&text)?;
            }
            self.line(line)?;
        }
        if self.ended { Ok(()) } else { Err(Trouble::Daemon("the daemon broke off".to_owned())) }
    }

    fn line(&mut self, line: Line) -> Result<(), Trouble> {
        let text = match line {
            Line::Begun { directories } => {
                self.directories = directories;
                return Ok(());
            }
            Line::Ended => {
                self.ended = true;
                return Ok(());
            }
            Line::Refused { reason } => return Err(Trouble::Daemon(reason)),
            Line::Progress { path, bytes_done, bytes_total } => {
                self.bytes_begun = bytes_done;
                self.progress(&path, bytes_done, bytes_total);
                return Ok(());
            }
            Line::Found { path, file, flaw, what } => {
                self.damaged += u64::from(flaw != Flaw::Extra.name());
                format!("{path}: {file} {what}")
            }
            Line::Directory { path, result, damaged, extras, bytes, heals, reason } => {
                let mut text = match (&*result, reason) {
                    ("clean", _) => format!("{path}: clean, {bytes} bytes read"),
                    ("damaged", _) => format!("{path}: DAMAGED ({damaged} findings), {bytes} bytes read"),
                    ("changed", _) => format!("{path}: not read, another directory came to its place"),
                    (_, reason) => format!("{path}: not read, {}", reason.unwrap_or_default()),
                };
                self.count(&result, bytes, &text);
                if extras > 0 {
                    let _ = write!(text, ", {extras} extra entries");
                }
                if heals {
                    text.push_str("; it is deployed again (heal: true)");
                }
                text
            }
        };
        if self.json { Ok(()) } else { self.print(&text) }
    }

    /// The end of a directory.
    fn count(&mut self, result: &str, bytes: u64, text: &str) {
        self.directories_done += 1;
        self.bytes += bytes;
        self.bytes_begun = 0;
        match result {
            "damaged" => self.directories_damaged += 1,
            "failed" => {
                self.unread.0 += 1;
                self.unread.1.get_or_insert_with(|| text.to_owned());
            }
            _ => {}
        }
    }

    /// The exit status of what came to its end, and why, if that isn't told by what was found.
    fn verdict(&self) -> (u8, Option<String>) {
        match &self.unread {
            _ if self.directories_damaged > 0 => (DAMAGED, None),
            (1, Some(first)) => (UNKNOWN, Some(first.clone())),
            (several, Some(first)) => (UNKNOWN, Some(format!("{first}; {} more could not be read", several - 1))),
            (_, None) => (CLEAN, None),
        }
    }

    /// In words.
    fn so_far(&self) -> String {
        let (done, all, bytes) = (self.directories_done, self.directories, self.bytes + self.bytes_begun);
        let found = match self.damaged {
            0 => "no damage found".to_owned(),
            damaged => format!("DAMAGE found ({damaged} findings)"),
        };
        format!("{done} of {all} directories compared, {bytes} bytes read, {found} so far")
    }

    /// The last line for programs.
    fn finished(&self, exit_status: u8, reason: Option<&str>) -> serde_json::Value {
        json!({
            "event": "finished",
            "exit_status": exit_status,
            "reason": reason,
            "directories": self.directories,
            "directories_done": self.directories_done,
            "directories_damaged": self.directories_damaged,
            "bytes": self.bytes + self.bytes_begun,
            "damaged": self.damaged,
        })
    }

    fn print(&self, text: &str) -> Result<(), Trouble> {
        self.clear();
        writeln!(io::stdout(), "{text}").map_err(|_| Trouble::Output)
    }

    /// One line which the next one overwrites.
    fn progress(&self, path: &str, done: u64, total: u64) {
        if self.terminal {
            let percent = u128::from(done) * 100 / u128::from(total.max(1));
            let _ = write!(io::stderr(), "\r\x1b[K{path} {percent}%");
        }
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// Says it to people, too.
    fn complain(&self, text: String) -> String {
        self.clear();
        let _ = writeln!(io::stderr(), "error: {text}");
        text
    }
}
