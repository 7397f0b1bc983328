//! Neighbours: what they have, which piece they are asked for, and what happens when one is slow, wrong or gone.
#![expect(clippy::wildcard_enum_match_arm, reason = "only one kind of effect is looked for at a time")]

mod case;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rand_core::SeedableRng;

use self::case::*;
use super::rarity::Rarity;
use super::*;

#[test]
fn the_rarest_piece_is_asked_for_first() {
    let all: Vec<u32> = (0..20).collect();
    let common: Vec<u32> = all.iter().copied().filter(|piece| *piece != 13).collect();
    let mut case = Case::before(20);
    for neighbour in 1..5 {
        case.joins(neighbour, &common);
    }
    case.joins(5, &all);
    let effects = asked(&case.start());
    assert!(effects.contains(&(5, 13)), "{effects:?}");
    // Among equals, it depends on the seed.
    let first = |seed| {
        let mut case = Case::before(200);
        case.engine = Fetches::new(seed);
        case.joins(1, &(0..200).collect::<Vec<_>>());
        asked(&case.start())[0].1
    };
    let different: BTreeSet<_> = (0..20).map(first).collect();
    assert!(different.len() > 10, "{different:?}");
    assert_eq!(first(3), first(3));
}

#[test]
fn a_bitmap_that_does_not_fit_costs_the_place() {
    let have = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let pieces = |count, have| Input::Pieces { connection: ConnectionId(1), image: IMAGE, count, have };
    for (count, have) in [(9, have(&[0, 0])), (7, have(&[0])), (8, have(&[0, 0])), (u32::MAX, have(&[0]))] {
        let mut case = Case::new(8);
        assert_eq!(dropped(&case.tell(pieces(count, have))), [1], "{count}");
        assert_eq!(case.engine.source_count(IMAGE), 0);
        assert!(case.joins(1, &[0]).is_empty(), "it stays dropped");
    }
    // Also if it came before the index.
    let mut case = Case::before(8);
    case.tell(pieces(9, have(&[255, 1])));
    assert_eq!(dropped(&case.start()), [1]);
    // Pieces that there aren't mean nothing.
    let mut case = Case::new(8);
    case.joins(1, &[]);
    assert!(case.has(1, &[8, u32::MAX]).is_empty());
    assert!(case.has(2, &[1]).is_empty(), "it never said that it takes part");
    assert_eq!(asked(&case.has(1, &[7])), [(1, 7)]);
}

#[test]
fn who_has_all_is_asked_for_anything() {
    let mut case = Case::new(3);
    let all = Input::Pieces { connection: ConnectionId(1), image: IMAGE, count: 0, have: Bytes::new() };
    let mut pieces: Vec<_> = asked(&case.tell(all)).into_iter().map(|(_, piece)| piece).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, [0, 1, 2]);
}

#[test]
fn what_is_stored_is_announced_once_and_told_when_asked() {
    let mut case = Case::new(3);
    case.joins(1, &[0, 1]);
    assert_eq!(case.engine.have(IMAGE).map(PieceSet::count), Some(0));
    assert_eq!(announced(&case.answer(1, run(1))), [1]);
    assert!(announced(&case.answer(1, run(1))).is_empty());
    assert_eq!(case.engine.have(IMAGE).map(|have| (have.len(), have.to_bytes())), Some((3, vec![2])));
    assert_eq!(case.engine.have(ImageId::new([0; 32])), None);
}

#[test]
fn a_client_is_asked_for_its_share_and_for_what_nobody_has() {
    let mut case = Case::before(30);
    case.client(1, 3);
    case.joins(1, &[1, 4]);
    let effects = asked(&case.start());
    let of_client: Vec<_> = effects.iter().filter(|(source, _)| *source == CLIENT).map(|(_, piece)| *piece).collect();
    assert_eq!(of_client, [7, 10, 13, 16], "in order, without those that the node has");
    let mut of_node: Vec<_> = effects.iter().filter(|(source, _)| *source == 1).map(|(_, piece)| *piece).collect();
    of_node.sort_unstable();
    assert_eq!(of_node, [1, 4]);
}

#[test]
fn what_others_were_to_fetch_is_asked_of_an_idle_client_after_a_while() {
    let mut case = Case::before(9);
    case.client(0, 3);
    let mut open = asked(&case.start());
    let mut pieces = Vec::new();
    while let Some((source, piece)) = open.pop() {
        case.now.time = case.now.time + Duration::from_millis(10);
        pieces.push(piece);
        open.extend(asked(&case.answer(source, run(piece))));
    }
    pieces.sort_unstable();
    assert_eq!(pieces, [0, 3, 6], "its share");
    let (at, _) = case.engine.deadline().expect("it waits");
    assert!(case.pass(1).is_empty());
    case.now.time = at;
    assert_eq!(asked(&case.pass(0)), [(CLIENT, 8)], "from the other end");
    // A new share changes that.
    let share = Input::Share { connection: ConnectionId(CLIENT), image: IMAGE, index: 0, of: 1 };
    let pieces: Vec<_> = asked(&case.tell(share)).into_iter().map(|(_, piece)| piece).collect();
    assert_eq!(pieces, [1, 2, 4, 5, 7]);
}

#[test]
fn who_is_done_with_its_share_helps_from_the_other_end() {
    let mut case = Case::before(300);
    case.client(0, 3);
    let mut open = VecDeque::from(asked(&case.start()));
    let mut pieces = Vec::new();
    while let Some((source, piece)) = open.pop_front() {
        case.now.time = case.now.time + Duration::from_millis(10);
        pieces.push(piece);
        open.extend(asked(&case.answer(source, run(piece))));
    }
    let (own, helped) = pieces.split_at(100);
    assert!(own.iter().copied().eq((0..300).step_by(3)), "{own:?}");
    // Of each of the other two its half, beginning with the last; then the rest, but not what they may have asked for already.
    assert_eq!(helped[..3], [298, 295, 292].map(|piece| if piece % 2 == 0 { piece } else { piece + 1 }), "{helped:?}");
    let left = 200 - helped.len();
    assert_eq!(left, 32, "{helped:?}");
    let shared = |index| sources::Shared::new(sources::Share { index, of: 3 }, 300).helped;
    for piece in 0..300 {
        assert_eq!((0..3).filter(|index| shared(*index).contains(piece)).count(), 1, "{piece}");
    }
}

#[test]
fn what_the_client_gave_to_others_is_asked_of_it_only_much_later() {
    let mut case = Case::before(18);
    case.client(0, 3);
    let mut open = VecDeque::from(asked(&case.start()));
    let given = [1, 2, 4, 5, 7, 8, 10, 11, 12, 13, 14];
    assert!(asked(&case.has(CLIENT, &[given.as_slice(), &[99]].concat())).is_empty());
    let mut pieces = Vec::new();
    while let Some((source, piece)) = open.pop_front() {
        case.now.time = case.now.time + Duration::from_millis(10);
        pieces.push(piece);
        open.extend(asked(&case.answer(source, run(piece))));
    }
    assert_eq!(pieces, [0, 3, 6, 9, 15], "its share, but what another one helped with");
    let begin = case.now.time;
    let (mut soon, mut late) = (Vec::new(), Vec::new());
    while soon.len() + late.len() < 13 {
        let (at, _) = case.engine.deadline().expect("it waits");
        case.now.time = at;
        for (source, piece) in asked(&case.pass(0)) {
            let is_late = at.since(begin) >= Duration::from_secs(5);
            if is_late { &mut late } else { &mut soon }.push(piece);
            assert!(asked(&case.answer(source, run(piece))).is_empty());
        }
    }
    assert_eq!(soon, [17, 16], "what nobody has");
    late.sort_unstable();
    assert_eq!(late, given);
}

#[test]
fn nodes_share_what_can_be_had_from_one_alone() {
    let mut case = Case::new(64);
    assert_eq!(shares(&case.joins(1, &[])), [(1, 0, 1)]);
    assert_eq!(shares(&case.joins(2, &[])), [(1, 0, 2), (2, 1, 2)]);
    assert_eq!(shares(&case.tell(Input::Gone { connection: ConnectionId(1) })), [(2, 0, 1)]);
    assert!(shares(&case.joins(2, &[0])).is_empty(), "nothing changed");
}

#[test]
fn who_gets_nothing_from_a_client_deals_few_shares() {
    let mut case = Case::new(64);
    (1..8).for_each(|node| _ = case.joins(node, &[]));
    let five: Vec<_> = (1..9).zip((0..5).chain(0..3)).map(|(node, index)| (node, index, 5)).collect();
    assert_eq!(shares(&case.joins(8, &[])), five);
    let eight: Vec<_> = (1..9).zip(0..8).map(|(node, index)| (node, index, 8)).collect();
    assert_eq!(shares(&case.client(0, 1)), eight);
}

#[test]
fn what_one_node_alone_has_is_asked_for_in_turns() {
    let mut case = Case::new(64);
    case.joins(2, &[0]);
    case.now.time = case.now.time + Duration::from_millis(10);
    case.answer(2, run(0));
    let share = sources::Share { index: 1, of: 4 };
    case.tell(Input::Share { connection: ConnectionId(2), image: IMAGE, index: share.index, of: share.of });
    let (mine, others): (Vec<u32>, Vec<u32>) = (1..64).partition(|piece| share.turn(*piece) == 0);
    assert!((8..24).contains(&mine.len()), "{mine:?}");
    assert!(asked(&case.has(2, &others)).is_empty(), "it is nobody's turn here");
    assert_eq!(asked(&case.has(2, &mine[..2])), [(2, mine[0]), (2, mine[1])]);
    // As soon as another one has it, there is no reason to wait.
    case.joins(3, &[]);
    assert_eq!(asked(&case.has(3, &others[..1])).first().map(|(_, piece)| *piece), Some(others[0]));
    // The turn comes with time.
    let (at, _) = case.engine.deadline().expect("turns come");
    case.now.time = at;
    let now = asked(&case.pass(0));
    assert!(!now.is_empty() && now.iter().all(|(_, piece)| share.turn(*piece) == 1), "{now:?}");
}

#[test]
fn a_late_answer_is_asked_for_elsewhere_once() {
    let mut case = Case::new(2);
    case.joins(1, &[0]);
    case.tell(Input::Have { connection: ConnectionId(1), image: IMAGE, pieces: vec![1] });
    case.now.time = case.now.time + Duration::from_millis(10);
    case.answer(1, run(1));
    // The end is near, but there is nobody else.
    assert!(case.pass(10).is_empty());
    let (at, why) = case.engine.deadline().expect("it waits");
    assert_eq!(why, "fetch: an answer is late");
    case.now.time = at;
    assert!(case.pass(0).is_empty());
    assert_eq!(asked(&case.joins(2, &[0])), [(2, 0)]);
    assert!(asked(&case.pass(10_000)).is_empty());
    assert_eq!(asked(&case.joins(3, &[0])), [(3, 0)], "both are late");
    case.pass(10_000);
    assert!(asked(&case.joins(4, &[0])).is_empty(), "three are enough");
    assert!(announced(&case.answer(2, run(0))) == [0]);
}

#[test]
fn the_last_piece_is_asked_of_two() {
    let mut case = Case::before(1);
    case.joins(1, &[0]);
    case.joins(2, &[0]);
    case.joins(3, &[0]);
    let sources: BTreeSet<_> = asked(&case.start()).into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources.len(), 2, "{sources:?}");
    let first = *sources.first().expect("two");
    let effects = case.answer(first, run(0));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Finished { .. })), "{effects:?}");
    assert_eq!(case.engine.deadline(), None);
}

#[test]
fn a_wrong_block_is_told_and_the_rest_of_the_answer_kept() {
    let mut case = Case::new(1);
    case.joins(1, &[0]);
    let data = Bytes::from(vec![0; run(0).bytes(&case.image).expect("valid")]);
    let question = Question::Run { path: path(), image: IMAGE, run: run(0) };
    case.tell(Input::Answered { connection: ConnectionId(1), question, answer: Ok(Answer::Data(data)) });
    let effects = case.tell(Input::Stored { path: path(), run: run(0), result: Ok(vec![3]) });
    assert_eq!(dropped(&effects), [1]);
    let told = |effect: &Effect| matches!(effect, Effect::TellCorrupt { connection: ConnectionId(1), block: 3, .. });
    assert!(effects.iter().any(told), "{effects:?}");
    let effects = case.joins(2, &[0]);
    let block = Run { first: 3, count: 1 };
    let asks =
        |effect: &Effect| matches!(effect, Effect::Ask { question: Question::Run { run, .. }, .. } if *run == block);
    assert!(effects.iter().any(asks), "{effects:?}");
    assert_eq!(announced(&case.answer(2, block)), [0]);
}

#[test]
fn the_rate_is_bounded() {
    let mut case = Case::before(100);
    case.tell(Input::MaxDownloadRate(Some(limits::PIECE_BYTES_MIN)));
    case.joins(1, &(0..100).collect::<Vec<_>>());
    case.now.time = Time::new(Duration::from_secs(10));
    let mut pieces = asked(&case.start());
    for _ in 0..5 {
        let (at, why) = case.engine.deadline().expect("something is wanted");
        assert!(why.contains("rate") || why.contains("late"), "{why}");
        case.now.time = case.now.time.max(at);
        pieces.extend(asked(&case.pass(0)));
        for (source, piece) in pieces.clone() {
            pieces.extend(asked(&case.answer(source, run(piece))));
        }
    }
    let seconds = case.now.time.since(Time::new(Duration::from_secs(10))).as_secs();
    assert!(pieces.len() as u64 <= seconds + 2, "{} in {seconds} s", pieces.len());
}

proptest! {
    /// The incremental counts say what counting from the beginning says.
    #[test]
    fn rarity_is_what_counting_gives(steps in proptest::collection::vec((0_u8..5, 0_u32..70, 0_usize..6), 0..200), seed: u64) {
        let mut rarity = Rarity::new(70);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut neighbours, mut wanted) = (vec![PieceSet::none(70); 6], PieceSet::none(70));
        for (step, piece, neighbour) in steps {
            match step {
                0 => {
                    rarity.want(piece);
                    wanted.insert(piece);
                }
                1 => {
                    rarity.begin(piece);
                    wanted.remove(piece);
                }
                2 | 3 => {
                    if neighbours[neighbour].insert(piece) {
                        rarity.add(piece);
                        if step == 3 {
                            rarity.hold(piece, Time::default());
                        }
                    }
                }
                _ => rarity.leave(&Has::Some(std::mem::replace(&mut neighbours[neighbour], PieceSet::none(70)))),
            }
        }
        rarity.release(Time::default());
        let holders = |piece| neighbours.iter().filter(|has| has.contains(piece)).count();
        for has in &neighbours {
            let best = has.iter().filter(|piece| wanted.contains(*piece)).map(holders).min();
            let chosen = rarity.rarest(&Has::Some(has.clone()), &mut random);
            prop_assert_eq!(chosen.map(holders), best);
            prop_assert!(chosen.is_none_or(|piece| has.contains(piece) && wanted.contains(piece)));
        }
        let none: Vec<u32> = wanted.iter().filter(|piece| holders(*piece) == 0).collect();
        let unheld = rarity.unheld(None, &mut random);
        prop_assert!(unheld.map_or(none.is_empty(), |piece| none.contains(&piece)));
    }
}
