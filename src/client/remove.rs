//! `ciruela remove`: a directory goes from all machines of a cluster, and stays away.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::remote::{self, Place, ReadArgs, Session};
use super::status::page::PathEntry;
use super::sync::{self, Drive, Errand, Spread, SpreadArgs, Task, count};
use super::ui;
use crate::engine::download::{Failure, Found, Selection};
use crate::engine::upload::Upload;
use crate::model::change::Verb;
use crate::model::ids::ImageId;
use crate::model::vpath::VPath;

const EXIT_STATUS: &str = sync::exit_statuses!(
    "gone from every live machine, or from as many as an --early-* rule asks for",
    "could not start (bad arguments)",
    "nothing is there or on its way, the machines differ (--image chooses), or refused by a machine",
);

/// Remove a directory from clusters: look what is there, sign that it shall go, wait until machines have removed it.
///
/// It goes only if what was looked at is still there. Machines that are off remove it when they return. Something else, or the same
/// again, can be published there later.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "ciruela remove [OPTIONS] PATH ENTRY_POINT... [-- ENTRY_POINT...]")]
pub struct RemoveArgs {
    /// The directory, /KEY/name.
    #[arg(value_name = "PATH")]
    path: VPath,
    /// Remove this image, without looking what is there: 64 hexadecimal digits.
    #[arg(long, value_name = "ID", value_parser = remote::image_id)]
    image: Option<ImageId>,
    #[command(flatten)]
    spread: SpreadArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: RemoveArgs, port: Option<u16>) -> ExitCode {
    let json = args.spread.json;
    sync::ended(remove(args, port), json)
}

fn remove(args: RemoveArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let RemoveArgs { path, image, spread } = args;
    let spread = spread.checked(port)?;
    let loaded = sync::load_keys(&spread)?;
    let uploads = match image {
        Some(image) => vec![vec![delete(path, image)]; spread.clusters.len()],
        None => look(&spread, &path)?,
    };
    let errand = Errand { task: Task::Remove, prepared: Vec::new(), sources: Vec::new(), uploads };
    Drive::open()?.carry_out(&spread, loaded, errand)
}

fn delete(path: VPath, image: ImageId) -> Upload {
    Upload { path, image, verb: Verb::Delete, old_image: None, weak: false, given: false }
}

/// What is there on each cluster.
fn look(spread: &Spread, path: &VPath) -> Result<Vec<Vec<Upload>>, anyhow::Error> {
    let mut session = Session::open(&ReadArgs { image: None, port: Some(spread.port) }, None)?;
    let mut uploads = Vec::new();
    for names in &spread.clusters {
        let place = Place::new(&names.join(","), path.as_str())?;
        let there = there(&mut session, &place, names, path);
        let there = if spread.clusters.len() > 1 {
            there.with_context(|| format!("{}: nothing was removed anywhere", names.join(", ")))?
        } else {
            there?
        };
        tell(spread, names, path, &there)?;
        uploads.push(vec![delete(path.clone(), there.image)]);
    }
    Ok(uploads)
}

/// What will go.
struct There {
    image: ImageId,
    /// Files and bytes; `None`: it is only on its way.
    size: Option<(usize, u64)>,
}

/// What is visible, or on its way, on one cluster.
fn there(session: &mut Session, place: &Place, names: &[String], path: &VPath) -> Result<There, anyhow::Error> {
    match session.read(place, None) {
        Ok(found) => {
            check(&found, path)?;
            Ok(There { image: found.id, size: Some((found.image.files().count(), found.image.total_bytes())) })
        }
        Err(nothing @ Failure::NothingThere { .. }) => {
            let pages = session.pages(names)?;
            let entries = pages.answers.into_values().flatten().flat_map(|page| page.paths);
            let image = coming(entries.filter(|entry| entry.path == path.as_str()));
            image.map(|image| There { image, size: None }).ok_or_else(|| nothing.into())
        }
        Err(failure) => Err(failure.into()),
    }
}

/// What the newest change at a path puts there, unless that has come to its end.
fn coming(entries: impl Iterator<Item = PathEntry>) -> Option<ImageId> {
    let newest = entries.max_by(|a, b| (a.stamp_ms, &a.change).cmp(&(b.stamp_ms, &b.change)));
    newest.filter(|entry| !entry.is_done())?.image?.parse().ok()
}

fn check(found: &Found, path: &VPath) -> Result<(), anyhow::Error> {
    match &found.selection {
        Selection::Directory { path } if path.is_empty() => Ok(()),
        Selection::Directory { .. } | Selection::File { .. } | Selection::Link { .. } => {
            bail!("{path} is inside the directory {}, which goes only as a whole", found.path)
        }
    }
}

fn tell(spread: &Spread, names: &[String], path: &VPath, there: &There) -> Result<(), anyhow::Error> {
    let There { image, size } = there;
    if spread.json {
        let line = json!({
            "event": "removing", "cluster": names.join(" "), "path": path.as_str(), "image": image.to_string(),
            "coming": size.is_none(), "files": size.map(|(files, _)| files), "bytes": size.map(|(_, bytes)| bytes),
        });
        return Ok(ui::line(&line.to_string())?);
    }
    let what = size.map_or_else(
        || "which is on its way and on no machine yet".to_owned(),
        |(files, bytes)| format!("{}, {}", count(files, "file"), ui::bytes(bytes)),
    );
    ui::note(&format!("removing {path}: image {image}, {what}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way() {
        let id = |n: u8| ImageId::new([n; 32]);
        let entry = |stamp: u64, image: Option<u8>, state: &str| {
            let image = image.map(|n| id(n).to_string());
            let text = json!({
                "path": "/k/x", "image": image, "change": "c", "stamp_ms": stamp, "visible": null, "state": state,
                "waiting": null, "bytes_done": 0, "bytes_total": 0,
            });
            serde_json::from_value(text).expect("an entry")
        };
        for (entries, expected) in [
            (vec![], None),
            (vec![entry(1, Some(1), "fetch")], Some(id(1))),
            (vec![entry(2, Some(2), "index"), entry(1, Some(1), "fetch")], Some(id(2))),
            (vec![entry(1, Some(1), "fetch"), entry(2, None, "removed")], None),
            (vec![entry(2, Some(2), "cleaned")], None),
        ] {
            assert_eq!(coming(entries.into_iter()), expected);
        }
    }
}
