//! Images that no daemon may deploy, signed by somebody who may publish.

use std::fs;

use bytes::Bytes;
use ciruela::format::hash::Hasher;
use ciruela::format::wire::{Message, Outcome, Request, Response};
use ciruela::model::change::Verb;
use ciruela::model::hash_kind::HashKind;
use ciruela::model::ids::ImageId;
use ciruela::model::limits;

use super::Setup;
use crate::daemon::tree;
use crate::e2e::wait_for_status;
use crate::peer::{Peer, signed};
use crate::publisher::{addresses, to};

/// An index of these lines, with the right last line.
fn index(lines: &[u8]) -> (ImageId, Vec<u8>) {
    let id = ImageId::new(Hasher::new(HashKind::Blake2b256).update(lines).finish());
    let text = [b"DIRSIGNATURE.v1 blake2b/256 block_size=32768\n", lines, format!("{id}\n").as_bytes()].concat();
    (id, text)
}

/// The hash of a block.
fn block(content: &[u8]) -> String {
    ciruela::format::hash::hash_one(HashKind::Blake2b256, content).to_string()
}

/// Publishes what an honest client never would; serves the index and `content` for every block.
fn publish(setup: &Setup, path: &str, lines: &[u8], content: &'static [u8]) -> Outcome {
    let (id, text) = index(lines);
    let mut peer = Peer::connect(&setup.daemon);
    peer.publish(id);
    let answer = peer.submit(signed(setup.publisher.secret(), Verb::Append, path, id));
    assert_eq!(answer.reject_reason, None);
    let text = Bytes::from(text);
    peer.outcome(|peer, request_id, request| match request {
        Request::GetIndexPart { offset, .. } => {
            let start = usize::try_from(offset).expect("small");
            let data = text.slice(start..text.len().min(start + limits::INDEX_PART_BYTES_MAX));
            peer.respond(request_id, Response::GetIndexPart { data, total: text.len() as u64 });
        }
        Request::GetBlocks { .. } => {
            peer.respond(request_id, Response::GetBlocks { data: Bytes::from_static(content) });
        }
        other => panic!("{other:?}"),
    })
}

#[test]
fn an_index_that_is_genuine_and_harmful() {
    let mut setup = Setup::new(69);
    let hash = block(b"x");
    let file = |name: &str| format!("  {name} f 1 {hash}\n");
    let outside = setup.daemon.folder.path().join("outside");
    let absolute = outside.to_str().expect("UTF-8").to_owned();
    let many = (0..2_000).fold(String::new(), |lines, depth| lines + &format!("/{}\n", vec!["d"; depth].join("/")));
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("a parent", format!("/\n{}", file("..")).into_bytes()),
        ("a parent on the way", format!("/\n/..\n{}", file("x")).into_bytes()),
        ("further out", format!("/\n/../../..{absolute}\n{}", file("x")).into_bytes()),
        ("itself", format!("/\n{}", file(".")).into_bytes()),
        ("a slash in a name", format!("/\n{}", file("../x")).into_bytes()),
        ("an escaped slash", format!("/\n{}", file("\\x2e\\x2e\\x2fx")).into_bytes()),
        ("escaped dots", format!("/\n{}", file("\\x2e\\x2e")).into_bytes()),
        ("a NUL", format!("/\n{}", file("a\\x00b")).into_bytes()),
        ("no UTF-8, escaped", format!("/\n{}", file("\\xff\\xfe")).into_bytes()),
        ("no UTF-8", [b"/\n  \xff\xfe f 1 ", hash.as_bytes(), b"\n"].concat()),
        ("unsorted", format!("/\n{}{}", file("b"), file("a")).into_bytes()),
        ("twice", format!("/\n{}{}", file("a"), file("a")).into_bytes()),
        ("unsorted directories", format!("/\n/b\n{}/a\n{}", file("x"), file("x")).into_bytes()),
        ("below a link", format!("/\n  a s {absolute}\n/a\n{}", file("x")).into_bytes()),
        ("below a file", format!("/\n{}/a\n{}", file("a"), file("x")).into_bytes()),
        ("a directory without its parent", format!("/\n/a/b\n{}", file("x")).into_bytes()),
        ("too few hashes", format!("/\n  a f 40000 {hash}\n").into_bytes()),
        ("too many hashes", format!("/\n  a f 1 {hash} {hash}\n").into_bytes()),
        ("a huge size", format!("/\n  a f 18446744073709551615 {hash}\n").into_bytes()),
        ("an odd number", format!("/\n  a f 01 {hash}\n").into_bytes()),
        ("another kind", format!("/\n  a p 1 {hash}\n").into_bytes()),
        ("no root", format!("/a\n{}", file("x")).into_bytes()),
        ("a long name", format!("/\n{}", file(&"n".repeat(256))).into_bytes()),
        ("too deep", many.into_bytes()),
        ("nothing", Vec::new()),
    ];
    for (number, (name, lines)) in table.iter().enumerate() {
        let path = format!("/data/bad{number}");
        let outcome = publish(&setup, &path, lines, b"x");
        assert_eq!(outcome.result, "failed", "{name}: {outcome:?}");
        assert!(outcome.reason.is_some_and(|reason| reason.len() > 10), "{name}");
        assert!(!setup.daemon.data(path.trim_start_matches('/')).exists(), "{name}");
    }
    assert!(!outside.exists());
    // The head was withdrawn each time: a corrected image is accepted at the same path.
    for number in [0, table.len() - 1] {
        let append = to(&setup.root, &format!("/data/bad{number}"));
        setup.publisher.run(&["--append", &append], &addresses(&[&setup.daemon])).expect(0);
        assert_eq!(tree(&setup.daemon.data(&format!("data/bad{number}"))), tree(&setup.root));
    }
    // And so it is after a restart.
    setup.daemon.kill();
    setup.daemon.spawn();
    let append = to(&setup.root, "/data/bad5");
    setup.publisher.run(&["--append", &append], &addresses(&[&setup.daemon])).expect(0);
    setup.still_serves();
}

/// An index that goes on and on is given up at its first part, when that isn't one's beginning.
#[test]
fn a_gibibyte_of_header() {
    let mut setup = Setup::new(167);
    let id = ImageId::new([7; 32]);
    let part = Bytes::from(vec![b'D'; limits::INDEX_PART_BYTES_MAX]);
    let mut peer = Peer::connect(&setup.daemon);
    peer.publish(id);
    assert_eq!(peer.submit(signed(setup.publisher.secret(), Verb::Append, "/data/long", id)).reject_reason, None);
    let Message::Request { id: asked, request: Request::GetIndexPart { offset: 0, .. } } = peer.receive() else {
        panic!("the index is asked for first")
    };
    peer.respond(asked, Response::GetIndexPart { data: part, total: 1 << 30 });
    wait_for_status(&setup.daemon, "/data/long", |entry| {
        entry["waiting"].as_str().is_some_and(|text| !text.is_empty())
    });
    // Nothing more is asked of it.
    setup.still_serves();
    assert!(setup.peak_kb() < super::PEAK_KB_MAX / 2, "{} kB", setup.peak_kb());
    drop(peer);
}

/// An honest image of nothing but directories: it takes its time and its place, and nobody else's. `CIRUELA_LONG=1`: a million.
#[test]
#[expect(clippy::print_stdout, reason = "a figure of doc/reliability.md")]
fn as_many_empty_directories_as_that() {
    let mut setup = Setup::in_memory(168);
    let count = if std::env::var_os("CIRUELA_LONG").is_some() { 1_000_000 } else { 100_000 };
    let lines = (0..count).fold(String::from("/\n"), |lines, number| lines + &format!("/d{number:06}\n"));
    let outcome = publish(&setup, "/data/many", lines.as_bytes(), b"");
    assert_eq!(outcome.result, "done", "{outcome:?}");
    assert_eq!(fs::read_dir(setup.daemon.data("data/many")).expect("it is there").count(), count);
    println!("{count} directories: {} MB at most", setup.peak_kb() / 1_000);
    setup.still_serves();
}

/// A replace that turns out to be unusable leaves what was there, and the change that put it there.
#[test]
fn a_replace_that_is_harmful() {
    let mut setup = Setup::new(68);
    let replace = to(&setup.root, "/conf/site");
    setup.publisher.run(&["--replace", &replace], &addresses(&[&setup.daemon])).expect(0);
    let lines = format!("/\n  .. f 1 {}\n", block(b"x"));
    let (id, text) = index(lines.as_bytes());
    let text = Bytes::from(text);
    let mut peer = Peer::connect(&setup.daemon);
    peer.publish(id);
    assert_eq!(peer.submit(signed(setup.publisher.secret(), Verb::Replace, "/conf/site", id)).reject_reason, None);
    let outcome = peer.outcome(|peer, request, _| {
        peer.respond(request, Response::GetIndexPart { data: text.clone(), total: text.len() as u64 });
    });
    assert_eq!(outcome.result, "failed");
    assert_eq!(tree(&setup.daemon.data("conf-data/site")), tree(&setup.root));
    for _ in 0..2 {
        let again = setup.publisher.run(&["--replace", &replace], &addresses(&[&setup.daemon])).expect(0);
        assert_eq!(again.result(&setup.daemon, "/conf/site"), "already");
        setup.daemon.kill();
        setup.daemon.spawn();
    }
    setup.still_serves();
}

/// Links are made as they are, and nothing is ever written through one.
#[test]
fn links_that_lead_out() {
    let mut setup = Setup::new(67);
    let outside = setup.daemon.folder.path().join("outside");
    fs::create_dir(&outside).expect("mkdir");
    let target = outside.to_str().expect("UTF-8");
    let lines = format!("/\n  a s {target}\n  b f 1 {}\n  c s ../../conf\n", block(b"x"));
    let outcome = publish(&setup, "/data/links", lines.as_bytes(), b"x");
    assert_eq!(outcome.result, "done", "{outcome:?}");
    assert_eq!(fs::read_link(setup.daemon.data("data/links/a")).expect("a link"), outside);
    assert_eq!(fs::read_dir(&outside).expect("readable").count(), 0);
    // Nor are they followed by whoever asks for blocks below them.
    setup.still_serves();
}
