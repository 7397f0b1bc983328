//! Many clients and many directories at once, while daemons are killed and restarted: all ends well, everything is
//! everywhere, and no daemon takes more memory or files than it should.
//!
//! `CIRUELA_LOAD` is the number of directories that each of the clients publishes.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::cluster::{join, wait_for_members};
use crate::daemon::{Daemon, folder_in_memory, tree};
use crate::e2e::wait_for_status;
use crate::patience;
use crate::publisher::{Publisher, addresses, to};
use crate::trees::{file, noise, plain};

const CLIENTS: usize = 20;
/// Directories of each client without `CIRUELA_LOAD`.
const EACH: usize = 10;
/// After so many further directories the next daemon is restarted.
const BETWEEN_RESTARTS: usize = 20;
/// Kilobytes that a daemon may have needed at any time, and files that it may have open.
const PEAK_KB_MAX: u64 = 200_000;
const FILES_MAX: usize = 400;

/// What one client publishes: some files that all directories share, and some of its own.
fn directory(publisher: &Publisher, client: usize, number: usize) -> (PathBuf, String) {
    let name = format!("c{client}n{number}");
    let root = publisher.folder.path().join(&name);
    plain(&root.join("shared"), 1, 5, 4_000);
    let seed = (client * 1_000 + number) as u64;
    plain(&root.join("own"), 100 + seed, 1 + number % 7, 10_000);
    file(&root.join("large"), &noise(seed, 100_000 * (number % 3)), 0o755);
    (root, name)
}

fn files(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("it runs").count()
}

fn peak_kb(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn check_bounds(daemon: &Daemon) {
    let (files, peak) = (files(daemon), peak_kb(daemon));
    assert!(files <= FILES_MAX, "{files} files are open");
    assert!(peak <= PEAK_KB_MAX, "{peak} kB");
}

#[test]
fn two_hundred_directories_are_published_by_twenty_clients_while_daemons_restart() {
    let each = std::env::var("CIRUELA_LOAD").map_or(EACH, |text| text.parse().expect("a number"));
    let publisher = Publisher::new(160);
    let mut first = None;
    let mut daemons = [160, 161, 162, 163, 164].map(|number| {
        let mut daemon = Daemon::prepare_in(folder_in_memory(), number, &publisher.public_key());
        join(&mut daemon, first);
        first = first.or(Some(daemon.address));
        daemon
    });
    wait_for_members(&daemons.each_ref(), 5);
    let entry_points = addresses(&daemons.each_ref());
    let (published, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = |client: usize| {
        let mut entry_points = entry_points.clone();
        for number in 0..each {
            let (root, name) = directory(&publisher, client, number);
            entry_points.rotate_left(1);
            publisher.run(&["--append", &to(&root, &format!("/data/{name}"))], &entry_points[..3]).expect(0);
            published.fetch_add(1, Ordering::SeqCst);
        }
        ended.fetch_add(1, Ordering::SeqCst);
    };
    let mut restarts = 0;
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            std::thread::Builder::new().spawn_scoped(scope, move || client(number)).expect("starts");
        }
        let all = CLIENTS * each;
        for next in (BETWEEN_RESTARTS..all).step_by(BETWEEN_RESTARTS) {
            let seen = || published.load(Ordering::SeqCst);
            patience::until(|| (seen() >= next).then_some(()), || format!("{} of {all} are published", seen()));
            daemons.iter().for_each(check_bounds);
            let daemon = &mut daemons[restarts % 5];
            // Every other one has the time to say goodbye.
            daemon.signal(if restarts % 2 == 0 { Signal::KILL } else { Signal::TERM });
            daemon.wait();
            daemon.spawn();
            restarts += 1;
        }
    });
    assert_eq!(ended.load(Ordering::SeqCst), CLIENTS);
    for client in 0..CLIENTS {
        for number in 0..each {
            let name = format!("c{client}n{number}");
            let expected = tree(&publisher.folder.path().join(&name));
            for daemon in &daemons {
                wait_for_status(daemon, &format!("/data/{name}"), |entry| entry["state"] == "done");
                assert_eq!(tree(&daemon.data(&format!("data/{name}"))), expected, "{name}");
            }
        }
    }
    daemons.iter().for_each(check_bounds);
    for daemon in &mut daemons {
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success());
        assert_eq!(fs::read_dir(daemon.data("data/.ciruela-staging")).expect("it is there").count(), 0);
    }
}
