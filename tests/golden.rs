//! The index of real directories, byte for byte what the published writers of the format print for them.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ciruela::driver::scan::{ScanOptions, compare, scan};
use ciruela::format::index::{emit, parse, parse_for};
use ciruela::model::hash_kind::HashKind;

const KINDS: [(HashKind, &str); 3] =
    [(HashKind::Blake2b256, "blake2b"), (HashKind::Blake3, "blake3"), (HashKind::Sha512_256, "sha512")];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

fn golden(tree: &str, kind: &str) -> Vec<u8> {
    fs::read(data().join(format!("{tree}.{kind}.ds1"))).expect("golden file")
}

/// `%41` → `A`.
fn decode(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let ([high, low, after @ ..], b'%') = (tail, first) {
            let digits = [*high, *low];
            let digits = std::str::from_utf8(&digits).expect("ASCII");
            bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

fn content(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + i / 251 * 7 + seed).to_le_bytes()[0]).collect()
}

/// Makes the trees of `trees.txt` below `base`, each in a directory of its name; returns the names.
fn make_trees(base: &Path) -> Vec<String> {
    let text = fs::read_to_string(data().join("trees.txt")).expect("trees.txt");
    let mut names = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words = line.split(' ').collect::<Vec<_>>();
        if let ["tree", name] = words[..] {
            fs::create_dir(base.join(name)).expect("mkdir");
            names.push(name.to_owned());
            continue;
        }
        let path = base.join(names.last().expect("a tree first")).join(decode(words[1]));
        fs::create_dir_all(path.parent().expect("below the base")).expect("mkdir");
        match words[..] {
            ["d", _] => fs::create_dir_all(&path).expect("mkdir"),
            ["s", _, target] => symlink(decode(target), &path).expect("symlink"),
            [kind @ ("f" | "x"), _, size, seed] => {
                let (size, seed) = (size.parse().expect("size"), seed.parse().expect("seed"));
                fs::write(&path, content(size, seed)).expect("write");
                let mode = if kind == "x" { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            }
            _ => panic!("unknown line {line:?}"),
        }
    }
    names
}

#[test]
fn scanned_trees_equal_the_golden_files() {
    let base = tempfile::tempdir().expect("tempdir");
    let trees = make_trees(base.path());
    assert_eq!(trees.len(), 7, "{trees:?}");
    for tree in trees {
        for (kind, suffix) in KINDS {
            let golden = golden(&tree, suffix);
            for threads in [1, 3] {
                let options = ScanOptions { threads: std::num::NonZero::new(threads), ..ScanOptions::new(kind) };
                let scan = scan(&base.path().join(&tree), &options, &|_| ()).expect("scan");
                assert_eq!(
                    String::from_utf8_lossy(&scan.index.to_vec()),
                    String::from_utf8_lossy(&golden),
                    "{tree}.{suffix} with {threads} threads"
                );
                assert!(scan.index.to_vec().ends_with(format!("{}\n", scan.id).as_bytes()));
            }
            let (_, image) = parse(&golden).expect("valid");
            let differences = compare(&base.path().join(&tree), &image, &ScanOptions::default(), &|_| ());
            assert_eq!(differences.expect("readable"), [], "{tree}.{suffix}");
        }
    }
}

#[test]
fn golden_files_round_trip() {
    let mut count = 0;
    for file in fs::read_dir(data()).expect("golden files") {
        let path = file.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "ds1") {
            let text = fs::read(&path).expect("readable");
            let (id, image) = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(emit(&image), (id, text.clone()), "{}", path.display());
            assert_eq!(parse_for(id, &text), Ok(image));
            count += 1;
        }
    }
    assert_eq!(count, 21);
}
