//! Machines that the client isn't connected to, as those tell that it is connected to.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

#[test]
fn every_machine_is_followed() {
    let place = Place::new();
    let node = || fake(1, Play::Follow(vec![(4, "done"), (5, "already"), (6, "down")]));
    let said = place.sync(&[], &[&node()]);
    said.expect(0, &["done on 3 of 4 machines, 1 down", "node4 (10.0.0.4:1): /k/x: done", "3 machines in "]);
    said.expect(0, &["node6 (10.0.0.6:1): DOWN: the other machines don't hear from it; it will catch up"]);
    let said = place.sync(&["--json"], &[&node()]);
    said.expect(0, &[]);
    let finished = &said.events("finished")[0];
    assert_eq!(finished["nodes"].as_array().map(Vec::len), Some(4));
    assert_eq!(finished["nodes"][2]["paths"]["/k/x"]["result"], "already");
    assert_eq!(finished["nodes"][3]["down"], true);
    let told = |kind: &str| said.events(kind).iter().filter(|event| event["hostname"] == "node4").count();
    assert_eq!((told("progress"), told("ended")), (1, 1));
}

#[test]
fn a_failure_elsewhere_is_named() {
    let place = Place::new();
    let said = place.sync(&[], &[&fake(1, Play::Follow(vec![(4, "done"), (5, "failed")]))]);
    said.expect(
        3,
        &["REFUSED, done on 2 of 3 machines", "node5 (10.0.0.5:1): /k/x: GAVE UP (failed): the disk is broken"],
    );
}

#[test]
fn many_machines_have_a_line_together() {
    let place = Place::new();
    let others = (2..=40).map(|n| (n, if n == 7 { "down" } else { "done" })).collect();
    let said = place.sync(&[], &[&fake(1, Play::Follow(others))]);
    said.expect(0, &["done on 39 of 40 machines, 1 down", "node7 (10.0.0.7:1): DOWN", "and 38 more machines: done"]);
    assert!(!said.err.lines().any(|line| line.starts_with("  node8 ")), "{}", said.err);
}

#[test]
fn interrupted_when_it_is_safe() {
    let place = Place::new();
    let node = fake(1, Play::Hold(4));
    let mut child = place.start(&["--json"], &[&node]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    let safe = lines
        .find(|line| line.as_ref().is_ok_and(|line| line.contains("\"safe\"") && line.contains("\"event\":\"safe\"")));
    assert!(safe.expect("it says so").expect("UTF-8").contains("true"));
    let id = i32::try_from(child.id()).expect("a process id");
    kill_process(Pid::from_raw(id).expect("positive"), Signal::INT).expect("it is ours");
    let rest: Vec<_> = lines.map(|line| line.expect("UTF-8")).collect();
    assert!(rest.iter().any(|line| line.contains("\"ending\":\"left\"")), "{rest:?}");
    said(child.wait_with_output().expect("ends")).expect(0, &[]);
}
