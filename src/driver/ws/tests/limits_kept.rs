//! Bounds on requests, queues, sizes and silence.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;
use crate::model::limits;

const IN_FLIGHT: u64 = limits::REQUESTS_IN_FLIGHT_MAX as u64;

#[tokio::test(start_paused = true)]
async fn who_is_owed_too_many_answers_is_not_read() {
    let mut pair = pair(ProtocolVersion::V2).await;
    for id in 0..IN_FLIGHT + 44 {
        pair.peer_says(&ask(id)).await;
    }
    for id in 0..IN_FLIGHT {
        assert_eq!(heard(&mut pair.events).await, ask(id));
    }
    let more = timeout(Duration::from_mins(1), pair.events.recv()).await;
    assert!(more.is_err(), "{more:?} although {IN_FLIGHT} requests are unanswered");
    for id in 0..44 {
        pair.handle.try_send(Outgoing::Message(error(id))).expect("queued");
        assert_eq!(pair.peer_hears().await, error(id));
        assert_eq!(heard(&mut pair.events).await, ask(IN_FLIGHT + id));
    }
}

#[tokio::test]
async fn malformed_requests_are_owed_an_answer_too() {
    let mut pair = pair(ProtocolVersion::V2).await;
    pair.peer.send(Frame::Binary(Bytes::from_static(b"\x84\x01\x66Future\x09\xa0"))).await.expect("sent");
    let Message::Malformed { id: 9, error, .. } = heard(&mut pair.events).await else { panic!("not malformed") };
    let response = Response::Error(error.to_string());
    pair.handle.try_send(Outgoing::Message(Message::Response { id: 9, response })).expect("queued");
    let expected = Response::Error("unknown type \"Future\"".into());
    assert_eq!(pair.peer_hears().await, Message::Response { id: 9, response: expected });
    // A notification of a later version is passed over.
    pair.peer.send(Frame::Binary(Bytes::from_static(b"\x83\x00\x66Future\xa0"))).await.expect("sent");
    pair.peer_says(&publish()).await;
    assert_eq!(heard(&mut pair.events).await, publish());
}

#[tokio::test]
async fn we_do_not_ask_too_much_either() {
    let mut pair = pair(ProtocolVersion::V2).await;
    for id in 0..IN_FLIGHT {
        pair.handle.try_send(Outgoing::Message(ask(id))).expect("queued");
    }
    assert!(matches!(pair.handle.try_send(Outgoing::Message(ask(3))), Err(SendError::RepeatedId(3))));
    let full = pair.handle.try_send(Outgoing::Message(ask(IN_FLIGHT)));
    assert!(matches!(full, Err(SendError::Full(_))), "{full:?}");
    assert_eq!(pair.peer_hears().await, ask(0));
    pair.peer_says(&error(0)).await;
    assert_eq!(heard(&mut pair.events).await, error(0));
    pair.handle.try_send(Outgoing::Message(ask(IN_FLIGHT))).expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_costs_bounded_memory_and_is_dropped() {
    let mut pair = pair(ProtocolVersion::V2).await;
    let frame = Bytes::from(vec![0; limits::RUN_BYTES_MAX]);
    let mut queued = 0;
    loop {
        match pair.handle.try_send(Outgoing::Encoded { frame: frame.clone(), data: Bytes::new(), is_response: true }) {
            Ok(()) => queued += frame.len(),
            Err(SendError::Full(_)) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(queued, limits::SEND_QUEUE_BYTES_MAX);
    assert!(pair.handle.queued_bytes() <= limits::SEND_QUEUE_BYTES_MAX);
    // It is not silent, it only doesn't read.
    let (mut sink, _stream) = pair.peer.split();
    let hello = Bytes::from(wire::encode(&publish()).expect("sendable"));
    tokio::spawn(async move {
        while sink.send(Frame::Binary(hello.clone())).await.is_ok() {
            tokio::time::sleep(limits::PING_INTERVAL / 2).await;
        }
    });
    let started = Instant::now();
    loop {
        match pair.events.recv().await {
            Some(Event::Message { message, .. }) => assert_eq!(message, publish()),
            Some(Event::Closed { reason, .. }) => {
                assert_eq!(reason, CloseReason::Stuck(limits::CONNECTION_IDLE_TIMEOUT.as_secs()));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(started.elapsed() <= limits::CONNECTION_IDLE_TIMEOUT + 2 * limits::PING_INTERVAL);
}

/// Whoever waits for a peer that hangs gives it up after seconds, whether or not there was something to send.
#[tokio::test(start_paused = true)]
async fn who_is_impatient_leaves_a_peer_that_hangs() {
    for to_send in [0, 3] {
        let mut pair = pair_of(ProtocolVersion::V2, Hub::impatient).await;
        let frame = Bytes::from(vec![0; limits::RUN_BYTES_MAX]);
        for _ in 0..to_send {
            let outgoing = Outgoing::Encoded { frame: frame.clone(), data: Bytes::new(), is_response: true };
            pair.handle.try_send(outgoing).expect("there is room");
        }
        let started = Instant::now();
        let reason = closed(&mut pair.events).await;
        assert!(matches!(reason, CloseReason::Silent(10) | CloseReason::Stuck(10)), "{reason}");
        assert!(started.elapsed() <= limits::DOWN_AFTER + 2 * limits::IMPATIENT_PING_INTERVAL);
    }
}

/// A slow link is no peer that hangs: its pong comes after all that was sent before.
#[tokio::test(start_paused = true)]
async fn who_is_impatient_waits_while_something_moves() {
    let mut pair = pair_of(ProtocolVersion::V2, Hub::impatient).await;
    let frame = Bytes::from(vec![0; limits::RUN_BYTES_MAX]);
    pair.handle.try_send(Outgoing::Encoded { frame, data: Bytes::new(), is_response: true }).expect("there is room");
    let mut slow = pair.peer.into_inner();
    let mut buffer = vec![0; 32 << 10];
    let started = Instant::now();
    while started.elapsed() < 2 * limits::DOWN_AFTER {
        slow.read_exact(&mut buffer).await.expect("it goes on");
        tokio::time::sleep(limits::IMPATIENT_PING_INTERVAL).await;
    }
    assert!(pair.events.try_recv().is_err(), "it is not closed");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_can_be_closed_at_once() {
    let mut pair = pair(ProtocolVersion::V2).await;
    while pair.handle.try_send(Outgoing::Message(publish())).is_ok() {}
    pair.handle.try_send(Outgoing::Close("enough".into())).expect("always possible");
    assert_eq!(closed(&mut pair.events).await, CloseReason::ByUs("enough".into()));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection() {
    let mut pair = pair(ProtocolVersion::V2).await;
    // Nobody reads the bare end, so nobody answers the pings.
    assert_eq!(closed(&mut pair.events).await, CloseReason::Silent(limits::CONNECTION_IDLE_TIMEOUT.as_secs()));
    assert_eq!(pair.peer_is_told().await.0, 1001);
}

#[tokio::test(start_paused = true)]
async fn pings_keep_a_quiet_connection() {
    let mut pair = pair(ProtocolVersion::V2).await;
    let mut pings = 0;
    let quiet = async {
        while let Some(Ok(frame)) = pair.peer.next().await {
            assert!(frame.is_ping(), "{frame:?}");
            pings += 1;
        }
    };
    assert!(timeout(10 * limits::CONNECTION_IDLE_TIMEOUT, quiet).await.is_err(), "the connection ended");
    assert!(pings >= 39, "{pings}");
    pair.peer_says(&publish()).await;
    assert_eq!(heard(&mut pair.events).await, publish());
}

#[tokio::test]
async fn only_an_index_that_was_asked_for_may_be_big() {
    let data = Some(Bytes::from(vec![7; 5 << 20]));
    let index = Message::Response { id: 1, response: Response::GetIndex { data } };
    let ask = Message::Request { id: 1, request: Request::GetIndex { id: image(), hint: None } };
    for (version, asked, taken) in
        [(ProtocolVersion::V1, true, true), (ProtocolVersion::V1, false, false), (ProtocolVersion::V2, true, false)]
    {
        let pair = pair(version).await;
        if asked {
            pair.handle.try_send(Outgoing::Message(ask.clone())).expect("queued");
        }
        let frame = wire::encode(&index).expect("sendable");
        let Pair { handle: _handle, mut events, mut peer } = pair;
        tokio::spawn(async move {
            let _ = peer.send(Frame::Binary(frame.into())).await;
            while let Some(Ok(_)) = peer.next().await {}
        });
        if taken {
            assert_eq!(heard(&mut events).await, index);
        } else {
            let reason = closed(&mut events).await;
            assert!(reason.to_string().contains("is over the bound of 2097152"), "{reason}");
        }
    }
}

#[tokio::test]
async fn an_answer_over_the_bound_becomes_an_error() {
    let mut pair = pair(ProtocolVersion::V2).await;
    let data = Some(Bytes::from(vec![7; limits::MESSAGE_BYTES_MAX]));
    let message = Message::Response { id: 4, response: Response::GetIndex { data } };
    pair.handle.try_send(Outgoing::Message(message)).expect("queued");
    let Message::Response { id: 4, response: Response::Error(text) } = pair.peer_hears().await else {
        panic!("not an error")
    };
    assert!(text.contains("over the bound"), "{text}");
    let frame = Bytes::from(vec![7; limits::MESSAGE_BYTES_MAX + 1]);
    let refused = pair.handle.try_send(Outgoing::Encoded { frame, data: Bytes::new(), is_response: true });
    assert!(matches!(refused, Err(SendError::TooLong { .. })), "{refused:?}");
}

/// Who sends pings and reads nothing gets answers to the first ones, and costs no memory for the others.
#[tokio::test]
async fn answers_to_pings_are_bounded() {
    const PINGS: u32 = 5_000;
    let mut pair = pair(ProtocolVersion::V2).await;
    for number in 0..PINGS {
        let payload = Bytes::from(vec![number.to_le_bytes()[0]; 125]);
        pair.peer.send(Frame::Ping(payload)).await.expect("sent");
    }
    pair.peer_says(&publish()).await;
    assert_eq!(heard(&mut pair.events).await, publish());
    pair.handle.try_send(Outgoing::Message(publish())).expect("queued");
    let mut pongs = 0;
    while let Some(Ok(Frame::Pong(payload))) = pair.peer.next().await {
        assert_eq!(payload.len(), 125);
        pongs += 1;
    }
    assert!((1..PINGS / 2).contains(&pongs), "{pongs}");
}
