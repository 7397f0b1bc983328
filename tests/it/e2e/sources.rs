//! Several clients with one image, one of which may lie.

use super::{source, start};
use crate::daemon::tree;
use crate::publisher::{Publisher, addresses, to};
use crate::trees::mixed;

#[test]
fn two_clients_with_one_image() {
    let publisher = Publisher::new(38);
    let daemons = start(&publisher, [38, 39]);
    let all = addresses(&daemons.each_ref());
    let root = source(&publisher, "tree", |root| mixed(root, 3));
    let append = to(&root, "/data/tree");
    let both = [publisher.start(&["--append", &append], &all), publisher.start(&["--append", &append], &all)];
    for client in both {
        client.end().expect(0);
    }
    for daemon in &daemons {
        assert_eq!(tree(&daemon.data("data/tree")), tree(&root));
    }
}
