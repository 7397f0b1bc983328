//! Who may be connected: so many in all, a part of them from one host, some kept for peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::limits;

/// Places for connections.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    peers: watch::Receiver<BTreeSet<IpAddr>>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of `all`, those of hosts that weren't peers when they came.
    strangers: usize,
    /// Never zero.
    by_host: BTreeMap<IpAddr, usize>,
}

/// One place, taken until dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    host: IpAddr,
    is_stranger: bool,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("this node has no free connection")]
    Node,
    #[error("your address has {0} connections here already")]
    Host(usize),
}

impl Places {
    pub(super) fn new(max: usize, peers: watch::Receiver<BTreeSet<IpAddr>>) -> Arc<Self> {
        Arc::new(Self { max, peers, taken: Mutex::default() })
    }

    /// How many one host may have.
    fn share(&self) -> usize {
        (self.max / limits::HOSTS_TO_FILL_CONNECTIONS).max(limits::CONNECTIONS_PER_HOST_MIN)
    }

    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Result<Place, NoPlace> {
        let address = from.to_canonical();
        let (is_stranger, kept) = {
            let peers = self.peers.borrow();
            let kept = if peers.is_empty() { 0 } else { self.max / limits::CONNECTIONS_TO_KEEP_ONE_FOR_PEERS };
            (!peers.contains(&address), kept)
        };
        // Each peer is known by itself, also where its network is one host to us.
        let host = if is_stranger { host_of(address) } else { address };
        let mut taken = self.taken();
        let of_host = taken.by_host.get(&host).copied().unwrap_or(0);
        if of_host >= self.share() {
            return Err(NoPlace::Host(of_host));
        }
        if taken.all >= self.max || (is_stranger && taken.strangers >= self.max - kept) {
            return Err(NoPlace::Node);
        }
        taken.all += 1;
        taken.strangers += usize::from(is_stranger);
        taken.by_host.insert(host, of_host + 1);
        drop(taken);
        Ok(Place { places: Arc::clone(self), host, is_stranger })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether so many are taken, in all or by this host, that others may soon find none.
    pub(super) fn is_scarce(&self) -> bool {
        let taken = self.places.taken();
        let of_host = taken.by_host.get(&self.host).copied().unwrap_or(0);
        2 * taken.all >= self.places.max || 2 * of_host >= self.places.share()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        taken.strangers -= usize::from(self.is_stranger);
        if let Some(of_host) = taken.by_host.get_mut(&self.host) {
            *of_host -= 1;
            if *of_host == 0 {
                taken.by_host.remove(&self.host);
            }
        }
    }
}

/// Whoever has one address of an IPv6 network has all of them.
fn host_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn take(places: &Arc<Places>, from: &str, count: usize) -> Result<Vec<Place>, NoPlace> {
        (0..count).map(|_| places.take(address(from))).collect()
    }

    #[test]
    fn a_host_has_its_share_and_gives_it_back() {
        let places = Places::new(1000, watch::channel(BTreeSet::new()).1);
        let hog = take(&places, "192.0.2.1", 250).expect("its share");
        assert_eq!(places.take(address("192.0.2.1")).unwrap_err(), NoPlace::Host(250));
        assert_eq!(places.take(address("::ffff:192.0.2.1")).unwrap_err(), NoPlace::Host(250));
        let others: Vec<_> = (2..5).map(|n| take(&places, &format!("192.0.2.{n}"), 250).expect("theirs")).collect();
        assert_eq!(places.take(address("192.0.2.5")).unwrap_err(), NoPlace::Node);
        drop(hog);
        assert_eq!(take(&places, "192.0.2.5", 250).expect("there is room again").len(), 250);
        drop(others);
        let taken = places.taken();
        assert_eq!((taken.all, taken.strangers, taken.by_host.len()), (0, 0, 0));
    }

    #[test]
    fn an_ipv6_network_is_one_host() {
        let places = Places::new(100, watch::channel(BTreeSet::new()).1);
        let _hog: Vec<_> = (0..25).map(|n| places.take(address(&format!("2001:db8::{n:x}"))).expect("free")).collect();
        assert_eq!(places.take(address("2001:db8::ffff:1")).unwrap_err(), NoPlace::Host(25));
        assert!(places.take(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn peers_find_room_when_strangers_have_taken_all() {
        let (peers, known) = watch::channel(BTreeSet::new());
        let places = Places::new(100, known);
        peers.send_replace(BTreeSet::from([address("192.0.2.99"), address("2001:db8::99")]));
        let _hog: Vec<_> =
            (0..90).map(|n| places.take(address(&format!("192.0.2.{}", n % 5))).expect("free")).collect();
        assert_eq!(places.take(address("192.0.2.6")).unwrap_err(), NoPlace::Node);
        let _peer = take(&places, "192.0.2.99", 9).expect("kept for it");
        let _other = places.take(address("2001:db8::99")).expect("kept for it");
        assert_eq!(places.take(address("192.0.2.99")).unwrap_err(), NoPlace::Node);
    }

    #[test]
    fn a_few_are_never_too_many_for_a_host() {
        let places = Places::new(10, watch::channel(BTreeSet::new()).1);
        let _all = take(&places, "192.0.2.1", 10).expect("all that there are");
        assert_eq!(places.take(address("192.0.2.1")).unwrap_err(), NoPlace::Node);
    }

    #[test]
    fn places_are_scarce_when_half_are_taken() {
        let places = Places::new(1000, watch::channel(BTreeSet::new()).1);
        let one = places.take(address("192.0.2.1")).expect("free");
        let _hog = take(&places, "192.0.2.2", 124).expect("free");
        assert!(!one.is_scarce());
        let last = places.take(address("192.0.2.2")).expect("free");
        assert!(last.is_scarce() && !one.is_scarce(), "half of its host's");
        let _hogs = [3, 4].map(|n| take(&places, &format!("192.0.2.{n}"), 250).expect("free"));
        assert!(one.is_scarce(), "half of all");
    }
}
