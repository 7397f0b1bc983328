//! One row for each reason, and replays.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::format::ssh::SecretKey;
use crate::model::key::Signature;

pub(super) const NOW: Stamp = Stamp(1_800_000_000_000);

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn directory(name: &str, num_levels: usize, append_only: bool, legacy_signatures: bool) -> DirectoryConfig {
    DirectoryConfig {
        num_levels,
        append_only,
        upload_keys: vec!["ci".into()],
        legacy_signatures,
        ..DirectoryConfig::plain(name, format!("/srv/{name}"))
    }
}

pub(super) fn config() -> NodeConfig {
    let key = |n: u8, name: &str| NamedKey { key: secret(n).public_key(), name: name.into() };
    let directories = [
        directory("append", 1, true, false),
        directory("replace", 1, false, false),
        directory("whole", 0, false, false),
        directory("deep", 2, true, false),
        directory("legacy", 1, false, true),
    ];
    NodeConfig {
        directories: directories.into_iter().map(|config| (config.name.clone(), Arc::new(config))).collect(),
        master_keys: vec![key(1, "master")],
        keys: BTreeMap::from([("ci".into(), vec![key(2, "ci (bob)")]), ("other".into(), vec![key(3, "other")])]),
        peers: Vec::new(),
        cluster_key: None,
        rates: crate::model::directory::Rates::default(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as changes hold it")]
pub(super) fn image(n: u8) -> Option<ImageId> {
    Some(ImageId::new([n; 32]))
}

pub(super) fn change(verb: Verb, path: &str, n: u8, stamp: u64) -> Change {
    Change {
        cluster: None,
        verb,
        path: path.parse().expect("valid"),
        image: image(n),
        old_image: None,
        stamp: Stamp(stamp),
    }
}

pub(super) fn signed_by(n: u8, scheme: Scheme, change: Change) -> SignedChange {
    let message = change::signed_bytes(&change, scheme).expect("it can be signed");
    let key = (scheme == Scheme::V2).then(|| secret(n).public_key());
    let signature = Signature { scheme, key, bytes: signature::sign(&secret(n), &message) };
    SignedChange::new(change, vec![signature])
}

pub(super) fn signed(change: Change) -> SignedChange {
    signed_by(2, Scheme::V2, change)
}

/// The word for the verdict, with a head at the path or none.
fn word(change: &SignedChange, head: Option<(&SignedChange, bool)>) -> &'static str {
    let head =
        head.map(|(head, committed)| Head { change: head, id: change::id(&head.change), committed, gone: false });
    let verdict = decide(change, &config(), Some("prod"), head, NOW).verdict;
    verdict.reject_word().unwrap_or(verdict.word())
}

#[test]
fn every_reason_without_a_head() {
    let now = NOW.0;
    let conditional = Change { old_image: image(9), ..change(Verb::Replace, "/replace/a", 1, now) };
    let for_cluster = |name: &str| Change { cluster: Some(name.into()), ..change(Verb::Append, "/append/a", 1, now) };
    let no_image = Change { image: None, ..change(Verb::Append, "/append/a", 1, now) };
    let append_conditional = Change { old_image: image(9), ..change(Verb::Append, "/append/a", 1, now) };
    let table = [
        ("accept", signed(change(Verb::Append, "/append/a", 1, now))),
        ("accept", signed_by(1, Scheme::V2, change(Verb::Append, "/append/a", 1, now))),
        ("accept", signed(change(Verb::Append, "/deep/a/b", 1, now))),
        ("accept", signed(change(Verb::Replace, "/whole", 1, now))),
        ("accept", signed(change(Verb::Replace, "/replace/a", 1, now))),
        ("accept", signed(change(Verb::Append, "/append/a", 1, now + 600_000))),
        ("accept", signed(change(Verb::Append, "/append/a", 1, 0))),
        ("accept", signed(for_cluster("prod"))),
        ("no_config", signed(change(Verb::Append, "/nowhere/a", 1, now))),
        ("config_level_mismatch", signed(change(Verb::Append, "/append", 1, now))),
        ("config_level_mismatch", signed(change(Verb::Append, "/append/a/b", 1, now))),
        ("config_level_mismatch", signed(change(Verb::Append, "/deep/a", 1, now))),
        ("config_level_mismatch", signed(change(Verb::Replace, "/whole/a", 1, now))),
        ("signature_mismatch", signed_by(3, Scheme::V2, change(Verb::Append, "/append/a", 1, now))),
        ("signature_mismatch", SignedChange::new(change(Verb::Append, "/append/a", 1, now), Vec::new())),
        ("signature_mismatch", signed_by(2, Scheme::Legacy, change(Verb::Append, "/append/a", 1, now))),
        ("accept", signed_by(2, Scheme::Legacy, change(Verb::Append, "/legacy/a", 1, now))),
        ("signature_mismatch", signed_by(3, Scheme::Legacy, change(Verb::Append, "/legacy/a", 1, now))),
        ("wrong_cluster", signed(for_cluster("staging"))),
        ("stamp_in_future", signed(change(Verb::Append, "/append/a", 1, now + 600_001))),
        ("stamp_in_future", signed(change(Verb::Append, "/append/a", 1, u64::MAX))),
        ("dir_is_append_only", signed(change(Verb::Replace, "/append/a", 1, now))),
        ("replace_doesnt_match_index", signed(conditional)),
        ("malformed", SignedChange::new(no_image, Vec::new())),
        ("malformed", SignedChange::new(append_conditional, Vec::new())),
        ("malformed", signed(change(Verb::Delete, "/replace/a", 1, now))),
    ];
    for (expected, change) in table {
        assert_eq!(word(&change, None), expected, "{:?}", change.change);
    }
}

#[test]
fn every_reason_with_a_head() {
    let now = NOW.0;
    let append = |path, n, stamp| signed(change(Verb::Append, path, n, stamp));
    let replace = |path, n, stamp| signed(change(Verb::Replace, path, n, stamp));
    let conditional =
        |old, stamp| signed(Change { old_image: image(old), ..change(Verb::Replace, "/replace/a", 2, stamp) });
    let table = [
        ("have", append("/append/a", 1, now), append("/append/a", 1, now - 5), true),
        ("have", append("/append/a", 1, now), append("/append/a", 1, now - 5), false),
        ("have", append("/append/a", 1, now - 9), append("/append/a", 1, now - 5), true),
        ("have", replace("/replace/a", 1, now), append("/replace/a", 1, now - 5), true),
        ("already_exists", append("/append/a", 2, now), append("/append/a", 1, now - 5), true),
        ("already_exists", append("/replace/a", 2, now), append("/replace/a", 1, now - 5), true),
        ("already_uploading_different_version", append("/append/a", 2, now), append("/append/a", 1, now - 5), false),
        ("dir_is_append_only", replace("/append/a", 2, now), append("/append/a", 1, now - 5), true),
        ("accept", replace("/replace/a", 2, now), append("/replace/a", 1, now - 5), true),
        ("accept", replace("/replace/a", 2, now), append("/replace/a", 1, now - 5), false),
        ("stale", replace("/replace/a", 2, now - 6), append("/replace/a", 1, now - 5), true),
        ("accept", conditional(1, now), append("/replace/a", 1, now - 5), true),
        ("replace_doesnt_match_index", conditional(3, now), append("/replace/a", 1, now - 5), true),
        ("stale", conditional(1, now - 6), append("/replace/a", 1, now - 5), true),
    ];
    for (expected, change, head, committed) in table {
        assert_eq!(word(&change, Some((&head, committed))), expected, "{:?} on {:?}", change.change, head.change);
    }
}

#[test]
fn what_was_cleaned_can_come_back() {
    let now = NOW.0;
    let append = |path, n, stamp| signed(change(Verb::Append, path, n, stamp));
    let replace = |n| signed(change(Verb::Replace, "/replace/a", n, now));
    let restoring = |path, n, stamp| signed(Change { old_image: image(n), ..change(Verb::Append, path, n, stamp) });
    for (expected, change, head) in [
        ("have", append("/append/a", 1, now), append("/append/a", 1, now)),
        ("cleaned", append("/append/a", 1, now), append("/append/a", 1, now - 5)),
        ("already_exists", append("/append/a", 2, now), append("/append/a", 1, now - 5)),
        ("replace_doesnt_match_index", restoring("/append/a", 2, now), append("/append/a", 1, now - 5)),
        ("accept", restoring("/append/a", 1, now), append("/append/a", 1, now - 5)),
        ("accept", restoring("/append/a", 1, now), restoring("/append/a", 1, now - 5)),
        ("stale", restoring("/append/a", 1, now - 5), restoring("/append/a", 1, now)),
        ("accept", append("/replace/a", 1, now), append("/replace/a", 1, now - 5)),
        ("accept", append("/replace/a", 2, now), append("/replace/a", 1, now - 5)),
        ("accept", replace(1), append("/replace/a", 1, now - 5)),
        ("stale", append("/replace/a", 1, now - 5), append("/replace/a", 1, now)),
    ] {
        let head = Head { change: &head, id: change::id(&head.change), committed: false, gone: true };
        let verdict = decide(&change, &config(), Some("prod"), Some(head), NOW).verdict;
        assert_eq!(verdict.reject_word().unwrap_or(verdict.word()), expected, "{:?}", change.change);
    }
    // While it is there, nothing has to come back.
    let (head, again) = (append("/append/a", 1, now - 5), restoring("/append/a", 1, now));
    assert_eq!(word(&again, Some((&head, true))), "have");
    // Where nothing is known of it, nothing can.
    assert_eq!(word(&again, None), "replace_doesnt_match_index");
}

#[test]
fn what_is_there_can_be_removed_and_something_be_put_there_again() {
    let now = NOW.0;
    let append = |path, n, stamp| signed(change(Verb::Append, path, n, stamp));
    let replace =
        |path, n, old, stamp| signed(Change { old_image: image(old), ..change(Verb::Replace, path, n, stamp) });
    let delete =
        |path, n, stamp| signed(Change { image: None, old_image: image(n), ..change(Verb::Delete, path, n, stamp) });
    let (a, r) = ("/append/a", "/replace/a");
    for (expected, change, head) in [
        ("accept", delete(a, 1, now), append(a, 1, now - 5)),
        ("accept", delete(a, 1, now - 9), append(a, 1, now - 5)),
        ("accept", delete(r, 1, now), append(r, 1, now - 5)),
        ("stale", delete(r, 1, now - 9), append(r, 1, now - 5)),
        ("replace_doesnt_match_index", delete(a, 2, now), append(a, 1, now - 5)),
        ("replace_doesnt_match_index", delete(r, 2, now), append(r, 1, now - 5)),
        // It is gone already.
        ("have", delete(a, 1, now), delete(a, 1, now - 5)),
        ("have", delete(r, 1, now - 9), delete(r, 1, now - 5)),
        ("accept", delete(a, 2, now), delete(a, 1, now - 5)),
        ("stale", delete(a, 2, now - 9), delete(a, 1, now - 5)),
        // Where only whole directories are added, whoever adds one must know of it.
        ("removed", append(a, 1, now), delete(a, 1, now - 5)),
        ("removed", append(a, 2, now), delete(a, 1, now - 5)),
        ("accept", replace(a, 2, 1, now), delete(a, 1, now - 5)),
        ("accept", replace(a, 1, 1, now), delete(a, 1, now - 5)),
        ("stale", replace(a, 2, 1, now - 9), delete(a, 1, now - 5)),
        ("replace_doesnt_match_index", replace(a, 2, 3, now), delete(a, 1, now - 5)),
        ("dir_is_append_only", signed(change(Verb::Replace, a, 2, now)), delete(a, 1, now - 5)),
        ("accept", delete(a, 2, now), replace(a, 2, 1, now - 5)),
        ("stale", delete(a, 2, now - 9), replace(a, 2, 1, now - 5)),
        ("accept", append(r, 2, now), delete(r, 1, now - 5)),
        ("accept", append(r, 1, now), delete(r, 1, now - 5)),
        ("stale", append(r, 1, now - 9), delete(r, 1, now - 5)),
        ("accept", signed(change(Verb::Replace, r, 2, now)), delete(r, 1, now - 5)),
        ("replace_doesnt_match_index", replace(r, 2, 1, now), delete(r, 1, now - 5)),
    ] {
        assert_eq!(word(&change, Some((&head, false))), expected, "{:?} on {:?}", change.change, head.change);
    }
    assert_eq!(word(&delete(a, 1, now), None), "replace_doesnt_match_index");
    for malformed in [change(Verb::Delete, r, 1, now), Change { image: None, ..change(Verb::Delete, r, 1, now) }] {
        assert_eq!(word(&signed(malformed), None), "malformed");
    }
    assert_eq!(word(&delete("/whole", 1, now), None), "not_removable");
    assert_eq!(
        word(&signed_by(3, Scheme::V2, delete(a, 1, now).change), Some((&append(a, 1, now), true))),
        "signature_mismatch"
    );
}

#[test]
fn a_plan_is_no_change_and_a_change_no_plan() {
    let plan = |change: Change| {
        let message = change::signed_plan_bytes(&change, Scheme::V2).expect("it can be signed");
        let signature = Signature { scheme: Scheme::V2, key: None, bytes: signature::sign(&secret(2), &message) };
        SignedChange::new(change, vec![signature])
    };
    let would = |change: &SignedChange, head: Option<&SignedChange>| {
        let head = head.map(|head| Head { change: head, id: change::id(&head.change), committed: true, gone: false });
        let verdict = decide_plan(change, &config(), Some("prod"), head, NOW);
        verdict.reject_word().unwrap_or(verdict.word())
    };
    let append = |n| change(Verb::Append, "/append/a", n, NOW.0);
    assert_eq!(would(&plan(append(1)), None), "accept");
    assert_eq!(would(&plan(append(2)), Some(&signed(append(1)))), "already_exists");
    assert_eq!(word(&plan(append(1)), None), "signature_mismatch");
    assert_eq!(would(&signed(append(1)), None), "signature_mismatch");
    let legacy = signed_by(2, Scheme::Legacy, change(Verb::Append, "/legacy/a", 1, NOW.0));
    assert_eq!(would(&legacy, None), "signature_mismatch");
}

#[test]
fn equal_stamps_are_ordered_by_change_id() {
    let one = signed(change(Verb::Replace, "/replace/a", 1, NOW.0));
    let other = signed(change(Verb::Replace, "/replace/a", 2, NOW.0));
    let words = [word(&one, Some((&other, true))), word(&other, Some((&one, true)))];
    assert!(words == ["stale", "accept"] || words == ["accept", "stale"], "{words:?}");
}

#[test]
fn replays_do_nothing() {
    let now = NOW.0;
    let old = signed(change(Verb::Replace, "/replace/a", 1, now - 10));
    let new = signed(change(Verb::Replace, "/replace/a", 2, now));
    assert_eq!(word(&old, Some((&new, true))), "stale", "an old replace");

    let append = signed(change(Verb::Append, "/replace/a", 1, now));
    let mut as_replace = append.clone();
    as_replace.change.verb = Verb::Replace;
    assert_eq!(word(&as_replace, None), "signature_mismatch", "an append sent as a replace");

    let mut elsewhere = append.clone();
    elsewhere.change.path = "/replace/b".parse().expect("valid");
    assert_eq!(word(&elsewhere, None), "signature_mismatch", "another path");

    let mut later = append.clone();
    later.change.stamp = Stamp(now + 1);
    assert_eq!(word(&later, None), "signature_mismatch", "a later time");

    let mut other = append.clone();
    other.change.image = image(7);
    assert_eq!(word(&other, None), "signature_mismatch", "another image");

    let mut any_cluster = signed(Change { cluster: Some("prod".into()), ..append.change });
    any_cluster.change.cluster = None;
    assert_eq!(word(&any_cluster, None), "signature_mismatch", "another cluster");
}

#[test]
fn only_checked_signatures_are_kept() {
    let change = change(Verb::Append, "/append/a", 1, NOW.0);
    let mut signed = signed_by(2, Scheme::V2, change.clone());
    signed.merge(&signed_by(3, Scheme::V2, change.clone()).signatures);
    signed.merge(&signed_by(1, Scheme::V2, change).signatures);
    let mut forged = signed.signatures[0];
    forged.bytes.0[0] ^= 1;
    signed.merge(&[forged]);
    assert_eq!(signed.signatures.len(), 4);
    let decision = decide(&signed, &config(), None, None, NOW);
    assert_eq!(decision.verdict, Verdict::Accept);
    let mut keys: Vec<_> = decision.verified.signatures.iter().filter_map(|signature| signature.key).collect();
    keys.sort_unstable();
    let mut expected = vec![secret(1).public_key(), secret(2).public_key()];
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn a_mismatch_names_the_keys_that_would_do() {
    let unknown = signed_by(3, Scheme::V2, change(Verb::Append, "/append/a", 1, NOW.0));
    let Verdict::Refused(Refusal::SignatureMismatch { accepted, legacy }) =
        decide(&unknown, &config(), None, None, NOW).verdict
    else {
        panic!("not a mismatch")
    };
    assert_eq!((accepted, legacy), (vec!["ci (bob)".to_owned(), "master".to_owned()], false));
    let old_form = signed_by(2, Scheme::Legacy, change(Verb::Append, "/append/a", 1, NOW.0));
    let verdict = decide(&old_form, &config(), None, None, NOW).verdict;
    assert!(matches!(verdict, Verdict::Refused(Refusal::SignatureMismatch { legacy: true, .. })), "{verdict:?}");
}
