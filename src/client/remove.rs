//! `ciruela remove`: a directory goes from all machines of a cluster, and stays away.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::remote::{self, Place, ReadArgs, Session};
use super::sync::{self, Drive, Errand, Spread, SpreadArgs, Task, count};
use super::ui;
use crate::engine::download::{Found, Selection};
use crate::engine::upload::Upload;
use crate::model::change::Verb;
use crate::model::ids::ImageId;
use crate::model::vpath::VPath;

const EXIT_STATUS: &str = "\
Exit status:
    0  gone from every live machine, or from as many as an --early-* rule asks for
    1  could not start (bad arguments)
    2  no usable key
    3  nothing is there, the machines differ (--image chooses), or refused by a machine
    4  not finished by the deadline
    5  no machine could be reached
  130  interrupted (what machines have taken goes on there)
With several clusters it is that of the one that fared worst.";

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
        let found = session.read(&place, None).map_err(anyhow::Error::from);
        let found = if spread.clusters.len() > 1 {
            found.with_context(|| format!("{}: nothing was removed anywhere", names.join(", ")))?
        } else {
            found?
        };
        check(&found, path)?;
        tell(spread, names, &found)?;
        uploads.push(vec![delete(found.path, found.id)]);
    }
    Ok(uploads)
}

fn check(found: &Found, path: &VPath) -> Result<(), anyhow::Error> {
    match &found.selection {
        Selection::Directory { path } if path.is_empty() => Ok(()),
        Selection::Directory { .. } | Selection::File { .. } | Selection::Link { .. } => {
            bail!("{path} is inside the directory {}, which goes only as a whole", found.path)
        }
    }
}

/// What will go.
fn tell(spread: &Spread, names: &[String], found: &Found) -> Result<(), anyhow::Error> {
    let (path, image) = (&found.path, found.id);
    let (files, bytes) = (found.image.files().count(), found.image.total_bytes());
    if spread.json {
        let line = json!({
            "event": "removing", "cluster": names.join(" "), "path": path.as_str(), "image": image.to_string(), "files": files,
            "bytes": bytes,
        });
        return Ok(ui::line(&line.to_string())?);
    }
    ui::note(&format!("removing {path}: image {image}, {}, {}", count(files, "file"), ui::bytes(bytes)));
    Ok(())
}
