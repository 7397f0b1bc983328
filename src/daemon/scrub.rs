//! `ciruela-server scrub`: asks the daemon of this host to compare directories with their images, and says what it finds.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::control::{Line, Request, socket};

/// What was asked for was found to be right; there may be more than that.
const CLEAN: u8 = 0;
const DAMAGED: u8 = 1;
/// The daemon isn't there, or can't say.
const UNKNOWN: u8 = 3;

/// Gives the exit status.
pub(super) fn scrub(db_dir: &Path, path: Option<&str>, json: bool) -> u8 {
    let mut shown = Shown { json, terminal: !json && io::stderr().is_terminal(), worst: CLEAN, ended: false };
    let status = match ask(db_dir, path).and_then(|stream| shown.all(stream)) {
        // A reader that went away has seen enough.
        Ok(()) | Err(Trouble::Output) => shown.worst,
        Err(Trouble::Daemon(text)) => {
            shown.complain(&text);
            UNKNOWN
        }
    };
    if json {
        let _ = writeln!(io::stdout(), "{}", serde_json::json!({ "event": "finished", "exit_status": status }));
    }
    status
}

enum Trouble {
    /// Nobody reads what is printed.
    Output,
    /// In words.
    Daemon(String),
}

fn ask(db_dir: &Path, path: Option<&str>) -> Result<UnixStream, Trouble> {
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
    let mut stream = UnixStream::connect(&socket).map_err(trouble)?;
    let request = Request::Scrub { path: path.map(str::to_owned) };
    let text = serde_json::to_string(&request).map_err(|error| Trouble::Daemon(error.to_string()))?;
    stream.write_all(format!("{text}\n").as_bytes()).map_err(trouble)?;
    Ok(stream)
}

/// What was printed so far.
struct Shown {
    json: bool,
    terminal: bool,
    worst: u8,
    ended: bool,
}

impl Shown {
    fn all(&mut self, stream: UnixStream) -> Result<(), Trouble> {
        for line in BufReader::new(stream).lines() {
            let text = line.map_err(|error| Trouble::Daemon(format!("the daemon broke off: {error}")))?;
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
            Line::Begun { .. } => return Ok(()),
            Line::Ended => {
                self.ended = true;
                return Ok(());
            }
            Line::Refused { reason } => return Err(Trouble::Daemon(reason)),
            Line::Progress { path, bytes_done, bytes_total } => {
                self.progress(&path, bytes_done, bytes_total);
                return Ok(());
            }
            Line::Found { path, file, what, .. } => format!("{path}: {file} {what}"),
            Line::Directory { path, result, damaged, extras, bytes, heals, reason } => {
                match &*result {
                    "damaged" => self.worst = DAMAGED,
                    "failed" if self.worst == CLEAN => self.worst = UNKNOWN,
                    _ => {}
                }
                let mut text = match (&*result, reason) {
                    ("clean", _) => format!("{path}: clean, {bytes} bytes read"),
                    ("damaged", _) => format!("{path}: DAMAGED ({damaged} findings), {bytes} bytes read"),
                    ("changed", _) => format!("{path}: not read, another directory came to its place"),
                    (_, reason) => format!("{path}: not read, {}", reason.unwrap_or_default()),
                };
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

    fn complain(&self, text: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "error: {text}");
    }
}
