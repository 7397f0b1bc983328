//! Trees to be published, each the same in every run.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use ciruela::driver::scan::{Scan, ScanOptions, scan};

/// Bytes that differ with `seed` and don't repeat.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ word >> 31).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a file with exactly that mode.
pub(crate) fn file(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().expect("below a root")).expect("mkdir");
    fs::write(path, content).expect("write");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// `count` files of `bytes` each, in folders of 50.
pub(crate) fn plain(root: &Path, seed: u64, count: usize, bytes: usize) {
    for number in 0..count {
        let path = root.join(format!("d{:02}/f{number:04}", number / 50));
        file(&path, &noise(seed << 32 | number as u64, bytes), 0o644);
    }
}

/// Some 300 entries of all kinds, with names that are awkward one way or another, and one file of 5 MiB.
pub(crate) fn mixed(root: &Path, seed: u64) {
    plain(&root.join("plain"), seed, 220, 3_000);
    file(&root.join("large"), &noise(seed, 5 << 20), 0o644);
    for (number, size) in [1, 32_767, 32_768, 32_769, 65_536, 100_000].into_iter().enumerate() {
        file(&root.join(format!("sizes/{size}")), &noise(seed + number as u64, size), 0o644);
    }
    for number in 0..20 {
        file(&root.join(format!("bin/tool{number}")), format!("#!/bin/sh\necho {seed} {number}\n").as_bytes(), 0o755);
        file(&root.join(format!("empty/{number}")), b"", if number % 2 == 0 { 0o644 } else { 0o755 });
        symlink(format!("../bin/tool{number}"), {
            fs::create_dir_all(root.join("links")).expect("mkdir");
            root.join(format!("links/{number}"))
        })
        .expect("symlink");
    }
    for target in ["/etc/passwd", "nowhere", ".", "../../../../outside", "to the\nnext line", "ünïcode→"] {
        let name = format!("links/to {}", target.replace('/', "∕"));
        symlink(target, root.join(name)).expect("symlink");
    }
    let long = "n".repeat(255);
    let wide = "я".repeat(127);
    let names = [
        "ünïcode",
        "日本語",
        "emoji 🦀",
        "a b",
        " lead",
        "trail ",
        "-rf",
        "--",
        "...",
        "..x",
        ".hidden",
        "new\nline",
        "tab\there",
        "back\\slash",
        "\\x2e",
        "quote\"'",
        "$(id)",
        "*?[]",
        "\u{7f}",
        "\u{1}",
        "\u{202e}rtl",
        "e\u{301}",
        "é",
        "a:b",
        "%41",
        &long,
        &wide,
    ];
    for name in names {
        file(&root.join("names").join(name), name.as_bytes(), 0o644);
        fs::create_dir_all(root.join("name dirs").join(name).join("empty inside")).expect("mkdir");
    }
    file(&root.join("twin/a"), &noise(seed, 40_000), 0o644);
    file(&root.join("twin/b"), &noise(seed, 40_000), 0o755);
    let deep = (0..40).fold(root.join("deep"), |path, level| path.join(format!("level{level}")));
    file(&deep.join("bottom"), b"here", 0o644);
}

/// The tree's index and id.
pub(crate) fn scanned(root: &Path) -> Scan {
    scan(root, &ScanOptions::default(), &|_| ()).expect("it can be scanned")
}
