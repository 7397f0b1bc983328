//! What is written can be read, what is changed can't be opened, and nothing is longer than a datagram.

use bytes::Bytes;
use foca::{Member, Message, State};
use proptest::collection::vec;
use proptest::prelude::*;

use super::swim::Packet;
use super::*;
use crate::model::change::Rank;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::peer::{ClusterKey, NodeInfo};
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

fn member_id() -> impl Strategy<Value = MemberId> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    let address = (prop_oneof![v4, v6], 1..u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let address = address.prop_filter("an address", |address| is_address(*address));
    (address, any::<[u8; 16]>(), any::<u64>(), any::<u32>()).prop_map(|(address, machine, incarnation, renewal)| {
        MemberId { node: NodeId { address, machine_id: MachineId::new(machine), incarnation }, renewal }
    })
}

fn member() -> impl Strategy<Value = Member<MemberId>> {
    let state = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
    (member_id(), any::<u16>(), state).prop_map(|(id, incarnation, state)| Member::new(id, incarnation, state))
}

fn packet() -> impl Strategy<Value = Packet> {
    let third = || (member_id(), any::<u8>());
    let message = prop_oneof![
        any::<u8>().prop_map(Message::Ping),
        any::<u8>().prop_map(Message::Ack),
        third().prop_map(|(target, probe_number)| Message::PingReq { target, probe_number }),
        third().prop_map(|(origin, probe_number)| Message::IndirectPing { origin, probe_number }),
        third().prop_map(|(target, probe_number)| Message::IndirectAck { target, probe_number }),
        third().prop_map(|(origin, probe_number)| Message::ForwardedAck { origin, probe_number }),
        Just(Message::Announce),
        Just(Message::Feed),
        Just(Message::Gossip),
        Just(Message::TurnUndead),
    ];
    (any::<u16>(), message, vec(member(), 0..8)).prop_map(|(incarnation, message, members)| {
        let alone = matches!(message, Message::Announce | Message::TurnUndead);
        Packet { incarnation, message, members: if alone { Vec::new() } else { members } }
    })
}

fn header() -> impl Strategy<Value = Header> {
    (any::<u64>(), member_id(), proptest::option::of(member_id())).prop_map(|(seconds, from, to)| Header {
        seconds,
        from,
        to,
    })
}

/// Items with the bytes that they borrow.
#[derive(Debug, Clone)]
enum Owned {
    Swim(Vec<u8>),
    Pulse(u64, Vec<PulseHead>),
    Report(u64, Vec<u8>),
    Ack(u64),
    Part(MemberId, u32, u64, u32, Vec<u8>),
    Ask,
    Later(u64),
}

impl Owned {
    fn item(&self) -> Item<'_> {
        match self {
            Self::Swim(packet) => Item::Swim(packet),
            Self::Pulse(values, heads) => Item::Pulse { values: *values, heads: heads.clone() },
            Self::Report(number, body) => Item::Report { number: *number, body },
            Self::Ack(number) => Item::Ack { number: *number },
            Self::Part(origin, slot, counter, index, bytes) => Item::Part(Part {
                origin: *origin,
                slot: *slot,
                counter: *counter,
                index: *index,
                count: index + 1,
                bytes,
            }),
            Self::Ask => Item::Ask,
            Self::Later(incarnation) => Item::Later { incarnation: *incarnation },
        }
    }
}

fn item() -> impl Strategy<Value = Owned> {
    let head = (any::<[u8; 8]>(), any::<[u8; 16]>());
    let head = head.prop_map(|(directory, heads)| (DirectoryHash(directory), HeadsFingerprint(heads)));
    let part = (member_id(), any::<u32>(), any::<u64>(), 0..64_u32, vec(any::<u8>(), 0..=limits::VALUE_PART_BYTES));
    prop_oneof![
        packet().prop_map(|packet| Owned::Swim(packet.write())),
        (any::<u64>(), vec(head, 0..=limits::PULSE_HEADS_MAX)).prop_map(|(values, heads)| Owned::Pulse(values, heads)),
        (any::<u64>(), vec(any::<u8>(), 0..=limits::REPORT_BYTES_MAX)).prop_map(|(n, body)| Owned::Report(n, body)),
        any::<u64>().prop_map(Owned::Ack),
        part.prop_map(|(origin, slot, counter, index, bytes)| Owned::Part(origin, slot, counter, index, bytes)),
        Just(Owned::Ask),
        any::<u64>().prop_map(Owned::Later),
    ]
}

fn seal() -> Seal {
    Seal::new(&ClusterKey([3; 32]))
}

proptest! {
    #[test]
    fn datagrams_round_trip(header in header(), items in vec(item(), 0..6), session: [u8; 16], counter: u64) {
        let mut envelope = Envelope::new(&header);
        let fitting: Vec<_> = items.iter().filter(|item| envelope.push(&item.item())).collect();
        prop_assert!(items.is_empty() || !fitting.is_empty(), "each fits alone");
        prop_assert_eq!(envelope.is_empty(), fitting.is_empty());
        let datagram = seal().seal(&session, counter, envelope.finish()).expect("short");
        prop_assert!(datagram.len() <= limits::DATAGRAM_BYTES_MAX);
        let opened = seal().open(&datagram).expect("ours");
        prop_assert_eq!((opened.session, opened.counter), (session, counter));
        let (again, read) = read_datagram(&opened.text).expect("ours");
        prop_assert_eq!(again, header);
        prop_assert_eq!(read, fitting.into_iter().map(Owned::item).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_changed_cannot_be_opened(text in vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0..8_u8) {
        let mut datagram = seal().seal(&[1; 16], 5, text).expect("short").to_vec();
        let at = at.index(datagram.len());
        datagram[at] ^= 1 << bit;
        prop_assert!(seal().open(&datagram).is_err());
        datagram[at] ^= 1 << bit;
        prop_assert!(seal().open(&datagram).is_ok());
        prop_assert_eq!(Seal::new(&ClusterKey([4; 32])).open(&datagram), Err(OpenError::Unsealable));
        prop_assert_eq!(open_plain(&datagram), Err(OpenError::Unsealable));
        datagram.truncate(at);
        prop_assert!(seal().open(&datagram).is_err());
    }

    #[test]
    fn packets_round_trip(packet in packet(), from in member_id(), to in member_id()) {
        prop_assert_eq!(Packet::read(&packet.write()), Ok(packet.clone()));
        let whole = packet.for_library(from, to);
        prop_assert_eq!(swim::from_library(&whole), Some(&packet.write()[..]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = (read_datagram(&bytes), Packet::read(&bytes), read_about(&bytes), read_watch(&bytes), read_page(&bytes));
        let _ = (seal().open(&bytes), open_plain(&bytes), swim::from_library(&bytes));
    }

    #[test]
    fn values_round_trip(hostname in ".{0,40}", names in prop::collection::btree_set("[a-z]{1,30}", 0..40), id: [u8; 32], stamp: u64, overrides: bool) {
        let directories = names.into_iter().map(Into::into).collect();
        let info = NodeInfo { hostname: hostname.into(), version: "1.2".into(), directories };
        let (bytes, left_out) = write_about(&info);
        prop_assert_eq!((read_about(&bytes), left_out), (Ok(info), 0));
        let path: VPath = "/images/a/b".parse().expect("a path");
        let rank = Rank { stamp: Stamp(stamp), id: ChangeId::new(id), overrides };
        prop_assert_eq!(read_watch(&write_watch(&path, rank)), Ok((path, rank)));
    }

    #[test]
    fn pages_round_trip(members in vec((member(), vec((any::<u32>(), any::<u64>(), vec(any::<u8>(), 0..50)), 0..4)), 0..9)) {
        let entries: Vec<_> = members.into_iter().map(|(member, values)| PageEntry {
            member,
            values: values.into_iter().map(|(slot, counter, bytes)| (slot, counter, Bytes::from(bytes))).collect(),
        }).collect();
        let mut page = PageWriter::default();
        prop_assert!(entries.iter().all(|entry| page.push(entry)));
        prop_assert_eq!(read_page(&page.finish()), Ok(entries));
    }
}

#[test]
fn values_are_bounded() {
    let directories: Vec<Box<str>> = (0..5_000).map(|n| format!("directory-{n:04}").into()).collect();
    let info = NodeInfo { hostname: "ü".repeat(400).into(), version: "v".repeat(400).into(), directories };
    let (bytes, left_out) = write_about(&info);
    assert!(bytes.len() <= limits::VALUE_BYTES_MAX && bytes.len() > limits::VALUE_BYTES_MAX - 300);
    let read = read_about(&bytes).expect("ours");
    assert_eq!(read.directories.len() + left_out, 5_000);
    assert_eq!((read.hostname.len(), read.version.len()), (254, 64));
    let path: VPath = format!("/k{}", "/abcdefg".repeat(511)).parse().expect("a path");
    let rank = Rank { stamp: Stamp(u64::MAX), id: ChangeId::new([0; 32]), overrides: true };
    assert!(write_watch(&path, rank).len() <= limits::VALUE_BYTES_MAX);
}

#[test]
fn pages_are_bounded() {
    let id = |n: u8| MemberId {
        node: NodeId { address: ([10, 0, 0, n], 1).into(), machine_id: MachineId::new([n; 16]), incarnation: 1 },
        renewal: 0,
    };
    let many = |slot: u32| (slot, 1, Bytes::from(vec![0; 4_000]));
    let entry = |n: u8| PageEntry { member: Member::new(id(n), 0, State::Alive), values: (0..900).map(many).collect() };
    let mut page = PageWriter::default();
    let fitting = (1..20).take_while(|n| page.push(&entry(*n))).count();
    let page = page.finish();
    assert!(page.len() <= limits::PAGE_BYTES_MAX && fitting >= 3, "{fitting} in {}", page.len());
    assert!(read_page(&page).expect("ours").iter().all(|entry| entry.values.len() == 16));
}

#[test]
fn addresses_that_lead_nowhere_are_refused() {
    for address in ["0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:1", "[::]:1", "[ff02::1]:1"] {
        let node =
            NodeId { address: address.parse().expect("one"), machine_id: MachineId::new([1; 16]), incarnation: 1 };
        let header = Header { seconds: 0, from: MemberId { node, renewal: 0 }, to: None };
        assert!(read_datagram(&Envelope::new(&header).finish()).is_err(), "{address}");
    }
}
