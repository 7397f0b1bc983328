//! For people: a line for each machine, then what is under way.

use std::time::Duration;

use super::judge::{Judged, Node, Standing};
use super::page::{PathEntry, StatusPage, short};
use crate::client::ui;
use crate::model::limits;
use crate::model::vpath::VPath;

/// The whole text, without a line end at its end.
pub(super) fn text(judged: &Judged, path: Option<&VPath>) -> String {
    let head = match path {
        Some(_) => vec!["MACHINE", "ADDRESS", "STANDING", "IMAGE", "CHANGE", "STATE"],
        None => vec!["MACHINE", "ADDRESS", "VERSION", "UP", "DIRECTORIES"],
    };
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for node in &judged.nodes {
        let hostname = node.hostname.clone().unwrap_or_else(|| "?".to_owned());
        let mut row = vec![hostname, node.address.to_string()];
        match (&node.page, path) {
            (Err(reason), _) => {
                let said = node.member.as_ref().filter(|state| *state != "alive");
                let said = said.map_or_else(String::new, |state| format!(" (the others say: {state})"));
                row.push(format!("UNREACHABLE: {reason}{said}"));
            }
            (Ok(page), None) => row.extend(machine(node, page)),
            (Ok(_), Some(path)) => row.extend(on_path(node, path)),
        }
        rows.push(row);
    }
    let mut lines = aligned(&rows);
    if path.is_none() {
        let words = |entry: &PathEntry| (entry.path.clone(), entry.words());
        lines.extend(listed(judged, "not in place:", |node| Box::new(node.open().map(words))));
        lines.extend(listed(judged, "damaged:", |node| Box::new(node.damaged().map(words))));
        let problem = |(name, why): (&str, &str)| (name.to_owned(), why.to_owned());
        lines.extend(listed(judged, "not cleaned as it should be:", |node| Box::new(node.not_cleaned().map(problem))));
    }
    lines.extend(judged.unresolved.iter().map(|(name, reason)| format!("{name}: NOT FOUND: {reason}")));
    lines.push(summary(judged));
    lines.join("\n")
}

fn machine(node: &Node, page: &StatusPage) -> [String; 3] {
    let up = page.uptime_seconds.map_or_else(|| "?".to_owned(), uptime);
    let directory = |(name, standing): (&String, &Standing)| {
        let count = page.heads.get(name).map_or_else(|| page.paths_of(name).count() as u64, |heads| heads.count);
        format!("{name}: {count} {}", shown(*standing))
    };
    let directories: Vec<_> = node.standing.iter().map(directory).collect();
    let directories = if directories.is_empty() { "none".to_owned() } else { directories.join(", ") };
    [page.version.clone(), up, directories]
}

fn on_path(node: &Node, path: &VPath) -> [String; 4] {
    let standing = node.standing.get(path.as_str());
    let standing = standing.map_or_else(|| "not carried".to_owned(), |standing| shown(*standing));
    let Some(entry) = node.entry(path) else { return [standing, "-".to_owned(), "-".to_owned(), "-".to_owned()] };
    let image = entry.image.as_deref().map_or_else(|| "-".to_owned(), short);
    [standing, image, short(&entry.change), entry.words()]
}

/// What somebody should look at is in capitals.
fn shown(standing: Standing) -> String {
    match standing {
        Standing::Behind | Standing::Conflict => standing.word().to_uppercase(),
        Standing::Current | Standing::Deploying => standing.word().to_owned(),
    }
}

/// The two greatest units.
fn uptime(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Some things of each machine: their names, and what is to be said of them.
type Entries<'a> = Box<dyn Iterator<Item = (String, String)> + 'a>;

fn listed(judged: &Judged, title: &str, entries: impl for<'a> Fn(&'a Node) -> Entries<'a>) -> Vec<String> {
    let open = || judged.nodes.iter().flat_map(|node| entries(node).map(move |entry| (node, entry)));
    let line = |(node, (name, words)): (&Node, (String, String))| {
        ui::harmless(&format!("  {}: {name}: {words}", node.hostname.as_deref().unwrap_or("?")))
    };
    let mut lines: Vec<_> = open().take(limits::STATUS_DEPLOYS_SHOWN_MAX).map(line).collect();
    let more = open().count() - lines.len();
    if !lines.is_empty() {
        lines.insert(0, title.to_owned());
    }
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}

fn summary(judged: &Judged) -> String {
    let count = |is: fn(&Node) -> bool| judged.nodes.iter().filter(|node| is(node)).count();
    let unreachable = count(|node| node.page.is_err());
    let behind = count(|node| node.standing.values().any(|one| *one == Standing::Behind));
    let deploying = count(|node| node.standing.values().any(|one| *one == Standing::Deploying));
    let conflict = count(|node| node.standing.values().any(|one| *one == Standing::Conflict));
    let damaged = count(|node| node.damaged().next().is_some());
    let parts = [
        (unreachable, "unreachable"),
        (behind, "behind"),
        (conflict, "in conflict"),
        (deploying, "deploying"),
        (damaged, "with damaged directories"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let machines = match judged.nodes.len() {
        1 => "1 machine".to_owned(),
        many => format!("{many} machines"),
    };
    let current = judged.is_current().then(|| "all current".to_owned());
    std::iter::once(machines).chain(parts).chain(current).collect::<Vec<_>>().join(", ")
}

/// Columns, but for the last of each row.
pub(in crate::client) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let line = |row: &Vec<String>| {
        let last = row.len() - 1;
        let cells = row.iter().enumerate().map(|(column, cell)| {
            if column == last { cell.clone() } else { format!("{cell:<width$}  ", width = widths[column]) }
        });
        ui::harmless(&cells.collect::<String>())
    };
    rows.iter().map(line).collect()
}
