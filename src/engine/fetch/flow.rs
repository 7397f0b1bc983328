//! What one source was asked for one path and has not answered.

use std::time::Duration;

use super::meter::{Meter, Sent};
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
    /// How often a publisher was asked for what others were to fetch, and for what they have got.
    foreign: u32,
    given: u32,
    /// When it was asked after it owed nothing, or answered last.
    heard: Time,
}

/// Questions to a publisher before it has shown how fast it answers.
const FIRST_QUESTIONS: u64 = 4;
/// Questions to a publisher, unless that is more than it answers in the time below: its uplink should never be idle, and
/// nobody else is kept waiting for what it is asked.
pub(super) const PUBLISHER_QUESTIONS: u64 = 12;
const PUBLISHER_TIME: Duration = Duration::from_secs(1);
/// Of what others were to fetch, a publisher is asked for so many questions at a time: these don't know.
pub(super) const HELPING_QUESTIONS: u64 = 4;
/// A question is late when it takes so many times as long as usual.
const PATIENCE: u32 = 4;
/// A publisher is asked for what others were to fetch when it had nothing to do for so many times its usual delay.
const FOREIGN_PATIENCE: u32 = 4;
/// And for what one of these has got, after so long at least.
const GIVEN_PATIENCE: Duration = Duration::from_secs(5);

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
        self.questions = self.questions.saturating_sub(1);
        self.late = self.late.saturating_sub(usize::from(late));
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

    /// Whether a node can be asked for something more; how much all nodes together are asked is the job's.
    pub(super) fn has_room(&self) -> bool {
        self.late == 0 && self.bytes + self.storing < limits::SOURCE_BYTES_IN_FLIGHT_MAX
    }

    /// Whether a publisher can be asked for something more; `run` is the size of the image's usual question.
    pub(super) fn publisher_has_room(&self, version: ProtocolVersion, run: u64) -> bool {
        self.has_room()
            && match version {
                ProtocolVersion::V1 => self.questions < limits::BLOCKS_IN_FLIGHT_V1_MAX,
                ProtocolVersion::V2 => self.bytes < self.publisher_window(run),
            }
    }

    fn publisher_window(&self, run: u64) -> u64 {
        if self.meter.usual().is_none() {
            return FIRST_QUESTIONS * run;
        }
        let time = self.meter.bytes_in(PUBLISHER_TIME).clamp(1, PUBLISHER_QUESTIONS * run);
        time.max(self.meter.product().saturating_mul(2))
    }

    /// Whether few questions are unanswered.
    pub(super) fn has_room_to_help(&self, run: u64) -> bool {
        self.bytes < HELPING_QUESTIONS * run
    }

    /// Whether every question was answered.
    pub(super) fn is_idle(&self) -> bool {
        self.questions == 0
    }

    /// How long it would take for one more question to be answered, as far as can be told.
    pub(super) fn expected(&self) -> Duration {
        self.meter.usual().unwrap_or_default() * u32::try_from(self.questions + 1).unwrap_or(u32::MAX)
    }

    /// The most that one question should ask for.
    pub(super) fn question_bytes(&self) -> u64 {
        self.meter.usual().map_or(u64::MAX, |_| self.meter.bytes_in(limits::SOURCE_ANSWER_QUICK))
    }

    /// After how long an answer is late; `usual` is that of all sources together.
    pub(super) fn patience(&self, usual: Option<Duration>) -> Duration {
        let usual = self.meter.usual().max(usual).unwrap_or(limits::SOURCE_ANSWER_QUICK);
        (usual * PATIENCE).clamp(limits::HEDGE_AFTER_MIN, limits::HEDGE_AFTER_MAX)
    }

    /// When an idle publisher may be asked for what others were to fetch, or have got: each time after a shorter while.
    pub(super) fn foreign_at(&self, given: bool) -> Option<Time> {
        let usual = self.meter.usual().unwrap_or_default() * FOREIGN_PATIENCE;
        let (pause, times) = if given { (usual.max(GIVEN_PATIENCE), self.given) } else { (usual, self.foreign) };
        self.is_idle().then(|| self.heard + pause / 2_u32.saturating_pow(times))
    }

    pub(super) fn asked_foreign(&mut self, given: bool) {
        *if given { &mut self.given } else { &mut self.foreign } += 1;
    }

    pub(super) fn share_changed(&mut self) {
        (self.foreign, self.given) = (0, 0);
    }

    /// When it will have been silent for too long, if it owes an answer.
    pub(super) fn silent_at(&self) -> Option<Time> {
        (!self.is_idle()).then(|| self.heard + limits::SOURCE_ANSWER_TIMEOUT)
    }
}
