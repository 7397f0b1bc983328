//! `remove`: gone everywhere, also from machines that were off, until something is published there again.

use std::fs;

use ciruela::model::change::Verb;
use ciruela::model::ids::ImageId;
use rustix::mount::MountFlags;
use rustix::process::Signal;
use serde_json::Value;

use super::{Said, User};
use crate::cluster::{cluster, wait_for_members};
use crate::daemon::{Daemon, tree};
use crate::e2e::wait_for_status;
use crate::mounts::{Mount, skipped};
use crate::peer::{Peer, signed};
use crate::publisher::to;
use crate::trees::{mixed, plain};

fn remove(user: &User, path: &str, daemon: &Daemon, options: &[&str]) -> Said {
    let address = daemon.address.to_string();
    user.run(&[&["remove", path, &address][..], options].concat())
}

fn events(said: &Said) -> Vec<Value> {
    said.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn wait_until_removed(daemon: &Daemon, path: &str, folder: &str) {
    wait_for_status(daemon, path, |entry| entry["state"] == "removed" && entry["visible"].is_null());
    assert!(!daemon.data(folder).exists(), "{folder} is still there");
}

/// What is visible there.
fn id(daemon: &Daemon, path: &str) -> String {
    let entry = wait_for_status(daemon, path, |entry| !entry["visible"].is_null());
    entry["visible"].as_str().expect("an id").to_owned()
}

/// Nothing is left of it beside the visible directories.
fn staged(daemon: &Daemon, folder: &str) -> usize {
    fs::read_dir(daemon.data(folder).join(".ciruela-staging")).map_or(0, Iterator::count)
}

#[test]
fn it_goes_from_all_and_stays_away_until_it_is_published_again() {
    let user = User::new(200);
    let mut daemons = cluster(&user.publisher, [200, 201, 202]);
    wait_for_members(&daemons.each_ref(), 3);
    let (first, second) = (user.folder("first"), user.folder("second"));
    mixed(&first, 1);
    plain(&second, 2, 3, 500);
    let publish = |option: &str, source: &std::path::Path, path: &str, daemon: &Daemon| {
        user.publisher.run(&[option, &to(source, path)], &[daemon.address.to_string()])
    };
    publish("--append", &first, "/data/x", &daemons[0]).expect(0);
    publish("--append", &second, "/data/y", &daemons[0]).expect(0);
    publish("--replace", &first, "/conf/x", &daemons[0]).expect(0);

    daemons[2].kill();
    let said = remove(&user, "/data/x", &daemons[0], &[]);
    said.expect(0, &["removing /data/x", "removed", "done on 2 of "]);
    let said = remove(&user, "/conf/x", &daemons[1], &["--json"]);
    said.expect(0, &[]);
    let events = events(&said);
    assert_eq!((&events[0]["event"], &events[0]["path"]), (&"removing".into(), &"/conf/x".into()));
    let ended: Vec<_> = events.iter().filter(|event| event["event"] == "ended").collect();
    assert!(ended.len() == 2 && ended.iter().all(|event| event["result"] == "removed" && event["image"].is_null()));
    assert_eq!(events.last().expect("an end")["exit_status"], 0);
    for daemon in &daemons[..2] {
        wait_until_removed(daemon, "/data/x", "data/x");
        wait_until_removed(daemon, "/conf/x", "conf-data/x");
        assert_eq!((staged(daemon, "data"), staged(daemon, "conf-data")), (0, 0));
        assert_eq!(tree(&daemon.data("data/y")), tree(&second));
    }
    let list = user.run(&["ls", &daemons[0].address.to_string()]);
    assert!(list.text().contains("/data/y") && !list.text().contains("/data/x"), "{}", list.text());
    let status = user.run(&["status", &daemons[0].address.to_string(), "/data/x"]);
    assert!(status.text().contains("removed"), "{}", status.text());
    remove(&user, "/data/x", &daemons[0], &[]).expect(3, &["nothing at /data/x"]);

    // Who was off removes it when it returns, and who is started again doesn't bring it back.
    assert!(daemons[2].data("data/x").exists());
    daemons[0].kill();
    daemons[0].spawn();
    daemons[2].spawn();
    for daemon in &daemons {
        wait_until_removed(daemon, "/data/x", "data/x");
        wait_until_removed(daemon, "/conf/x", "conf-data/x");
    }

    // Something else there, while one is off that has heard of all the rest; then the same again.
    wait_for_members(&daemons.each_ref(), 3);
    daemons[1].kill();
    publish("--append", &second, "/data/x", &daemons[0]).expect(0);
    remove(&user, "/data/x", &daemons[2], &[]).expect(0, &[]);
    publish("--append", &first, "/data/x", &daemons[0]).expect(0);
    publish("--append", &first, "/conf/x", &daemons[0]).expect(0);
    daemons[1].spawn();
    let image = id(&daemons[0], "/data/x");
    for daemon in &daemons {
        for path in ["/data/x", "/conf/x"] {
            wait_for_status(daemon, path, |entry| entry["state"] == "done" && entry["image"] == image.as_str());
        }
        assert_eq!(tree(&daemon.data("data/x")), tree(&first));
        assert_eq!(tree(&daemon.data("conf-data/x")), tree(&first));
    }
}

#[test]
fn who_was_off_has_what_came_in_the_place_of_what_was_removed() {
    let user = User::new(203);
    let mut daemons = cluster(&user.publisher, [203, 204]);
    wait_for_members(&daemons.each_ref(), 2);
    let versions = [1, 2, 3].map(|n| {
        let source = user.folder(&format!("v{n}"));
        plain(&source, n, 3, 500);
        source
    });
    let publish = |n: usize, daemon: &Daemon| {
        user.publisher.run(&["--append", &to(&versions[n], "/data/x")], &[daemon.address.to_string()]).expect(0);
    };
    publish(0, &daemons[0]);
    daemons[1].kill();
    for n in [1, 2] {
        remove(&user, "/data/x", &daemons[0], &[]).expect(0, &[]);
        publish(n, &daemons[0]);
    }
    assert_eq!(tree(&daemons[1].data("data/x")), tree(&versions[0]));
    daemons[1].spawn();
    let image = id(&daemons[0], "/data/x");
    for daemon in &daemons {
        wait_for_status(daemon, "/data/x", |entry| entry["state"] == "done" && entry["image"] == image.as_str());
        assert_eq!(tree(&daemon.data("data/x")), tree(&versions[2]));
    }
    // Where nothing was removed, what is there stays.
    let refused = user.publisher.run(&["--append", &to(&versions[0], "/data/x")], &[daemons[0].address.to_string()]);
    assert_eq!(refused.expect(3).at(&daemons[0], "/data/x")["reason"], "already_exists");
}

#[test]
fn what_cant_be_removed_says_why() {
    let user = User::new(205);
    let [daemon] = user.daemons([205]);
    let source = user.folder("source");
    plain(&source, 1, 2, 100);
    user.publish("--append", &source, "/data/x", std::slice::from_ref(&daemon));
    let other = "ab".repeat(32);
    remove(&user, "/data/x", &daemon, &["--image", &other]).expect(3, &["is not what you want to remove"]);
    remove(&user, "/data/x", &daemon, &["--cluster", "other"]).expect(3, &["signed for \"other\""]);
    remove(&user, "/data/x/d00", &daemon, &[]).expect(1, &["inside the directory /data/x"]);
    remove(&user, "/none/x", &daemon, &[]).expect(3, &["none"]);
    let stranger = User::new(206);
    remove(&stranger, "/data/x", &daemon, &[]).expect(3, &["none of your keys may remove /data/x"]);
    let mut keyless = user.command(&["remove", "/data/x", &daemon.address.to_string()]);
    keyless.env_remove("CIRUELA_KEY");
    super::said(keyless).expect(2, &["key"]);
    user.run(&["remove", "/data/x"]).expect(1, &["no entry point"]);
    assert_eq!(tree(&daemon.data("data/x")), tree(&source));

    // All of what a configuration names.
    let whole = daemon.data("whole");
    fs::create_dir(&whole).expect("mkdir");
    let config = format!("directory: {}\nnum-levels: 0\nappend-only: false\nupload-keys: [ci]\n", whole.display());
    fs::write(daemon.data("conf/configs/whole.yaml"), config).expect("written");
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("configuration read again");
    user.publish("--replace", &source, "/whole", std::slice::from_ref(&daemon));
    let said = remove(&user, "/whole", &daemon, &[]);
    said.expect(3, &["/whole is the whole directory that configs/whole.yaml names", "empty directory", "by hand"]);
    assert_eq!(tree(&whole), tree(&source));
}

/// Its client is gone before anything came.
#[test]
fn what_is_on_its_way_goes_too() {
    let user = User::new(174);
    let daemons = cluster(&user.publisher, [174, 175]);
    wait_for_members(&daemons.each_ref(), 2);
    let image = ImageId::new([7; 32]);
    for path in ["/data/x", "/data/y"] {
        let mut peer = Peer::connect(&daemons[0]);
        let answer = peer.submit(signed(user.publisher.secret(), Verb::Append, path, image));
        assert_eq!(answer.reject_reason, None);
    }
    for daemon in &daemons {
        for path in ["/data/x", "/data/y"] {
            wait_for_status(daemon, path, |entry| entry["image"] == image.to_string() && entry["state"] == "index");
        }
    }
    let said = remove(&user, "/data/x", &daemons[1], &[]);
    said.expect(0, &["removing /data/x", &image.to_string(), "on its way", "removed"]);
    let said = remove(&user, "/data/y", &daemons[1], &["--json"]);
    said.expect(0, &[]);
    let first = &events(&said)[0];
    assert_eq!((&first["event"], &first["coming"], &first["files"]), (&"removing".into(), &true.into(), &Value::Null));
    for daemon in &daemons {
        wait_until_removed(daemon, "/data/x", "data/x");
        wait_until_removed(daemon, "/data/y", "data/y");
        assert_eq!(staged(daemon, "data"), 0);
    }
    remove(&user, "/data/x", &daemons[0], &[]).expect(3, &["nothing at /data/x"]);
}

#[test]
fn it_goes_when_the_disk_lets_it_and_also_when_the_daemon_is_killed() {
    let user = User::new(207);
    let mut daemon = Daemon::prepare(207, &user.publisher.public_key());
    daemon.spawn();
    let source = user.folder("source");
    plain(&source, 1, 400, 10);
    for n in 0..3 {
        user.publish("--append", &source, &format!("/data/v{n}"), std::slice::from_ref(&daemon));
    }
    // Something that no daemon made is in the way of its staging directory.
    let staging = daemon.data("data/.ciruela-staging");
    fs::remove_dir_all(&staging).expect("removed");
    fs::write(&staging, "").expect("written");
    let said = remove(&user, "/data/v0", &daemon, &["-t", "1s"]);
    said.expect(4, &["removing"]);
    let waits = wait_for_status(&daemon, "/data/v0", |entry| !entry["waiting"].is_null());
    assert_eq!(waits["state"], "removing");
    assert!(daemon.data("data/v0").exists());
    fs::remove_file(&staging).expect("removed");
    wait_until_removed(&daemon, "/data/v0", "data/v0");
    for n in 1..3 {
        let mut command = user.command(&["remove", &format!("/data/v{n}"), &daemon.address.to_string()]);
        let mut client = command.spawn().expect("starts");
        // Whatever it has begun by then.
        wait_for_status(&daemon, &format!("/data/v{n}"), |entry| entry["state"] != "done");
        daemon.kill();
        daemon.spawn();
        wait_until_removed(&daemon, &format!("/data/v{n}"), &format!("data/v{n}"));
        assert!(client.wait().expect("ends").success());
    }
    assert_eq!(staged(&daemon, "data"), 0);
    daemon.signal(Signal::TERM);
}

#[test]
fn a_disk_that_is_not_mounted_has_lost_nothing() {
    let user = User::new(233);
    let mut daemon = Daemon::prepare(233, &user.publisher.public_key());
    let disk = user.folder("disk");
    let Some(_disk) = Mount::new(&disk, "size=8m", MountFlags::empty()) else {
        return skipped("no file system can be mounted");
    };
    let mounted = Mount::bind(&disk, &daemon.data("data")).expect("mounted before");
    daemon.spawn();
    let source = user.folder("source");
    plain(&source, 1, 10, 10);
    user.publish("--append", &source, "/data/v1", std::slice::from_ref(&daemon));
    drop(mounted);
    remove(&user, "/data/v1", &daemon, &["-t", "1s"]).expect(4, &["is its disk mounted?"]);
    let waits = wait_for_status(&daemon, "/data/v1", |entry| entry["failure"] == "missing_base");
    assert_eq!(waits["state"], "removing");
    let _mounted = Mount::bind(&disk, &daemon.data("data")).expect("mounted again");
    wait_until_removed(&daemon, "/data/v1", "data/v1");
    daemon.kill();
}
