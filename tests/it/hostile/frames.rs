//! Bytes that aren't what they should be, connections that do nothing, and more of both than anybody needs.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};

use ciruela::format::wire::{Message, Request, Response};
use ciruela::model::ids::ImageId;
use ciruela::model::limits;
use ciruela::model::run::Run;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Setup;
use crate::patience;
use crate::peer::Peer;
use crate::trees::noise;

/// A masked frame's head for `len` bytes, its mask being zero.
fn head(first: u8, len: u64) -> Vec<u8> {
    [&[first, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat()
}

#[test]
fn broken_frames() {
    let mut setup = Setup::new(56);
    let nested = |depth: usize| [vec![0x81; depth], vec![0x00]].concat();
    let table: [(&str, Vec<u8>); 9] = [
        ("2^60 bytes", head(0x82, 1 << 60)),
        ("2^63 bytes", head(0x82, 1 << 63)),
        ("just too many", head(0x82, limits::MESSAGE_BYTES_MAX as u64 + 1)),
        ("a long ping", head(0x89, 1 << 40)),
        ("text", [head(0x81, 5), b"hello".to_vec()].concat()),
        ("nesting", [head(0x82, 1_000_001), nested(1_000_000)].concat()),
        ("a map of 2^62 pairs", [head(0x82, 10), [&[0xbb][..], &(1_u64 << 62).to_be_bytes(), &[0]].concat()].concat()),
        (
            "a string of 2^62 bytes",
            [head(0x82, 12), [&[0x82, 0, 0x5b][..], &(1_u64 << 62).to_be_bytes(), &[0]].concat()].concat(),
        ),
        ("noise", [head(0x82, 4_096), noise(1, 4_096)].concat()),
    ];
    for (name, bytes) in table {
        let mut peer = Peer::connect(&setup.daemon);
        // It may close before it has read all.
        let _ = peer.socket.get_mut().write_all(&bytes);
        let reason = peer.closed();
        assert!(!reason.is_empty(), "{name}");
    }
    // Many who announce what they may and send nothing of it, or nearly all of it.
    let mut lazy: Vec<_> = (0..100).map(|_| Peer::connect(&setup.daemon)).collect();
    let part = noise(2, 300_000);
    for (number, peer) in lazy.iter_mut().enumerate() {
        let stream = peer.socket.get_mut();
        stream.write_all(&head(0x82, limits::MESSAGE_BYTES_MAX as u64)).expect("sent");
        if number % 4 == 0 {
            stream.write_all(&part).expect("sent");
        }
    }
    setup.still_serves();
}

#[test]
fn garbage_instead_of_http() {
    let mut setup = Setup::new(57);
    let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(100_000)].concat();
    let chunked =
        b"POST /status.json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec();
    let garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        noise(3, 1 << 20),
        long,
        many,
        chunked,
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\r\n".repeat(10_000),
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(setup.daemon.address).expect("it listens");
        // It may close before it has read all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    setup.still_serves();
}

/// Handshakes that are never finished hold up nobody, and neither do so many connections that there are no more.
#[test]
fn two_thousand_idle_connections() {
    raise_file_limit();
    let mut setup = Setup::with(63, |daemon| daemon.options = vec!["--max-connections".into(), "1000".into()]);
    // One host would not get so many. The honest come from 127.0.0.1.
    let connect = |number: usize| connect_from(LOOPBACKS[number % LOOPBACKS.len()], &setup);
    let mut idle: Vec<_> = (0..450).map(connect).collect();
    for (number, stream) in idle.iter_mut().enumerate() {
        // Nothing at all, or a handshake that goes no further.
        let part = &b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: web"[..number % 38];
        stream.write_all(part).expect("sent");
    }
    setup.still_serves();
    let talkers: Vec<_> = (0..240).map(|_| Peer::connect(&setup.daemon)).collect();
    setup.still_serves();
    let connect = |number: usize| connect_from(LOOPBACKS[number % LOOPBACKS.len()], &setup);
    let rest: Vec<_> = (0..1_310).map(connect).collect();
    let refused = setup.daemon.wait_for_line("too many connections, one refused");
    assert!(refused.contains("max=1000"), "{refused}");
    assert!(setup.peak_kb() < super::PEAK_KB_MAX);
    // When they are gone, there is room again. That the daemon sees it is only a matter of time.
    drop((idle, talkers, rest));
    patience::until(|| pages_are_served(&setup).then_some(()), || "no pages are served".to_owned());
    setup.still_serves();
}

/// As many as a daemon lets in without being told otherwise, and more; each has said something.
#[test]
#[expect(clippy::print_stdout, reason = "a figure of doc/reliability.md")]
fn ten_thousand_connections() {
    let allowed = raise_file_limit();
    let mut setup = Setup::new(169);
    let count = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(1_000).min(10_000);
    let mut many: Vec<_> = (0..count).map(|_| connect_from(LOOPBACKS[0], &setup)).collect();
    for (number, stream) in many.iter_mut().enumerate() {
        let part = &b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"[..=number % 60];
        // Those that it has closed already.
        let _ = stream.write_all(part);
    }
    // At once: one host takes its share only.
    assert!(pages_are_served(&setup), "no pages are served");
    setup.still_serves();
    println!("{count} connections: {} MB at most", setup.peak_kb() / 1_000);
    drop(many);
    setup.still_serves();
}

/// Finished handshakes of one host, and nothing more: others don't notice.
#[test]
fn a_host_that_holds_all_it_gets() {
    raise_file_limit();
    let mut setup = Setup::new(173);
    let held: Vec<_> = (0..1_000).filter_map(|_| handshake(connect_from(LOOPBACKS[0], &setup))).collect();
    assert_eq!(held.len(), 1_000 / limits::HOSTS_TO_FILL_CONNECTIONS);
    setup.still_serves();
    drop(held);
}

/// Where those come from who mean harm.
const LOOPBACKS: [[u8; 4]; 5] = [[127, 1, 0, 1], [127, 1, 0, 2], [127, 1, 0, 3], [127, 1, 0, 4], [127, 1, 0, 5]];

fn connect_from(host: [u8; 4], setup: &Setup) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let connecting = async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((IpAddr::from(host), 0).into()).expect("a loopback address");
        socket.connect(setup.daemon.address).await.expect("it listens").into_std().expect("a socket")
    };
    let stream = runtime.block_on(connecting);
    stream.set_nonblocking(false).expect("set");
    stream
}

/// A WebSocket that says nothing; `None`: it is refused.
fn handshake(mut stream: TcpStream) -> Option<TcpStream> {
    let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    // It may be closed already.
    let _ = stream.write_all(request.as_bytes());
    let mut status = [0; 12];
    let read = stream.read_exact(&mut status);
    (read.is_ok() && status.ends_with(b"101")).then_some(stream)
}

/// As many files as are allowed may be open: each connection is one of this process, too.
fn raise_file_limit() -> u64 {
    let files = rustix::process::Resource::Nofile;
    let limit = rustix::process::getrlimit(files);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(files, raised).expect("up to the maximum is allowed");
    limit.maximum.unwrap_or(u64::MAX)
}

fn pages_are_served(setup: &Setup) -> bool {
    let mut stream = TcpStream::connect(setup.daemon.address).expect("it listens");
    let mut answer = String::new();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// Who asks and never reads isn't read any more; who asks too much at once is told so or waits.
#[test]
fn more_requests_than_allowed() {
    let mut setup = Setup::new(59);
    setup.still_serves();
    let image = crate::trees::scanned(&setup.root).id;
    let mut greedy: Vec<_> = (0..10).map(|_| Peer::connect(&setup.daemon)).collect();
    for peer in &mut greedy {
        peer.socket.get_mut().set_nonblocking(true).expect("set");
        let run = Run { first: 0, count: 5 };
        for id in 1..20_000 {
            let request = Message::Request { id, request: Request::GetBlocks { image, run } };
            let frame = ciruela::format::wire::encode(&request).expect("it can be sent");
            // Until the daemon reads no more, and neither does the system.
            if peer.socket.send(Frame::Binary(frame.into())).is_err() {
                break;
            }
        }
    }
    setup.still_serves();
    drop(greedy);
    setup.still_serves();
}

/// Offers cost those who make them, not the daemon.
#[test]
fn more_offers_than_allowed() {
    let mut setup = Setup::new(61);
    let mut generous: Vec<_> = (0..50).map(|_| Peer::connect(&setup.daemon)).collect();
    for (number, peer) in generous.iter_mut().enumerate() {
        for image in 0..3_000 {
            let bytes = noise((number as u64) << 32 | image, 32);
            peer.publish(ImageId::from_slice(&bytes).expect("32 bytes"));
        }
    }
    setup.still_serves();
    assert!(setup.peak_kb() < super::PEAK_KB_MAX / 2, "{} kB", setup.peak_kb());
    drop(generous);
    setup.still_serves();
}

#[test]
fn beyond_what_is_there() {
    let mut setup = Setup::new(60);
    setup.still_serves();
    let scan = crate::trees::scanned(&setup.root);
    let total = scan.image.block_count();
    let mut peer = Peer::connect(&setup.daemon);
    let mut ask = |request: Request| peer.ask(request, |_, _, request| panic!("nothing is offered: {request:?}"));
    let right = ask(Request::GetBlocks { image: scan.id, run: Run { first: 0, count: 1 } });
    assert!(matches!(right, Response::GetBlocks { data } if data.len() == limits::BLOCK_BYTES));
    let runs =
        [(total, 1), (0, u32::try_from(total).expect("few") + 1), (u64::MAX - 9, 9), (0, u32::MAX), (1 << 40, 7)];
    for (first, count) in runs {
        let answer = ask(Request::GetBlocks { image: scan.id, run: Run { first, count } });
        assert!(matches!(answer, Response::Error(_)), "{first} {count}: {answer:?}");
    }
    for offset in [scan.index.len(), u64::MAX, 1 << 62] {
        let answer = ask(Request::GetIndexPart { id: scan.id, offset });
        assert!(matches!(answer, Response::Error(_)), "{offset}: {answer:?}");
    }
    let stranger = ImageId::new([1; 32]);
    let answer = ask(Request::GetBlocks { image: stranger, run: Run { first: 0, count: 1 } });
    assert!(matches!(answer, Response::Error(_)), "{answer:?}");
    let answer = ask(Request::GetIndexPart { id: stranger, offset: 0 });
    assert!(matches!(answer, Response::Error(_)), "{answer:?}");
    setup.still_serves();
}
