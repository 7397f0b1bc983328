//! What this machine can do, against which everything else is measured: `cargo run --release --example machine`.
//!
//! Prints medians of a few rounds: the hash, a copy in memory, reading and writing a file in `--work` (a tmpfs unless told),
//! TCP over loopback. With `parts FILE FOLDER...` it instead does what no program can leave out that gives each folder a
//! verified copy of the file over the network: reads it, hashes it, reads it again and sends it once to each; each receiver
//! hashes what it gets in memory and writes it. `benches/rsync_compare.py` sets the processors' seconds of that beside
//! those of the daemons and the client. `swarm FILE FOLDER...` sends each byte once only: whoever gets it passes it on to the
//! others, with the masks of RFC 6455.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use ciruela::format::hash::hash_blocks;
use ciruela::model::hash_kind::HashKind;
use ciruela::model::limits::{BLOCK_BYTES, RUN_BYTES_MAX};

const ROUNDS: usize = 5;
const FILE_BYTES: u64 = 1 << 30;
const THREADS: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match &words[..] {
        ["parts", file, folders @ ..] if !folders.is_empty() => parts(Path::new(file), folders),
        ["swarm", file, folders @ ..] if !folders.is_empty() => swarm(Path::new(file), folders),
        [] => table(Path::new("/dev/shm")),
        ["--work", work] => table(Path::new(work)),
        _ => Err(io::Error::other("usage: machine [--work FOLDER] | machine parts|swarm FILE FOLDER...")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "machine: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(work: &Path) -> io::Result<()> {
    let folder = tempfile::tempdir_in(work)?;
    let path = folder.path().join("file");
    let mut out = io::stdout().lock();
    let memory: Vec<u8> = (0..64_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let size = memory.len() as u64;
    let mut copy = vec![0; memory.len()];
    writeln!(out, "| what | GB/s |\n|---|---|")?;
    let mut row = |name: &str, bytes: u64, work: &mut dyn FnMut() -> io::Result<()>| {
        let speed = gigabytes_per_second(bytes, work)?;
        writeln!(out, "| {name} | {speed:.2} |")
    };
    for kind in HashKind::ALL {
        row(&format!("{kind}, one core"), size, &mut || {
            hash(kind, &memory);
            Ok(())
        })?;
    }
    row("copy in memory", size, &mut || {
        copy.copy_from_slice(black_box(&memory));
        black_box(&copy);
        Ok(())
    })?;
    row(&format!("write a new file in {}", work.display()), FILE_BYTES, &mut || {
        let _ = fs::remove_file(&path);
        let file = File::create_new(&path)?;
        let run = &memory[..RUN_BYTES_MAX];
        (0..FILE_BYTES).step_by(RUN_BYTES_MAX).try_for_each(|offset| file.write_all_at(run, offset))
    })?;
    row("read it", FILE_BYTES, &mut || {
        let file = File::open(&path)?;
        let mut run = vec![0; RUN_BYTES_MAX];
        (0..FILE_BYTES).step_by(RUN_BYTES_MAX).try_for_each(|offset| file.read_exact_at(&mut run, offset))
    })?;
    for connections in [1, 3] {
        let bytes = FILE_BYTES * connections;
        row(&format!("TCP over loopback, connections: {connections}"), bytes, &mut || tcp(connections))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what a bench is for")]
fn gigabytes_per_second(bytes: u64, work: &mut dyn FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut speeds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        speeds.push(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    speeds.sort_by(f64::total_cmp);
    Ok(speeds[ROUNDS / 2])
}

fn hash(kind: HashKind, bytes: &[u8]) {
    for run in bytes.chunks(RUN_BYTES_MAX) {
        black_box(hash_blocks(kind, &run.chunks(BLOCK_BYTES).collect::<Vec<_>>()));
    }
}

fn tcp(connections: u64) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    thread::scope(|scope| {
        let mut all = Vec::new();
        for _ in 0..connections {
            let mut sender = TcpStream::connect(listener.local_addr()?)?;
            let (mut receiver, _) = listener.accept()?;
            all.push(scope.spawn(move || {
                let run = vec![7; RUN_BYTES_MAX];
                (0..FILE_BYTES).step_by(RUN_BYTES_MAX).try_for_each(|_| sender.write_all(&run))
            }));
            all.push(scope.spawn(move || {
                let mut run = vec![0; RUN_BYTES_MAX];
                (0..FILE_BYTES).step_by(RUN_BYTES_MAX).try_for_each(|_| receiver.read_exact(&mut run))
            }));
        }
        all.into_iter().try_for_each(joined)
    })
}

/// The parts of a deployment that can't be left out, on as many threads as are of use.
fn parts(path: &Path, folders: &[&str]) -> io::Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    index(&file, size)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut senders = Vec::new();
    thread::scope(|scope| {
        let mut all = Vec::new();
        for folder in folders {
            senders.push(TcpStream::connect(listener.local_addr()?)?);
            let (receiver, _) = listener.accept()?;
            let target = File::create_new(PathBuf::from(folder).join("file"))?;
            all.push(scope.spawn(move || receive(receiver, false, &target, runs(size), Vec::new())));
        }
        let mut run = vec![0; RUN_BYTES_MAX];
        for (offset, len) in runs(size) {
            file.read_exact_at(&mut run[..len], offset)?;
            senders.iter_mut().try_for_each(|sender| sender.write_all(&run[..len]))?;
        }
        all.into_iter().try_for_each(joined)
    })
}

/// Reads and hashes all.
fn index(file: &File, size: u64) -> io::Result<()> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut run = vec![0; RUN_BYTES_MAX];
        loop {
            let offset = next.fetch_add(RUN_BYTES_MAX as u64, Ordering::Relaxed);
            let Some((_, len)) = runs(size).nth(usize::try_from(offset).unwrap_or(usize::MAX) / RUN_BYTES_MAX) else {
                return Ok(());
            };
            file.read_exact_at(&mut run[..len], offset)?;
            hash(HashKind::default(), &run[..len]);
        }
    };
    thread::scope(|scope| (0..THREADS).map(|_| scope.spawn(work)).collect::<Vec<_>>().into_iter().try_for_each(joined))
}

/// The same as [`parts`], where nodes pass on to each other what the client sends once. The least that this takes: nobody asks or waits
/// for an answer, what is passed on is at hand, and each way has a connection and a thread of its own.
fn swarm(path: &Path, folders: &[&str]) -> io::Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    index(&file, size)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connection = || Ok::<_, io::Error>((TcpStream::connect(listener.local_addr()?)?, listener.accept()?.0));
    let targets = folders.iter().map(|folder| File::create_new(PathBuf::from(folder).join("file")));
    let targets = targets.collect::<io::Result<Vec<_>>>()?;
    let share = |node: usize| runs(size).skip(node).step_by(targets.len());
    thread::scope(|scope| {
        let (mut all, mut senders) = (Vec::new(), Vec::new());
        for (node, target) in targets.iter().enumerate() {
            let mut others = Vec::new();
            for (other, target) in targets.iter().enumerate().filter(|(other, _)| *other != node) {
                let (to, from) = connection()?;
                // Of two nodes, one has opened their connection: it masks what it sends.
                let masked = node < other;
                others.push((to, masked));
                all.push(scope.spawn(move || receive(from, masked, target, share(node), Vec::new())));
            }
            let (to, from) = connection()?;
            senders.push(to);
            all.push(scope.spawn(move || receive(from, true, target, share(node), others)));
        }
        let mut run = vec![0; RUN_BYTES_MAX];
        for (number, (offset, len)) in runs(size).enumerate() {
            file.read_exact_at(&mut run[..len], offset)?;
            mask(&mut run[..len]);
            senders[number % targets.len()].write_all(&run[..len])?;
        }
        all.into_iter().try_for_each(joined)
    })
}

/// Receives, hashes, writes, and passes on to others.
fn receive(
    mut from: TcpStream,
    masked: bool,
    file: &File,
    runs: impl Iterator<Item = (u64, usize)>,
    mut others: Vec<(TcpStream, bool)>,
) -> io::Result<()> {
    let (mut run, mut copy) = (vec![0; RUN_BYTES_MAX], vec![0; RUN_BYTES_MAX]);
    for (offset, len) in runs {
        from.read_exact(&mut run[..len])?;
        if masked {
            mask(&mut run[..len]);
        }
        hash(HashKind::default(), &run[..len]);
        file.write_all_at(&run[..len], offset)?;
        for (to, masked) in &mut others {
            if *masked {
                copy[..len].copy_from_slice(&run[..len]);
                mask(&mut copy[..len]);
            }
            to.write_all(if *masked { &copy[..len] } else { &run[..len] })?;
        }
    }
    Ok(())
}

/// Section 5.3, with any key.
fn mask(bytes: &mut [u8]) {
    for word in bytes.as_chunks_mut::<4>().0 {
        *word = (u32::from_ne_bytes(*word) ^ 0x1234_5678).to_ne_bytes();
    }
}

/// Where each run begins, and its length.
fn runs(size: u64) -> impl Iterator<Item = (u64, usize)> {
    let run = RUN_BYTES_MAX as u64;
    (0..size)
        .step_by(RUN_BYTES_MAX)
        .map(move |offset| (offset, usize::try_from(run.min(size - offset)).unwrap_or(RUN_BYTES_MAX)))
}

fn joined(thread: ScopedJoinHandle<'_, io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}
