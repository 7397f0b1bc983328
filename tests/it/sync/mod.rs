//! `ciruela sync` as a process, against daemons that do as a test says.

mod cluster;
mod endings;
mod live;
mod output;
mod serving;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use ciruela::driver::scan::{Scan, ScanOptions, scan};
use ciruela::format::ssh::{SecretKey, fingerprint};
use ciruela::model::key::PublicKey;
use serde_json::Value;
use tempfile::TempDir;

use crate::fake::{Fake, Play, Refusal};

fn secret() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

fn public() -> PublicKey {
    secret().public_key()
}

/// A daemon that knows our key.
fn fake(number: u8, play: Play) -> Fake {
    Fake::start(number, public(), play)
}

fn refuse(word: &'static str) -> Play {
    Play::Refuse(word, Refusal::default())
}

/// A folder with `tree/`, and a home without keys.
struct Place {
    folder: TempDir,
}

/// How it ended and what it said.
struct Said {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(folder.path().join("tree/sub/empty")).expect("mkdir");
        fs::create_dir(folder.path().join("home")).expect("mkdir");
        let place = Self { folder };
        place.write("hello", b"hello\n");
        place.write("sub/large", &(0..800_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        place
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.tree().join(name), content).expect("write");
    }

    fn scan(&self) -> Scan {
        scan(&self.tree(), &ScanOptions::default(), &|_| ()).expect("readable")
    }

    /// `ciruela sync` with these arguments; `TREE` stands for the tree.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("ciruela"));
        let tree = self.tree();
        let tree = tree.to_str().expect("UTF-8");
        command.args(args.iter().map(|arg| arg.replace("TREE", tree)));
        command.env_clear().env("HOME", self.folder.path().join("home"));
        let key = secret().to_openssh("ci@test").expect("a key");
        command.env("CIRUELA_KEY", key.as_str());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        said(self.command(args).output().expect("starts"))
    }

    /// Publishes the tree at `/k/x` with these arguments; gives up after a minute.
    fn sync(&self, args: &[&str], nodes: &[&Fake]) -> Said {
        self.run(&sync_args(args, nodes).iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn start(&self, args: &[&str], nodes: &[&Fake]) -> Child {
        let args = sync_args(args, nodes);
        self.command(&args.iter().map(String::as_str).collect::<Vec<_>>()).spawn().expect("starts")
    }
}

fn sync_args(args: &[&str], nodes: &[&Fake]) -> Vec<String> {
    let mut all = vec!["sync".to_owned()];
    if !args.iter().any(|arg| arg.contains("TREE")) {
        all.extend(["--append", "TREE:/k/x"].map(str::to_owned));
    }
    if !args.contains(&"-t") {
        all.extend(["-t", "60s"].map(str::to_owned));
    }
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    all.extend(nodes.iter().map(|node| node.address.to_string()));
    all
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Said {
    /// Ended so, with all of these in what it said to people.
    #[track_caller]
    fn expect(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err);
        }
    }

    /// Each line of stdout, as JSON.
    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The events of one kind.
    fn events(&self, name: &str) -> Vec<Value> {
        self.json().into_iter().filter(|event| event["event"] == name).collect()
    }
}

/// A port at which nobody listens.
fn dead_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// All files' bytes in the order of the index.
fn content(place: &Place) -> Vec<u8> {
    let read = |name: &str| fs::read(place.tree().join(name)).expect("readable");
    [read("hello"), read("sub/large")].concat()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
