//! The options that all commands share which have a signed change spread over clusters.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::client::keys::KeyOptions;
use crate::engine::upload::Rules;
use crate::model::address::{Target, TargetError};
use crate::model::limits;

/// Where to, signed by whom, and when to stop.
#[derive(Debug, Args)]
pub(in crate::client) struct SpreadArgs {
    /// All entry points are names of one cluster; `--` between them begins another cluster.
    #[arg(short, long)]
    multiple: bool,
    /// Sign with the key in this file. Can be repeated.
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// Sign with the key that this environment variable contains. Can be repeated.
    #[arg(short, long, value_name = "VARIABLE")]
    key_from_env: Vec<String>,

    /// After this time, be content with fewer machines, as the next two options say.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    early_timeout: Option<Duration>,
    /// ... with this fraction of the known machines [default: 0.75]
    #[arg(long, value_name = "NUMBER", value_parser = fraction, requires = "early_timeout")]
    early_fraction: Option<f64>,
    /// ... and with at least this many machines [default: 3]
    #[arg(long, value_name = "NUMBER", requires = "early_timeout")]
    early_hosts: Option<usize>,
    /// Give up after this time.
    #[arg(short = 't', long, value_name = "DURATION", value_parser = duration, default_value = "30m")]
    deadline: Duration,
    /// Machines that are down, and names that can't be resolved, count as not done.
    #[arg(long)]
    require_all: bool,

    /// The port of entry points that name none [default: 24783]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Print one JSON object per line on standard output for each event.
    #[arg(long)]
    pub(in crate::client) json: bool,
    /// Sign for the cluster of this name only: others refuse it.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Names or addresses of machines, with or without a port. Each is a cluster of its own, unless -m is given.
    #[arg(value_name = "ENTRY_POINT")]
    entry_points: Vec<String>,
    /// After `--`: see -m.
    #[arg(last = true, value_name = "ENTRY_POINT", hide = true)]
    more_entry_points: Vec<String>,
}

/// What they ask for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Spread {
    /// The names of each cluster; at least one with at least one.
    pub(in crate::client) clusters: Vec<Vec<String>>,
    /// With which keys to sign.
    pub(in crate::client) keys: KeyOptions,
    /// When to stop.
    pub(in crate::client) rules: Rules,
    /// Of names that say none.
    pub(in crate::client) port: u16,
    /// Output for programs.
    pub(in crate::client) json: bool,
    /// Odd, but no error.
    pub(in crate::client) warnings: Vec<String>,
}

/// Why they can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::client) enum SpreadError {
    /// No cluster.
    #[error("no entry point: name at least one machine of the cluster, as in `ciruela sync ... node1.example.org`")]
    NoEntryPoint,
    /// No machine has such a name.
    #[error("{0:?} stands behind `--`, where only entry points are: give options before the first `--`")]
    OptionAmongEntryPoints(String),
    /// Not a name or an address.
    #[error("entry point: {0}")]
    EntryPoint(#[from] TargetError),
    /// Over the bound.
    #[error("{0} entry points, at most {max} at once", max = limits::ENTRY_POINTS_MAX)]
    TooManyEntryPoints(usize),
    /// Over the bound of what may be signed.
    #[error("the cluster's name must have 1 to {max} bytes", max = limits::NAME_BYTES_MAX)]
    ClusterName,
}

impl SpreadArgs {
    /// Entry points that are none: no name of a machine has a `:/`.
    pub(in crate::client) fn take_destinations(&mut self) -> Vec<String> {
        self.entry_points.extract_if(.., |text| text.contains(":/")).collect()
    }

    /// Checks what each option by itself can't. `port`: what stood before the subcommand.
    pub(in crate::client) fn checked(self, port: Option<u16>) -> Result<Spread, SpreadError> {
        let clusters = clusters(self.multiple, self.entry_points, &self.more_entry_points)?;
        if self.cluster.as_ref().is_some_and(|name| name.is_empty() || name.len() > limits::NAME_BYTES_MAX) {
            return Err(SpreadError::ClusterName);
        }
        let mut warnings = Vec::new();
        if self.early_timeout.is_some_and(|early| early >= self.deadline) {
            warnings.push("--early-timeout is not before the deadline, so it has no effect".to_owned());
        }
        let rules = Rules {
            deadline: self.deadline,
            early_timeout: self.early_timeout,
            early_fraction: self.early_fraction.unwrap_or(0.75),
            early_hosts: self.early_hosts.unwrap_or(3),
            require_all: self.require_all,
            initial_connections: limits::INITIAL_CONNECTIONS,
            cluster: self.cluster.map(String::into_boxed_str),
        };
        let keys = KeyOptions { identity: self.identity, key_from_env: self.key_from_env };
        let port = self.port.or(port).unwrap_or(limits::DEFAULT_PORT);
        Ok(Spread { clusters, keys, rules, port, json: self.json, warnings })
    }
}

fn clusters(multiple: bool, first: Vec<String>, more: &[String]) -> Result<Vec<Vec<String>>, SpreadError> {
    let mut groups = vec![first];
    groups.extend(more.split(|name| name == "--").map(<[String]>::to_vec));
    if !multiple {
        groups = groups.into_iter().flatten().map(|name| vec![name]).collect();
    }
    groups.retain(|names| !names.is_empty());
    let count = groups.iter().map(Vec::len).sum();
    if count == 0 {
        return Err(SpreadError::NoEntryPoint);
    }
    if count > limits::ENTRY_POINTS_MAX {
        return Err(SpreadError::TooManyEntryPoints(count));
    }
    for name in groups.iter().flatten() {
        if name.starts_with('-') {
            return Err(SpreadError::OptionAmongEntryPoints(name.clone()));
        }
        name.parse::<Target>()?;
    }
    Ok(groups)
}

pub(in crate::client) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than nothing".to_owned()),
        Ok(duration) if duration > limits::SYNC_DURATION_MAX => Err("it must be at most a year".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 90s, 10m or 2h")),
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    let fraction = text.parse::<f64>().ok().filter(|fraction| (0.0..=1.0).contains(fraction));
    fraction.ok_or_else(|| "it must be a number from 0 to 1, such as 0.9".to_owned())
}
