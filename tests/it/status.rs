//! `ciruela status` as a process, against daemons.

use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::publisher::{Publisher, addresses, to};
use crate::trees::plain;

fn status(words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(cargo_bin("ciruela")).arg("status").args(words).output().expect("starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_cluster() {
    let publisher = Publisher::new(70);
    let mut daemons = [70, 71].map(|number| Daemon::start(number, &publisher.public_key()));
    let all = addresses(&daemons.each_ref());
    let [a, b] = [all[0].as_str(), all[1].as_str()];
    let root = publisher.folder.path().join("tree");
    std::fs::create_dir(&root).expect("mkdir");
    plain(&root, 1, 3, 100);
    publisher.run(&["--append", &to(&root, "/data/tree")], &all).expect(0);

    let (code, out, err) = status(&[a, b]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for part in ["node70", "node71", "conf: 0 current, data: 1 current", "2 machines, all current"] {
        assert!(out.contains(part), "no {part:?} in:\n{out}");
    }
    let (code, out, _) = status(&[a, b, "/data/tree"]);
    assert_eq!((code, out.matches(" done").count()), (Some(0), 2), "{out}");

    // One gets something that the other doesn't.
    std::fs::write(root.join("more"), b"more").expect("write");
    publisher.run(&["--replace", &to(&root, "/conf/tree")], &all[..1]).expect(0);
    let (code, out, _) = status(&["--json", a, b]);
    let value: Value = serde_json::from_str(&out).expect("JSON");
    let standing = |n: usize| value["nodes"][n]["directories"]["conf"]["standing"].as_str().expect("a word").to_owned();
    assert_eq!((code, standing(0), standing(1)), (Some(1), "current".to_owned(), "behind".to_owned()));
    assert!(value["nodes"][0]["uptime_seconds"].is_u64(), "{value}");

    daemons[1].kill();
    let (code, out, _) = status(&[a, b]);
    assert!(code == Some(1) && out.contains(&format!("UNREACHABLE: nothing listens at {b}")), "{out}");
    daemons[0].kill();
    let (code, out, _) = status(&[a, b]);
    assert_eq!((code, out.matches("UNREACHABLE").count()), (Some(3), 2), "{out}");
}

#[test]
fn nobody_is_found() {
    let (code, out, _) = status(&["no-such-name.invalid"]);
    assert!(code == Some(3) && out.contains("no-such-name.invalid: NOT FOUND"), "{out}");
    let (code, _, err) = status(&["/data/x"]);
    assert!(code == Some(1) && err.contains("no entry point"), "{err}");
    // Programs are told as well, whatever is wrong.
    for (args, reason) in [(&["--json", "/data/x"][..], "no entry point"), (&["--json", "--nonsense"], "--nonsense")] {
        let (code, out, _) = status(args);
        let value: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, value["exit_status"].as_u64()), (Some(1), Some(1)), "{out}");
        assert!(value["reason"].as_str().is_some_and(|text| text.contains(reason)), "{out}");
    }
}
