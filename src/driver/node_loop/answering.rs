//! The requests of one connection for content: answered one after the other, and no faster than the peer reads.
//!
//! So whoever asks much and reads nothing costs a few answers' memory, and only his own requests wait.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::serve;
use super::shared::{Shared, guarded};
use crate::driver::disk::fs::FileSystem;
use crate::driver::pool::{Full, Job, Pool};
use crate::driver::ws::ConnectionHandle;
use crate::engine::node::{Input, Serving};
use crate::model::limits;

/// What one connection asked for and has not been given.
pub(super) struct Requests(mpsc::Sender<(u64, Serving)>);

impl Requests {
    /// Begins to answer them. When this is dropped, the rest is still answered, if the connection is there.
    pub(super) fn of<F: FileSystem + Clone>(
        shared: Arc<Shared<F>>,
        reads: Arc<Pool>,
        handle: ConnectionHandle,
    ) -> Self {
        let (send, requests) = mpsc::channel(limits::REQUESTS_IN_FLIGHT_MAX);
        tokio::spawn(answer_all(shared, reads, handle, requests));
        Self(send)
    }

    /// Says whether there was room: there is, for as many as a connection may have unanswered.
    pub(super) fn push(&self, request: u64, what: Serving) -> bool {
        self.0.try_send((request, what)).is_ok()
    }
}

async fn answer_all<F: FileSystem + Clone>(
    shared: Arc<Shared<F>>,
    reads: Arc<Pool>,
    handle: ConnectionHandle,
    mut requests: mpsc::Receiver<(u64, Serving)>,
) {
    while let Some((request, what)) = requests.recv().await {
        // An index in one piece may be large: few of them at a time, over all connections.
        let is_whole = matches!(what, Serving::Index { .. } | Serving::IndexAt { .. });
        let turn = if is_whole { shared.whole_indexes.acquire().await.ok() } else { None };
        let crowded = shared.frames.in_use() >= limits::FRAMES_IN_USE_MAX;
        handle.drained_to(if crowded { 0 } else { limits::ANSWERS_AHEAD_BYTES }).await;
        answer(&shared, &reads, &handle, request, what).await;
        if turn.is_some() {
            handle.drained_to(0).await;
        }
        drop(turn);
        if shared.answers.send(Input::Served { connection: handle.id }).await.is_err() {
            return;
        }
    }
}

async fn answer<F: FileSystem + Clone>(
    shared: &Arc<Shared<F>>,
    reads: &Pool,
    handle: &ConnectionHandle,
    request: u64,
    what: Serving,
) {
    let (done, answered) = oneshot::channel();
    let (shared, to) = (Arc::clone(shared), handle.clone());
    let run: Job = Box::new(move || {
        if !to.is_closed()
            && let Err(text) = guarded(|| serve::serve(&shared, &to, request, what))
        {
            serve::refuse(&to, request, text);
        }
        let _ = done.send(());
    });
    match reads.submit(run) {
        // An error: the daemon stops, and forgets what no thread has begun.
        Ok(()) => _ = answered.await,
        Err(Full(_)) => {
            serve::refuse(handle, request, "this node has too many requests to answer; ask again later".to_owned());
        }
    }
}
