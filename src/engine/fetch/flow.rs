//! What one source was asked for one path and has not answered.

use std::time::Duration;

use super::meter::{Meter, Sent, whole};
use crate::model::limits;
use crate::model::peer::ProtocolVersion;
use crate::model::time::Time;

/// The questions to one source.
#[derive(Debug, Default)]
pub(super) struct Flow {
    meter: Meter,
    /// Unanswered questions, those of them that take too long, and the bytes which all of them ask for.
    questions: usize,
    late: usize,
    bytes: u64,
    /// Bytes that arrived and are being stored.
    storing: u64,
    /// When it was asked after it owed nothing, or answered last.
    heard: Time,
}

/// Publishers are asked this many questions of the largest size before they have shown how fast they answer.
const FIRST_QUESTIONS: u64 = 4;
/// Windows are this many times bandwidth × delay: one on its way while the next is prepared.
const GAIN: f64 = 2.0;
/// A question is late when it takes so many times as long as usual.
const PATIENCE: u32 = 4;

impl Flow {
    pub(super) fn asked(&mut self, now: Time, bytes: u64) -> Sent {
        if self.questions == 0 {
            self.heard = self.heard.max(now);
        }
        self.questions += 1;
        self.bytes += bytes;
        self.meter.sent(now)
    }

    pub(super) fn answered(&mut self, now: Time, sent: Sent, bytes: u64, late: bool) {
        self.heard = now;
        self.meter.answered(now, sent, bytes);
        self.unasked(bytes, late);
    }

    /// An answer isn't waited for any more.
    pub(super) fn unasked(&mut self, bytes: u64, late: bool) {
        self.questions = self.questions.saturating_sub(1);
        self.late -= usize::from(late && self.late > 0);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A question takes too long.
    pub(super) fn is_late(&mut self) {
        self.late += 1;
    }

    pub(super) fn storing(&mut self, bytes: u64) {
        self.storing += bytes;
    }

    pub(super) fn stored(&mut self, bytes: u64) {
        self.storing = self.storing.saturating_sub(bytes);
    }

    /// Whether it can be asked for something more; `run` is the size of the image's usual question.
    pub(super) fn has_room(&self, version: ProtocolVersion, first: bool, run: u64) -> bool {
        let max = (limits::RUNS_IN_FLIGHT_MAX * limits::RUN_BYTES_MAX) as u64;
        if self.late > 0 || self.bytes + self.storing >= max {
            return false;
        }
        match version {
            ProtocolVersion::V1 => self.questions < limits::BLOCKS_IN_FLIGHT_V1_MAX,
            ProtocolVersion::V2 => self.bytes < self.window(first, run),
        }
    }

    fn window(&self, publisher: bool, run: u64) -> u64 {
        let first = if publisher { FIRST_QUESTIONS * run } else { 2 * run };
        match self.meter.usual() {
            None => first,
            Some(usual) if usual > limits::SOURCE_ANSWER_QUICK * 4 => 1,
            Some(_) => whole(self.meter.product() * GAIN).max(2 * run),
        }
    }

    /// Questions without an answer.
    pub(super) fn questions(&self) -> usize {
        self.questions
    }

    /// How long it would take for one more question to be answered, as far as can be told; the lower, the better.
    pub(super) fn expected(&self) -> (u64, Duration) {
        (self.bytes, self.meter.usual().unwrap_or_default())
    }

    /// The most that one question should ask for.
    pub(super) fn question_bytes(&self) -> u64 {
        self.meter.quick_bytes()
    }

    /// After how long an answer is late; `usual` is that of all sources together.
    pub(super) fn patience(&self, usual: Option<Duration>) -> Duration {
        let usual = self.meter.usual().max(usual).unwrap_or(limits::SOURCE_ANSWER_QUICK);
        (usual * PATIENCE).clamp(limits::HEDGE_AFTER_MIN, limits::HEDGE_AFTER_MAX)
    }

    /// When it will have been silent for too long, if it owes an answer.
    pub(super) fn silent_at(&self) -> Option<Time> {
        (self.questions > 0).then(|| self.heard + limits::SOURCE_ANSWER_TIMEOUT)
    }
}
