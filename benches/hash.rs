//! How fast blocks are hashed on one core, several at once and one by one: `cargo bench --bench hash`.

use std::hint::black_box;

use ciruela::format::hash::{hash_blocks, hash_one};
use ciruela::model::hash_kind::HashKind;
use ciruela::model::limits::{BLOCK_BYTES, RUN_BYTES_MAX};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Blocks that are hashed in one call.
const TOGETHER: usize = RUN_BYTES_MAX / BLOCK_BYTES;

fn hash(criterion: &mut Criterion) {
    let data: Vec<u8> = (0..8_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let whole: Vec<&[u8]> = data.chunks(BLOCK_BYTES).collect();
    let small: Vec<&[u8]> =
        data.chunks(8_500).map(|block| &block[..block.len().min(1_000 + block.as_ptr() as usize % 7_000)]).collect();
    for (name, blocks) in [("32 KiB blocks", &whole), ("small files", &small)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(blocks.iter().map(|block| block.len() as u64).sum()));
        for kind in HashKind::ALL {
            group.bench_function(format!("{kind}, together"), |b| {
                b.iter(|| blocks.chunks(TOGETHER).for_each(|some| _ = black_box(hash_blocks(kind, some))));
            });
            group.bench_function(format!("{kind}, one by one"), |b| {
                b.iter(|| blocks.iter().for_each(|block| _ = black_box(hash_one(kind, block))));
            });
        }
    }
}

criterion_group!(benches, hash);
criterion_main!(benches);
