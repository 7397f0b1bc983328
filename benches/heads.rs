//! What the index of 100,000 heads costs: `cargo bench --bench heads`.

use std::hint::black_box;

use ciruela::engine::catch_up::{HeadIndex, answer_ranges};
use ciruela::model::heads::{HeadRange, HeadsFingerprint};
use ciruela::model::ids::ChangeId;
use ciruela::model::vpath::VPath;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const HEADS: u32 = 100_000;

fn path(n: u32) -> VPath {
    format!("/key/project/release-{n:07}").parse().expect("valid")
}

fn change(n: u32) -> ChangeId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&n.to_le_bytes());
    ChangeId::new(id)
}

/// Numbers below `HEADS`, each once, in no order that chunks could profit from.
fn scattered() -> impl Iterator<Item = u32> {
    (0..u64::from(HEADS)).map(|n| u32::try_from(n * 61_803 % u64::from(HEADS)).expect("small"))
}

fn full() -> HeadIndex {
    let mut index = HeadIndex::default();
    scattered().for_each(|n| assert!(index.insert(&path(n), change(n))));
    index
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("100,000 heads");
    let index = full();
    let paths: Vec<VPath> = (0..HEADS).map(path).collect();
    let mut n = 0;
    let mut next = || {
        n = (n + 61_803) % HEADS;
        n
    };

    group.sample_size(20);
    group.bench_function("fill", |b| b.iter(full));
    group.sample_size(100);
    let mut changed = index.clone();
    group.bench_function("replace one", |b| {
        b.iter(|| {
            let n = next();
            changed.insert(&paths[n as usize], change(n + 1))
        });
    });
    group.bench_function("remove and insert one", |b| {
        b.iter(|| {
            let n = next();
            changed.remove(&paths[n as usize]);
            changed.insert(&paths[n as usize], change(n))
        });
    });
    group.bench_function("fingerprint of all", |b| b.iter(|| black_box(&index).fingerprint()));
    group.bench_function("any range", |b| {
        b.iter(|| {
            let (a, z) = (next(), next());
            index.range(Some(&paths[a.min(z) as usize]), Some(&paths[a.max(z) as usize]))
        });
    });
    let asked = |range: HeadRange| HeadRange { fingerprint: HeadsFingerprint([1; 16]), ..range };
    let whole = [asked(index.range(None, None))];
    group.bench_function("answer: the whole in finer ranges", |b| b.iter(|| answer_ranges(&index, &whole)));
    let ranges: Vec<_> = index.split(None, None, 64).into_iter().map(asked).collect();
    group.bench_function("answer: 64 ranges in finer ones", |b| {
        b.iter_batched(|| ranges.clone(), |ranges| answer_ranges(&index, &ranges), BatchSize::SmallInput);
    });
}

criterion_group!(benches, heads);
criterion_main!(benches);
