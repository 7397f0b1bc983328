//! The addresses behind the lines of `peers.txt`: looked up at start, then again and again, as names may move.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::resolve::{ResolveOptions, resolve};
use crate::engine::node::Input;
use crate::model::directory::NodeConfig;
use crate::model::limits;

/// Tells the node the peers' addresses until it is gone. A name that can't be looked up keeps those that it had.
pub async fn follow(mut config: watch::Receiver<Arc<NodeConfig>>, node: mpsc::Sender<Input>) {
    let mut known = BTreeMap::new();
    loop {
        let lines = config.borrow_and_update().peers.clone();
        let complete = look_up(&lines, &mut known).await;
        let all: BTreeSet<SocketAddr> = known.values().flatten().copied().collect();
        if node.send(Input::Peers(all.into_iter().collect())).await.is_err() {
            return;
        }
        let pause = if complete { limits::PEERS_INTERVAL } else { limits::PEERS_RETRY_PAUSE };
        match timeout(pause, config.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => return,
        }
    }
}

/// Says whether all are known.
async fn look_up(lines: &[Box<str>], known: &mut BTreeMap<Box<str>, Vec<SocketAddr>>) -> bool {
    known.retain(|line, _| lines.contains(line));
    let (mut lookups, mut rest) = (JoinSet::new(), lines.iter());
    let mut complete = true;
    loop {
        while lookups.len() < limits::NAME_LOOKUPS_MAX
            && let Some(line) = rest.next().cloned()
        {
            lookups.spawn(async move {
                let found = resolve(&line, limits::DEFAULT_PORT, &ResolveOptions::default()).await;
                (line, found)
            });
        }
        match lookups.join_next().await {
            None => return complete,
            Some(Ok((line, Ok(addresses)))) => _ = known.insert(line, addresses),
            Some(Ok((line, Err(error)))) => {
                complete = false;
                tracing::warn!(peer = %line, "peers.txt: {error}");
            }
            Some(Err(_)) => complete = false,
        }
    }
}
