//! What the client's loops have in common: names looked up and nodes called in tasks, connections fed and closed.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::resolve::{ResolveOptions, resolve};
use super::ws::{self, ConnectError, Connected, ConnectionHandle, Outgoing, SendError};
use crate::format::wire::Message;
use crate::model::limits;

/// How to look names up.
#[derive(Debug, Clone)]
pub(super) struct Resolving {
    /// The port of names that say none.
    pub(super) port: u16,
    /// Where, and how long.
    pub(super) options: Arc<ResolveOptions>,
}

impl Resolving {
    /// Sends what comes of it to `answers`.
    pub(super) fn look_up<T: Send + 'static>(
        &self,
        name: String,
        answers: mpsc::Sender<T>,
        answer: impl FnOnce(String, Result<Vec<SocketAddr>, String>) -> T + Send + 'static,
    ) {
        let this = self.clone();
        tokio::spawn(async move {
            let result = resolve(&name, this.port, &this.options).await.map_err(|error| error.to_string());
            let _ = answers.send(answer(name, result)).await;
        });
    }
}

/// Connects, and sends what comes of it to `answers`.
pub(super) fn dial<T: Send + 'static>(
    address: SocketAddr,
    answers: mpsc::Sender<T>,
    answer: impl FnOnce(Result<Connected, ConnectError>) -> T + Send + 'static,
) {
    tokio::spawn(async move {
        let result = ws::connect(address, &address.to_string()).await;
        let _ = answers.send(answer(result)).await;
    });
}

/// Sends. A node that doesn't read what it is told is cut off: its `Closed` event follows.
pub(super) fn send(handle: &ConnectionHandle, message: Message) {
    match handle.try_send(Outgoing::Message(message)) {
        Ok(()) | Err(SendError::Closed(_)) => {}
        Err(_) => close(handle, "you don't read what you are told"),
    }
}

/// Closes, when what was queued is written.
pub(super) fn close(handle: &ConnectionHandle, reason: &str) {
    let _ = handle.try_send(Outgoing::Close(reason.to_owned()));
}

/// Says goodbye to these connections, but waits for nobody who doesn't listen.
pub(super) async fn close_all<'a>(
    handles: impl Iterator<Item = &'a ConnectionHandle>,
    heard: &mut mpsc::Receiver<ws::Event>,
) {
    let mut open = 0_usize;
    for handle in handles {
        close(handle, "all is done");
        open += 1;
    }
    let goodbyes = async {
        while open > 0 {
            match heard.recv().await {
                Some(ws::Event::Closed { .. }) => open -= 1,
                Some(ws::Event::Opened(_) | ws::Event::Message { .. }) => {}
                None => return,
            }
        }
    };
    let _ = timeout(limits::CLIENT_GOODBYE_TIMEOUT, goodbyes).await;
}
