//! What a config's links and keep list say is in use, for `engine/retention`.

use std::collections::BTreeMap;

/// Paths in use, relative to the config's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Active {
    named: BTreeMap<Box<str>, ActiveBy>,
}

/// What says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActiveBy {
    /// A line of the keep list.
    KeepList,
    /// A symbolic link.
    Link,
}

/// Nothing is in use.
pub static NOTHING_ACTIVE: Active = Active { named: BTreeMap::new() };

impl Active {
    /// Adds a path: plain names with a `/` between each two; the empty one is the directory itself.
    pub fn add(&mut self, path: &str, by: ActiveBy) {
        self.named.entry(path.into()).or_insert(by);
    }

    /// Whether the directory with this relative path is in use: it is named, or something in it, or something that it is in.
    pub fn by(&self, suffix: &str) -> Option<ActiveBy> {
        let inside: Box<str> = format!("{suffix}/").into();
        let ends = suffix.match_indices('/').map(|(at, _)| at).chain([0, suffix.len()]);
        let above = ends.filter_map(|end| self.named.get(&suffix[..end]).copied()).max();
        let inside = self.named.range(inside.clone()..).next().filter(|(name, _)| name.starts_with(&*inside));
        above.or_else(|| inside.map(|(_, by)| *by))
    }

    /// How many paths are named.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_above_and_below() {
        let mut active = Active::default();
        for path in ["a/v1", "a/v2/bin/x", "b", "a-b/v1"] {
            active.add(path, ActiveBy::KeepList);
        }
        for (suffix, expected) in [
            ("a/v1", true),
            ("a/v2", true),
            ("a/v3", false),
            ("a/v", false),
            ("a/v10", false),
            ("b/v1", true),
            ("b/v2", true),
            ("bb/v1", false),
            ("a-b/v1", true),
        ] {
            assert_eq!(active.by(suffix).is_some(), expected, "{suffix}");
        }
        active.add("", ActiveBy::Link);
        assert_eq!(active.by("c/d"), Some(ActiveBy::Link), "the directory itself keeps all");
        assert_eq!((Active::default().by("a"), active.is_empty(), active.len()), (None, false, 5));
    }
}
