//! Which of the directories that are siblings are kept: a pure function, see `doc/retention.md`.

use std::collections::BTreeMap;

use crate::model::change::Rank;
use crate::model::directory::Retention;
use crate::model::retention::{Active, ActiveBy};
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// A directory that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub path: VPath,
    /// Of the change that holds there.
    pub rank: Rank,
    /// Something is known to be wrong with what is visible, or it is gone: an older one isn't removed because of it.
    pub damaged: bool,
}

/// Why a directory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// It is one of the newest.
    Newest,
    /// It is in use.
    Active(ActiveBy),
    /// It is younger than `keep-recent`, until then.
    Recent { until: Stamp },
}

/// Why one isn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unneeded {
    /// Newer siblings.
    pub newer: usize,
    /// It is within `keep-recent`, but there are `keep-max-directories` newer ones.
    pub recent: bool,
}

/// What the rules say of all directories of a config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// By path.
    pub kept: BTreeMap<VPath, Kept>,
    /// The oldest first.
    pub unneeded: Vec<(Candidate, Unneeded)>,
}

/// Whether a directory with so many newer siblings is kept.
pub fn keep(
    rules: &Retention,
    candidate: &Candidate,
    newer: usize,
    active: &Active,
    now: Stamp,
) -> Result<Kept, Unneeded> {
    let until = Stamp(candidate.rank.stamp.0.saturating_add(millis(rules.keep_recent)));
    let recent = now < until;
    if newer < rules.keep_min_directories.max(1) {
        return Ok(Kept::Newest);
    }
    if let Some(by) = active.by(candidate.path.suffix()) {
        return Ok(Kept::Active(by));
    }
    if recent && newer < rules.keep_max_directories {
        return Ok(Kept::Recent { until });
    }
    Err(Unneeded { newer, recent })
}

/// Applies the rules to all directories of a config, whatever order they are in.
pub fn sort_out(rules: &Retention, mut candidates: Vec<Candidate>, active: &Active, now: Stamp) -> Sorted {
    candidates.sort_by(|a, b| (b.rank, &b.path).cmp(&(a.rank, &a.path)));
    let mut newer = BTreeMap::<Option<VPath>, usize>::new();
    let mut sorted = Sorted::default();
    for candidate in candidates {
        let newer = newer.entry(candidate.path.parent()).or_default();
        let whole = usize::from(!candidate.damaged);
        match keep(rules, &candidate, *newer, active, now) {
            Ok(kept) => _ = sorted.kept.insert(candidate.path, kept),
            Err(unneeded) => sorted.unneeded.push((candidate, unneeded)),
        }
        *newer += whole;
    }
    sorted.unneeded.reverse();
    sorted
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::ids::ChangeId;

    const NOW: Stamp = Stamp(1_000_000);

    fn rules(min: usize, max: usize, recent_s: u64) -> Retention {
        Retention {
            keep_min_directories: min,
            keep_max_directories: max,
            keep_recent: Duration::from_secs(recent_s),
            keep_list_file: None,
        }
    }

    /// Its name, and how many seconds old it is.
    fn candidate(path: &str, age_s: u64) -> Candidate {
        let rank = Rank { stamp: Stamp(NOW.0 - age_s * 1_000), id: ChangeId::new([1; 32]), overrides: false };
        Candidate { path: path.parse().expect("valid"), rank, damaged: false }
    }

    fn active(names: &[&str]) -> Active {
        let mut active = Active::default();
        for name in names {
            active.add(name, ActiveBy::KeepList);
        }
        active
    }

    fn unneeded(rules: &Retention, candidates: &[(&str, u64)], names: &[&str]) -> Vec<String> {
        let candidates = candidates.iter().map(|(path, age)| candidate(path, *age)).collect();
        let sorted = sort_out(rules, candidates, &active(names), NOW);
        sorted.unneeded.iter().map(|(one, _)| one.path.as_str().to_owned()).collect()
    }

    #[test]
    fn what_is_damaged_replaces_nothing() {
        let all = [("/k/1", 50), ("/k/2", 40), ("/k/3", 30), ("/k/4", 20)];
        for (min, damaged, expected) in [
            (1, &["/k/4"][..], &["/k/1", "/k/2"][..]),
            (1, &["/k/3", "/k/4"], &["/k/1"]),
            (1, &["/k/1", "/k/2", "/k/3", "/k/4"], &[]),
            // Older than a whole one, it is removed as any other.
            (1, &["/k/2"], &["/k/1", "/k/2", "/k/3"]),
            (2, &["/k/4"], &["/k/1"]),
        ] {
            let candidates = all.iter().map(|(path, age)| {
                let one = candidate(path, *age);
                Candidate { damaged: damaged.contains(path), ..one }
            });
            let sorted = sort_out(&rules(min, 100, 0), candidates.collect(), &active(&[]), NOW);
            let unneeded: Vec<_> = sorted.unneeded.iter().map(|(one, _)| one.path.as_str()).collect();
            assert_eq!(unneeded, expected, "{min} {damaged:?}");
        }
    }

    #[test]
    fn table() {
        let five = [("/k/1", 50), ("/k/2", 40), ("/k/3", 30), ("/k/4", 20), ("/k/5", 10)];
        for (rules, names, expected) in [
            (rules(2, 100, 0), &[][..], &["/k/1", "/k/2", "/k/3"][..]),
            (rules(2, 100, 35), &[], &["/k/1", "/k/2"]),
            (rules(2, 100, 1_000), &[], &[]),
            // Of the recent ones no more than that, but never fewer than the least number.
            (rules(1, 3, 1_000), &[], &["/k/1", "/k/2"]),
            (rules(4, 4, 0), &[], &["/k/1"]),
            // The newest always.
            (rules(0, 0, 0), &[], &["/k/1", "/k/2", "/k/3", "/k/4"]),
            (rules(1, 1, 0), &["1", "3/bin"], &["/k/2", "/k/4"]),
            (rules(1, 1, 0), &[""], &[]),
            // What isn't there doesn't count.
            (rules(2, 2, 0), &["7"], &["/k/1", "/k/2", "/k/3"]),
        ] {
            assert_eq!(unneeded(&rules, &five, names), expected, "{rules:?} {names:?}");
        }
        assert_eq!(unneeded(&rules(1, 1, 0), &[], &[]), [""; 0]);
    }

    #[test]
    fn siblings_count_by_themselves() {
        let all = [("/k/a/1", 50), ("/k/a/2", 40), ("/k/b/1", 90), ("/k/a/3", 30), ("/k/c/1", 5)];
        assert_eq!(unneeded(&rules(1, 1, 0), &all, &[]), ["/k/a/1", "/k/a/2"]);
        assert_eq!(unneeded(&rules(1, 1, 0), &all, &["a"]), [""; 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
        #[test]
        fn laws(
            stamps in prop::collection::vec((0_u64..20, 0_u8..4), 0..24),
            limits in (0_usize..5, 0_usize..5, 0_u64..20),
            named in prop::collection::btree_set(0_usize..24, 0..6),
            seed: u64,
        ) {
            let rules = rules(limits.0, limits.0 + limits.1, limits.2);
            let candidates: Vec<_> = stamps.iter().enumerate().map(|(n, (age, group))| {
                candidate(&format!("/k/{group}/{n}"), *age)
            }).collect();
            let mut use_of = Active::default();
            for (n, (_, group)) in stamps.iter().enumerate().filter(|(n, _)| named.contains(n)) {
                use_of.add(&format!("{group}/{n}"), ActiveBy::Link);
            }
            let sorted = sort_out(&rules, candidates.clone(), &use_of, NOW);
            // The order doesn't matter.
            let mut other = candidates.clone();
            other.sort_by_key(|one| blake2b_simd::blake2b(format!("{seed} {}", one.path).as_bytes()).as_bytes().to_vec());
            prop_assert_eq!(&sort_out(&rules, other, &use_of, NOW), &sorted);
            prop_assert_eq!(sorted.kept.len() + sorted.unneeded.len(), candidates.len());
            for (gone, _) in &sorted.unneeded {
                let siblings: Vec<_> = candidates.iter().filter(|one| one.path.parent() == gone.path.parent()).collect();
                prop_assert!(use_of.by(gone.path.suffix()).is_none(), "what is in use is never removed");
                let kept = siblings.iter().filter(|one| sorted.kept.contains_key(&one.path)).count();
                prop_assert!(kept >= rules.keep_min_directories.max(1));
                prop_assert!(siblings.iter().any(|one| one.rank >= gone.rank && one.path != gone.path), "never the newest");
            }
            // To apply them again to what was kept changes nothing.
            let left = candidates.into_iter().filter(|one| sorted.kept.contains_key(&one.path)).collect();
            prop_assert!(sort_out(&rules, left, &use_of, NOW).unneeded.is_empty());
        }
    }
}
