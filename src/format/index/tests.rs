//! Tests of both directions.

use proptest::prelude::*;

use super::*;
use crate::format::hash::{Hasher, hash_one};
use crate::model::hash_kind::HashKind;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::{Image, ImageBuilder, blocks_of};
use crate::model::limits;

const H: &str = "7cad5d56fd1fa0b21f882092ade9f5e8a3df78eab895bda82a76f1ae49567043";

/// A text with that body, and a header and closing hash that fit.
fn text(body: &str) -> Vec<u8> {
    let footer = ImageId::new(Hasher::new(HashKind::Blake2b256).update(body.as_bytes()).finish());
    format!("DIRSIGNATURE.v1 blake2b/256 block_size=32768\n{body}{footer}\n").into_bytes()
}

fn error(text: &[u8]) -> String {
    parse(text).expect_err(&String::from_utf8_lossy(text)).to_string()
}

fn small_image(kind: HashKind) -> Image {
    let mut builder = ImageBuilder::new(kind);
    builder.directory("").expect("root");
    builder.file("a b", true, 5, &[hash_one(kind, b"hello")]).expect("file");
    builder.file("empty", false, 0, &[]).expect("file");
    builder.symlink("link", "../\u{e9}\\x").expect("link");
    builder.directory("sub").expect("directory");
    builder.directory("sub/\u{fc}").expect("directory");
    builder.file("big", false, 70_000, &[1, 2, 3].map(|i| BlockHash::new([i; 32]))).expect("file");
    builder.finish().expect("complete")
}

#[test]
fn round_trip() {
    for kind in HashKind::ALL {
        let image = small_image(kind);
        let (id, text) = emit(&image);
        assert_eq!(text.len() as u64, text_bytes(&image));
        assert_eq!(id_of(&image), id);
        assert_eq!(parse(&text), Ok((id, image.clone())));
        assert_eq!(parse_for(id, &text), Ok(image));
    }
}

#[test]
fn pieces_of_large_images_join() {
    let mut builder = ImageBuilder::new(HashKind::Blake3);
    builder.directory("").expect("root");
    let size = 10_000 * limits::BLOCK_BYTES as u64 - 1;
    builder.file("big", false, size, &vec![BlockHash::new([7; 32]); 10_000]).expect("file");
    let image = builder.finish().expect("complete");
    let (mut pieces, mut joined) = (0, Vec::new());
    let id = emit_to(&image, |piece| {
        pieces += 1;
        joined.extend_from_slice(piece);
    });
    assert!(pieces > 5, "{pieces}");
    assert_eq!((id, joined), emit(&image));
}

#[test]
fn header_errors() {
    let good = String::from_utf8(text("/\n")).expect("ASCII");
    assert!(parse(good.as_bytes()).is_ok());
    for (from, to, expected) in [
        ("DIRSIGNATURE.v1", "DIRSIGNATURE.v2", "line 1: not an index: expected `DIRSIGNATURE.v1"),
        ("DIRSIGNATURE", "dirsignature", "got `dirsignature.v1\\x20blake2b/256"),
        ("32768", "65536", "line 1: not an index"),
        ("32768", "32768 ", "line 1: not an index"),
        (" blake", "  blake", "line 1: unknown hash \" blake2b/256\""),
        ("blake2b", "md5", "line 1: unknown hash \"md5/256\": expected blake2b/256, blake3/256 or sha512/256"),
        ("blake2b/256", "blake3/256", "line 3: the closing hash is"),
        ("\n/", "\r\n/", "line 1: not an index"),
        ("DIR", "\u{feff}DIR", "line 1: not an index"),
    ] {
        let message = error(good.replacen(from, to, 1).as_bytes());
        assert!(message.contains(expected), "{to:?}: {message}");
    }
}

#[test]
fn truncated_anywhere() {
    let (id, whole) = emit(&small_image(HashKind::default()));
    for end in 0..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        assert!(parse_for(id, &whole[..end]).is_err(), "cut at {end}");
    }
    assert!(error(b"").starts_with("line 1: the text ends before its last line"));
    assert!(error(&whole[..whole.len() - 1]).contains("the text ends before"));
    assert!(error(&[&whole[..], b"\n"].concat()).contains("something follows the closing hash"));
    assert!(error(&[&whole[..], b"/z\n"].concat()).contains("something follows the closing hash"));
}

#[test]
fn one_changed_byte_is_noticed() {
    let (id, whole) = emit(&small_image(HashKind::default()));
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(parse(&changed).is_err(), "byte {at}");
        assert!(parse_for(id, &changed).is_err(), "byte {at}");
    }
}

#[test]
fn another_image_is_refused() {
    let (id, whole) = emit(&small_image(HashKind::default()));
    let (other, _) = emit(&small_image(HashKind::Blake3));
    let message = parse_for(other, &whole).expect_err("another image").to_string();
    assert_eq!(message, format!("line 9: this is the index of image {id}, expected {other}"));
    // The hash is looked at first: nothing of a forged text is parsed.
    let forged = String::from_utf8(whole).expect("ASCII").replace("/sub\n", "/..\n");
    let message = parse_for(id, forged.as_bytes()).expect_err("forged").to_string();
    assert!(message.starts_with("line 9: the closing hash is"), "{message}");
}

#[test]
fn body_errors() {
    for (body, expected) in BODY_ERRORS {
        let message = error(&text(&body.replace("HASH", H).replace("hash", &H.to_uppercase())));
        assert!(message.contains(expected), "{body:?}:\n{message}\nlacks\n{expected}");
    }
}

#[test]
fn long_names() {
    let name = "n".repeat(limits::NAME_BYTES_MAX);
    assert!(parse(&text(&format!("/\n  {name} f 0\n/{name}x\n"))).is_err());
    assert!(parse(&text(&format!("/\n  {name} f 0\n"))).is_ok());
    assert!(error(&text(&format!("/\n  {name}n f 0\n"))).contains("longer than 255 bytes"));
    assert!(error(&text(&format!("/\n/{name}n\n"))).contains("longer than 255 bytes"));
    let target = "t".repeat(limits::SYMLINK_TARGET_BYTES_MAX);
    assert!(parse(&text(&format!("/\n  a s {target}\n"))).is_ok());
    assert!(error(&text(&format!("/\n  a s {target}t\n"))).contains("longer than 4095 bytes"));
    // Paths of exactly the bound, and one byte more: 16 directories of 254 bytes and their separators are 4,079.
    let mut body = String::from("/\n");
    let mut path = String::new();
    for _ in 0..16 {
        path = format!("{path}/{}", "d".repeat(254));
        body.push_str(&path);
        body.push('\n');
    }
    let left = limits::PATH_BYTES_MAX - path.len();
    assert!(parse(&text(&format!("{body}  {} f 0\n", "f".repeat(left)))).is_ok());
    assert!(error(&text(&format!("{body}  {} f 0\n", "f".repeat(left + 1)))).contains("longer than 4096 bytes"));
    assert!(parse(&text(&format!("{body}{path}/{}\n", "f".repeat(left)))).is_ok());
    assert!(error(&text(&format!("{body}{path}/{}\n", "f".repeat(left + 1)))).contains("longer than 4096 bytes"));
    // Errors stay short.
    assert!(error(&text(&format!("/\n  a f {}\n", "9".repeat(100_000)))).len() < 1_000);
    assert!(error(&text(&format!("/\n  {} f -\n", "\u{e9}".repeat(100_000)))).len() < 1_000);
}

#[test]
fn deep_directories() {
    let nested = |depth: usize| {
        let mut body = String::from("/\n");
        let mut path = String::new();
        for _ in 0..depth {
            path.push_str("/d");
            body.push_str(&path);
            body.push('\n');
        }
        text(&body)
    };
    assert!(parse(&nested(limits::DEPTH_MAX)).is_ok());
    assert!(error(&nested(limits::DEPTH_MAX + 1)).contains("more than 1024 nested directories"));
}

#[test]
fn a_million_empty_directories() {
    let mut body = String::from("/\n");
    for i in 0..1_000_000 {
        use std::fmt::Write as _;
        writeln!(body, "/{i:07}").expect("in memory");
    }
    let text = text(&body);
    let (id, image) = parse(&text).expect("well-formed");
    assert_eq!(image.entry_count(), 1_000_001);
    assert_eq!(emit(&image), (id, text));
}

/// Components: ordinary ones, and such as sort or escape oddly.
fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c]{1,2}",
        1 => "[ -~]{1,6}",
        1 => "[a-c\\-./ \\\\\u{1}\u{7f}\n\u{e9}\u{65e5}\u{1f600}]{1,4}",
        1 => proptest::collection::vec(any::<char>(), 1..6).prop_map(|chars| chars.into_iter().collect()),
    ]
    .prop_filter("no name", |name: &String| crate::model::vpath::component_error(name).is_none())
}

/// What becomes of a path.
#[derive(Debug, Clone)]
enum Node {
    Directory,
    File(bool, u64),
    Link(String),
}

fn image() -> impl Strategy<Value = Image> {
    let node = prop_oneof![
        Just(Node::Directory),
        (any::<bool>(), prop_oneof![0_u64..3, 0_u64..200_000]).prop_map(|(x, size)| Node::File(x, size)),
        "[^\0]{1,20}".prop_map(Node::Link),
    ];
    let path = proptest::collection::vec(component(), 1..5);
    let kind = proptest::sample::select(&HashKind::ALL[..]);
    (kind, proptest::collection::vec((path, node), 0..40)).prop_map(|(kind, nodes)| build(kind, &nodes))
}

/// Adds parents, drops clashes, sorts.
fn build(kind: HashKind, nodes: &[(Vec<String>, Node)]) -> Image {
    use std::collections::BTreeMap;
    // The keys' order is that of the format: component by component.
    let mut directories = BTreeMap::<Vec<Vec<u8>>, BTreeMap<Vec<u8>, Node>>::from([(Vec::new(), BTreeMap::new())]);
    let bytes = |path: &[String]| path.iter().map(|name| name.clone().into_bytes()).collect::<Vec<_>>();
    for (path, node) in nodes {
        let parents = if matches!(node, Node::Directory) { path.len() } else { path.len() - 1 };
        (0..=parents).for_each(|depth| {
            directories.entry(bytes(&path[..depth])).or_default();
        });
        let (name, parent) = path.split_last().expect("not empty");
        if !matches!(node, Node::Directory) {
            let entries = directories.get_mut(&bytes(parent)).expect("made above");
            entries.insert(name.clone().into_bytes(), node.clone());
        }
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("from a string");
    let mut builder = ImageBuilder::new(kind);
    for (path, entries) in &directories {
        builder.directory(&path.iter().map(|name| text(name)).collect::<Vec<_>>().join("/")).expect("sorted");
        for (name, node) in entries {
            if directories.contains_key(&[path.as_slice(), std::slice::from_ref(name)].concat()) {
                continue;
            }
            match node {
                Node::Directory => {}
                Node::File(executable, size) => {
                    let hashes = (0..blocks_of(*size)).map(|i| hash_one(kind, &i.to_le_bytes())).collect::<Vec<_>>();
                    builder.file(&text(name), *executable, *size, &hashes).expect("sorted");
                }
                Node::Link(target) => builder.symlink(&text(name), target).expect("sorted"),
            }
        }
    }
    builder.finish().expect("complete")
}

proptest! {
    #[test]
    fn any_image_round_trips(image in image()) {
        let (id, text) = emit(&image);
        let printed = IndexText::of(std::sync::Arc::new(image.clone()));
        prop_assert_eq!((printed.id(), printed.len()), (id, text.len() as u64));
        for step in [1, 7, 64, 1_000, text.len(), text.len() + 1] {
            let parts: Vec<u8> = (0..text.len()).step_by(step).flat_map(|at| printed.part(at as u64, step)).collect();
            prop_assert_eq!(&parts, &text, "parts of {}", step);
        }
        prop_assert!(printed.part(text.len() as u64, 9).is_empty() && printed.part(u64::MAX, 9).is_empty());
        prop_assert_eq!(text.len() as u64, text_bytes(&image));
        prop_assert!(text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
        let (parsed_id, parsed) = parse(&text).expect("own text");
        prop_assert_eq!(parsed_id, id);
        prop_assert_eq!(&parsed, &image);
        prop_assert_eq!(parse_for(id, &text).expect("own text"), parsed);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(parse_for(ImageId::new([0; 32]), &bytes).is_err());
    }

    /// Bodies made of fragments of the format: what is accepted is printed the same.
    #[test]
    fn only_canonical_texts(parts in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..24)) {
        let text = text(&format!("/\n{}", parts.concat().replace("HASH", H)));
        if let Ok((id, image)) = parse(&text) {
            prop_assert_eq!(emit(&image), (id, text));
        }
    }
}

const FRAGMENTS: &[&str] = &[
    "\n",
    "\n",
    "\n",
    "\n  ",
    "\n  ",
    "/",
    "/a",
    "/b",
    "a",
    "b",
    " ",
    "  a f 0\n",
    "  b x 1 HASH\n",
    "  c s ",
    "\\x20",
    "\\x41",
    "\\xc3\\xbc",
    " f 0",
    " f 1 HASH",
    " x 0",
    " s ",
    "0",
    "1",
    "HASH",
    "..",
    ".",
    "\\",
    "-",
];

/// Body, and part of the error; HASH stands for a hash, hash for one in uppercase.
const BODY_ERRORS: &[(&str, &str)] = &[
    // Lines.
    ("", "line 2: the root directory, `/`, must come first"),
    ("x\n", "line 2: expected a directory (`/...`), an entry (two spaces) or the closing hash, got `x`"),
    ("/\n\n", "line 3: expected a directory"),
    ("/\n f f 0\n", "line 3: expected a directory"),
    ("/\n\tf f 0\n", "line 3: expected a directory (`/...`), an entry (two spaces) or the closing hash, got `\\x09f"),
    ("/\n   f f 0\n", "line 3: bad entry : its name is missing"),
    ("  a f 0\n", "line 2: the root directory, `/`, must come first"),
    ("/a\n", "line 2: the root directory, `/`, must come first"),
    ("/\r\n", "line 2: bad text `\\x0d`: a space, control character or byte from 0x7f on is not escaped"),
    // Entries.
    ("/\n  a\n", "line 3: bad entry a: its type (`f`, `x` or `s`) is missing"),
    ("/\n  a \n", "line 3: bad entry a: its type must be"),
    ("/\n  a F 0\n", "line 3: bad entry a: its type must be"),
    ("/\n  a f\n", "line 3: bad entry a: its size is missing"),
    ("/\n  a f \n", "line 3: bad entry a: its size must be"),
    ("/\n  a f 0 \n", "line 3: bad entry a: a hash must be 64"),
    ("/\n  a f 00\n", "line 3: bad entry a: its size must be a decimal number without leading zeros"),
    ("/\n  a f 01 HASH\n", "line 3: bad entry a: its size must be"),
    ("/\n  a f +1 HASH\n", "line 3: bad entry a: its size must be"),
    ("/\n  a f 0x1 HASH\n", "line 3: bad entry a: its size must be"),
    ("/\n  a f 18446744073709551616\n", "line 3: bad entry a: its size must be"),
    ("/\n  a f 18446744073709551615\n", "line 3: /a has 0 hashes, but its size of 18446744073709551615"),
    ("/\n  a f 0 HASH\n", "line 3: /a has 1 hashes, but its size of 0 bytes needs 0"),
    ("/\n  a f 1\n", "line 3: /a has 0 hashes, but its size of 1 bytes needs 1"),
    ("/\n  a f 32769 HASH\n", "line 3: /a has 1 hashes, but its size of 32769 bytes needs 2"),
    ("/\n  a f 32768 HASH HASH\n", "line 3: /a has 2 hashes, but its size of 32768 bytes needs 1"),
    ("/\n  a f 1  HASH\n", "line 3: bad entry a: a hash must be"),
    ("/\n  a f 1 HASH \n", "line 3: bad entry a: a hash must be"),
    ("/\n  a f 1 hash\n", "line 3: bad entry a: a hash must be"),
    ("/\n  a  f 0\n", "line 3: bad entry a: its type must be"),
    ("/\n  a s\n", "line 3: bad entry a: the link's target is missing"),
    ("/\n  a s \n", "line 3: bad name /a: the link's target is empty"),
    ("/\n  a s b c\n", "line 3: bad text `b\\x20c`: a space"),
    ("/\n  a s \\x00\n", "line 3: bad name /a: the link's target contains NUL"),
    // Names.
    ("/\n  . f 0\n", "line 3: bad name /.: `.` and `..` are not allowed"),
    ("/\n  .. s x\n", "line 3: bad name /..: `.` and `..` are not allowed"),
    ("/\n  a/b f 0\n", "line 3: bad name /a/b: a component contains `/` or NUL"),
    ("/\n  /etc/passwd f 0\n", "line 3: bad name //etc/passwd: a component contains"),
    ("/\n  a\\x00 f 0\n", "line 3: bad name /a\\x00: a component contains"),
    ("/\n  a\\x2fb f 0\n", "line 3: bad text `a\\x5cx2fb`: a printable character is escaped"),
    ("/\n  \\x41 f 0\n", "line 3: bad text `\\x5cx41`: a printable character is escaped"),
    ("/\n  \\xC3\\xBC f 0\n", "line 3: bad text `\\x5cxC3\\x5cxBC`: a backslash must be followed by"),
    ("/\n  a\\ f 0\n", "a backslash must be followed by `x`"),
    ("/\n  a\\n f 0\n", "a backslash must be followed by `x`"),
    ("/\n  a\\x4 f 0\n", "a backslash must be followed by `x`"),
    ("/\n  a\\xg0 f 0\n", "a backslash must be followed by `x`"),
    ("/\n  \u{e9} f 0\n", "line 3: bad text `\\xc3\\xa9`: a space, control character"),
    ("/\n  \\xff f 0\n", "line 3: bad text `\\x5cxff`: it is not UTF-8"),
    ("/\n  \\xc3 f 0\n", "it is not UTF-8"),
    ("/\n  \\xed\\xa0\\x80 f 0\n", "it is not UTF-8"),
    ("/\n  \\xc0\\xaf f 0\n", "it is not UTF-8"),
    // Directories.
    ("/\n/..\n", "line 3: bad name /..: `.` and `..`"),
    ("/\n/a/../b\n", "line 3: bad name /a/../b: `.` and `..`"),
    ("/\n//\n", "line 3: bad name //: a component is empty"),
    ("/\n/a\n/a/\n", "line 4: bad name /a/: a component is empty"),
    ("/\n/a/\n", "line 3: bad name /a/: a component is empty"),
    ("/\n/a b\n", "line 3: bad text `a\\x20b`"),
    ("/\n/a/b\n", "line 3: directory /a/b has no parent"),
    ("/\n/a\n/b/c\n", "line 4: directory /b/c has no parent"),
    ("/\n/a\n/a-b/c\n", "line 4: directory /a-b/c has no parent"),
    ("/\n  a s /etc\n/a/b\n", "line 4: directory /a/b has no parent"),
    ("/\n  a s /etc\n/a\n", "line 4: /a is both a directory and a file or link"),
    ("/\n  a f 0\n/a\n", "line 4: /a is both a directory and a file or link"),
    ("/\n/a\n  b f 0\n/a/b\n", "line 5: /a/b is both a directory and a file or link"),
    // Order.
    ("/\n/\n", "line 3: / is out of order or there twice"),
    ("/\n/a\n/a\n", "line 4: /a is out of order or there twice"),
    ("/\n/b\n/a\n", "line 4: /a is out of order or there twice"),
    ("/\n/a\n/a-b\n/a/c\n", "line 5: /a/c is out of order or there twice"),
    ("/\n  a f 0\n  a f 0\n", "line 4: /a is out of order or there twice"),
    ("/\n  b f 0\n  a f 0\n", "line 4: /a is out of order or there twice"),
    ("/\n/d\n  \\xc3\\xbc f 0\n  z s x\n", "line 5: /d/z is out of order or there twice"),
];
