//! Many connections of one host, and those that say nothing.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;
use tokio::time::{Instant, pause, sleep};

use super::*;
use crate::model::limits;

/// What one host may have of four times as many connections.
const SHARE: usize = 16;
const PAGE: &[u8] = b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n";
/// A masked one.
const PING: &[u8] = b"\x89\x80\x01\x02\x03\x04";

impl Server {
    /// A page, asked for from another host.
    async fn page_for(&self, host: [u8; 4]) -> String {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::from(host), 0).into()).expect("a loopback address");
        let mut stream = socket.connect(self.addr).await.expect("listens");
        stream.write_all(PAGE).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    /// A finished handshake.
    async fn guest(&mut self) -> (TcpStream, ConnectionHandle) {
        let (answer, stream) = self.raw(EXISTING_CLIENT.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        (stream, self.opened().await)
    }
}

#[tokio::test]
async fn one_host_takes_its_share_and_others_get_through() {
    let mut server = Server::start(4 * SHARE).await;
    let mut open = Vec::new();
    for _ in 0..SHARE / 2 {
        open.push(server.guest().await);
    }
    let mut begun = Vec::new();
    for _ in 0..SHARE / 2 {
        let mut stream = TcpStream::connect(server.addr).await.expect("listens");
        stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        begun.push(stream);
    }
    for request in [EXISTING_CLIENT.as_bytes(), PAGE] {
        let (answer, _) = server.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nyour address has 16 connections here already"), "{answer}");
    }
    let answer = server.page_for([127, 0, 0, 2]).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Both kinds give their places back. When the server sees it is up to the system.
    drop((open, begun));
    while !server.raw(PAGE).await.0.starts_with("HTTP/1.1 200") {}
}

/// However a connection ends, its place is free again.
#[tokio::test]
async fn no_place_is_lost() {
    let mut server = Server::start(4 * SHARE).await;
    for _ in 0..2 * SHARE {
        let requests: [(&[u8], _); 3] =
            [(PAGE, "200"), (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "404"), (b"\0\r\n\r\n", "400")];
        for (request, expected) in requests {
            let (answer, _) = server.raw(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
        }
        let (stream, handle) = server.guest().await;
        drop(stream);
        closed(&mut server.events).await;
        drop(handle);
    }
}

#[tokio::test]
async fn who_says_nothing_must_go_when_places_are_scarce() {
    let mut server = Server::start(4 * SHARE).await;
    let mut silent = Vec::new();
    for _ in 0..SHARE / 2 {
        silent.push(server.guest().await);
    }
    let (mut stream, talker) = server.guest().await;
    let payload = wire::encode(&publish()).expect("sendable");
    let head = [0x82, 0x80 | u8::try_from(payload.len()).expect("small"), 0, 0, 0, 0];
    stream.write_all(&[&head[..], &payload].concat()).await.expect("sent");
    assert_eq!(heard(&mut server.events).await, publish());
    pause();
    let started = Instant::now();
    for (stream, _) in &mut silent {
        stream.write_all(PING).await.expect("sent");
    }
    for _ in 0..silent.len() {
        match server.events.recv().await {
            Some(Event::Closed { id, reason: CloseReason::ByUs(reason) }) => {
                assert_ne!(id, talker.id);
                assert!(reason.starts_with("nothing said in 60 s"), "{reason}");
            }
            other => panic!("expected the end of a silent one, got {other:?}"),
        }
    }
    assert!(started.elapsed() < limits::UNSPOKEN_TIMEOUT + 2 * limits::CLOSE_TIMEOUT);
    // They are told why.
    let mut told = Vec::new();
    silent[0].0.read_to_end(&mut told).await.expect("to the end");
    assert!(told.windows(12).any(|part| part == b"nothing said"), "{told:02x?}");
    // There is room again.
    let (answer, _) = server.raw(PAGE).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.events.try_recv().is_err(), "who has said something may stay");
}

#[tokio::test]
async fn who_says_nothing_may_stay_while_there_is_room() {
    let mut server = Server::start(4 * SHARE).await;
    let (mut stream, _handle) = server.guest().await;
    pause();
    for _ in 0..20 {
        stream.write_all(PING).await.expect("sent");
        sleep(limits::PING_INTERVAL).await;
    }
    assert!(server.events.try_recv().is_err(), "it was closed");
}
