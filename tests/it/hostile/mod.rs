//! A real daemon against whoever means it harm: it goes on serving others, and its memory stays bounded.

mod content;
mod frames;
mod local;

use std::fs;
use std::path::PathBuf;

use crate::daemon::{Daemon, folder_in_memory, tree};
use crate::publisher::{Publisher, addresses, to};
use crate::trees::plain;

/// Kilobytes that a daemon may have needed at any time, whatever was done to it. Idle it takes some 15 MB.
const PEAK_KB_MAX: u64 = 200_000;

/// A daemon and an honest client of it.
struct Setup {
    daemon: Daemon,
    publisher: Publisher,
    root: PathBuf,
    published: usize,
}

impl Setup {
    fn new(number: u8) -> Self {
        Self::with(number, |_| ())
    }

    fn with(number: u8, change: impl FnOnce(&mut Daemon)) -> Self {
        let publisher = Publisher::new(number);
        let mut daemon = Daemon::prepare(number, &publisher.public_key());
        change(&mut daemon);
        Self::of(publisher, daemon)
    }

    /// The same, all in memory.
    fn in_memory(number: u8) -> Self {
        let publisher = Publisher::new(number);
        let daemon = Daemon::prepare_in(folder_in_memory(), number, &publisher.public_key());
        Self::of(publisher, daemon)
    }

    fn of(publisher: Publisher, mut daemon: Daemon) -> Self {
        daemon.spawn();
        let root = publisher.folder.path().join("tree");
        plain(&root, publisher.public_key().len() as u64, 5, 40_000);
        Self { daemon, publisher, root, published: 0 }
    }

    /// It serves others as if nothing had happened, and has not taken too much memory.
    #[track_caller]
    fn still_serves(&mut self) {
        self.published += 1;
        let name = format!("honest{}", self.published);
        let append = to(&self.root, &format!("/data/{name}"));
        self.publisher.run(&["--append", &append], &addresses(&[&self.daemon])).expect(0);
        assert_eq!(tree(&self.daemon.data("data").join(name)), tree(&self.root));
        assert!(self.daemon.get("/metrics").contains("ciruela_connections"));
        let peak = self.peak_kb();
        assert!(peak < PEAK_KB_MAX, "{peak} kB");
    }

    /// The most memory that the daemon ever had.
    fn peak_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}
