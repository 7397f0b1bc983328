//! A node that fetches one image, and what its effects say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::*;
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::hash_kind::HashKind;
use crate::model::ids::BlockHash;
use crate::model::image::{Image, ImageBuilder, blocks_of};
use crate::model::peer::ProtocolVersion;

pub(super) const IMAGE: ImageId = ImageId::new([5; 32]);
pub(super) const CLIENT: u64 = 100;
/// Blocks of a piece of a small image.
pub(super) const BLOCKS: u32 = 8;

pub(super) fn path() -> VPath {
    "/key/image".parse().expect("valid")
}

pub(super) struct Case {
    pub(super) engine: Fetches,
    pub(super) image: Arc<Image>,
    pub(super) now: Now,
}

impl Case {
    /// Wants all of an image of so many pieces.
    pub(super) fn new(pieces: u64) -> Self {
        let mut case = Self::before(pieces);
        case.start();
        case
    }

    /// Doesn't want it yet.
    pub(super) fn before(pieces: u64) -> Self {
        let bytes = pieces * limits::PIECE_BYTES_MIN;
        let mut builder = ImageBuilder::new(HashKind::default());
        let count = usize::try_from(blocks_of(bytes)).expect("small");
        builder.directory("").expect("root");
        builder.file("file", false, bytes, &vec![BlockHash::new([0; 32]); count]).expect("file");
        let image = Arc::new(builder.finish().expect("complete"));
        Self { engine: Fetches::new(3), image, now: Now::default() }
    }

    pub(super) fn start(&mut self) -> Vec<Effect> {
        let image = self.image.clone();
        let directory = DirectoryConfig::plain("key", "/srv");
        let have = BlockSet::none(image.block_count());
        self.tell(Input::Start { path: path(), directory: Arc::new(directory), id: IMAGE, image, have })
    }

    pub(super) fn count(&self) -> u32 {
        crate::model::piece::Pieces::of(&self.image).count()
    }

    pub(super) fn tell(&mut self, input: Input) -> Vec<Effect> {
        let mut outbox = Outbox::new();
        self.engine.handle(self.now, input, &mut outbox);
        outbox.collect()
    }

    pub(super) fn pass(&mut self, millis: u64) -> Vec<Effect> {
        self.now.time = self.now.time + Duration::from_millis(millis);
        let mut outbox = Outbox::new();
        self.engine.handle_timeout(self.now, &mut outbox);
        outbox.collect()
    }

    pub(super) fn joins(&mut self, connection: u64, pieces: &[u32]) -> Vec<Effect> {
        let mut set = PieceSet::none(self.count());
        for piece in pieces {
            set.insert(*piece);
        }
        let (connection, count, have) = (ConnectionId(connection), set.len(), set.to_bytes().into());
        self.tell(Input::Pieces { connection, image: IMAGE, count, have })
    }

    pub(super) fn has(&mut self, connection: u64, pieces: &[u32]) -> Vec<Effect> {
        self.tell(Input::Have { connection: ConnectionId(connection), image: IMAGE, pieces: pieces.to_vec() })
    }

    /// A client offers the image, and would like to be asked for a share of it.
    pub(super) fn client(&mut self, index: u32, of: u32) -> Vec<Effect> {
        let (connection, image, version) = (ConnectionId(CLIENT), IMAGE, ProtocolVersion::V2);
        let mut effects = self.tell(Input::Offered { connection, version, image, vouched: true });
        effects.extend(self.tell(Input::Share { connection, image, index, of }));
        effects
    }

    /// Answers a question rightly, and stores the answer.
    pub(super) fn answer(&mut self, connection: u64, run: Run) -> Vec<Effect> {
        let data = Bytes::from(vec![0; run.bytes(&self.image).expect("in the image")]);
        let question = Question::Run { path: path(), image: IMAGE, run };
        let answer = Ok(Answer::Data(data));
        let mut effects = self.tell(Input::Answered { connection: ConnectionId(connection), question, answer });
        if effects.iter().any(|effect| matches!(effect, Effect::Store { .. })) {
            effects.extend(self.tell(Input::Stored { path: path(), run, result: Ok(Vec::new()) }));
        }
        effects
    }
}

/// Who is asked for which pieces.
pub(super) fn asked(effects: &[Effect]) -> Vec<(u64, u32)> {
    let question = |effect: &Effect| match effect {
        Effect::Ask { connection, question: Question::Run { run, .. } } => {
            Some((connection.0, u32::try_from(run.first / u64::from(BLOCKS)).expect("small")))
        }
        _ => None,
    };
    effects.iter().filter_map(question).collect()
}

pub(super) fn run(piece: u32) -> Run {
    Run { first: u64::from(piece * BLOCKS), count: BLOCKS }
}

pub(super) fn announced(effects: &[Effect]) -> Vec<u32> {
    let pieces =
        |effect: &Effect| if let Effect::Announce { pieces, .. } = effect { pieces.clone() } else { Vec::new() };
    effects.iter().flat_map(pieces).collect()
}

pub(super) fn shares(effects: &[Effect]) -> Vec<(u64, u32, u32)> {
    let share = |effect: &Effect| match effect {
        Effect::Share { connection, index, of, .. } => Some((connection.0, *index, *of)),
        _ => None,
    };
    effects.iter().filter_map(share).collect()
}

pub(super) fn dropped(effects: &[Effect]) -> Vec<u64> {
    let source = |effect: &Effect| match effect {
        Effect::Dropped { connection, .. } => Some(connection.0),
        _ => None,
    };
    effects.iter().filter_map(source).collect()
}
