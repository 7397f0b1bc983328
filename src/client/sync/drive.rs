//! From what is to be done on each cluster to the exit status: threads, Ctrl-C, output, and the loop that does it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::prepare::{Prepared, Scanned, scan_all, sign_with};
use super::{Json, Live, NOT_STARTED_STATUS, Output, Plain, Plan, Spread, Stage, Task, exit_status, severity};
use crate::client::keys::{self, Loaded};
use crate::client::threads;
use crate::client::ui;
use crate::driver::clock::Clock;
use crate::driver::interrupt::Interrupts;
use crate::driver::resolve::ResolveOptions;
use crate::driver::upload_loop::{self, Setup, Source};
use crate::engine::upload::{Upload, Uploads};

/// What is to be done.
pub(in crate::client) struct Errand {
    pub(in crate::client) task: Task,
    /// For people.
    pub(in crate::client) prepared: Vec<Prepared>,
    /// For nodes.
    pub(in crate::client) sources: Vec<Source>,
    /// Of each cluster.
    pub(in crate::client) uploads: Vec<Vec<Upload>>,
}

/// Threads, a clock, and an ear for Ctrl-C.
pub(in crate::client) struct Drive {
    runtime: Option<Runtime>,
    interrupts: Interrupts,
    clock: Clock,
}

impl Drive {
    /// From now on Ctrl-C is listened to.
    pub(in crate::client) fn open() -> Result<Self, anyhow::Error> {
        let (runtime, interrupts) = threads()?;
        Ok(Self { runtime: Some(runtime), interrupts, clock: Clock::new() })
    }

    /// Reads all directories; `None`: somebody pressed Ctrl-C meanwhile.
    pub(in crate::client) fn scanned(&mut self, plan: Arc<Plan>) -> Option<Result<Scanned, anyhow::Error>> {
        let clock = self.clock;
        let runtime = self.runtime.as_ref()?;
        runtime.block_on(async {
            let scan = tokio::task::spawn_blocking(move || scan_all(&plan, clock));
            tokio::select! {
                scanned = scan => Some(scanned.context("the scan broke off").flatten()),
                () = self.interrupts.next() => None,
            }
        })
    }

    /// Does something else; `None`: somebody pressed Ctrl-C meanwhile.
    pub(in crate::client) fn run<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = self.interrupts.next() => None,
            }
        })
    }

    /// Does it, on all clusters at once.
    pub(in crate::client) fn carry_out(
        mut self,
        spread: &Spread,
        loaded: Loaded,
        errand: Errand,
    ) -> Result<u8, anyhow::Error> {
        let Errand { task, prepared, sources, uploads } = errand;
        let stage = Stage {
            task,
            clusters: spread.clusters.iter().map(|names| names.join(" ")).collect(),
            signers: loaded.signers.iter().map(keys::Signer::describe).collect(),
            signed_for: spread.rules.cluster.as_deref().map(str::to_owned),
            deadline: spread.rules.deadline,
        };
        let mut output: Box<dyn Output> = match (spread.json, ui::is_interactive()) {
            (true, _) => Box::new(Json::new(stage)),
            (false, true) => Box::new(Live::new(stage)),
            (false, false) => Box::new(Plain::new(stage)),
        };
        output.prepared(&prepared);
        let clusters = spread.clusters.iter().zip(uploads).map(|(names, uploads)| {
            // Which of a cluster's addresses are taken differs from run to run.
            let seed = RandomState::new().hash_one(names);
            Uploads::new(names.clone(), uploads, spread.rules.clone(), seed)
        });
        let sign = sign_with(Arc::new(loaded.signers));
        let clusters = clusters.collect();
        let setup = Setup { clusters, sources, sign, port: spread.port, resolve: ResolveOptions::default() };
        let Some(runtime) = &self.runtime else { return Ok(NOT_STARTED_STATUS) };
        let status = runtime.block_on(upload_loop::run(setup, self.clock, &mut self.interrupts, &mut *output));
        let status = status.context("can't start")?;
        let exit_status = status.iter().map(|status| exit_status(&status.summary.ending)).max_by_key(|s| severity(*s));
        let exit_status = exit_status.unwrap_or(NOT_STARTED_STATUS);
        output.end(&status, exit_status);
        Ok(exit_status)
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // A scan may go on, somebody may still be asked for a signature, or a name server for an answer: nobody waits for those.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
