//! How fast blocks are hashed on one core: `cargo bench --bench hash`.
//!
//! Medians of a few rounds over 64 MiB of 32 KiB blocks that are in the cache hierarchy's reach, and of small files.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use ciruela::format::hash::{hash_blocks, hash_one};
use ciruela::model::hash_kind::HashKind;

const ROUNDS: usize = 7;

#[expect(clippy::disallowed_methods, reason = "measuring time is what a bench is for")]
fn gigabytes_per_second(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut speeds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            bytes as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    speeds.sort_by(f64::total_cmp);
    speeds[ROUNDS / 2]
}

fn main() {
    let data: Vec<u8> = (0..64_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let whole: Vec<&[u8]> = data.chunks(32 << 10).collect();
    let small: Vec<&[u8]> =
        data.chunks(8_500).map(|block| &block[..block.len().min(1_000 + block.len() % 7_000)]).collect();
    let mut out = std::io::stdout().lock();
    for (name, blocks) in [("32 KiB blocks", &whole), ("small files", &small)] {
        let bytes = blocks.iter().map(|block| block.len()).sum();
        for kind in HashKind::ALL {
            let together = gigabytes_per_second(bytes, || {
                for some in blocks.chunks(32) {
                    black_box(hash_blocks(kind, some));
                }
            });
            let single = gigabytes_per_second(bytes, || {
                for block in blocks {
                    black_box(hash_one(kind, block));
                }
            });
            // A closed output ends the bench.
            if writeln!(out, "{name}, {kind}: {together:.2} GB/s together, {single:.2} GB/s one by one").is_err() {
                return;
            }
        }
    }
}
