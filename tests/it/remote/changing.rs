//! `put-file` and `edit`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{User, at, cluster};
use crate::daemon::{Daemon, tree};
use crate::publisher::to;
use crate::trees::{file, mixed};

/// The content of a file of `/conf/site` on each daemon.
fn contents(daemons: &[Daemon], name: &str) -> Vec<Vec<u8>> {
    daemons.iter().map(|daemon| fs::read(daemon.data("conf-data/site").join(name)).expect("readable")).collect()
}

/// `COMMAND CLUSTER -d /conf/site -f NAME`.
fn words<'a>(command: &'a str, cluster: &'a str, name: &'a str) -> [&'a str; 6] {
    [command, cluster, "-d", "/conf/site", "-f", name]
}

fn small(root: &Path) {
    file(&root.join("nginx.conf"), b"one\n", 0o644);
    file(&root.join("bin/run"), b"#!/bin/sh\n", 0o755);
    fs::create_dir_all(root.join("empty/inside")).expect("mkdir");
    std::os::unix::fs::symlink("nginx.conf", root.join("link")).expect("symlink");
}

#[test]
fn a_file_is_put() {
    let user = User::new(165);
    let daemons = user.daemons([165, 166]);
    let cluster = cluster(&daemons);
    let source = user.folder("source");
    mixed(&source, 1);
    user.publish("--replace", &source, "/conf/site", &daemons);
    let new = user.dest("new");
    let put = |name: &str| {
        user.run(&[&words("put-file", &cluster, name)[..], &["-s", new.to_str().expect("UTF-8")]].concat())
    };
    let mut expected = tree(&source);
    let holds = |expected: &std::collections::BTreeMap<_, _>| {
        for daemon in &daemons {
            assert_eq!(tree(&daemon.data("conf-data/site")), *expected);
        }
    };

    // In the place of one that isn't executable, of one that is, and a new one of either kind.
    file(&new, b"new\n", 0o755);
    put("large").expect(0, &[]);
    expected.insert("large".to_owned(), ('f', 0, b"new\n".to_vec()));
    holds(&expected);
    put("some/new/tool").expect(0, &[]);
    for name in ["some", "some/new"] {
        expected.insert(name.to_owned(), ('d', 0, Vec::new()));
    }
    expected.insert("some/new/tool".to_owned(), ('f', 0o111, b"new\n".to_vec()));
    holds(&expected);
    file(&new, b"", 0o644);
    put("bin/tool1").expect(0, &[]);
    expected.insert("bin/tool1".to_owned(), ('f', 0o111, Vec::new()));
    put("plain text").expect(0, &[]);
    expected.insert("plain text".to_owned(), ('f', 0, Vec::new()));
    holds(&expected);
    put("plain text").expect(0, &["nothing to publish"]);

    // What can't be put.
    for (name, problem) in [
        ("/etc/passwd", "relative"),
        ("../x", "`..`"),
        ("bin", "is a directory"),
        ("links/1", "symbolic link"),
        ("large/x", "large is not a directory"),
        ("links/1/x", "links/1 is not a directory"),
    ] {
        put(name).expect(1, &[problem]);
    }
    let put = |dir: &str, source: &str| user.run(&["put-file", &cluster, "-d", dir, "-f", "x", "-s", source]);
    put("/conf/site", "/nonexistent").expect(1, &["/nonexistent"]);
    put("/conf/site", "/").expect(1, &["not a regular file"]);
    put("/conf/site/bin", "/dev/null").expect(1, &["not a regular file"]);
    let text = new.to_str().expect("UTF-8");
    put("/conf/site/bin", text).expect(1, &["inside the directory /conf/site"]);
    put("/conf/none", text).expect(3, &["nothing at /conf/none"]);
    let mut keyless = user.command(&["put-file", &cluster, "-d", "/conf/site", "-f", "x", "-s", text]);
    keyless.env_remove("CIRUELA_KEY");
    super::said(keyless).expect(2, &["key"]);
    holds(&expected);
    assert!(user.left().is_empty(), "{:?}", user.left());

    // Directories which are only added to.
    user.publish("--append", &source, "/data/site", &daemons);
    put("/data/site", text).expect(3, &["append-only"]);
    assert!(user.left().is_empty(), "{:?}", user.left());
}

#[test]
fn a_file_is_edited() {
    let user = User::new(167);
    let daemons = user.daemons([167, 168]);
    let cluster = cluster(&daemons);
    let source = user.folder("source");
    small(&source);
    user.publish("--replace", &source, "/conf/site", &daemons);
    let edit = |script: &str, name: &str| user.edit(script, &words("edit", &cluster, name));
    edit("echo two >> \"$1\"", "nginx.conf").expect(0, &[]);
    assert_eq!(contents(&daemons, "nginx.conf"), [b"one\ntwo\n", b"one\ntwo\n"]);
    // An editor that writes a new file and renames it; the mode stays.
    edit("echo three > \"$1.new\" && chmod 600 \"$1.new\" && mv \"$1.new\" \"$1\"", "bin/run").expect(0, &[]);
    assert_eq!(contents(&daemons, "bin/run"), [b"three\n", b"three\n"]);
    assert_eq!(tree(&daemons[0].data("conf-data/site"))["bin/run"].1, 0o111);
    assert!(daemons[1].data("conf-data/site/empty/inside").is_dir());
    // A new file, with the name that the editor sees.
    edit("case \"$1\" in */new.toml) echo x > \"$1\";; esac", "a/new.toml").expect(0, &[]);
    assert_eq!(contents(&daemons, "a/new.toml"), [b"x\n", b"x\n"]);

    // Nothing is published.
    let before = tree(&daemons[0].data("conf-data/site"));
    edit("touch \"$1\"", "nginx.conf").expect(0, &["unchanged", "nothing to publish"]);
    edit("exit 0", "b/none").expect(0, &["unchanged"]);
    edit("exit 7", "nginx.conf").expect(1, &["the editor", "failed", "nothing is published"]);
    edit("rm \"$1\"", "nginx.conf").expect(1, &["removed the file", "nothing is published"]);
    edit("exit 0", "link").expect(1, &["symbolic link"]);
    assert_eq!(tree(&daemons[1].data("conf-data/site")), before);
    assert!(user.left().is_empty(), "{:?}", user.left());
    // But what was written before the editor failed is kept.
    let said = edit("echo lost > \"$1\"; exit 1", "nginx.conf");
    said.expect(1, &["nothing is published", "kept"]);
    assert_eq!(kept(&user, &said.err, "nginx.conf"), b"lost\n");
}

/// The content of the only file that was kept, whose name was told.
fn kept(user: &User, told: &str, name: &str) -> Vec<u8> {
    let left = user.left();
    let [folder] = left.as_slice() else { panic!("{left:?}") };
    assert_eq!(fs::metadata(folder).expect("readable").permissions().mode() & 0o777, 0o700, "its owner alone reads it");
    let path = folder.join(name);
    assert!(told.contains(path.to_str().expect("UTF-8")), "{told}");
    let content = fs::read(path).expect("readable");
    fs::remove_dir_all(folder).expect("removed");
    content
}

#[test]
fn somebody_else_is_faster() {
    let user = User::new(169);
    let daemons = user.daemons([169, 170, 171]);
    let cluster = cluster(&daemons);
    let (first, second) = (user.folder("first"), user.folder("second"));
    small(&first);
    small(&second);
    file(&second.join("nginx.conf"), b"theirs\n", 0o644);
    user.publish("--replace", &first, "/conf/site", &daemons);
    // While the file is being edited, another one is published.
    let theirs = to(&second, "/conf/site");
    let script =
        format!("\"$CIRUELA\" sync -m {} --replace {theirs} >&2; echo mine > \"$1\"", cluster.replace(',', " "));
    let said = user.edit(&script, &words("edit", &cluster, "nginx.conf"));
    said.expect(3, &["Somebody else was faster", "kept", "put-file"]);
    assert_eq!(contents(&daemons, "nginx.conf"), [b"theirs\n", b"theirs\n", b"theirs\n"]);
    assert_eq!(kept(&user, &said.err, "nginx.conf"), b"mine\n");

    // The machines are on the way to another image than that which is read from one of them.
    let mine = user.dest("mine");
    file(&mine, b"mine\n", 0o644);
    let old = ciruela_id(&user, &daemons);
    user.publish("--replace", &first, "/conf/site", &daemons);
    let put = [&words("put-file", &cluster, "nginx.conf")[..], &["-s", mine.to_str().expect("UTF-8"), "--image", &old]];
    user.run(&put.concat()).expect(3, &["no machine shows"]);
    assert_eq!(contents(&daemons, "nginx.conf"), [b"one\n", b"one\n", b"one\n"]);

    // The directory is removed: nothing can be put into it.
    let script = format!("\"$CIRUELA\" remove /conf/site {} >&2; echo mine > \"$1\"", cluster.replace(',', " "));
    let said = user.edit(&script, &words("edit", &cluster, "nginx.conf"));
    said.expect(3, &["kept", "The directory was removed meanwhile", "ciruela sync"]);
    assert!(!said.err.contains("put-file"), "{}", said.err);
    assert_eq!(kept(&user, &said.err, "nginx.conf"), b"mine\n");
}

/// The image at `/conf/site`.
fn ciruela_id(user: &User, daemons: &[Daemon]) -> String {
    let said = user.run(&["ls", "--json", &at(daemons, "/conf/site")]);
    let json: serde_json::Value = serde_json::from_str(said.text()).expect("JSON");
    json["image"].as_str().expect("an id").to_owned()
}

#[test]
fn a_directory_that_cannot_be_edited() {
    let user = User::new(172);
    let daemons = user.daemons([172]);
    let source = user.folder("source");
    small(&source);
    let other = user.folder("other");
    file(&other.join("f"), b"f", 0o644);
    user.publish("--append", &source, "/data/site", &daemons);
    let said = user.edit("echo more >> \"$1\"", &["edit", &cluster(&daemons), "-d", "/data/site", "-f", "nginx.conf"]);
    said.expect(3, &["append-only"]);
    assert!(user.left().is_empty(), "it was certain before anything was edited: {}", said.err);
    // So it is that nobody may with these keys; even if no machine gives the content.
    user.publish("--replace", &source, "/conf/site", &daemons);
    fs::write(daemons[0].data("conf-data/site/nginx.conf"), "odd\n").expect("written");
    let stranger = User::new(174);
    let said = stranger.edit("echo more >> \"$1\"", &words("edit", &cluster(&daemons), "nginx.conf"));
    said.expect(3, &["none of your keys may publish at /conf/site"]);
    assert!(stranger.left().is_empty() && !said.err.contains("damaged"), "{}", said.err);
    let said = user.edit("exit 0", &words("edit", &cluster(&daemons), "link"));
    said.expect(1, &["link is a symbolic link"]);
    assert!(!said.err.contains("damaged"), "{}", said.err);

    // Places of our own aren't named.
    user.publish("--replace", &other, "/conf/site", &daemons);
    let text = other.join("f").to_string_lossy().into_owned();
    let cluster = cluster(&daemons);
    let put = user.command(&[&words("put-file", &cluster, "new")[..], &["-s", &text]].concat());
    let said = super::said(put);
    said.expect(0, &["/conf/site: "]);
    assert!(!said.err.contains("/content"), "{}", said.err);
    let mut placeless = user.command(&[&words("put-file", &cluster, "newer")[..], &["-s", &text]].concat());
    placeless.env("TMPDIR", "/nonexistent");
    super::said(placeless).expect(1, &["a copy of /conf/site", "/nonexistent"]);
}
