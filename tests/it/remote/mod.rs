//! Reading from daemons, and changing single files there: `download`, `ls`, `diff`, `put-file`, `edit`; and removing.

mod changing;
mod reading;
mod removing;
mod rolling_back;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::publisher::{Publisher, addresses, to};

/// Somebody at a terminal, with one key and a folder for temporary files that should stay empty.
struct User {
    publisher: Publisher,
    temporary: TempDir,
}

/// How a command ended and what it said.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl User {
    fn new(seed: u8) -> Self {
        Self { publisher: Publisher::new(seed), temporary: tempfile::tempdir().expect("tempdir") }
    }

    /// Daemons with these numbers, where this user may publish.
    fn daemons<const N: usize>(&self, numbers: [u8; N]) -> [Daemon; N] {
        numbers.map(|number| Daemon::start(number, &self.publisher.public_key()))
    }

    /// A new folder for a test.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.publisher.folder.path().join(name);
        fs::create_dir(&path).expect("mkdir");
        path
    }

    /// Where something may be put.
    fn dest(&self, name: &str) -> PathBuf {
        self.publisher.folder.path().join(name)
    }

    fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(cargo_bin("ciruela"));
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.publisher.folder.path()).env("TMPDIR", self.temporary.path());
        let key = self.publisher.secret().to_openssh("test").expect("text");
        command.env("CIRUELA_KEY", key.as_str());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        said(self.command(args))
    }

    /// With a shell script as the editor.
    fn edit(&self, script: &str, args: &[&str]) -> Said {
        let editor = self.publisher.folder.path().join("editor");
        fs::write(&editor, script).expect("write");
        let mut command = self.command(args);
        command.env("EDITOR", format!("sh {}", editor.display()));
        command.env("CIRUELA", cargo_bin("ciruela"));
        said(command)
    }

    /// Puts a tree everywhere.
    fn publish(&self, option: &str, source: &Path, path: &str, daemons: &[Daemon]) {
        let all: Vec<_> = daemons.iter().collect();
        self.publisher.run(&[option, &to(source, path)], &addresses(&all)).expect(0);
    }

    /// What is left of temporary files.
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.temporary.path()).expect("readable");
        entries.map(|entry| entry.expect("readable").path()).collect()
    }
}

fn said(mut command: Command) -> Said {
    let output = command.output().expect("starts");
    Said { status: output.status.code(), out: output.stdout, err: String::from_utf8(output.stderr).expect("UTF-8") }
}

impl Said {
    /// Ended so, with all of these in what it said to people.
    #[track_caller]
    fn expect(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{}{}", String::from_utf8_lossy(&self.out), self.err);
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err);
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("UTF-8")
    }
}

/// All of them, as the commands take them.
fn cluster(daemons: &[Daemon]) -> String {
    addresses(&daemons.iter().collect::<Vec<_>>()).join(",")
}

/// `CLUSTER:PATH`.
fn at(daemons: &[Daemon], path: &str) -> String {
    format!("{}:{path}", cluster(daemons))
}
