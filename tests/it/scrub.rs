//! `ciruela-server scrub` and what follows from it, with real daemons: what is changed by hand is found, named and healed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::{cluster, source, wait_for_members};
use crate::daemon::{Daemon, tree};
use crate::e2e::wait_for_status;
use crate::mounts::{has_reflinks, skipped};
use crate::publisher::{Publisher, addresses, to};
use crate::trees::{file, noise, plain};

pub(crate) fn scrub(daemon: &Daemon, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(cargo_bin("ciruela-server"));
    command.arg("scrub").args(words).arg("--db-dir").arg(daemon.data("db"));
    let Output { status, stdout, stderr } = command.output().expect("starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Events of that kind, and the exit status.
fn scrub_json(daemon: &Daemon, path: &str, kind: &str) -> (Option<i32>, Vec<Value>) {
    let (code, out, err) = scrub(daemon, &["--json", path]);
    assert_eq!(err, "", "{out}");
    let events = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    (code, events.filter(|event| event["event"] == kind).collect())
}

fn tool(root: &Path) {
    plain(root, 1, 30, 5_000);
    file(&root.join("tool"), &noise(7, 100_000), 0o644);
    symlink("tool", root.join("link")).expect("made");
}

/// Changes a file in place, as an editor which keeps its time would.
fn edit(path: &Path) {
    let times = fs::metadata(path).expect("there").modified().expect("known");
    let mut content = fs::read(path).expect("readable");
    content[3] ^= 1;
    fs::write(path, &content).expect("written");
    fs::File::options().write(true).open(path).expect("opens").set_modified(times).expect("set");
}

/// One change of each kind, and what is said of it.
fn spoil(root: &Path) -> [String; 6] {
    edit(&root.join("d00/f0003"));
    fs::remove_file(root.join("d00/f0004")).expect("removed");
    file(&root.join("new"), b"", 0o644);
    fs::set_permissions(root.join("d00/f0005"), fs::Permissions::from_mode(0o755)).expect("set");
    fs::remove_file(root.join("d00/f0006")).expect("removed");
    symlink("f0005", root.join("d00/f0006")).expect("made");
    fs::remove_file(root.join("link")).expect("removed");
    symlink("d00", root.join("link")).expect("made");
    [
        "d00/f0003 was changed on this node: 1 of 1 blocks don't fit",
        "d00/f0004 is gone",
        "new is a file that isn't in the image",
        "d00/f0005 has mode 0755, not 0644",
        "d00/f0006 is a link, not a file",
        "link points to d00, not to tool",
    ]
    .map(str::to_owned)
}

#[test]
fn each_change_is_named() {
    let publisher = Publisher::new(246);
    let mut daemon = Daemon::start(246, &publisher.public_key());
    let all = addresses(&[&daemon]);
    let first = source(&publisher, "first", tool);
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    let second = source(&publisher, "second", |root| {
        tool(root);
        file(&root.join("more"), b"more", 0o644);
    });
    publisher.run(&["--append", &to(&second, "/data/v2")], &all).expect(0);
    let shared = |path: &str| fs::metadata(daemon.data(path)).expect("there").ino();
    if has_reflinks(&daemon.data(".")) {
        return skipped("here files share data and no inodes: an edit reaches no other directory");
    }
    assert_eq!(shared("data/v1/d00/f0003"), shared("data/v2/d00/f0003"), "the edit concerns both");

    let (code, out, err) = scrub(&daemon, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, "/data/v1: clean, 250000 bytes read\n/data/v2: clean, 250004 bytes read\n");

    let expected = spoil(&daemon.data("data/v1"));
    let before = tree(&daemon.data("data/v1"));
    let (code, out, err) = scrub(&daemon, &["/data/v1"]);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    for what in expected {
        assert!(out.contains(&format!("/data/v1: {what}\n")), "no {what:?} in:\n{out}");
    }
    assert!(out.ends_with("/data/v1: DAMAGED (5 findings), 240000 bytes read, 1 extra entries\n"), "{out}");
    assert_eq!(tree(&daemon.data("data/v1")), before, "nothing is healed unless it is configured");
    assert!(daemon.get("/").contains("/data/v1 is DAMAGED: "));
    assert!(daemon.get("/metrics").contains("ciruela_extra_entries 1"));

    // The other one shares two of the inodes.
    let (code, found) = scrub_json(&daemon, "/data/v2", "found");
    let found: Vec<_> = found.iter().map(|event| format!("{} {}", event["file"], event["flaw"])).collect();
    assert_eq!(
        (code, found),
        (Some(1), vec![r#""d00/f0005" "mode""#.to_owned(), r#""d00/f0003" "content""#.to_owned()])
    );

    // Put right by hand: it is told so, and used again.
    edit(&daemon.data("data/v1/d00/f0003"));
    fs::set_permissions(daemon.data("data/v1/d00/f0005"), fs::Permissions::from_mode(0o644)).expect("set");
    let (code, directories) = scrub_json(&daemon, "/data/v2", "directory");
    assert_eq!((code, &directories[0]["result"]), (Some(0), &"clean".into()));
    let entry = wait_for_status(&daemon, "/data/v2", |entry| entry["damaged"].is_null());
    assert!(entry["scrubbed_ms"].as_u64().is_some_and(|at| at > entry["stamp_ms"].as_u64().expect("a number")));
    // What it found last is in its database when it has ended by itself.
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    daemon.spawn();
    let entry = wait_for_status(&daemon, "/data/v2", |_| true);
    assert!(entry["damaged"].is_null(), "{entry}");
    let third = source(&publisher, "third", tool);
    publisher.run(&["--append", &to(&third, "/data/v3")], &addresses(&[&daemon])).expect(0);
    let entry = wait_for_status(&daemon, "/data/v3", |entry| entry["state"] == "done");
    assert_eq!((&entry["bytes_fetched"], &entry["sources"][0]["path"]), (&0.into(), &"/data/v2".into()), "{entry}");
}

/// Of a directory that isn't there nobody can say that it is as it should be.
#[test]
fn what_cannot_be_read_is_not_current() {
    let publisher = Publisher::new(230);
    let daemon = Daemon::start(230, &publisher.public_key());
    let source = source(&publisher, "first", tool);
    publisher.run(&["--append", &to(&source, "/data/v1")], &addresses(&[&daemon])).expect(0);
    let (base, aside) = (daemon.data("data"), daemon.data("aside"));
    rustix::fs::rename(&base, &aside).expect("moved");
    let (code, _, err) = scrub(&daemon, &["/data/v1"]);
    assert_eq!(code, Some(3), "{err}");
    let entry = wait_for_status(&daemon, "/data/v1", |entry| !entry["damaged"].is_null());
    let damaged = entry["damaged"].as_str().expect("a text");
    assert!(damaged.starts_with("it can't be compared with its image: can't open the base"), "{damaged}");
    let status = Command::new(cargo_bin("ciruela")).arg("status").arg(daemon.address.to_string()).output();
    let status = status.expect("starts");
    let out = String::from_utf8(status.stdout).expect("UTF-8");
    assert!(status.status.code() == Some(1) && out.contains(damaged), "{out}");
    rustix::fs::rename(&aside, &base).expect("moved back");
    assert_eq!(scrub(&daemon, &["/data/v1"]).0, Some(0));
    wait_for_status(&daemon, "/data/v1", |entry| entry["damaged"].is_null());
}

/// The same content is at two paths: the one that is right is given.
#[test]
fn a_damaged_copy_hides_no_whole_one() {
    let publisher = Publisher::new(229);
    let daemon = Daemon::start(229, &publisher.public_key());
    let source = source(&publisher, "first", tool);
    for path in ["/data/v1", "/data/v2"] {
        publisher.run(&["--append", &to(&source, path)], &addresses(&[&daemon])).expect(0);
    }
    let damaged = daemon.data("data/v1/tool");
    fs::remove_file(&damaged).expect("removed");
    file(&damaged, &noise(8, 100_000), 0o644);
    assert_eq!(scrub(&daemon, &["/data/v1"]).0, Some(1));
    let (dest, address) = (publisher.folder.path().join("dest"), daemon.address);
    let mut command = Command::new(cargo_bin("ciruela"));
    let said = command.arg("download").arg(format!("{address}:/data/v2")).arg(&dest).output().expect("starts");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(tree(&dest), tree(&source));
}

#[test]
fn what_cannot_be_asked() {
    let publisher = Publisher::new(247);
    let mut daemon = Daemon::start(247, &publisher.public_key());
    let (code, out, _) = scrub(&daemon, &[]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "nothing is there");
    let (code, _, err) = scrub(&daemon, &["/data/v1"]);
    assert_eq!(code, Some(3));
    assert!(err.contains("nothing that this node has made visible is at /data/v1"), "{err}");
    assert_eq!(scrub(&daemon, &["data"]).0, Some(2));
    let socket = fs::metadata(daemon.data("db/control.sock")).expect("there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    // Whatever else comes on the socket gets an answer, or none.
    let say = |text: &[u8]| {
        let mut stream = UnixStream::connect(daemon.data("db/control.sock")).expect("it listens");
        stream.write_all(text).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        answer
    };
    for text in
        [&b"nonsense\n"[..], b"{\"scrub\":{\"path\":\"x\"}}\n", b"{\"scrub\":{},\"more\":1}\n", &[b'x'; 16 << 10]]
    {
        let answer: Value = serde_json::from_str(&say(text)).expect("one line of JSON");
        assert_eq!(answer["event"], "refused", "{answer}");
    }
    drop(UnixStream::connect(daemon.data("db/control.sock")).expect("it listens"));
    let (code, out, err) = scrub(&daemon, &["--json", "/data/v1"]);
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((code, &last["exit_status"]), (Some(3), &3.into()), "{out}");
    assert_eq!(format!("error: {}\n", last["reason"].as_str().expect("a reason")), err);
    daemon.kill();
    let (code, _, err) = scrub(&daemon, &[]);
    assert_eq!(code, Some(3));
    assert!(err.contains("no daemon answers at") && err.contains("is it running"), "{err}");
    // The socket that it has left is no hindrance.
    daemon.spawn();
    assert_eq!(scrub(&daemon, &[]).0, Some(0));
}

#[test]
fn publishing_again_puts_damage_right() {
    let publisher = Publisher::new(235);
    let daemons = cluster(&publisher, [234, 235]);
    wait_for_members(&daemons.each_ref(), 2);
    let first = source(&publisher, "first", tool);
    let all = addresses(&daemons.each_ref());
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    for daemon in &daemons {
        spoil(&daemon.data("data/v1"));
        assert_eq!(scrub(daemon, &[]).0, Some(1));
        assert!(!wait_for_status(daemon, "/data/v1", |entry| entry["state"] == "done")["damaged"].is_null());
    }
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    for daemon in &daemons {
        wait_for_status(daemon, "/data/v1", |entry| entry["state"] == "done" && entry["damaged"].is_null());
        assert_eq!(tree(&daemon.data("data/v1")), tree(&first));
    }
}

/// The lines that a daemon would say, and then it is busy; interrupted when `until` was printed.
fn interrupted(words: &[&str], until: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("tempdir");
    let listener = UnixListener::bind(folder.path().join("control.sock")).expect("bound");
    let mut command = Command::new(cargo_bin("ciruela-server"));
    command.arg("scrub").args(words).arg("--db-dir").arg(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let (mut stream, _) = listener.accept().expect("it asks");
    let lines = concat!(
        r#"{"event":"begun","directories":3}"#,
        "\n",
        r#"{"event":"directory","path":"/k/a","result":"clean","damaged":0,"extras":0,"bytes":100,"heals":false,"reason":null}"#,
        "\n",
        r#"{"event":"progress","path":"/k/b","bytes_done":20,"bytes_total":50}"#,
        "\n",
        r#"{"event":"found","path":"/k/b","file":"x","flaw":"extra","what":"is extra"}"#,
        "\n",
        r#"{"event":"found","path":"/k/b","file":"y","flaw":"missing","what":"is gone"}"#,
        "\n",
    );
    stream.write_all(lines.as_bytes()).expect("written");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut told = String::new();
    while !told.contains(until) {
        assert_ne!(out.read_line(&mut told).expect("UTF-8"), 0, "it ended: {told}");
    }
    let id = i32::try_from(child.id()).expect("a process id");
    kill_process(Pid::from_raw(id).expect("positive"), Signal::INT).expect("it is ours");
    out.read_to_string(&mut told).expect("UTF-8");
    let ended = child.wait_with_output().expect("it is ours");
    let mut rest = String::new();
    assert_eq!(
        stream.read_to_string(&mut rest).map(|_| rest.lines().count()).expect("UTF-8"),
        1,
        "one request, then the end"
    );
    (ended.status.code(), told, String::from_utf8(ended.stderr).expect("UTF-8"))
}

#[test]
fn an_interrupted_one_says_how_far_it_got() {
    let so_far = "interrupted: 1 of 3 directories compared, 120 bytes read, DAMAGE found (1 findings) so far";
    let (code, out, err) = interrupted(&[], "is gone");
    assert_eq!((code, err), (Some(130), format!("error: {so_far}\n")), "{out}");
    let (code, out, _) = interrupted(&["--json"], "is gone");
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((code, &last["event"], &last["exit_status"]), (Some(130), &"finished".into(), &130.into()), "{out}");
    assert_eq!((&last["reason"], &last["directories_done"]), (&so_far.into(), &1.into()), "{out}");
    assert_eq!((&last["bytes"], &last["damaged"]), (&120.into(), &1.into()), "{out}");
}

/// Longer than a socket's address has room for.
#[test]
fn the_folder_of_the_database_may_have_a_long_name() {
    let publisher = Publisher::new(245);
    let folder = tempfile::Builder::new().prefix(&"long".repeat(30)).tempdir().expect("tempdir");
    let mut daemon = Daemon::prepare_in(folder, 245, &publisher.public_key());
    daemon.spawn();
    assert!(daemon.data("db/control.sock").as_os_str().len() > 108);
    assert_eq!(scrub(&daemon, &[]), (Some(0), String::new(), String::new()));
    daemon.kill();
    let (code, _, err) = scrub(&daemon, &[]);
    assert!(code == Some(3) && err.contains("no daemon answers at /") && err.contains("longlong"), "{err}");
    daemon.spawn();
    assert_eq!(scrub(&daemon, &[]).0, Some(0));
}

/// Every second, and what is damaged comes from the other node.
fn with_scrub(daemon: &Daemon) {
    daemon.configure("data", "data", "append-only: true\nscrub-interval: 1s\nheal: true");
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("configuration read again");
}

#[test]
fn what_is_damaged_comes_back_from_another_node() {
    let publisher = Publisher::new(248);
    let mut daemons = cluster(&publisher, [248, 249]);
    wait_for_members(&daemons.each_ref(), 2);
    let first = source(&publisher, "first", tool);
    publisher.run(&["--append", &to(&first, "/data/v1")], &[daemons[0].address.to_string()]).expect(0);
    let expected = tree(&first);
    for daemon in &daemons {
        wait_for_status(daemon, "/data/v1", |entry| entry["state"] == "done");
    }
    // By the command, which is all that looks.
    daemons[0].configure("data", "data", "append-only: true\nheal: true");
    daemons[0].signal(Signal::HUP);
    daemons[0].wait_for_line("configuration read again");
    spoil(&daemons[0].data("data/v1"));
    let kept = fs::metadata(daemons[0].data("data/v1/d00/f0003")).expect("there").ino();
    let (code, out, _) = scrub(&daemons[0], &["/data"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.ends_with("it is deployed again (heal: true)\n"), "{out}");
    let whole = |entry: &Value| entry["state"] == "done" && entry["damaged"].is_null();
    let entry = wait_for_status(&daemons[0], "/data/v1", whole);
    assert_eq!(tree(&daemons[0].data("data/v1")), expected);
    assert_ne!(fs::metadata(daemons[0].data("data/v1/d00/f0003")).expect("there").ino(), kept, "changed in place");
    // What was right was copied: the edited file, the missing one and the one that was a link are fetched.
    assert_eq!((&entry["bytes_fetched"], &entry["bytes_copied"]), (&15_000.into(), &235_000.into()), "{entry}");
    assert_eq!(scrub(&daemons[0], &[]).0, Some(0));

    // By itself, and when the other one is away it waits, and says so.
    with_scrub(&daemons[0]);
    daemons[1].kill();
    edit(&daemons[0].data("data/v1/tool"));
    daemons[0].wait_for_line("the directory is damaged: tool was changed on this node");
    let stuck = |entry: &Value| entry["waiting"].as_str().is_some_and(|waiting| waiting.starts_with("no source"));
    let entry = wait_for_status(&daemons[0], "/data/v1", stuck);
    assert!(entry["damaged"].as_str().is_some_and(|damage| damage.starts_with("tool was changed")), "{entry}");
    daemons[1].spawn();
    wait_for_status(&daemons[0], "/data/v1", whole);
    assert_eq!(tree(&daemons[0].data("data/v1")), expected);

    // All of it is gone.
    fs::remove_dir_all(daemons[0].data("data/v1")).expect("removed");
    daemons[0].wait_for_line("the directory is damaged: . is gone");
    wait_for_status(&daemons[0], "/data/v1", whole);
    assert_eq!(tree(&daemons[0].data("data/v1")), expected);
}
