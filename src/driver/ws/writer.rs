//! The writing half of a connection: frames of RFC 6455, whose data go from where they are to the system without a copy.
//!
//! A block's way through a node is long enough; the library for WebSockets would copy it once more, into the frame. What it
//! does with what is received, and all rules about that, stay its own.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Role;
use super::guard::Meter;
use crate::model::limits;

/// Shorter data are joined with what is written before and after them.
const DIRECT_BYTES_MIN: usize = 16 << 10;

/// A multiple of the mask's length.
const MASKED_BYTES: usize = 4 << 10;

/// Kinds of frames; each is a whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Binary = 0x82,
    Close = 0x88,
    Ping = 0x89,
}

/// Writes frames. If a future of its methods is dropped, what it had begun is gone on with by the next one.
#[derive(Debug)]
pub(super) struct Writer<W> {
    pub(super) io: W,
    meter: Arc<Meter>,
    /// Where masks come from; a server's frames have none.
    masks: Option<ChaCha8Rng>,
    /// To be written first, from `sent` on.
    buffer: Vec<u8>,
    sent: usize,
    /// Follows the buffer: the data of the last frame in it.
    data: Bytes,
    /// For the first four bytes of `data`.
    mask: [u8; 4],
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W, role: Role, meter: Arc<Meter>) -> Self {
        let masks = (role == Role::Client).then(|| ChaCha8Rng::seed_from_u64(RandomState::new().hash_one(())));
        Self { io, meter, masks, buffer: Vec::new(), sent: 0, data: Bytes::new(), mask: [0; 4] }
    }

    /// Adds a frame whose payload is `head` and then `data`; waits only for what would be too much before it.
    pub(super) async fn feed(&mut self, opcode: Opcode, head: Bytes, data: Bytes) -> io::Result<()> {
        let (head, data) = if data.is_empty() { (data, head) } else { (head, data) };
        if !self.data.is_empty() || self.buffer.len() >= limits::SOCKET_BUFFER_BYTES {
            self.flush().await?;
        }
        // From here on nothing is awaited: there is the whole frame or none of it.
        let len = (head.len() + data.len()) as u64;
        let masked = if self.masks.is_some() { 0x80 } else { 0 };
        self.buffer.push(opcode as u8);
        match len.to_be_bytes() {
            [0, 0, 0, 0, 0, 0, 0, short @ 0..=125] => self.buffer.push(masked | short),
            [0, 0, 0, 0, 0, 0, high, low] => self.buffer.extend([masked | 0x7e, high, low]),
            bytes => {
                self.buffer.push(masked | 0x7f);
                self.buffer.extend(bytes);
            }
        }
        if let Some(masks) = &mut self.masks {
            self.mask = masks.next_u32().to_ne_bytes();
            self.buffer.extend(self.mask);
        }
        self.append(&head);
        if data.len() < DIRECT_BYTES_MIN {
            self.append(&data);
        } else {
            self.data = data;
        }
        Ok(())
    }

    /// Adds frames that are complete already.
    pub(super) async fn feed_frames(&mut self, frames: &[u8]) -> io::Result<()> {
        if !self.data.is_empty() {
            self.flush().await?;
        }
        self.buffer.extend_from_slice(frames);
        Ok(())
    }

    /// Writes all there is.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.mask_some();
            let direct = if self.masks.is_some() { &[] } else { &self.data[..] };
            let first = &self.buffer[self.sent..];
            if first.is_empty() && direct.is_empty() {
                break;
            }
            let written = self.io.write_vectored(&[IoSlice::new(first), IoSlice::new(direct)]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.meter.sent.fetch_add(written as u64, Ordering::Relaxed);
            let of_buffer = written.min(first.len());
            self.sent += of_buffer;
            // Unlike an empty rest, this keeps nothing of what was sent.
            drop(self.data.split_to(written - of_buffer));
            if self.sent == self.buffer.len() {
                self.buffer.clear();
                self.sent = 0;
            }
        }
        self.io.flush().await
    }

    /// Data that need a mask are copied, some at a time: so they are still in the processor's caches when they are sent.
    fn mask_some(&mut self) {
        if self.masks.is_none() || self.buffer.len() >= limits::SOCKET_BUFFER_BYTES {
            return;
        }
        let room = limits::SOCKET_BUFFER_BYTES - self.buffer.len();
        let some = self.data.split_to(room.min(self.data.len()));
        self.append(&some);
    }

    /// Adds a part of the payload to the buffer.
    fn append(&mut self, payload: &[u8]) {
        if self.masks.is_none() {
            return self.buffer.extend_from_slice(payload);
        }
        self.buffer.reserve(payload.len());
        // Few at a time are still in the processor's nearest cache when they are masked.
        for part in payload.chunks(MASKED_BYTES) {
            let at = self.buffer.len();
            self.buffer.extend_from_slice(part);
            mask(&mut self.buffer[at..], self.mask);
        }
        self.mask.rotate_left(payload.len() % 4);
    }
}

/// Section 5.3.
fn mask(bytes: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message as Frame;
    use tokio_tungstenite::tungstenite::protocol;

    use super::*;

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|i| (i * 7 + i / 256).to_le_bytes()[0]).collect()
    }

    /// Of each length of a head's fields, in both roles, through a narrow pipe, as another implementation reads them.
    #[tokio::test]
    async fn frames_are_what_others_read() {
        let lens = [(0, 0), (3, 0), (0, 125), (1, 125), (126, 0), (5, 65_530), (5, 65_531), (9, 300_001), (1 << 20, 0)];
        for (role, other) in [(Role::Server, protocol::Role::Client), (Role::Client, protocol::Role::Server)] {
            let (ours, theirs) = duplex(1_000);
            let meter = Arc::new(Meter::new());
            let mut writer = Writer::new(ours, role, Arc::clone(&meter));
            let writing = async {
                for (head, data) in lens {
                    writer.feed(Opcode::Ping, Bytes::new(), Bytes::new()).await.expect("room");
                    writer.feed(Opcode::Binary, bytes(head), bytes(data)).await.expect("written");
                    writer
                        .feed_frames(if role == Role::Server { b"\x8a\0" } else { b"\x8a\x80abcd" })
                        .await
                        .expect("written");
                }
                writer.flush().await.expect("written");
            };
            let reading = async {
                let mut socket = WebSocketStream::from_raw_socket(theirs, other, None).await;
                for (head, data) in lens {
                    let expected = [bytes(head), bytes(data)].concat();
                    assert!(matches!(socket.next().await, Some(Ok(Frame::Ping(_)))));
                    assert_eq!(socket.next().await.expect("more").expect("a frame"), Frame::Binary(expected.into()));
                    assert!(matches!(socket.next().await, Some(Ok(Frame::Pong(_)))));
                }
            };
            tokio::join!(writing, reading);
            assert!(writer.buffer.capacity() < 2 * limits::SOCKET_BUFFER_BYTES);
        }
    }

    /// Payloads of a stream of unfragmented frames.
    fn payloads(mut stream: &[u8]) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let [_, second, ..] = *stream {
            let len_bytes = match second & 0x7f {
                0x7f => 8,
                0x7e => 2,
                _ => 0,
            };
            let be = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
            let len = if len_bytes == 0 { usize::from(second & 0x7f) } else { be(&stream[2..2 + len_bytes]) };
            stream = &stream[2 + len_bytes..];
            let masked = second & 0x80 != 0;
            let key: [u8; 4] = if masked { stream[..4].try_into().expect("four") } else { [0; 4] };
            stream = &stream[if masked { 4 } else { 0 }..];
            payloads.push(stream[..len].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect());
            stream = &stream[len..];
        }
        payloads
    }

    /// Where a write was given up, the next one goes on; and what was sent is held by nobody.
    #[tokio::test]
    async fn nothing_is_lost_by_giving_up() {
        for role in [Role::Server, Role::Client] {
            let (ours, mut theirs) = duplex(1_000);
            let mut writer = Writer::new(ours, role, Arc::new(Meter::new()));
            let owner = Arc::new(bytes(400_000));
            let data = Bytes::from_owner(Owned(Arc::clone(&owner)));
            writer.feed(Opcode::Binary, bytes(5), data).await.expect("room");
            let mut stream = vec![0; 70_000];
            for part in stream.chunks_mut(700) {
                tokio::select! {
                    biased;
                    result = writer.flush() => panic!("all was written: {result:?}"),
                    result = theirs.read_exact(part) => assert_eq!(result.expect("more"), 700),
                }
            }
            let closing = async {
                writer.feed(Opcode::Close, Bytes::from_static(b"\x03\xe8"), Bytes::new()).await.expect("written");
                writer.flush().await.expect("written");
                assert_eq!(Arc::strong_count(&owner), 1);
                writer.io.shutdown().await.expect("ended");
            };
            let ((), read) = tokio::join!(closing, theirs.read_to_end(&mut stream));
            read.expect("the rest");
            assert_eq!(payloads(&stream), [[bytes(5), bytes(400_000)].concat(), b"\x03\xe8".to_vec()]);
        }
    }

    struct Owned(Arc<Bytes>);

    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
}
