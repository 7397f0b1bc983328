//! Who asks the client for what.

use super::*;

/// The shares of an image by node: number and of how many.
fn shares(world: &World, image: ImageId) -> Vec<(u8, u32, u32)> {
    let of_image = world.shares.iter().filter(|((_, one), _)| *one == image);
    of_image.map(|((node, _), (index, of))| (*node, *index, *of)).collect()
}

#[test]
fn nodes_that_accept_divide_the_image() {
    let mut world = World::new(vec![upload(1), upload(2)], rules());
    world.found(&[1, 2, 3]);
    for n in [1, 2, 3] {
        world.connect(n);
    }
    assert!(world.shares.is_empty(), "nobody took anything yet");
    world.accept(1, 1);
    world.accept(2, 1);
    assert_eq!(shares(&world, image(1)), [(1, 0, 2), (2, 1, 2)]);
    world.answer(3, 1, |answer| (answer.verdict, answer.done) = (VerdictWord::Have, true));
    assert_eq!(shares(&world, image(1)), [(1, 0, 2), (2, 1, 2)], "one that has it all needs none");
    world.accept(2, 2);
    world.reject(3, 2, "signature_mismatch");
    assert_eq!(shares(&world, image(2)), [(2, 0, 1)]);
    // One that is done has its share.
    world.outcome(1, 1, "done");
    assert_eq!(shares(&world, image(1)), [(1, 0, 2), (2, 1, 2)]);
}

#[test]
fn what_a_lost_node_had_to_ask_for_goes_to_the_others() {
    let mut world = World::accepted(&[1, 2, 3], rules());
    assert_eq!(shares(&world, image(1)), [(1, 0, 3), (2, 1, 3), (3, 2, 3)]);
    world.shares.clear();
    world.lose(2);
    assert_eq!(shares(&world, image(1)), [(1, 0, 2), (3, 1, 2)]);
    world.pass(0.25);
    world.connect(2);
    assert_eq!(shares(&world, image(1)), [(1, 0, 2), (3, 1, 2)], "not before it took it again");
    world.answer(2, 1, |answer| answer.verdict = VerdictWord::Have);
    assert_eq!(shares(&world, image(1)), [(1, 0, 3), (2, 1, 3), (3, 2, 3)]);
    // Reconnected before the loss was noticed: the new connection is told.
    world.shares.clear();
    world.outcome(1, 1, "done");
    world.outcome(3, 1, "done");
    world.lose(1);
    assert_eq!(shares(&world, image(1)), [(2, 0, 2), (3, 1, 2)]);
}

#[test]
fn each_is_told_what_another_one_has() {
    let mut world = World::accepted(&[1, 2, 3, 4], Rules { initial_connections: 4, ..rules() });
    // The fourth is of another cluster.
    for n in [1, 2] {
        world.tell_nodes(n, 3, &[(1, "fetch"), (2, "fetch"), (3, "fetch")]);
    }
    world.tell_nodes(4, 1, &[(4, "fetch")]);
    let given = |world: &mut World| std::mem::take(&mut world.given);
    world.tell_pieces(1, &[0, 1]);
    assert_eq!(given(&mut world), [(2, vec![0, 1]), (3, vec![0, 1])]);
    world.tell_pieces(2, &[1, 4]);
    assert_eq!(given(&mut world), [(1, vec![4]), (3, vec![4]), (2, vec![0, 1])], "it may not have listened before");
    world.tell_have(1, &[0, 2, 77]);
    assert_eq!(given(&mut world), [(2, vec![0, 2]), (3, vec![0, 2])], "what can be");
    world.tell_have(2, &[2]);
    world.tell_have(4, &[5]);
    assert!(given(&mut world).is_empty(), "the first was told already, and of the fourth they hear nothing");
    // Who is lost may have been the only one.
    world.lose(1);
    assert_eq!(given(&mut world), [(3, vec![1, 2, 4])]);
}
