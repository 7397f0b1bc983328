//! Comparing, and the words for it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::gather::Gathered;
use super::judge::{Judged, Standing};
use super::page::StatusPage;
use super::*;

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 24_783))
}

fn entry(path: &str, change: &str, stamp: u64, state: &str) -> Value {
    let image = format!("image of {change}");
    json!({ "path": path, "image": image, "change": change, "stamp_ms": stamp, "visible": null, "state": state,
        "waiting": (state == "fetch").then_some("no source"), "failure": null, "bytes_done": 45, "bytes_total": 100 })
}

fn page(n: u8, fingerprint: &str, paths: &[Value]) -> Value {
    json!({ "version": "1.0", "hostname": format!("node{n}"), "machine_id": format!("{n:02x}"), "connections": 0,
        "uptime_seconds": 200_000, "directories": ["d"], "paths": paths,
        "heads": { "d": { "count": paths.len(), "fingerprint": fingerprint } } })
}

fn gathered(pages: &[(u8, Value)]) -> Gathered {
    let mut gathered = Gathered::default();
    for (n, page) in pages {
        let page = StatusPage::parse(page.to_string().as_bytes());
        for member in page.iter().flat_map(|page| &page.members) {
            gathered.members.insert(member.address, member.clone());
        }
        gathered.answers.insert(address(*n), page);
    }
    gathered
}

fn standings(judged: &Judged) -> Vec<Option<Standing>> {
    judged.nodes.iter().map(|node| node.standing.values().next().copied()).collect()
}

#[test]
fn most_are_right() {
    let old = entry("/d/x", "c1", 1, "done");
    let new = entry("/d/x", "c2", 2, "done");
    let [old, new] = [[old], [new]];
    let pages = [(1, page(1, "b", &new)), (2, page(2, "b", &new)), (3, page(3, "a", &old))];
    let judged = Judged::of(gathered(&pages), None);
    assert_eq!(standings(&judged), [Some(Standing::Current), Some(Standing::Current), Some(Standing::Behind)]);
    assert!(!judged.is_current());
    let text = table::text(&judged, None);
    assert!(text.contains("d: 1 BEHIND") && text.contains("2days 7h"), "{text}");
    assert!(text.ends_with("3 machines, 1 behind"), "{text}");
    // One against one: the newer one.
    let judged = Judged::of(gathered(&[(1, page(1, "b", &new)), (2, page(2, "c", &old))]), None);
    assert_eq!(standings(&judged), [Some(Standing::Current), Some(Standing::Behind)]);
}

#[test]
fn what_is_known_and_not_there_is_no_lag() {
    let judged = Judged::of(gathered(&[(1, page(1, "a", &[entry("/d/x", "c", 1, "fetch")]))]), None);
    assert_eq!(standings(&judged), [Some(Standing::Deploying)]);
    let text = table::text(&judged, None);
    assert!(text.contains("  node1: /d/x: fetch 45 %, waits: no source"), "{text}");
}

#[test]
fn a_conflict_is_no_deployment() {
    let mut conflict = entry("/d/x", "c1", 1, "conflict");
    (conflict["visible"], conflict["image"]) = ("0123456789abcdefXX".into(), "fedcba9876543210XX".into());
    let pages = [(1, page(1, "a", &[entry("/d/x", "c1", 1, "done")])), (2, page(2, "a", &[conflict]))];
    let path = "/d/x".parse().expect("valid");
    let words = "conflict: 0123456789abcdef is there and stays, fedcba9876543210 should be";
    for path in [None, Some(&path)] {
        let judged = Judged::of(gathered(&pages), path);
        assert_eq!(standings(&judged), [Some(Standing::Current), Some(Standing::Conflict)]);
        assert!(!judged.is_current());
        let text = table::text(&judged, path);
        assert!(text.contains("CONFLICT") && text.contains(words), "{text}");
        assert!(text.ends_with("2 machines, 1 in conflict"), "{text}");
    }
}

#[test]
fn one_path() {
    let path = "/d/x".parse().expect("valid");
    let other = json!({ "version": "1", "hostname": "other", "machine_id": "09", "directories": ["e"], "paths": [] });
    let pages = [
        (1, page(1, "a", &[entry("/d/x", "c2", 2, "done")])),
        (2, page(2, "b", &[entry("/d/x", "c1", 1, "done")])),
        (3, page(3, "b", &[])),
        (4, page(4, "a", &[entry("/d/x", "c2", 2, "fetch")])),
        (5, other),
    ];
    let judged = Judged::of(gathered(&pages), Some(&path));
    let (current, behind) = (Some(Standing::Current), Some(Standing::Behind));
    assert_eq!(standings(&judged), [current, behind, behind, Some(Standing::Deploying), None]);
    let text = table::text(&judged, Some(&path));
    assert!(text.contains("not carried") && text.contains("fetch 45 %"), "{text}");
    let value: Value = serde_json::from_str(&json::object(&judged, Some(&path), 1)).expect("JSON");
    assert_eq!((&value["current"], &value["nodes"][1]["standing"]), (&false.into(), &"behind".into()));
    assert_eq!(value["nodes"][0]["entry"]["change"], "c2");
}

#[test]
fn machines_that_are_named_and_do_not_answer() {
    let member = |n: u8, state: &str| {
        json!({ "address": address(n).to_string(), "machine_id": format!("{n:02x}"), "hostname": format!("node{n}"),
            "version": "1.0", "state": state, "directories": ["d"] })
    };
    let mut one = page(1, "a", &[]);
    one["members"] = json!([member(1, "alive"), member(2, "down")]);
    let mut all = gathered(&[(1, one)]);
    all.answers.insert(address(2), Err("nothing listens".to_owned()));
    // The same machine by another address of its own.
    all.answers.insert(address(9), StatusPage::parse(page(1, "a", &[]).to_string().as_bytes()));
    let judged = Judged::of(all, None);
    let text = table::text(&judged, None);
    assert!(text.contains("UNREACHABLE: nothing listens (the others say: down)"), "{text}");
    assert!(text.ends_with("2 machines, 1 unreachable"), "{text}");
    assert_eq!((judged.nodes[0].address, judged.is_current()), (address(1), false));
}

#[test]
fn what_is_asked_for() {
    let all = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (names, path) = words(all(&["a", "/d/x", "b:1"])).expect("fine");
    assert_eq!((names, path.map(|path| path.to_string())), (all(&["a", "b:1"]), Some("/d/x".to_owned())));
    for bad in [&["/d/x"][..], &["a", "/d/x", "/d/y"], &["a", "/d/../x"], &["http://x"]] {
        assert!(words(all(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn damage_is_shown() {
    let mut damaged = entry("/d/x", "c1", 1, "done");
    damaged["damaged"] = "etc/conf was changed on this node".into();
    let judged = Judged::of(gathered(&[(1, page(1, "b", &[damaged]))]), None);
    let text = table::text(&judged, None);
    assert!(text.contains("damaged:\n  node1: /d/x: done 45 %, DAMAGED: etc/conf was changed on this node"), "{text}");
    assert!(text.ends_with("1 machine, 1 with damaged directories"), "{text}");
}

#[test]
fn that_nothing_is_cleaned_is_shown() {
    let mut one = page(1, "b", &[entry("/d/x", "c1", 1, "done")]);
    one["retention"] =
        json!({ "d": { "newest": 1, "problem": "nothing is removed: line 3\u{1b}" }, "e": { "problem": null } });
    let judged = Judged::of(gathered(&[(1, one)]), None);
    let text = table::text(&judged, None);
    let said = "not cleaned as it should be:\n  node1: d: nothing is removed: line 3\\u{1b}\n1 machine, all current";
    assert!(text.ends_with(said), "{text:?}");
    let value: Value = serde_json::from_str(&json::object(&judged, None, 0)).expect("JSON");
    assert_eq!(value["nodes"][0]["not_cleaned"], json!({ "d": "nothing is removed: line 3\u{1b}" }));
}
