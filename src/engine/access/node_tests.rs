//! Changes from other nodes: one row for each reason, and that order never matters.

use proptest::prelude::*;

use super::tests::{NOW, change, config, image, signed, signed_by};
use super::*;

fn decision(change: &SignedChange, head: Option<&SignedChange>, now: Stamp) -> Decision {
    let head = head.map(|head| Head { change: head, id: change::id(&head.change), committed: true, gone: false });
    decide_from_node(change, &config(), Some("prod"), head, now)
}

fn word(change: &SignedChange, head: Option<&SignedChange>) -> &'static str {
    let verdict = decision(change, head, NOW).verdict;
    verdict.reject_word().unwrap_or(verdict.word())
}

#[test]
fn who_signed_what_is_checked_as_for_clients() {
    let now = NOW.0;
    let elsewhere = Change { cluster: Some("staging".into()), ..change(Verb::Append, "/append/a", 1, now) };
    for (expected, change) in [
        ("accept", signed(change(Verb::Append, "/append/a", 1, now))),
        ("accept", signed_by(2, Scheme::Legacy, change(Verb::Append, "/legacy/a", 1, now))),
        ("no_config", signed(change(Verb::Append, "/nowhere/a", 1, now))),
        ("config_level_mismatch", signed(change(Verb::Append, "/append/a/b", 1, now))),
        ("signature_mismatch", signed_by(3, Scheme::V2, change(Verb::Append, "/append/a", 1, now))),
        ("signature_mismatch", signed_by(2, Scheme::Legacy, change(Verb::Append, "/append/a", 1, now))),
        ("wrong_cluster", signed(elsewhere)),
        ("stamp_in_future", signed(change(Verb::Append, "/append/a", 1, now + 600_001))),
        ("malformed", signed(change(Verb::Delete, "/replace/a", 1, now))),
    ] {
        assert_eq!(word(&change, None), expected, "{:?}", change.change);
    }
}

#[test]
fn what_was_admitted_is_taken_by_stamp_alone() {
    let now = NOW.0;
    let append = |path, n, stamp| signed(change(Verb::Append, path, n, stamp));
    let restoring = |path, n, stamp| signed(Change { old_image: image(n), ..change(Verb::Append, path, n, stamp) });
    let delete =
        |path, n, stamp| signed(Change { image: None, old_image: image(n), ..change(Verb::Delete, path, n, stamp) });
    let old = |n| signed(Change { old_image: image(9), ..change(Verb::Replace, "/replace/a", n, now) });
    for (expected, change, head) in [
        ("have", append("/append/a", 1, now), append("/append/a", 1, now)),
        ("accept", append("/append/a", 2, now - 5), append("/append/a", 1, now)),
        ("stale", append("/append/a", 2, now), append("/append/a", 1, now - 5)),
        ("accept", append("/replace/a", 2, now), append("/replace/a", 1, now - 5)),
        ("stale", append("/replace/a", 2, now - 5), append("/replace/a", 1, now)),
        // Whatever it wanted to replace, and the same image by another change.
        ("accept", old(2), append("/replace/a", 1, now - 5)),
        ("accept", append("/replace/a", 1, now), append("/replace/a", 1, now - 5)),
        ("stale", append("/append/a", 1, now), append("/append/a", 1, now - 5)),
        // What restores goes before the others, and the later of two.
        ("accept", restoring("/append/a", 1, now), append("/append/a", 1, now - 5)),
        ("accept", restoring("/append/a", 1, now), append("/append/a", 2, now - 5)),
        ("accept", restoring("/append/a", 1, now), restoring("/append/a", 1, now - 5)),
        ("stale", append("/append/a", 2, now - 5), restoring("/append/a", 1, now)),
        ("stale", restoring("/append/a", 1, now - 5), restoring("/append/a", 2, now)),
        ("stale", restoring("/replace/a", 1, now - 5), append("/replace/a", 2, now)),
        // So do removals, and what comes in the place of what was removed.
        ("accept", delete("/append/a", 1, now - 9), append("/append/a", 1, now - 5)),
        ("accept", delete("/append/a", 2, now - 9), append("/append/a", 1, now - 5)),
        ("stale", append("/append/a", 2, now), delete("/append/a", 1, now - 5)),
        ("stale", restoring("/append/a", 1, now - 9), delete("/append/a", 1, now - 5)),
        ("accept", signed(change(Verb::Replace, "/append/a", 1, now)), delete("/append/a", 1, now - 5)),
        ("stale", delete("/replace/a", 1, now - 9), append("/replace/a", 1, now - 5)),
        ("accept", append("/replace/a", 1, now), delete("/replace/a", 1, now - 5)),
        ("have", delete("/append/a", 1, now), delete("/append/a", 1, now)),
        // From before the directory became append-only.
        ("accept", signed(change(Verb::Replace, "/append/a", 1, now - 5)), append("/append/a", 2, now)),
    ] {
        assert_eq!(word(&change, Some(&head)), expected, "{:?} {:?}", change.change, head.change);
    }
}

#[test]
fn only_checked_signatures_go_on() {
    let mut change = signed(change(Verb::Append, "/append/a", 1, NOW.0));
    let kept = change.signatures.clone();
    change.merge(&signed_by(3, Scheme::V2, change.change.clone()).signatures);
    assert_eq!(decision(&change, None, NOW).verified.signatures, kept);
}

/// Delivers the changes to a node in that order, as (number, of how many).
fn head_after<'a>(changes: impl Iterator<Item = &'a SignedChange>) -> Option<SignedChange> {
    let mut head: Option<SignedChange> = None;
    for change in changes {
        if decision(change, head.as_ref(), NOW).verdict == Verdict::Accept {
            head = Some(change.clone());
        }
    }
    head
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// I1: whatever came in whatever order, however often, the head is the same.
    #[test]
    fn any_order_gives_the_same_head(
        append_only in any::<bool>(),
        changes in prop::collection::vec((1_u8..4, 0_u64..4, 0..4_u8), 1..6),
        orders in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..10), 2..4),
    ) {
        let path = if append_only { "/append/a" } else { "/replace/a" };
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(n, age, kind)| {
                let plain = |verb| change(verb, path, n, NOW.0 - age);
                signed(match kind {
                    0 => plain(Verb::Append),
                    1 => plain(Verb::Replace),
                    2 => Change { old_image: image(n), ..plain(Verb::Append) },
                    _ => Change { image: None, old_image: image(n), ..plain(Verb::Delete) },
                })
            })
            .collect();
        let expected = head_after(changes.iter());
        for order in orders {
            // Any of them any number of times, then all of them backwards.
            let some = order.iter().map(|at| at.get(&changes));
            prop_assert_eq!(&head_after(some.chain(changes.iter().rev())), &expected);
        }
    }

    #[test]
    fn wins_is_a_strict_total_order(append in any::<bool>(), keys in prop::array::uniform3((0_u64..3, 0_u8..3, any::<bool>()))) {
        let config = config();
        let directory = &config.directories[if append { "append" } else { "replace" }];
        let [a, b, c] = keys.map(|(stamp, id, overrides)| Rank { stamp: Stamp(stamp), id: ChangeId::new([id; 32]), overrides });
        prop_assert!(!wins(directory, a, a));
        prop_assert_eq!(a != b, wins(directory, a, b) != wins(directory, b, a));
        prop_assert!(!(wins(directory, a, b) && wins(directory, b, c)) || wins(directory, a, c));
    }
}
