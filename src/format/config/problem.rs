//! What can be wrong with a configuration text, and where.

use std::path::PathBuf;

use crate::format::ssh::printable;

/// One thing that is wrong with a configuration text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// Counted from 1; `None` if it concerns the whole text.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a configuration text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text isn't YAML, or goes beyond a bound.
    #[error("{0}")]
    Yaml(String),
    /// A list or a single word where fields should be.
    #[error("expected fields, one on each line, as in `num-levels: 2`")]
    NotAMapping,
    /// A field that isn't known.
    #[error("unknown field `{}`{}", printable(name), did_you_mean(meant.as_deref()))]
    UnknownField { name: String, meant: Option<String> },
    /// A field that must be there.
    #[error("the field `{field}` is missing: {expected}")]
    Missing { field: &'static str, expected: &'static str },
    /// The same field again.
    #[error("the field `{}` is given twice", printable(.0))]
    Twice(String),
    /// A value of another kind.
    #[error("`{}` takes {expected}{}", printable(field), found.as_ref().map(|found| format!(", not `{found}`")).unwrap_or_default())]
    Expected { field: String, expected: &'static str, found: Option<String> },
    /// A name that can't be one.
    #[error("bad name {name:?}: {reason}")]
    BadName { name: String, reason: &'static str },
    /// A path that can't be used.
    #[error("bad path {path:?}: {reason}")]
    BadPath { path: PathBuf, reason: &'static str },
    /// `keep-min-directories` above `keep-max-directories`.
    #[error("`keep-min-directories` ({min}) is above `keep-max-directories` ({max})")]
    MinAboveMax { min: usize, max: usize },
    /// `keep-previous: true` where `append-only: true`.
    #[error(
        "`keep-previous: true` would never keep anything: with `append-only: true` nothing is replaced; leave it out, or set \
         `append-only: false`"
    )]
    NothingPrevious,
    /// A peer that is neither a name nor an address.
    #[error("bad peer {0:?}: expected `host`, `host:port`, `address` or `[address]:port`")]
    BadPeer(String),
    /// `cluster.key` holds something else. What, is not shown.
    #[error("expected 64 hexadecimal digits; `ciruela-server new-cluster-key` makes a key")]
    BadClusterKey,
    /// Beyond a bound.
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
}

/// `, did you mean …?`, or nothing.
pub fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default()
}
