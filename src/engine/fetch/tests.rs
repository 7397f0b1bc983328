//! Who is asked for what, who is dropped for which answer, and where what it was asked goes.
#![expect(clippy::wildcard_enum_match_arm, reason = "only one kind of effect is looked for at a time")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::format::hash::Hasher;
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::hash_kind::HashKind;
use crate::model::ids::BlockHash;
use crate::model::image::Image;
use crate::model::image::ImageBuilder;
use crate::model::limits;
use crate::model::peer::ProtocolVersion;

const IMAGE: ImageId = ImageId::new([3; 32]);

/// One file of `blocks` blocks.
fn image(blocks: u64) -> Arc<Image> {
    let kind = HashKind::Blake2b256;
    let mut builder = ImageBuilder::new(kind);
    builder.directory("").expect("the root");
    let hash = |number: u64| BlockHash::new(Hasher::new(kind).update(&number.to_le_bytes()).finish());
    let hashes: Vec<_> = (0..blocks).map(hash).collect();
    builder.file("file", false, blocks * limits::BLOCK_BYTES as u64, &hashes).expect("a file");
    Arc::new(builder.finish().expect("an image"))
}

fn path() -> VPath {
    "/key/name".parse().expect("valid")
}

fn directory() -> Arc<DirectoryConfig> {
    Arc::new(DirectoryConfig::plain("key", "/srv"))
}

fn at(seconds: u64) -> Now {
    Now { time: Time::new(Duration::from_secs(seconds)), ..Now::default() }
}

struct Setup {
    engine: Fetches,
    image: Arc<Image>,
}

impl Setup {
    /// Wants all of an image of 512 blocks: 64 pieces.
    fn new() -> Self {
        Self { engine: Fetches::new(1), image: image(512) }
    }

    fn tell(&mut self, seconds: u64, input: Input) -> Vec<Effect> {
        let mut outbox = Outbox::new();
        self.engine.handle(at(seconds), input, &mut outbox);
        outbox.collect()
    }

    fn offer(&mut self, seconds: u64, connection: u64, vouched: bool) -> Vec<Effect> {
        let connection = ConnectionId(connection);
        self.tell(seconds, Input::Offered { connection, version: ProtocolVersion::V2, image: IMAGE, vouched })
    }

    fn start(&mut self) -> Vec<Effect> {
        let (image, have) = (self.image.clone(), BlockSet::none(self.image.block_count()));
        self.tell(0, Input::Start { path: path(), directory: directory(), id: IMAGE, image, have })
    }

    fn answer(&mut self, seconds: u64, connection: u64, run: Run) -> Vec<Effect> {
        let data = Bytes::from(vec![0; run.bytes(&self.image).expect("in the image")]);
        let question = Question::Run { path: path(), image: IMAGE, run };
        let connection = ConnectionId(connection);
        self.tell(seconds, Input::Answered { connection, question, answer: Ok(Answer::Data(data)) })
    }

    fn stored(&mut self, seconds: u64, run: Run, bad: Vec<u64>) -> Vec<Effect> {
        self.tell(seconds, Input::Stored { path: path(), run, result: Ok(bad) })
    }

    fn timeout(&mut self, seconds: u64) -> Vec<Effect> {
        let mut outbox = Outbox::new();
        self.engine.handle_timeout(at(seconds), &mut outbox);
        outbox.collect()
    }
}

/// Who is asked for which runs.
fn asked(effects: &[Effect]) -> Vec<(u64, Run)> {
    let question = |effect: &Effect| match effect {
        Effect::Ask { connection, question: Question::Run { run, .. } } => Some((connection.0, *run)),
        _ => None,
    };
    effects.iter().filter_map(question).collect()
}

/// Who is dropped and why.
fn dropped(effects: &[Effect]) -> Vec<(u64, &str)> {
    let source = |effect| match effect {
        &Effect::Dropped { connection, ref reason, .. } => Some((connection.0, reason.as_str())),
        _ => None,
    };
    effects.iter().filter_map(source).collect()
}

#[test]
fn a_silent_source_is_dropped_and_what_it_was_asked_goes_to_the_next() {
    let mut setup = Setup::new();
    setup.offer(0, 1, true);
    let first = asked(&setup.start());
    assert_eq!(first.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [1; 4]);
    let other = asked(&setup.offer(1, 2, true));
    assert!(other.iter().all(|(connection, run)| *connection == 2 && first.iter().all(|(_, known)| known != run)));
    // Offering again buys no time.
    let silence = limits::SOURCE_ANSWER_TIMEOUT.as_secs();
    for second in 2..silence {
        assert!(setup.offer(second, 1, true).is_empty());
        if second == 3 {
            for (_, run) in &other {
                let next = asked(&setup.answer(second, 2, *run));
                assert!(next.iter().all(|(connection, _)| *connection == 2));
            }
        }
        // What the first one is late with is asked of the other, too.
        let again = asked(&setup.timeout(second));
        assert!(again.iter().all(|(connection, _)| *connection == 2));
    }
    assert_eq!(setup.engine.deadline().map(|(at, _)| at), Some(at(silence).time));
    let effects = setup.timeout(silence);
    assert_eq!(dropped(&effects), [(1, "it was asked and stayed silent")]);
    assert!(asked(&effects).iter().all(|(connection, _)| *connection == 2));
    assert_eq!(setup.engine.source_count(IMAGE), 1);
    // Nor does it bring the source back.
    assert!(setup.offer(silence, 1, true).is_empty());
    assert_eq!(setup.engine.source_count(IMAGE), 1);
    // A new connection of the same client is another source.
    setup.offer(silence, 3, true);
    assert_eq!(setup.engine.source_count(IMAGE), 2);
}

#[test]
fn who_signed_is_asked_rather_than_strangers() {
    let mut setup = Setup::new();
    for stranger in 1..30 {
        setup.offer(0, stranger, false);
    }
    // As long as there is nobody else, strangers may help.
    assert!(!asked(&setup.start()).is_empty());
    let effects = setup.offer(1, 30, false);
    assert!(effects.is_empty(), "enough are asked: {effects:?}");
    let effects = asked(&setup.offer(2, 30, true));
    assert_eq!(effects.len(), 4);
    assert!(effects.iter().all(|(connection, _)| *connection == 30));
    assert_eq!(setup.engine.source_count(IMAGE), 1);
    setup.tell(3, Input::Gone { connection: ConnectionId(30) });
    assert_eq!(setup.engine.source_count(IMAGE), limits::SOURCES_MAX);
}

#[test]
fn a_liar_is_named_with_its_block_and_the_others_are_asked_for_it() {
    let mut setup = Setup::new();
    setup.offer(0, 1, true);
    let first = asked(&setup.start())[0].1;
    setup.offer(0, 2, true);
    let effects = setup.answer(1, 1, first);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Store { run, .. } if *run == first)));
    let bad = first.first + 5;
    let effects = setup.stored(1, first, vec![bad]);
    let reason = format!("block {bad} doesn't fit its hash");
    assert_eq!(dropped(&effects), [(1, reason.as_str())]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::TellCorrupt { block, .. } if *block == bad)));
    // Its good blocks are kept.
    assert_eq!(setup.engine.bytes_fetched(&path()), Some(7 * limits::BLOCK_BYTES as u64));
    setup.tell(2, Input::Gone { connection: ConnectionId(2) });
    let mut again = asked(&setup.offer(3, 4, true));
    for at in 0..4 {
        again.extend(asked(&setup.answer(4, 4, again[at].1)));
    }
    assert!(again.contains(&(4, Run { first: bad, count: 1 })), "{again:?}");
}

#[test]
fn wrong_lengths_and_refusals_are_no_answers() {
    let question = |run| Question::Run { path: path(), image: IMAGE, run };
    let connection = ConnectionId(1);
    let answers = [
        Ok(Answer::Data(Bytes::from_static(b"short"))),
        Ok(Answer::Part { data: Bytes::new(), total: 9 }),
        Err("no".to_owned()),
    ];
    for answer in answers {
        let mut setup = Setup::new();
        setup.offer(0, 1, true);
        let run = asked(&setup.start())[0].1;
        // Unasked ones mean nothing.
        let foreign = question(Run { first: 500, count: 1 });
        assert!(setup.tell(1, Input::Answered { connection, question: foreign, answer: answer.clone() }).is_empty());
        let effects = setup.tell(1, Input::Answered { connection, question: question(run), answer });
        assert_eq!(dropped(&effects).len(), 1, "{effects:?}");
        assert!(asked(&setup.offer(2, 2, true)).contains(&(2, run)));
    }
}

#[test]
fn an_index_that_is_no_index_costs_the_source_its_place() {
    let mut setup = Setup::new();
    setup.offer(0, 1, true);
    let effects = setup.tell(0, Input::WantIndex { image: IMAGE });
    let part = |offset| Question::IndexPart { image: IMAGE, offset };
    assert!(matches!(&effects[..], [Effect::Ask { question, .. }] if *question == part(0)));
    let answer = |setup: &mut Setup, connection, offset, data: &'static [u8], total| {
        let (connection, answer) = (ConnectionId(connection), Ok(Answer::Part { data: data.into(), total }));
        setup.tell(1, Input::Answered { connection, question: part(offset), answer })
    };
    let effects = answer(&mut setup, 1, 0, b"DIRS", 8);
    assert!(matches!(&effects[..], [Effect::Ask { question, .. }] if *question == part(4)));
    let effects = answer(&mut setup, 1, 4, b"IGNA", 8);
    assert!(matches!(&effects[..], [Effect::CheckIndex { data, .. }] if data == b"DIRSIGNA"));
    setup.offer(2, 2, true);
    let genuine = Err("the last line isn't the id".to_owned());
    let effects = setup.tell(2, Input::IndexChecked { image: IMAGE, genuine });
    assert_eq!(dropped(&effects), [(1, "the last line isn't the id")]);
    // The next one begins at the beginning.
    let next = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Ask { connection: ConnectionId(2), question } if *question == part(0)));
    assert!(next, "{effects:?}");
    let effects = answer(&mut setup, 2, 0, b"", 8);
    assert_eq!(dropped(&effects), [(2, "an empty part of the index")]);
    setup.offer(3, 3, true);
    let effects = answer(&mut setup, 3, 0, b"part", 1 << 60);
    assert_eq!(dropped(&effects).len(), 1, "{effects:?}");
}

#[test]
fn who_failed_may_say_anew_what_it_has_and_who_lied_may_not() {
    let mut setup = Setup::new();
    setup.start();
    let all = || Input::Pieces { connection: ConnectionId(1), image: IMAGE, count: 0, have: Bytes::new() };
    let first = asked(&setup.tell(0, all()));
    let question = |run| Question::Run { path: path(), image: IMAGE, run };
    let answer = Err("block 3 is damaged on this node".to_owned());
    let effects =
        setup.tell(1, Input::Answered { connection: ConnectionId(1), question: question(first[0].1), answer });
    assert_eq!(dropped(&effects), [(1, "block 3 is damaged on this node")]);
    assert_eq!(setup.engine.source_count(IMAGE), 0);
    // One piece after the other, as it gets them itself.
    let effects = setup.tell(2, Input::Have { connection: ConnectionId(1), image: IMAGE, pieces: vec![5] });
    let five = asked(&effects);
    assert!(!five.is_empty() && five.iter().all(|(_, run)| run.first / 8 == 5), "{five:?}");
    let again = asked(&setup.tell(2, all()));
    assert!(!again.is_empty());
    setup.answer(3, 1, again[0].1);
    let effects = setup.stored(4, again[0].1, vec![again[0].1.first]);
    assert_eq!(dropped(&effects).len(), 1);
    assert!(asked(&setup.tell(5, all())).is_empty());
    assert_eq!(setup.engine.source_count(IMAGE), 0);
}

#[test]
fn one_large_index_at_a_time() {
    const PART: u64 = limits::INDEX_PART_BYTES_MAX as u64;
    const TOTAL: u64 = 2 * limits::INDEX_LARGE_BYTES as u64;
    let mut setup = Setup::new();
    let images = [IMAGE, ImageId::new([9; 32])];
    for image in images {
        for connection in [1, 2].map(ConnectionId) {
            setup.tell(0, Input::Pieces { connection, image, count: 0, have: Bytes::new() });
        }
    }
    let mut open = Vec::new();
    for image in images {
        open.extend(setup.tell(0, Input::WantIndex { image }));
    }
    let (mut held, mut most) = ([0; 2], 0);
    // Whoever is asked answers, in turn; the second one has to wait where it would be large, too.
    while let Some(place) = open.iter().position(|effect| matches!(effect, Effect::Ask { .. })) {
        let Effect::Ask { connection, question } = open.remove(place) else { panic!("it was one") };
        let Question::IndexPart { image, offset } = question else { panic!("{question:?}") };
        let at = usize::from(image != IMAGE);
        held[at] = offset + PART.min(TOTAL - offset);
        most = most.max(held[0].min(held[1]));
        let mut data = vec![b'x'; usize::try_from(held[at] - offset).expect("small")];
        if offset == 0 {
            let header = b"DIRSIGNATURE.v1 blake2b/256 block_size=32768\n";
            data[..header.len()].copy_from_slice(header);
        }
        let answer = Ok(Answer::Part { data: data.into(), total: TOTAL });
        open.extend(setup.tell(1, Input::Answered { connection, question, answer }));
        if let Some(check) = open.iter().position(|effect| matches!(effect, Effect::CheckIndex { .. })) {
            let Effect::CheckIndex { image, .. } = open.remove(check) else { panic!("it was one") };
            held[at] = 0;
            open.extend(setup.tell(2, Input::IndexChecked { image, genuine: Ok(()) }));
        }
    }
    assert!(most <= limits::INDEX_LARGE_BYTES as u64, "{most} of both");
    assert!(most > limits::INDEX_LARGE_BYTES as u64 / 2, "both went on as long as they were small");
    assert_eq!(held, [0, 0], "both came to their end");
}
