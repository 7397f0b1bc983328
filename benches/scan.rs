//! How fast directories are indexed: `cargo bench --bench scan [FOLDER]` (default `/dev/shm`, 2 GiB free there).
//!
//! Against four yardsticks in the same rounds, the contestants taking turns: the rate of the hash alone on all cores, a
//! hasher per file with RustCrypto's `blake2`, one thread per core (what other writers of the format do), a bare parallel walk
//! with `lstat`, and that walk and reading all files without hashing. Medians, least and most of seven rounds.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest as _};
use ciruela::driver::scan::{Scan, ScanCache, ScanOptions, scan};
use ciruela::format::hash::hash_blocks;
use ciruela::model::hash_kind::HashKind;
use ciruela::model::limits::BLOCK_BYTES;
use ciruela::model::time::Stamp;

const ROUNDS: usize = 7;
const LARGE_BYTES: usize = 1 << 30;
const SMALL_FILES: usize = 20_000;

#[expect(clippy::disallowed_methods, reason = "measuring time is what a bench is for")]
fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Seconds of each round.
struct Rounds(Vec<f64>);

impl Rounds {
    fn at(&self, place: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[place]
    }

    fn median(&self) -> f64 {
        self.at(ROUNDS / 2)
    }

    fn milliseconds(&self) -> String {
        let [median, least, most] = [self.median(), self.at(0), self.at(ROUNDS - 1)].map(|s| s * 1e3);
        format!("{median:.1} ({least:.1}–{most:.1})")
    }
}

/// Lets the contestants take turns.
fn race<const N: usize>(contestants: [&dyn Fn(); N]) -> [Rounds; N] {
    let mut rounds = [const { Rounds(Vec::new()) }; N];
    for round in 0..ROUNDS {
        for turn in 0..N {
            let who = (turn + round) % N;
            rounds[who].0.push(seconds(contestants[who]));
        }
    }
    rounds
}

fn content(len: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All cores hash blocks which are in their caches, as many bytes in all as are given.
fn hash_only(bytes: usize, data: &[u8]) {
    let blocks: Vec<&[u8]> = data.chunks(BLOCK_BYTES).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                for _ in 0..bytes / threads() / data.len() {
                    black_box(hash_blocks(HashKind::Blake2b256, &blocks));
                }
            });
        }
    });
}

/// Each thread opens the next file, and has room for a block.
fn each_file(files: &[PathBuf], work: impl Fn(File, &mut [u8]) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                let mut block = vec![0; BLOCK_BYTES];
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(File::open(path).expect("readable"), &mut block);
                }
            });
        }
    });
}

/// What a simple writer of the format does: a hasher is fed block by block.
fn hasher_per_file(files: &[PathBuf]) {
    each_file(files, |mut file, block| {
        loop {
            let mut filled = 0;
            while filled < block.len() {
                match file.read(&mut block[filled..]).expect("readable") {
                    0 => break,
                    read => filled += read,
                }
            }
            if filled == 0 {
                break;
            }
            black_box(Blake2b::<U32>::digest(&block[..filled]));
        }
    });
}

/// Each file opened, looked at and read once: with a walk before it, what can't be left out besides hashing.
fn read_only(files: &[PathBuf]) {
    each_file(files, |mut file, block| {
        let status = file.metadata().expect("readable");
        black_box((file.read(block).expect("readable"), status.len()));
    });
}

/// Every entry's name and status, nothing kept.
fn bare_walk(root: &Path) {
    let queue = Mutex::new((vec![root.to_owned()], 0_usize));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let next = {
                        let mut queue = queue.lock().expect("no panics");
                        let next = queue.0.pop();
                        if next.is_none() && queue.1 == 0 {
                            return;
                        }
                        queue.1 += usize::from(next.is_some());
                        next
                    };
                    let Some(folder) = next else {
                        std::thread::yield_now();
                        continue;
                    };
                    let mut below = Vec::new();
                    for entry in fs::read_dir(&folder).expect("readable") {
                        let entry = entry.expect("readable");
                        if black_box(entry.metadata().expect("readable")).is_dir() {
                            below.push(entry.path());
                        }
                    }
                    let mut queue = queue.lock().expect("no panics");
                    queue.0.append(&mut below);
                    queue.1 -= 1;
                }
            });
        }
    });
}

fn scanned(root: &Path, cache: Option<ScanCache>) -> Scan {
    scan(root, &ScanOptions { cache, ..ScanOptions::default() }, &|_| ()).expect("readable")
}

fn main() {
    let work = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_else(|| "/dev/shm".to_owned());
    let folder = tempfile::tempdir_in(work).expect("a temporary folder");
    let (large, small, cache) = (folder.path().join("large"), folder.path().join("small"), folder.path().join("cache"));
    fs::create_dir(&large).expect("mkdir");
    let mut file = File::create(large.join("file")).expect("create");
    for part in 0..LARGE_BYTES >> 20 {
        file.write_all(&content(1 << 20, part)).expect("write");
    }
    let mut files = Vec::new();
    let mut small_bytes = 0;
    for number in 0..SMALL_FILES {
        let path = small.join(format!("{:02}/{}/{number}", number / 1000, number / 100 % 10));
        fs::create_dir_all(path.parent().expect("below")).expect("mkdir");
        let bytes = content((1 << 10) + number * 7_919 % (15 << 10), number);
        small_bytes += bytes.len();
        fs::write(&path, bytes).expect("write");
        files.push(path);
    }
    // As if all had been written some time ago.
    let cache = || Some(ScanCache { folder: cache.clone(), now: Stamp(u64::MAX) });
    scanned(&small, cache());

    let data = content(64 * BLOCK_BYTES, 1);
    let mut text = format!("{} cores, milliseconds: median (least–most)\n", threads());
    let [hash, ours, theirs] = race([&|| hash_only(LARGE_BYTES, &data), &|| drop(scanned(&large, None)), &|| {
        hasher_per_file(&[large.join("file")]);
    }]);
    let line = |text: &mut String, what: &str, rounds: &Rounds, note: String| {
        writeln!(text, "  {what:<40} {:>22}  {note}", rounds.milliseconds()).expect("a string");
    };
    writeln!(text, "one file of 1 GiB").expect("a string");
    line(&mut text, "the hash alone, all cores", &hash, String::new());
    line(&mut text, "index", &ours, format!("{:.2} of the hash's rate", hash.median() / ours.median()));
    line(&mut text, "a hasher per file", &theirs, format!("{:.1} times index", theirs.median() / ours.median()));
    let [hash, ours, theirs, reading] = race([
        &|| hash_only(small_bytes, &data),
        &|| drop(scanned(&small, None)),
        &|| {
            bare_walk(&small);
            hasher_per_file(&files);
        },
        &|| {
            bare_walk(&small);
            read_only(&files);
        },
    ]);
    writeln!(text, "20,000 files of 1 to 16 KiB").expect("a string");
    line(&mut text, "the hash alone, all cores", &hash, String::new());
    line(&mut text, "index", &ours, format!("{:.2} of the hash's rate", hash.median() / ours.median()));
    line(
        &mut text,
        "a walk, and a hasher per file",
        &theirs,
        format!("{:.1} times index", theirs.median() / ours.median()),
    );
    let floor = reading.median() + hash.median();
    line(
        &mut text,
        "a walk, and reading alone",
        &reading,
        format!("with the hash {:.2} of index", floor / ours.median()),
    );
    let [walk, ours] = race([&|| bare_walk(&small), &|| {
        assert_eq!(scanned(&small, cache()).stats.unchanged_files, SMALL_FILES);
    }]);
    writeln!(text, "the same, unchanged").expect("a string");
    line(&mut text, "a walk with lstat, all cores", &walk, String::new());
    line(&mut text, "index", &ours, format!("{:.2} times the walk", ours.median() / walk.median()));
    std::io::stdout().lock().write_all(text.as_bytes()).expect("written");
}
