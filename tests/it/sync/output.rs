//! What programs read, and what people read.

use super::*;

/// Fields that every event of a kind has.
const FIELDS: [(&str, &[&str]); 8] = [
    ("indexed", &["source", "image", "files", "directories", "symlinks", "bytes", "took_seconds", "paths"]),
    ("keys", &["signers"]),
    ("chosen", &["seconds", "cluster", "name", "found", "addresses"]),
    ("connected", &["seconds", "cluster", "address", "hostname", "machine_id"]),
    ("accepted", &["seconds", "cluster", "address", "hostname", "machine_id", "path"]),
    (
        "ended",
        &[
            "path",
            "image",
            "result",
            "reason",
            "bytes_reused",
            "bytes_linked",
            "bytes_copied",
            "bytes_kept",
            "bytes_fetched",
            "sources",
            "hostname",
        ],
    ),
    ("finished", &["ending", "detail", "exit_status", "took_seconds", "bytes_sent", "nodes", "unresolved", "homeless"]),
    ("end", &["exit_status"]),
];

#[test]
fn json_lines() {
    let place = Place::new();
    let nodes = [fake(1, Play::Take), fake(2, Play::Take)];
    let said = place.sync(&["-m", "--json"], &nodes.each_ref());
    said.expect(0, &[]);
    assert_eq!(said.err, "", "nothing for people");
    for (name, fields) in FIELDS {
        let events = said.events(name);
        assert!(!events.is_empty(), "no {name}");
        for event in events {
            for field in fields {
                assert!(event.get(field).is_some(), "no {field} in {event}");
            }
        }
    }
    let scan = place.scan();
    let finished = &said.events("finished")[0];
    assert_eq!((&finished["ending"], &finished["exit_status"]), (&"done".into(), &0.into()));
    let node = &finished["nodes"][0];
    let bytes = scan.image.total_bytes();
    assert_eq!(node["paths"]["/k/x"]["result"], "done");
    assert_eq!(node["paths"]["/k/x"]["bytes_fetched"], bytes);
    assert!(node["bytes_sent"].as_u64().expect("a number") >= bytes);
    assert_eq!(said.events("indexed")[0]["image"], scan.id.to_string());
    assert_eq!(said.json().last(), Some(&serde_json::json!({ "event": "end", "exit_status": 0, "reason": null })));
}

#[test]
fn json_of_a_refusal() {
    let place = Place::new();
    let refusal = Refusal { accepted_keys: vec!["master".into()], ..Refusal::default() };
    let node = fake(1, Play::Refuse("signature_mismatch", refusal));
    let said = place.sync(&["--json"], &[&node]);
    said.expect(3, &["error: ", &fingerprint(&public())]);
    let refused = &said.events("refused")[0];
    assert_eq!(refused["reason"], "signature_mismatch");
    assert_eq!(refused["accepted_keys"], serde_json::json!(["master"]));
    assert_eq!(refused["hostname"], "node1");
    assert_eq!(said.events("finished")[0]["nodes"][0]["paths"]["/k/x"]["result"], "refused");
    assert_eq!(said.events("end")[0]["exit_status"], 3);
}

#[test]
fn json_of_what_could_not_start() {
    let place = Place::new();
    for (args, status, part) in [
        (vec!["--append", "TREE/nowhere:/k/x", "127.0.0.1:1"], 1, "No such file"),
        (vec!["--append", "TREE:/k/x"], 1, "no entry point"),
        (vec!["--append", "TREE:/k/x", "-t", "soon", "127.0.0.1:1"], 1, "soon"),
        (vec!["--append", "TREE:/k/x", "-i", "/nowhere/key", "127.0.0.1:1"], 2, "/nowhere/key"),
    ] {
        let said = place.run(&[&["sync", "--json"], &args[..]].concat());
        said.expect(status, &[part]);
        let last = said.json().pop().unwrap_or_else(|| panic!("nothing for {args:?}"));
        assert_eq!((&last["event"], &last["exit_status"]), (&"end".into(), &status.into()), "{args:?}");
        assert!(last["reason"].as_str().is_some_and(|reason| reason.contains(part)), "{last}");
    }
    assert!(!place.run(&["sync", "-t", "soon"]).out.contains("end"), "nobody asked for JSON");
    let help = place.run(&["sync", "--json", "--help"]);
    assert!(help.status == Some(0) && !help.out.contains("exit_status\":"), "{}", help.out);
}

#[test]
fn one_directory_is_scanned_once() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink("tree", &link).expect("symlink");
    let other = format!("{}:/k/c", link.display());
    let args = ["--json", "--append", "TREE:/k/a", "--append-weak", "TREE/.:/k/b", "--replace", &other];
    let said = place.sync(&args, &[&node]);
    said.expect(0, &[]);
    let indexed = said.events("indexed");
    assert_eq!(indexed.len(), 1);
    assert_eq!(indexed[0]["paths"], serde_json::json!(["/k/a", "/k/b", "/k/c"]));
    assert_eq!(said.events("ended").len(), 3);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let mut child = place.start(&["--json"], &[&node]);
    drop(child.stdout.take());
    let said = said(child.wait_with_output().expect("ends"));
    said.expect(0, &[]);
    assert!(node.image(place.scan().id).is_some());
}

#[test]
fn help_lists_the_exit_statuses() {
    let place = Place::new();
    let said = place.run(&["sync", "--help"]);
    assert_eq!(said.status, Some(0));
    for part in
        ["0  done", "1  could not start", "2  no usable key", "3  refused", "4  not finished", "5  no machine", "130"]
    {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
}

#[test]
fn names_are_looked_up() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let port = node.address.port().to_string();
    // The hosts file has it, perhaps also with an address of the other kind at which nobody listens.
    let early = ["--early-timeout", "1ms", "--early-hosts", "1", "--early-fraction", "0.1", "-t", "60s"];
    let start = ["--port", &port, "sync", "--json", "--append", "TREE:/k/x", "localhost"];
    let said = place.run(&[&start[..], &early].concat());
    said.expect(0, &[]);
    assert_eq!(said.events("chosen")[0]["name"], "localhost");
    assert!(node.image(place.scan().id).is_some());
}
