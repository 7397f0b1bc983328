//! Connections that the node makes to others, all at once; how many there may be is the node's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tokio::task::JoinSet;

use crate::driver::ws::{Connected, Hub, connect_from};
use crate::model::peer::ConnectionId;

/// Makes connections.
pub struct Dialer {
    hub: Hub,
    /// The address to connect from.
    from: Option<IpAddr>,
    dialing: JoinSet<(SocketAddr, Result<Connected, String>)>,
    /// Whose `Opened` event is on its way.
    made: BTreeMap<ConnectionId, SocketAddr>,
}

impl Dialer {
    /// Connects from an address of this host; if it is any, the system chooses.
    pub fn new(hub: Hub, from: IpAddr) -> Self {
        let from = Some(from).filter(|from| !from.is_unspecified());
        Self { hub, from, dialing: JoinSet::new(), made: BTreeMap::new() }
    }

    pub(super) fn dial(&mut self, address: SocketAddr) {
        let from = self.from;
        self.dialing.spawn(async move {
            let connected = connect_from(from, address, &address.to_string()).await;
            (address, connected.map_err(|error| error.to_string()))
        });
    }

    /// The next attempt that has ended; where it was successful, the event of the connection follows. Safe to drop.
    pub(super) async fn dialed(&mut self) -> (SocketAddr, Result<(), String>) {
        let ended = loop {
            match self.dialing.join_next().await {
                Some(Ok(ended)) => break ended,
                // A panic was logged; the node's own timeout tells it.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        };
        match ended {
            (address, Ok(connected)) => {
                self.made.insert(self.hub.open(connected).id, address);
                (address, Ok(()))
            }
            (address, Err(reason)) => (address, Err(reason)),
        }
    }

    /// Where this side connected to, if it did.
    pub(super) fn opened(&mut self, connection: ConnectionId) -> Option<SocketAddr> {
        self.made.remove(&connection)
    }
}
