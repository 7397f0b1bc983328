//! `ciruela ls`: the directories of a cluster, or what is in one of them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::remote::{self, Place, ReadArgs, Session};
use super::sync::moment;
use super::ui;
use crate::engine::download::{Found, Selection, below};
use crate::model::escape::escaped;
use crate::model::image::{Entry, EntryKind};
use crate::model::time::Stamp;

/// List the directories of a cluster, or the entries of one of them.
///
/// CLUSTER is one or more names or addresses of machines, separated by commas. Without PATH: when each directory was
/// published, the image that is visible there, and its path. With PATH (/KEY/name, or further, to something in it): mode,
/// size and name of each entry, the name escaped as in the index.
#[derive(Debug, Args)]
#[command(after_help = remote::EXIT_STATUS)]
pub struct LsArgs {
    /// What to list.
    #[arg(value_name = "CLUSTER[:PATH]")]
    place: Place,
    /// Also what is in the directories of PATH.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    read: ReadArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: &LsArgs, port: Option<u16>) -> ExitCode {
    let result = list(args, port);
    if let Err(error) = result.as_ref()
        && args.json
        && !error.is::<ui::OutputError>()
    {
        let path = Some(args.place.path()).filter(|path| !path.is_empty());
        not_listed(path, remote::status_of(error), &super::with_causes(error));
    }
    remote::exit(result)
}

/// Says for programs why nothing is listed.
pub(super) fn not_listed(path: Option<&str>, exit_status: u8, reason: &str) {
    let value = json!({ "path": path, "exit_status": exit_status, "reason": reason });
    if let Err(error) = ui::data(format!("{value:#}\n").as_bytes()) {
        ui::warn(&error.to_string());
    }
}

fn list(args: &LsArgs, port: Option<u16>) -> Result<(), anyhow::Error> {
    let mut session = Session::open(&args.read, port)?;
    let text = if args.place.path().is_empty() {
        directories(args, &mut session)?
    } else {
        let found = session.read(&args.place, None)?;
        let lines = entries(&found, args.recursive);
        if args.json {
            let entries: Vec<_> = lines.iter().map(Line::json).collect();
            let (path, image) = (found.path.as_str(), found.id.to_string());
            format!("{:#}\n", json!({ "exit_status": 0, "path": path, "image": image, "entries": entries }))
        } else {
            let width = lines.iter().map(|line| line.size.to_string().len()).max().unwrap_or(0);
            lines.iter().map(|line| line.text(width)).collect()
        }
    };
    Ok(ui::data(text.as_bytes())?)
}

/// A directory of the cluster as some machines have it.
#[derive(Default)]
struct Shown {
    stamp: Stamp,
    machines: usize,
}

fn directories(args: &LsArgs, session: &mut Session) -> Result<String, anyhow::Error> {
    let gathered = session.pages(args.place.names())?;
    let pages: Vec<_> = gathered.answers.values().filter_map(|page| page.as_ref().ok()).collect();
    for (node, reason) in gathered.failed() {
        ui::warn(&format!("{node}: {reason}"));
    }
    let mut shown = BTreeMap::<_, Shown>::new();
    for entry in pages.iter().flat_map(|page| &page.paths) {
        let Some(image) = &entry.visible else { continue };
        let one = shown.entry((&entry.path, image)).or_default();
        one.machines += 1;
        // A machine that has another image coming doesn't know any more when this one was published.
        if entry.image.as_ref() == Some(image) {
            one.stamp = one.stamp.max(Stamp(entry.stamp_ms));
        }
    }
    let rows = shown.iter();
    if args.json {
        let rows = rows.map(|((path, image), one)| {
            json!({ "path": path, "image": image, "published_ms": one.stamp.0, "machines": one.machines })
        });
        return Ok(format!("{:#}\n", json!({ "exit_status": 0, "directories": rows.collect::<Vec<_>>() })));
    }
    let carriers = |path: &str| {
        let key = path.split('/').nth(1).unwrap_or_default();
        pages.iter().filter(|page| page.directories.iter().any(|directory| directory == key)).count()
    };
    let row = |((path, image), one): ((&&String, &&String), &Shown)| {
        let carriers = carriers(path);
        let some = if one.machines == carriers {
            String::new()
        } else {
            format!("  (on {} of {carriers} machines)", one.machines)
        };
        format!("{}  {image}  {}{some}\n", moment(one.stamp), ui::harmless(path))
    };
    Ok(rows.map(|((path, image), one)| row(((path, image), one))).collect())
}

/// An entry.
struct Line {
    /// Relative to what was listed.
    path: String,
    mode: &'static str,
    size: u64,
    target: Option<String>,
}

impl Line {
    fn of(path: String, entry: Entry<'_>) -> Self {
        match entry.kind {
            EntryKind::File { size, executable, .. } => {
                let mode = if executable { "-rwxr-xr-x" } else { "-rw-r--r--" };
                Self { path, mode, size, target: None }
            }
            EntryKind::Symlink { target } => {
                Self { path, mode: "lrwxrwxrwx", size: target.len() as u64, target: Some(target.to_string()) }
            }
        }
    }

    fn text(&self, width: usize) -> String {
        let target = self.target.as_ref().map_or_else(String::new, |to| format!(" -> {}", escaped(to.as_bytes())));
        format!("{} {:>width$} {}{target}\n", self.mode, self.size, escaped(self.path.as_bytes()))
    }

    fn json(&self) -> Value {
        let kind = match self.mode.as_bytes().first() {
            Some(b'd') => "directory",
            Some(b'l') => "link",
            _ => "file",
        };
        let mut value = json!({ "path": self.path, "type": kind });
        match kind {
            "file" => {
                value["size"] = json!(self.size);
                value["executable"] = json!(self.mode.contains('x'));
            }
            _ if self.target.is_some() => value["target"] = json!(self.target),
            _ => {}
        }
        value
    }
}

/// What is in a directory, or a file or link itself; sorted by path.
fn entries(found: &Found, recursive: bool) -> Vec<Line> {
    let own = found.selection.path();
    if !matches!(found.selection, Selection::Directory { .. }) {
        let (parent, name) = own.rsplit_once('/').unwrap_or(("", own));
        let directory = found.image.directories().iter().find(|directory| &*directory.path == parent);
        return directory
            .and_then(|directory| directory.entry(name))
            .map(|e| Line::of(name.to_owned(), e))
            .into_iter()
            .collect();
    }
    let mut lines = Vec::new();
    for directory in found.selection.directories(&found.image) {
        let inner = below(own, &directory.path).unwrap_or_default();
        let is_shown = recursive || !inner.contains('/');
        if !inner.is_empty() && is_shown {
            lines.push(Line { path: inner.to_owned(), mode: "drwxr-xr-x", size: 0, target: None });
        }
        if inner.is_empty() || recursive {
            let path = |name: &str| if inner.is_empty() { name.to_owned() } else { format!("{inner}/{name}") };
            lines.extend(directory.entries.iter().map(|entry| Line::of(path(entry.name), entry)));
        }
    }
    lines.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    lines
}
