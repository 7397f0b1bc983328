//! Datagrams: what arrives goes into a bounded channel, what is sent goes at once or not at all. What they mean is
//! `engine/gossip`'s, which expects that some are lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::limits;

/// After the system failed to receive: a socket that is broken for good must not keep a core busy.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A datagram and where it came from.
pub type Received = (SocketAddr, Bytes);

/// A socket in use. Dropped, nothing is received any more.
#[derive(Debug)]
pub struct Datagrams {
    socket: Arc<UdpSocket>,
    counts: Arc<Counts>,
    receiving: JoinHandle<()>,
}

/// Datagrams that the driver has given up.
#[derive(Debug, Default)]
struct Counts {
    not_received: AtomicU64,
    not_sent: AtomicU64,
}

impl Datagrams {
    /// Begins to receive. The channel ends when this is dropped.
    pub async fn start(socket: UdpSocket) -> io::Result<(Self, mpsc::Receiver<Received>)> {
        // Until it was found writable once, sending at once fails.
        socket.writable().await?;
        let (socket, counts) = (Arc::new(socket), Arc::new(Counts::default()));
        let (sender, receiver) = mpsc::channel(limits::DATAGRAMS_QUEUED_MAX);
        let receiving = tokio::spawn(receive(socket.clone(), counts.clone(), sender));
        Ok((Self { socket, counts, receiving }, receiver))
    }

    /// Sends a datagram, unless the system has no room for it.
    pub fn send(&self, to: SocketAddr, data: &[u8]) {
        if self.socket.try_send_to(data, to).is_err() {
            self.counts.not_sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Datagrams that came when the channel was full.
    pub fn not_received(&self) -> u64 {
        self.counts.not_received.load(Ordering::Relaxed)
    }

    /// Datagrams that the system didn't take: no room, or no way there.
    pub fn not_sent(&self) -> u64 {
        self.counts.not_sent.load(Ordering::Relaxed)
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

async fn receive(socket: Arc<UdpSocket>, counts: Arc<Counts>, sender: mpsc::Sender<Received>) {
    // One byte more than allowed: what is longer is seen to be.
    let mut buffer = [0; limits::DATAGRAM_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => match sender.try_send((from, Bytes::copy_from_slice(&buffer[..length]))) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => _ = counts.not_received.fetch_add(1, Ordering::Relaxed),
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            },
            Err(error) => {
                tracing::debug!(%error, "a datagram couldn't be received");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (Datagrams, mpsc::Receiver<Received>, UdpSocket, SocketAddr) {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (ours, theirs) = (bind().await.expect("a socket"), bind().await.expect("a socket"));
        let address = ours.local_addr().expect("bound");
        let (datagrams, received) = Datagrams::start(ours).await.expect("started");
        (datagrams, received, theirs, address)
    }

    #[tokio::test]
    async fn both_ways() {
        let (datagrams, mut received, theirs, address) = pair().await;
        theirs.send_to(b"question", address).await.expect("sent");
        let (from, data) = received.recv().await.expect("received");
        assert_eq!((from, &data[..]), (theirs.local_addr().expect("bound"), &b"question"[..]));
        datagrams.send(from, b"answer");
        let mut buffer = [0; 100];
        let (length, from) = theirs.recv_from(&mut buffer).await.expect("received");
        assert_eq!((from, &buffer[..length]), (address, &b"answer"[..]));
        // A datagram that is too long comes as one that is too long.
        theirs.send_to(&[1; 5_000], address).await.expect("sent");
        assert_eq!(received.recv().await.expect("received").1.len(), limits::DATAGRAM_BYTES_MAX + 1);
        drop(datagrams);
        assert_eq!(received.recv().await, None);
    }

    #[tokio::test]
    async fn a_full_channel_loses_some() {
        let (datagrams, mut received, theirs, address) = pair().await;
        let mut sent = 0;
        while datagrams.not_received() == 0 {
            theirs.send_to(b"again", address).await.expect("sent");
            sent += 1;
            tokio::task::yield_now().await;
        }
        assert!(sent > limits::DATAGRAMS_QUEUED_MAX);
        for _ in 0..limits::DATAGRAMS_QUEUED_MAX {
            received.recv().await.expect("received");
        }
        theirs.send_to(b"last", address).await.expect("sent");
        while received.recv().await.expect("received").1 != b"last"[..] {}
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_counted() {
        let (datagrams, _received, _theirs, _) = pair().await;
        datagrams.send(SocketAddr::from(([127, 0, 0, 1], 0)), b"nowhere");
        assert_eq!(datagrams.not_sent(), 1);
    }
}
