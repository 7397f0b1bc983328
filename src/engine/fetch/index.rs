//! Getting one index, from one source at a time.

use super::{Answer, Effect, Fetches, Question};
use crate::engine::contract::Outbox;
use crate::format::index::may_begin;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::{Now, Time};

/// An index that is wanted.
#[derive(Debug, Default)]
pub(super) struct IndexJob {
    state: State,
    /// What the present source has given so far.
    parts: Vec<u8>,
    /// Who gave `parts`.
    from: Option<ConnectionId>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody is asked.
    #[default]
    Idle,
    /// Waits for the answer of a source.
    Asked { connection: ConnectionId, at: Time },
    /// The text, of so many bytes, is complete and being checked.
    Checking { connection: ConnectionId, bytes: usize },
}

impl Fetches {
    /// Asks for indexes.
    pub(super) fn pump_indexes(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let mut large = self.indexes.iter().find(|(_, job)| job.is_large()).map(|(image, _)| *image);
        for (image, job) in &mut self.indexes {
            if !job.idle() || job.grows_large() && large.is_some_and(|large| large != *image) {
                continue;
            }
            // Who has given a part gives the next one.
            let same = job.giver().and_then(|giver| Some((giver, self.sources.get(*image, giver)?.version)));
            let next = same.or_else(|| self.sources.of_index(*image, &mut self.random));
            if let Some((connection, version)) = next {
                if job.grows_large() {
                    large = Some(*image);
                }
                let question = job.ask(now.time, *image, connection, version);
                outbox.push(Effect::Ask { connection, question });
            }
        }
    }

    pub(super) fn index_checked(&mut self, image: ImageId, genuine: Result<(), String>, outbox: &mut Outbox<Effect>) {
        let liar = self.indexes.get_mut(&image).and_then(IndexJob::checked);
        match genuine {
            Ok(()) => _ = self.indexes.remove(&image),
            Err(reason) => {
                if let Some(liar) = liar {
                    self.drop_source(liar, image, reason, outbox);
                }
            }
        }
    }
}

impl IndexJob {
    fn idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Who has given what there is so far.
    fn giver(&self) -> Option<ConnectionId> {
        self.from.filter(|_| !self.parts.is_empty())
    }

    /// Whether it is so large already that others have to wait.
    fn is_large(&self) -> bool {
        self.held() > limits::INDEX_LARGE_BYTES || self.asked().is_some() && self.grows_large()
    }

    /// Whether it may be so large with the next part.
    fn grows_large(&self) -> bool {
        self.held() + limits::INDEX_PART_BYTES_MAX > limits::INDEX_LARGE_BYTES
    }

    /// Bytes that are held, also while they are checked.
    fn held(&self) -> usize {
        match self.state {
            State::Checking { bytes, .. } => bytes,
            State::Idle | State::Asked { .. } => self.parts.len(),
        }
    }

    fn ask(&mut self, now: Time, image: ImageId, connection: ConnectionId, version: ProtocolVersion) -> Question {
        if self.from != Some(connection) {
            self.parts = Vec::new();
        }
        self.from = Some(connection);
        self.state = State::Asked { connection, at: now };
        match version {
            ProtocolVersion::V1 => Question::Index { image },
            ProtocolVersion::V2 => Question::IndexPart { image, offset: self.parts.len() as u64 },
        }
    }

    pub(super) fn asked(&self) -> Option<(ConnectionId, Time)> {
        match self.state {
            State::Asked { connection, at } => Some((connection, at)),
            State::Idle | State::Checking { .. } => None,
        }
    }

    /// Takes the question off; `None` if this isn't what is waited for.
    pub(super) fn answered_by(&mut self, connection: ConnectionId, question: &Question) -> Option<()> {
        let expected = match question {
            Question::IndexPart { offset, .. } => *offset == self.parts.len() as u64,
            Question::Index { .. } | Question::Run { .. } | Question::Block { .. } => true,
        };
        self.asked().filter(|(asked, _)| expected && *asked == connection)?;
        self.state = State::Idle;
        Some(())
    }

    /// An error is a lie of the source.
    pub(super) fn take(
        &mut self,
        image: ImageId,
        connection: ConnectionId,
        answer: Answer,
        outbox: &mut Outbox<Effect>,
    ) -> Result<(), String> {
        let total = match answer {
            Answer::Data(data) => {
                self.parts = data.into();
                self.parts.len() as u64
            }
            Answer::Part { data, total } => {
                if data.is_empty() {
                    return Err("an empty part of the index".to_owned());
                }
                self.parts.extend_from_slice(&data);
                total
            }
        };
        if !may_begin(&self.parts) {
            return Err("what doesn't begin like an index".to_owned());
        }
        let len = self.parts.len() as u64;
        if len > total || total > limits::INDEX_BYTES_MAX as u64 {
            return Err(format!("an index of {len} of {total} bytes"));
        }
        if len == total {
            let data = std::mem::take(&mut self.parts);
            self.state = State::Checking { connection, bytes: data.len() };
            outbox.push(Effect::CheckIndex { image, data });
        }
        Ok(())
    }

    /// The check is over; says whose text it was.
    fn checked(&mut self) -> Option<ConnectionId> {
        let State::Checking { connection, .. } = self.state else { return None };
        self.state = State::Idle;
        self.from = None;
        Some(connection)
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if self.asked().is_some_and(|(asked, _)| asked == connection) {
            self.state = State::Idle;
        }
        if self.from == Some(connection) && !matches!(self.state, State::Checking { .. }) {
            self.from = None;
            self.parts = Vec::new();
        }
    }
}
