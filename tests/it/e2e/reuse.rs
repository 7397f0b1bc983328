//! What a daemon has on its disk already is linked or copied, and nothing of it is ever trusted wrongly.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{source, start, status};
use crate::daemon::{Daemon, tree};
use crate::publisher::{Publisher, addresses, to};
use crate::trees::{file, noise, plain};

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).expect("there").ino()
}

/// A copy of a tree, as its owner would make the next version.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            std::fs::create_dir(&target).expect("mkdir");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// The next version of a tree.
fn next(publisher: &Publisher, name: &str, before: &Path) -> PathBuf {
    source(publisher, name, |root| copy(before, root))
}

fn damage(daemon: &Daemon, path: &str) -> Option<String> {
    status(daemon, path).expect("known")["damaged"].as_str().map(str::to_owned)
}

#[test]
fn files_of_another_version_are_linked() {
    let publisher = Publisher::new(70);
    let daemons = start(&publisher, [70, 71]);
    let all = addresses(&daemons.each_ref());
    let first = source(&publisher, "first", |root| {
        plain(root, 1, 200, 5_000);
        file(&root.join("tool"), &noise(7, 100_000), 0o644);
        file(&root.join("empty"), b"", 0o644);
    });
    publisher.run(&["--append", &to(&first, "/data/v1")], &all).expect(0);
    let second = next(&publisher, "second", &first);
    file(&second.join("new"), &noise(8, 3_000), 0o644);
    std::fs::set_permissions(second.join("tool"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    // Also in another directory config, on the same file system.
    publisher.run(&["--append", &to(&second, "/data/v2")], &all).expect(0);
    publisher.run(&["--replace", &to(&second, "/conf/v")], &all).expect(0);
    for daemon in &daemons {
        for there in ["data/v2", "conf-data/v"] {
            let (old, new) = (daemon.data("data/v1"), daemon.data(there));
            assert_eq!(tree(&new), tree(&second));
            let names: Vec<_> = tree(&first).into_keys().filter(|name| first.join(name).is_file()).collect();
            assert!(names.len() > 200);
            for name in names {
                let shared = inode(&old.join(&name)) == inode(&new.join(&name));
                assert_eq!(shared, name != "tool" && name != "empty", "{there}/{name}");
            }
        }
        assert_eq!(tree(&daemon.data("data/v1")), tree(&first));
        assert_eq!((damage(daemon, "/data/v1"), damage(daemon, "/data/v2")), (None, None));
    }
}
