//! What nodes say to changes.

use super::*;
use crate::model::origins::Origins;

#[test]
fn everything_is_submitted_to_everyone_once() {
    let same_image = Upload { path: "/key/3".parse().expect("valid"), ..upload(1) };
    let replace = Upload { verb: Verb::Replace, old_image: Some(image(7)), ..upload(2) };
    let rules = Rules { cluster: Some("c".into()), ..rules() };
    let mut world = World::new(vec![upload(1), replace, same_image], rules);
    world.found(&[1, 2]);
    world.connect(1);
    world.connect(2);
    assert_eq!(world.submitted.len(), 6);
    assert_eq!(world.published, [(1, image(1)), (1, image(2)), (2, image(1)), (2, image(2))]);
    let change = &world.asked(2, 2).change;
    assert_eq!((change.verb, change.old_image, change.image), (Verb::Replace, Some(image(7)), Some(image(2))));
    assert_eq!((change.cluster.as_deref(), change.stamp), (Some("c"), Stamp(CLOCK_AT_START)));
    assert_eq!(world.asked(1, 2), world.asked(2, 2), "one change for all");
}

#[test]
fn nothing_is_submitted_before_it_is_signed() {
    let mut world = World::new(vec![upload(1)], rules());
    world.by_hand = true;
    world.engine = Uploads::new(vec!["cluster".to_owned()], vec![upload(1)], rules(), 1);
    world.tell(Input::Start);
    world.found(&[1]);
    world.connect(1);
    assert!(world.submitted.is_empty());
    let (upload, change) = world.to_sign.pop().expect("to be signed");
    world.tell(Input::Signed { upload, result: Ok(SignedChange::new(change, Vec::new())) });
    assert_eq!(world.submitted.len(), 1);
}

#[test]
fn keys_that_fail() {
    let mut world = World::new(vec![upload(1)], rules());
    world.tell(Input::Signed { upload: 0, result: Err("the agent says no".to_owned()) });
    assert_eq!(world.ending(), Some(&Ending::NotSigned("the agent says no".to_owned())));
}

#[test]
fn refused_by_one_of_three() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2, 3]);
    for n in [1, 2] {
        world.connect(n);
        world.accept(n, 1);
    }
    world.connect(3);
    world.answer(3, 1, |answer| {
        answer.verdict = VerdictWord::Refused;
        answer.reject_reason = Some("signature_mismatch".to_owned());
        answer.detail = Some("no signature fits".to_owned());
        answer.accepted_keys = vec!["master".to_owned()];
    });
    assert_eq!(world.ending(), None, "the others go on");
    world.outcome(1, 1, "done");
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Refused));
    let expected = Refused {
        word: "signature_mismatch".to_owned(),
        detail: "no signature fits".to_owned(),
        accepted_keys: vec!["master".to_owned()],
        signed: Some(Stamp(CLOCK_AT_START)),
        ..Refused::default()
    };
    assert_eq!(world.result(3), UploadResult::Refused(expected));
}

#[test]
fn refused_by_all_ends_at_once() {
    for require_all in [false, true] {
        let mut world = World::new(vec![upload(1)], Rules { require_all, ..rules() });
        world.found(&[1, 2]);
        for n in [1, 2] {
            world.connect(n);
            world.reject(n, 1, "signature_mismatch");
        }
        assert_eq!((world.ending(), world.time), (Some(&Ending::Refused), Duration::ZERO));
    }
}

#[test]
fn a_refusal_outweighs_the_deadline() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.connect(1);
    world.reject(1, 1, "dir_is_append_only");
    world.connect(2);
    world.accept(2, 1);
    world.pass(1800.0);
    assert_eq!(world.ending(), Some(&Ending::Refused));
}

#[test]
fn given_up_by_a_node() {
    let mut world = World::accepted(&[1], rules());
    world.outcome(1, 1, "superseded");
    assert_eq!(world.ending(), Some(&Ending::Refused));
    let reason = "superseded".to_owned();
    assert_eq!(world.result(1), UploadResult::Aborted { result: reason.clone(), reason });
}

#[test]
fn how_another_change_ended_concerns_nobody_here() {
    let other = ChangeId::new([0xee; 32]);
    for result in ["superseded", "failed"] {
        let mut world = World::accepted(&[1], rules());
        world.outcome_of(1, 1, other, result);
        assert_eq!(world.ending(), None, "{result}");
        world.outcome(1, 1, "done");
        assert_eq!(world.ending(), Some(&Ending::Done));
        // Whose change made the image visible doesn't matter.
        let mut world = World::accepted(&[1], rules());
        world.outcome_of(1, 1, other, "done");
        assert_eq!(world.ending(), Some(&Ending::Done));
        // The node goes on with a change which it had already.
        let mut world = World::new(vec![upload(1)], rules());
        world.found(&[1]);
        world.connect(1);
        world.answer(1, 1, |answer| answer.verdict = VerdictWord::Have);
        world.outcome_of(1, 1, other, result);
        assert_eq!(world.ending(), Some(&Ending::Refused));
    }
}

#[test]
fn an_earlier_change_of_ours_counts() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    for n in [1, 2] {
        world.connect(n);
    }
    world.accept(1, 1);
    let first = change::id(&world.asked(1, 1).change);
    world.answer(2, 1, |answer| {
        answer.verdict = VerdictWord::Superseded;
        answer.stamp = Some(Stamp(CLOCK_AT_START + 5_000));
    });
    world.accept(2, 1);
    world.outcome_of(1, 1, first, "failed");
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Refused), "it took that change and failed");
}

#[test]
fn an_error_is_a_refusal() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    world.respond(1, 1, Response::Error("the change could not be written down".to_owned()));
    assert_eq!(world.ending(), Some(&Ending::Refused));
}

#[test]
fn weak_appends_are_content_with_anything() {
    for word in ["already_exists", "already_uploading_different_version"] {
        let mut world = World::new(vec![Upload { weak: true, ..upload(1) }], rules());
        world.found(&[1]);
        world.connect(1);
        world.answer(1, 1, |answer| {
            answer.verdict = VerdictWord::Refused;
            answer.reject_reason = Some(word.to_owned());
            answer.current = Some(image(9));
        });
        assert_eq!(world.ending(), Some(&Ending::Done));
        assert_eq!(
            world.result(1),
            UploadResult::Kept(Kept { current: Some(image(9)), coming: word != "already_exists" })
        );
        let mut world = World::new(vec![upload(1)], rules());
        world.found(&[1]);
        world.connect(1);
        world.reject(1, 1, word);
        assert_eq!(world.ending(), Some(&Ending::Refused));
    }
    let mut world = World::new(vec![Upload { weak: true, ..upload(1) }], rules());
    world.found(&[1]);
    world.connect(1);
    world.reject(1, 1, "signature_mismatch");
    assert_eq!(world.ending(), Some(&Ending::Refused));
}

/// Somebody else's files are at the path: that is an end, and one that `--append-weak` likes.
#[test]
fn what_no_change_has_put_there() {
    for weak in [false, true] {
        let mut world = World::new(vec![Upload { weak, ..upload(1) }], rules());
        world.found(&[1]);
        world.connect(1);
        world.accept(1, 1);
        world.outcome(1, 1, "occupied");
        if weak {
            assert_eq!(world.ending(), Some(&Ending::Done));
            assert_eq!(world.result(1), UploadResult::Kept(Kept::default()));
        } else {
            assert_eq!(world.ending(), Some(&Ending::Refused));
        }
    }
}

fn superseded(world: &mut World, n: u8, head: u64) {
    world.answer(n, 1, |answer| {
        answer.verdict = VerdictWord::Superseded;
        answer.reject_reason = Some("stale".to_owned());
        answer.stamp = Some(Stamp(head));
    });
}

#[test]
fn what_is_there_was_signed_by_a_fast_clock() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2, 3]);
    for n in [1, 2, 3] {
        world.connect(n);
    }
    let head = CLOCK_AT_START + 60_000;
    superseded(&mut world, 1, head);
    // The others' answers to the first change come when the second one is on its way.
    superseded(&mut world, 2, head);
    superseded(&mut world, 3, head);
    let again = |event: &&Event| matches!(event, Event::SignedAgain { .. });
    assert_eq!(world.events.iter().filter(again).count(), 1);
    for n in [1, 2, 3] {
        assert_eq!(world.asked(n, 1).change.stamp, Stamp(head + 1));
        world.accept(n, 1);
        world.outcome(n, 1, "done");
    }
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn fast_clocks_are_followed_a_few_times_only() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    for step in 1..=3 {
        superseded(&mut world, 1, CLOCK_AT_START + step * 60_000);
        assert_eq!(world.ending(), None);
    }
    superseded(&mut world, 1, CLOCK_AT_START + 240_000);
    assert_eq!(world.ending(), Some(&Ending::Refused));
    // A node which calls a later change stale contradicts itself.
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    superseded(&mut world, 1, CLOCK_AT_START + 60_000);
    superseded(&mut world, 1, CLOCK_AT_START + 60_000);
    assert_eq!(world.ending(), Some(&Ending::Refused));
}

#[test]
fn somebody_else_was_later() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    world.pass(5.0);
    superseded(&mut world, 1, CLOCK_AT_START + 3_000);
    assert_eq!(world.ending(), Some(&Ending::Refused));
    let UploadResult::Refused(refused) = world.result(1) else { panic!("not refused") };
    assert_eq!((refused.word.as_str(), refused.stamp), ("stale", Some(Stamp(CLOCK_AT_START + 3_000))));
}

#[test]
fn clocks_too_far_apart_are_told() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1]);
    world.connect(1);
    world.answer(1, 1, |answer| {
        answer.verdict = VerdictWord::Refused;
        answer.reject_reason = Some("stamp_in_future".to_owned());
        answer.stamp = Some(Stamp(5));
    });
    let UploadResult::Refused(refused) = world.result(1) else { panic!("not refused") };
    assert_eq!((refused.stamp, refused.signed), (Some(Stamp(5)), Some(Stamp(CLOCK_AT_START))));
}

#[test]
fn an_outcome_may_overtake_the_verdict() {
    let mut world = World::new(vec![upload(1)], rules());
    world.found(&[1, 2]);
    world.connect(1);
    world.connect(2);
    world.outcome(1, 1, "done");
    world.accept(1, 1);
    assert!(matches!(world.result(1), UploadResult::Done { .. }));
    world.accept(2, 1);
    world.outcome(2, 1, "done");
    assert_eq!(world.ending(), Some(&Ending::Done));
}

#[test]
fn nodes_speak_for_themselves_only() {
    let mut world = World::accepted(&[1, 2], rules());
    let lie = |host: Host, path: &str, image: ImageId, world: &World| Outcome {
        path: path.parse().expect("valid"),
        image: Some(image),
        change: change::id(&world.asked(1, 1).change),
        host,
        result: "done".to_owned(),
        reason: None,
        bytes: Origins::default(),
        sources: Vec::new(),
    };
    for (host, path, image) in
        [(host(2), "/key/1", image(1)), (host(1), "/key/2", image(1)), (host(1), "/key/1", image(2))]
    {
        let outcome = lie(host, path, image, &world);
        world.hear(1, Notification::Outcome(outcome));
    }
    for n in [1, 2] {
        assert!(matches!(world.result(n), UploadResult::Waiting { .. }));
    }
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut world = World::accepted(&[1], rules());
    world.reject(1, 1, "signature_mismatch");
    world.respond(1, 1, Response::Error("again".to_owned()));
    assert_eq!(world.ending(), None);
}
