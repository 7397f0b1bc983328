//! The data of answers: buffers that are used again and again (a fresh megabyte costs the kernel 256 page faults), and blocks
//! that were stored a moment ago, which others will soon ask for.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::model::hash_kind::HashKind;
use crate::model::ids::BlockHash;
use crate::model::limits;

/// Less data are not worth keeping: reading into a larger buffer could read too much.
const POOLED_BYTES_MIN: usize = limits::RUN_BYTES_MAX / 8;

/// Buffers that are free now. Clones are the same pool.
#[derive(Debug, Clone, Default)]
pub struct FramePool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    in_use: Arc<AtomicUsize>,
}

/// Data which give their buffer back when the last reader is done.
struct Pooled {
    buffer: Vec<u8>,
    pool: FramePool,
}

/// Data which are also kept elsewhere.
struct Lent {
    data: Bytes,
    pool: FramePool,
}

impl FramePool {
    /// An empty buffer with room for so much.
    pub fn empty(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.buffer(bytes);
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// A buffer of so many bytes, all of which must be written over. (To fill it with zeros each time would cost half as much
    /// as reading a file into it.)
    pub fn filled(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.buffer(bytes);
        buffer.resize(bytes, 0);
        buffer
    }

    /// A buffer with what it had last.
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        if bytes < POOLED_BYTES_MIN {
            return Vec::new();
        }
        self.free().pop().unwrap_or_else(|| Vec::with_capacity(bytes.max(limits::RUN_BYTES_MAX)))
    }

    /// The finished data.
    pub fn finish(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.len() < POOLED_BYTES_MIN {
            return buffer.into();
        }
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Pooled { buffer, pool: self.clone() })
    }

    /// The same data, counted as in use while somebody reads them.
    fn lend(&self, data: &Bytes) -> Bytes {
        if data.len() < POOLED_BYTES_MIN {
            return data.clone();
        }
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Lent { data: data.clone(), pool: self.clone() })
    }

    /// Answers with much data that somebody still holds.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.in_use.fetch_sub(1, Ordering::Relaxed);
        let buffer = mem::take(&mut self.buffer);
        let mut free = self.pool.free();
        if free.len() < limits::FRAMES_POOLED_MAX && buffer.capacity() <= 2 * limits::RUN_BYTES_MAX {
            free.push(buffer);
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The runs of blocks that were checked and stored, or read, last, by their hashes: whoever asks for one of them in time gets
/// it without a look at the disk.
#[derive(Debug)]
pub struct RecentRuns {
    bytes_max: usize,
    runs: Mutex<VecDeque<Recent>>,
}

#[derive(Debug)]
struct Recent {
    kind: HashKind,
    hashes: Box<[BlockHash]>,
    data: Bytes,
}

impl RecentRuns {
    /// None yet; at most so many bytes later.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, runs: Mutex::default() }
    }

    /// Keeps a run of these blocks, in the place of older ones.
    pub fn keep(&self, kind: HashKind, hashes: &[BlockHash], data: &Bytes) {
        // Few data may be a part of a large buffer.
        let data = if data.len() < POOLED_BYTES_MIN { Bytes::copy_from_slice(data) } else { data.clone() };
        let mut runs = self.runs();
        runs.push_back(Recent { kind, hashes: hashes.into(), data });
        let mut bytes = runs.iter().map(|run| run.data.len()).sum::<usize>();
        while bytes > self.bytes_max || runs.len() > limits::RECENT_RUNS_MAX {
            let Some(oldest) = runs.pop_front() else { break };
            bytes -= oldest.data.len();
        }
    }

    /// The run of exactly these blocks with so many bytes, if it is here.
    pub fn find(&self, kind: HashKind, hashes: &[BlockHash], bytes: usize, pool: &FramePool) -> Option<Bytes> {
        let runs = self.runs();
        let same = |run: &&Recent| run.kind == kind && run.data.len() == bytes && *run.hashes == *hashes;
        Some(pool.lend(&runs.iter().rev().find(same)?.data))
    }

    /// Forgets all.
    pub fn clear(&self) {
        let forgotten = mem::take(&mut *self.runs());
        drop(forgotten);
    }

    fn runs(&self) -> MutexGuard<'_, VecDeque<Recent>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let pool = FramePool::default();
        let data = vec![7; limits::RUN_BYTES_MAX];
        let mut buffer = pool.empty(data.len());
        let address = buffer.as_ptr();
        buffer.extend_from_slice(&data);
        let frame = pool.finish(buffer);
        assert_eq!(frame, data);
        let other = frame.clone();
        drop(frame);
        assert_eq!((pool.free().len(), pool.in_use()), (0, 1), "somebody still reads it");
        drop(other);
        assert_eq!(pool.in_use(), 0);
        let again = pool.filled(data.len() - 1);
        assert_eq!((again.as_ptr(), again.len()), (address, data.len() - 1));
        drop(pool.finish(again));
        let again = pool.empty(data.len());
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert!(again.capacity() >= data.len());
    }

    #[test]
    fn few_data_and_many_are_not_kept() {
        let pool = FramePool::default();
        drop(pool.finish(pool.filled(100)));
        assert_eq!(pool.free().len(), 0);
        let many = (0..limits::FRAMES_POOLED_MAX + 5).map(|_| pool.finish(pool.filled(POOLED_BYTES_MIN)));
        drop(many.collect::<Vec<_>>());
        assert_eq!(pool.free().len(), limits::FRAMES_POOLED_MAX);
    }

    #[test]
    fn the_last_runs_are_found_by_their_hashes() {
        const KIND: HashKind = HashKind::Blake2b256;
        let (pool, recent) = (FramePool::default(), RecentRuns::new(limits::RECENT_BYTES_MAX));
        let hash = |number: usize| BlockHash::new([number.to_le_bytes()[0]; 32]);
        let data = Bytes::from(vec![1; limits::RUN_BYTES_MAX]);
        let find = |hashes: &[BlockHash]| recent.find(KIND, hashes, data.len(), &pool);
        for number in 0..20 {
            recent.keep(KIND, &[hash(number), hash(100)], &data);
        }
        assert_eq!(find(&[hash(19)]), None, "a part isn't looked for");
        assert_eq!(find(&[hash(0), hash(100)]), None, "the oldest one went");
        let last = [hash(19), hash(100)];
        assert_eq!(recent.find(HashKind::Blake3, &last, data.len(), &pool), None);
        assert_eq!(recent.find(KIND, &last, data.len() - 1, &pool), None);
        assert_eq!(pool.in_use(), 0);
        let found = find(&last);
        assert_eq!((found.as_ref(), pool.in_use()), (Some(&data), 1));
        let kept = recent.runs().iter().map(|run| run.data.len()).sum::<usize>();
        assert_eq!(kept, limits::RECENT_BYTES_MAX);
        let small = data.slice(..5);
        for number in 0..2 * limits::RECENT_RUNS_MAX {
            recent.keep(KIND, &[hash(number)], &small);
        }
        assert_eq!(recent.runs().len(), limits::RECENT_RUNS_MAX);
        let found_small = recent.find(KIND, &[hash(3)], 5, &pool).expect("the last but some");
        assert_eq!((&found_small, pool.in_use()), (&small, 1), "few data aren't counted");
        assert_ne!(found_small.as_ptr(), small.as_ptr(), "nor do they hold many");
        recent.clear();
        drop(found);
        assert_eq!((recent.runs().len(), pool.in_use()), (0, 0));
    }
}
