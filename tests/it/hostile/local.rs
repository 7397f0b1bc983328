//! Users of the machine who put links where the daemon works.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::Setup;
use crate::daemon::tree;
use crate::e2e::wait_for_status;
use crate::gate::Gate;
use crate::publisher::{addresses, to};

fn hostile(entry: &Value) -> bool {
    entry["failure"] == "hostile"
}

#[test]
fn a_link_in_the_place_of_the_staging_directory() {
    for when in ["before the start", "between two deployments", "during one"] {
        let mut setup = Setup::with(66, |daemon| {
            fs::create_dir(daemon.data("outside")).expect("mkdir");
            if when == "before the start" {
                symlink(daemon.data("outside"), daemon.data("data/.ciruela-staging")).expect("symlink");
            }
        });
        let (outside, staging) = (setup.daemon.data("outside"), setup.daemon.data("data/.ciruela-staging"));
        let append = to(&setup.root, "/data/tree");
        let entry_points = addresses(&[&setup.daemon]);
        let client = match when {
            "before the start" => setup.publisher.start(&["--append", &append], &entry_points),
            "between two deployments" => {
                setup.still_serves();
                fs::remove_dir_all(&staging).expect("removed");
                symlink(&outside, &staging).expect("symlink");
                setup.publisher.start(&["--append", &append], &entry_points)
            }
            _ => {
                let gate = Gate::new(setup.daemon.address, 90_000);
                let client = setup.publisher.start(&["--append", &append], &[gate.address.to_string()]);
                gate.wait_until_held();
                wait_for_status(&setup.daemon, "/data/tree", |entry| entry["state"] == "fetch");
                fs::remove_dir_all(&staging).expect("removed");
                symlink(&outside, &staging).expect("symlink");
                gate.open();
                client
            }
        };
        let entry = wait_for_status(&setup.daemon, "/data/tree", hostile);
        assert!(entry["waiting"].as_str().is_some_and(|text| text.contains(".ciruela-staging")), "{entry}");
        assert_eq!(fs::read_dir(&outside).expect("readable").count(), 0, "{when}: written through a link");
        let replace = to(&setup.root, "/conf/other");
        setup.publisher.run(&["--append", &replace], &entry_points).expect(0);
        fs::remove_file(&staging).expect("removed");
        client.end().expect(0);
        assert_eq!(tree(&setup.daemon.data("data/tree")), tree(&setup.root), "{when}");
        assert_eq!(fs::read_dir(&outside).expect("readable").count(), 0, "{when}: written through a link");
    }
}

#[test]
fn a_link_in_the_place_of_what_is_staged() {
    let mut setup = Setup::with(65, |daemon| {
        fs::create_dir_all(daemon.data("outside/d00")).expect("mkdir");
    });
    let outside = setup.daemon.data("outside");
    let gate = Gate::new(setup.daemon.address, 90_000);
    let append = to(&setup.root, "/data/tree");
    let client = setup.publisher.start(&["--append", &append], &[gate.address.to_string()]);
    gate.wait_until_held();
    wait_for_status(&setup.daemon, "/data/tree", |entry| entry["state"] == "fetch");
    let staging = setup.daemon.data("data/.ciruela-staging");
    let staged = fs::read_dir(&staging).expect("readable").next().expect("one").expect("readable").path();
    fs::remove_dir_all(staged.join("tree")).expect("removed");
    symlink(&outside, staged.join("tree")).expect("symlink");
    gate.open();
    client.end().expect(0);
    assert_eq!(tree(&setup.daemon.data("data/tree")), tree(&setup.root));
    assert_eq!(tree(&outside).len(), 2, "written through a link");
    setup.still_serves();
}

/// A directory on the way to a deeper path.
#[test]
fn a_link_on_the_way_to_the_target() {
    let mut setup = Setup::with(64, |daemon| {
        let directory = daemon.data("deep");
        fs::create_dir(&directory).expect("mkdir");
        fs::create_dir(daemon.data("outside")).expect("mkdir");
        let text = format!("directory: {}\nnum-levels: 2\nupload-keys: [ci]\nappend-only: true\n", directory.display());
        fs::write(daemon.data("conf/configs/deep.yaml"), text).expect("write");
        symlink(daemon.data("outside"), directory.join("a")).expect("symlink");
    });
    let append = to(&setup.root, "/deep/a/tree");
    let client = setup.publisher.start(&["--append", &append], &addresses(&[&setup.daemon]));
    wait_for_status(&setup.daemon, "/deep/a/tree", hostile);
    assert_eq!(fs::read_dir(setup.daemon.data("outside")).expect("readable").count(), 0);
    fs::remove_file(setup.daemon.data("deep/a")).expect("removed");
    client.end().expect(0);
    assert_eq!(tree(&setup.daemon.data("deep/a/tree")), tree(&setup.root));
    setup.still_serves();
}
