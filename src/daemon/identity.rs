//! Who this host is: its machine id and its name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, bail};

use super::args::Args;
use crate::model::address::{self, Target};
use crate::model::directory::NodeConfig;
use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::peer::Host;

const MACHINE_ID_FILE: &str = "/etc/machine-id";

/// As the system says, unless the command line says otherwise.
pub(super) fn host(args: &Args) -> anyhow::Result<Host> {
    let machine_id = match args.override_machine_id {
        Some(id) => id,
        None => system_machine_id()?,
    };
    let hostname = match &args.override_hostname {
        Some(name) => name.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    if hostname.is_empty() || hostname.len() > limits::NAME_BYTES_MAX {
        bail!("the host name {hostname:?} is empty or too long; give one with --override-hostname");
    }
    Ok(Host { machine_id, hostname: hostname.into() })
}

/// Where the other nodes find this one. Without --advertise and with a --host that means any address, it is the one from
/// which this host would speak to the first peer.
pub(super) fn address(args: &Args, listening: SocketAddr, config: &NodeConfig) -> SocketAddr {
    let ip = args.advertise.unwrap_or_else(|| listening.ip());
    let ip = if ip.is_unspecified() { own_address(config).unwrap_or(ip) } else { ip };
    SocketAddr::new(ip, listening.port())
}

/// Connecting a UDP socket sends nothing: it makes the system choose a route.
fn own_address(config: &NodeConfig) -> Option<IpAddr> {
    let peer = config.peers.iter().find_map(|peer| match peer.parse::<Target>().ok()?.host {
        address::Host::Address(ip) => Some(ip),
        address::Host::Name(_) => None,
    });
    // An address for documentation (RFC 5737): whatever is reached by the default route.
    let peer = peer.unwrap_or(IpAddr::from([192, 0, 2, 1]));
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((peer, limits::DEFAULT_PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn system_machine_id() -> anyhow::Result<MachineId> {
    let hint = "give an id with --override-machine-id, or make the file with systemd-machine-id-setup";
    let text =
        std::fs::read_to_string(MACHINE_ID_FILE).with_context(|| format!("can't read {MACHINE_ID_FILE}; {hint}"))?;
    text.trim().parse().with_context(|| format!("{MACHINE_ID_FILE} holds no machine id; {hint}"))
}
