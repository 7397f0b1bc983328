//! Output where there is no terminal: a line for each thing that happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::prepare::Prepared;
use super::words::{self, Weight};
use super::{Output, Stage, report};
use crate::client::ui;
use crate::driver::upload_loop::{Audience, Status, Trouble};
use crate::engine::upload::{Ending, Event};
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// Time between two lines which say how it stands.
const STANDING_INTERVAL: Duration = Duration::from_secs(10);

/// Lines on stderr.
pub(super) struct Plain {
    stage: Stage,
    /// What was last said of an upload at a node: state and what it waits for.
    said: BTreeMap<(usize, SocketAddr, VPath), (String, Option<String>)>,
}

impl Plain {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage, said: BTreeMap::new() }
    }

    fn progress(&mut self, cluster: usize, event: &Event) {
        let Event::Progress { address, progress } = event else { return };
        let now = (progress.state.clone(), progress.waiting.clone());
        let before = self.said.insert((cluster, *address, progress.path.clone()), now.clone());
        if before.as_ref() != Some(&now) {
            let waiting = progress.waiting.as_ref().map_or_else(String::new, |what| format!(", waits: {what}"));
            let (node, path, state) = (words::node(Some(&progress.host), *address), &progress.path, &progress.state);
            ui::note(&self.stage.of(cluster, &format!("{node}: {path}: {state}{waiting}")));
        }
    }
}

/// What is published and who signs, in lines.
pub(super) fn introduction(stage: &Stage, prepared: &[Prepared]) -> Vec<String> {
    let mut lines = Vec::new();
    for one in prepared {
        let (files, bytes) = (words::count(one.stats.files, "file"), ui::bytes(one.stats.bytes));
        let (source, image, took) = (&one.source, one.image, words::duration(one.took));
        let known = match one.stats.unchanged_files {
            0 => String::new(),
            count => format!(" ({count} unchanged)"),
        };
        lines.push(format!("{source}: {files}{known}, {bytes}, image {image}, indexed in {took}"));
    }
    lines.push(format!("signing with {}", stage.signers.join(", ")));
    lines
}

impl Audience for Plain {
    fn event(&mut self, _: Time, cluster: usize, event: &Event) {
        self.progress(cluster, event);
        match words::event(event) {
            Some((Weight::Step, text)) => ui::note(&self.stage.of(cluster, &text)),
            Some((Weight::Notable, text)) => ui::warn(&self.stage.of(cluster, &text)),
            None => {}
        }
    }

    fn trouble(&mut self, _: Time, _: Trouble, reason: &str) {
        ui::warn(reason);
    }

    fn interval(&self) -> Duration {
        STANDING_INTERVAL
    }

    fn status(&mut self, _: Time, status: &[Status]) {
        for (cluster, status) in status.iter().enumerate() {
            if status.summary.ending == Ending::Open {
                ui::note(&report::standing(&self.stage, cluster, status));
            }
        }
    }

    fn finished(&mut self, _: Time, _: usize, _: &Status) {}
}

impl Output for Plain {
    fn prepared(&mut self, prepared: &[Prepared]) {
        for line in introduction(&self.stage, prepared) {
            ui::note(&line);
        }
    }

    fn end(&mut self, status: &[Status], _: u8) {
        report::print(&self.stage, status);
    }
}
