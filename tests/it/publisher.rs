//! The client as a process: `ciruela sync` with a key of its own, and what it said.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use assert_cmd::cargo::cargo_bin;
use ciruela::format::ssh::{SecretKey, public_key_line};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::patience;

/// Events of one run that are kept until they are looked at.
const EVENTS_MAX: usize = 100_000;

/// Somebody who publishes, with one key.
pub(crate) struct Publisher {
    /// `key`, and what a test puts beside it.
    pub(crate) folder: TempDir,
    secret: SecretKey,
}

/// A client that runs.
pub(crate) struct Running {
    child: Option<Child>,
    lines: Receiver<Value>,
    events: Vec<Value>,
    stderr: Option<JoinHandle<String>>,
}

/// A client that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) events: Vec<Value>,
    pub(crate) stderr: String,
}

impl Publisher {
    /// The same `seed` is the same key.
    pub(crate) fn new(seed: u8) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let secret = SecretKey::from_seed(&[seed; 32]);
        let key = folder.path().join("key");
        fs::write(&key, secret.to_openssh("test").expect("text").as_bytes()).expect("write");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("chmod");
        Self { folder, secret }
    }

    /// For a daemon's `keys/`, with the name under which refusals know it.
    pub(crate) fn public_key(&self) -> String {
        public_key_line(&self.secret.public_key(), "publisher@test")
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("ciruela"));
        command.arg("sync").arg("-i").arg(self.folder.path().join("key")).args(options);
        command.env_remove("CIRUELA_KEY").env_remove("SSH_AUTH_SOCK").env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `sync --json OPTIONS -m ENTRY_POINTS`.
    pub(crate) fn start(&self, options: &[&str], entry_points: &[String]) -> Running {
        let mut command = self.command(options);
        let mut child = command.arg("--json").arg("-m").args(entry_points).spawn().expect("starts");
        let (send, lines) = sync_channel(EVENTS_MAX);
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("UTF-8");
            text
        });
        Running { child: Some(child), lines, events: Vec::new(), stderr: Some(stderr) }
    }

    /// The same, to its end.
    pub(crate) fn run(&self, options: &[&str], entry_points: &[String]) -> Ended {
        self.start(options, entry_points).end()
    }

    /// What people see where there is no terminal: exit status and stderr.
    pub(crate) fn run_plain(&self, options: &[&str], entry_points: &[String]) -> (Option<i32>, String) {
        let output = self.command(options).arg("-m").args(entry_points).output().expect("starts");
        assert!(output.stdout.is_empty(), "without --json nothing is data");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    }
}

/// `SRC:DEST`.
pub(crate) fn to(source: &Path, path: &str) -> String {
    format!("{}:{path}", source.to_str().expect("UTF-8"))
}

/// The addresses of daemons.
pub(crate) fn addresses(daemons: &[&Daemon]) -> Vec<String> {
    daemons.iter().map(|daemon| daemon.address.to_string()).collect()
}

impl Running {
    /// The next event for which `wanted` holds.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.next() {
            self.events.push(event.clone());
            if wanted(&event) {
                return event;
            }
        }
        panic!("the client ended without {what}; it said:\n{}", pretty(&self.events));
    }

    fn next(&self) -> Option<Value> {
        patience::next(&self.lines, || pretty(&self.events))
    }

    /// Whether it has ended, or said how all ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.events.extend(self.lines.try_iter());
        let ended = self.child.as_mut().is_none_or(|child| child.try_wait().expect("it is ours").is_some());
        ended || self.events.iter().any(|event| event["event"] == "end")
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Ended {
        // It may have ended by itself.
        self.child.as_mut().expect("not ended").kill().expect("it is ours");
        self.finish()
    }

    pub(crate) fn end(mut self) -> Ended {
        self.finish()
    }

    fn finish(&mut self) -> Ended {
        while let Some(event) = self.next() {
            self.events.push(event);
        }
        let stderr = self.stderr.take().expect("once").join().expect("read");
        let status = self.child.take().expect("not ended").wait().expect("it is ours");
        Ended { status: status.code(), events: std::mem::take(&mut self.events), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ended {
    /// Fails with all that was said unless the exit status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}\n{}", pretty(&self.events), self.stderr);
        self
    }

    /// How it ended for the only cluster.
    #[track_caller]
    pub(crate) fn finished(&self) -> &Value {
        let found = self.events.iter().find(|event| event["event"] == "finished");
        found.unwrap_or_else(|| panic!("not finished:\n{}\n{}", pretty(&self.events), self.stderr))
    }

    /// How a path ended on a node, which is named as in `Daemon::start`, or by its address.
    #[track_caller]
    pub(crate) fn at(&self, daemon: &Daemon, path: &str) -> &Value {
        let address = daemon.address.to_string();
        let nodes = self.finished()["nodes"].as_array().expect("an array");
        let node = nodes.iter().find(|node| node["address"] == address.as_str());
        &node.unwrap_or_else(|| panic!("no {address} in {nodes:?}"))["paths"][path]
    }

    /// The word of [`Self::at`].
    #[track_caller]
    pub(crate) fn result(&self, daemon: &Daemon, path: &str) -> &str {
        self.at(daemon, path)["result"].as_str().expect("a word")
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.finished()["bytes_sent"].as_u64().expect("a number")
    }

    /// Events of a kind.
    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }
}

fn pretty(events: &[Value]) -> String {
    events.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
