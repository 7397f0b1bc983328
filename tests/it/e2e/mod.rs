//! The main job from outside: `ciruela sync` and three daemons, and each way in which it can end.

mod interrupted;
mod retention;
mod reuse;
mod sources;
mod states;

use std::path::Path;

use crate::daemon::{Daemon, tree};
use crate::patience;
use crate::publisher::{Publisher, addresses, to};
use crate::trees::{mixed, plain, scanned};

/// Starts daemons with these numbers, on which `publisher` may publish.
fn start<const N: usize>(publisher: &Publisher, numbers: [u8; N]) -> [Daemon; N] {
    numbers.map(|number| Daemon::start(number, &publisher.public_key()))
}

/// A tree of its own for a test: `fill` makes it.
fn source(publisher: &Publisher, name: &str, fill: impl FnOnce(&Path)) -> std::path::PathBuf {
    let root = publisher.folder.path().join(name);
    std::fs::create_dir(&root).expect("mkdir");
    fill(&root);
    root
}

/// `/status.json`'s entry of a path, if it has one.
fn status(daemon: &Daemon, path: &str) -> Option<serde_json::Value> {
    statuses(daemon).into_iter().find(|entry| entry["path"] == path)
}

fn statuses(daemon: &Daemon) -> Vec<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_str(&daemon.get("/status.json")).expect("JSON");
    status["paths"].as_array().expect("an array").clone()
}

/// Asks for the status again and again until `wanted` holds of the path's entry. What it waits for must come by itself.
pub(crate) fn wait_for_status(
    daemon: &Daemon,
    path: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    patience::until(
        || status(daemon, path).filter(&wanted),
        || format!("{:#}", status(daemon, path).unwrap_or_default()),
    )
}

#[test]
fn three_daemons_get_a_directory() {
    let publisher = Publisher::new(21);
    let daemons = start(&publisher, [21, 22, 23]);
    let all = addresses(&daemons.each_ref());
    let first = source(&publisher, "first", |root| mixed(root, 1));
    let ended = publisher.run(&["--append", &to(&first, "/data/mixed")], &all).expect(0);
    let expected = tree(&first);
    assert!(expected.len() > 300 && expected.values().any(|(_, mode, _)| *mode != 0));
    for daemon in &daemons {
        assert_eq!(tree(&daemon.data("data/mixed")), expected);
        assert_eq!(ended.result(daemon, "/data/mixed"), "done");
        let entry = status(daemon, "/data/mixed").expect("it is known");
        assert_eq!((&entry["state"], &entry["visible"]), (&"done".into(), &entry["image"]));
    }

    // Once more: nothing moves.
    let again = publisher.run(&["--append", &to(&first, "/data/mixed")], &all).expect(0);
    for daemon in &daemons {
        assert_eq!(again.result(daemon, "/data/mixed"), "already");
    }
    assert!(again.bytes_sent() < 10_000, "{} bytes sent for nothing", again.bytes_sent());
    // They look whether it is still there, no more.
    assert_eq!(again.of_kind("progress").filter(|event| event["state"] != "check").count(), 0);
    let (status, text) = publisher.run_plain(&["--append", &to(&first, "/data/mixed")], &all);
    assert_eq!((status, text.matches("already there").count() >= 3), (Some(0), true), "{text}");

    // Other content at the same path is refused, and what is there is named.
    let id = scanned(&first).id.to_string();
    let other = source(&publisher, "other", |root| plain(root, 2, 3, 10));
    let (status, text) = publisher.run_plain(&["--append", &to(&other, "/data/mixed")], &all);
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains(&id) && text.contains("--append-weak"), "{text}");
    let refused = publisher.run(&["--append", &to(&other, "/data/mixed")], &all).expect(3);
    for daemon in &daemons {
        assert_eq!(refused.at(daemon, "/data/mixed")["reason"], "already_exists");
        assert_eq!(refused.at(daemon, "/data/mixed")["current"], id.as_str());
    }
    let weak = publisher.run(&["--append-weak", &to(&other, "/data/mixed")], &all).expect(0);
    for daemon in &daemons {
        assert_eq!(weak.result(daemon, "/data/mixed"), "kept");
        assert_eq!(tree(&daemon.data("data/mixed")), expected);
    }
}

#[test]
fn replacing() {
    let publisher = Publisher::new(24);
    let daemons = start(&publisher, [24, 25]);
    let all = addresses(&daemons.each_ref());
    let trees = [1, 2, 3].map(|seed| source(&publisher, &format!("tree{seed}"), |root| mixed(root, seed)));
    let [a, b, c] = [&trees[0], &trees[1], &trees[2]];
    let ids = [a, b, c].map(|root| scanned(root).id.to_string());
    let holds = |root: &Path| {
        for daemon in &daemons {
            assert_eq!(tree(&daemon.data("conf-data/site")), tree(root));
        }
    };
    publisher.run(&["--replace", &to(a, "/conf/site")], &all).expect(0);
    holds(a);
    publisher.run(&["--replace", &to(b, "/conf/site")], &all).expect(0);
    holds(b);

    // On a condition that doesn't hold, one that does, and one that did.
    let on = |root: &Path, old: &str| format!("{}:{old}", to(root, "/conf/site"));
    let refused = publisher.run(&["--replace", &on(c, &ids[0])], &all).expect(3);
    for daemon in &daemons {
        assert_eq!(refused.at(daemon, "/conf/site")["reason"], "replace_doesnt_match_index");
        assert_eq!(refused.at(daemon, "/conf/site")["current"], ids[1].as_str());
    }
    holds(b);
    publisher.run(&["--replace", &on(c, &ids[1])], &all).expect(0);
    holds(c);
    let again = publisher.run(&["--replace", &on(c, &ids[1])], &all).expect(0);
    assert_eq!(again.result(&daemons[0], "/conf/site"), "already");
    publisher.run(&["--replace", &on(a, &ids[1])], &all).expect(3);
    holds(c);
    let nothing = publisher.run(&["--replace", &format!("{}:{}", to(a, "/conf/new"), ids[0])], &all).expect(3);
    assert_eq!(nothing.at(&daemons[0], "/conf/new")["reason"], "replace_doesnt_match_index");

    // What may only be added is never replaced.
    publisher.run(&["--append", &to(a, "/data/site")], &all).expect(0);
    let refused = publisher.run(&["--replace", &to(b, "/data/site")], &all).expect(3);
    assert_eq!(refused.at(&daemons[0], "/data/site")["reason"], "dir_is_append_only");
    assert_eq!(tree(&daemons[0].data("data/site")), tree(a));
    for daemon in &daemons {
        assert_eq!(staged(daemon, "conf-data"), Vec::<String>::new(), "the old trees are gone");
    }
}

/// Names in a base directory's staging directory, once all is collected.
fn staged(daemon: &Daemon, base: &str) -> Vec<String> {
    // Collecting comes after the report.
    wait_until_done(daemon);
    let entries = std::fs::read_dir(daemon.data(base).join(".ciruela-staging")).expect("it is there");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until nothing is under way.
pub(crate) fn wait_until_done(daemon: &Daemon) {
    let open = || statuses(daemon).into_iter().find(|entry| entry["state"] != "done");
    patience::until(|| open().is_none().then_some(()), || format!("{:#}", open().unwrap_or_default()));
}

#[test]
fn a_wrong_key_is_refused_at_once() {
    let publisher = Publisher::new(26);
    let daemons = start(&publisher, [26, 27, 28]);
    let all = addresses(&daemons.each_ref());
    let stranger = Publisher::new(99);
    let root = source(&stranger, "tree", |root| plain(root, 1, 5, 100));
    let (status, text) = stranger.run_plain(&["--append", &to(&root, "/data/tree")], &all);
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains("publisher@test") && text.contains("SHA256:"), "{text}");
    assert!(!text.contains(&publisher.public_key()), "names of keys, not keys");
    let refused = stranger.run(&["--append", &to(&root, "/data/tree")], &all).expect(3);
    for daemon in &daemons {
        let at = refused.at(daemon, "/data/tree");
        assert_eq!(at["reason"], "signature_mismatch");
        assert_eq!(at["accepted_keys"], serde_json::json!(["ci (publisher@test)"]));
        assert_eq!(tree(&daemon.data("data")).keys().filter(|name| !name.starts_with('.')).count(), 1);
    }
    // No key at all, and nothing is sent.
    std::fs::remove_file(stranger.folder.path().join("key")).expect("removed");
    stranger.run(&["--append", &to(&root, "/data/tree")], &all).expect(2);
}

#[test]
fn one_of_three_is_not_running() {
    let publisher = Publisher::new(29);
    let mut daemons = start(&publisher, [29, 30, 31]);
    let all = addresses(&daemons.each_ref());
    daemons[2].kill();
    let root = source(&publisher, "tree", |root| plain(root, 1, 20, 1000));
    let append = to(&root, "/data/tree");
    let late = publisher.run(&["--append", &append, "--require-all", "-t", "3s"], &all).expect(4);
    assert_eq!(late.finished()["ending"], "late");
    let (status, text) = publisher.run_plain(&["--append", &append], &all);
    assert_eq!(status, Some(0), "{text}");
    let missing = daemons[2].address.to_string();
    assert!(text.lines().any(|line| line.contains(&missing) && line.contains("DOWN")), "{text}");
    for daemon in &daemons[..2] {
        assert_eq!(tree(&daemon.data("data/tree")), tree(&root));
    }
    // It returns and gets it like the others.
    daemons[2].spawn();
    let ended = publisher.run(&["--append", &append, "--require-all"], &all).expect(0);
    assert_eq!((ended.result(&daemons[0], "/data/tree"), ended.result(&daemons[2], "/data/tree")), ("already", "done"));
    assert_eq!(tree(&daemons[2].data("data/tree")), tree(&root));
    // Nobody at all.
    let nobody = [format!("127.0.0.31:{}", free_port("127.0.0.31"))];
    publisher.run(&["--append", &append, "-t", "1s"], &nobody).expect(5);
}

/// A port where nothing listens.
fn free_port(ip: &str) -> u16 {
    let listener = std::net::TcpListener::bind((ip, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}
