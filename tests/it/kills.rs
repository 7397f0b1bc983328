//! `kill -9` at random moments of repeated replaces: what is visible is always one whole tree, and in the end the last one.
//!
//! `CIRUELA_KILLS` is the number of kills, `CIRUELA_SEED` replays the choices of a run (not the speed of the machine).

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::{Daemon, folder_in_memory, tree};
use crate::publisher::{Publisher, Running, addresses, to};
use crate::trees::{file, noise, plain};

/// Kills of a run without `CIRUELA_KILLS`.
const KILLS: u64 = 25;

type Tree = BTreeMap<String, (char, u32, Vec<u8>)>;

/// Seeded choices.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        let word = noise(self.0, 8).try_into().expect("8 bytes");
        u64::from_le_bytes(word) % bound
    }

    /// Usually short, sometimes long.
    fn delay(&mut self, up_to: Duration) -> Duration {
        let part = up_to / 1_000;
        part * u32::try_from(self.below(32) * self.below(32)).expect("small")
    }
}

/// When to kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the client was started.
    Delay(Duration),
    /// When so many files are staged, or the client says that it is over.
    Files(usize),
    /// When the client hears the first of these events from the daemon, and a little later.
    Event(&'static str, Duration),
}

/// The trees which are published in turn, and the daemons which get them.
struct Setup {
    publisher: Publisher,
    daemons: [Daemon; 2],
    /// They replace each other at one path.
    trees: [(PathBuf, Tree); 2],
    /// In each round it is added at a path of its own.
    small: (PathBuf, Tree),
    /// Each daemon's tree when it was last seen.
    visible: [Option<usize>; 2],
    random: Random,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} isn't a number: {text}")))
}

impl Setup {
    fn new(seed: u64) -> Self {
        let publisher = Publisher::new(51);
        let daemons = [51, 52].map(|number| {
            let mut daemon = Daemon::prepare_in(folder_in_memory(), number, &publisher.public_key());
            daemon.spawn();
            daemon
        });
        // About 200 files each: some in both, some in one, some with other content or another mode.
        let trees = [0_u64, 1].map(|version| {
            let root = publisher.folder.path().join(format!("tree{version}"));
            plain(&root.join("same"), 1, 60, 2_000);
            plain(&root.join("changed"), 100 + version, 80, 20_000);
            plain(&root.join(format!("only{version}")), 200 + version, 50, 100);
            file(&root.join("mode"), b"#!/bin/sh\n", if version == 0 { 0o644 } else { 0o755 });
            file(&root.join("large"), &noise(300 + version, 2 << 20), 0o644);
            let seen = tree(&root);
            (root, seen)
        });
        let root = publisher.folder.path().join("small");
        plain(&root, 400, 30, 500);
        let small = (root.clone(), tree(&root));
        Self { publisher, daemons, trees, small, visible: [None; 2], random: Random(seed) }
    }

    fn target(&self, daemon: usize) -> PathBuf {
        self.daemons[daemon].data("conf-data/site")
    }

    fn added(&self, daemon: usize, round: u64) -> PathBuf {
        self.daemons[daemon].data(&format!("data/round{round}"))
    }

    /// What is visible on a daemon that isn't running: one of the trees, whole, or nothing before the first one was.
    fn look(&mut self, daemon: usize, round: u64, when: &str) {
        let added = self.added(daemon, round);
        assert!(!added.exists() || tree(&added) == self.small.1, "{when}: the added directory isn't whole");
        let target = self.target(daemon);
        if !target.exists() {
            assert_eq!(self.visible[daemon], None, "{when}: what was visible is gone");
            return;
        }
        let found = tree(&target);
        let which = self.trees.iter().position(|(_, tree)| *tree == found);
        let which = which.unwrap_or_else(|| panic!("{when}: mixed: {}", self.differences(&found)));
        self.visible[daemon] = Some(which);
    }

    /// Which entries are neither tree's, and how many are each one's.
    fn differences(&self, found: &Tree) -> String {
        let of =
            |which: usize| found.iter().filter(|(name, entry)| self.trees[which].1.get(*name) == Some(entry)).count();
        format!("{} entries, {} of them as in tree 0 and {} as in tree 1", found.len(), of(0), of(1))
    }

    fn publish(&self, round: u64, which: usize) -> Running {
        let replace = to(&self.trees[which].0, "/conf/site");
        let append = to(&self.small.0, &format!("/data/round{round}"));
        self.publisher.start(&["--replace", &replace, "--append", &append], &addresses(&self.daemons.each_ref()))
    }

    /// Everything of that round is there.
    fn check_end(&mut self, round: u64, which: usize, when: &str) {
        for daemon in 0..2 {
            assert_eq!(tree(&self.target(daemon)), self.trees[which].1, "{when}: not there in the end");
            assert_eq!(tree(&self.added(daemon, round)), self.small.1, "{when}: not there in the end");
            self.visible[daemon] = Some(which);
        }
    }

    fn moment(&mut self) -> Moment {
        let random = &mut self.random;
        match random.below(4) {
            0 => Moment::Delay(random.delay(Duration::from_millis(200))),
            1 => Moment::Files(usize::try_from(random.below(190)).expect("small")),
            2 => Moment::Event("accepted", random.delay(Duration::from_millis(100))),
            _ => Moment::Event("progress", random.delay(Duration::from_millis(100))),
        }
    }

    fn wait(&self, victim: usize, moment: Moment, client: &mut Running) {
        match moment {
            Moment::Delay(delay) => std::thread::sleep(delay),
            Moment::Files(count) => {
                let staging = self.daemons[victim].data("conf-data/.ciruela-staging");
                while files(&staging) < count && !client.is_over() {
                    std::thread::yield_now();
                }
            }
            Moment::Event(kind, delay) => {
                let address = self.daemons[victim].address.to_string();
                client.wait_for(kind, |event| {
                    (event["event"] == kind || event["event"] == "ended") && event["address"] == address.as_str()
                });
                std::thread::sleep(delay);
            }
        }
    }

    /// Publishes one tree and kills one daemon meanwhile, perhaps again while it starts, perhaps the client, too.
    fn round(&mut self, round: u64, which: usize) {
        let victim = usize::try_from(self.random.below(2)).expect("small");
        let moment = self.moment();
        let when = format!("round {round}, tree {which}, daemon {victim} killed at {moment:?}");
        let mut client = self.publish(round, which);
        self.wait(victim, moment, &mut client);
        self.daemons[victim].kill();
        self.look(victim, round, &when);
        while self.random.below(4) == 0 {
            let delay = self.random.delay(Duration::from_millis(50));
            self.daemons[victim].launch();
            std::thread::sleep(delay);
            self.daemons[victim].kill();
            self.look(victim, round, &format!("{when}, and again {delay:?} after the start"));
        }
        self.daemons[victim].spawn();
        if self.random.below(4) == 0 {
            client.kill();
        } else {
            client.end().expect(0);
            self.check_end(round, which, &when);
        }
    }
}

/// Files below a directory that somebody else changes meanwhile.
fn files(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) => usize::from(kind.is_file()),
        Err(_) => 0,
    };
    entries.map_while(Result::ok).map(count).sum()
}

#[test]
#[expect(clippy::print_stderr, reason = "a failure must be replayed")]
fn one_whole_tree_is_visible_whenever_a_daemon_is_killed() {
    let seed = number("CIRUELA_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 16);
    let kills = number("CIRUELA_KILLS").unwrap_or(KILLS);
    eprintln!("CIRUELA_SEED={seed} CIRUELA_KILLS={kills}");
    let mut setup = Setup::new(seed);
    for round in 0..kills {
        setup.round(round, usize::try_from(round % 2).expect("small"));
    }
    // Rounds whose client was killed are finished, too. Of the replaces only the last one is still wanted.
    for round in 0..kills {
        let which = usize::try_from(round % 2).expect("small");
        if round + 1 == kills || !(0..2).all(|daemon| setup.added(daemon, round).exists()) {
            setup.publish(round, which).end().expect(0);
            setup.check_end(round, which, &format!("seed {seed}, after all"));
        }
    }
    for daemon in &mut setup.daemons {
        daemon.kill();
        daemon.spawn();
        crate::e2e::wait_until_done(daemon);
        let staging = daemon.data("conf-data/.ciruela-staging");
        assert_eq!(files(&staging), 0, "seed {seed}: nothing is left over");
    }
}
