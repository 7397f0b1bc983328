//! Much data in both directions at once, over real sockets.

use super::*;
use crate::format::wire::{DataResponse, data_response_head};
use crate::model::run::Run;

const ROUNDS: u64 = 200;
const WINDOW: u64 = 32;
const BYTES: usize = 300_000;

/// Asks for all rounds with a window, answers whatever is asked, and ends when both are done.
async fn work(handle: ConnectionHandle, mut events: mpsc::Receiver<Event>) -> (u64, CloseReason) {
    let (mut asked, mut got, mut answered) = (0, 0, 0);
    loop {
        while asked < ROUNDS && asked < got + WINDOW {
            let request = Request::GetBlocks { image: image(), run: Run { first: asked, count: 1 } };
            handle.try_send(Outgoing::Message(Message::Request { id: asked, request })).expect("queued");
            asked += 1;
        }
        match events.recv().await {
            Some(Event::Message { message: Message::Request { id, .. }, .. }) => {
                let frame = data_response_head(DataResponse::GetBlocks, id, BYTES).into();
                let data = vec![id.to_be_bytes()[7]; BYTES].into();
                handle.try_send(Outgoing::Encoded { frame, data, is_response: true }).expect("queued");
                answered += 1;
            }
            Some(Event::Message {
                message: Message::Response { id, response: Response::GetBlocks { data } }, ..
            }) => {
                assert_eq!(data, vec![id.to_be_bytes()[7]; BYTES]);
                got += 1;
            }
            Some(Event::Closed { reason, .. }) => return (got, reason),
            other => panic!("{other:?}"),
        }
        if got == ROUNDS && answered == ROUNDS {
            // The other side may still wait for the last answer: it is written before this. Or it has closed already.
            let _ = handle.try_send(Outgoing::Close("done".into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_at_once() {
    let mut server = Server::start(10).await;
    let (sender, mut events) = mpsc::channel(16);
    let client = Hub::new(sender).open(connect(server.addr, "node").await.expect("connects"));
    let daemon = server.opened().await;
    opened(&mut events).await;
    let server_side = tokio::spawn(work(daemon, server.events));
    let (got, reason) = work(client, events).await;
    let (server_got, server_reason) = server_side.await.expect("no panic");
    assert_eq!((got, server_got), (ROUNDS, ROUNDS), "{reason} / {server_reason}");
}

#[tokio::test]
async fn byte_counts_are_kept() {
    let mut pair = pair(ProtocolVersion::V2).await;
    pair.peer_says(&publish()).await;
    heard(&mut pair.events).await;
    let len = wire::encode(&publish()).expect("sendable").len() as u64;
    assert_eq!(pair.handle.bytes_received(), len + 6);
    pair.handle.try_send(Outgoing::Message(publish())).expect("queued");
    pair.peer_hears().await;
    assert_eq!(pair.handle.bytes_sent(), len + 2);
    assert_eq!(pair.handle.queued_bytes(), 0);
}
