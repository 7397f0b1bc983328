//! States of one directory, which hinder nothing else and end by themselves when their cause does.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::mount::MountFlags;
use serde_json::Value;

use super::{source, start, wait_for_status};
use crate::cluster::{join, wait_for_members};
use crate::daemon::{Daemon, tree};
use crate::mounts::{Mount, skipped};
use crate::publisher::{Ended, Publisher, Running, addresses, to};
use crate::trees::{file, noise, plain};

/// Publishes at `/data/tree` and waits until client and daemon say what hinders it; another directory is published
/// meanwhile.
fn hindered(publisher: &Publisher, daemon: &Daemon, root: &Path, failure: &str, text: &str) -> Running {
    let entry_points = addresses(&[daemon]);
    let mut client = publisher.start(&["--append", &to(root, "/data/tree")], &entry_points);
    let says = |event: &Value| event["waiting"].as_str().is_some_and(|waiting| waiting.contains(text));
    client.wait_for(text, says);
    let entry = wait_for_status(daemon, "/data/tree", |entry| entry["failure"] == failure);
    assert!(says(&entry), "{entry}");
    assert!(daemon.get("/").contains(text));
    let other = publisher.run(&["--append", &to(root, "/conf/other")], &entry_points).expect(0);
    assert_eq!(other.result(daemon, "/conf/other"), "done");
    client
}

/// Publishes to where something is that only a person may move: the client is told so and ends, the daemon goes on trying.
fn in_the_way(publisher: &Publisher, daemon: &Daemon, root: &Path) -> Ended {
    let entry_points = addresses(&[daemon]);
    let ended = publisher.run(&["--append", &to(root, "/data/tree")], &entry_points).expect(3);
    let reason = ended.at(daemon, "/data/tree")["reason"].as_str().expect("a sentence").to_owned();
    assert!(reason.contains("move it away"), "{reason}");
    wait_for_status(daemon, "/data/tree", |entry| entry["failure"] == "occupied");
    ended
}

fn done(client: Running, daemon: &Daemon, root: &Path) -> Ended {
    let ended = client.end().expect(0);
    assert_eq!(ended.result(daemon, "/data/tree"), "done");
    assert_eq!(tree(&daemon.data("data/tree")), tree(root));
    ended
}

/// A daemon, one of whose folders is a file system of its own; `None`: here none can be mounted.
fn on_small_disk(number: u8, folder: &str, options: &str) -> Option<(Publisher, Daemon, Mount)> {
    let publisher = Publisher::new(number);
    let mut daemon = Daemon::prepare(number, &publisher.public_key());
    let Some(mount) = Mount::new(&daemon.data(folder), options, MountFlags::empty()) else {
        skipped("no small file system can be mounted; tests/sim/disk has a fake one");
        return None;
    };
    daemon.spawn();
    Some((publisher, daemon, mount))
}

fn small(publisher: &Publisher) -> std::path::PathBuf {
    source(publisher, "tree", |root| plain(root, 1, 10, 1000))
}

#[test]
fn missing_base_directory() {
    let publisher = Publisher::new(40);
    let [daemon] = start(&publisher, [40]);
    let root = small(&publisher);
    fs::remove_dir_all(daemon.data("data")).expect("removed");
    let client = hindered(&publisher, &daemon, &root, "missing_base", "base directory");
    assert!(!daemon.data("data").exists(), "it is never made");
    let append = to(&root, "/data/tree");
    let (status, text) = publisher.run_plain(&["--append", &append, "-t", "3s"], &addresses(&[&daemon]));
    assert_eq!(status, Some(4), "{text}");
    assert!(text.contains("base directory") && text.contains("NOT DONE"), "{text}");
    fs::create_dir(daemon.data("data")).expect("mkdir");
    done(client, &daemon, &root);
}

#[test]
fn missing_base_directory_at_start() {
    let publisher = Publisher::new(41);
    let mut daemon = Daemon::prepare(41, &publisher.public_key());
    fs::remove_dir(daemon.data("data")).expect("removed");
    daemon.spawn();
    let root = small(&publisher);
    let client = hindered(&publisher, &daemon, &root, "missing_base", "base directory");
    // It outlives the client and the daemon.
    client.kill();
    daemon.kill();
    daemon.spawn();
    wait_for_status(&daemon, "/data/tree", |entry| entry["failure"] == "missing_base");
    fs::create_dir(daemon.data("data")).expect("mkdir");
    let client = publisher.start(&["--append", &to(&root, "/data/tree")], &addresses(&[&daemon]));
    done(client, &daemon, &root);
}

#[test]
fn unwritable_directory() {
    let publisher = Publisher::new(42);
    let daemon = Daemon::prepare(42, &publisher.public_key());
    let is_root = rustix::process::geteuid().is_root();
    // Permissions mean nothing to root: there it is a read-only mount.
    let mount = is_root.then(|| Mount::new(&daemon.data("data"), "size=4m", MountFlags::RDONLY)).flatten();
    let _ = fs::set_permissions(daemon.data("data"), Permissions::from_mode(0o555));
    if is_root && mount.is_none() {
        return skipped("root that may not mount can write everywhere");
    }
    let mut daemon = daemon;
    daemon.spawn();
    let root = small(&publisher);
    let client = hindered(&publisher, &daemon, &root, "not_writable", "create the directory");
    if let Some(mount) = &mount {
        mount.remount("size=4m");
    }
    fs::set_permissions(daemon.data("data"), Permissions::from_mode(0o755)).expect("chmod");
    done(client, &daemon, &root);
    daemon.kill();
}

#[test]
fn full_disk() {
    let Some((publisher, mut daemon, mount)) = on_small_disk(43, "data", "size=2m") else { return };
    let root = source(&publisher, "tree", |root| file(&root.join("large"), &noise(1, 3 << 20), 0o644));
    let client = hindered(&publisher, &daemon, &root, "no_space", "needs 3145728 bytes");
    assert!(!daemon.data("data/tree").exists());
    mount.remount("size=8m");
    done(client, &daemon, &root);
    daemon.kill();
}

/// The client is told of one machine, and its disk is full: the others get all of it nevertheless.
#[test]
fn a_full_disk_holds_up_nobody_else() {
    let publisher = Publisher::new(174);
    let [mut full, mut other] = [174, 175].map(|number| Daemon::prepare(number, &publisher.public_key()));
    let Some(mount) = Mount::new(&full.data("data"), "size=2m", MountFlags::empty()) else {
        return skipped("no small file system can be mounted; tests/sim/disk has a fake one");
    };
    join(&mut full, None);
    join(&mut other, Some(full.address));
    wait_for_members(&[&full, &other], 2);
    let root = source(&publisher, "tree", |root| file(&root.join("large"), &noise(1, 3 << 20), 0o644));
    let client = publisher.start(&["--append", &to(&root, "/data/tree")], &addresses(&[&full]));
    wait_for_status(&other, "/data/tree", |entry| entry["state"] == "done");
    assert_eq!(tree(&other.data("data/tree")), tree(&root));
    mount.remount("size=8m");
    client.end().expect(0);
    assert_eq!(tree(&full.data("data/tree")), tree(&root));
    full.kill();
}

/// Inodes, too: a state, and when there are enough all goes on.
#[test]
fn no_inodes() {
    let Some((publisher, mut daemon, mount)) = on_small_disk(165, "data", "size=8m,nr_inodes=100") else { return };
    let root = source(&publisher, "tree", |root| plain(root, 1, 150, 100));
    let client = hindered(&publisher, &daemon, &root, "no_space", "inodes");
    assert!(!daemon.data("data/tree").exists());
    mount.remount("size=8m,nr_inodes=1000");
    done(client, &daemon, &root);
    daemon.kill();
}

/// A file system that becomes read-only in the midst of a deployment, as after an error of its device.
#[test]
fn read_only_in_the_midst() {
    let Some((publisher, mut daemon, mount)) = on_small_disk(166, "data", "size=16m") else { return };
    let root = source(&publisher, "tree", |root| plain(root, 2, 40, 100_000));
    let gate = crate::gate::Gate::new(daemon.address, 1 << 20);
    let client = publisher.start(&["--append", &to(&root, "/data/tree")], &[gate.address.to_string()]);
    gate.wait_until_held();
    mount.remount_with("size=16m", MountFlags::RDONLY);
    gate.open();
    wait_for_status(&daemon, "/data/tree", |entry| entry["failure"] == "not_writable");
    publisher.run(&["--append", &to(&root, "/conf/other")], &addresses(&[&daemon])).expect(0);
    mount.remount("size=16m");
    goes_on(client, &mut daemon, &root);
}

/// What was in the way is gone: the deployment ends as if nothing had been.
fn goes_on(client: Running, daemon: &mut Daemon, root: &Path) {
    let ended = client.end().expect(0);
    assert_eq!(ended.finished()["nodes"][0]["paths"]["/data/tree"]["result"], "done");
    assert_eq!(tree(&daemon.data("data/tree")), tree(root));
    daemon.kill();
}

/// Space that goes while it is needed: what was reserved is there, what wasn't ends in the same state.
#[test]
fn disk_filled_by_others() {
    let Some((publisher, mut daemon, _mount)) = on_small_disk(44, "data", "size=6m") else { return };
    // Files below the size from which space is reserved.
    let root = source(&publisher, "tree", |root| plain(root, 2, 40, 100_000));
    let gate = crate::gate::Gate::new(daemon.address, 1 << 20);
    let mut client = publisher.start(&["--append", &to(&root, "/data/tree")], &[gate.address.to_string()]);
    gate.wait_until_held();
    let filler = daemon.data("data/filler");
    let full = fs::write(&filler, noise(9, 7 << 20)).expect_err("it doesn't fit");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    gate.open();
    client.wait_for("no space", |event| {
        event["waiting"]
            .as_str()
            .is_some_and(|text| text.contains("No space left") || text.contains("the file system has"))
    });
    wait_for_status(&daemon, "/data/tree", |entry| entry["failure"] == "no_space");
    fs::remove_file(&filler).expect("removed");
    goes_on(client, &mut daemon, &root);
}

/// A change that can't be written down isn't accepted, and when there is room again, all goes on without a restart.
#[test]
fn full_disk_below_the_database() {
    let Some((publisher, mut daemon, _mount)) = on_small_disk(48, "db", "size=16m") else { return };
    let root = small(&publisher);
    let entry_points = addresses(&[&daemon]);
    publisher.run(&["--append", &to(&root, "/data/before")], &entry_points).expect(0);
    let filler = daemon.data("db/filler");
    fs::write(&filler, noise(9, 16 << 20)).expect_err("it doesn't fit");
    let refused = publisher.run(&["--append", &to(&root, "/data/tree")], &entry_points).expect(3);
    let detail = refused.at(&daemon, "/data/tree")["detail"].as_str().expect("a sentence");
    assert!(detail.contains("could not be written down"), "{detail}");
    assert!(!daemon.data("data/tree").exists());
    fs::remove_file(&filler).expect("removed");
    publisher.run(&["--append", &to(&root, "/data/tree")], &entry_points).expect(0);
    assert_eq!(tree(&daemon.data("data/tree")), tree(&root));
    daemon.kill();
    daemon.spawn();
    let again = publisher.run(&["--append", &to(&root, "/data/tree")], &entry_points).expect(0);
    assert_eq!(again.result(&daemon, "/data/tree"), "already");
    daemon.kill();
}

/// The same in the midst of a deployment: a state as any other, which ends when there is room.
#[test]
fn full_disk_below_the_database_in_the_midst() {
    let Some((publisher, mut daemon, _mount)) = on_small_disk(224, "db", "size=16m") else { return };
    // So many files that what is to be written down of them needs new space.
    let root = source(&publisher, "tree", |root| plain(root, 2, 3_000, 1_000));
    let gate = crate::gate::Gate::new(daemon.address, 2 << 20);
    let mut client = publisher.start(&["--append", &to(&root, "/data/tree")], &[gate.address.to_string()]);
    gate.wait_until_held();
    let filler = daemon.data("db/filler");
    fs::write(&filler, noise(9, 16 << 20)).expect_err("it doesn't fit");
    gate.open();
    client.wait_for("no space", |event| event["waiting"].as_str().is_some_and(|text| text.contains("No space left")));
    let entry = wait_for_status(&daemon, "/data/tree", |entry| entry["failure"] == "no_space");
    assert!(entry["waiting"].as_str().is_some_and(|text| text.contains("the state database")), "{entry}");
    fs::remove_file(&filler).expect("removed");
    goes_on(client, &mut daemon, &root);
}

/// The same for the index, which is kept beside the database.
#[test]
fn full_disk_below_the_indexes() {
    let publisher = Publisher::new(225);
    let mut daemon = Daemon::prepare(225, &publisher.public_key());
    let indexes = daemon.data("db/indexes");
    fs::create_dir(&indexes).expect("mkdir");
    let Some(mount) = Mount::new(&indexes, "size=64k", MountFlags::empty()) else {
        return skipped("no small file system can be mounted");
    };
    fs::set_permissions(&indexes, Permissions::from_mode(0o700)).expect("chmod");
    daemon.spawn();
    let root = source(&publisher, "tree", |root| plain(root, 2, 3_000, 100));
    let client = publisher.start(&["--append", &to(&root, "/data/tree")], &addresses(&[&daemon]));
    let entry = wait_for_status(&daemon, "/data/tree", |entry| entry["failure"] == "no_space");
    assert!(entry["waiting"].as_str().is_some_and(|text| text.contains("indexes")), "{entry}");
    mount.remount("size=8m");
    done(client, &daemon, &root);
    daemon.kill();
}

#[test]
fn something_else_is_at_the_path() {
    let publisher = Publisher::new(45);
    let [daemon] = start(&publisher, [45]);
    let root = small(&publisher);
    let target = daemon.data("data/tree");
    fs::create_dir(&target).expect("mkdir");
    fs::write(target.join("precious"), "not ours").expect("write");
    let before = tree(&target);
    let client = in_the_way(&publisher, &daemon, &root);
    assert_eq!(tree(&target), before, "untouched");
    // Another client hears it at once, too; whoever is content with anything is content.
    let entry_points = addresses(&[&daemon]);
    publisher.run(&["--append", &to(&root, "/data/tree")], &entry_points).expect(3);
    let weak = publisher.run(&["--append-weak", &to(&root, "/data/tree")], &entry_points).expect(0);
    assert_eq!(weak.result(&daemon, "/data/tree"), "kept");
    move_away(&target, &daemon.data("data/moved"));
    assert_eq!(client.result(&daemon, "/data/tree"), "aborted");
    publisher.run(&["--append", &to(&root, "/data/tree")], &entry_points).expect(0);
    assert_eq!(tree(&target), tree(&root));
    assert_eq!(tree(&daemon.data("data/moved")), before);
}

/// Links and files at the path are neither followed nor replaced.
#[test]
fn not_a_directory_is_at_the_path() {
    let publisher = Publisher::new(46);
    let [daemon] = start(&publisher, [46]);
    let root = small(&publisher);
    let (target, outside) = (daemon.data("data/tree"), daemon.data("outside"));
    fs::create_dir(&outside).expect("mkdir");
    symlink(&outside, &target).expect("symlink");
    in_the_way(&publisher, &daemon, &root);
    assert_eq!(fs::read_dir(&outside).expect("readable").count(), 0, "nothing went through the link");
    fs::remove_file(&target).expect("removed");
    fs::write(&target, "a file").expect("write");
    in_the_way(&publisher, &daemon, &root);
    assert_eq!(fs::read(&target).expect("untouched"), b"a file");
    fs::remove_file(&target).expect("removed");
    publisher.run(&["--append", &to(&root, "/data/tree")], &addresses(&[&daemon])).expect(0);
    assert_eq!(tree(&target), tree(&root));
}

/// The very tree is there already: it is taken as it is, and nothing but the index moves.
#[test]
fn the_same_tree_is_at_the_path() {
    let publisher = Publisher::new(47);
    let [daemon] = start(&publisher, [47]);
    let root = source(&publisher, "tree", |root| file(&root.join("large"), &noise(1, 3 << 20), 0o644));
    let target = daemon.data("data/tree");
    file(&target.join("large"), &noise(1, 3 << 20), 0o644);
    fs::set_permissions(&target, Permissions::from_mode(0o755)).expect("chmod");
    let ended = publisher.run(&["--append", &to(&root, "/data/tree")], &addresses(&[&daemon])).expect(0);
    assert_eq!(ended.at(&daemon, "/data/tree")["bytes_fetched"], 0);
    assert!(ended.bytes_sent() < 100_000);
}

#[test]
fn two_daemons_with_one_directory() {
    let publisher = Publisher::new(53);
    let mut first = Daemon::start(53, &publisher.public_key());
    // What it has written to, it has claimed.
    let root = small(&publisher);
    publisher.run(&["--append", &to(&root, "/data/early")], &addresses(&[&first])).expect(0);
    let daemon = Daemon::prepare(54, &publisher.public_key());
    let shared = first.data("data");
    daemon.configure("data", shared.to_str().expect("UTF-8"), "append-only: true");
    let mut daemon = daemon;
    daemon.spawn();
    daemon.wait_for_line("another daemon manages this directory");
    let client = hindered(&publisher, &daemon, &root, "claimed", "another daemon manages this directory");
    // Whoever has it is not hindered.
    publisher.run(&["--append", &to(&root, "/data/first")], &addresses(&[&first])).expect(0);
    first.kill();
    client.end().expect(0);
    assert_eq!(tree(&shared.join("tree")), tree(&root));
    assert_eq!(tree(&shared.join("first")), tree(&root));
}

#[test]
fn what_nobody_deploys_is_swept() {
    let publisher = Publisher::new(55);
    let mut daemon = Daemon::prepare(55, &publisher.public_key());
    let (garbage, later) = (daemon.data("data/.ciruela-staging/0123"), daemon.data("later/.ciruela-staging/4567"));
    let leave = |garbage: &Path| {
        plain(&garbage.join("tree"), 1, 30, 100);
        for staging in garbage.ancestors().take(2) {
            fs::set_permissions(staging, Permissions::from_mode(0o700)).expect("chmod");
        }
    };
    leave(&garbage);
    leave(&later);
    daemon.spawn();
    daemon.wait_for_line("what nobody deploys any more");
    assert!(!garbage.exists() && later.exists());
    daemon.configure("later", "later", "append-only: true");
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for_line("what nobody deploys any more");
    assert!(!later.exists());
}

#[expect(clippy::disallowed_methods, reason = "the administrator's `mv`")]
fn move_away(from: &Path, to: &Path) {
    fs::rename(from, to).expect("moved");
}

/// "Already there" is looked up on the disk, not in the books.
#[test]
fn what_was_removed_behind_its_back_comes_again() {
    let publisher = Publisher::new(58);
    let [daemon] = start(&publisher, [58]);
    let all = addresses(&[&daemon]);
    let tree_of = source(&publisher, "tree", |root| plain(root, 1, 20, 1_000));
    publisher.run(&["--append", &to(&tree_of, "/data/one")], &all).expect(0);
    fs::remove_dir_all(daemon.data("data/one")).expect("it is there");
    let again = publisher.run(&["--append", &to(&tree_of, "/data/one")], &all).expect(0);
    assert_eq!(again.result(&daemon, "/data/one"), "done");
    assert_eq!(tree(&daemon.data("data/one")), tree(&tree_of));
    // The directory is configured elsewhere: the same.
    fs::create_dir(daemon.data("moved")).expect("mkdir");
    daemon.configure("data", "moved", "append-only: true");
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for_line("configuration read again");
    publisher.run(&["--append", &to(&tree_of, "/data/one")], &all).expect(0);
    assert_eq!(tree(&daemon.data("moved/one")), tree(&tree_of));
}
