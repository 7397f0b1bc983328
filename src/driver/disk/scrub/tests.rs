//! What is found of each kind of change, and that parts of a scrub are as good as the whole.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;
use crate::driver::disk::real::RealFileSystem;
use crate::driver::scan::{ScanOptions, scan};
use crate::model::directory::DirectoryConfig;

/// A base directory with the tree `t`, and the image that it was.
struct World {
    folder: tempfile::TempDir,
    image: std::sync::Arc<Image>,
    root: FileIdentity,
    place: Place,
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
}

fn file(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, content).expect("written");
    set_mode(path, mode);
}

impl World {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = folder.path().join("t");
        fs::create_dir(&tree).expect("made");
        fill(&tree);
        let image = scan(&tree, &ScanOptions::default(), &|_| ()).expect("readable").image;
        let metadata = fs::metadata(&tree).expect("there");
        let config = DirectoryConfig::plain("k", folder.path().to_owned());
        let place = Place::new(&config, &"/k/t".parse().expect("valid")).expect("fits");
        Self { image, root: FileIdentity { dev: metadata.dev(), ino: metadata.ino() }, place, folder }
    }

    fn small() -> Self {
        Self::new(|tree| {
            file(&tree.join("a"), b"content", 0o644);
            file(&tree.join("sub/b"), &vec![7; 100_000], 0o644);
            file(&tree.join("sub/deep/c"), b"c", 0o755);
            file(&tree.join("empty"), b"", 0o644);
            symlink("sub/b", tree.join("link")).expect("made");
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("t").join(path)
    }

    fn step(&self, from: Cursor) -> Option<(Part, Vec<Hashed>)> {
        scrub(&RealFileSystem, &self.place, &self.image, self.root, from).expect("nothing fails")
    }

    /// All steps: findings as text, what was hashed, bytes, and how many steps there were.
    fn whole(&self) -> (Vec<String>, Vec<Hashed>, u64, usize) {
        let (mut found, mut hashed, mut bytes, mut steps) = (Vec::new(), Vec::new(), 0, 0);
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let (part, files) = self.step(from).expect("the tree is there");
            let words = part.findings.iter().map(|one| format!("{}: {} {}", one.flaw.name(), one.file, one.what));
            found.extend(words);
            hashed.extend(files);
            bytes += part.bytes;
            steps += 1;
            cursor = part.next;
        }
        found.sort();
        (found, hashed, bytes, steps)
    }

    fn found(&self) -> Vec<String> {
        self.whole().0
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let world = World::small();
    let (found, hashed, bytes, steps) = world.whole();
    assert_eq!((found, bytes, steps), (vec![], 100_008, 1));
    assert!(hashed.len() == 3 && hashed.iter().all(|file| file.right), "{hashed:?}");
    let inode = fs::metadata(world.at("a")).expect("there").ino();
    assert_eq!(hashed.iter().filter(|file| file.fingerprint.ino == inode).count(), 1);
}

#[test]
fn each_kind_of_change() {
    let expect = |change: &dyn Fn(&World), expected: &[&str]| {
        let world = World::small();
        change(&world);
        assert_eq!(world.found(), expected);
    };
    expect(
        &|w| fs::write(w.at("a"), "contenT").expect("written"),
        &["content: a was changed on this node: 1 of 1 blocks don't fit"],
    );
    expect(&|w| fs::write(w.at("a"), "more content").expect("written"), &["size: a has 12 bytes, not 7"]);
    expect(&|w| fs::write(w.at("empty"), "x").expect("written"), &["size: empty has 1 bytes, not 0"]);
    expect(&|w| fs::remove_file(w.at("sub/deep/c")).expect("removed"), &["missing: sub/deep/c is gone"]);
    expect(&|w| set_mode(&w.at("a"), 0o755), &["mode: a has mode 0755, not 0644"]);
    expect(&|w| set_mode(&w.at("sub"), 0o777), &["mode: sub has mode 0777, not 0755"]);
    expect(&|w| file(&w.at("sub/x y"), b"", 0o644), &[r"extra: sub/x\x20y is a file that isn't in the image"]);
    // Of what is in it, nothing.
    expect(&|w| file(&w.at("new/deep/x"), b"", 0o644), &["extra: new is a directory that isn't in the image"]);
    expect(&|w| fs::remove_dir_all(w.at("sub")).expect("removed"), &["missing: sub is gone"]);
    let replaced = |w: &World, path: &str, target: &str| {
        let path = w.at(path);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.expect("removed");
        symlink(target, path).expect("made");
    };
    expect(&|w| replaced(w, "a", "sub/b"), &["kind: a is a link, not a file"]);
    expect(&|w| replaced(w, "link", "/etc/passwd"), &["target: link points to /etc/passwd, not to sub/b"]);
    // What is behind the link isn't looked at.
    expect(&|w| replaced(w, "sub", "/tmp"), &["kind: sub is a link, not a directory"]);
    let other_file = |w: &World| {
        fs::remove_file(w.at("link")).expect("removed");
        file(&w.at("link"), b"", 0o644);
    };
    expect(&other_file, &["kind: link is a file, not a link"]);
}

#[test]
fn the_root() {
    let world = World::small();
    fs::create_dir(world.folder.path().join("other")).expect("made");
    let missing = |what: &str| {
        let (part, _) = world.step(Cursor::default()).expect("told");
        assert_eq!(part.findings.iter().map(|one| (&*one.file, &*one.what)).collect::<Vec<_>>(), [(".", what)]);
        assert_eq!(part.next, None);
    };
    fs::remove_dir_all(world.at("")).expect("removed");
    missing("is gone");
    fs::write(world.folder.path().join("t"), "").expect("written");
    missing("is a file, not a directory");
    fs::remove_file(world.folder.path().join("t")).expect("removed");
    fs::create_dir(world.at("")).expect("made");
    let fresh = fs::metadata(world.at("")).expect("there").ino();
    assert!(fresh == world.root.ino || world.step(Cursor::default()).is_none(), "another directory is no finding");
}

#[test]
fn large_files_and_many_are_read_in_parts() {
    let content: Vec<u8> = (0..20_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
    let world = World::new(|tree| {
        file(&tree.join("large"), &content, 0o644);
        for n in 0..1_500 {
            file(&tree.join(format!("many/{n}")), n.to_string().as_bytes(), 0o644);
        }
    });
    let (found, hashed, bytes, steps) = world.whole();
    assert_eq!(found, [""; 0]);
    assert_eq!(bytes, 20_000_000 + 10 + 90 * 2 + 900 * 3 + 500 * 4);
    assert!((4..8).contains(&steps), "{steps}");
    assert!(hashed.len() == 1_501 && hashed.iter().all(|file| file.right));
    // A wrong block in the first part and one in the last: one finding, at the end of the file.
    let mut content = content;
    content[5] ^= 1;
    content[19_999_999] ^= 1;
    fs::write(world.at("large"), &content).expect("written");
    fs::remove_file(world.at("many/77")).expect("removed");
    file(&world.at("many/extra"), b"", 0o644);
    let (found, hashed, ..) = world.whole();
    assert_eq!(
        found,
        [
            "content: large was changed on this node: 2 of 611 blocks don't fit",
            "extra: many/extra is a file that isn't in the image",
            "missing: many/77 is gone"
        ]
    );
    assert_eq!(hashed.iter().filter(|file| !file.right).count(), 1);
}
