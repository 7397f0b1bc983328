//! Exit statuses, and what is said with each.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use ciruela::model::change::Verb;
use ciruela::model::ids::ImageId;
use ciruela::model::time::Stamp;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

use crate::patience;

#[test]
fn three_nodes_take_it() {
    let place = Place::new();
    let nodes = [1, 2, 3].map(|n| fake(n, Play::Take));
    let said = place.sync(&["-m"], &nodes.each_ref());
    said.expect(0, &["done on 3 of 3 machines", "node1", "node2", "node3", &fingerprint(&public())]);
    assert_eq!(said.out, "", "data only");
    let scan = place.scan();
    for node in &nodes {
        assert_eq!(node.image(scan.id), Some(content(&place)));
        let change = node.next_change();
        assert_eq!((change.verb, change.path.as_str(), change.image), (Verb::Append, "/k/x", Some(scan.id)));
        assert_eq!((change.cluster, change.old_image), (None, None));
    }
}

#[test]
fn there_already() {
    let place = Place::new();
    let said = place.sync(&[], &[&fake(1, Play::Have)]);
    said.expect(0, &["already there"]);
}

#[test]
fn what_is_submitted() {
    let place = Place::new();
    let node = fake(1, Play::Have);
    let id = "ab".repeat(32);
    let replace = format!("TREE:/k/b:{id}");
    let args = ["--replace", &replace, "--append", "TREE:/k/a", "--cluster", "prod", "--hash", "blake3/256"];
    place.sync(&args, &[&node]).expect(0, &[]);
    let changes = [node.next_change(), node.next_change()];
    let scan = scan(&place.tree(), &ScanOptions::new("blake3/256".parse().expect("known")), &|_| ()).expect("readable");
    for change in &changes {
        assert_eq!((change.cluster.as_deref(), change.image), (Some("prod"), Some(scan.id)));
    }
    let summary = changes.map(|change| (change.path.to_string(), change.verb, change.old_image));
    assert_eq!(summary[0], ("/k/a".to_owned(), Verb::Append, None));
    assert_eq!(summary[1], ("/k/b".to_owned(), Verb::Replace, id.parse().ok()));
}

#[test]
fn could_not_start() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let address = node.address.to_string();
    for (args, part) in [
        (vec!["sync", "--append", "TREE:/k/x"], "no entry point"),
        (vec!["sync", &address], "nothing to publish"),
        (
            vec!["sync", "--append", "TREE:/k/x", "--replace", "TREE:/k/x", &address],
            "each destination can be given once",
        ),
        (vec!["sync", "--append", "TREE:/k/../x", &address], "`..`"),
        (vec!["sync", "--append", "TREE/nowhere:/k/x", &address], "cannot open the directory"),
        (vec!["sync", "--append", "TREE:/k/x", "http://host"], "bad host"),
        (vec!["sync", "--append", "TREE:/k/x", "--early-hosts", "1", &address], "--early-timeout"),
        (vec!["sync", "--append", "TREE:/k/x", "-t", "soon", &address], "90s"),
    ] {
        let said = place.run(&args);
        said.expect(1, &[part]);
        assert_eq!(said.out, "");
    }
    let nowhere = place.run(&["sync", "--append", "TREE/nowhere:/k/x", &address]);
    assert_eq!(nowhere.err.matches("No such file").count(), 1, "{}", nowhere.err);
    place.write("sub/unreadable", b"x");
    let path = place.tree().join("sub/unreadable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("chmod");
    let may_read_all = fs::read(&path).is_ok();
    if !may_read_all {
        place.sync(&[], &[&node]).expect(1, &["sub/unreadable"]);
    }
    fs::remove_file(&path).expect("remove");
    std::os::unix::net::UnixListener::bind(place.tree().join("socket")).expect("a socket");
    place.sync(&[], &[&node]).expect(1, &["socket"]);
    assert_eq!(node.changes_left(), 0, "nothing was sent");
}

/// Ended by a signal while it still reads the directory: said, also to programs.
#[test]
fn interrupted_while_indexing() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    // Takes no room, and minutes to hash.
    let large = fs::File::create(place.tree().join("large")).expect("create");
    large.set_len(1 << 38).expect("a sparse file");
    let is_reading = |id: u32| {
        let files = fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|file| file.ends_with("large")))
    };
    for signal in [Signal::INT, Signal::TERM] {
        let child = place.start(&["--json"], &[&node]);
        patience::until(|| is_reading(child.id()).then_some(()), || "it reads something else".to_owned());
        let id = i32::try_from(child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("positive"), signal).expect("it is ours");
        let said = said(child.wait_with_output().expect("ends"));
        said.expect(130, &["interrupted while indexing"]);
        let end: Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&end["event"], &end["exit_status"]), (&"end".into(), &130.into()));
    }
    assert_eq!(node.changes_left(), 0, "nothing was sent");
}

#[test]
fn no_usable_key() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let args = sync_args(&[], &[&node]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let none = said(place.command(&args).env_remove("CIRUELA_KEY").output().expect("starts"));
    none.expect(2, &["no key to sign with", "ssh-keygen"]);
    place.sync(&["-i", "/nowhere/key"], &[&node]).expect(2, &["/nowhere/key"]);
    place.sync(&["-k", "NO_SUCH_VARIABLE"], &[&node]).expect(2, &["NO_SUCH_VARIABLE"]);
    assert_eq!(node.changes_left(), 0, "nothing was sent");
    // Named keys: this one is the same as the usual one.
    let key = secret().to_openssh("x").expect("a key");
    fs::write(place.folder.path().join("home/key"), key.as_bytes()).expect("write");
    let path = place.folder.path().join("home/key");
    place.sync(&["-i", text(&path)], &[&fake(2, Play::Have)]).expect(0, &[text(&path)]);
}

#[test]
fn refused_with_a_word() {
    let place = Place::new();
    let current = Some(ImageId::new([0xcd; 32]));
    let there = Refusal { current, ..Refusal::default() };
    let cd = "cd".repeat(32);
    let print = fingerprint(&public());
    let in_2001 = Some(Stamp(1_000_000_000_000));
    let keys = Refusal { accepted_keys: vec!["master".into(), "ci (bob@desk)".into()], ..Refusal::default() };
    let old_clock = Refusal { stamp: in_2001, ..Refusal::default() };
    let newer = Refusal { stamp: in_2001, superseded: true, ..there.clone() };
    for (word, refusal, parts) in [
        ("signature_mismatch", keys, vec![print.as_str(), "$CIRUELA_KEY", "master, ci (bob@desk)", "configs/k.yaml"]),
        ("already_exists", there.clone(), vec![&cd, "--append-weak", "--replace"]),
        ("already_uploading_different_version", there.clone(), vec![&cd, "on its way"]),
        ("dir_is_append_only", there.clone(), vec![&cd, "append-only: true"]),
        ("replace_doesnt_match_index", there.clone(), vec![&cd, "--replace SRC:/k/x:ID"]),
        ("config_level_mismatch", Refusal::default(), vec!["Check DEST"]),
        ("stamp_in_future", old_clock, vec!["2001-09-09T01:46:40Z", "clock"]),
        ("stale", newer, vec![&cd, "2001-09-09T01:46:40Z", "newer"]),
        ("overloaded", Refusal::default(), vec!["later"]),
        ("something_new", Refusal::default(), vec!["something_new"]),
    ] {
        let said = place.sync(&[], &[&fake(1, Play::Refuse(word, refusal))]);
        said.expect(3, &parts);
        said.expect(3, &["REFUSED", word]);
    }
}

#[test]
fn one_sentence_for_all_who_refuse() {
    let place = Place::new();
    let nodes = [fake(1, refuse("signature_mismatch")), fake(2, refuse("signature_mismatch")), fake(3, Play::Take)];
    let said = place.sync(&["-m"], &nodes.each_ref());
    said.expect(3, &["done on 1 of 3 machines"]);
    let sentences: Vec<_> = said.err.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(sentences.len(), 1, "{sentences:?}");
    assert!(sentences[0].contains("node1") && sentences[0].contains("node2"), "{sentences:?}");
}

#[test]
fn weak_appends() {
    let place = Place::new();
    let there =
        || Play::Refuse("already_exists", Refusal { current: Some(ImageId::new([1; 32])), ..Refusal::default() });
    place.sync(&["--append-weak", "TREE:/k/x"], &[&fake(1, there())]).expect(0, &["kept what is there"]);
}

#[test]
fn nobody_carries_it() {
    let place = Place::new();
    let nodes = [fake(1, refuse("no_config")), fake(2, refuse("no_config"))];
    let said = place.sync(&["-m"], &nodes.each_ref());
    said.expect(3, &["configs/k.yaml", "\"k\"", "node1", "node2"]);
}

#[test]
fn redirected_to_who_carries_it() {
    let place = Place::new();
    let carrier = fake(7, Play::Take);
    let hosts = vec![(7, carrier.address.to_string())];
    let node = fake(1, Play::Refuse("no_config", Refusal { hosts, ..Refusal::default() }));
    place.sync(&[], &[&node]).expect(0, &["node7", "not carried by this machine", "done on 1 of 1 machine"]);
}

#[test]
fn given_up_by_the_node() {
    let place = Place::new();
    let said = place.sync(&[], &[&fake(1, Play::End("failed", "the index can't be deployed"))]);
    said.expect(3, &["the index can't be deployed"]);
}

#[test]
fn never_answered() {
    let place = Place::new();
    for play in [Play::Silence, Play::Accept] {
        let nodes = [fake(1, Play::Have), fake(2, play)];
        let said = place.sync(&["-m", "-t", "2s"], &nodes.each_ref());
        said.expect(4, &["by the deadline", "missing: node2"]);
    }
}

#[test]
fn nobody_there() {
    let place = Place::new();
    let address = dead_address().to_string();
    let said = place.sync(&["-t", "1s", &address], &[]);
    said.expect(5, &["NO MACHINE COULD BE REACHED", "nothing listens", &address]);
    place.sync(&["no-such-name.invalid"], &[]).expect(5, &["no-such-name.invalid"]);
}

#[test]
fn something_else_listens() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1024];
            // Whatever it asks, this is no ciruela.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nnginx\n");
        }
    });
    place.sync(&["-t", "2s", &address], &[]).expect(5, &["404", "nginx"]);
}

#[test]
fn a_daemon_of_the_first_protocol() {
    let place = Place::new();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    runtime.spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let socket = tokio_tungstenite::accept_async(stream).await.expect("a WebSocket");
        std::future::pending::<()>().await;
        drop(socket);
    });
    place.sync(&[&address], &[]).expect(5, &["too old"]);
}

#[test]
fn the_early_rule_names_who_is_missing() {
    let place = Place::new();
    let nodes = [fake(1, Play::Take), fake(2, Play::Take), fake(3, Play::Accept)];
    let rule = ["-m", "--early-timeout", "100ms", "--early-hosts", "2", "--early-fraction", "0.5"];
    let said = place.sync(&rule, &nodes.each_ref());
    said.expect(0, &["done on 2 of 3 machines, as the early rule asks; missing: node3"]);
}

#[test]
fn breaks_off_and_goes_on() {
    let place = Place::new();
    let node = fake(1, Play::BreakOff(1));
    let said = place.sync(&[], &[&node]);
    said.expect(0, &["by a test", "done on 1 of 1 machine"]);
    assert_eq!(node.image(place.scan().id), Some(content(&place)));
    assert_eq!(node.next_change(), node.next_change(), "the same change again");
}

#[test]
fn a_file_changes_meanwhile() {
    let place = Place::new();
    let path = place.tree().join("sub/large");
    let change = move || {
        let mut content = fs::read(&path).expect("readable");
        content[2_000_000] ^= 1;
        fs::write(&path, content).expect("write");
    };
    let nodes = [fake(1, Play::Have), fake(2, Play::Meanwhile(Arc::new(change)))];
    let said = place.sync(&["-m"], &nodes.each_ref());
    said.expect(1, &["a source was changed meanwhile", "done on 1 of 2 machines"]);
    let warnings = said.err.matches("warning: sub/large: changed after it was indexed").count();
    assert_eq!(warnings, 1, "{}", said.err);
}

#[test]
fn a_file_is_touched_meanwhile() {
    let place = Place::new();
    let path = place.tree().join("sub/large");
    let touch = move || fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    place.sync(&[], &[&fake(1, Play::Meanwhile(Arc::new(touch)))]).expect(0, &[]);
}

#[test]
fn several_clusters_end_as_the_worst() {
    let place = Place::new();
    let nodes = [fake(1, Play::Take), fake(2, refuse("dir_is_append_only"))];
    let said = place.sync(&[], &nodes.each_ref());
    let first = format!("{}: done on 1 of 1 machine", nodes[0].address);
    let second = format!("{}: REFUSED", nodes[1].address);
    said.expect(3, &[&first, &second]);
    // Two clusters of several names each.
    let nodes = [1, 2, 3].map(|n| fake(n, Play::Take));
    let names = nodes.each_ref().map(|node| node.address.to_string());
    let args = ["-m", &names[0], &names[1], "--", &names[2]];
    place.sync(&args, &[]).expect(0, &["done on 2 of 2 machines", "done on 1 of 1 machine"]);
}

#[test]
fn interrupted() {
    let place = Place::new();
    for signal in [Signal::INT, Signal::TERM] {
        let node = fake(1, Play::Accept);
        let child = place.start(&[], &[&node]);
        node.next_change();
        let id = i32::try_from(child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("positive"), signal).expect("it is ours");
        said(child.wait_with_output().expect("ends")).expect(130, &["INTERRUPTED"]);
    }
}
