//! Virtual paths: `/KEY/rest`, where KEY names a directory config.

use std::fmt;
use std::str::FromStr;

use super::limits;

/// A checked virtual path: absolute, at least a key, no empty component, no `.` or `..`, no control character.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VPath(Box<str>);

/// Why a text isn't a virtual path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad path {path:?}: {reason}")]
pub struct VPathError {
    path: String,
    reason: &'static str,
}

/// Why `name` can't be one component of a path that comes from outside, `None` if it can.
pub fn component_error(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a component is empty")
    } else if name == "." || name == ".." {
        Some("`.` and `..` are not allowed")
    } else if name.len() > limits::NAME_BYTES_MAX {
        Some("a component is longer than 255 bytes")
    } else if name.bytes().any(|b| b == b'/' || b == 0) {
        Some("a component contains `/` or NUL")
    } else {
        None
    }
}

impl VPath {
    /// The key: the name of the directory config.
    pub fn key(&self) -> &str {
        let rest = &self.0[1..];
        rest.split_once('/').map_or(rest, |(key, _)| key)
    }

    /// What follows the key, without a leading slash; empty if nothing does.
    pub fn suffix(&self) -> &str {
        self.0[1..].split_once('/').map_or("", |(_, suffix)| suffix)
    }

    /// Number of components after the key.
    pub fn levels(&self) -> usize {
        self.0[1..].matches('/').count()
    }

    /// The whole path, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Everything before the last component; `None` if there is only a key.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        (!parent.is_empty()).then(|| Self(parent.into()))
    }
}

impl FromStr for VPath {
    type Err = VPathError;
    fn from_str(text: &str) -> Result<Self, VPathError> {
        let error = |reason| VPathError { path: text.chars().take(200).collect(), reason };
        if text.len() > limits::PATH_BYTES_MAX {
            return Err(error("it is longer than 4096 bytes"));
        }
        let rest = text.strip_prefix('/').ok_or_else(|| error("it must start with `/`, as in /KEY/name"))?;
        for component in rest.split('/') {
            if let Some(reason) = component_error(component) {
                return Err(error(reason));
            }
            if component.chars().any(char::is_control) {
                return Err(error("it contains a control character"));
            }
            if component == limits::STAGING_DIR_NAME {
                return Err(error("`.ciruela-staging` is reserved for the daemon"));
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for VPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let path: VPath = "/key/a/b".parse().expect("valid");
        assert_eq!((path.key(), path.suffix(), path.levels()), ("key", "a/b", 2));
        assert_eq!(path.parent(), "/key/a".parse().ok());
        let key: VPath = "/key".parse().expect("valid");
        assert_eq!((key.key(), key.suffix(), key.levels(), key.parent()), ("key", "", 0, None));
    }

    #[test]
    fn escapes_are_refused() {
        let long = format!("/{}", "x".repeat(256));
        for text in [
            "",
            "/",
            "key",
            "//",
            "/key/",
            "/key//a",
            "/key/..",
            "/../key",
            "/key/./a",
            "/k\0",
            "/k\n",
            "/k/.ciruela-staging",
            &long,
        ] {
            assert!(text.parse::<VPath>().is_err(), "{text:?} was taken");
        }
    }
}
