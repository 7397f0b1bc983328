//! The stream below a WebSocket: counts what passes, and stops a peer that announces more than it may send.
//!
//! The WebSocket library reserves memory for a whole frame as soon as it has seen its head. So heads are looked at here
//! before the library sees them, against a bound that may change while the connection lives. All other rules of RFC 6455 are
//! the library's.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::model::limits;

/// Bytes of answers to pings that wait to be written, for some pings of full length.
const ANSWERS_BYTES_MAX: usize = 1 << 10;

/// What has passed a connection, and what may.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes received.
    pub(super) received: AtomicU64,
    /// Bytes handed to the operating system.
    pub(super) sent: AtomicU64,
    /// Bytes that one received message may have.
    pub(super) message_bytes_max: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Self {
        let message_bytes_max = AtomicU64::new(limits::MESSAGE_BYTES_MAX as u64);
        Self { received: AtomicU64::new(0), sent: AtomicU64::new(0), message_bytes_max }
    }
}

/// The peer announced a message over the bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes or more is over the bound of {max}")]
pub(super) struct MessageTooLong {
    bytes: u64,
    max: u64,
}

/// The reading half of a stream with its meter. `read` is what was read from it before it became a WebSocket.
///
/// What the library writes to it are its answers to pings, which are left to the connection's writer.
#[derive(Debug)]
pub(super) struct Guarded<R> {
    pub(super) stream: R,
    read: Bytes,
    frames: Frames,
    meter: Arc<Meter>,
    answers: Arc<Answers>,
}

/// Answers to pings, as frames, that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Answers {
    frames: Mutex<Vec<u8>>,
    there: Notify,
}

impl Answers {
    /// Who sends pings and reads nothing gets no answers to the last ones.
    fn add(&self, frames: &[IoSlice<'_>]) -> usize {
        let len = frames.iter().map(|part| part.len()).sum();
        let mut waiting = self.frames();
        if waiting.len() + len <= ANSWERS_BYTES_MAX {
            waiting.extend(frames.iter().flat_map(|part| &**part));
            self.there.notify_one();
        }
        len
    }

    /// Waits until there are some.
    pub(super) async fn there(&self) {
        self.there.notified().await;
    }

    /// All of them.
    pub(super) fn take(&self) -> Vec<u8> {
        mem::take(&mut *self.frames())
    }

    fn frames(&self) -> MutexGuard<'_, Vec<u8>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Guarded<R> {
    pub(super) fn new(stream: R, read: Bytes, meter: Arc<Meter>, answers: Arc<Answers>) -> Self {
        Self { stream, read, frames: Frames::default(), meter, answers }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Guarded<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.read.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let len = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read[..len]);
            this.read.advance(len);
        }
        let fresh = &buf.filled()[before..];
        if fresh.is_empty() && this.frames.is_within() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended within a frame")));
        }
        this.meter.received.fetch_add(fresh.len() as u64, Ordering::Relaxed);
        let max = this.meter.message_bytes_max.load(Ordering::Relaxed);
        Poll::Ready(this.frames.pass(fresh, max).map_err(io::Error::other))
    }
}

impl<R: Unpin> AsyncWrite for Guarded<R> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.answers.add(&[IoSlice::new(buf)])))
    }

    /// The library gives whole frames here.
    fn poll_write_vectored(self: Pin<&mut Self>, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.answers.add(bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Follows the frames in a stream of bytes, however it is cut.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 14],
    head_len: usize,
    payload_left: u64,
    message_bytes: u64,
}

impl Frames {
    /// Whether more of a frame must come.
    fn is_within(&self) -> bool {
        self.head_len > 0 || self.payload_left > 0
    }

    fn pass(&mut self, mut bytes: &[u8], max: u64) -> Result<(), MessageTooLong> {
        loop {
            let skip = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= skip as u64;
            bytes = &bytes[skip..];
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            self.head[self.head_len] = *first;
            self.head_len += 1;
            bytes = rest;
            if self.head_len == self.head_bytes() {
                self.frame(max)?;
            }
        }
    }

    /// How long the head is, as far as is known from what there is of it.
    fn head_bytes(&self) -> usize {
        if self.head_len < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    /// The head is complete.
    fn frame(&mut self, max: u64) -> Result<(), MessageTooLong> {
        self.head_len = 0;
        let be = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        self.payload_left = match self.head[1] & 0x7f {
            126 => be(&self.head[2..4]),
            127 => be(&self.head[2..10]),
            len => u64::from(len),
        };
        let opcode = self.head[0] & 0x0f;
        // Control frames may come between the frames of a message; a continuation goes on with it.
        let is_control = opcode & 8 != 0;
        let before = if is_control || opcode != 0 { 0 } else { self.message_bytes };
        let bytes = before.saturating_add(self.payload_left);
        if !is_control {
            self.message_bytes = bytes;
        }
        if bytes > max { Err(MessageTooLong { bytes, max }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame of `len` bytes.
    fn frame(first: u8, len: u64) -> Vec<u8> {
        let mut bytes = vec![first];
        match len {
            0..=125 => bytes.push(0x80 | len.to_be_bytes()[7]),
            126..=0xffff => {
                bytes.push(0xfe);
                bytes.extend(&len.to_be_bytes()[6..]);
            }
            _ => {
                bytes.push(0xff);
                bytes.extend(len.to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes
    }

    fn full(first: u8, len: usize) -> Vec<u8> {
        let mut bytes = frame(first, len as u64);
        bytes.extend(vec![0xff; len]);
        bytes
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let stream = [full(0x82, 0), full(0x82, 125), full(0x89, 3), full(0x82, 300), full(0x82, 70_000)].concat();
        let whole = [&stream[..], &frame(0x82, 70_001)].concat();
        for cut in [1, 2, 3, 7, 1000, whole.len()] {
            let mut frames = Frames::default();
            let results: Vec<_> = whole.chunks(cut).map(|chunk| frames.pass(chunk, 70_000)).collect();
            let (last, others) = results.split_last().expect("not empty");
            assert!(others.iter().all(Result::is_ok), "cut into {cut}");
            assert_eq!(*last, Err(MessageTooLong { bytes: 70_001, max: 70_000 }), "cut into {cut}");
        }
    }

    #[test]
    fn fragments_add_up() {
        let mut frames = Frames::default();
        assert_eq!(frames.pass(&full(0x02, 600), 1000), Ok(()));
        assert_eq!(frames.pass(&full(0x89, 100), 1000), Ok(()));
        assert_eq!(frames.pass(&full(0x00, 400), 1000), Ok(()));
        assert_eq!(frames.pass(&frame(0x80, 1), 1000), Err(MessageTooLong { bytes: 1001, max: 1000 }));
        let mut frames = Frames::default();
        assert!(frames.pass(&full(0x02, 600), 1000).is_ok());
        assert!(frames.pass(&frame(0x00, u64::MAX), 1000).is_err());
    }
}
