//! Round trips of any message, and hostile frames.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::format::cbor;
use crate::format::supply::tests::supplies;
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::estimate::Estimate;
use crate::model::ids::{BlockHash, ChangeId, ImageId, MachineId};
use crate::model::key::{PublicKey, Scheme, Signature, SignatureBytes};
use crate::model::limits;
use crate::model::origins::Origins;
use crate::model::peer::Host;
use crate::model::run::Run;
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

fn image() -> impl Strategy<Value = ImageId> {
    any::<[u8; 32]>().prop_map(ImageId::new)
}

fn path() -> impl Strategy<Value = VPath> {
    "(/[a-zé0-9]{1,12}){1,4}".prop_map(|text| text.parse().expect("valid"))
}

fn host() -> impl Strategy<Value = Host> {
    (any::<[u8; 16]>(), "[a-z.]{0,20}")
        .prop_map(|(id, name)| Host { machine_id: MachineId::new(id), hostname: name.into() })
}

fn hosts() -> impl Strategy<Value = Hosts> {
    btree_map(any::<[u8; 16]>().prop_map(MachineId::new), "[a-z.]{0,20}".prop_map(Into::into), 0..5)
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn signature() -> impl Strategy<Value = Signature> {
    (any::<bool>(), option::of(any::<[u8; 32]>()), vec(any::<u8>(), 64)).prop_map(|(legacy, key, bytes)| Signature {
        scheme: if legacy { Scheme::Legacy } else { Scheme::V2 },
        key: key.map(PublicKey),
        bytes: SignatureBytes(bytes.try_into().expect("64")),
    })
}

fn notification() -> impl Strategy<Value = Notification> {
    let event = || {
        (image(), path(), host(), any::<bool>()).prop_map(|(id, path, host, forwarded)| ImageEvent {
            id,
            path,
            host,
            forwarded,
        })
    };
    let change = || any::<[u8; 32]>().prop_map(ChangeId::new);
    let progress = (path(), image(), change(), host(), ".{0,20}", any::<[u64; 2]>(), option::of(".{0,20}")).prop_map(
        |(path, image, change, host, state, [bytes_done, bytes_total], waiting)| {
            Notification::Progress(Progress { path, image, change, host, state, bytes_done, bytes_total, waiting })
        },
    );
    let outcome = (
        path(),
        option::of(image()),
        change(),
        host(),
        ".{0,20}",
        option::of(".{0,20}"),
        any::<[u64; 4]>(),
        supplies(),
    )
        .prop_map(|(path, image, change, host, result, reason, [linked, copied, kept, fetched], sources)| {
            let bytes = Origins { linked, copied, kept, fetched };
            Notification::Outcome(Outcome { path, image, change, host, result, reason, bytes, sources })
        });
    prop_oneof![
        image().prop_map(|id| Notification::PublishImage { id }),
        event().prop_map(Notification::ReceivedImage),
        (event(), ".{0,20}").prop_map(|(event, reason)| Notification::AbortedImage { event, reason }),
        (host(), ".{0,20}").prop_map(|(host, version)| Notification::Hello(Hello { host, version })),
        progress,
        outcome,
    ]
}

fn published(replace: bool) -> impl Strategy<Value = PublishedChange> {
    let signatures = vec(signature().prop_map(|signature| signature.bytes), 0..4);
    (".{0,20}", image(), any::<u64>(), signatures, option::of(image())).prop_map(
        move |(path, image, timestamp, signatures, old_image)| PublishedChange {
            path,
            image,
            timestamp: Stamp(timestamp),
            signatures,
            old_image: old_image.filter(|_| replace),
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let hint = (path(), ".{0,20}", any::<u64>()).prop_map(|(path, file, offset)| BlockHint { path, file, offset });
    let change = (path(), option::of(image()), any::<u64>(), vec(signature(), 0..4)).prop_map(
        |(path, image, stamp, signatures)| {
            let verb = if image.is_some() { Verb::Append } else { Verb::Delete };
            SignedChange::new(
                Change { cluster: None, verb, path, image, old_image: None, stamp: Stamp(stamp) },
                signatures,
            )
        },
    );
    let run = (0..limits::IMAGE_BLOCKS_MAX, 1..=limits::RUN_BLOCKS_MAX).prop_map(|(first, count)| Run { first, count });
    prop_oneof![
        published(false).prop_map(Request::AppendDir),
        published(true).prop_map(Request::ReplaceDir),
        (image(), option::of(".{0,20}")).prop_map(|(id, hint)| Request::GetIndex { id, hint }),
        path().prop_map(|path| Request::GetIndexAt { path }),
        (any::<[u8; 32]>(), option::of(hint))
            .prop_map(|(hash, hint)| Request::GetBlock { hash: BlockHash::new(hash), hint }),
        (change, any::<bool>())
            .prop_map(|(change, plan)| { if plan { Request::Plan(change) } else { Request::SubmitChange(change) } }),
        (image(), run).prop_map(|(image, run)| Request::GetBlocks { image, run }),
        (image(), any::<u64>()).prop_map(|(id, offset)| Request::GetIndexPart { id, offset }),
    ]
}

fn estimate() -> impl Strategy<Value = Estimate> {
    (any::<[u64; 9]>(), option::of(any::<u64>())).prop_map(|(numbers, inodes_free)| {
        let [files, bytes, files_linked, bytes_linked, bytes_copied, bytes_fetched, rest @ ..] = numbers;
        let [bytes_needed, bytes_free, inodes_needed] = rest;
        Estimate {
            files,
            bytes,
            files_linked,
            bytes_linked,
            bytes_copied,
            bytes_fetched,
            bytes_needed,
            bytes_free,
            inodes_needed,
            inodes_free,
        }
    })
}

fn response() -> impl Strategy<Value = Response> {
    let answer = || {
        (any::<bool>(), option::of(".{0,20}"), hosts()).prop_map(|(accepted, reject_reason, hosts)| ChangeAnswer {
            accepted,
            reject_reason,
            hosts,
        })
    };
    let verdict = prop_oneof![
        Just(VerdictWord::Accept),
        Just(VerdictWord::Have),
        Just(VerdictWord::Superseded),
        Just(VerdictWord::Refused)
    ];
    let texts = (option::of(".{0,20}"), option::of(".{0,20}"), vec(".{0,20}", 0..4));
    let addresses = vec(any::<([u8; 4], u16)>().prop_map(Into::into), 0..3);
    let who = (host(), hosts(), addresses);
    let submitted = (verdict, texts, option::of(image()), option::of(any::<u64>()), any::<bool>(), who).prop_map(
        |(verdict, (reject_reason, detail, accepted_keys), current, stamp, done, (host, hosts, addresses))| {
            SubmitAnswer {
                verdict,
                reject_reason,
                detail,
                accepted_keys,
                current,
                stamp: stamp.map(Stamp),
                done,
                host,
                hosts,
                addresses,
            }
        },
    );
    prop_oneof![
        answer().prop_map(Response::AppendDir),
        answer().prop_map(Response::ReplaceDir),
        data().prop_map(|data| Response::GetIndex { data: Some(data) }),
        (option::of(data()), hosts()).prop_map(|(data, hosts)| Response::GetIndexAt { data, hosts }),
        data().prop_map(|data| Response::GetBlock { data: Some(data) }),
        (submitted, option::of((option::of(estimate()), option::of(".{0,20}")))).prop_map(
            |(answer, plan)| match plan {
                Some((estimate, problem)) => Response::Plan(Box::new(PlanAnswer { answer, estimate, problem })),
                None => Response::SubmitChange(answer),
            }
        ),
        data().prop_map(|data| Response::GetBlocks { data }),
        (data(), any::<u64>()).prop_map(|(data, total)| Response::GetIndexPart { data, total }),
        ".{0,20}".prop_map(Response::Error),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        notification().prop_map(Message::Notification),
        (any::<u64>(), request()).prop_map(|(id, request)| Message::Request { id, request }),
        (any::<u64>(), response()).prop_map(|(id, response)| Message::Response { id, response }),
    ]
}

/// "Not found" is sent in the one form that all peers understand.
fn as_sent(message: Message) -> Message {
    match message {
        Message::Response { id, response: Response::GetIndex { data: None } | Response::GetBlock { data: None } } => {
            Message::Response { id, response: Response::Error("not found".into()) }
        }
        other @ (Message::Notification(_)
        | Message::Request { .. }
        | Message::Response { .. }
        | Message::Malformed { .. }
        | Message::Unknown { .. }) => other,
    }
}

fn bytes_of(message: &Message) -> Bytes {
    encode(message).expect("sendable").into()
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        prop_assert_eq!(decode(&bytes_of(&message)), Ok(message));
    }

    #[test]
    fn truncated_or_longer_frames_are_refused(message in message(), end in any::<prop::sample::Index>()) {
        let frame = bytes_of(&message);
        prop_assert!(decode(&frame.slice(..end.index(frame.len()))).is_err());
        let longer: Bytes = [&frame[..], &[0xf6]].concat().into();
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn what_is_taken_survives_a_round_trip(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = encode(&message).expect("sendable");
        let at = at.index(frame.len());
        frame[at] = byte;
        let Ok(first) = decode(&frame.into()) else { return Ok(()) };
        match encode(&first) {
            Ok(again) => prop_assert_eq!(decode(&again.into()), Ok(as_sent(first))),
            Err(error) => prop_assert!(matches!(error, WireError::NotSendable(_))),
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes.into());
    }
}

#[test]
fn every_truncation_of_a_big_request_is_refused() {
    let change = PublishedChange {
        path: "/a/b".into(),
        image: ImageId::new([1; 32]),
        timestamp: Stamp(5),
        signatures: vec![SignatureBytes([2; 64]); 3],
        old_image: None,
    };
    let frame = bytes_of(&Message::Request { id: 1, request: Request::AppendDir(change) });
    for end in 0..frame.len() {
        assert!(decode(&frame.slice(..end)).is_err(), "truncated to {end} bytes");
    }
}

#[test]
fn data_shares_the_memory_of_the_frame() {
    let frame = bytes_of(&Message::Response { id: 1, response: Response::GetBlocks { data: vec![7; 1000].into() } });
    let Ok(Message::Response { response: Response::GetBlocks { data }, .. }) = decode(&frame) else {
        panic!("not the response")
    };
    assert!(frame.as_ptr_range().contains(&data.as_ptr()));
    assert_eq!(data.len(), 1000);
}

#[test]
fn a_header_and_its_data_make_the_frame() {
    let data = Bytes::from_static(b"data");
    for (kind, response) in [
        (DataResponse::GetIndex, Response::GetIndex { data: Some(data.clone()) }),
        (DataResponse::GetBlock, Response::GetBlock { data: Some(data.clone()) }),
        (DataResponse::GetBlocks, Response::GetBlocks { data: data.clone() }),
        (DataResponse::GetIndexPart { total: 9 }, Response::GetIndexPart { data: data.clone(), total: 9 }),
    ] {
        let mut frame = data_response_head(kind, 3, data.len());
        frame.extend_from_slice(&data);
        assert_eq!(decode(&frame.into()), Ok(Message::Response { id: 3, response }));
    }
}

/// `[1, name, 4, params]`
fn request_frame(name: &str, params: &[u8]) -> Bytes {
    let mut frame = vec![0x84, 1];
    cbor::put_text(&mut frame, name);
    frame.push(4);
    frame.extend_from_slice(params);
    frame.into()
}

#[test]
fn a_bad_request_costs_only_itself() {
    let id = [0x58, 0x20].into_iter().chain([1; 32]).collect::<Vec<u8>>();
    let twice = [&b"\xa2\x62id"[..], &id, b"\x62id", &id].concat();
    let negative = [&b"\xa2\x62id"[..], &id, b"\x66offset\x20"].concat();
    let no_blocks = [&b"\xa3\x65image"[..], &id, b"\x65first\x00\x65count\x00"].concat();
    let far = [&b"\xa3\x65image"[..], &id, b"\x65first\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x65count\x01"].concat();
    for (name, params, reason) in [
        ("Future", &b"\xa0"[..], "unknown type \"Future\""),
        ("GetIndex", b"\xa0", "no \"id\""),
        ("GetIndex", b"\xa1\x62id\x42\x01\x02", "a byte string of the wrong length at byte 16"),
        ("GetIndex", b"\x80", "expected a map at byte 12"),
        ("GetIndex", &twice, "\"id\" is there twice"),
        ("GetIndexAt", b"\xa1\x64path\x65/a/..", "bad path \"/a/..\": `.` and `..` are not allowed"),
        ("GetIndexPart", &negative, "expected an unsigned integer"),
        ("GetBlocks", &no_blocks, "a run of blocks that can't be"),
        ("GetBlocks", &far, "a run of blocks that can't be"),
        ("SubmitChange", b"\xa2\x66change\x41\xa0\x6asignatures\x80", "bad change: no \"path\""),
    ] {
        match decode(&request_frame(name, params)) {
            Ok(Message::Malformed { id: 4, request_type, error }) => {
                assert_eq!(request_type, name);
                assert!(error.to_string().starts_with(reason), "{name}: {error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn counts_are_bounded() {
    let signatures = |count: usize| {
        let mut params = b"\xa1\x6asignatures".to_vec();
        cbor::put_array(&mut params, count);
        for _ in 0..count {
            params.extend(b"\x82\x6bssh-ed25519\x58\x40");
            params.extend([0; 64]);
        }
        match decode(&request_frame("AppendDir", &params)) {
            Ok(Message::Malformed { error, .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(signatures(limits::SIGNATURES_MAX), "no \"path\"");
    assert!(signatures(limits::SIGNATURES_MAX + 1).starts_with("more items than the bound"));
    let mut answer = b"\x84\x02\x69AppendDir\x01\xa3\x68accepted\xf5\x6dreject_reason\xf6\x65hosts".to_vec();
    cbor::put_map(&mut answer, limits::HOSTS_MAX + 1);
    for i in 0..=u8::try_from(limits::HOSTS_MAX).expect("small") {
        cbor::put_bytes(&mut answer, &[i; 16]);
        cbor::put_text(&mut answer, "h");
    }
    assert!(decode(&answer.into()).is_err());
}

#[test]
fn what_we_send_is_cut_to_the_bounds() {
    let hosts = (0..100).map(|i| (MachineId::new([i; 16]), "é".repeat(limits::TEXT_BYTES_MAX).into())).collect();
    let answer = ChangeAnswer { accepted: false, reject_reason: Some("x".repeat(100_000)), hosts };
    let frame = bytes_of(&Message::Response { id: 1, response: Response::AppendDir(answer) });
    let Ok(Message::Response { response: Response::AppendDir(answer), .. }) = decode(&frame) else { panic!("refused") };
    assert_eq!(answer.hosts.len(), limits::HOSTS_MAX);
    assert_eq!(answer.reject_reason.map(|text| text.len()), Some(limits::TEXT_BYTES_MAX));
}

#[test]
fn later_versions_are_understood_as_far_as_possible() {
    let unknown = Bytes::from_static(b"\x83\x00\x66Future\xa1\x61x\xf9\x3e\x00");
    assert_eq!(decode(&unknown), Ok(Message::Unknown { notification_type: "Future".into() }));
    // PublishImage with an unknown field, which is nested.
    let mut frame = b"\x83\x00\x6cPublishImage\xa2\x63new\x82\xa1\x01\x02\xf5\x62id\x58\x20".to_vec();
    frame.extend([1; 32]);
    let message = Message::Notification(Notification::PublishImage { id: ImageId::new([1; 32]) });
    assert_eq!(decode(&frame.into()), Ok(message));
}

#[test]
fn hostile_frames_are_refused() {
    let deep: Vec<u8> = [&b"\x83\x00\x66Future"[..], &[0x81; 10_000], &[0]].concat();
    for (frame, what) in [
        (&b""[..], "empty"),
        (b"\x80", "an empty array"),
        (b"\x83\x03\x61x\xa0", "an unknown kind"),
        (b"\x84\x00\x61x\x01\xa0", "a notification of four"),
        (b"\x83\x01\x61x\x01", "a request of three"),
        (b"\x84\x01\x61x\x20\xa0", "a negative id"),
        (b"\x84\x02\x66Future\x01\xa0", "a response to what can't be asked"),
        (b"\x84\x02\x65Error\x01\x01", "an error that isn't a text"),
        (b"\x84\x02\x65Error\x01\x61\xff", "a text that isn't UTF-8"),
        (b"\x84\x02\x69GetBlocks\x01\xa0", "blocks without data"),
        (b"\x84\x02\x69GetBlocks\x01\xa1\x64data\x5b\x10\0\0\0\0\0\0\0", "2^60 bytes of data"),
        (b"\x9b\x10\0\0\0\0\0\0\0", "2^60 items"),
        (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "2^64 - 1 pairs"),
        (b"\x9f\x00\x66Future\xa0\xff", "an indefinite array"),
        (b"\x83\x00\x66Future\xbf\xff", "an indefinite map"),
        (b"\x83\x00\x7f\x61x\xff\xa0", "an indefinite text"),
        (b"\x83\x00\x6cPublishImage\xa0", "a notification without its field"),
        (&deep, "nested 10,000 deep"),
    ] {
        assert!(decode(&Bytes::copy_from_slice(frame)).is_err(), "{what} was taken");
    }
}
