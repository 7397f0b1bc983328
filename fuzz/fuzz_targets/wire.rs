//! Any bytes as a WebSocket message: no panic, and what is taken survives a round trip.

#![no_main]

use bytes::Bytes;
use ciruela::format::wire::{Message, Response, WireError, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = decode(&Bytes::copy_from_slice(input)) else { return };
    let again = match encode(&message) {
        Ok(frame) => decode(&frame.into()).expect("what we send can be read"),
        Err(WireError::NotSendable(_)) => return,
        Err(error) => panic!("{error}"),
    };
    match message {
        // "Not found" is sent in the one form that all peers understand.
        Message::Response { id, response: Response::GetIndex { data: None } | Response::GetBlock { data: None } } => {
            assert_eq!(again, Message::Response { id, response: Response::Error("not found".into()) });
        }
        other => assert_eq!(again, other),
    }
});
