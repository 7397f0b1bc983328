//! Configuration texts → [`crate::model::directory`]: `configs/NAME.yaml`, `overrides.yaml`, `peers.txt`, and the names of
//! configs and key files. Reading the files, and whatever concerns several of them, is `daemon/configuration`'s.

mod nearest;
mod problem;
#[cfg(test)]
mod tests;
mod value;
mod yaml;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ssh::{is_printable, printable};
use crate::model::directory::{DirectoryConfig, Rates, Retention};
use crate::model::limits;
use crate::model::peer::ClusterKey;
use crate::model::vpath::component_error;

pub use nearest::nearest;
pub use problem::{ConfigError, Problem, did_you_mean};
use value::{absolute, boolean, count, duration, interval, is_peer, number};
use yaml::{Field, Known, Shape, Text};

/// Where in its text a config says what has to fit other files. Counted from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// `directory`.
    pub directory: Option<usize>,
    /// Each name in `upload-keys`.
    pub upload_keys: Vec<usize>,
}

const BOOL: &str = "`true` or `false`";
const COUNT: &str = "a whole number, 0 or above";
const PATH: &str = "a path";
const LEVELS: &str = "a number from 0 to 16: how many components follow the name in a virtual path";
const NAMES: &str = "a list of key names, as in `[ci, bob]` for keys/ci.key and keys/bob.key";
const INTERVAL: &str = "a duration from one second to ten years, as in `30 days`, or 0 for never";
const DURATION: &str = "a duration, as in `2 days` or `36h`";

const fn scalar(name: &'static str, expected: &'static str) -> Known {
    Known { name, shape: Shape::Scalar, expected }
}

const DIRECTORY_FIELDS: [Known; 13] = [
    scalar("directory", PATH),
    scalar("num-levels", LEVELS),
    scalar("append-only", BOOL),
    Known { name: "upload-keys", shape: Shape::List, expected: NAMES },
    scalar("legacy-signatures", BOOL),
    scalar("keep-previous", BOOL),
    scalar("auto-clean", BOOL),
    scalar("keep-min-directories", COUNT),
    scalar("keep-max-directories", COUNT),
    scalar("keep-recent", DURATION),
    scalar("keep-list-file", PATH),
    scalar("scrub-interval", INTERVAL),
    scalar("heal", BOOL),
];

const RATE: &str = "bytes per second, as in `20 MB` or `500 KB`, at least 64 KB";

const DAEMON_FIELDS: [Known; 3] =
    [scalar("max-upload-rate", RATE), scalar("max-download-rate", RATE), scalar("scrub-rate", RATE)];

const DAY: Duration = Duration::from_hours(24);

/// Reads `configs/NAME.yaml`. Relative directories are below `cwd`, which is absolute. The errors are all that there are,
/// unless the YAML itself is broken.
pub fn parse_directory(name: &str, text: &str, cwd: &Path) -> Result<(DirectoryConfig, Lines), Vec<ConfigError>> {
    let (fields, errors) = yaml::read_mapping(text, &DIRECTORY_FIELDS);
    let reads = |problem: &Problem| matches!(problem, Problem::UnknownField { .. } | Problem::Expected { .. });
    let broken = errors.iter().any(|error| !reads(&error.problem));
    let mut fields = Fields { fields, errors };
    if let Err(problem) = check_name(name) {
        fields.errors.push(ConfigError { line: None, problem });
    }
    let directory = fields.get("directory", |text| absolute(text, cwd));
    let num_levels = fields.get("num-levels", |text| number(text).filter(|&n| n <= limits::NUM_LEVELS_MAX).ok_or(None));
    let append_only = fields.get("append-only", boolean);
    let (upload_keys, key_lines) = fields.names("upload-keys").into_iter().unzip();
    let legacy_signatures = fields.get("legacy-signatures", boolean).unwrap_or(false);
    let keep_previous = fields.get("keep-previous", boolean).unwrap_or(false);
    let scrub_interval = fields.get("scrub-interval", interval).flatten();
    let heal = fields.get("heal", boolean).unwrap_or(false);
    let auto_clean = fields.get("auto-clean", boolean).unwrap_or(false);
    let retention = Retention {
        keep_min_directories: fields.get("keep-min-directories", count).unwrap_or(2),
        keep_max_directories: fields.get("keep-max-directories", count).unwrap_or(100),
        keep_recent: fields.get("keep-recent", duration).unwrap_or(2 * DAY),
        keep_list_file: fields.get("keep-list-file", |text| absolute(text, cwd)),
    };
    if retention.keep_min_directories > retention.keep_max_directories {
        let (min, max) = (retention.keep_min_directories, retention.keep_max_directories);
        let line = fields.line("keep-min-directories").or_else(|| fields.line("keep-max-directories"));
        fields.errors.push(ConfigError { line, problem: Problem::MinAboveMax { min, max } });
    }
    if keep_previous && append_only == Some(true) {
        let line = fields.line("keep-previous");
        fields.errors.push(ConfigError { line, problem: Problem::NothingPrevious });
    }
    if !broken {
        fields.require(&["directory", "num-levels", "append-only"]);
    }
    match (directory, num_levels, append_only) {
        (Some(directory), Some(num_levels), Some(append_only)) if fields.errors.is_empty() => {
            let lines = Lines { directory: fields.line("directory"), upload_keys: key_lines };
            let config = DirectoryConfig {
                name: name.into(),
                directory,
                num_levels,
                append_only,
                upload_keys,
                legacy_signatures,
                keep_previous,
                scrub_interval,
                heal,
                retention: auto_clean.then_some(retention),
            };
            Ok((config, lines))
        }
        _ => Err(sorted(fields.errors)),
    }
}

/// Reads `daemon.yaml`.
pub fn parse_daemon(text: &str) -> Result<Rates, Vec<ConfigError>> {
    let (fields, errors) = yaml::read_mapping(text, &DAEMON_FIELDS);
    let mut fields = Fields { fields, errors };
    let rates = Rates {
        upload: fields.get("max-upload-rate", rate),
        download: fields.get("max-download-rate", rate),
        scrub: fields.get("scrub-rate", rate),
    };
    if fields.errors.is_empty() { Ok(rates) } else { Err(sorted(fields.errors)) }
}

/// `1_000_000`, `500KB`, `20 MB`, `1 GB`, each in a second; powers of 1,000.
fn rate(text: &str) -> Result<u64, Option<Problem>> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.replace('_', "").parse().map_err(|_| None)?;
    let unit = unit.trim().trim_end_matches("/s");
    let factor = match unit {
        "" | "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(None),
    };
    number.checked_mul(factor).filter(|rate| *rate >= limits::RATE_MIN).ok_or(None)
}

/// One entry of `overrides.yaml`: the directory of a config is elsewhere on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Of the config.
    pub name: Box<str>,
    /// Where it stands.
    pub line: usize,
    /// Absolute.
    pub directory: PathBuf,
}

/// Reads `overrides.yaml`: names of configs, each with `directory: PATH` below it.
pub fn parse_overrides(text: &str, cwd: &Path) -> Result<Vec<Override>, Vec<ConfigError>> {
    let (entries, mut errors) = yaml::read_mappings(text, &[scalar("directory", PATH)]);
    let mut overrides = Vec::new();
    for (Text { text: name, line }, fields) in entries {
        let mut fields = Fields { fields, errors: Vec::new() };
        let directory = fields.get("directory", |text| absolute(text, cwd));
        fields.require(&["directory"]);
        errors.extend(fields.errors.into_iter().map(|error| ConfigError { line: error.line.or(Some(line)), ..error }));
        overrides.extend(directory.map(|directory| Override { name: name.into(), line, directory }));
    }
    if errors.is_empty() { Ok(overrides) } else { Err(sorted(errors)) }
}

/// Reads `peers.txt`: a host on each line, each once; what follows a `#` is a comment.
pub fn parse_peers(text: &str) -> Result<Vec<Box<str>>, Vec<ConfigError>> {
    let mut peers = Vec::<Box<str>>::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let peer = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if !peer.is_empty() && !is_peer(peer) {
            let problem = Problem::BadPeer(peer.chars().take(200).collect());
            errors.push(ConfigError { line: Some(index + 1), problem });
        } else if !peer.is_empty() && seen.insert(peer) {
            peers.push(peer.into());
        }
        if peers.len() > limits::PEERS_MAX {
            let problem = Problem::TooMany { what: "peers", max: limits::PEERS_MAX };
            errors.push(ConfigError { line: Some(index + 1), problem });
        }
        if peers.len() > limits::PEERS_MAX || errors.len() >= limits::CONFIG_PROBLEMS_MAX {
            break;
        }
    }
    if errors.is_empty() { Ok(peers) } else { Err(errors) }
}

/// The 64 hexadecimal digits of `cluster.key`; blanks and line ends around them don't matter.
pub fn parse_cluster_key(text: &str) -> Result<ClusterKey, ConfigError> {
    ClusterKey::from_hex(text.trim()).ok_or(ConfigError { line: None, problem: Problem::BadClusterKey })
}

/// Whether `name` can name a config or a key file: one printable component of a path.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let reason = if let Some(reason) = component_error(name) {
        reason
    } else if name == limits::STAGING_DIR_NAME {
        "`.ciruela-staging` is reserved for the daemon"
    } else if !name.chars().all(is_printable) {
        "it contains a character that can't be printed"
    } else if name.trim() != name {
        "it starts or ends with a space"
    } else {
        return Ok(());
    };
    Err(Problem::BadName { name: name.chars().take(limits::NAME_BYTES_MAX).collect(), reason })
}

/// The fields of one mapping, and what is wrong with them.
struct Fields {
    fields: Vec<Field>,
    errors: Vec<ConfigError>,
}

impl Fields {
    fn line(&self, name: &str) -> Option<usize> {
        self.fields.iter().find(|field| field.name == name).map(|field| field.line)
    }

    /// The field's value; an error of `parse` without a problem of its own says what the field takes.
    fn get<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, Option<Problem>>) -> Option<T> {
        let Text { text, line } = self.fields.iter().find(|field| field.name == name)?.values.first()?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(problem) => {
                let problem = problem.unwrap_or_else(|| Problem::Expected {
                    field: name.into(),
                    expected: expected(name),
                    found: Some(printable(text)),
                });
                self.errors.push(ConfigError { line: Some(*line), problem });
                None
            }
        }
    }

    /// A list of names, each once, with their lines.
    fn names(&mut self, name: &'static str) -> Vec<(Box<str>, usize)> {
        let mut names = Vec::<(Box<str>, usize)>::new();
        for Text { text, line } in self.fields.iter().filter(|field| field.name == name).flat_map(|field| &field.values)
        {
            let problem = if names.len() >= limits::KEYS_PER_DIRECTORY_MAX {
                Err(Problem::TooMany { what: "names of keys", max: limits::KEYS_PER_DIRECTORY_MAX })
            } else {
                check_name(text)
            };
            match problem {
                Ok(()) if names.iter().any(|(known, _)| **known == **text) => {}
                Ok(()) => names.push((text.as_str().into(), *line)),
                Err(problem) => self.errors.push(ConfigError { line: Some(*line), problem }),
            }
            if self.errors.len() >= limits::CONFIG_PROBLEMS_MAX {
                break;
            }
        }
        names
    }

    fn require(&mut self, names: &[&'static str]) {
        for &field in names {
            if self.line(field).is_none() {
                let problem = Problem::Missing { field, expected: expected(field) };
                self.errors.push(ConfigError { line: None, problem });
            }
        }
    }
}

fn expected(field: &str) -> &'static str {
    DIRECTORY_FIELDS.iter().chain(&DAEMON_FIELDS).find(|known| known.name == field).map_or("", |known| known.expected)
}

fn sorted(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
    errors
}
