//! Values: what this node tells all others about itself, what is known of another one's, and the parts being passed on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::table::Key;
use crate::format::gossip::{Envelope, Item, MemberId, Part, read_about, read_watch, write_about, write_watch};
use crate::model::change::Rank;
use crate::model::limits;
use crate::model::peer::NodeInfo;
use crate::model::vpath::VPath;

/// The slot of what a node says about itself.
pub(super) const ABOUT: u32 = 0;

/// One version of one value, as a number: equal sums of these are equal values.
fn version(slot: u32, counter: u64) -> u64 {
    let text = [&slot.to_be_bytes()[..], &counter.to_be_bytes()].concat();
    let hash = blake2b_simd::Params::new().hash_length(8).hash(&text);
    hash.as_bytes().iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The values of this node.
#[derive(Default)]
pub(super) struct OwnValues {
    /// By slot: version and bytes. Slots of watches that are over stay, empty, until they are used again.
    slots: BTreeMap<u32, (u64, Bytes)>,
    watches: BTreeMap<(VPath, Rank), u32>,
    free: BTreeSet<u32>,
    counter: u64,
    sum: u64,
    /// Which slot is told first to whom asks next.
    cursor: u32,
}

impl OwnValues {
    fn set(&mut self, slot: u32, bytes: Bytes) -> u32 {
        self.counter += 1;
        if let Some((counter, _)) = self.slots.insert(slot, (self.counter, bytes)) {
            self.sum = self.sum.wrapping_sub(version(slot, counter));
        }
        self.sum = self.sum.wrapping_add(version(slot, self.counter));
        slot
    }

    /// Says this about itself; gives the slot that changed, and how many directories don't fit.
    pub(super) fn about(&mut self, info: &NodeInfo) -> (u32, usize) {
        let (bytes, left_out) = write_about(info);
        (self.set(ABOUT, bytes.into()), left_out)
    }

    /// Says that it leaves.
    pub(super) fn leave(&mut self) -> u32 {
        self.set(ABOUT, Bytes::new())
    }

    /// Somebody waits, or waits no longer; gives the slot if that changed anything that can be told.
    pub(super) fn watch(&mut self, path: VPath, change: Rank, on: bool) -> Option<u32> {
        let watch = (path, change);
        if !on {
            let slot = self.watches.remove(&watch)?;
            self.free.insert(slot);
            return Some(self.set(slot, Bytes::new()));
        }
        if self.watches.contains_key(&watch) || self.watches.len() >= limits::WATCHES_MAX {
            return None;
        }
        let next = u32::try_from(self.watches.len() + 1).ok()?;
        let slot = self.free.pop_first().unwrap_or(next);
        let bytes = write_watch(&watch.0, change);
        self.watches.insert(watch, slot);
        Some(self.set(slot, bytes.into()))
    }

    /// What a pulse tells of them.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// The slots, beginning with another one each time.
    pub(super) fn slots_in_turn(&mut self) -> Vec<u32> {
        let slots: Vec<_> = self.slots.range(self.cursor..).chain(self.slots.range(..self.cursor)).collect();
        let slots: Vec<_> = slots.into_iter().map(|(slot, _)| *slot).collect();
        self.cursor = slots.get(1).copied().unwrap_or(0);
        slots
    }

    /// All of them, whole, for a page.
    pub(super) fn whole(&self) -> Vec<(u32, u64, Bytes)> {
        self.slots.iter().map(|(slot, (counter, bytes))| (*slot, *counter, bytes.clone())).collect()
    }

    /// The parts of one of them.
    pub(super) fn parts(&self, origin: MemberId, slot: u32) -> Vec<OwnedPart> {
        self.slots.get(&slot).map(|(counter, bytes)| cut(origin, slot, *counter, bytes)).unwrap_or_default()
    }
}

fn cut(origin: MemberId, slot: u32, counter: u64, bytes: &Bytes) -> Vec<OwnedPart> {
    let count = bytes.len().div_ceil(limits::VALUE_PART_BYTES).max(1);
    let part = |index: usize| {
        let start = index * limits::VALUE_PART_BYTES;
        let end = bytes.len().min(start + limits::VALUE_PART_BYTES);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        OwnedPart { origin, slot, counter, index: number(index), count: number(count), bytes: bytes.slice(start..end) }
    };
    (0..count).map(part).collect()
}

/// A part that outlives the datagram it came in.
#[derive(Debug, Clone)]
pub(super) struct OwnedPart {
    origin: MemberId,
    slot: u32,
    counter: u64,
    index: u32,
    count: u32,
    bytes: Bytes,
}

impl OwnedPart {
    pub(super) fn of(part: &Part<'_>) -> Self {
        let Part { origin, slot, counter, index, count, bytes } = *part;
        Self { origin, slot, counter, index, count, bytes: Bytes::copy_from_slice(bytes) }
    }

    pub(super) fn item(&self) -> Item<'_> {
        let Self { origin, slot, counter, index, count, ref bytes } = *self;
        Item::Part(Part { origin, slot, counter, index, count, bytes })
    }
}

/// What is known of another node's values, all of one start of it.
#[derive(Debug, Default)]
pub(super) struct Known {
    about: Option<(u64, About)>,
    watches: BTreeMap<u32, (u64, Option<(VPath, Rank)>)>,
    partial: BTreeMap<u32, Partial>,
    sum: u64,
}

#[derive(Debug)]
enum About {
    Here(NodeInfo),
    /// What it said before it left.
    Left(Option<NodeInfo>),
}

#[derive(Debug)]
struct Partial {
    counter: u64,
    parts: Vec<Option<Bytes>>,
}

/// What came of a value or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Known already.
    Old,
    /// No sense in it.
    Wrong,
    /// Something is still missing.
    Part,
    /// The node says something else about itself.
    About,
    /// It leaves.
    Left,
    /// One watch is over, another one begins.
    Watch { off: Option<(VPath, Rank)>, on: Option<(VPath, Rank)> },
}

impl Known {
    /// What the node says about itself, unless it has left.
    pub(super) fn info(&self) -> Option<&NodeInfo> {
        match &self.about {
            Some((_, About::Here(info))) => Some(info),
            Some((_, About::Left(_))) | None => None,
        }
    }

    /// What it said last.
    pub(super) fn last_info(&self) -> Option<&NodeInfo> {
        match &self.about {
            Some((_, About::Left(info))) => info.as_ref(),
            Some((_, About::Here(_))) | None => self.info(),
        }
    }

    pub(super) fn is_left(&self) -> bool {
        matches!(self.about, Some((_, About::Left(_))))
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    pub(super) fn watches(&self) -> impl Iterator<Item = &(VPath, Rank)> {
        self.watches.values().filter_map(|(_, watch)| watch.as_ref())
    }

    /// All of them, whole, for a page.
    pub(super) fn whole(&self) -> Vec<(u32, u64, Bytes)> {
        let about = self.about.as_ref().map(|(counter, _)| {
            (ABOUT, *counter, self.info().map_or_else(Bytes::new, |info| write_about(info).0.into()))
        });
        let watch = |watch: &(VPath, Rank)| Bytes::from(write_watch(&watch.0, watch.1));
        let watches = self
            .watches
            .iter()
            .map(|(slot, (counter, value))| (*slot, *counter, value.as_ref().map_or_else(Bytes::new, watch)));
        about.into_iter().chain(watches).collect()
    }

    fn counter(&self, slot: u32) -> Option<u64> {
        if slot == ABOUT {
            return self.about.as_ref().map(|about| about.0);
        }
        self.watches.get(&slot).map(|watch| watch.0)
    }

    /// A part of a value has come.
    pub(super) fn part(&mut self, part: &Part<'_>) -> Taken {
        if self.counter(part.slot).is_some_and(|counter| counter >= part.counter) {
            return Taken::Old;
        }
        if part.count == 1 {
            return self.value(part.slot, part.counter, part.bytes);
        }
        let (Ok(index), Ok(count)) = (usize::try_from(part.index), usize::try_from(part.count)) else {
            return Taken::Wrong;
        };
        if !self.partial.contains_key(&part.slot) && self.partial.len() >= limits::VALUES_PARTIAL_MAX {
            self.partial.pop_first();
        }
        let fresh = || Partial { counter: part.counter, parts: vec![None; count] };
        let partial = self.partial.entry(part.slot).or_insert_with(fresh);
        if partial.counter < part.counter {
            *partial = fresh();
        }
        let place = partial.parts.get_mut(index).filter(|place| place.is_none());
        let Some(place) = place.filter(|_| partial.counter == part.counter) else { return Taken::Old };
        *place = Some(Bytes::copy_from_slice(part.bytes));
        if partial.parts.iter().any(Option::is_none) {
            return Taken::Part;
        }
        let whole: Vec<u8> = partial.parts.iter().flatten().flatten().copied().collect();
        self.value(part.slot, part.counter, &whole)
    }

    /// A whole value has come.
    pub(super) fn value(&mut self, slot: u32, counter: u64, bytes: &[u8]) -> Taken {
        let before = self.counter(slot);
        if before.is_some_and(|before| before >= counter) {
            return Taken::Old;
        }
        if slot as usize > limits::WATCHES_MAX {
            return Taken::Wrong;
        }
        let taken = if slot == ABOUT {
            let (about, taken) = if bytes.is_empty() {
                (About::Left(self.info().cloned()), Taken::Left)
            } else {
                let Ok(info) = read_about(bytes) else { return Taken::Wrong };
                (About::Here(info), Taken::About)
            };
            self.about = Some((counter, about));
            taken
        } else {
            let on = if bytes.is_empty() { Ok(None) } else { read_watch(bytes).map(Some) };
            let Ok(on) = on else { return Taken::Wrong };
            let off = self.watches.insert(slot, (counter, on.clone())).and_then(|watch| watch.1);
            Taken::Watch { off, on }
        };
        self.partial.remove(&slot);
        let old = before.map_or(0, |before| version(slot, before));
        self.sum = self.sum.wrapping_sub(old).wrapping_add(version(slot, counter));
        taken
    }
}

/// Parts that are passed on, those first that were passed on the fewest times.
#[derive(Default)]
pub(super) struct Flood {
    queue: BTreeMap<(u8, u64), OwnedPart>,
    places: BTreeMap<(Key, u32, u32), (u8, u64)>,
    sequence: u64,
}

impl Flood {
    /// Passes a part on, in place of an older version of it.
    pub(super) fn add(&mut self, part: OwnedPart) {
        let name = (super::table::key(&part.origin.node), part.slot, part.index);
        if let Some(place) = self.places.remove(&name) {
            self.queue.remove(&place);
        }
        if self.queue.len() >= limits::FLOOD_PARTS_MAX
            && let Some((_, dropped)) = self.queue.pop_last()
        {
            self.places.remove(&(super::table::key(&dropped.origin.node), dropped.slot, dropped.index));
        }
        self.insert(0, part);
    }

    fn insert(&mut self, sent: u8, part: OwnedPart) {
        self.sequence += 1;
        let place = (sent, self.sequence);
        self.places.insert((super::table::key(&part.origin.node), part.slot, part.index), place);
        self.queue.insert(place, part);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Fills up a datagram.
    pub(super) fn fill(&mut self, envelope: &mut Envelope, transmissions: u8) {
        let mut filled = Vec::new();
        for (place, part) in &self.queue {
            if !envelope.push(&part.item()) {
                break;
            }
            filled.push(*place);
        }
        for place in filled {
            let Some(part) = self.queue.remove(&place) else { continue };
            self.places.remove(&(super::table::key(&part.origin.node), part.slot, part.index));
            if place.0 + 1 < transmissions {
                self.insert(place.0 + 1, part);
            }
        }
    }
}
