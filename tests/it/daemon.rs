//! A real daemon in a temporary folder, ended when dropped.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use assert_cmd::cargo::cargo_bin;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::patience;

/// Lines of a daemon's log that are kept for failures.
const LOG_LINES_MAX: usize = 100_000;

pub(crate) struct Daemon {
    /// Its folders: `conf/`, `db/`, `data/`.
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    number: u8,
    /// Loopback address; the port is kept over restarts.
    ip: String,
    port: u16,
    /// Further options of the command line.
    pub(crate) options: Vec<String>,
    child: Option<Child>,
    log: Option<Receiver<String>>,
    /// Lines of the log from before it listened.
    early: RefCell<Vec<String>>,
}

impl Daemon {
    /// Starts one on `127.0.0.<number>`, with the directory configs `data` (append-only) and `conf` (replaceable).
    pub(crate) fn start(number: u8, public_keys: &str) -> Self {
        let mut daemon = Self::prepare(number, public_keys);
        daemon.spawn();
        daemon
    }

    /// The same, not started yet.
    pub(crate) fn prepare(number: u8, public_keys: &str) -> Self {
        Self::prepare_in(tempfile::tempdir().expect("tempdir"), number, public_keys)
    }

    pub(crate) fn prepare_in(folder: TempDir, number: u8, public_keys: &str) -> Self {
        for name in ["conf/configs", "conf/keys", "db", "data", "conf-data"] {
            fs::create_dir_all(folder.path().join(name)).expect("mkdir");
        }
        fs::write(folder.path().join("conf/keys/ci.key"), public_keys).expect("write");
        let address = ([127, 0, 0, number], 0).into();
        let ip = format!("127.0.0.{number}");
        let daemon = Self {
            folder,
            address,
            number,
            ip,
            port: 0,
            options: Vec::new(),
            child: None,
            log: None,
            early: RefCell::default(),
        };
        daemon.configure("data", "data", "append-only: true");
        daemon.configure("conf", "conf-data", "append-only: false");
        daemon
    }

    pub(crate) fn configure(&self, name: &str, directory: &str, more: &str) {
        let directory = self.folder.path().join(directory);
        let text = format!("directory: {}\nnum-levels: 1\nupload-keys: [ci]\n{more}\n", directory.display());
        fs::write(self.folder.path().join(format!("conf/configs/{name}.yaml")), text).expect("write");
    }

    /// Starts it (again) and waits until it listens.
    pub(crate) fn spawn(&mut self) {
        self.launch();
        let (line, seen) = self.read_until("listening address=");
        let line = line.unwrap_or_else(|| panic!("the daemon never listened; it said:\n{}", seen.join("\n")));
        self.early.replace(seen);
        let (_, address) = line.split_once("address=").expect("just found");
        self.address = address.trim().parse().expect("an address");
        self.port = self.address.port();
    }

    /// Starts it (again) and waits for nothing.
    pub(crate) fn launch(&mut self) {
        let mut command = Command::new(cargo_bin("ciruela-server"));
        command
            .arg("-c")
            .arg(self.folder.path().join("conf"))
            .arg("--db-dir")
            .arg(self.folder.path().join("db"))
            .args(["--host", &self.ip, "--port", &self.port.to_string()])
            .args(["--override-machine-id", &format!("{:02x}", self.number).repeat(16)])
            .args(["--override-hostname", &format!("node{}", self.number)])
            .args(&self.options)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let stderr = child.stderr.take().expect("piped");
        let (send, log) = sync_channel(LOG_LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        self.child = Some(child);
        self.log = Some(log);
    }

    /// Reads the log up to a line that contains `part`, if it was not among those from before it listened.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        let early = self.early.borrow().iter().position(|line| line.contains(part));
        if let Some(at) = early {
            return self.early.borrow_mut().remove(at);
        }
        let (found, seen) = self.read_until(part);
        if let Some(line) = found {
            return line;
        }
        panic!("the daemon ended without {part:?}; it said:\n{}", seen.join("\n"));
    }

    /// The next line of the log with `part` in it, and those before it.
    fn read_until(&self, part: &str) -> (Option<String>, Vec<String>) {
        let mut seen = Vec::new();
        let log = self.log.as_ref().expect("started");
        while let Some(line) = patience::next(log, || seen.join("\n")) {
            if line.contains(part) {
                return (Some(line), seen);
            }
            seen.push(line);
        }
        (None, seen)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.as_ref().expect("started").id()).expect("a process id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.id();
        kill_process(Pid::from_raw(id).expect("positive"), signal).expect("it is ours");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.take().expect("started").wait().expect("it is ours")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    pub(crate) fn data(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The body of a page.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A temporary folder in memory, where there is such a thing: a killed process loses nothing there either, and syncing
/// doesn't wait for what else this machine writes.
pub(crate) fn folder_in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("tempdir")
}

/// Everything below `root`: relative path → kind, permission bits, content or target.
pub(crate) fn tree(root: &Path) -> std::collections::BTreeMap<String, (char, u32, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = std::collections::BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let relative = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
        let mode = meta.permissions().mode() & 0o777;
        let entry = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
            ('d', 0, Vec::new())
        } else if meta.is_symlink() {
            ('l', 0, fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec())
        } else {
            ('f', mode & 0o111, fs::read(&path).expect("readable"))
        };
        found.insert(relative, entry);
    }
    found
}
