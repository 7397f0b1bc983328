//! Who this host is: its machine id and its name.

use anyhow::{Context as _, bail};

use super::args::Args;
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

fn system_machine_id() -> anyhow::Result<MachineId> {
    let hint = "give an id with --override-machine-id, or make the file with systemd-machine-id-setup";
    let text =
        std::fs::read_to_string(MACHINE_ID_FILE).with_context(|| format!("can't read {MACHINE_ID_FILE}; {hint}"))?;
    text.trim().parse().with_context(|| format!("{MACHINE_ID_FILE} holds no machine id; {hint}"))
}
