//! One directory's heads, sorted by path, with the sum of any range at hand.
//!
//! Sorted chunks of some hundred heads, each with its sum: a range costs one addition for each chunk and half a chunk at
//! either end, a change one move within a chunk: microseconds with 100,000 heads (`benches/heads.rs`).

use std::cmp::Ordering;

use crate::format::heads::{HeadHash, HeadsSum};
use crate::model::heads::{HeadRange, HeadsFingerprint};
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::vpath::VPath;

/// The heads of one directory: which change holds at each path.
#[derive(Debug, Clone, Default)]
pub struct HeadIndex {
    /// None is empty; each ends before the next one begins.
    chunks: Vec<Chunk>,
    sum: HeadsSum,
}

#[derive(Debug, Clone, Default)]
struct Chunk {
    entries: Vec<Entry>,
    sum: HeadsSum,
}

#[derive(Debug, Clone)]
struct Entry {
    path: VPath,
    change: ChangeId,
    hash: HeadHash,
}

/// Before an entry, or behind the last one: then `chunk` is the number of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    chunk: usize,
    entry: usize,
}

impl HeadIndex {
    /// Of all heads.
    pub fn fingerprint(&self) -> HeadsFingerprint {
        self.sum.fingerprint()
    }

    /// How many heads.
    pub fn len(&self) -> u64 {
        self.sum.count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The change which holds at a path.
    pub fn get(&self, path: &VPath) -> Option<ChangeId> {
        let place = self.find(path).ok()?;
        self.entry(place).map(|entry| entry.change)
    }

    /// The change holds at the path now; says whether another one, or none, did before.
    pub fn insert(&mut self, path: &VPath, change: ChangeId) -> bool {
        let hash = HeadHash::new(path, &change);
        let place = match self.find(path) {
            Ok(place) => {
                let chunk = &mut self.chunks[place.chunk];
                let entry = &mut chunk.entries[place.entry];
                let before = std::mem::replace(&mut entry.change, change);
                let old = std::mem::replace(&mut entry.hash, hash);
                for sum in [&mut chunk.sum, &mut self.sum] {
                    sum.remove(old);
                    sum.insert(hash);
                }
                return before != change;
            }
            Err(place) => place,
        };
        let entry = Entry { path: path.clone(), change, hash };
        let place = self.room(place);
        let chunk = &mut self.chunks[place.chunk];
        chunk.entries.insert(place.entry, entry);
        chunk.sum.insert(hash);
        self.sum.insert(hash);
        true
    }

    /// Nothing holds at the path any more; says whether something did.
    pub fn remove(&mut self, path: &VPath) -> bool {
        let Ok(place) = self.find(path) else { return false };
        let chunk = &mut self.chunks[place.chunk];
        let entry = chunk.entries.remove(place.entry);
        chunk.sum.remove(entry.hash);
        self.sum.remove(entry.hash);
        self.unite(place.chunk);
        true
    }

    /// The heads from `from` on and before `to`, as one range; `None`: from the beginning, to the end.
    pub fn range(&self, from: Option<&VPath>, to: Option<&VPath>) -> HeadRange {
        let sum = self.sum_between(self.start(from), self.end(to));
        HeadRange { from: from.cloned(), to: to.cloned(), fingerprint: sum.fingerprint(), count: sum.count() }
    }

    /// The heads from `from` on and before `to`, in order.
    pub fn heads(&self, from: Option<&VPath>, to: Option<&VPath>) -> impl Iterator<Item = (&VPath, ChangeId)> {
        let (start, end) = (self.start(from), self.end(to));
        self.entries(start, end).map(|entry| (&entry.path, entry.change))
    }

    /// The heads from `from` on and before `to`, in at most `parts` ranges with about as many heads each.
    pub fn split(&self, from: Option<&VPath>, to: Option<&VPath>, parts: u64) -> Vec<HeadRange> {
        let (mut start, end) = (self.start(from), self.end(to));
        let each = self.sum_between(start, end).count().div_ceil(parts.max(1)).max(1);
        let mut first = from;
        let mut ranges = Vec::new();
        loop {
            let next = self.behind(start, each);
            let last = if next < end { self.entry(next).map(|entry| &entry.path) } else { None };
            let sum = self.sum_between(start, if last.is_some() { next } else { end });
            ranges.push(HeadRange {
                from: first.cloned(),
                to: last.or(to).cloned(),
                fingerprint: sum.fingerprint(),
                count: sum.count(),
            });
            if last.is_none() {
                return ranges;
            }
            (first, start) = (last, next);
        }
    }

    /// Where the path is, or where it belongs.
    fn find(&self, path: &VPath) -> Result<Place, Place> {
        let chunk = self.chunks.partition_point(|chunk| chunk.entries.last().is_some_and(|last| last.path < *path));
        let Some(found) = self.chunks.get(chunk) else { return Err(Place { chunk, entry: 0 }) };
        match found.entries.binary_search_by(|entry| entry.path.cmp(path)) {
            Ok(entry) => Ok(Place { chunk, entry }),
            Err(entry) => Err(Place { chunk, entry }),
        }
    }

    fn start(&self, from: Option<&VPath>) -> Place {
        from.map_or(Place { chunk: 0, entry: 0 }, |path| self.find(path).unwrap_or_else(|place| place))
    }

    fn end(&self, to: Option<&VPath>) -> Place {
        let end = Place { chunk: self.chunks.len(), entry: 0 };
        to.map_or(end, |path| self.find(path).unwrap_or_else(|place| place))
    }

    fn entry(&self, place: Place) -> Option<&Entry> {
        self.chunks.get(place.chunk)?.entries.get(place.entry)
    }

    /// So many entries further on.
    fn behind(&self, start: Place, mut count: u64) -> Place {
        let Place { mut chunk, mut entry } = start;
        while let Some(found) = self.chunks.get(chunk) {
            let left = (found.entries.len() - entry) as u64;
            if count < left {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                return Place { chunk, entry: entry.saturating_add(count) };
            }
            count -= left;
            (chunk, entry) = (chunk + 1, 0);
        }
        Place { chunk, entry }
    }

    /// What of a chunk lies between two places.
    fn part(&self, chunk: usize, start: Place, end: Place) -> &[Entry] {
        let entries = &self.chunks[chunk].entries;
        let first = if chunk == start.chunk { start.entry } else { 0 };
        let last = if chunk == end.chunk { end.entry } else { entries.len() };
        entries.get(first..last).unwrap_or_default()
    }

    fn entries(&self, start: Place, end: Place) -> impl Iterator<Item = &Entry> {
        let last = (end.chunk + 1).min(self.chunks.len());
        (start.chunk..last).flat_map(move |chunk| self.part(chunk, start, end))
    }

    fn sum_between(&self, start: Place, end: Place) -> HeadsSum {
        let mut sum = HeadsSum::default();
        let last = (end.chunk + 1).min(self.chunks.len());
        for chunk in start.chunk..last {
            let whole = (chunk != start.chunk || start.entry == 0) && chunk != end.chunk;
            if whole {
                sum.join(&self.chunks[chunk].sum);
            } else {
                sum.extend(self.part(chunk, start, end).iter().map(|entry| entry.hash));
            }
        }
        sum
    }

    /// Room for one more entry at the place, which moves when its chunk is cut in two.
    fn room(&mut self, place: Place) -> Place {
        let Place { chunk, entry } = place;
        let Some(found) = self.chunks.get_mut(chunk) else { return self.room_at_the_end() };
        if found.entries.len() < limits::HEADS_PER_CHUNK_MAX {
            return place;
        }
        let middle = found.entries.len() / 2;
        let right = Chunk::new(found.entries.split_off(middle));
        found.entries.shrink_to_fit();
        found.sum = Chunk::sum(&found.entries);
        self.chunks.insert(chunk + 1, right);
        match entry.cmp(&middle) {
            Ordering::Greater => Place { chunk: chunk + 1, entry: entry - middle },
            Ordering::Equal | Ordering::Less => place,
        }
    }

    /// Heads that come in order fill their chunks.
    fn room_at_the_end(&mut self) -> Place {
        let full = |last: &Chunk| last.entries.len() >= limits::HEADS_PER_CHUNK_MAX;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Chunk::default());
        }
        let chunk = self.chunks.len() - 1;
        Place { chunk, entry: self.chunks[chunk].entries.len() }
    }

    /// A chunk that became small joins the next one.
    fn unite(&mut self, chunk: usize) {
        let small =
            |chunk: Option<&Chunk>| chunk.is_some_and(|chunk| chunk.entries.len() <= limits::HEADS_PER_CHUNK_MAX / 4);
        if self.chunks[chunk].entries.is_empty() {
            self.chunks.remove(chunk);
        } else if small(self.chunks.get(chunk)) && small(self.chunks.get(chunk + 1)) {
            let right = self.chunks.remove(chunk + 1);
            let left = &mut self.chunks[chunk];
            left.entries.extend(right.entries);
            left.sum.join(&right.sum);
        }
    }
}

impl Chunk {
    fn new(entries: Vec<Entry>) -> Self {
        let sum = Self::sum(&entries);
        Self { entries, sum }
    }

    fn sum(entries: &[Entry]) -> HeadsSum {
        let mut sum = HeadsSum::default();
        sum.extend(entries.iter().map(|entry| entry.hash));
        sum
    }
}
