//! What a daemon has on its disk already is linked or copied, and nothing of it is ever trusted wrongly.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{source, start, status, statuses, wait_until_done};
use crate::daemon::{Daemon, tree};
use crate::mounts::{Mount, has_reflinks, skipped};
use crate::publisher::{Publisher, addresses, to};
use crate::trees::{file, noise, plain};

const MIB: usize = 1 << 20;

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).expect("there").ino()
}

/// A copy of a tree, as its owner would make the next version.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            std::fs::create_dir(&target).expect("mkdir");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// The next version of a tree.
fn next(publisher: &Publisher, name: &str, before: &Path) -> PathBuf {
    source(publisher, name, |root| copy(before, root))
}

fn number(entry: &Value, field: &str) -> u64 {
    entry[field].as_u64().unwrap_or_else(|| panic!("no {field} in {entry}"))
}

fn damage(daemon: &Daemon, path: &str) -> Option<String> {
    status(daemon, path)?["damaged"].as_str().map(str::to_owned)
}

#[test]
fn files_of_another_version_are_linked() {
    let publisher = Publisher::new(70);
    let daemons = start(&publisher, [70, 71]);
    let all = addresses(&daemons.each_ref());
    let first = source(&publisher, "first", |root| {
        plain(root, 1, 200, 5_000);
        file(&root.join("tool"), &noise(7, 100_000), 0o644);
        file(&root.join("empty"), b"", 0o644);
    });
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    let second = next(&publisher, "second", &first);
    file(&second.join("new"), &noise(8, 3_000), 0o644);
    std::fs::set_permissions(second.join("tool"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    // Also in another directory config, on the same file system.
    let ended = publisher.run(&["--append", &to(&second, "/data/v2")], &all).expect(0);
    publisher.run(&["--replace", &to(&second, "/conf/v")], &all).expect(0);
    for daemon in &daemons {
        for there in ["data/v2", "conf-data/v"] {
            let (old, new) = (daemon.data("data/v1"), daemon.data(there));
            assert_eq!(tree(&new), tree(&second));
            let names: Vec<_> = tree(&first).into_keys().filter(|name| first.join(name).is_file()).collect();
            assert!(names.len() > 200);
            for name in names {
                let shared = inode(&old.join(&name)) == inode(&new.join(&name));
                let linked = name != "tool" && name != "empty" && !has_reflinks(&daemon.data("."));
                assert_eq!(shared, linked, "{there}/{name}");
            }
        }
        assert_eq!(tree(&daemon.data("data/v1")), tree(&first));
        let entry = status(daemon, "/data/v2").expect("known");
        let told = ended.at(daemon, "/data/v2");
        for what in ["bytes_linked", "bytes_copied", "bytes_kept", "bytes_fetched"] {
            assert_eq!(number(&entry, what), number(told, what), "{what}");
        }
        assert_eq!((number(&entry, "bytes_linked"), number(&entry, "bytes_copied")), (1_000_000, 100_000));
        assert_eq!(number(&entry, "bytes_fetched"), 3_000);
        let sources = |of: &Value, fetched: fn(&str) -> bool| {
            let sources = of["sources"].as_array().expect("an array").clone();
            let local: Vec<_> = sources.iter().filter(|one| !fetched(one["how"].as_str().expect("a word"))).collect();
            let local: Vec<_> = local.into_iter().map(|one| one["how"].as_str().expect("a word").to_owned()).collect();
            let network = sources.iter().filter(|one| fetched(one["how"].as_str().expect("a word")));
            (local, network.map(|one| number(one, "bytes")).sum::<u64>())
        };
        let expected = (vec!["linked".to_owned(), "copied".to_owned()], 3_000);
        assert_eq!(sources(&entry, |how| how == "fetched"), expected, "{entry}");
        assert_eq!(sources(told, |how| how == "client" || how == "node"), expected, "{told}");
        for (of, name) in [(&entry, "path"), (told, "from")] {
            assert_eq!((&of["sources"][0][name], number(&of["sources"][0], "bytes")), (&"/data/v1".into(), 1_000_000));
            assert_eq!((&of["sources"][1][name], number(&of["sources"][1], "bytes")), (&"/data/v1".into(), 100_000));
        }
        assert_eq!((damage(daemon, "/data/v1"), damage(daemon, "/data/v2")), (None, None));
    }
}

/// Where the file system can, data is shared, and nothing else: an edit of one directory leaves the others alone.
#[test]
fn reflinks_on_a_file_system_that_has_them() {
    const BYTES: u64 = 64 << 20;
    let publisher = Publisher::new(174);
    let mut daemon = Daemon::prepare(174, &publisher.public_key());
    let base = daemon.data("data");
    let Some(_mount) = Mount::btrfs(&base) else {
        return skipped("no btrfs can be made and mounted (btrfs-progs); tests/sim/disk has a fake one");
    };
    assert!(has_reflinks(&base));
    daemon.spawn();
    let all = addresses(&[&daemon]);
    let first = source(&publisher, "first", |root| {
        file(&root.join("large"), &noise(5, 64 << 20), 0o644);
        file(&root.join("tool"), &noise(6, 100_000), 0o755);
    });
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    let used = || {
        let root = std::fs::File::open(&base).expect("there");
        rustix::fs::syncfs(&root).expect("synced");
        let space = rustix::fs::fstatvfs(&root).expect("counted");
        (space.f_blocks - space.f_bfree) * space.f_frsize
    };
    let before = used();
    assert!(before > BYTES, "{before}");
    let second = next(&publisher, "second", &first);
    file(&second.join("version"), b"2", 0o644);
    let ended = publisher.run(&["--append", &to(&second, "/data/v2")], &all).expect(0);
    let told = ended.at(&daemon, "/data/v2");
    assert_eq!((number(told, "bytes_linked"), number(told, "bytes_fetched")), (BYTES + 100_000, 1), "{told}");
    assert_eq!(tree(&daemon.data("data/v2")), tree(&second));
    assert_ne!(inode(&daemon.data("data/v1/large")), inode(&daemon.data("data/v2/large")));
    assert!(used() < before + BYTES / 4, "{} after {before}", used());
    std::fs::write(daemon.data("data/v2/tool"), b"edited").expect("written");
    let third = next(&publisher, "third", &first);
    file(&third.join("version"), b"3", 0o644);
    publisher.run(&["--append", &to(&third, "/data/v3")], &all).expect(0);
    assert_eq!(tree(&daemon.data("data/v3")), tree(&third));
    assert_eq!((damage(&daemon, "/data/v1"), tree(&daemon.data("data/v1"))), (None, tree(&first)));
    daemon.kill();
}

/// Each link changes the status of the one inode, while others look whether its content is still right.
#[test]
fn many_deployments_at_once_link_one_file() {
    let publisher = Publisher::new(173);
    let [daemon] = start(&publisher, [173]);
    let all = addresses(&[&daemon]);
    let root = source(&publisher, "tree", |root| {
        file(&root.join("large"), &noise(3, 40 << 20), 0o644);
        plain(root, 4, 10, 10_000);
    });
    publisher.run(&["--append", &to(&root, "/data/first")], &all).expect(0);
    for round in 0..3 {
        let options: Vec<_> = (0..8).map(|number| to(&root, &format!("/data/r{round}n{number}"))).collect();
        let options: Vec<_> = options.iter().flat_map(|option| ["--append", option]).collect();
        let ended = publisher.run(&options, &all).expect(0);
        for entry in statuses(&daemon) {
            assert_eq!(entry["damaged"], Value::Null, "{entry}");
        }
        for number in 0..8 {
            assert_eq!(ended.at(&daemon, &format!("/data/r{round}n{number}"))["bytes_fetched"], 0, "round {round}");
        }
    }
}

/// A third deployment trusts what the second one shared, though the old tree's removal changed the inodes' status.
#[test]
fn links_survive_replacing() {
    let publisher = Publisher::new(72);
    let [daemon] = start(&publisher, [72]);
    let all = addresses(&[&daemon]);
    let mut before = source(&publisher, "v0", |root| plain(root, 2, 60, 3_000));
    publisher.run(&["--replace", &to(&before, "/conf/site")], &all).expect(0);
    let kept = daemon.data("conf-data/site/d00/f0001");
    let ino = inode(&kept);
    for version in 1..5 {
        let root = next(&publisher, &format!("v{version}"), &before);
        file(&root.join("version"), version.to_string().as_bytes(), 0o644);
        publisher.run(&["--replace", &to(&root, "/conf/site")], &all).expect(0);
        wait_until_done(&daemon);
        assert_eq!(tree(&daemon.data("conf-data/site")), tree(&root));
        assert_eq!(inode(&kept) == ino, !has_reflinks(&daemon.data(".")), "version {version}");
        let metadata = std::fs::metadata(&kept).expect("there");
        assert_eq!(metadata.nlink(), 1, "the old tree is gone");
        let entry = status(&daemon, "/conf/site").expect("known");
        assert_eq!((number(&entry, "bytes_linked"), number(&entry, "bytes_fetched")), (180_000, 1));
        assert_eq!(number(&entry, "files_rehashed"), 0, "each was trusted by its status alone");
        let [linked, fetched] = &entry["sources"].as_array().expect("an array")[..] else { panic!("{entry}") };
        assert_eq!((&linked["path"], number(linked, "bytes")), (&"/conf/site".into(), 180_000));
        assert!(fetched["from"].as_str().is_some_and(|from| from.starts_with("client 127.")), "{fetched}");
        before = root;
    }
}

#[test]
fn a_file_that_is_changed_in_place_is_copied_but_for_that() {
    let publisher = Publisher::new(73);
    let [daemon] = start(&publisher, [73]);
    let all = addresses(&[&daemon]);
    let mut content = noise(9, 64 * MIB);
    let first = source(&publisher, "first", |root| file(&root.join("large"), &content, 0o644));
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    // A percent of the blocks, in runs here and there.
    let blocks = content.len() / (32 << 10);
    let changed: Vec<_> = (0..blocks).filter(|block| block % 512 < 5).collect();
    for block in &changed {
        content[block * (32 << 10) + 77] ^= 1;
    }
    let second = source(&publisher, "second", |root| file(&root.join("renamed/large"), &content, 0o755));
    publisher.run(&["--append", &to(&second, "/data/v2")], &all).expect(0);
    assert_eq!(tree(&daemon.data("data/v2")), tree(&second));
    let entry = status(&daemon, "/data/v2").expect("known");
    let expected = (changed.len() * (32 << 10)) as u64;
    assert!(expected <= content.len() as u64 / 95, "{expected}");
    assert_eq!(number(&entry, "bytes_fetched"), expected);
    assert_eq!(number(&entry, "bytes_copied"), content.len() as u64 - expected);
}

#[test]
fn what_was_changed_here_is_never_used() {
    let publisher = Publisher::new(74);
    let [mut daemon] = start(&publisher, [74]);
    if has_reflinks(&daemon.data(".")) {
        return skipped("here files share data and no inodes: an edit reaches no other directory");
    }
    let all = addresses(&[&daemon]);
    let first = source(&publisher, "first", |root| plain(root, 3, 20, 70_000));
    for path in ["/data/v1", "/data/v2", "/data/v3"] {
        let root = if path == "/data/v1" { first.clone() } else { next(&publisher, &path[6..], &first) };
        // Nothing is linked between them yet: each has its own inodes.
        file(&root.join("only"), path.as_bytes(), 0o644);
        publisher.run(&["--append", &to(&root, path)], &all).expect(0);
    }
    let edited = daemon.data("data/v3/d00/f0003");
    let times = std::fs::metadata(&edited).expect("there").modified().expect("known");
    assert_eq!(inode(&edited), inode(&daemon.data("data/v1/d00/f0003")));
    // Of the same size and with its time put back: only the status change time tells.
    let mut content = std::fs::read(&edited).expect("readable");
    content[40_000] ^= 1;
    std::fs::write(&edited, &content).expect("written");
    std::fs::File::options().write(true).open(&edited).expect("opens").set_modified(times).expect("set");
    let fourth = next(&publisher, "fourth", &first);
    publisher.run(&["--append", &to(&fourth, "/data/v4")], &all).expect(0);
    assert_eq!(tree(&daemon.data("data/v4")), tree(&fourth), "the edit went into another directory");
    assert_ne!(inode(&daemon.data("data/v4/d00/f0003")), inode(&edited));
    assert_eq!(std::fs::read(&edited).expect("readable"), content, "the edit was overwritten");
    // All that share the inode are damaged, and say so, also after a restart.
    for restart in [false, true] {
        if restart {
            daemon.kill();
            daemon.spawn();
        }
        for path in ["/data/v1", "/data/v2", "/data/v3"] {
            let damage = damage(&daemon, path).unwrap_or_else(|| panic!("{path} isn't damaged"));
            assert!(damage.starts_with("d00/f0003 was changed on this node"), "{damage}");
        }
        assert_eq!(damage(&daemon, "/data/v4"), None);
        assert!(daemon.get("/metrics").contains("ciruela_damaged_directories 3"));
        assert!(daemon.get("/").contains("/data/v1 is DAMAGED: d00/f0003"));
    }
    // Other files of a damaged directory aren't used either, but those of the whole one are.
    let fifth = next(&publisher, "fifth", &first);
    publisher.run(&["--append", &to(&fifth, "/data/v5")], &addresses(&[&daemon])).expect(0);
    let entry = status(&daemon, "/data/v5").expect("known");
    assert_eq!(number(&entry, "bytes_fetched"), 0, "{entry}");
    let sources: Vec<_> = entry["sources"].as_array().expect("an array").iter().map(|s| s["path"].clone()).collect();
    assert_eq!(sources, ["/data/v4"]);
}
