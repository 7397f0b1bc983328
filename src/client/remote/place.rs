//! `CLUSTER:PATH`, as people write it: names of machines, separated by commas, and a path on them.

use std::str::FromStr;

use crate::model::address::{Target, TargetError};
use crate::model::limits;
use crate::model::vpath::component_error;

/// Where to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    names: Vec<String>,
    /// `/KEY/name`, and perhaps further to something in that directory; empty: only the cluster was named.
    path: String,
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No path.
    #[error("expected CLUSTER:PATH, where PATH is like /KEY/name")]
    NoPath,
    /// Not a path.
    #[error("bad path {path:?}: {reason}")]
    Path { path: String, reason: &'static str },
    /// Not a name or an address.
    #[error(transparent)]
    Name(#[from] TargetError),
    /// Over the bound.
    #[error("{0} names of machines, at most {max} at once", max = limits::ENTRY_POINTS_MAX)]
    TooMany(usize),
}

impl Place {
    /// `CLUSTER:PATH`.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let place: Self = text.parse()?;
        if place.path.is_empty() { Err(PlaceError::NoPath) } else { Ok(place) }
    }

    /// The two parts, given separately.
    pub fn new(cluster: &str, path: &str) -> Result<Self, PlaceError> {
        Ok(Self { names: names(cluster)?, path: checked(path)? })
    }

    /// Names and addresses of machines.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// `CLUSTER` or `CLUSTER:PATH`.
impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.find(":/") {
            Some(at) => Self::new(&text[..at], &text[at + 1..]),
            None => Ok(Self { names: names(text)?, path: String::new() }),
        }
    }
}

fn names(cluster: &str) -> Result<Vec<String>, PlaceError> {
    let names: Vec<_> = cluster.split(',').map(str::to_owned).collect();
    if names.len() > limits::ENTRY_POINTS_MAX {
        return Err(PlaceError::TooMany(names.len()));
    }
    for name in &names {
        name.parse::<Target>()?;
    }
    Ok(names)
}

fn checked(path: &str) -> Result<String, PlaceError> {
    let error = |reason| PlaceError::Path { path: path.chars().take(200).collect(), reason };
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.len() > 2 * limits::PATH_BYTES_MAX {
        return Err(error("it is too long"));
    }
    let rest = path.strip_prefix('/').ok_or_else(|| error("it must start with `/`, as in /KEY/name"))?;
    match rest.split('/').find_map(component_error) {
        Some(reason) => Err(error(reason)),
        None => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_and_paths() {
        for (text, names, path) in [
            ("n1:/k/x", &["n1"][..], "/k/x"),
            ("n1:5,n2:/k/x/", &["n1:5", "n2"], "/k/x"),
            ("[::1]:5:/k", &["[::1]:5"], "/k"),
            ("::1:/k/a:/b", &["::1"], "/k/a:/b"),
            ("n1,n2", &["n1", "n2"], ""),
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!(
                (place.names(), place.path()),
                (&names.iter().map(ToString::to_string).collect::<Vec<_>>()[..], path)
            );
        }
    }

    #[test]
    fn what_is_no_place_says_why() {
        for (text, reason) in [
            ("n1", "CLUSTER:PATH"),
            ("n1:k/x", "bad host"),
            (":/k/x", "empty"),
            ("n1,:/k/x", "empty"),
            ("n1:/k/../x", "`..`"),
            ("n1:/k//x", "empty"),
            ("n1:/", "must start"),
            ("http://x/k", "bad path"),
        ] {
            let error = Place::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
