//! The addresses behind the lines of `peers.txt`: looked up at start, then again and again, as names may move.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::resolve::{ResolveOptions, resolve};
use crate::engine::node::Input;
use crate::model::directory::NodeConfig;
use crate::model::limits;

/// Tells the node, and the `server` of its port, the peers' addresses until the node is gone. A name that can't be looked up
/// keeps those that it had.
pub async fn follow(
    mut config: watch::Receiver<Arc<NodeConfig>>,
    node: mpsc::Sender<Input>,
    server: watch::Sender<BTreeSet<IpAddr>>,
) {
    let (mut known, options) = (BTreeMap::new(), ResolveOptions::default());
    loop {
        let lines = config.borrow_and_update().peers.clone();
        let complete = look_up(&lines, &options, &mut known).await;
        let all: BTreeSet<SocketAddr> = known.values().flatten().copied().collect();
        server.send_replace(all.iter().map(|address| address.ip().to_canonical()).collect());
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

/// Says whether all could be looked up.
async fn look_up(
    lines: &[Box<str>],
    options: &ResolveOptions,
    known: &mut BTreeMap<Box<str>, Vec<SocketAddr>>,
) -> bool {
    known.retain(|line, _| lines.contains(line));
    let (mut lookups, mut rest) = (JoinSet::new(), lines.iter());
    let mut complete = true;
    loop {
        while lookups.len() < limits::NAME_LOOKUPS_MAX
            && let Some(line) = rest.next().cloned()
        {
            let options = options.clone();
            lookups.spawn(async move {
                let found = resolve(&line, limits::DEFAULT_PORT, &options).await;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn names_may_move_and_those_not_found_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts_file = folder.path().join("hosts");
        // Nothing listens there: what the file doesn't have isn't found.
        let name_servers = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
        let options = ResolveOptions { name_servers, hosts_file: hosts_file.clone(), ..ResolveOptions::default() };
        let lines = |lines: &[&str]| lines.iter().map(|line| Box::from(*line)).collect::<Vec<Box<str>>>();
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut known = BTreeMap::new();
        fs::write(&hosts_file, "10.0.0.1 one.test\n10.0.0.2 two.test\n10.0.0.3 two.test\n").expect("written");
        let all = lines(&["one.test:7", "two.test", "10.0.0.9", "no one"]);
        assert!(!look_up(&all, &options, &mut known).await, "one of them can't be a name");
        let port = limits::DEFAULT_PORT;
        assert_eq!(known[&*all[0]], [address("10.0.0.1:7")]);
        assert_eq!(known[&*all[1]], [2, 3].map(|n| address(&format!("10.0.0.{n}:{port}"))));
        assert_eq!(known[&*all[2]], [address(&format!("10.0.0.9:{port}"))]);
        assert!(!known.contains_key(&*all[3]));
        // One has moved, one isn't found any more, one is named no longer.
        fs::write(&hosts_file, "10.0.0.4 one.test\n").expect("written");
        assert!(!look_up(&all[..2], &options, &mut known).await);
        assert_eq!(known[&*all[0]], [address("10.0.0.4:7")]);
        assert_eq!(known[&*all[1]].len(), 2, "its old addresses are better than none");
        assert_eq!(known.len(), 2);
        assert!(look_up(&all[2..3], &options, &mut known).await);
        assert!(look_up(&[], &options, &mut known).await && known.is_empty());
    }
}
