//! The side which is asked: it keeps no state, so any number of nodes may ask at once, in both directions.

use super::HeadIndex;
use crate::model::heads::{HeadRange, RangeAnswer};
use crate::model::limits;
use crate::model::vpath::VPath;

/// What each range is here. Ends early, but not before the first answer, when more wouldn't fit into a message: the
/// others are asked for again.
pub fn answer_ranges(index: &HeadIndex, ranges: &[HeadRange]) -> Vec<RangeAnswer> {
    let mut bytes = 0;
    let mut answers = Vec::new();
    for range in ranges.iter().take(limits::HEAD_RANGES_MAX) {
        let answer = answer(index, range);
        bytes += bytes_of(&answer);
        if bytes > limits::HEAD_ANSWERS_BYTES_MAX && !answers.is_empty() {
            break;
        }
        answers.push(answer);
    }
    answers
}

fn answer(index: &HeadIndex, range: &HeadRange) -> RangeAnswer {
    let (from, to) = (range.from.as_ref(), range.to.as_ref());
    let here = index.range(from, to);
    if (here.fingerprint, here.count) == (range.fingerprint, range.count) {
        return RangeAnswer::Same;
    }
    let few = limits::HEADS_PER_RANGE_MAX as u64;
    if here.count <= few {
        return RangeAnswer::Heads(index.heads(from, to).map(|(path, change)| (path.clone(), change)).collect());
    }
    RangeAnswer::Finer(index.split(from, to, here.count.div_ceil(few).clamp(2, limits::HEAD_RANGES_MAX as u64)))
}

/// At most so many bytes on the wire.
fn bytes_of(answer: &RangeAnswer) -> usize {
    let path = |path: &VPath| path.as_str().len();
    let bound = |bound: &Option<VPath>| bound.as_ref().map_or(0, path) + 8;
    match answer {
        RangeAnswer::Same => 1,
        RangeAnswer::Finer(ranges) => ranges.iter().map(|range| bound(&range.from) + bound(&range.to) + 32).sum(),
        RangeAnswer::Heads(heads) => heads.iter().map(|(at, _)| path(at) + 48).sum(),
    }
}
