//! The options of `ciruela sync`, and what they add up to.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::destination::{Destination, Replacement};
use crate::client::keys::KeyOptions;
use crate::engine::upload::Rules;
use crate::model::address::{Target, TargetError};
use crate::model::change::Verb;
use crate::model::hash_kind::HashKind;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::vpath::VPath;

const EXIT_STATUS: &str = "\
Exit status:
    0  done on every live machine, or on as many as an --early-* rule asks for
    1  could not start (bad arguments, a source that can't be read), or a source was changed meanwhile
    2  no usable key
    3  refused by a machine, or no machine has a configuration for the path
    4  not finished by the deadline
    5  no machine could be reached
  130  interrupted (what machines have taken goes on there)
With several clusters it is that of the one that fared worst.";

/// Publish directories: sign what should be where, give it to clusters, wait until their machines are done.
///
/// SRC is a local directory, DEST a path as the machines see it, /KEY/name, where KEY is the name of a directory
/// configuration there. SRC ends before the last `:/` behind which there is such a path.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "ciruela sync [OPTIONS] ENTRY_POINT... [-- ENTRY_POINT...]")]
pub struct SyncArgs {
    /// Add the directory; other content at DEST is an error. Can be repeated, as can the next two.
    #[arg(long, value_name = "SRC:DEST", value_parser = destination())]
    append: Vec<Destination>,
    /// Add the directory unless something is at DEST already, whatever it is.
    #[arg(long, value_name = "SRC:DEST", value_parser = destination())]
    append_weak: Vec<Destination>,
    /// Put the directory in the place of what is at DEST; with OLD_ID only if that is what is there.
    #[arg(long, value_name = "SRC:DEST[:OLD_ID]", value_parser = replacement())]
    replace: Vec<Replacement>,

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
    pub(super) json: bool,
    /// Sign for the cluster of this name only: others refuse it.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Hash function of the index: blake2b/256, blake3/256 or sha512/256.
    #[arg(long, value_name = "KIND", default_value_t)]
    hash: HashKind,

    /// Names or addresses of machines, with or without a port. Each is a cluster of its own, unless -m is given.
    #[arg(value_name = "ENTRY_POINT")]
    entry_points: Vec<String>,
    /// After `--`: see -m.
    #[arg(last = true, value_name = "ENTRY_POINT", hide = true)]
    more_entry_points: Vec<String>,
}

/// What the command line asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Plan {
    /// The names of each cluster; at least one with at least one.
    pub(in crate::client) clusters: Vec<Vec<String>>,
    /// At least one, each path once.
    pub(in crate::client) wishes: Vec<Wish>,
    /// With which keys to sign.
    pub(in crate::client) keys: KeyOptions,
    /// When to stop.
    pub(in crate::client) rules: Rules,
    /// Of names that say none.
    pub(in crate::client) port: u16,
    /// Output for programs.
    pub(in crate::client) json: bool,
    /// The hash of the images.
    pub(in crate::client) hash: HashKind,
    /// Odd, but no error.
    pub(in crate::client) warnings: Vec<String>,
}

/// One directory to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct Wish {
    /// The local directory.
    pub(in crate::client) source: PathBuf,
    /// Where the machines shall have it.
    pub(in crate::client) path: VPath,
    /// How.
    pub(in crate::client) verb: Verb,
    /// Only in the place of this image.
    pub(in crate::client) old_image: Option<ImageId>,
    /// Whatever is there is fine.
    pub(in crate::client) weak: bool,
}

/// Why the command line can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgsError {
    /// No cluster.
    #[error("no entry point: name at least one machine of the cluster, as in `ciruela sync ... node1.example.org`")]
    NoEntryPoint,
    /// No machine has such a name.
    #[error("{0:?} stands behind `--`, where only entry points are: give options before the first `--`")]
    OptionAmongEntryPoints(String),
    /// Nothing to do.
    #[error("nothing to publish: give at least one --append, --append-weak or --replace SRC:DEST")]
    NoUpload,
    /// Two directories for one path.
    #[error("two directories are to be put at {0}: each destination can be given once")]
    SamePath(VPath),
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

impl SyncArgs {
    /// Checks what each option by itself can't. `port`: what stood before the subcommand.
    pub(super) fn plan(self, port: Option<u16>) -> Result<Plan, ArgsError> {
        let wishes = wishes(self.append, self.append_weak, self.replace)?;
        let clusters = clusters(self.multiple, self.entry_points, &self.more_entry_points)?;
        if self.cluster.as_ref().is_some_and(|name| name.is_empty() || name.len() > limits::NAME_BYTES_MAX) {
            return Err(ArgsError::ClusterName);
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
        Ok(Plan { clusters, wishes, keys, rules, port, json: self.json, hash: self.hash, warnings })
    }
}

fn wishes(
    append: Vec<Destination>,
    append_weak: Vec<Destination>,
    replace: Vec<Replacement>,
) -> Result<Vec<Wish>, ArgsError> {
    let wish =
        |to: Destination, verb, old_image, weak| Wish { source: to.source, path: to.path, verb, old_image, weak };
    let append = append.into_iter().map(|to| wish(to, Verb::Append, None, false));
    let append_weak = append_weak.into_iter().map(|to| wish(to, Verb::Append, None, true));
    let replace = replace.into_iter().map(|with| wish(with.destination, Verb::Replace, with.old_image, false));
    let wishes: Vec<_> = append.chain(append_weak).chain(replace).collect();
    let mut paths = BTreeSet::new();
    match wishes.iter().find(|wish| !paths.insert(&wish.path)) {
        Some(twice) => Err(ArgsError::SamePath(twice.path.clone())),
        None if wishes.is_empty() => Err(ArgsError::NoUpload),
        None => Ok(wishes),
    }
}

fn clusters(multiple: bool, first: Vec<String>, more: &[String]) -> Result<Vec<Vec<String>>, ArgsError> {
    let mut groups = vec![first];
    groups.extend(more.split(|name| name == "--").map(<[String]>::to_vec));
    if !multiple {
        groups = groups.into_iter().flatten().map(|name| vec![name]).collect();
    }
    groups.retain(|names| !names.is_empty());
    let count = groups.iter().map(Vec::len).sum();
    if count == 0 {
        return Err(ArgsError::NoEntryPoint);
    }
    if count > limits::ENTRY_POINTS_MAX {
        return Err(ArgsError::TooManyEntryPoints(count));
    }
    for name in groups.iter().flatten() {
        if name.starts_with('-') {
            return Err(ArgsError::OptionAmongEntryPoints(name.clone()));
        }
        name.parse::<Target>()?;
    }
    Ok(groups)
}

fn destination() -> impl TypedValueParser<Value = Destination> {
    OsStringValueParser::new().try_map(|text: OsString| Destination::parse(&text))
}

fn replacement() -> impl TypedValueParser<Value = Replacement> {
    OsStringValueParser::new().try_map(|text: OsString| Replacement::parse(&text))
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::client::args::{Cli, Command};

    fn plan(line: &str) -> Result<Plan, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Sync(args) = cli.command else { return Err("another command".to_owned()) };
        args.plan(cli.port).map_err(|error| error.to_string())
    }

    fn clusters_of(line: &str) -> Vec<Vec<String>> {
        plan(line).expect(line).clusters
    }

    #[test]
    fn entry_points_and_clusters() {
        let start = "ciruela sync --append a:/k/x";
        assert_eq!(clusters_of(&format!("{start} n1 n2:5")), [["n1"], ["n2:5"]]);
        assert_eq!(clusters_of(&format!("{start} n1 -- n2 -- n3")), [["n1"], ["n2"], ["n3"]]);
        assert_eq!(
            clusters_of(&format!("{start} -m n1 n2 -- n3 -- n4 n5")),
            [vec!["n1", "n2"], vec!["n3"], vec!["n4", "n5"]]
        );
        assert_eq!(clusters_of(&format!("{start} -m -- n1 n2 -- -- n3")), [vec!["n1", "n2"], vec!["n3"]]);
        assert_eq!(clusters_of("ciruela sync n1 --append a:/k/x -m n2"), [["n1", "n2"]]);
        for (rest, reason) in [
            ("-m n -- --json n", "before the first `--`"),
            ("", "no entry point"),
            ("-m --", "no entry point"),
            ("a:b:c", "[ADDRESS]:PORT"),
            ("http://x", "bad host"),
        ] {
            let error = plan(&format!("{start} {rest}")).expect_err(rest);
            assert!(error.contains(reason), "{rest}: {error}");
        }
        let many = "n ".repeat(limits::ENTRY_POINTS_MAX + 1);
        assert!(plan(&format!("{start} {many}")).expect_err("too many").contains("at most 256"));
    }

    #[test]
    fn wishes_of_all_kinds() {
        let id = "ab".repeat(32);
        let plan = plan(&format!(
            "ciruela sync n --replace b:/k/b:{id} --append a:/k/a --append-weak a:/k/w --replace c:/k/c --append d:/k/d"
        ));
        let wishes = plan.expect("valid").wishes;
        let found: Vec<_> = wishes.iter().map(|w| (w.path.as_str(), w.verb, w.weak, w.old_image.is_some())).collect();
        assert_eq!(
            found,
            [
                ("/k/a", Verb::Append, false, false),
                ("/k/d", Verb::Append, false, false),
                ("/k/w", Verb::Append, true, false),
                ("/k/b", Verb::Replace, false, true),
                ("/k/c", Verb::Replace, false, false),
            ]
        );
    }

    #[test]
    fn what_cant_be_carried_out() {
        for (line, reason) in [
            ("ciruela sync n", "nothing to publish"),
            ("ciruela sync n --append a:/k/x --replace b:/k/x", "/k/x"),
            ("ciruela sync n --append a", "SRC:DEST"),
            ("ciruela sync n --append a:/k/../x", "`..`"),
            ("ciruela sync n --append a:/k/x -t 0s", "longer than nothing"),
            ("ciruela sync n --append a:/k/x -t 5", "90s"),
            ("ciruela sync n --append a:/k/x -t 900000000y", "a year"),
            ("ciruela sync n --append a:/k/x --early-hosts 2", "--early-timeout"),
            ("ciruela sync n --append a:/k/x --early-timeout 1m --early-fraction 75", "0 to 1"),
            ("ciruela sync n --append a:/k/x --early-timeout 1m --early-fraction NaN", "0 to 1"),
            ("ciruela sync n --append a:/k/x --port 0", "port"),
            ("ciruela sync n --append a:/k/x --hash md5", "blake2b/256"),
        ] {
            let error = plan(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn rules_and_ports() {
        let plain = plan("ciruela sync n --append a:/k/x").expect("valid");
        assert_eq!((plain.port, plain.rules.deadline), (24_783, Duration::from_mins(30)));
        assert_eq!((plain.rules.early_timeout, plain.rules.early_hosts), (None, 3));
        let port = |line: &str| plan(line).expect(line).port;
        assert_eq!(port("ciruela --port 5 sync n --append a:/k/x"), 5);
        assert_eq!(port("ciruela sync n --append a:/k/x --port 6"), 6);
        assert_eq!(port("ciruela --port 5 sync --port 6 n --append a:/k/x"), 6);
        let early = plan("ciruela sync n --append a:/k/x --early-timeout 2m --early-hosts 1 -t 1m").expect("valid");
        assert_eq!((early.rules.early_timeout, early.rules.early_hosts), (Some(Duration::from_mins(2)), 1));
        assert_eq!(early.warnings.len(), 1);
    }
}
