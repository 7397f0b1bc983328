//! `ciruela plan` as a process: it tells what `sync` would do, and changes nothing.

use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use rustix::mount::MountFlags;

use crate::cluster::{cluster, wait_for_members};
use crate::daemon::{Daemon, tree};
use crate::e2e::wait_for_status;
use crate::mounts::{Mount, skipped};
use crate::publisher::{Publisher, addresses, to};
use crate::scrub::scrub;
use crate::trees::{file, noise, plain};

/// Exit status, output, and what was said to people.
fn plan(publisher: &Publisher, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(cargo_bin("ciruela"));
    command.arg("plan").args(words).env_clear().env("HOME", publisher.folder.path());
    command.env("CIRUELA_KEY", publisher.secret().to_openssh("test").expect("text").as_str());
    let output = command.output().expect("starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn planned(publisher: &Publisher, status: i32, words: &[&str]) -> Value {
    let (code, out, err) = plan(publisher, &[&["--json"], words].concat());
    assert_eq!(code, Some(status), "{out}{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// What a machine would do with a path.
fn would<'a>(plan: &'a Value, daemon: &Daemon, path: &str) -> &'a Value {
    let address = daemon.address.to_string();
    let nodes = plan["nodes"].as_array().expect("an array");
    &nodes.iter().find(|node| node["address"] == address.as_str()).expect("it was asked")["paths"][path]
}

/// All that a daemon could have changed.
fn state(daemon: &Daemon) -> (Value, Vec<String>) {
    let status: Value = serde_json::from_str(&daemon.get("/status.json")).expect("JSON");
    let mut files = Vec::new();
    for folder in ["data", "conf-data", "db/indexes"] {
        let root = daemon.data(folder);
        if root.exists() {
            files.extend(tree(&root).keys().map(|name| format!("{folder}/{name}")));
        }
    }
    (status["paths"].clone(), files)
}

#[test]
fn what_a_sync_would_do_on_each_machine() {
    let publisher = Publisher::new(208);
    let mut daemons = cluster(&publisher, [208, 209, 210]);
    wait_for_members(&daemons.each_ref(), 3);
    let entry = addresses(&[&daemons[0]]);
    let entry = entry[0].as_str();
    let source = publisher.folder.path().join("source");
    std::fs::create_dir(&source).expect("mkdir");
    plain(&source, 1, 10, 1_000);
    let first = to(&source, "/data/v1");
    let new = planned(&publisher, 0, &["--append", &first, entry]);
    assert_eq!(new["nodes"].as_array().expect("an array").len(), 3, "{new}");
    let bytes = &new["nodes"][0]["paths"]["/data/v1"]["estimate"]["bytes"];
    for daemon in &daemons {
        let one = would(&new, daemon, "/data/v1");
        assert_eq!((&one["would"], &one["estimate"]["files"]), (&"take".into(), &10.into()), "{new}");
        assert_eq!((&one["estimate"]["bytes_fetched"], &one["estimate"]["files_linked"]), (bytes, &0.into()));
        assert!(one["estimate"]["bytes_free"].as_u64().expect("a number") > 0);
        assert_eq!(state(daemon).0, Value::Array(Vec::new()));
    }

    publisher.run(&["--append", &first], &[entry.to_owned()]).expect(0);
    file(&source.join("new"), &[7; 5_000], 0o644);
    let before: Vec<_> = daemons.iter().map(state).collect();
    let second = to(&source, "/data/v2");
    let next = planned(&publisher, 0, &[&second, entry]);
    for daemon in &daemons {
        let estimate = &would(&next, daemon, "/data/v2")["estimate"];
        assert_eq!((&estimate["files_linked"], &estimate["bytes_fetched"]), (&10.into(), &5_000.into()), "{next}");
    }
    // Refused, kept, there already, and in words.
    let refused = planned(&publisher, 3, &["--append", &first, entry]);
    assert_eq!(would(&refused, &daemons[1], "/data/v1")["reason"], "already_exists");
    let kept = planned(&publisher, 0, &["--append-weak", &first, entry]);
    assert_eq!(would(&kept, &daemons[1], "/data/v1")["would"], "keep");
    std::fs::remove_file(source.join("new")).expect("removed");
    let (code, out, err) = plan(&publisher, &["--append", &first, entry]);
    assert_eq!((code, out.matches("has it already").count()), (Some(0), 3), "{out}{err}");
    let stranger = Publisher::new(211);
    let (code, out, _) = plan(&stranger, &["--append", &second, entry]);
    assert_eq!((code, out.matches("REFUSE (signature_mismatch)").count()), (Some(3), 3), "{out}");
    let (code, out, _) = plan(&publisher, &["--append", &to(&source, "/none/v1"), entry]);
    assert!(code == Some(3) && out.contains("/none/v1: no machine that was reached carries it"), "{out}");
    assert_eq!(daemons.iter().map(state).collect::<Vec<_>>(), before, "nothing was changed");

    // Who is off isn't asked; it only counts if all are required.
    daemons[2].kill();
    wait_for_members(&[&daemons[0], &daemons[1]], 2);
    planned(&publisher, 0, &["--append", &second, entry]);
    planned(&publisher, 3, &["--append", &second, "--require-all", entry]);
    let off = daemons[2].address.to_string();
    planned(&publisher, 5, &["--append", &second, &off]);
}

/// What is at the path on the disk counts, not what was once put there: as for a sync.
#[test]
fn what_is_on_the_disk_is_looked_at() {
    let publisher = Publisher::new(227);
    let mut daemon = Daemon::prepare(227, &publisher.public_key());
    daemon.spawn();
    let entry = daemon.address.to_string();
    let source = publisher.folder.path().join("source");
    std::fs::create_dir(&source).expect("mkdir");
    plain(&source, 1, 10, 1_000);
    file(&source.join("changed"), &[1; 5_000], 0o644);
    let wish = to(&source, "/data/x");
    let target = daemon.data("data/x");
    let look = |status, kind: &str| {
        let plan = planned(&publisher, status, &[kind, &wish, &entry]);
        would(&plan, &daemon, "/data/x").clone()
    };
    // Somebody else's things, before anything was published there and after.
    let in_the_way = |status| {
        std::fs::create_dir(&target).expect("mkdir");
        assert_eq!(look(0, "--append")["would"], "take", "an empty directory is in nobody's way");
        file(&target.join("precious"), b"theirs", 0o644);
        assert_eq!(
            (&look(3, "--append")["would"], &look(3, "--append")["reason"]),
            (&"refuse".into(), &"occupied".into())
        );
        assert_eq!(look(0, "--append-weak")["would"], "keep");
        publisher.run(&["--append", &wish], std::slice::from_ref(&entry)).expect(status);
        std::fs::remove_dir_all(&target).expect("removed");
        std::os::unix::fs::symlink("/nowhere", &target).expect("symlink");
        assert_eq!(look(3, "--append")["reason"], "occupied");
        std::fs::remove_file(&target).expect("removed");
        std::fs::write(&target, "a file").expect("written");
        let (code, out, err) = plan(&publisher, &["--append", &wish, &entry]);
        assert!(code == Some(3) && out.contains("REFUSE (occupied): ") && out.contains("move it away"), "{out}{err}");
        std::fs::remove_file(&target).expect("removed");
    };
    in_the_way(3);
    // It was waiting for that, and may have begun by itself.
    assert!(["take", "have"].contains(&look(0, "--append")["would"].as_str().expect("a word")));
    publisher.run(&["--append", &wish], std::slice::from_ref(&entry)).expect(0);
    assert_eq!(look(0, "--append")["would"], "have");

    // Changed by hand, and known to be: what is right of it is copied.
    file(&target.join("changed"), &[2; 5_000], 0o644);
    assert_eq!(scrub(&daemon, &[]).0, Some(1));
    let damaged = look(0, "--append");
    let estimate = &damaged["estimate"];
    assert_eq!((&damaged["would"], &estimate["bytes_fetched"]), (&"take".into(), &5_000.into()), "{damaged}");
    assert_eq!(estimate["bytes_copied"].as_u64().map(|copied| copied + 5_000), estimate["bytes"].as_u64());
    publisher.run(&["--append", &wish], std::slice::from_ref(&entry)).expect(0);
    assert_eq!((&look(0, "--append")["would"], tree(&target)), (&"have".into(), tree(&source)));

    // Gone altogether, and what may be the very tree without anybody's knowing. The old one stays, so that its inode number isn't
    // used again.
    rustix::fs::rename(&target, publisher.folder.path().join("aside")).expect("moved");
    assert_eq!(look(0, "--append")["would"], "take");
    let copied = Command::new("cp").arg("-r").args([&source, &target]).status();
    assert!(copied.expect("cp").success());
    let alike = look(3, "--append");
    assert_eq!(alike["would"], "unknown", "{alike}");
    std::fs::remove_dir_all(daemon.data("data")).expect("removed");
    assert_eq!(
        (&look(3, "--append")["would"], &look(3, "--append")["reason"]),
        (&"wait".into(), &"missing_base".into())
    );
    daemon.kill();
}

/// Waiting for room isn't "on its way"; and what would be removed for it counts as room.
#[test]
fn whether_there_is_room() {
    let publisher = Publisher::new(228);
    let mut daemon = Daemon::prepare(228, &publisher.public_key());
    let Some(mount) = Mount::new(&daemon.data("conf-data"), "size=8m", MountFlags::empty()) else {
        return skipped("no small file system can be mounted");
    };
    daemon.configure("conf", "conf-data", "append-only: false\nkeep-previous: true");
    daemon.spawn();
    let entry = daemon.address.to_string();
    let source = |n: u64, bytes: usize| {
        let source = publisher.folder.path().join(format!("source{n}"));
        file(&source.join("large"), &noise(n, bytes), 0o644);
        to(&source, "/conf/x")
    };
    let word = |status, wish: &str| {
        let plan = planned(&publisher, status, &["--replace", wish, &entry]);
        would(&plan, &daemon, "/conf/x").clone()
    };
    for n in 1..=2 {
        publisher.run(&["--replace", &source(n, 3 << 20)], std::slice::from_ref(&entry)).expect(0);
    }
    let third = source(3, 3 << 20);
    assert_eq!(word(0, &third)["would"], "take", "what is kept would go");
    let large = source(4, 7 << 20);
    assert_eq!(word(3, &large)["would"], "no_room");
    let client = publisher.start(&["--replace", &large], std::slice::from_ref(&entry));
    wait_for_status(&daemon, "/conf/x", |entry| entry["failure"] == "no_space");
    let waiting = word(3, &large);
    assert_eq!(waiting["would"], "no_room", "{waiting}");
    mount.remount("size=32m");
    client.end().expect(0);
    assert_eq!(word(0, &large)["would"], "have");
    daemon.kill();
}

/// For programs: one shape, whether there is a plan or not.
#[test]
fn without_a_plan_it_is_the_same_object() {
    let publisher = Publisher::new(208);
    let source = publisher.folder.path().join("source");
    std::fs::create_dir(&source).expect("mkdir");
    let (wish, nobody) = (to(&source, "/data/v3"), "127.0.0.1:1");
    let fields = |plan: &Value| plan.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let whole = planned(&publisher, 5, &["--append", &wish, nobody]);
    assert!(whole["reason"].is_null(), "{whole}");
    for (words, reason) in [
        (["--append", "/nonexistent:/data/v3", nobody], "/nonexistent"),
        (["--none", &wish, nobody], "--none"),
        (["--append", "nonsense", nobody], "nonsense"),
    ] {
        let none = planned(&publisher, 1, &words);
        assert_eq!((fields(&none), &none["accepted"]), (fields(&whole), &false.into()), "{none}");
        assert!(none["reason"].as_str().expect("a reason").contains(reason), "{none}");
    }
}
