//! Buffers for frames with data, used again and again: a fresh megabyte costs the kernel 256 page faults.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::format::wire::{DataResponse, begin_data_response};
use crate::model::limits;

/// Frames of fewer bytes are not worth keeping: reading into a larger buffer could read too much.
const POOLED_BYTES_MIN: usize = limits::RUN_BYTES_MAX / 4;
/// Room for what stands before the data.
const HEAD_BYTES_MAX: usize = 64;

/// Buffers that are free now. Clones are the same pool.
#[derive(Debug, Clone, Default)]
pub struct FramePool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    in_use: Arc<AtomicUsize>,
}

/// A frame which gives its buffer back when the last reader is done.
struct Pooled {
    buffer: Vec<u8>,
    pool: FramePool,
}

impl FramePool {
    /// A frame up to its data, of which `data_len` bytes must be appended.
    pub fn begin(&self, response: DataResponse, id: u64, data_len: usize) -> Vec<u8> {
        let mut buffer = self.buffer(data_len);
        buffer.clear();
        begin_data_response(&mut buffer, response, id, data_len);
        buffer
    }

    /// A frame with room for all of its data, and where that begins: all of it must be written over. (To fill it with zeros
    /// each time would cost half as much as reading a file into it.)
    pub fn begin_whole(&self, response: DataResponse, id: u64, data_len: usize) -> (Vec<u8>, usize) {
        let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
        begin_data_response(&mut head, response, id, data_len);
        let mut buffer = self.buffer(data_len);
        buffer.resize(head.len() + data_len, 0);
        buffer[..head.len()].copy_from_slice(&head);
        (buffer, head.len())
    }

    /// An empty buffer, or one with what it had last.
    fn buffer(&self, data_len: usize) -> Vec<u8> {
        let pooled = (data_len >= POOLED_BYTES_MIN).then(|| self.free().pop()).flatten();
        let capacity = if data_len >= POOLED_BYTES_MIN { data_len.max(limits::RUN_BYTES_MAX) } else { data_len };
        pooled.unwrap_or_else(|| Vec::with_capacity(HEAD_BYTES_MAX + capacity))
    }

    /// The finished frame.
    pub fn finish(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.len() < POOLED_BYTES_MIN {
            return buffer.into();
        }
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Pooled { buffer, pool: self.clone() })
    }

    /// Large frames that somebody still holds.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let pool = FramePool::default();
        let data = vec![7; limits::RUN_BYTES_MAX];
        let mut frame = pool.begin(DataResponse::GetBlocks, 1, data.len());
        let address = frame.as_ptr();
        frame.extend_from_slice(&data);
        let frame = pool.finish(frame);
        assert!(frame.ends_with(&data));
        let other = frame.clone();
        drop(frame);
        assert_eq!((pool.free().len(), pool.in_use()), (0, 1), "somebody still reads it");
        drop(other);
        assert_eq!(pool.in_use(), 0);
        let again = pool.begin(DataResponse::GetBlocks, 2, data.len());
        assert_eq!(again.as_ptr(), address);
        assert!(again.len() < HEAD_BYTES_MAX && again.capacity() >= again.len() + data.len());
    }

    #[test]
    fn whole_frames_have_their_head_and_room() {
        let pool = FramePool::default();
        for data_len in [limits::RUN_BYTES_MAX, POOLED_BYTES_MIN, 1, limits::RUN_BYTES_MAX] {
            let (mut frame, start) = pool.begin_whole(DataResponse::GetBlocks, 7, data_len);
            let head = pool.begin(DataResponse::GetBlocks, 7, data_len);
            assert_eq!((&frame[..start], frame.len() - start), (&head[..], data_len));
            frame[start..].fill(1);
            drop(pool.finish(frame));
            drop(pool.finish(head));
        }
    }

    #[test]
    fn small_frames_and_many_are_not_kept() {
        let pool = FramePool::default();
        drop(pool.finish(pool.begin(DataResponse::GetBlock, 1, 100)));
        assert_eq!(pool.free().len(), 0);
        let many = (0..limits::FRAMES_POOLED_MAX + 5).map(|_| {
            let mut frame = pool.begin(DataResponse::GetBlocks, 1, limits::RUN_BYTES_MAX);
            frame.resize(POOLED_BYTES_MIN, 0);
            pool.finish(frame)
        });
        drop(many.collect::<Vec<_>>());
        assert_eq!(pool.free().len(), limits::FRAMES_POOLED_MAX);
    }
}
