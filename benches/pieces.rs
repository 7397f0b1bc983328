//! What choosing costs: `cargo bench --bench pieces`.
//!
//! All of it is measured through the engine's door, with answers and stored blocks: the time per piece of a whole fetch from
//! ten neighbours, and of an announcement.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::fetch::{Answer, Effect, Fetches, Input, Question};
use ciruela::model::block_set::BlockSet;
use ciruela::model::directory::DirectoryConfig;
use ciruela::model::hash_kind::HashKind;
use ciruela::model::ids::{BlockHash, ImageId};
use ciruela::model::image::{Image, ImageBuilder, blocks_of};
use ciruela::model::limits;
use ciruela::model::peer::ConnectionId;
use ciruela::model::piece::{PieceSet, Pieces};
use ciruela::model::time::Now;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const IMAGE: ImageId = ImageId::new([1; 32]);
const NEIGHBOURS: u64 = 10;
static BYTES: [u8; limits::RUN_BYTES_MAX] = [0; limits::RUN_BYTES_MAX];

fn image(blocks: usize) -> Arc<Image> {
    let bytes = (blocks * limits::BLOCK_BYTES) as u64;
    assert_eq!(blocks_of(bytes), blocks as u64);
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("root");
    builder.file("file", false, bytes, &vec![BlockHash::new([0; 32]); blocks]).expect("file");
    Arc::new(builder.finish().expect("complete"))
}

/// An engine that wants all of the image, and ten neighbours of which each has two thirds of it.
fn engine(image: &Arc<Image>) -> (Fetches, Outbox<Effect>) {
    let (mut engine, mut outbox) = (Fetches::new(1), Outbox::new());
    let count = Pieces::of(image).count();
    for neighbour in 0..NEIGHBOURS {
        let mut has = PieceSet::none(count);
        let number = u32::try_from(neighbour).expect("few");
        (0..count).filter(|piece| (piece / 7 + number) % 3 != 0).for_each(|piece| _ = has.insert(piece));
        let (connection, have) = (ConnectionId(neighbour), has.to_bytes().into());
        engine.handle(Now::default(), Input::Pieces { connection, image: IMAGE, count, have }, &mut outbox);
    }
    let directory = DirectoryConfig::plain("key", "/srv");
    let path = "/key/image".parse().expect("valid");
    let have = BlockSet::none(image.block_count());
    let (directory, image) = (Arc::new(directory), image.clone());
    engine.handle(Now::default(), Input::Start { path, directory, id: IMAGE, image, have }, &mut outbox);
    (engine, outbox)
}

/// Answers and stores everything until the image is there.
fn fetch(image: &Image, (mut engine, outbox): (Fetches, Outbox<Effect>)) -> usize {
    let mut todo: VecDeque<Effect> = outbox.collect();
    let mut announced = 0;
    while let Some(effect) = todo.pop_front() {
        let input = match effect {
            Effect::Ask { connection, question } => {
                let Question::Run { run, .. } = &question else { continue };
                let bytes = run.bytes(image).expect("in the image");
                let answer = Ok(Answer::Data(Bytes::from_static(&BYTES[..bytes])));
                Input::Answered { connection, question, answer }
            }
            Effect::Store { path, run, .. } => Input::Stored { path, run, result: Ok(Vec::new()) },
            Effect::Announce { pieces, .. } => {
                announced += pieces.len();
                continue;
            }
            Effect::CheckIndex { .. }
            | Effect::Share { .. }
            | Effect::TellCorrupt { .. }
            | Effect::Finished { .. }
            | Effect::Failed { .. }
            | Effect::Cancelled { .. }
            | Effect::Dropped { .. } => continue,
        };
        let mut outbox = Outbox::new();
        engine.handle(Now::default(), input, &mut outbox);
        todo.extend(outbox);
    }
    announced
}

fn benches(criterion: &mut Criterion) {
    for (name, blocks) in [("1,000 pieces", 8_000), ("65,536 blocks", 65_536)] {
        let image = image(blocks);
        let count = Pieces::of(&image).count();
        let mut group = criterion.benchmark_group(format!("{name}, {NEIGHBOURS} neighbours"));
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function("fetch, per piece", |bencher| {
            bencher.iter_batched(|| engine(&image), |engine| fetch(&image, engine), BatchSize::LargeInput);
        });
        group.bench_function("have, per piece", |bencher| {
            let announce = |(mut engine, _): (Fetches, Outbox<Effect>)| {
                let mut outbox = Outbox::new();
                for piece in 0..count {
                    let (connection, pieces) = (ConnectionId(u64::from(piece) % NEIGHBOURS), vec![piece]);
                    engine.handle(Now::default(), Input::Have { connection, image: IMAGE, pieces }, &mut outbox);
                }
                engine
            };
            bencher.iter_batched(|| engine(&image), announce, BatchSize::LargeInput);
        });
    }
}

criterion_group!(pieces, benches);
criterion_main!(pieces);
