//! `ciruela demo`: the whole of it, `--keep`, and that nothing is left behind however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use crate::daemon::tree;

/// A place for a demo: `site` to be published, `tmp` for its folder.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("tempdir"));
        fs::create_dir(place.tmp()).expect("mkdir");
        fs::create_dir_all(place.site().join("sub/empty")).expect("mkdir");
        fs::write(place.site().join("hello"), "hello\n").expect("write");
        fs::write(place.site().join("sub/it's odd"), vec![7; 100_000]).expect("write");
        fs::set_permissions(place.site().join("hello"), fs::Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink("../hello", place.site().join("sub/link")).expect("symlink");
        place
    }

    /// A site which takes seconds to publish, though it needs no space.
    fn slow() -> Self {
        let place = Self::new();
        fs::File::create(place.site().join("large")).expect("create").set_len(2 << 30).expect("sparse");
        place
    }

    fn site(&self) -> PathBuf {
        self.0.path().join("site")
    }

    fn tmp(&self) -> PathBuf {
        self.0.path().join("tmp")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("ciruela"));
        // A log level of the user's must not make it wait for a line that isn't logged.
        command.args(args).current_dir(self.0.path()).env("TMPDIR", self.tmp()).env("RUST_LOG", "off");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("starts")
    }

    /// Starts a demo and reads what it says until its three daemons listen.
    fn until_listening(&self) -> (Child, BufReader<ChildStderr>, Vec<Pid>) {
        let mut child = self.command(&["demo", "site"]).spawn().expect("starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut pids = Vec::new();
        while pids.len() < 3 {
            let mut line = String::new();
            assert!(said.read_line(&mut line).expect("UTF-8") > 0, "ended after {pids:?}");
            if let Some((_, id)) = line.split_once(", process ") {
                pids.push(pid(id));
            }
        }
        (child, said, pids)
    }

    fn folders(&self) -> Vec<PathBuf> {
        fs::read_dir(self.tmp()).expect("readable").map(|entry| entry.expect("readable").path()).collect()
    }

    /// Nothing in the folder for temporary files, and no process that works there.
    fn assert_nothing_left(&self) {
        assert_eq!(self.folders(), Vec::<PathBuf>::new());
        assert_eq!(processes_in(&self.tmp()), Vec::<PathBuf>::new());
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().expect("a number")).expect("positive")
}

/// `/proc/PID` of each process whose working directory is (or was) below `folder`.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir("/proc").expect("readable").map_while(Result::ok).map(|entry| entry.path());
    found.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))).collect()
}

/// Waits for the end of processes that aren't our children.
fn wait_for_end(pids: &[Pid]) {
    for pid in pids {
        // An error: it is gone already.
        let Ok(process) = pidfd_open(*pid, PidfdFlags::empty()) else { continue };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("it can be waited for");
    }
}

fn text(output: &Output) -> String {
    assert_eq!(output.stdout, b"", "all of it is for people");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn three_copies_are_verified_and_nothing_stays() {
    let place = Place::new();
    let output = place.output(&["demo", "site"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for number in 1..=3 {
        assert!(said.contains(&format!("node{number}: 127.0.0.{number}:")), "{said}");
        assert!(said.contains(&format!("node{number}: 2 files, 97.66 KiB, verified: ")), "{said}");
    }
    assert_eq!(said.matches("sub/  hello").count(), 3, "{said}");
    assert!(said.contains("--append site:/data/site -m 127.0.0.1:"), "{said}");
    place.assert_nothing_left();
}

#[test]
fn kept_daemons_go_on_until_they_are_ended_as_it_says() {
    let place = Place::new();
    let output = place.output(&["demo", "site", "--keep"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let folder = place.folders().pop().expect("it is kept");
    let mode = |path: &str| fs::metadata(folder.join(path)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("key")), (0o700, 0o600));
    assert_eq!(processes_in(&place.tmp()).len(), 3);

    let by_hand = said.lines().find(|line| line.contains(":/data/site-2")).expect("how to go on");
    let again = Command::new("sh").args(["-c", by_hand]).current_dir(place.0.path()).output().expect("starts");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let expected = tree(&place.site());
    for number in 1..=3 {
        for name in ["site", "site-2"] {
            assert_eq!(tree(&folder.join(format!("node{number}/data/{name}"))), expected);
        }
    }

    let (_, end) = said.split_once("end them: ").expect("how to end them");
    let pids: Vec<_> = end.split_whitespace().skip(1).take_while(|word| *word != "&&").map(pid).collect();
    assert_eq!(pids.len(), 3, "{end}");
    for pid in &pids {
        kill_process(*pid, Signal::TERM).expect("it runs");
    }
    wait_for_end(&pids);
    let log = fs::read_to_string(folder.join("node2/log")).expect("readable");
    assert!(log.trim_end().ends_with("stopped"), "{log}");
    fs::remove_dir_all(folder).expect("nobody writes there any more");
}

#[test]
fn an_interrupted_demo_cleans_up() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::slow();
        let (mut child, mut said, _) = place.until_listening();
        kill_process(pid(&child.id().to_string()), signal).expect("it runs");
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("UTF-8");
        assert_eq!(child.wait().expect("ours").code(), Some(130), "{rest}");
        assert!(rest.contains("interrupted: ending the daemons"), "{rest}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_daemon_that_ends_is_a_failure_with_its_log() {
    let place = Place::slow();
    let (mut child, mut said, pids) = place.until_listening();
    kill_process(pids[1], Signal::KILL).expect("it runs");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(child.wait().expect("ours").code(), Some(1), "{rest}");
    let (_, error) = rest.split_once("error: a daemon has ended").expect("why");
    assert!(error.contains("the end of node2's log:") && error.contains("listening"), "{error}");
    assert!(!error.contains("node1's"), "{error}");
    place.assert_nothing_left();
}

#[test]
fn daemons_end_with_a_demo_that_is_killed() {
    let place = Place::slow();
    let (mut child, _said, pids) = place.until_listening();
    child.kill().expect("it runs");
    child.wait().expect("ours");
    wait_for_end(&pids);
}

#[test]
fn it_says_what_it_cannot_publish() {
    let place = Place::new();
    fs::write(place.0.path().join("file"), "").expect("write");
    for (args, reason) in [
        (&["demo"][..], "name a directory to publish"),
        (&["demo", "nowhere"][..], "can't publish nowhere: No such file"),
        (&["demo", "file"][..], "file is not a directory"),
    ] {
        let output = place.output(args);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output);
        assert!(said.contains(reason), "{said}");
        place.assert_nothing_left();
    }
    // Only the scan notices this one: the daemons run by then.
    rustix::fs::mknodat(rustix::fs::CWD, place.site().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("mkfifo");
    let output = place.output(&["demo", "site"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("pipe"));
    place.assert_nothing_left();
    // To look at what went wrong.
    let output = place.output(&["demo", "site", "--keep"]);
    assert_eq!(output.status.code(), Some(1));
    let folder = place.folders().pop().expect("it is kept");
    assert!(text(&output).contains(&format!("are kept in {}", folder.display())));
    assert!(folder.join("node3/log").exists());
    assert_eq!(processes_in(&place.tmp()), Vec::<PathBuf>::new());
}
