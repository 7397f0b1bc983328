//! Getting one index, from one source at a time.

use super::{Answer, Effect, Question};
use crate::engine::contract::Outbox;
use crate::format::index::may_begin;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::Time;

/// An index that is wanted.
#[derive(Debug, Default)]
pub(super) struct IndexJob {
    state: State,
    /// What the present source has given so far.
    parts: Vec<u8>,
    /// Bytes that are held, also while they are checked.
    held: usize,
    image: Option<ImageId>,
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
    /// The text is complete and being checked.
    Checking { connection: ConnectionId },
}

impl IndexJob {
    pub(super) fn idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Who has given what there is so far.
    pub(super) fn giver(&self) -> Option<ConnectionId> {
        self.from.filter(|_| !self.parts.is_empty())
    }

    /// Whether it is so large already that others have to wait.
    pub(super) fn is_large(&self) -> bool {
        self.held > limits::INDEX_LARGE_BYTES || self.asked().is_some() && self.grows_large()
    }

    /// Whether it may be so large with the next part.
    pub(super) fn grows_large(&self) -> bool {
        self.held + limits::INDEX_PART_BYTES_MAX > limits::INDEX_LARGE_BYTES
    }

    pub(super) fn ask(
        &mut self,
        now: Time,
        image: ImageId,
        connection: ConnectionId,
        version: ProtocolVersion,
    ) -> Question {
        if self.from != Some(connection) {
            self.clear();
        }
        self.image = Some(image);
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
        self.held = self.parts.len();
        if !may_begin(&self.parts) {
            return Err("what doesn't begin like an index".to_owned());
        }
        let len = self.parts.len() as u64;
        if len > total || total > limits::INDEX_BYTES_MAX as u64 {
            return Err(format!("an index of {len} of {total} bytes"));
        }
        if len == total {
            self.state = State::Checking { connection };
            let data = std::mem::take(&mut self.parts);
            let Some(image) = self.image else { return Ok(()) };
            outbox.push(Effect::CheckIndex { image, data });
        }
        Ok(())
    }

    /// The check is over; says whose text it was.
    pub(super) fn checked(&mut self) -> Option<ConnectionId> {
        let State::Checking { connection } = self.state else { return None };
        self.state = State::Idle;
        self.from = None;
        self.clear();
        Some(connection)
    }

    fn clear(&mut self) {
        (self.parts, self.held) = (Vec::new(), 0);
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if self.asked().is_some_and(|(asked, _)| asked == connection) {
            self.state = State::Idle;
        }
        if self.from == Some(connection) && !matches!(self.state, State::Checking { .. }) {
            self.from = None;
            self.clear();
        }
    }
}
