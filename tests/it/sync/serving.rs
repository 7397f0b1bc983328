//! What nodes may ask of a client.

use ciruela::format::wire::{Request, Response};
use ciruela::model::ids::{BlockHash, ImageId};
use ciruela::model::run::Run;

use super::*;

#[test]
fn answers_are_right_or_errors() {
    let place = Place::new();
    let scan = place.scan();
    let content = content(&place);
    let hash = scan.image.hashes()[3];
    let get = |image, first, count| Request::GetBlocks { image, run: Run { first, count } };
    let part = |id, offset| Request::GetIndexPart { id, offset };
    let (own, other) = (scan.id, ImageId::new([1; 32]));
    let blocks = scan.image.block_count();
    let asked = vec![
        get(own, 0, 3),
        get(own, blocks - 1, 1),
        part(own, 10),
        Request::GetIndex { id: own, hint: Some("hint".to_owned()) },
        Request::GetBlock { hash, hint: None },
        get(own, blocks, 1),
        get(own, 0, 200),
        get(other, 0, 1),
        part(own, scan.index.len()),
        part(own, u64::MAX),
        part(other, 0),
        Request::GetIndex { id: other, hint: None },
        Request::GetBlock { hash: BlockHash::new([0; 32]), hint: None },
        Request::GetIndexAt { path: "/k/x".parse().expect("valid") },
    ];
    let count = asked.len();
    let node = fake(1, Play::Ask(asked));
    place.sync(&[], &[&node]).expect(0, &[]);
    let answers = node.answers();
    assert_eq!(answers.len(), count);
    let first = 6 + 2 * 32_768;
    assert_eq!(answers[0], Response::GetBlocks { data: content[..first].to_vec().into() });
    let last = (content.len() - 6) % 32_768;
    assert_eq!(answers[1], Response::GetBlocks { data: content[content.len() - last..].to_vec().into() });
    let total = scan.index.len();
    assert_eq!(answers[2], Response::GetIndexPart { data: scan.index.to_vec()[10..].to_vec().into(), total });
    assert_eq!(answers[3], Response::GetIndex { data: Some(scan.index.to_vec().into()) });
    let third = content[first..first + 32_768].to_vec();
    assert_eq!(answers[4], Response::GetBlock { data: Some(third.into()) });
    for answer in &answers[5..] {
        assert!(matches!(answer, Response::Error(_)), "{answer:?}");
    }
}

#[test]
fn images_without_blocks() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    place.sync(&["--append", "TREE/sub/empty:/k/x"], &[&node]).expect(0, &["0 files", "done on 1 of 1 machine"]);
    let id = node.next_change().image.expect("an image");
    assert_eq!(node.image(id), Some(Vec::new()));
}

#[test]
fn many_small_files() {
    let place = Place::new();
    fs::remove_dir_all(place.tree()).expect("removed");
    let mut all = Vec::new();
    for folder in 0..20 {
        let name = format!("{folder:02}");
        fs::create_dir_all(place.tree().join(&name)).expect("mkdir");
        for file in 0..100 {
            let content = format!("{folder} {file} ").repeat(file);
            place.write(&format!("{name}/{file:02}"), content.as_bytes());
            all.extend(content.into_bytes());
        }
    }
    let node = fake(1, Play::Take);
    place.sync(&[], &[&node]).expect(0, &["2000 files"]);
    let id = node.next_change().image.expect("an image");
    assert_eq!(node.image(id), Some(all));
}

#[test]
fn two_directories_at_once() {
    let place = Place::new();
    let other = place.folder.path().join("other");
    fs::create_dir(&other).expect("mkdir");
    fs::write(other.join("a"), vec![7; 3_000_000]).expect("write");
    let upload = format!("{}:/k/other", text(&other));
    let nodes = [fake(1, Play::Take), fake(2, Play::Take)];
    place.sync(&["-m", "--append", "TREE:/k/x", "--append", &upload], &nodes.each_ref()).expect(0, &[]);
    for node in &nodes {
        let ids = [node.next_change(), node.next_change()].map(|change| change.image.expect("an image"));
        let mut sizes = ids.map(|id| node.image(id).expect("it arrived").len());
        sizes.sort_unstable();
        assert_eq!(sizes, [3_000_000, content(&place).len()]);
    }
}
