//! The UDP socket for gossip. What is lost, or finds no room, is lost: gossip repeats what matters.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::UdpSocket;

use crate::model::limits;

/// A bound socket.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    /// One byte more than any datagram of ours: a longer one shows.
    buffer: Box<[u8]>,
}

impl Datagrams {
    /// Binds the address.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        Ok(Self { socket, buffer: vec![0; limits::DATAGRAM_BYTES_MAX + 1].into() })
    }

    /// Sends without waiting.
    pub fn send(&self, to: SocketAddr, data: &[u8]) {
        if let Err(error) = self.socket.try_send_to(data, to) {
            tracing::debug!(%to, %error, "a datagram is not sent");
        }
    }

    /// The next datagram. Safe to drop.
    pub async fn receive(&mut self) -> (SocketAddr, Bytes) {
        loop {
            match self.socket.recv_from(&mut self.buffer).await {
                Ok((len, from)) if len <= limits::DATAGRAM_BYTES_MAX => {
                    return (from, Bytes::copy_from_slice(&self.buffer[..len]));
                }
                Ok((_, from)) => tracing::debug!(%from, "a datagram is too long"),
                // What the system says of an earlier datagram: nobody listens there.
                Err(error) => tracing::debug!(%error, "a datagram did not arrive"),
            }
        }
    }
}
