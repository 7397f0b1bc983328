//! How much is asked at once, what ends a fetch, and how an index is put together.
#![expect(clippy::wildcard_enum_match_arm, reason = "only one kind of effect is looked for at a time")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::failure::FailureKind;
use crate::model::hash_kind::HashKind;
use crate::model::ids::BlockHash;
use crate::model::image::Image;
use crate::model::image::{ImageBuilder, blocks_of};
use crate::model::limits;
use crate::model::peer::ProtocolVersion;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const ID: ImageId = ImageId::new([7; 32]);

struct Case {
    engine: Fetches,
    image: Arc<Image>,
    now: Now,
}

fn path() -> VPath {
    "/key/image".parse().expect("valid")
}

fn directory() -> Arc<DirectoryConfig> {
    Arc::new(DirectoryConfig::plain("key", "/srv"))
}

impl Case {
    /// An image of one file of so many bytes.
    fn new(bytes: u64) -> Self {
        let mut builder = ImageBuilder::new(HashKind::default());
        let count = usize::try_from(blocks_of(bytes)).expect("small");
        let hashes: Vec<_> = (0..count).map(|i| BlockHash::new([i.to_le_bytes()[0]; 32])).collect();
        builder.directory("").expect("root");
        builder.file("file", false, bytes, &hashes).expect("file");
        let image = Arc::new(builder.finish().expect("complete"));
        Self { engine: Fetches::new(1), image, now: Now::default() }
    }

    fn tell(&mut self, input: Input) -> Vec<Effect> {
        let mut outbox = Outbox::new();
        self.engine.handle(self.now, input, &mut outbox);
        outbox.collect()
    }

    fn offer(&mut self, connection: ConnectionId, version: ProtocolVersion) -> Vec<Effect> {
        self.tell(Input::Offered { connection, version, image: ID, vouched: true })
    }

    fn start(&mut self, have: BlockSet) -> Vec<Effect> {
        let (path, directory, image) = (path(), directory(), self.image.clone());
        self.tell(Input::Start { path, directory, id: ID, image, have })
    }

    fn none(&self) -> BlockSet {
        BlockSet::none(self.image.block_count())
    }

    /// The right number of bytes for a question.
    fn answer(&mut self, connection: ConnectionId, question: Question) -> Vec<Effect> {
        let bytes = question.run().bytes(&self.image).expect("in the image");
        let answer = Ok(Answer::Data(vec![0; bytes].into()));
        self.tell(Input::Answered { connection, question, answer })
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now.time = self.now.time + time;
        let mut outbox = Outbox::new();
        self.engine.handle_timeout(self.now, &mut outbox);
        outbox.collect()
    }

    /// Answers and stores everything that is asked, until the last effect. Gives what isn't asked, stored or announced.
    fn serve(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let (mut todo, mut rest) = (std::collections::VecDeque::from(effects), Vec::new());
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Ask { connection, question } => todo.extend(self.answer(connection, question)),
                Effect::Store { path, run, .. } => {
                    todo.extend(self.tell(Input::Stored { path, run, result: Ok(Vec::new()) }));
                }
                Effect::Announce { .. } => {}
                other => rest.push(other),
            }
        }
        rest
    }
}

fn asked(effects: &[Effect]) -> Vec<(ConnectionId, Question)> {
    let ask = |effect: &Effect| match effect {
        Effect::Ask { connection, question } => Some((*connection, question.clone())),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn dropped(effects: &[Effect]) -> Vec<ConnectionId> {
    let dropped =
        |effect: &Effect| if let Effect::Dropped { connection, .. } = effect { Some(*connection) } else { None };
    effects.iter().filter_map(dropped).collect()
}

#[test]
fn everything_is_asked_once_and_told() {
    for version in [ProtocolVersion::V1, ProtocolVersion::V2] {
        let mut case = Case::new(20_000_001);
        assert!(case.start(case.none()).is_empty(), "no source");
        assert_eq!(case.engine.source_count(ID), 0);
        let effects = case.offer(A, version);
        let rest = case.serve(effects);
        assert!(matches!(&rest[..], [Effect::Finished { bytes: 20_000_001, .. }]), "{rest:?}");
        assert_eq!(case.engine.deadline(), None);
    }
}

#[test]
fn what_is_there_is_not_asked_for() {
    let mut case = Case::new(3_000_000);
    case.offer(A, ProtocolVersion::V2);
    let mut have = case.none();
    (0..case.image.block_count())
        .filter(|block| *block != 40 && *block != 41 && *block != 90)
        .for_each(|block| _ = have.insert(block));
    let effects = case.start(have);
    let mut runs: Vec<_> = asked(&effects).into_iter().map(|(_, question)| question.run()).collect();
    runs.sort();
    assert_eq!(runs, [Run { first: 40, count: 2 }, Run { first: 90, count: 1 }]);
    let mut all = case.none();
    (0..case.image.block_count()).for_each(|block| _ = all.insert(block));
    let mut other = Case::new(3_000_000);
    assert!(matches!(&other.start(all)[..], [Effect::Finished { bytes: 0, .. }]));
}

#[test]
fn windows_grow_and_are_bounded() {
    let mut case = Case::new(200 << 20);
    case.start(case.none());
    let first = asked(&case.offer(A, ProtocolVersion::V2));
    assert_eq!(first.len(), 4);
    // The source answers everything 100 ms after it was asked, however much that is.
    let mut open = first;
    for round in 0..6 {
        case.now.time = case.now.time + Duration::from_millis(100);
        let now_open = std::mem::take(&mut open);
        for (connection, question) in now_open {
            let run = question.run();
            open.extend(asked(&case.answer(connection, question)));
            open.extend(asked(&case.tell(Input::Stored { path: path(), run, result: Ok(Vec::new()) })));
        }
        let bytes: usize = open.iter().map(|(_, question)| question.run().bytes(&case.image).expect("valid")).sum();
        assert!(bytes <= limits::RUNS_IN_FLIGHT_MAX * limits::RUN_BYTES_MAX, "round {round}");
    }
    assert_eq!(open.len(), limits::RUNS_IN_FLIGHT_MAX * 4, "questions of 256 KiB");
}

#[test]
fn a_liar_is_dropped_and_the_next_is_asked() {
    let mut case = Case::new(100_000);
    let asked_a = case.offer(A, ProtocolVersion::V2);
    assert!(asked_a.is_empty());
    case.start(case.none());
    case.offer(B, ProtocolVersion::V2);
    let question = Question::Run { path: path(), image: ID, run: Run { first: 0, count: 4 } };
    case.answer(A, question);
    let effects = case.tell(Input::Stored { path: path(), run: Run { first: 0, count: 4 }, result: Ok(vec![2]) });
    assert_eq!(dropped(&effects), [A]);
    let again = asked(&effects);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].0, again[0].1.run()), (B, Run { first: 2, count: 1 }));
    let rest = case.serve(effects);
    assert!(rest.iter().any(|effect| matches!(effect, Effect::Finished { bytes: 100_000, .. })), "{rest:?}");
    // Offering anew doesn't make it better.
    case.offer(A, ProtocolVersion::V2);
    assert_eq!(case.engine.source_count(ID), 1);
}

#[test]
fn errors_and_wrong_lengths_are_lies() {
    for answer in
        [Err("no".to_owned()), Ok(Answer::Data(vec![0; 3].into())), Ok(Answer::Part { data: vec![0].into(), total: 1 })]
    {
        let mut case = Case::new(100_000);
        case.start(case.none());
        let (connection, question) = asked(&case.offer(A, ProtocolVersion::V2)).remove(0);
        let run = question.run();
        let effects = case.tell(Input::Answered { connection, question, answer });
        assert_eq!(dropped(&effects), [A]);
        let again = asked(&case.offer(B, ProtocolVersion::V2));
        assert_eq!(
            again.iter().map(|(connection, question)| (*connection, question.run())).collect::<Vec<_>>(),
            [(B, run)]
        );
    }
}

#[test]
fn the_silent_are_left() {
    let mut case = Case::new(100_000);
    case.start(case.none());
    let (_, question) = asked(&case.offer(A, ProtocolVersion::V2)).remove(0);
    assert!(case.pass(limits::SOURCE_ANSWER_TIMEOUT / 2).is_empty(), "not yet");
    let effects = case.offer(B, ProtocolVersion::V2);
    assert_eq!(asked(&effects), [(B, question.clone())], "it is late");
    let effects = case.pass(limits::SOURCE_ANSWER_TIMEOUT / 2);
    assert_eq!(dropped(&effects), [A]);
    // What comes too late is nobody's.
    assert!(case.answer(A, question).is_empty());
    assert!(case.engine.deadline().is_some_and(|(at, _)| at > case.now.time));
}

#[test]
fn what_the_gone_were_asked_goes_to_others() {
    let mut case = Case::new(30 << 20);
    case.start(case.none());
    let first = asked(&case.offer(A, ProtocolVersion::V2));
    case.tell(Input::Gone { connection: A });
    let again = asked(&case.offer(B, ProtocolVersion::V2));
    let questions = |asked: Vec<(ConnectionId, Question)>| asked.into_iter().map(|(_, q)| q).collect::<BTreeSet<_>>();
    assert_eq!(questions(again), questions(first));
}

#[test]
fn a_failed_store_ends_the_fetch_when_all_are_back() {
    let mut case = Case::new(3 << 20);
    case.start(case.none());
    let open = asked(&case.offer(A, ProtocolVersion::V2));
    assert_eq!(open.len(), 4);
    for (connection, question) in open.clone() {
        case.answer(connection, question);
    }
    let failure = || Err(Failure { kind: FailureKind::NoSpace, text: "full".to_owned() });
    let mut stored = |at: usize, result| case.tell(Input::Stored { path: path(), run: open[at].1.run(), result });
    assert!(stored(1, failure()).is_empty());
    assert!(stored(2, failure()).is_empty());
    assert!(matches!(&stored(0, Ok(Vec::new()))[..], [Effect::Announce { .. }]));
    let effects = stored(3, failure());
    assert!(
        matches!(&effects[..], [Effect::Failed { failure, .. }] if failure.kind == FailureKind::NoSpace),
        "{effects:?}"
    );
}

#[test]
fn cancelling_waits_for_what_is_being_written() {
    let mut case = Case::new(100_000);
    case.start(case.none());
    let (connection, question) = asked(&case.offer(A, ProtocolVersion::V2)).remove(0);
    let run = question.run();
    case.answer(connection, question);
    assert!(case.tell(Input::Cancel { path: path() }).is_empty());
    let effects = case.tell(Input::Stored { path: path(), run, result: Ok(Vec::new()) });
    assert!(matches!(&effects[..], [Effect::Announce { .. }, Effect::Cancelled { .. }]), "{effects:?}");
}

#[test]
fn indexes_come_in_parts_from_one_source() {
    let mut case = Case::new(1);
    case.offer(A, ProtocolVersion::V2);
    let effects = case.tell(Input::WantIndex { image: ID });
    let (connection, question) = asked(&effects).remove(0);
    assert_eq!(question, Question::IndexPart { image: ID, offset: 0 });
    let part = |data: &'static [u8], total| Ok(Answer::Part { data: Bytes::from_static(data), total });
    let effects = case.tell(Input::Answered { connection, question, answer: part(b"DIR", 5) });
    let (connection, question) = asked(&effects).remove(0);
    assert_eq!(question, Question::IndexPart { image: ID, offset: 3 });
    let effects = case.tell(Input::Answered { connection, question, answer: part(b"SI", 5) });
    assert!(matches!(&effects[..], [Effect::CheckIndex { data, .. }] if data == b"DIRSI"), "{effects:?}");
    case.offer(B, ProtocolVersion::V1);
    let effects = case.tell(Input::IndexChecked { image: ID, genuine: Err("forged".to_owned()) });
    assert_eq!(dropped(&effects), [A]);
    assert_eq!(asked(&effects), [(B, Question::Index { image: ID })]);
    let answer = Ok(Answer::Data(Bytes::from_static(b"DIR")));
    let effects = case.tell(Input::Answered { connection: B, question: Question::Index { image: ID }, answer });
    assert!(matches!(&effects[..], [Effect::CheckIndex { data, .. }] if data == b"DIR"), "{effects:?}");
    case.tell(Input::IndexChecked { image: ID, genuine: Ok(()) });
    assert!(!case.engine.wants_index(ID));
}

#[test]
fn an_index_over_its_bound_is_a_lie() {
    for (data, total) in [(&b"abc"[..], 2), (b"", 5), (b"abc", u64::MAX)] {
        let mut case = Case::new(1);
        case.offer(A, ProtocolVersion::V2);
        let (connection, question) = asked(&case.tell(Input::WantIndex { image: ID })).remove(0);
        let answer = Ok(Answer::Part { data: Bytes::from_static(data), total });
        assert_eq!(dropped(&case.tell(Input::Answered { connection, question, answer })), [A], "{data:?} of {total}");
    }
}
