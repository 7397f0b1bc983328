//! Peers that don't keep to the rules.

use super::*;

#[tokio::test]
async fn garbage_instead_of_http_is_closed() {
    let server = Server::start(10).await;
    let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 100_000]].concat();
    for garbage in [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"[..], b"\0\0\0\0\r\n\r\n", &long] {
        let mut stream = TcpStream::connect(server.addr).await.expect("listens");
        // The server may close before it has read all.
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let (answer, _) = server.raw(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "the server goes on: {answer}");
}

#[tokio::test]
async fn half_a_handshake_is_no_upgrade() {
    let server = Server::start(10).await;
    for (from, to) in [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        ("Connection: upgrade", "Connection: close"),
        ("GET /", "POST /"),
    ] {
        let (answer, _) = server.raw(EXISTING_CLIENT.replace(from, to).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{to}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_cut_off() {
    let server = Server::start(10).await;
    let mut stream = TcpStream::connect(server.addr).await.expect("listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
}

/// Sends raw bytes behind the handshake; gives the closing frame's code and reason, and why we closed.
async fn after_handshake(bytes: &[u8]) -> (u16, String, CloseReason) {
    let mut server = Server::start(10).await;
    let (_, mut stream) = server.raw(EXISTING_CLIENT.as_bytes()).await;
    let _handle = server.opened().await;
    stream.write_all(bytes).await.expect("sent");
    let reason = closed(&mut server.events).await;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.expect("a closing frame");
    assert_eq!(head[0], 0x88);
    let mut text = vec![0; usize::from(head[1]) - 2];
    stream.read_exact(&mut text).await.expect("its reason");
    (u16::from_be_bytes([head[2], head[3]]), String::from_utf8(text).expect("text"), reason)
}

#[tokio::test]
async fn broken_frames_end_the_connection_and_say_why() {
    for (bytes, code, expected) in [
        (&b"\x82\xff\x10\0\0\0\0\0\0\0\0\0\0\0"[..], 1002, "1152921504606846976 bytes"),
        (b"\x82\xff\x00\0\0\0\x00\x20\0\x01\0\0\0\0", 1002, "2097153 bytes"),
        (b"\x82\x01\x00", 1002, "unmasked frame"),
        (b"\x81\x81\0\0\0\0x", 1002, "a text frame"),
        (b"\xc2\x80\0\0\0\0", 1002, "invalid extension"),
        (b"\x82\x81\0\0\0\0\xff", 1007, "no valid cbor"),
        (b"\x82\x85\0\0\0\0\x83\x00\x61x\x9f", 1007, "indefinite length"),
        (b"\x82\x8c\0\0\0\0\x84\x02\x65Error\x07\x62no", 1002, "an answer to no request, id 7"),
        (b"\x82\x80\0\0\0\0", 1007, "unexpected end"),
    ] {
        let (told_code, told, reason) = after_handshake(bytes).await;
        assert!(told.to_lowercase().contains(expected), "{bytes:02x?}: {told}");
        assert_eq!(told_code, code, "{told}");
        assert!(matches!(reason, CloseReason::Protocol(_) | CloseReason::BadMessage(_)), "{reason:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_noticed() {
    let mut server = Server::start(10).await;
    let (_, mut stream) = server.raw(EXISTING_CLIENT.as_bytes()).await;
    let _handle = server.opened().await;
    stream.write_all(b"\x82\xfe").await.expect("sent");
    drop(stream);
    let reason = closed(&mut server.events).await;
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason:?}");
}

#[tokio::test]
async fn an_answer_of_another_type_ends_the_connection() {
    let mut pair = pair(ProtocolVersion::V2).await;
    pair.handle.try_send(Outgoing::Message(ask(5))).expect("queued");
    let response = Response::GetBlocks { data: Bytes::new() };
    pair.peer_says(&Message::Response { id: 5, response }).await;
    let reason = closed(&mut pair.events).await;
    assert_eq!(reason, CloseReason::Protocol("GetBlocks in answer to GetIndexPart, id 5".into()));
}
