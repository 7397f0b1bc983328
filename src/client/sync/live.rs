//! Output on a terminal: one line per cluster and one per machine that is waited for, redrawn in place.

use std::collections::VecDeque;
use std::time::Duration;

use super::plain::introduction;
use super::prepare::Prepared;
use super::words::{self, Weight};
use super::{Output, Stage, report};
use crate::client::ui::{self, LiveLines};
use crate::driver::upload_loop::{Audience, Status, Trouble};
use crate::engine::upload::{Ending, Event, NodeResult};
use crate::model::time::Time;

/// Drawings per second, at most.
const DRAWINGS_PER_SECOND: u8 = 10;
/// Machines that have a line of their own, per cluster.
const NODE_LINES_MAX: usize = 8;
/// The rate is that of so many seconds.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// Lines that change.
pub(super) struct Live {
    stage: Stage,
    lines: Option<LiveLines>,
    /// When how much had been sent, for each cluster.
    sent: Vec<VecDeque<(Time, u64)>>,
}

impl Live {
    pub(super) fn new(stage: Stage) -> Self {
        let sent = vec![VecDeque::new(); stage.clusters.len()];
        Self { stage, lines: Some(LiveLines::new(DRAWINGS_PER_SECOND)), sent }
    }

    fn say(&self, text: &str) {
        match &self.lines {
            Some(lines) => lines.say(text),
            None => ui::note(text),
        }
    }

    /// Bytes per second during the last few.
    fn rate(&mut self, at: Time, cluster: usize, sent: u64) -> u64 {
        let samples = &mut self.sent[cluster];
        samples.push_back((at, sent));
        while samples.len() > 2 && samples.front().is_some_and(|(then, _)| at.since(*then) > RATE_WINDOW) {
            samples.pop_front();
        }
        let Some((then, before)) = samples.front() else { return 0 };
        let millis = at.since(*then).as_millis().max(1);
        u64::try_from(u128::from(sent.saturating_sub(*before)) * 1000 / millis).unwrap_or(u64::MAX)
    }
}

fn node_line(result: &NodeResult) -> String {
    let label = words::node(result.host.as_ref(), result.address);
    if let Some(reason) = &result.down {
        return format!("  {label}: down: {reason}");
    }
    let mut open = result.uploads.iter().filter(|(_, one)| !one.is_final());
    let Some((path, first)) = open.next() else { return format!("  {label}") };
    let others = open.count();
    let others = if others > 0 { format!(" (and {others} more)") } else { String::new() };
    format!("  {label}: {path}: {}{others}", words::waiting(first))
}

impl Audience for Live {
    fn event(&mut self, _: Time, cluster: usize, event: &Event) {
        if let Some((Weight::Notable, text)) = words::event(event) {
            self.say(&format!("warning: {}", self.stage.of(cluster, &text)));
        }
    }

    fn trouble(&mut self, _: Time, _: Trouble, reason: &str) {
        self.say(&format!("warning: {reason}"));
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / u32::from(DRAWINGS_PER_SECOND)
    }

    fn status(&mut self, at: Time, status: &[Status]) {
        let mut lines = Vec::new();
        for (cluster, status) in status.iter().enumerate() {
            if status.summary.ending != Ending::Open {
                lines.push(report::headline(&self.stage, cluster, status));
                continue;
            }
            let rate = self.rate(at, cluster, status.bytes_sent.values().sum());
            let standing = report::standing(&self.stage, cluster, status);
            lines.push(format!("{}/s, {standing}", ui::bytes(rate)));
            let open: Vec<_> = status.summary.known().filter(|node| !node.is_final()).collect();
            lines.extend(open.iter().take(NODE_LINES_MAX).map(|node| node_line(node)));
            if open.len() > NODE_LINES_MAX {
                lines.push(format!("  and {} more", open.len() - NODE_LINES_MAX));
            }
        }
        if let Some(area) = &mut self.lines {
            area.set(lines);
        }
    }

    fn finished(&mut self, _: Time, _: usize, _: &Status) {}
}

impl Output for Live {
    fn prepared(&mut self, prepared: &[Prepared]) {
        for line in introduction(&self.stage, prepared) {
            self.say(&line);
        }
    }

    fn end(&mut self, status: &[Status], _: u8) {
        self.lines = None;
        report::print(&self.stage, status);
    }
}
