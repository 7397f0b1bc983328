//! The blocks that are wanted: which are still to be asked for, which are asked for and of whom, which are there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::model::image::Image;
use crate::model::limits;
use crate::model::run::Run;
use crate::model::time::Time;

/// Blocks on their way.
#[derive(Debug)]
pub(super) struct Runs {
    image: Arc<Image>,
    /// Not asked for yet.
    rest: Range<u64>,
    /// To be asked for (again), of others than before.
    again: VecDeque<Run>,
    /// Who said that it can't give them.
    refused: BTreeMap<Run, BTreeSet<SocketAddr>>,
    open: BTreeMap<Run, Open>,
}

/// Asked for.
#[derive(Debug)]
enum Open {
    /// Of these, last at that time; `late`: others may be asked, too.
    Asked { of: BTreeSet<SocketAddr>, last: Time, late: bool },
    /// It came from this node, and is being checked and written.
    Storing { from: SocketAddr },
}

impl Runs {
    pub(super) fn new(image: Arc<Image>, blocks: Range<u64>) -> Self {
        let (again, refused, open) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        Self { image, rest: blocks, again, refused, open }
    }

    /// What to ask a node for next.
    pub(super) fn take(&mut self, now: Time, node: SocketAddr) -> Option<Run> {
        let may = |run: &Run| {
            let refused = self.refused.get(run).is_some_and(|by| by.contains(&node));
            let asked = matches!(self.open.get(run), Some(Open::Asked { of, .. }) if of.contains(&node));
            !refused && !asked
        };
        let run = match self.again.iter().position(may).and_then(|at| self.again.remove(at)) {
            Some(run) => run,
            None => self.cut()?,
        };
        let asked = self.open.entry(run).or_insert(Open::Asked { of: BTreeSet::new(), last: now, late: false });
        if let Open::Asked { of, last, .. } = asked {
            of.insert(node);
            *last = now;
        }
        Some(run)
    }

    /// How many are asked of a node, or came from it and aren't written yet.
    pub(super) fn held_by(&self, node: SocketAddr) -> usize {
        let held = |open: &&Open| match open {
            Open::Asked { of, .. } => of.contains(&node),
            Open::Storing { from } => *from == node,
        };
        self.open.values().filter(held).count()
    }

    /// The next blocks of which none was asked for, as many as one question may ask for.
    fn cut(&mut self) -> Option<Run> {
        let first = self.rest.start;
        let (mut count, mut bytes) = (0, 0);
        for block in self.rest.clone().take(limits::RUN_BLOCKS_MAX as usize) {
            bytes += self.image.place(block).map_or(0, |place| place.len);
            if bytes > limits::RUN_BYTES_MAX {
                break;
            }
            count += 1;
        }
        self.rest.start += u64::from(count);
        (count > 0).then_some(Run { first, count })
    }

    /// An answer came. Says whether it is of use; then it is to be stored.
    pub(super) fn arrived(&mut self, run: Run, from: SocketAddr) -> bool {
        match self.open.get_mut(&run) {
            Some(open @ Open::Asked { .. }) => {
                *open = Open::Storing { from };
                self.again.retain(|other| *other != run);
                true
            }
            Some(Open::Storing { .. }) | None => false,
        }
    }

    /// It is there, or wasn't what it should be and is asked for again. Gives who sent it.
    pub(super) fn stored(&mut self, run: Run, is_good: bool) -> Option<SocketAddr> {
        match self.open.remove(&run)? {
            Open::Storing { from } if is_good => {
                self.refused.remove(&run);
                Some(from)
            }
            Open::Storing { from } => {
                self.again.push_front(run);
                Some(from)
            }
            asked @ Open::Asked { .. } => {
                self.open.insert(run, asked);
                None
            }
        }
    }

    /// A node can't give them.
    pub(super) fn refuse(&mut self, run: Run, node: SocketAddr) {
        if let Some(Open::Asked { .. }) = self.open.get(&run) {
            self.refused.entry(run).or_default().insert(node);
            self.take_back(run, node);
        }
    }

    /// Whatever was asked of that node won't come.
    pub(super) fn lose(&mut self, node: SocketAddr) {
        let asked = |open: &Open| matches!(open, Open::Asked { of, .. } if of.contains(&node));
        let lost: Vec<_> = self.open.iter().filter(|(_, open)| asked(open)).map(|(run, _)| *run).collect();
        for run in lost {
            self.take_back(run, node);
        }
    }

    fn take_back(&mut self, run: Run, node: SocketAddr) {
        let Some(Open::Asked { of, .. }) = self.open.get_mut(&run) else { return };
        of.remove(&node);
        if of.is_empty() {
            self.open.remove(&run);
        }
        if !self.again.contains(&run) {
            self.again.push_front(run);
        }
    }

    /// When a question has taken too long.
    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        let late = self.open.values().filter_map(|open| match open {
            Open::Asked { last, late: false, .. } => Some(*last + limits::DOWNLOAD_HEDGE_AFTER),
            Open::Asked { late: true, .. } | Open::Storing { .. } => None,
        });
        late.min().map(|at| (at, "download: ask another node, too"))
    }

    /// What has taken too long may be asked of others, too, once.
    pub(super) fn offer_late(&mut self, now: Time) {
        for (run, open) in &mut self.open {
            if let Open::Asked { last, late: late @ false, .. } = open
                && *last + limits::DOWNLOAD_HEDGE_AFTER <= now
            {
                *late = true;
                if !self.again.contains(run) {
                    self.again.push_back(*run);
                }
            }
        }
    }

    /// A run that none of these nodes can give. If it has several blocks, each is then asked for alone.
    pub(super) fn given_up(&mut self, nodes: &BTreeSet<SocketAddr>) -> Option<Run> {
        let by_all = |run: &Run| self.refused.get(run).is_some_and(|by| nodes.is_subset(by));
        let at = self.again.iter().position(|run| !self.open.contains_key(run) && by_all(run))?;
        if self.again[at].count == 1 {
            return Some(self.again[at]);
        }
        let run = self.again.remove(at)?;
        self.refused.remove(&run);
        self.again.extend(run.blocks().map(|first| Run { first, count: 1 }));
        self.given_up(nodes)
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty() && self.again.is_empty() && self.open.is_empty()
    }

    /// Bytes of a run.
    pub(super) fn bytes(&self, run: Run) -> u64 {
        run.bytes(&self.image).unwrap_or(0) as u64
    }
}
