//! The configuration folder on disk.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::format::ssh::{SecretKey, fingerprint, public_key_line};
use crate::model::key::PublicKey;

struct Base(TempDir);

const SITE: &str = "directory: /srv/site\nnum-levels: 2\nappend-only: true\n";

fn key(n: u8) -> PublicKey {
    SecretKey::from_seed(&[n; 32]).public_key()
}

fn line(n: u8) -> String {
    format!("{}\n", public_key_line(&key(n), ""))
}

impl Base {
    fn new(files: &[(&str, &str)]) -> Self {
        let base = Self(tempfile::tempdir().expect("temporary folder"));
        for (name, text) in files {
            base.write(name, text.as_bytes());
        }
        base
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the base")).expect("folder");
        fs::write(path, bytes).expect("write");
    }

    fn load(&self) -> Result<NodeConfig, Vec<String>> {
        let shown = |error: ConfigurationError| error.to_string().replace(&format!("{}/", self.0.path().display()), "");
        load(self.0.path(), Path::new("/cwd")).map_err(|errors| errors.into_iter().map(shown).collect())
    }

    fn errors(&self) -> Vec<String> {
        self.load().expect_err("must be refused")
    }

    fn report(&self) -> String {
        let report = render_report(&check_config(self.0.path(), Path::new("/cwd")));
        report.replace(&self.0.path().display().to_string(), "BASE")
    }
}

#[test]
fn everything() {
    let base = Base::new(&[
        ("master.key", &line(1)),
        ("keys/ci.key", &format!("# ci\n{}{}", line(2), line(3))),
        ("keys/bob.key", &line(4)),
        ("configs/site.yaml", &format!("{SITE}upload-keys: [ci]\n")),
        ("configs/pool.yaml", "directory: pool\nnum-levels: 0\nappend-only: false\n"),
        ("peers.txt", "# cluster\nnode1\nnode2:1234\n"),
        ("configs/.site.yaml.swp", "garbage"),
        ("configs/README", "garbage"),
        ("keys/ci.pub", "garbage"),
    ]);
    let config = base.load().expect("valid");
    let names: Vec<&str> = config.directories.keys().map(|name| &**name).collect();
    assert_eq!(names, ["pool", "site"]);
    assert_eq!(config.directories["pool"].directory, PathBuf::from("/cwd/pool"));
    assert_eq!(
        config.master_keys.iter().map(|named| (&*named.name, named.key)).collect::<Vec<_>>(),
        [("master", key(1))]
    );
    assert_eq!(config.peers, ["node1", "node2:1234"].map(Box::<str>::from));
    let accepted = |name: &str| {
        let mut keys: Vec<PublicKey> =
            config.accepted_keys(&config.directories[name]).into_iter().map(|named| named.key).collect();
        keys.sort_unstable();
        keys
    };
    let mut expected = vec![key(1), key(2), key(3)];
    expected.sort_unstable();
    assert_eq!((accepted("site"), accepted("pool")), (expected, vec![key(1)]));
}

#[test]
fn empty_folder_is_fine_missing_is_not() {
    let base = Base::new(&[]);
    assert_eq!(base.load(), Ok(NodeConfig::default()));
    let missing = base.path("missing");
    let errors = load(&missing, Path::new("/cwd")).expect_err("missing");
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [format!("{}: no such folder; name another with --config-base-dir", missing.display())]);
    base.write("file", b"");
    let errors = load(&base.path("file"), Path::new("/cwd")).expect_err("a file");
    assert!(matches!(errors[0].problem, ConfigurationProblem::Unreadable(_)), "{}", errors[0]);
}

#[test]
fn all_errors_with_file_and_line() {
    let base = Base::new(&[
        ("master.key", "\nssh-rsa AAAA\n"),
        ("keys/ci.key", "garbage\n"),
        ("keys/bob.key", ""),
        ("configs/a.yaml", "directory: /a\nnum-levels: 1\nappend_only: true\n"),
        ("configs/b.yaml", "directory: /b\nnum-levels: 1\nappend-only: true\nupload-keys: [cl, bob]\n"),
        ("configs/c.yml", ""),
        ("peers.txt", "fine\na b\n"),
        ("overrides.yaml", "b: {directory: /x}\na: {directory: /y}\nbb: {directory: /z}\n"),
    ]);
    assert_eq!(
        base.errors(),
        [
            "master.key:2: a key of type ssh-rsa; only ssh-ed25519 is supported",
            "keys/ci.key:1: expected `ssh-ed25519 AAAA… comment`, found \"garbage\"",
            "configs/c.yml: it is not read; rename it to configs/c.yaml",
            "configs/a.yaml:3: unknown field `append_only`, did you mean `append-only`?",
            "configs/a.yaml: the field `append-only` is missing: `true` or `false`",
            "overrides.yaml:3: there is no configs/bb.yaml, did you mean `b`?",
            "peers.txt:2: bad peer \"a b\": expected `host`, `host:port`, `address` or `[address]:port`",
            "configs/b.yaml:4: `upload-keys` names `cl`, but there is no keys/cl.key, did you mean `ci`?",
        ]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let base = Base::new(&[("peers.txt", "a\nb\n")]);
    base.write("master.key", b"# one\n# \xff\n");
    base.write("keys/big.key", &vec![b'#'; usize::try_from(limits::CONFIG_FILE_BYTES_MAX + 1).expect("small")]);
    base.write("keys/full.key", &vec![b'#'; usize::try_from(limits::CONFIG_FILE_BYTES_MAX).expect("small")]);
    fs::create_dir(base.path("keys/folder.key")).expect("folder");
    symlink("nowhere", base.path("keys/link.key")).expect("link");
    base.write("keys/ .key", b"");
    base.write("keys/a\nb.key", b"");
    fs::write(base.path("keys").join(std::ffi::OsStr::new("x\u{fffd}.key")), b"").expect("write");
    let pipe = base.path("overrides.yaml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("pipe");
    let errors = base.errors();
    for expected in [
        "master.key:2: it contains bytes that are not UTF-8 text",
        "keys/big.key: it is longer than 1048576 bytes",
        "keys/folder.key: it is not a regular file",
        "keys/link.key: can't be read: No such file or directory (os error 2)",
        "keys/ .key: bad name \" \": it starts or ends with a space",
        "keys/a\\nb.key: bad name \"a\\nb\": it contains a character that can't be printed",
        "overrides.yaml: it is not a regular file",
    ] {
        assert!(errors.iter().any(|error| error == expected), "{errors:#?}\nlacks {expected}");
    }
    assert_eq!(errors.len(), 7);
}

#[test]
fn names_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let base = Base::new(&[("keys/a.key", "")]);
    fs::write(base.path("keys").join(std::ffi::OsStr::from_bytes(b"\xff.key")), b"").expect("write");
    assert_eq!(base.errors(), ["keys/\u{fffd}.key: it contains bytes that are not UTF-8 text"]);
}

#[test]
fn folders_that_are_not_folders() {
    let base = Base::new(&[("keys", ""), ("configs", "")]);
    let errors = base.errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("keys: can't be read: ") && errors[1].starts_with("configs: can't be read: "));
}

fn config(directory: &str) -> String {
    format!("directory: {directory}\nnum-levels: 1\nappend-only: true\n")
}

#[test]
fn overlapping_directories() {
    let base = Base::new(&[
        ("configs/a.yaml", &config("/srv/a")),
        ("configs/b.yaml", &config("/srv/a/b/c")),
        ("configs/c.yaml", &config("/srv/a-b")),
        ("configs/d.yaml", &config("/srv/./a//")),
        ("configs/e.yaml", &config("/srv/ab")),
        ("configs/f.yaml", &config("/srv/a/b/d")),
    ]);
    assert_eq!(
        base.errors(),
        [
            "configs/d.yaml:1: its directory /srv/a is the same as /srv/a, the directory of configs/a.yaml:1; each config needs a tree of its own",
            "configs/b.yaml:1: its directory /srv/a/b/c is inside /srv/a, the directory of configs/d.yaml:1; each config needs a tree of its own",
            "configs/f.yaml:1: its directory /srv/a/b/d is inside /srv/a, the directory of configs/d.yaml:1; each config needs a tree of its own",
        ]
    );
}

#[test]
fn links_do_not_hide_an_overlap() {
    let base = Base::new(&[]);
    fs::create_dir(base.path("real")).expect("folder");
    symlink("real", base.path("link")).expect("link");
    let (real, link) = (base.path("real"), base.path("link/not yet/there"));
    base.write("configs/a.yaml", config(&format!("\"{}\"", real.display())).as_bytes());
    base.write("configs/b.yaml", config(&format!("\"{}\"", link.display())).as_bytes());
    let errors = base.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("configs/b.yaml:1: its directory link/not yet/there is inside real"), "{errors:?}");
}

#[test]
fn overrides_move_directories() {
    let base = Base::new(&[
        ("configs/a.yaml", &config("/srv/a")),
        ("configs/b.yaml", &config("/srv/a")),
        ("overrides.yaml", "b:\n  directory: /data/b\n"),
    ]);
    let config = base.load().expect("apart");
    assert_eq!(config.directories["a"].directory, PathBuf::from("/srv/a"));
    assert_eq!(config.directories["b"].directory, PathBuf::from("/data/b"));
}

#[test]
fn report_of_a_good_folder() {
    let base = Base::new(&[
        ("keys/ci.key", &line(2)),
        ("keys/old.key", &line(3)),
        ("configs/site.yaml", &format!("{SITE}upload-keys: [ci]\nauto-clean: true\n")),
        ("configs/pool.yaml", "directory: pool\nnum-levels: 0\nappend-only: false\nlegacy-signatures: true\n"),
        ("configs/notes.txt", ""),
        ("peers.txt", "node1\nnode2\n"),
    ]);
    assert_eq!(
        base.report(),
        format!(
            "/pool → /cwd/pool, replaceable
/site/*/* → /srv/site/*/*, append only
  keeps 2 to 100 directories, and those of the last 2days
  accepts {} ci
peers: node1, node2
note: configs/notes.txt is not read: not *.yaml
note: pool: no key may upload here (`upload-keys`, master.key)
note: pool: `legacy-signatures` lets old signatures be replayed
note: keys/old.key is named by no `upload-keys`
BASE is good: 2 directories
",
            fingerprint(&key(2))
        )
    );
}

#[test]
fn report_of_a_bad_folder() {
    let base = Base::new(&[("configs/site.yaml", "directory: /x\nnum-levels: 99\nappend-only: true\n")]);
    assert_eq!(
        base.report(),
        "error: BASE/configs/site.yaml:2: `num-levels` takes a number from 0 to 16: how many components follow the name in a virtual path, not `99`
BASE has 1 error
"
    );
    let missing = check_config(&base.path("missing"), Path::new("/cwd"));
    assert!(missing.outcome.is_err() && missing.notes.is_empty());
}

#[test]
fn the_cluster_key() {
    let base = Base::new(&[("cluster.key", &format!(" {}\n", "0f".repeat(32)))]);
    assert_eq!(base.load().expect("valid").cluster_key, Some(ClusterKey([0x0f; 32])));
    fs::set_permissions(base.path("cluster.key"), fs::Permissions::from_mode(0o640)).expect("ours");
    assert!(base.report().contains("note: BASE/cluster.key can be read"), "{}", base.report());
    fs::set_permissions(base.path("cluster.key"), fs::Permissions::from_mode(0o600)).expect("ours");
    assert!(warnings(base.0.path()).is_empty());
    for text in ["", "secret", &"0g".repeat(32), &"00".repeat(33), &"00 ".repeat(32)] {
        base.write("cluster.key", text.as_bytes());
        let errors = base.errors();
        let hint = "cluster.key: expected 64 hexadecimal digits; `ciruela-server new-cluster-key` makes a key";
        assert_eq!(errors, [hint], "{text:?}");
    }
}
