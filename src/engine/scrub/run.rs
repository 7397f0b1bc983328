//! The scrub of one directory, and a command that orders some.

use std::collections::VecDeque;

use super::{Effect, Tree};
use crate::engine::contract::Outbox;
use crate::model::disk_task::DiskAction;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::scrub::{Cursor, Finding, Flaw, News, Part, Ticket, Verdict};
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// A directory that is being compared.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) path: VPath,
    pub(super) root: FileIdentity,
    image: ImageId,
    cursor: Cursor,
    pub(super) bytes: u64,
    pub(super) bytes_total: u64,
    damaged: u64,
    extras: u64,
    logged: u64,
    /// Something else has found it damaged meanwhile.
    pub(super) doubted: bool,
}

/// What somebody has ordered.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) ticket: Ticket,
    pub(super) todo: VecDeque<VPath>,
    pub(super) run: Option<Run>,
    /// What it is to be told next.
    pub(super) news: Vec<News>,
    /// What it was told last isn't with it yet: it waits.
    pub(super) telling: bool,
    /// That was the last.
    pub(super) ended: bool,
}

impl Command {
    /// Whether it may go on.
    pub(super) fn is_ready(&self) -> bool {
        !self.telling && self.news.is_empty()
    }

    /// What it is to be told now.
    pub(super) fn hand_over(&mut self) -> Vec<News> {
        self.telling = true;
        self.ended = self.news.last() == Some(&News::Ended);
        std::mem::take(&mut self.news)
    }
}

/// What a step has brought.
pub(super) struct Stepped {
    /// In bytes.
    pub(super) cost: u64,
    pub(super) found: Vec<Finding>,
    /// It was the last one.
    pub(super) ended: bool,
}

impl Run {
    pub(super) fn new(path: VPath, tree: &Tree) -> Self {
        let Tree { image, root, .. } = *tree;
        Self {
            path,
            root,
            image,
            cursor: Cursor::default(),
            bytes: 0,
            bytes_total: 0,
            damaged: 0,
            extras: 0,
            logged: 0,
            doubted: false,
        }
    }

    /// The next step.
    pub(super) fn action(&self) -> DiskAction {
        DiskAction::Scrub { id: self.image, root: self.root, from: self.cursor }
    }

    /// Takes what a step has found.
    pub(super) fn stepped(&mut self, part: Part, outbox: &mut Outbox<Effect>) -> Stepped {
        let damaged = part.damaged();
        let Part { findings, extras, bytes, entries, bytes_total, next } = part;
        let mut unmarked = self.damaged == 0;
        for finding in &findings {
            let log = self.logged < limits::SCRUB_FINDINGS_LOGGED_MAX;
            self.logged += u64::from(log);
            let mark = finding.flaw.is_damage() && unmarked;
            unmarked &= !mark;
            if log || mark {
                let (path, finding) = (self.path.clone(), finding.clone());
                outbox.push(Effect::Found { path, root: self.root, finding, log });
            }
        }
        self.damaged += damaged;
        self.extras += extras;
        self.bytes += bytes;
        self.bytes_total = bytes_total;
        // Going back would be for ever.
        let ended = next.is_none_or(|next| position(&next) <= position(&self.cursor));
        self.cursor = next.unwrap_or_default();
        Stepped { cost: bytes + entries * limits::SCRUB_ENTRY_BYTES, found: findings, ended }
    }

    pub(super) fn verdict(&self, at: Stamp) -> Verdict {
        Verdict { at, damaged: self.damaged, extras: self.extras }
    }
}

fn position(cursor: &Cursor) -> (usize, Option<usize>, u64) {
    (cursor.directory, cursor.entry, cursor.within.map_or(0, |within| within.blocks))
}

/// The finding when another directory is at the path, though nobody deployed one.
pub(super) fn replaced(run: &Run) -> Part {
    let what = "was replaced by another directory".into();
    let finding = Finding { file: ".".into(), flaw: Flaw::Kind, what };
    Part { findings: vec![finding], bytes_total: run.bytes_total, ..Part::default() }
}
