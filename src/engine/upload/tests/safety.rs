//! When the client may go away.

use bytes::Bytes;

use super::*;

impl World {
    /// Node `n` has these of ten pieces.
    pub(super) fn tell_pieces(&mut self, n: u8, pieces: &[u32]) {
        let mut have = [0_u8; 2];
        for piece in pieces {
            have[(piece / 8) as usize] |= 1 << (piece % 8);
        }
        let have = Bytes::copy_from_slice(&have);
        self.hear(n, Notification::Cluster(Notice::Pieces { image: image(1), count: 10, have }));
    }

    pub(super) fn tell_have(&mut self, n: u8, pieces: &[u32]) {
        let pieces = pieces.to_vec();
        self.hear(n, Notification::Cluster(Notice::Have { image: image(1), pieces }));
    }

    fn is_safe(&self) -> bool {
        self.engine.status().safe
    }
}

#[test]
fn all_pieces_together() {
    let mut world = World::accepted(&[1, 2], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "fetch"), (3, "fetch")]);
    world.tell_have(1, &[0, 1]);
    assert_eq!(world.engine.status().held, (0, 0), "of how many isn't known");
    world.tell_pieces(1, &[0, 1, 2, 3, 4]);
    world.tell_pieces(2, &[4, 5]);
    world.tell_have(2, &[6, 7, 8, 77]);
    assert_eq!((world.is_safe(), world.engine.status().held), (false, (9, 10)));
    world.tell_have(1, &[9]);
    assert!(world.is_safe());
    assert_eq!(world.events.iter().filter(|event| matches!(event, Event::Safe { safe: true })).count(), 1);
    // What one alone has goes with it.
    world.lose(2);
    assert!(!world.is_safe());
    assert_eq!(world.events.last(), Some(&Event::Safe { safe: false }));
    world.tell(Input::Interrupted);
    assert_eq!(world.ending(), Some(&Ending::Interrupted));
    assert_eq!(world.end.expect("ended").held, (6, 10));
}

#[test]
fn whoever_is_done_has_all() {
    let mut world = World::accepted(&[1, 2], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "fetch"), (3, "fetch")]);
    world.outcome(1, 1, "done");
    assert!(world.is_safe());
    world.tell(Input::Interrupted);
    assert_eq!(world.ending(), Some(&Ending::Left));

    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 3, &[(1, "fetch"), (2, "done"), (3, "failed")]);
    assert!(world.is_safe());
    world.tell(Input::Interrupted);
    assert_eq!(world.ending(), Some(&Ending::Refused), "one has failed");

    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 2, &[(1, "fetch"), (2, "fetch")]);
    world.hear(1, Notification::Cluster(Notice::Pieces { image: image(1), count: 0, have: Bytes::new() }));
    assert!(world.is_safe(), "no count is all of them");
}

/// Two machines which don't hear each other: each needs all of it, whatever the other has.
#[test]
fn machines_of_two_clusters() {
    let mut world = World::accepted(&[1, 2], rules());
    world.tell_nodes(1, 1, &[(1, "fetch")]);
    world.tell_nodes(2, 1, &[(2, "fetch")]);
    world.tell_pieces(1, &[0, 1, 2, 3, 4]);
    world.tell_pieces(2, &[5, 6, 7, 8, 9]);
    assert_eq!((world.is_safe(), world.engine.status().held), (false, (10, 10)));
    world.outcome(1, 1, "done");
    assert!(!world.is_safe());
    world.tell_have(2, &[0, 1, 2, 3, 4]);
    assert!(world.is_safe());
}

/// What a machine keeps instead is of no use to others.
#[test]
fn other_content_holds_nothing() {
    let mut world = World::new(vec![Upload { weak: true, ..upload(1) }], rules());
    world.found(&[1, 2]);
    world.connect(1);
    world.connect(2);
    world.answer(1, 1, |answer| {
        answer.verdict = VerdictWord::Refused;
        answer.reject_reason = Some("already_exists".to_owned());
    });
    world.accept(2, 1);
    world.tell_nodes(2, 1, &[(2, "fetch")]);
    assert!(!world.is_safe());
}

#[test]
fn machines_that_pass_nothing_on_make_nothing_safe() {
    let mut world = World::accepted(&[1, 2], rules());
    world.outcome(1, 1, "done");
    assert!(!world.is_safe());
    world.tell(Input::Interrupted);
    assert_eq!(world.ending(), Some(&Ending::Interrupted));
}

#[test]
fn pieces_that_can_not_be() {
    let mut world = World::accepted(&[1], rules());
    world.tell_nodes(1, 2, &[(1, "fetch"), (2, "fetch")]);
    for (count, len) in [(10, 1), (10, 3), (u32::MAX, 2), (1_000_000, 125_000)] {
        let have = Bytes::from(vec![0xff; len]);
        world.hear(1, Notification::Cluster(Notice::Pieces { image: image(1), count, have }));
        assert_eq!((world.is_safe(), world.engine.status().held), (false, (0, 0)), "{count} in {len} bytes");
    }
}
