//! `ciruela index`, `ciruela verify`, `ciruela completions`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

fn ciruela<const N: usize>(args: [&str; N]) -> Output {
    Command::new(cargo_bin("ciruela")).args(args).stdin(Stdio::null()).output().expect("starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// The exit status, and nothing on stderr.
fn quiet(output: &Output) -> i32 {
    assert_eq!(stderr(output), "");
    output.status.code().expect("no signal")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A small tree in `DIR/tree`.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path().join("tree");
    fs::create_dir_all(root.join("sub dir")).expect("mkdir");
    fs::write(root.join("file"), "hello\n").expect("write");
    fs::set_permissions(root.join("file"), Permissions::from_mode(0o644)).expect("chmod");
    symlink("../file", root.join("sub dir/link")).expect("symlink");
    dir
}

/// What [`tree`] is, without the id; the hash is what `b2sum -l 256` says.
const INDEX: &str = "DIRSIGNATURE.v1 blake2b/256 block_size=32768
/
  file f 6 93becc6e9882211c3ec3708c95bcd69baab7bb59c7f4bc84ce637b88a534b783
/sub\\x20dir
  link s ../file
";

#[test]
fn prints_the_index() {
    let dir = tree();
    let root = dir.path().join("tree");
    let output = ciruela(["index", text(&root)]);
    assert_eq!(quiet(&output), 0);
    let (body, id) = stdout(&output).trim_end().rsplit_once('\n').expect("lines");
    assert_eq!(format!("{body}\n"), INDEX);

    let output = ciruela(["index", "--id", text(&root)]);
    assert_eq!((quiet(&output), stdout(&output)), (0, format!("{id}\n").as_str()));

    let file = dir.path().join("out.ds1");
    let output = ciruela(["index", text(&root), "-o", text(&file)]);
    assert_eq!((quiet(&output), stdout(&output)), (0, ""));
    assert_eq!(fs::read_to_string(&file).expect("written"), format!("{body}\n{id}\n"));

    for kind in ["blake3/256", "sha512/256"] {
        let output = ciruela(["index", text(&root), "--hash", kind]);
        assert_eq!(quiet(&output), 0);
        assert!(stdout(&output).starts_with(&format!("DIRSIGNATURE.v1 {kind} block_size=32768\n/\n")));
        assert!(!stdout(&output).contains(id));
    }
}

#[test]
fn bad_arguments() {
    for (args, expected) in [
        (vec!["index"], "<DIR>"),
        (vec!["index", ".", "--hash", "md5"], "expected blake2b/256, blake3/256 or sha512/256"),
        (vec!["no-such-command"], "no-such-command"),
        (vec![], "Usage"),
    ] {
        let output = Command::new(cargo_bin("ciruela")).args(&args).output().expect("starts");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    // Here 1 means that something differs.
    assert_eq!(ciruela(["verify", "."]).status.code(), Some(2));
    assert_eq!(ciruela(["verify", ".", "-", "--bad"]).status.code(), Some(2));
    let output = ciruela(["verify", "--help"]);
    assert_eq!(quiet(&output), 0);
    let help = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("0 if there are none, 1 if there are, 2 if they could not be compared"), "{help}");
}

#[test]
fn unreadable_is_an_error_with_the_path() {
    let dir = tree();
    let output = ciruela(["index", text(&dir.path().join("nothing here"))]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert!(stderr(&output).starts_with("error: /"), "{}", stderr(&output));
    assert!(stderr(&output).contains("/nothing\\x20here: cannot open the directory: No such file or directory"));

    // Nothing is unreadable to root: be somebody else then.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
    let program = dir.path().join("ciruela");
    fs::copy(cargo_bin("ciruela"), &program).expect("copy");
    for (name, make) in [("tree/secret", false), ("tree/secrets", true)] {
        let path = dir.path().join(name);
        if make { fs::create_dir(&path) } else { fs::write(&path, "x") }.expect("make");
        fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("chmod");
        let mut command = Command::new(&program);
        command.arg("index").arg(dir.path().join("tree"));
        if rustix::process::geteuid().is_root() {
            command.gid(65_534).uid(65_534);
        }
        let output = command.output().expect("starts");
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
        let expected = if make { "read the directory" } else { "open it" };
        let expected = format!("{}: cannot {expected}: Permission denied", text(&path));
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
    }
}

#[test]
fn verify_lists_differences() {
    let dir = tree();
    let (root, index) = (dir.path().join("tree"), dir.path().join("tree.ds1"));
    assert_eq!(quiet(&ciruela(["index", text(&root), "-o", text(&index)])), 0);
    let output = ciruela(["verify", text(&root), text(&index)]);
    assert_eq!((quiet(&output), stdout(&output)), (0, ""));

    fs::write(root.join("file"), "hallo\n").expect("write");
    fs::set_permissions(root.join("file"), Permissions::from_mode(0o755)).expect("chmod");
    fs::remove_file(root.join("sub dir/link")).expect("remove");
    fs::write(root.join("new\nfile"), "").expect("write");
    let expected = "differs file (content, executable bit)\nextra new\\x0afile\nmissing sub\\x20dir/link\n";
    let output = ciruela(["verify", text(&root), text(&index)]);
    assert_eq!((quiet(&output), stdout(&output)), (1, expected));

    // The index from standard input.
    let mut command = Command::new(cargo_bin("ciruela"));
    command.args(["verify", text(&root), "-"]).stdin(fs::File::open(&index).expect("open"));
    let output = command.output().expect("starts");
    assert_eq!((quiet(&output), stdout(&output)), (1, expected));
}

#[test]
fn verify_says_what_it_cannot_compare() {
    let dir = tree();
    let (root, index) = (dir.path().join("tree"), dir.path().join("tree.ds1"));
    let fails = |expected: &str| {
        let output = ciruela(["verify", text(&root), text(&index)]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    fails("error: cannot read");
    fs::write(&index, "{}\n").expect("write");
    fails("tree.ds1: line 1: not an index: expected `DIRSIGNATURE.v1 HASH block_size=32768`, got `{}`");
    let good = ciruela(["index", text(&root)]).stdout;
    let bad = String::from_utf8(good.clone()).expect("ASCII").replace("file f 6", "file f 7");
    fs::write(&index, bad).expect("write");
    fails("tree.ds1: line 6: the closing hash is");
    fs::write(&index, good).expect("write");
    fs::remove_dir_all(&root).expect("remove");
    fails("tree: cannot open the directory: No such file or directory");
}

#[test]
fn a_closed_output_is_not_worth_a_word() {
    let dir = tree();
    let mut command = Command::new(cargo_bin("ciruela"));
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    command.args(["index", text(dir.path())]).stdout(writer).stderr(Stdio::piped());
    let output = command.output().expect("starts");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ciruela(["completions", shell]);
        assert_eq!(quiet(&output), 0);
        assert!(stdout(&output).contains("verify"), "{shell}");
    }
}
