//! What it costs to write and read what goes over the wire and onto the disk: `cargo bench --bench formats`.
//!
//! The index of 20,000 files in 200 directories, and of one file of 10 GiB; a frame with 1 MiB of blocks, and a small one.

use std::hint::black_box;

use bytes::Bytes;
use ciruela::format::index::{emit, parse};
use ciruela::format::wire::{DataResponse, Message, Request, data_response_head, decode, encode};
use ciruela::model::hash_kind::HashKind;
use ciruela::model::ids::{BlockHash, ImageId};
use ciruela::model::image::{Image, ImageBuilder};
use ciruela::model::limits::{BLOCK_BYTES, RUN_BYTES_MAX};
use ciruela::model::run::Run;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const DIRECTORIES: u32 = 200;
const FILES_EACH: u32 = 100;
const LARGE_BLOCKS: u32 = 10 << 15;

fn hash(n: u32) -> BlockHash {
    let mut hash = [0; 32];
    hash.chunks_exact_mut(4).for_each(|part| part.copy_from_slice(&n.wrapping_mul(2_654_435_761).to_le_bytes()));
    BlockHash::new(hash)
}

fn many_files() -> Image {
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("root");
    for directory in 0..DIRECTORIES {
        builder.directory(&format!("{directory:03}")).expect("in order");
        for file in 0..FILES_EACH {
            builder
                .file(&format!("{file:05}.dat"), false, 9_000, &[hash(directory * FILES_EACH + file)])
                .expect("in order");
        }
    }
    builder.finish().expect("complete")
}

fn one_file() -> Image {
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("root");
    let hashes: Vec<_> = (0..LARGE_BLOCKS).map(hash).collect();
    builder.file("file", false, u64::from(LARGE_BLOCKS) * BLOCK_BYTES as u64, &hashes).expect("fits");
    builder.finish().expect("complete")
}

fn index(criterion: &mut Criterion) {
    for (name, image) in [("index of 20,000 files", many_files()), ("index of 10 GiB", one_file())] {
        let (id, text) = emit(&image);
        assert_eq!(parse(&text).expect("genuine").0, id);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.sample_size(30);
        group.bench_function("emit", |b| b.iter(|| emit(black_box(&image))));
        group.bench_function("parse", |b| b.iter(|| parse(black_box(&text))));
    }
}

fn wire(criterion: &mut Criterion) {
    let data = vec![7; RUN_BYTES_MAX];
    let mut frame = Vec::with_capacity(2 * RUN_BYTES_MAX);
    let mut make = || {
        frame.clear();
        frame.extend(data_response_head(DataResponse::GetBlocks, 5, data.len()));
        frame.extend_from_slice(&data);
        frame.len()
    };
    let mut group = criterion.benchmark_group("frame of 1 MiB");
    group.throughput(Throughput::Bytes(RUN_BYTES_MAX as u64));
    group.bench_function("write", |b| b.iter(&mut make));
    make();
    let frame = Bytes::from(frame);
    group.bench_function("read", |b| b.iter(|| decode(black_box(&frame))));
    group.finish();

    let request = Request::GetBlocks { image: ImageId::new([1; 32]), run: Run { first: 1_000, count: 32 } };
    let message = Message::Request { id: 7, request };
    let frame = Bytes::from(encode(&message).expect("fits"));
    let mut group = criterion.benchmark_group("request for blocks");
    group.bench_function("write", |b| b.iter(|| encode(black_box(&message))));
    group.bench_function("read", |b| b.iter(|| decode(black_box(&frame))));
}

criterion_group!(benches, index, wire);
criterion_main!(benches);
