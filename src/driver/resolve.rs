//! Names → addresses: literals, the hosts file, DNS (all A and AAAA records). Which of them to use is decided elsewhere
//! (`model/address::sample`).

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
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
    /// The longest time that one name may take.
    pub timeout: Duration,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self { name_servers: Vec::new(), hosts_file: PathBuf::from("/etc/hosts"), timeout: limits::NAME_LOOKUP_TIMEOUT }
    }
}

/// Why a name has no addresses for us. Nothing was changed anywhere.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// What was asked for isn't a host.
    #[error(transparent)]
    Target(#[from] TargetError),
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
/// Takes at most `options.timeout`. If only one of the two record types could be had, that one is returned.
pub async fn resolve(name: &str, default_port: u16, options: &ResolveOptions) -> Result<Vec<SocketAddr>, ResolveError> {
    let target: Target = name.parse()?;
    let port = target.port.unwrap_or(default_port);
    let host = match target.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(address, port)]),
        Host::Name(host) => host,
    };
    let mut addresses = look_up_in_hosts(&host, port, &options.hosts_file)?;
    if addresses.is_empty() {
        addresses = look_up_in_dns(&host, port, options).await?;
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn look_up_in_hosts(name: &str, port: u16, file: &Path) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut hosts = Hosts::default();
    match File::open(file).and_then(|opened| hosts.read_hosts_conf(opened.take(limits::CONFIG_FILE_BYTES_MAX))) {
        Ok(()) => {}
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ResolveError::HostsFile { name: name.into(), file: file.into(), source }),
    }
    // A name that DNS can't express isn't in the file either; DNS will say what is wrong with it.
    let Ok(parsed) = Name::from_utf8(name.to_lowercase()) else { return Ok(Vec::new()) };
    let mut addresses = Vec::new();
    for record_type in [RecordType::A, RecordType::AAAA] {
        if let Some(lookup) = hosts.lookup_static_host(&Query::query(parsed.clone(), record_type)) {
            addresses.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
        }
    }
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

async fn look_up_in_dns(name: &str, port: u16, options: &ResolveOptions) -> Result<Vec<SocketAddr>, ResolveError> {
    let (resolver, servers) = resolver(name, options)?;
    let Ok(answer) = tokio::time::timeout(options.timeout, resolver.lookup_ip(name)).await else {
        return Err(ResolveError::NoAnswer { name: name.into(), servers });
    };
    let lookup = answer.map_err(|error| explain(name, servers, error))?;
    let addresses: Vec<_> = lookup.iter().map(|address| SocketAddr::new(address, port)).collect();
    if addresses.is_empty() { Err(ResolveError::NoAddresses { name: name.into() }) } else { Ok(addresses) }
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
    settings.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
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

fn explain(name: &str, servers: String, error: NetError) -> ResolveError {
    let name = name.to_owned();
    if error.is_nx_domain() {
        ResolveError::NoSuchName { name }
    } else if error.is_no_records_found() {
        ResolveError::NoAddresses { name }
    } else if matches!(error, NetError::Timeout | NetError::NoConnections | NetError::Io(_)) {
        ResolveError::NoAnswer { name, servers }
    } else {
        ResolveError::Failed { name, servers, source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests;
