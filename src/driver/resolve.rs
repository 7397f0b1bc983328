//! Names → addresses: literals, the hosts file, DNS (all A and AAAA records). Which of them to use is decided elsewhere
//! (`model/address::sample`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};

use crate::model::address::{Host, Target, TargetError};
use crate::model::limits;

/// Where to look names up, and how long.
#[derive(Debug, Clone)]
pub struct ResolveOptions {
    /// Name servers to ask; none: those of `/etc/resolv.conf`, with its search domains.
    pub name_servers: Vec<SocketAddr>,
    /// Read before any name server is asked; a name that it has is looked up nowhere else. A missing file is an empty one.
    pub hosts_file: PathBuf,
    /// The longest time until the first answer with addresses.
    pub timeout: Duration,
    /// How much longer to wait for the other record type.
    pub grace: Duration,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self {
            name_servers: Vec::new(),
            hosts_file: PathBuf::from("/etc/hosts"),
            timeout: limits::NAME_LOOKUP_TIMEOUT,
            grace: limits::NAME_LOOKUP_GRACE,
        }
    }
}

/// Why a name has no addresses for us. Nothing was changed anywhere.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// What was asked for isn't a host.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No domain name: the rules for names in other scripts than Latin, for example.
    #[error("{name} can't be a host name; check its spelling")]
    BadName {
        /// What was asked for.
        name: String,
        /// Which rule it breaks.
        source: Box<ProtoError>,
    },
    /// The hosts file is there and can't be read.
    #[error("can't read {} to look up {name}", .file.display())]
    HostsFile {
        /// The name that was to be looked up.
        name: String,
        /// The hosts file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system's list of name servers can't be read.
    #[error("can't look up {name}: no name server is known; check /etc/resolv.conf")]
    NoNameServer {
        /// The name that was to be looked up.
        name: String,
        /// What is wrong with the list.
        source: Option<Box<NetError>>,
    },
    /// The name server says that the name doesn't exist.
    #[error("no such name: {name}; check its spelling and the search domains in /etc/resolv.conf")]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// The name exists, without A or AAAA records.
    #[error("the name {name} has no addresses; check that it has an A or AAAA record")]
    NoAddresses {
        /// The name.
        name: String,
    },
    /// Nobody answered in time.
    #[error("the name server at {servers} didn't answer when asked for {name}; check that it runs and can be reached")]
    NoAnswer {
        /// The name.
        name: String,
        /// Who was asked, for people.
        servers: String,
    },
    /// An answer that isn't one: a refusal, a failure, nonsense.
    #[error("the name server at {servers} failed to look up {name}; check its log, or ask another one")]
    Failed {
        /// The name.
        name: String,
        /// Who was asked, for people.
        servers: String,
        /// What was answered.
        source: Box<NetError>,
    },
}

/// All addresses of `name` (`host`, `host:port` or a literal, see [`Target`]), sorted, without repetition, at least one.
///
/// Takes at most `options.timeout` and `options.grace` together. If only one of the two record types could be had in time,
/// that one is returned.
pub async fn resolve(name: &str, default_port: u16, options: &ResolveOptions) -> Result<Vec<SocketAddr>, ResolveError> {
    let target: Target = name.parse()?;
    let port = target.port.unwrap_or(default_port);
    let host = match target.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(address, port)]),
        Host::Name(host) => host,
    };
    let parsed = Name::from_utf8(&host)
        .map_err(|source| ResolveError::BadName { name: host.to_string(), source: Box::new(source) })?;
    let mut addresses = look_up_in_hosts(&host, &parsed, &options.hosts_file)?;
    if addresses.is_empty() {
        addresses = look_up_in_dns(&host, parsed, options).await?;
    }
    let mut addresses: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn look_up_in_hosts(name: &str, parsed: &Name, file: &Path) -> Result<Vec<IpAddr>, ResolveError> {
    let mut hosts = Hosts::default();
    match File::open(file).and_then(|opened| hosts.read_hosts_conf(opened.take(limits::CONFIG_FILE_BYTES_MAX))) {
        Ok(()) => {}
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ResolveError::HostsFile { name: name.into(), file: file.into(), source }),
    }
    let mut addresses = Vec::new();
    for record_type in [RecordType::A, RecordType::AAAA] {
        if let Some(lookup) = hosts.lookup_static_host(&Query::query(parsed.to_lowercase(), record_type)) {
            addresses.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
        }
    }
    Ok(addresses)
}

/// Asks for both record types at once. When one of them brought addresses, the other one has only `options.grace` left:
/// some networks swallow questions for AAAA records.
async fn look_up_in_dns(name: &str, parsed: Name, options: &ResolveOptions) -> Result<Vec<IpAddr>, ResolveError> {
    let (resolver, servers) = resolver(name, options)?;
    let mut v4 = pin!(resolver.lookup(parsed.clone(), RecordType::A));
    let mut v6 = pin!(resolver.lookup(parsed, RecordType::AAAA));
    let mut deadline = pin!(tokio::time::sleep(options.timeout));
    let (mut answers, mut errors) = (BTreeMap::new(), Vec::new());
    let (mut v4_open, mut v6_open) = (true, true);
    while v4_open || v6_open {
        let (record_type, answer) = tokio::select! {
            answer = &mut v4, if v4_open => {
                v4_open = false;
                (RecordType::A, answer)
            }
            answer = &mut v6, if v6_open => {
                v6_open = false;
                (RecordType::AAAA, answer)
            }
            () = &mut deadline => {
                errors.push(NetError::Timeout);
                break;
            }
        };
        match answer {
            Ok(lookup) if lookup.answers().iter().any(|record| record.data.ip_addr().is_some()) => {
                answers.insert(record_type, lookup);
                deadline.set(tokio::time::sleep(options.grace));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    // With search domains the two may be answers about different hosts: then the first one's, A before AAAA.
    let Some(host) = answers.values().next().map(|lookup| lookup.query().name().clone()) else {
        return Err(explain(name, servers, errors));
    };
    let same_host = answers.values().filter(|lookup| *lookup.query().name() == host);
    let records = same_host.flat_map(Lookup::answers);
    Ok(records.filter_map(|record| record.data.ip_addr()).collect())
}

/// A resolver as the options want it, and the addresses that it will ask, for people.
fn resolver(name: &str, options: &ResolveOptions) -> Result<(TokioResolver, String), ResolveError> {
    let no_server = |source| ResolveError::NoNameServer { name: name.into(), source };
    let (config, mut settings) = if options.name_servers.is_empty() {
        read_system_conf().map_err(|source| no_server(Some(Box::new(source))))?
    } else {
        let servers = options.name_servers.iter().copied().map(name_server).collect();
        (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
    };
    if config.name_servers().is_empty() {
        return Err(no_server(None));
    }
    settings.use_hosts_file = ResolveHosts::Never;
    settings.timeout = settings.timeout.min(options.timeout);
    let mut servers: Vec<_> = config
        .name_servers()
        .iter()
        .map(|server| SocketAddr::new(server.ip, server.connections.first().map_or(53, |connection| connection.port)))
        .map(|server| server.to_string())
        .collect();
    servers.dedup();
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = settings;
    let resolver = builder.build().map_err(|source| no_server(Some(Box::new(source))))?;
    Ok((resolver, servers.join(", ")))
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// The error to show for the answers, none of which had an address: a name that doesn't exist has neither record type;
/// that it has no addresses is only known when both answers came.
fn explain(name: &str, servers: String, errors: Vec<NetError>) -> ResolveError {
    let name = name.to_owned();
    if errors.iter().any(NetError::is_nx_domain) {
        return ResolveError::NoSuchName { name };
    }
    match errors.into_iter().find(|error| !error.is_no_records_found()) {
        None => ResolveError::NoAddresses { name },
        Some(NetError::Timeout | NetError::NoConnections | NetError::Io(_)) => ResolveError::NoAnswer { name, servers },
        Some(source) => ResolveError::Failed { name, servers, source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests;
