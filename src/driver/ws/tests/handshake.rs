//! What is said before a WebSocket is there, and the pages.

use super::*;

/// RFC 6455 §1.3 has this answer to the key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn existing_client_with(header: &str) -> String {
    EXISTING_CLIENT.replace("User-Agent", &format!("{header}\r\nUser-Agent"))
}

#[tokio::test]
async fn an_existing_client_speaks_v1() {
    let mut server = Server::start(10).await;
    let (answer, mut stream) = server.raw(EXISTING_CLIENT.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains(ACCEPT), "{answer}");
    assert!(!answer.to_lowercase().contains("sec-websocket-protocol"), "{answer}");
    let handle = server.opened().await;
    assert_eq!(handle.version, ProtocolVersion::V1);
    assert_eq!(handle.peer, stream.local_addr().expect("connected"));
    // PublishImage, masked with zeros: 0x82, 0x80 | len, mask, payload.
    let payload = wire::encode(&publish()).expect("sendable");
    let mut frame = vec![0x82, 0x80 | u8::try_from(payload.len()).expect("small"), 0, 0, 0, 0];
    frame.extend(payload);
    stream.write_all(&frame).await.expect("sent");
    assert_eq!(heard(&mut server.events).await, publish());
    handle.try_send(Outgoing::Message(publish())).expect("queued");
    let mut reply = vec![0; frame.len() - 4];
    stream.read_exact(&mut reply).await.expect("an unmasked frame");
    assert_eq!((reply[0], &reply[2..]), (0x82, &frame[6..]));
}

#[tokio::test]
async fn what_follows_the_handshake_at_once_is_not_lost() {
    let mut server = Server::start(10).await;
    let mut request = EXISTING_CLIENT.as_bytes().to_vec();
    let payload = wire::encode(&publish()).expect("sendable");
    request.extend([0x82, 0x80 | u8::try_from(payload.len()).expect("small"), 0, 0, 0, 0]);
    request.extend(payload);
    let (answer, _stream) = server.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let _handle = server.opened().await;
    assert_eq!(heard(&mut server.events).await, publish());
}

#[tokio::test]
async fn versions_are_negotiated() {
    let mut server = Server::start(10).await;
    for (offered, chosen, version) in [
        ("ciruela.v1", "ciruela.v1", ProtocolVersion::V1),
        ("ciruela.v1, ciruela.v2", "ciruela.v2", ProtocolVersion::V2),
        ("other, ciruela.v1", "ciruela.v1", ProtocolVersion::V1),
    ] {
        let request = existing_client_with(&format!("Sec-WebSocket-Protocol: {offered}"));
        let (answer, stream) = server.raw(request.as_bytes()).await;
        assert!(answer.contains(&format!("sec-websocket-protocol: {chosen}\r\n")), "{answer}");
        assert_eq!(server.opened().await.version, version);
        drop(stream);
        let Some(Event::Closed { .. }) = server.events.recv().await else { panic!("the handle was dropped") };
    }
    let request = existing_client_with("Sec-WebSocket-Protocol: ciruela.v9");
    let (answer, _) = server.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn browsers_are_refused() {
    let server = Server::start(10).await;
    for origin in ["http://evil.example", "http://ciruela.example", "null", "http://evil.example/"] {
        let request = EXISTING_CLIENT.replace("Origin: http://ciruela.example/", &format!("Origin: {origin}"));
        let (answer, _) = server.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{origin}: {answer}");
    }
}

#[tokio::test]
async fn pages_are_served() {
    let server = Server::start(10).await;
    for (request, status, rest) in [
        ("GET /status.json", "200", "application/json"),
        ("HEAD /status.json", "200", "application/json"),
        ("GET /nothing", "404", "there is no such page"),
        ("POST /status.json", "405", "allow: GET, HEAD"),
    ] {
        let (answer, _) = server.raw(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(rest), "{answer}");
    }
}

#[tokio::test]
async fn both_ends_of_ours_speak_v2() {
    let mut server = Server::start(10).await;
    let (sender, mut events) = mpsc::channel(16);
    let connected = connect(server.addr, "node").await.expect("connects");
    assert_eq!((connected.version, connected.peer), (ProtocolVersion::V2, server.addr));
    let client = Hub::new(sender).open(connected);
    let daemon = server.opened().await;
    assert_eq!(opened(&mut events).await.id, client.id);
    daemon.try_send(Outgoing::Message(ask(7))).expect("queued");
    assert_eq!(heard(&mut events).await, ask(7));
    client.try_send(Outgoing::Message(error(7))).expect("queued");
    assert_eq!(heard(&mut server.events).await, error(7));
    client.try_send(Outgoing::Close("all done".into())).expect("queued");
    assert_eq!(closed(&mut server.events).await, CloseReason::ByPeer("all done".into()));
    assert_eq!(closed(&mut events).await, CloseReason::ByUs("all done".into()));
    assert!(matches!(client.try_send(Outgoing::Message(publish())), Err(SendError::Closed(_))));
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let mut server = Server::start(2).await;
    let first = connect(server.addr, "node").await.expect("connects");
    let _second = connect(server.addr, "node").await.expect("connects");
    let held = (server.opened().await, server.opened().await);
    for _ in 0..5 {
        match connect(server.addr, "node").await {
            Err(ConnectError::Status { status: 503, text, .. }) => assert_eq!(text, "this node has no free connection"),
            other => panic!("{other:?}"),
        }
    }
    drop(first);
    let Some(Event::Closed { .. }) = server.events.recv().await else { panic!("the first one is closed") };
    drop(held);
    // Its place is free when its task has ended, which is after the event: until then the answer is 503.
    loop {
        match connect(server.addr, "node").await {
            Ok(_) => break,
            Err(ConnectError::Status { status: 503, .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn failures_to_connect_say_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let addr = listener.local_addr().expect("bound");
    drop(listener);
    let error = connect(addr, "node").await.expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("nothing listens at {addr}"));
    for (answer, expected) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", "is not a ciruela server: "),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "answered 200: hello"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "is not a ciruela server: its WebSocket handshake is wrong",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("connects");
            stream.write_all(answer.as_bytes()).await.expect("sent");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = connect(addr, "node").await.expect_err("no server of ours").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = connect(addr, "no\nhost").await.expect_err("nobody listens").to_string();
    assert!(error.contains("nothing listens"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let addr = listener.local_addr().expect("bound");
    let error = connect(addr, "node").await.expect_err("nobody accepts");
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
}
