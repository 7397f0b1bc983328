//! What is to be seen on a terminal.

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::gate::Gate;
use crate::terminal::Terminal;

/// Bytes that pass before the upload is held.
const PASSED_BYTES: usize = 2 << 20;

impl Place {
    /// `sync` of the tree to a node that gets no more than a part of it, on a terminal with so many columns.
    fn held(&self, columns: u16, node: &Fake, more: &[&str]) -> (Terminal, Gate) {
        let gate = Gate::new(node.address, PASSED_BYTES);
        let address = gate.address.to_string();
        let args = [&["sync", "-m", "--append", "TREE:/k/x", "-t", "60s"], more, &[address.as_str()]].concat();
        let terminal = Terminal::start(self.command(&args), columns);
        gate.wait_until_held();
        (terminal, gate)
    }
}

/// The lines below the introduction.
fn below(lines: &[String]) -> &[String] {
    let at = lines.iter().position(|line| line.starts_with("signing with")).map_or(lines.len(), |at| at + 1);
    &lines[at..]
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[test]
fn lines_move_and_go_away() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let (mut terminal, gate) = place.held(120, &node, &[]);
    let address = gate.address.to_string();
    terminal.wait_until(|lines| {
        let [first, second, ..] = below(lines) else { return false };
        first.contains("/s, ")
            && first.contains("MiB sent, done on 0 of 1 machine, 1 at work")
            && *second == format!("  node1 ({address}): /k/x: accepted")
    });
    // Nothing passes: the rate falls, and the same lines tell it.
    terminal.wait_until(|lines| below(lines).first().is_some_and(|line| line.starts_with("0 B/s")));
    terminal.wait_until(|lines| below(lines).len() == 2);
    gate.open();
    let (status, lines) = terminal.end();
    assert!(status.success(), "{lines:?}");
    let [headline, node, score, rest @ ..] = below(&lines) else { panic!("{lines:?}") };
    assert!(headline.starts_with(&format!("{address}: done on 1 of 1 machine (")), "{lines:?}");
    assert!(node.starts_with(&format!("  node1 ({address}): /k/x: done, ")), "{lines:?}");
    assert!(score.starts_with("1 machine in ") && rest.iter().all(String::is_empty), "{lines:?}");
}

#[test]
fn narrow_terminals_cut_lines() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let (mut terminal, gate) = place.held(30, &node, &[]);
    let moving = |line: &String| line.contains("/s, ");
    terminal.wait_until(|lines| lines.iter().any(moving));
    terminal.wait_until(|lines| lines.iter().any(|line| line.starts_with("0 B/s")));
    // It may be seen while it is drawn again.
    terminal.wait_until(|lines| {
        let Some(at) = lines.iter().position(moving) else { return false };
        lines.len() == at + 2 && lines[at + 1].starts_with("  node1")
    });
    gate.open();
    let (status, lines) = terminal.end();
    assert!(status.success() && !lines.iter().any(moving), "{lines:?}");
}

#[test]
fn what_is_said_meanwhile_stands_above() {
    let place = Place::new();
    let node = fake(1, Play::Take);
    let dead = dead_address().to_string();
    let (mut terminal, _gate) = place.held(120, &node, &[&dead]);
    let warning = format!("warning: {dead} can't be reached, trying again: nothing listens at {dead}");
    terminal.wait_until(|lines| {
        let [first, second, machines @ ..] = below(lines) else { return false };
        *first == warning && second.contains("2 at work") && has(machines, &dead) && has(machines, "node1")
    });
    // It counts as down after a while, and isn't at work.
    terminal.wait_until(|lines| has(below(lines), "done on 0 of 2 machines, 1 at work, 1 down"));
    kill_process(Pid::from_raw(terminal.id()).expect("positive"), Signal::INT).expect("it is ours");
    let (status, lines) = terminal.end();
    assert_eq!(status.code(), Some(130), "{lines:?}");
    assert!(has(&lines, "INTERRUPTED") && !has(&lines, "/s, "), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| **line == warning).count(), 1, "{lines:?}");
}
