//! Several clients with one image, one of which lies or says nothing.

use std::path::Path;
use std::thread;

use bytes::Bytes;
use ciruela::driver::scan::Scan;
use ciruela::format::wire::{Message, Notification, Request, Response};
use ciruela::model::change::Verb;

use super::{source, start, wait_for_status};
use crate::daemon::{Daemon, tree};
use crate::peer::{Peer, honest, signed};
use crate::publisher::{Publisher, addresses, to};
use crate::trees::{file, mixed, noise, plain, scanned};

#[test]
fn two_clients_with_one_image() {
    let publisher = Publisher::new(38);
    let daemons = start(&publisher, [38, 39]);
    let all = addresses(&daemons.each_ref());
    let root = source(&publisher, "tree", |root| mixed(root, 3));
    let append = to(&root, "/data/tree");
    let both = [publisher.start(&["--append", &append], &all), publisher.start(&["--append", &append], &all)];
    for client in both {
        client.end().expect(0);
    }
    for daemon in &daemons {
        assert_eq!(tree(&daemon.data("data/tree")), tree(&root));
    }
}

/// What a liar makes of the honest answer.
type Lie = fn(Response) -> Response;

fn flip_one_byte(response: Response) -> Response {
    match response {
        Response::GetBlocks { data } => {
            let mut data = data.to_vec();
            let last = data.len() - 1;
            data[last] ^= 1;
            Response::GetBlocks { data: data.into() }
        }
        other => other,
    }
}

fn cut_one_byte(response: Response) -> Response {
    match response {
        Response::GetBlocks { data } => Response::GetBlocks { data: data.slice(..data.len() - 1) },
        other => other,
    }
}

fn swap_two_bytes_of_the_index(response: Response) -> Response {
    match response {
        Response::GetIndexPart { data, total } => {
            let mut data = data.to_vec();
            data.swap(100, 101);
            Response::GetIndexPart { data: data.into(), total }
        }
        other => other,
    }
}

fn promise_a_huge_index(response: Response) -> Response {
    match response {
        Response::GetIndexPart { data, .. } => Response::GetIndexPart { data, total: 1 << 60 },
        other => other,
    }
}

fn nothing(response: Response) -> Response {
    match response {
        Response::GetIndexPart { total, .. } => Response::GetIndexPart { data: Bytes::new(), total },
        Response::GetBlocks { .. } => Response::GetBlocks { data: Bytes::new() },
        other => other,
    }
}

fn refuse(_: Response) -> Response {
    Response::Error("I don't feel like it".to_owned())
}

fn mix_up(response: Response) -> Response {
    match response {
        Response::GetBlocks { data } => Response::GetBlocks { data: [&data[1..], &data[..1]].concat().into() },
        other => other,
    }
}

/// Who has the key and lies is asked first here, is found out, and the others' answers are used.
#[test]
fn a_client_that_lies_is_left_for_an_honest_one() {
    let publisher = Publisher::new(49);
    let [daemon] = start(&publisher, [49]);
    let lies: [(&str, Lie, &str); 7] = [
        ("flip", flip_one_byte, "doesn't fit its hash"),
        ("mix", mix_up, "doesn't fit its hash"),
        ("cut", cut_one_byte, "bytes for blocks of"),
        ("index", swap_two_bytes_of_the_index, "dropped"),
        ("huge", promise_a_huge_index, "an index of"),
        ("nothing", nothing, "empty part"),
        ("refuse", refuse, "I don't feel like it"),
    ];
    for (number, (name, lie, reason)) in lies.into_iter().enumerate() {
        let root = source(&publisher, name, |root| {
            plain(root, number as u64, 60, 9_000);
            file(&root.join("large"), &noise(number as u64, 3 << 20), 0o644);
        });
        beside_a_liar(&publisher, &daemon, &root, &format!("/data/{name}"), lie, reason);
    }
}

fn beside_a_liar(publisher: &Publisher, daemon: &Daemon, root: &Path, path: &str, lie: Lie, reason: &str) {
    let scan = scanned(root);
    let mut liar = Peer::connect(daemon);
    liar.publish(scan.id);
    let answer = liar.submit(signed(publisher.secret(), Verb::Append, path, scan.id));
    assert_eq!(answer.reject_reason, None);
    let tell = move |root: &Path, scan: &Scan, request: &Request| lie(honest(root, scan, request));
    let thread = {
        let (root, scan) = (root.to_owned(), scan.clone());
        thread::spawn(move || liar.outcome(|peer, id, request| peer.respond(id, tell(&root, &scan, &request))))
    };
    let line = daemon.wait_for_line("a source is not asked any more");
    assert!(line.contains(reason) || reason == "dropped", "{line}");
    let ended = publisher.run(&["--append", &to(root, path)], &addresses(&[daemon])).expect(0);
    assert_eq!(ended.result(daemon, path), "done");
    assert_eq!(tree(&daemon.data(path.trim_start_matches('/'))), tree(root));
    // The liar hears the truth, too.
    assert_eq!(thread.join().expect("no panic").result, "done");
}

/// Whoever offers an image without having signed for it isn't asked while somebody is there who has.
#[test]
fn strangers_who_offer_and_say_nothing_hinder_nobody() {
    let publisher = Publisher::new(50);
    let [daemon] = start(&publisher, [50]);
    let root = source(&publisher, "tree", |root| mixed(root, 5));
    let image = scanned(&root).id;
    // More than the daemon asks at once, all of them before the honest one, and again and again.
    let mut strangers: Vec<_> = (0..15).map(|_| Peer::connect(&daemon)).collect();
    for stranger in &mut strangers {
        stranger.publish(image);
        stranger.publish(image);
    }
    let ended = publisher.run(&["--append", &to(&root, "/data/tree")], &addresses(&[&daemon])).expect(0);
    assert_eq!(ended.result(&daemon, "/data/tree"), "done");
    assert_eq!(tree(&daemon.data("data/tree")), tree(&root));
    for stranger in &mut strangers {
        stranger.publish(image);
    }
    // Nor do they see anything but how it ended.
    for mut stranger in strangers {
        let Message::Notification(Notification::Outcome(outcome)) = stranger.receive() else { panic!("asked") };
        assert_eq!(outcome.result, "done");
    }
}

/// Who has the key, offers and never answers keeps only what he was asked for from being done: not the rest, not others,
/// and no longer than he stays (or a minute, which the engines' tests wait for).
#[test]
fn a_client_that_never_answers() {
    let publisher = Publisher::new(62);
    let [daemon] = start(&publisher, [62]);
    let root = source(&publisher, "tree", |root| plain(root, 6, 300, 30_000));
    let scan = scanned(&root);
    let mut silent = Peer::connect(&daemon);
    silent.publish(scan.id);
    let answer = silent.submit(signed(publisher.secret(), Verb::Append, "/data/tree", scan.id));
    assert_eq!(answer.reject_reason, None);
    // It gives the index, so that it is asked for blocks, and then nothing.
    loop {
        if let Message::Request { id, request } = silent.receive() {
            match request {
                Request::GetIndexPart { .. } => silent.respond(id, honest(&root, &scan, &request)),
                Request::GetBlocks { .. } => break,
                other => panic!("{other:?}"),
            }
        }
    }
    let client = publisher.start(&["--append", &to(&root, "/data/tree")], &addresses(&[&daemon]));
    let most = |entry: &serde_json::Value| entry["bytes_done"].as_u64() >= Some(300 * 30_000 - (6 << 20));
    wait_for_status(&daemon, "/data/tree", most);
    let other = source(&publisher, "other", |root| plain(root, 7, 10, 30_000));
    publisher.run(&["--append", &to(&other, "/data/other")], &addresses(&[&daemon])).expect(0);
    drop(silent);
    client.end().expect(0);
    assert_eq!(tree(&daemon.data("data/tree")), tree(&root));
}
