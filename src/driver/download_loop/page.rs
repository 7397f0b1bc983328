//! What a node says is visible on it: its `/status.json`, as far as a reader needs it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::Deserialize;

use crate::driver::ws;
use crate::engine::download::Page;
use crate::model::ids::MachineId;
use crate::model::peer::Host;

#[derive(Deserialize)]
struct Status {
    machine_id: String,
    hostname: Box<str>,
    #[serde(default)]
    directories: BTreeSet<Box<str>>,
    #[serde(default)]
    paths: Vec<Entry>,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Entry {
    path: Box<str>,
    visible: Option<String>,
}

#[derive(Deserialize)]
struct Member {
    address: SocketAddr,
    #[serde(default)]
    directories: BTreeSet<Box<str>>,
    #[serde(default)]
    state: String,
}

/// Asks a node.
pub(super) async fn fetch(address: SocketAddr) -> Result<Page, String> {
    let text = ws::fetch(address, "/status.json").await.map_err(|error| error.to_string())?;
    parse(&text)
}

fn parse(text: &[u8]) -> Result<Page, String> {
    let status: Status =
        serde_json::from_slice(text).map_err(|error| format!("its status page isn't one of ciruela: {error}"))?;
    let machine_id = status.machine_id.parse::<MachineId>().ok();
    let visible = |entry: Entry| Some((entry.path, entry.visible?.parse().ok()?));
    let alive = status.members.into_iter().filter(|member| member.state == "alive");
    Ok(Page {
        host: machine_id.map(|machine_id| Host { machine_id, hostname: status.hostname }),
        directories: status.directories,
        visible: status.paths.into_iter().filter_map(visible).collect(),
        members: alive.map(|member| (member.address, member.directories)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible_is_taken() {
        let (id, machine) = ("ab".repeat(32), "01".repeat(16));
        let text = format!(
            r#"{{"version": "9", "machine_id": "{machine}", "hostname": "n1", "directories": ["k"], "more": {{}},
                "paths": [{{"path": "/k/a", "visible": "{id}", "image": null}}, {{"path": "/k/b", "visible": null}}],
                "members": [{{"address": "10.0.0.1:5", "state": "alive", "directories": ["k"]}},
                            {{"address": "10.0.0.2:5", "state": "down", "directories": ["k"]}}]}}"#
        );
        let page = parse(text.as_bytes()).expect("a page");
        assert_eq!(page.visible.into_iter().collect::<Vec<_>>(), [("/k/a".into(), id.parse().expect("an id"))]);
        assert_eq!(page.host.expect("named").hostname.as_ref(), "n1");
        assert_eq!(page.members.len(), 1);
        assert!(parse(b"<html>").expect_err("no JSON").contains("isn't one of ciruela"));
    }
}
