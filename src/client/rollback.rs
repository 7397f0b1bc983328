//! `ciruela rollback`: what was at a path before is put there again, by a new change.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::remote::{self, NotThere};
use super::status::gather::{Gathered, gather};
use super::status::page::PathEntry;
use super::sync::{self, Drive, Errand, Spread, SpreadArgs, Task, count};
use super::ui;
use crate::client::INTERRUPTED_STATUS;
use crate::engine::download::Failure;
use crate::engine::upload::Upload;
use crate::model::change::Verb;
use crate::model::ids::ImageId;
use crate::model::vpath::VPath;

const EXIT_STATUS: &str = sync::exit_statuses!(
    "done on every live machine, or on as many as an --early-* rule asks for",
    "could not start (bad arguments)",
    "no machine has kept it, or refused by a machine",
);

/// Put back what was at a path before: a new change, signed, which replaces exactly what is there now.
///
/// Machines keep what was there before in directories with `keep-previous: true`. Doing it twice comes back to where it began.
#[derive(Debug, Args)]
#[command(
    after_help = EXIT_STATUS,
    override_usage = "ciruela rollback [OPTIONS] PATH ENTRY_POINT... [-- ENTRY_POINT...]"
)]
pub struct RollbackArgs {
    /// The directory, /KEY/name.
    #[arg(value_name = "PATH")]
    path: VPath,
    /// Put back this image: 64 hexadecimal digits [default: the one that was there before]
    #[arg(long, value_name = "ID", value_parser = remote::image_id)]
    to: Option<ImageId>,
    #[command(flatten)]
    spread: SpreadArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: RollbackArgs, port: Option<u16>) -> ExitCode {
    let json = args.spread.json;
    sync::ended(rollback(args, port), json)
}

fn rollback(args: RollbackArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let RollbackArgs { path, to, spread } = args;
    let spread = spread.checked(port)?;
    let loaded = sync::load_keys(&spread)?;
    let mut drive = Drive::open()?;
    let mut uploads = Vec::new();
    for names in &spread.clusters {
        let Some(gathered) = drive.run(gather(names, spread.port)) else {
            let text = "interrupted: nothing was changed";
            ui::error(text);
            if spread.json {
                sync::not_started(INTERRUPTED_STATUS, text);
            }
            return Ok(INTERRUPTED_STATUS);
        };
        let Turn { from, to, machines } = Turn::find(gathered, &path, to)?;
        tell(&spread, names, &path, (from, to), machines)?;
        let old_image = Some(from);
        let (path, image) = (path.clone(), to);
        uploads.push(vec![Upload { path, image, verb: Verb::Replace, old_image, weak: false, given: false }]);
    }
    let errand = Errand { task: Task::Publish, prepared: Vec::new(), sources: Vec::new(), uploads };
    drive.carry_out(&spread, loaded, errand)
}

/// From which image to which.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    from: ImageId,
    to: ImageId,
    /// How many have kept it.
    machines: usize,
}

impl Turn {
    /// From what the machines say.
    fn find(gathered: Gathered, path: &VPath, to: Option<ImageId>) -> Result<Self, anyhow::Error> {
        let mut troubles = gathered.unresolved;
        let mut entries = Vec::new();
        let (mut reached, mut carried) = (0_usize, 0_usize);
        for (address, page) in gathered.answers {
            match page {
                Ok(page) => {
                    reached += 1;
                    carried += usize::from(page.directories.iter().any(|directory| directory == path.key()));
                    entries.extend(page.paths.into_iter().filter(|entry| entry.path == path.as_str()));
                }
                Err(reason) => troubles.push((address.to_string(), reason)),
            }
        }
        if reached == 0 {
            return Err(Failure::Unreachable(troubles).into());
        }
        if carried == 0 {
            return Err(NotThere(format!("no machine that was reached carries /{}", path.key())).into());
        }
        Ok(Self::of(&entries, path, to)?)
    }

    /// From what is at the path on each machine.
    fn of(entries: &[PathEntry], path: &VPath, to: Option<ImageId>) -> Result<Self, NotThere> {
        let id = |text: &Option<String>| text.as_ref()?.parse::<ImageId>().ok();
        let newest = entries.iter().max_by_key(|entry| (entry.stamp_ms, &entry.change));
        let nothing = || NotThere(format!("nothing is at {path}: there is nothing to be rolled back"));
        let from = newest.and_then(|entry| id(&entry.image)).ok_or_else(nothing)?;
        let mut kept = BTreeMap::<ImageId, usize>::new();
        for image in entries.iter().flat_map(|entry| [id(&entry.previous), id(&entry.visible)]).flatten() {
            if image != from {
                *kept.entry(image).or_default() += 1;
            }
        }
        let known = || {
            let one = |(image, machines): (&ImageId, &usize)| format!("{image} ({})", count(*machines, "machine"));
            kept.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        if kept.is_empty() {
            return Err(NotThere(format!(
                "no machine has kept what was at {path} before: it can't be put back. Where directories may be replaced, \
                 and with `keep-previous: true` in configs/{}.yaml, machines keep it from the next replacement on",
                path.key()
            )));
        }
        let to = match to {
            Some(to) if to == from => return Err(NotThere(format!("image {to} is what is at {path} now"))),
            Some(to) => to,
            None => {
                let most = kept.values().copied().max().unwrap_or(0);
                let mut first = kept.iter().filter(|(_, machines)| **machines == most).map(|(image, _)| *image);
                match (first.next(), first.next()) {
                    (Some(only), None) => only,
                    _ => {
                        let text = "machines have kept different images; choose one with --to";
                        return Err(NotThere(format!("{text}: {}", known())));
                    }
                }
            }
        };
        let machines = kept.get(&to).copied();
        let machines =
            machines.ok_or_else(|| NotThere(format!("no machine has kept image {to}; kept are: {}", known())))?;
        Ok(Self { from, to, machines })
    }
}

fn tell(
    spread: &Spread,
    names: &[String],
    path: &VPath,
    (from, to): (ImageId, ImageId),
    machines: usize,
) -> Result<(), anyhow::Error> {
    if spread.json {
        let line = json!({
            "event": "rolling_back", "cluster": names.join(" "), "path": path.as_str(), "image": to.to_string(),
            "from": from.to_string(), "machines": machines,
        });
        return Ok(ui::line(&line.to_string())?);
    }
    ui::note(&format!("{path}: back from image {from} to image {to}, which {} kept", count(machines, "machine")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stamp: u64, image: u8, previous: Option<u8>) -> PathEntry {
        let id = |n: u8| ImageId::new([n; 32]).to_string();
        let text = json!({
            "path": "/k/x", "image": id(image), "change": "c", "stamp_ms": stamp, "visible": id(image),
            "previous": previous.map(id), "state": "done", "waiting": null, "bytes_done": 0, "bytes_total": 0,
        });
        serde_json::from_value(text).expect("an entry")
    }

    #[test]
    fn what_was_there_before_is_found() {
        let path: VPath = "/k/x".parse().expect("valid");
        let image = |n: u8| ImageId::new([n; 32]);
        let turn = |entries: &[PathEntry], to: Option<u8>| {
            Turn::of(entries, &path, to.map(image)).map(|turn| (turn.from, turn.to)).map_err(|error| error.0)
        };
        let three = [entry(5, 2, Some(1)), entry(5, 2, Some(1)), entry(5, 2, Some(3))];
        assert_eq!(turn(&three, None), Ok((image(2), image(1))));
        assert_eq!(turn(&three, Some(3)), Ok((image(2), image(3))));
        // One that is behind shows it still.
        assert_eq!(turn(&[entry(5, 2, None), entry(4, 1, None)], None), Ok((image(2), image(1))));
        for (entries, to, reason) in [
            (&three[..0], None, "nothing is at /k/x"),
            (&[entry(5, 2, None)][..], None, "keep-previous: true"),
            (&three[1..], None, "choose one with --to"),
            (&three[..], Some(2), "is what is at /k/x now"),
            (&three[..], Some(9), "no machine has kept image 0909"),
        ] {
            let error = turn(entries, to).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }
}
