//! Several real daemons which know each other: what one is told, all get.

use std::fs;
use std::path::Path;

use crate::daemon::{Daemon, tree};
use crate::e2e::wait_for_status;
use crate::publisher::{Publisher, to};
use crate::trees::mixed;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

/// Daemons with one key, of which each knows the first.
pub(super) fn cluster<const N: usize>(publisher: &Publisher, numbers: [u8; N]) -> [Daemon; N] {
    let mut first = None;
    numbers.map(|number| {
        let mut daemon = Daemon::prepare(number, &publisher.public_key());
        join(&mut daemon, first);
        first = first.or(Some(daemon.address));
        daemon
    })
}

/// Starts a daemon that knows this peer.
pub(super) fn join(daemon: &mut Daemon, peer: Option<std::net::SocketAddr>) {
    write(daemon, "cluster.key", KEY);
    if let Some(peer) = peer {
        write(daemon, "peers.txt", &format!("{peer}\n"));
    }
    daemon.spawn();
}

fn write(daemon: &Daemon, name: &str, text: &str) {
    fs::write(daemon.folder.path().join("conf").join(name), text).expect("write");
}

pub(super) fn source(publisher: &Publisher, name: &str, fill: impl FnOnce(&Path)) -> std::path::PathBuf {
    let root = publisher.folder.path().join(name);
    fs::create_dir(&root).expect("mkdir");
    fill(&root);
    root
}

/// Waits until the tree is visible on each of them.
pub(super) fn wait_for_all(daemons: &[&Daemon], path: &str, folder: &str, source: &Path) {
    let expected = tree(source);
    for daemon in daemons {
        wait_for_status(daemon, path, |entry| entry["state"] == "done");
        assert_eq!(tree(&daemon.data(folder)), expected);
    }
}

#[test]
fn what_one_node_is_told_all_get() {
    let publisher = Publisher::new(101);
    let daemons = cluster(&publisher, [101, 102, 103, 104, 105]);
    let source = source(&publisher, "first", |root| mixed(root, 1));
    let entry = daemons[0].address.to_string();
    publisher.run(&["--append", &to(&source, "/data/mixed")], &[entry]).expect(0);
    wait_for_all(&daemons.each_ref(), "/data/mixed", "data/mixed", &source);
}
