//! Reports to watching nodes, sent again with growing pauses until they are acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::Time;

struct Report {
    body: Bytes,
    due: Time,
    pause: Duration,
}

/// Reports that aren't acknowledged yet.
#[derive(Default)]
pub(super) struct Reports {
    pending: BTreeMap<(NodeId, u64), Report>,
    due: BTreeSet<(Time, NodeId, u64)>,
}

impl Reports {
    /// A report that is due at once; in place of one with the same number. `false`: there are too many.
    pub(super) fn add(&mut self, now: Time, to: NodeId, number: u64, body: Bytes) -> bool {
        self.remove(&to, number);
        let fits = self.pending.len() < limits::REPORTS_PENDING_MAX && body.len() <= limits::REPORT_BYTES_MAX;
        if fits {
            self.pending.insert((to, number), Report { body, due: now, pause: limits::REPORT_PAUSE_MIN });
            self.due.insert((now, to, number));
        }
        fits
    }

    /// It was acknowledged, or isn't needed any more. `false`: nobody waits for that.
    pub(super) fn remove(&mut self, to: &NodeId, number: u64) -> bool {
        let Some(report) = self.pending.remove(&(*to, number)) else { return false };
        self.due.remove(&(report.due, *to, number));
        true
    }

    /// The node is down.
    pub(super) fn forget(&mut self, to: &NodeId) {
        let numbers: Vec<_> = self.pending.range((*to, 0)..=(*to, u64::MAX)).map(|((_, number), _)| *number).collect();
        for number in numbers {
            self.remove(to, number);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.first().map(|due| due.0)
    }

    /// What is to be sent now, by node.
    pub(super) fn take_due(&mut self, now: Time) -> BTreeMap<NodeId, Vec<(u64, Bytes)>> {
        let nobody = NodeId { address: ([0, 0, 0, 0], 0).into(), machine_id: MachineId::new([0; 16]), incarnation: 0 };
        let later = self.due.split_off(&(now + Duration::from_nanos(1), nobody, 0));
        let due = std::mem::replace(&mut self.due, later);
        let mut letters = BTreeMap::<NodeId, Vec<_>>::new();
        for (_, to, number) in due {
            let Some(report) = self.pending.get_mut(&(to, number)) else { continue };
            report.due = now + report.pause;
            report.pause = (report.pause * 2).min(limits::REPORT_PAUSE_MAX);
            self.due.insert((report.due, to, number));
            letters.entry(to).or_default().push((number, report.body.clone()));
        }
        letters
    }
}
