//! `download`, `ls` and `diff`.

use std::fs;
use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process};

use super::{User, at, cluster};
use crate::cluster::join;
use crate::daemon::{Daemon, tree};
use crate::patience;
use crate::publisher::{addresses, to};
use crate::trees::{file, mixed, noise, plain, scanned};

#[test]
fn a_download_is_the_tree() {
    let user = User::new(150);
    let daemons = user.daemons([150, 151, 152]);
    let source = user.folder("source");
    mixed(&source, 1);
    user.publish("--append", &source, "/data/mixed", &daemons);
    let dest = user.dest("dest");
    let dest_text = dest.to_str().expect("UTF-8");
    let said = user.run(&["download", &at(&daemons, "/data/mixed"), dest_text]);
    said.expect(0, &[]);
    assert_eq!(tree(&dest), tree(&source));
    assert_eq!(scanned(&dest).id, scanned(&source).id);

    // A part of it, into an empty directory.
    let part = user.folder("part");
    user.run(&["download", &at(&daemons, "/data/mixed/deep/level0"), part.to_str().expect("UTF-8")]).expect(0, &[]);
    assert_eq!(tree(&part), tree(&source.join("deep/level0")));

    // One file: to standard output, into a directory, by name.
    let large = at(&daemons, "/data/mixed/large");
    let said = user.run(&["download", &large, "-"]);
    said.expect(0, &[]);
    assert_eq!(said.out, noise(1, 5 << 20));
    user.run(&["download", &at(&daemons, "/data/mixed/bin/tool3"), dest_text]).expect(0, &[]);
    assert_eq!(tree(&dest)["tool3"], tree(&source)["bin/tool3"]);
    let empty = user.dest("an empty file");
    user.run(&["download", &at(&daemons, "/data/mixed/empty/1"), empty.to_str().expect("UTF-8")]).expect(0, &[]);
    assert_eq!(tree(&empty)[""], tree(&source)["empty/1"]);

    // Nothing is overwritten.
    for (path, problem) in [("", "isn't empty"), ("/large", "exists already")] {
        let dest = if path.is_empty() { &dest } else { &empty };
        let said = user.run(&["download", &at(&daemons, &format!("/data/mixed{path}")), dest.to_str().expect("UTF-8")]);
        said.expect(1, &[problem]);
    }
    assert_eq!(tree(&empty)[""].2, b"");
    // What isn't there.
    user.run(&["download", &at(&daemons, "/data/mixed/none"), "-"]).expect(3, &["\"none\"", "/data/mixed"]);
    user.run(&["download", &at(&daemons, "/data/other"), "-"]).expect(3, &["nothing at /data/other"]);
    user.run(&["download", &at(&daemons, "/nokey/other"), "-"]).expect(3, &["\"nokey\""]);
    user.run(&["download", &at(&daemons, "/data/mixed/links/1"), "-"]).expect(1, &["../bin/tool1"]);
    user.run(&["download", &at(&daemons, "/data/mixed"), "-"]).expect(1, &["standard output"]);
    user.run(&["download", &at(&daemons, "/data/mixed"), "/nonexistent/x"]).expect(1, &["/nonexistent"]);
    user.run(&["download", "nopath", "x"]).expect(1, &["CLUSTER:PATH"]);
    assert!(user.left().is_empty(), "{:?}", user.left());
    let beside = fs::read_dir(user.publisher.folder.path()).expect("readable");
    let drafts =
        beside.filter(|entry| entry.as_ref().expect("readable").file_name().to_string_lossy().contains("download"));
    assert_eq!(drafts.count(), 0);
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let user = User::new(173);
    let daemons = user.daemons([173]);
    let source = user.folder("source");
    plain(&source, 1, 3, 10);
    user.publish("--append", &source, "/data/x", &daemons);
    daemons[0].signal(Signal::STOP);
    let folder = user.folder("folder");
    let dest = folder.join("dest");
    let mut command = user.command(&["download", &at(&daemons, "/data/x"), dest.to_str().expect("UTF-8")]);
    let mut child = command.spawn().expect("starts");
    let is_empty = || fs::read_dir(&folder).expect("readable").next().is_none();
    patience::until(|| (!is_empty()).then_some(()), || "an empty folder".to_owned());
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(id, Signal::INT).expect("it is ours");
    assert_eq!(child.wait().expect("it is ours").code(), Some(130));
    assert!(is_empty());
}

#[test]
fn nobody_is_there() {
    let user = User::new(153);
    let listener = TcpListener::bind("127.0.0.153:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let place = format!("{address}:/data/x");
    let said = user.run(&["download", &place, "out"]);
    said.expect(5, &[&address.to_string(), "nothing listens"]);
    user.run(&["ls", &place]).expect(5, &["could be reached"]);
    user.run(&["ls", &address.to_string()]).expect(5, &["could be reached"]);
    user.run(&["diff", "/", &place]).expect(2, &["could be reached"]);
    let source = user.publisher.folder.path().join("key");
    let source = source.to_str().expect("UTF-8");
    let cluster = address.to_string();
    user.run(&["put-file", &cluster, "-d", "/conf/x", "-f", "a", "-s", source]).expect(5, &["could be reached"]);
    user.edit("exit 0", &["edit", &cluster, "-d", "/conf/x", "-f", "a"]).expect(5, &["could be reached"]);
    assert!(user.left().is_empty());
}

#[test]
fn damaged_copies_are_passed_over() {
    let user = User::new(154);
    let daemons = user.daemons([154, 155, 156]);
    let source = user.folder("source");
    plain(&source, 1, 40, 100_000);
    user.publish("--append", &source, "/data/x", &daemons);
    // Each block is altered on all machines but one.
    for (number, daemon) in daemons.iter().enumerate() {
        for at in (0..40).filter(|at| at % 3 != number) {
            let path = daemon.data("data/x").join(format!("d00/f{at:04}"));
            let mut content = fs::read(&path).expect("readable");
            content[50_000] ^= 1;
            fs::write(&path, content).expect("write");
        }
    }
    let dest = user.dest("dest");
    let said = user.run(&["download", &at(&daemons, "/data/x"), dest.to_str().expect("UTF-8")]);
    said.expect(0, &["damaged"]);
    assert_eq!(tree(&dest), tree(&source));
    // With one machine less it can't be had, and nothing is left behind.
    let less = user.dest("less");
    let said = user.run(&["download", &at(&daemons[1..], "/data/x"), less.to_str().expect("UTF-8")]);
    said.expect(4, &["block", "d00/f", "damaged"]);
    assert!(!less.exists());
}

#[test]
fn machines_that_differ() {
    let user = User::new(157);
    let daemons = user.daemons([157, 158, 159]);
    let (old, new) = (user.folder("old"), user.folder("new"));
    file(&old.join("f"), b"old", 0o644);
    file(&new.join("f"), b"new", 0o644);
    user.publish("--append", &old, "/data/x", &daemons[..1]);
    user.publish("--append", &new, "/data/x", &daemons[1..]);
    let read = |daemons, more: &[&str]| {
        let place = at(daemons, "/data/x/f");
        user.run(&[&["download", &place, "-"], more].concat())
    };
    let said = read(&daemons, &[]);
    said.expect(0, &["don't have the same", &scanned(&old).id.to_string(), "node157"]);
    assert_eq!(said.text(), "new");
    // As many for either.
    read(&daemons[..2], &[]).expect(3, &["--image", "node157", "node158"]);
    let id = scanned(&old).id.to_string();
    let said = read(&daemons[..2], &["--image", &id]);
    said.expect(0, &[]);
    assert_eq!(said.text(), "old");
    read(&daemons[1..], &["--image", &id]).expect(3, &["no machine shows", &id]);
    let said = user.run(&["ls", &cluster(&daemons)]);
    assert_eq!(said.text().lines().filter(|line| line.contains("/data/x")).count(), 2);
    assert!(said.text().contains("(on 1 of 3 machines)"), "{}", said.text());
}

#[test]
fn lists() {
    let user = User::new(160);
    let daemons = user.daemons([160]);
    let source = user.folder("source");
    file(&source.join("a b"), b"12345", 0o644);
    file(&source.join("sub/run"), b"#!/bin/sh\n", 0o755);
    file(&source.join("sub/deep/x"), b"", 0o644);
    fs::create_dir(source.join("empty")).expect("mkdir");
    std::os::unix::fs::symlink("sub/run", source.join("link")).expect("symlink");
    user.publish("--append", &source, "/data/x", &daemons);
    let id = scanned(&source).id.to_string();
    let list = |args: &[&str]| {
        let said = user.run(&[&["ls"], args].concat());
        said.expect(0, &[]);
        said.text().to_owned()
    };
    let all = list(&[&cluster(&daemons)]);
    assert!(all.contains('T') && all.ends_with(&format!("Z  {id}  /data/x\n")), "{all}");
    let json: serde_json::Value = serde_json::from_str(&list(&["--json", &cluster(&daemons)])).expect("JSON");
    assert_eq!(json["directories"][0]["image"], id.as_str());
    assert_eq!(
        list(&[&at(&daemons, "/data/x")]),
        "-rw-r--r-- 5 a\\x20b\ndrwxr-xr-x 0 empty\nlrwxrwxrwx 7 link -> sub/run\ndrwxr-xr-x 0 sub\n"
    );
    assert_eq!(
        list(&["-R", &at(&daemons, "/data/x/sub/")]),
        "drwxr-xr-x  0 deep\n-rw-r--r--  0 deep/x\n-rwxr-xr-x 10 run\n"
    );
    assert_eq!(list(&[&at(&daemons, "/data/x/sub/run")]), "-rwxr-xr-x 10 run\n");
    let json: serde_json::Value = serde_json::from_str(&list(&["--json", &at(&daemons, "/data/x")])).expect("JSON");
    assert_eq!(json["image"], id.as_str());
    let entries = json["entries"].as_array().expect("a list");
    assert_eq!(entries[2], serde_json::json!({ "path": "link", "type": "link", "target": "sub/run" }));
    user.run(&["ls", &at(&daemons, "/data/none")]).expect(3, &["nothing at"]);
    // What can't be listed, for programs.
    let listed = |words: &[&str]| {
        let said = user.run(&[&["ls", "--json"], words].concat());
        let json: serde_json::Value = serde_json::from_str(said.text()).expect("one object");
        assert_eq!(json["exit_status"], said.status.expect("ended"), "{json}");
        (said.status, json["path"].clone(), json["reason"].as_str().unwrap_or_default().to_owned())
    };
    let (status, path, reason) = listed(&[&at(&daemons, "/data/none")]);
    assert_eq!((status, path), (Some(3), "/data/none".into()));
    assert!(reason.contains("nothing at /data/none"), "{reason}");
    let (status, path, reason) = listed(&["127.0.0.1:1"]);
    assert!(status == Some(5) && path.is_null() && reason.contains("could be reached"), "{reason}");
    let (status, _, reason) = listed(&["--none"]);
    assert!(status == Some(1) && reason.contains("--none"), "{reason}");
    assert_eq!(listed(&[&at(&daemons, "/data/x")]).0, Some(0));
}

#[test]
fn differences() {
    let user = User::new(161);
    let daemons = user.daemons([161, 162]);
    let source = user.folder("source");
    mixed(&source, 3);
    user.publish("--append", &source, "/data/x", &daemons);
    let diff = |path: &str| user.run(&["diff", source.to_str().expect("UTF-8"), &at(&daemons, path)]);
    let same = diff("/data/x");
    same.expect(0, &[]);
    assert_eq!(same.text(), "");
    file(&source.join("large"), b"small", 0o644);
    fs::remove_file(source.join("bin/tool1")).expect("removed");
    file(&source.join("more"), b"", 0o644);
    let other = diff("/data/x");
    other.expect(1, &[]);
    assert_eq!(other.text(), "missing bin/tool1\ndiffers large (content)\nextra more\n");
    diff("/data/none").expect(2, &["nothing at"]);
    diff("/data/x/bin").expect(2, &["only a whole one"]);
    let place = at(&daemons, "/data/x");
    user.run(&["diff", "/nonexistent/tree", &place]).expect(2, &["/nonexistent/tree"]);
    user.run(&["diff", "x"]).expect(2, &[]);
}

#[test]
fn others_are_found_by_one() {
    let user = User::new(163);
    let mut daemons = [163, 164].map(|number| Daemon::prepare(number, &user.publisher.public_key()));
    // The first one doesn't carry the directory, but knows who does.
    fs::remove_file(daemons[0].data("conf/configs/data.yaml")).expect("removed");
    join(&mut daemons[0], None);
    let first = daemons[0].address;
    join(&mut daemons[1], Some(first));
    let source = user.folder("source");
    plain(&source, 1, 3, 10);
    user.publisher.run(&["--append", &to(&source, "/data/x")], &addresses(&[&daemons[1]])).expect(0);
    let (page, other) = (|| daemons[0].get("/status.json"), daemons[1].address.to_string());
    patience::until(|| page().contains(&other).then_some(()), page);
    let dest = user.dest("dest");
    let place = at(&daemons[..1], "/data/x");
    user.run(&["download", &place, dest.to_str().expect("UTF-8")]).expect(0, &[]);
    assert_eq!(tree(&dest), tree(&source));
}
