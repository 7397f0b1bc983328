//! Golden bytes of every published message, written by hand from RFC 8949: what existing peers send and expect.

use bytes::Bytes;

use super::*;
use crate::model::ids::{BlockHash, ImageId, MachineId, hex};
use crate::model::key::SignatureBytes;
use crate::model::peer::Host;
use crate::model::time::Stamp;

const ID: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const MACHINE: &str = "22222222222222222222222222222222";
const SIGNATURE: &str = "33333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333";

fn image() -> ImageId {
    ImageId::new([0x11; 32])
}

fn machine() -> MachineId {
    MachineId::new([0x22; 16])
}

fn unhex(parts: &[&str]) -> Bytes {
    let text = parts.concat();
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// The message and the bytes must give each other.
#[track_caller]
fn check(message: &Message, parts: &[&str]) {
    let bytes = unhex(parts);
    assert_eq!(hex(&encode(message).expect("sendable")), hex(&bytes));
    assert_eq!(decode(&bytes).as_ref(), Ok(message));
}

/// The bytes, which we would write otherwise, must give the message.
#[track_caller]
fn check_read(message: &Message, parts: &[&str]) {
    assert_eq!(decode(&unhex(parts)).as_ref(), Ok(message));
}

fn event() -> ImageEvent {
    let host = Host { machine_id: machine(), hostname: "h1".into() };
    ImageEvent { id: image(), path: "/a/b".parse().expect("valid"), host, forwarded: false }
}

#[rustfmt::skip]
const EVENT_FIELDS: [&str; 12] = [
    "62", "6964", "5820", ID,                          // "id": h'11…'
    "64", "70617468", "64", "2f612f62",                // "path": "/a/b"
    "6a", "6d616368696e655f6964", "50", MACHINE,       // "machine_id": h'22…'
];

#[rustfmt::skip]
const EVENT_FIELDS_REST: [&str; 7] = [
    "68", "686f73746e616d65", "62", "6831",            // "hostname": "h1"
    "69", "666f72776172646564", "f4",                  // "forwarded": false
];

#[test]
fn publish_image() {
    let message = Message::Notification(Notification::PublishImage { id: image() });
    // [0, "PublishImage", {"id": h'11…'}]
    check(&message, &["83", "00", "6c", "5075626c697368496d616765", "a1", "62", "6964", "5820", ID]);
}

#[test]
fn received_image() {
    let message = Message::Notification(Notification::ReceivedImage(event()));
    // [0, "ReceivedImage", {…5 fields}]
    let head = ["83", "00", "6d", "5265636569766564496d616765", "a5"];
    check(&message, &[&head[..], &EVENT_FIELDS, &EVENT_FIELDS_REST].concat());
}

#[test]
fn aborted_image() {
    let message = Message::Notification(Notification::AbortedImage { event: event(), reason: "no".into() });
    // [0, "AbortedImage", {…5 fields, "reason": "no"}]
    let head = ["83", "00", "6c", "41626f72746564496d616765", "a6"];
    let tail = ["66", "726561736f6e", "62", "6e6f"];
    check(&message, &[&head[..], &EVENT_FIELDS, &EVENT_FIELDS_REST, &tail].concat());
}

fn published(old_image: Option<ImageId>) -> PublishedChange {
    let signatures = vec![SignatureBytes([0x33; 64])];
    PublishedChange { path: "/a/b".into(), image: image(), timestamp: Stamp(1_700_000_000_000), signatures, old_image }
}

#[rustfmt::skip]
const PUBLISHED_FIELDS: [&str; 19] = [
    "64", "70617468", "64", "2f612f62",                // "path": "/a/b"
    "65", "696d616765", "5820", ID,                    // "image": h'11…'
    "69", "74696d657374616d70",                        // "timestamp":
    "1b", "0000018bcfe56800",                          //   1700000000000
    "6a", "7369676e617475726573",                      // "signatures":
    "81", "82", "6b", "7373682d65643235353139",        //   [["ssh-ed25519",
    "5840",                                            //     h'33…']]
];

#[test]
fn append_dir() {
    let message = Message::Request { id: 7, request: Request::AppendDir(published(None)) };
    // [1, "AppendDir", 7, {…}]
    let head = ["84", "01", "69", "417070656e64446972", "07"];
    check(&message, &[&head[..], &["a4"], &PUBLISHED_FIELDS, &[SIGNATURE]].concat());
}

#[test]
fn replace_dir() {
    // [1, "ReplaceDir", 300, {…, "old_image": …}]
    let head = ["84", "01", "6a", "5265706c616365446972", "19012c"];
    let old_image = ["69", "6f6c645f696d616765"];
    let any = Message::Request { id: 300, request: Request::ReplaceDir(published(None)) };
    check(&any, &[&head[..], &["a5"], &PUBLISHED_FIELDS, &[SIGNATURE], &old_image, &["f6"]].concat());
    check_read(&any, &[&head[..], &["a4"], &PUBLISHED_FIELDS, &[SIGNATURE]].concat());
    let one = Message::Request { id: 300, request: Request::ReplaceDir(published(Some(image()))) };
    check(&one, &[&head[..], &["a5"], &PUBLISHED_FIELDS, &[SIGNATURE], &old_image, &["5820", ID]].concat());
}

#[test]
fn change_answers() {
    let hosts = Hosts::from([(machine(), "h1".into())]);
    let accepted = ChangeAnswer { accepted: true, reject_reason: None, hosts };
    let message = Message::Response { id: 7, response: Response::AppendDir(accepted) };
    #[rustfmt::skip]
    check(&message, &[
        "84", "02", "69", "417070656e64446972", "07", "a3",         // [2, "AppendDir", 7, {
        "68", "6163636570746564", "f5",                             // "accepted": true,
        "6d", "72656a6563745f726561736f6e", "f6",                   // "reject_reason": null,
        "65", "686f737473", "a1", "50", MACHINE, "62", "6831",      // "hosts": {h'22…': "h1"}}]
    ]);
    let refused = ChangeAnswer { accepted: false, reject_reason: Some("no_config".into()), hosts: Hosts::new() };
    let message = Message::Response { id: 7, response: Response::ReplaceDir(refused) };
    #[rustfmt::skip]
    check(&message, &[
        "84", "02", "6a", "5265706c616365446972", "07", "a3",       // [2, "ReplaceDir", 7, {
        "68", "6163636570746564", "f4",                             // "accepted": false,
        "6d", "72656a6563745f726561736f6e", "69", "6e6f5f636f6e666967", // "reject_reason": "no_config",
        "65", "686f737473", "a0",                                   // "hosts": {}}]
    ]);
}

#[test]
fn get_index() {
    let head = ["84", "01", "68", "476574496e646578", "18ff"]; // [1, "GetIndex", 255,
    let id = ["62", "6964", "5820", ID];
    let plain = Message::Request { id: 255, request: Request::GetIndex { id: image(), hint: None } };
    check(&plain, &[&head[..], &["a1"], &id].concat());
    check_read(&plain, &[&head[..], &["a2"], &id, &["64", "68696e74", "f6"]].concat());
    let hinted = Message::Request { id: 255, request: Request::GetIndex { id: image(), hint: Some("/a".into()) } };
    check(&hinted, &[&head[..], &["a2"], &id, &["64", "68696e74", "62", "2f61"]].concat());
    let data = Some(Bytes::from_static(b"DIR"));
    let answer = Message::Response { id: 255, response: Response::GetIndex { data } };
    // [2, "GetIndex", 255, {"data": h'444952'}]
    check(&answer, &["84", "02", "68", "476574496e646578", "18ff", "a1", "64", "64617461", "43", "444952"]);
}

#[test]
fn get_index_at() {
    let request = Request::GetIndexAt { path: "/a/b".parse().expect("valid") };
    // [1, "GetIndexAt", 0, {"path": "/a/b"}]
    let head = ["6a", "476574496e6465784174", "00"];
    let params = ["a1", "64", "70617468", "64", "2f612f62"];
    check(&Message::Request { id: 0, request }, &[&["84", "01"], &head[..], &params].concat());
    let response = Response::GetIndexAt { data: Some(Bytes::from_static(b"D")), hosts: Hosts::new() };
    // [2, "GetIndexAt", 0, {"data": h'44', "hosts": {}}]
    let params = ["a2", "64", "64617461", "41", "44", "65", "686f737473", "a0"];
    check(&Message::Response { id: 0, response }, &[&["84", "02"], &head[..], &params].concat());
    let nothing = Message::Response { id: 0, response: Response::GetIndexAt { data: None, hosts: Hosts::new() } };
    check(&nothing, &[&["84", "02"], &head[..], &["a1", "65", "686f737473", "a0"]].concat());
    check_read(
        &nothing,
        &[&["84", "02"], &head[..], &["a2", "64", "64617461", "f6", "65", "686f737473", "a0"]].concat(),
    );
}

#[test]
fn get_block() {
    let head = ["84", "01", "68", "476574426c6f636b", "01"]; // [1, "GetBlock", 1,
    let hash = ["64", "68617368", "5820", ID];
    let request =
        |hint| Message::Request { id: 1, request: Request::GetBlock { hash: BlockHash::new([0x11; 32]), hint } };
    check(&request(None), &[&head[..], &["a1"], &hash].concat());
    check_read(&request(None), &[&head[..], &["a2"], &hash, &["64", "68696e74", "f6"]].concat());
    let hint = BlockHint { path: "/a/b".parse().expect("valid"), file: "x/y".into(), offset: 32_768 };
    // "hint": ["/a/b", "x/y", 32768]
    let bytes = ["64", "68696e74", "83", "64", "2f612f62", "63", "782f79", "198000"];
    check(&request(Some(hint)), &[&head[..], &["a2"], &hash, &bytes].concat());
    // A hint that can't be is no reason to refuse: ["/..", "x", 0]
    let bad = ["64", "68696e74", "83", "63", "2f2e2e", "61", "78", "00"];
    check_read(&request(None), &[&head[..], &["a2"], &hash, &bad].concat());
    let data = Some(Bytes::from_static(b"xyz"));
    // [2, "GetBlock", 1, {"data": h'78797a'}]
    let answer = Message::Response { id: 1, response: Response::GetBlock { data } };
    check(&answer, &["84", "02", "68", "476574426c6f636b", "01", "a1", "64", "64617461", "43", "78797a"]);
}

#[test]
fn not_found() {
    // [2, "Error", 1, "not found"]
    let bytes = ["84", "02", "65", "4572726f72", "01", "69", "6e6f7420666f756e64"];
    check(&Message::Response { id: 1, response: Response::Error("not found".into()) }, &bytes);
    for response in [Response::GetBlock { data: None }, Response::GetIndex { data: None }] {
        let sent = encode(&Message::Response { id: 1, response: response.clone() }).expect("sendable");
        assert_eq!(hex(&sent), bytes.concat());
        let name =
            if response == (Response::GetIndex { data: None }) { "476574496e646578" } else { "476574426c6f636b" };
        // [2, NAME, 1, {"data": null}] and [2, NAME, 1, {}]
        let message = Message::Response { id: 1, response };
        check_read(&message, &["84", "02", "68", name, "01", "a1", "64", "64617461", "f6"]);
        check_read(&message, &["84", "02", "68", name, "01", "a0"]);
    }
}
