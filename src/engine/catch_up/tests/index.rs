//! The index of heads against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::engine::catch_up::{HeadIndex, answer_ranges};
use crate::format::heads::{HeadHash, HeadsSum};
use crate::model::heads::{HeadRange, HeadsFingerprint, RangeAnswer};
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::vpath::VPath;

type Map = BTreeMap<VPath, ChangeId>;

fn path(n: u32) -> VPath {
    format!("/key/{n:06}").parse().expect("valid")
}

fn change(n: u32) -> ChangeId {
    ChangeId::new([n.to_le_bytes()[0]; 32])
}

fn filled(count: u32) -> HeadIndex {
    let mut index = HeadIndex::default();
    (0..count).for_each(|n| assert!(index.insert(&path(n), change(n))));
    index
}

fn between(map: &Map, from: Option<&VPath>, to: Option<&VPath>) -> Map {
    let inside = |path: &VPath| from.is_none_or(|from| from <= path) && to.is_none_or(|to| path < to);
    map.iter().filter(|(path, _)| inside(path)).map(|(path, change)| (path.clone(), *change)).collect()
}

fn fingerprint(map: &Map) -> (HeadsFingerprint, u64) {
    let mut sum = HeadsSum::default();
    sum.extend(map.iter().map(|(path, change)| HeadHash::new(path, change)));
    (sum.fingerprint(), sum.count())
}

fn check(index: &HeadIndex, map: &Map, from: Option<u32>, to: Option<u32>) {
    let (from, to) = (from.map(path), to.map(path));
    let (from, to) = (from.as_ref(), to.as_ref());
    let expected = between(map, from, to);
    let range = index.range(from, to);
    assert_eq!((range.fingerprint, range.count), fingerprint(&expected));
    let heads: Map = index.heads(from, to).map(|(path, change)| (path.clone(), change)).collect();
    assert_eq!(heads, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn like_a_map(
        steps in prop::collection::vec((0_u32..3_000, 0_u32..5), 1..2_500),
        start in 0_u32..1_500,
        asked in prop::collection::vec((prop::option::of(0_u32..3_100), prop::option::of(0_u32..3_100)), 1..20),
    ) {
        let mut index = filled(start);
        let mut map: Map = (0..start).map(|n| (path(n), change(n))).collect();
        for (n, what) in steps {
            let path = path(n);
            if what == 0 {
                prop_assert_eq!(index.remove(&path), map.remove(&path).is_some());
            } else {
                let before = map.insert(path.clone(), change(what));
                prop_assert_eq!(index.insert(&path, change(what)), before != Some(change(what)));
            }
            prop_assert_eq!(index.get(&path), map.get(&path).copied());
        }
        prop_assert_eq!((index.fingerprint(), index.len()), fingerprint(&map));
        prop_assert_eq!(index.is_empty(), map.is_empty());
        for (from, to) in asked {
            check(&index, &map, from, to);
        }
    }

    #[test]
    fn split_ranges_are_the_range(
        count in 0_u32..2_000,
        from in prop::option::of(0_u32..2_000),
        to in prop::option::of(0_u32..2_000),
        parts in 0_u64..70,
    ) {
        let index = filled(count);
        let (from, to) = (from.map(path), to.map(path));
        let ranges = index.split(from.as_ref(), to.as_ref(), parts);
        prop_assert!(ranges.len() as u64 <= parts.max(1));
        prop_assert_eq!(ranges.first().map(|range| &range.from), Some(&from));
        prop_assert_eq!(ranges.last().map(|range| &range.to), Some(&to));
        prop_assert!(ranges.windows(2).all(|pair| pair[0].to.is_some() && pair[0].to == pair[1].from));
        for range in &ranges {
            prop_assert_eq!(range, &index.range(range.from.as_ref(), range.to.as_ref()));
        }
        let total: u64 = ranges.iter().map(|range| range.count).sum();
        prop_assert_eq!(total, index.range(from.as_ref(), to.as_ref()).count);
    }
}

#[test]
fn emptied_chunks_go_away() {
    let mut index = filled(5_000);
    let mut backwards = HeadIndex::default();
    (0..5_000).rev().for_each(|n| assert!(backwards.insert(&path(n), change(n))));
    assert_eq!(index.fingerprint(), backwards.fingerprint());
    for n in 0..5_000 {
        assert!(index.remove(&path(n)) && backwards.remove(&path(n)));
    }
    assert!(index.is_empty() && backwards.is_empty());
    assert_eq!(index.fingerprint(), HeadIndex::default().fingerprint());
}

#[test]
fn answers_say_same_few_or_finer() {
    let index = filled(1_000);
    let same = index.range(None, None);
    let other = |from: Option<u32>, to: Option<u32>| HeadRange {
        fingerprint: HeadsFingerprint([9; 16]),
        ..index.range(from.map(path).as_ref(), to.map(path).as_ref())
    };
    let upside_down = other(Some(70), Some(10));
    let answers = answer_ranges(&index, &[same, other(Some(10), Some(70)), other(None, None), upside_down]);
    let [RangeAnswer::Same, RangeAnswer::Heads(heads), RangeAnswer::Finer(ranges), RangeAnswer::Heads(none)] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((heads.len(), none.len()), (60, 0));
    assert!(ranges.len() == 16 && ranges.iter().all(|range| range.count <= 64));
}

/// The longest paths: fewer answers, which still fit into a message.
#[test]
fn answers_are_bounded_in_bytes() {
    let mut index = HeadIndex::default();
    let long = |n: u32| format!("/key/{n:06}{}", format!("/{}", "x".repeat(255)).repeat(15)).parse().expect("valid");
    let paths: Vec<VPath> = (0..4_200).map(long).collect();
    for path in &paths {
        assert!(index.insert(path, change(1)));
    }
    let mut ranges = index.split(None, None, limits::HEAD_RANGES_MAX as u64);
    for range in &mut ranges {
        range.count += 1;
    }
    let answers = answer_ranges(&index, &ranges);
    assert!(!answers.is_empty() && answers.len() < ranges.len(), "{}", answers.len());
    let bytes = |answer: &RangeAnswer| match answer {
        RangeAnswer::Same => 0,
        RangeAnswer::Finer(ranges) => ranges.len() * 2 * 4_000,
        RangeAnswer::Heads(heads) => heads.len() * 4_000,
    };
    assert!(answers.iter().map(bytes).sum::<usize>() < limits::MESSAGE_BYTES_MAX);
}
