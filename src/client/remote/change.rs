//! One file of a directory that is on a cluster, changed: the whole is read, the file replaced, and the result published in
//! the place of exactly what was read.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::{Place, ReadArgs, Session, beforehand};
use crate::client::keys::{self, KeyOptions, Loaded, Process};
use crate::client::scanning::ScanArgs;
use crate::client::sync::{self, Plan, Spread, Wish};
use crate::client::ui;
use crate::driver::download_loop::Draft;
use crate::engine::download::{Failure, Found, Selection};
use crate::engine::upload::Rules;
use crate::model::change::Verb;
use crate::model::escape::escaped;
use crate::model::limits;
use crate::model::vpath::component_error;

/// For the help of the commands that change.
pub(in crate::client) const EXIT_STATUS: &str = "\
Exit status:
    0  done on every live machine, or nothing to do because the file is the same
    1  could not start: bad arguments, a file that can't be read, an editor that failed
    2  no usable key
    3  refused by a machine, for example because somebody else changed the directory meanwhile; or there is nothing at PATH
    4  not finished by the deadline, or the machines that have the directory don't give it
    5  no machine could be reached
  130  interrupted";

/// Options of the commands that change a file.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// One or more names or addresses of machines of the cluster, separated by commas.
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// The directory, /KEY/name.
    #[arg(short, long, value_name = "PATH")]
    dir: String,
    /// The file: its path in the directory.
    #[arg(short, long, value_name = "NAME", value_parser = file_name)]
    pub file: String,
    /// Sign with the key in this file. Can be repeated.
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// Sign with the key that this environment variable contains. Can be repeated.
    #[arg(short, long, value_name = "VARIABLE")]
    key_from_env: Vec<String>,
    /// Sign for the cluster of this name only: others refuse it.
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    sign_for: Option<String>,
    /// Give up publishing after this time.
    #[arg(short = 't', long, value_name = "DURATION", value_parser = sync::duration, default_value = "30m")]
    deadline: Duration,
    #[command(flatten)]
    read: ReadArgs,
}

impl ChangeArgs {
    /// The words that name the same file, and how it is reached and signed for. `port`: what stood before the subcommand.
    pub(in crate::client) fn words(&self, port: Option<u16>) -> String {
        let [cluster, dir, file] = [&self.cluster, &self.dir, &self.file].map(|word| quoted(word));
        let identities = self.identity.iter().map(|path| ("-i", path.to_string_lossy().into_owned()));
        let variables = self.key_from_env.iter().map(|name| ("-k", name.clone()));
        let cluster_name = self.sign_for.iter().map(|name| ("--sign-for", name.clone()));
        let port = self.read.port.or(port).map(|port| ("--port", port.to_string()));
        let options = identities.chain(variables).chain(cluster_name).chain(port);
        options.fold(format!("{cluster} -d {dir} -f {file}"), |words, (option, value)| {
            format!("{words} {option} {}", quoted(&value))
        })
    }

    /// Whether machines answer, and none has the directory any more.
    pub(in crate::client) fn is_gone(&self, port: Option<u16>) -> bool {
        let read =
            || Session::open(&self.read, port)?.read(&Place::new(&self.cluster, &self.dir)?, None).map_err(Into::into);
        let read: Result<Found, anyhow::Error> = read();
        read.is_err_and(|error| matches!(error.downcast_ref(), Some(Failure::NothingThere { .. })))
    }
}

/// A word as a shell reads it.
pub(in crate::client) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,[]".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn cluster_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        return Err(format!("it must have 1 to {} bytes", limits::NAME_BYTES_MAX));
    }
    Ok(name.to_owned())
}

fn file_name(name: &str) -> Result<String, String> {
    if name.starts_with('/') {
        return Err("it must be relative to the directory".to_owned());
    }
    match name.split('/').find_map(component_error) {
        Some(reason) => Err(reason.to_owned()),
        None if name.len() > limits::PATH_BYTES_MAX => Err("it is longer than 4096 bytes".to_owned()),
        None => Ok(name.to_owned()),
    }
}

/// A directory that was read to be changed.
pub(in crate::client) struct Change {
    names: Vec<String>,
    port: u16,
    found: Found,
    /// The whole directory.
    tree: Draft,
    keys: Loaded,
    key_options: KeyOptions,
    rules: Rules,
    file: String,
}

impl Change {
    /// Reads the directory. `port`: what stood before the subcommand.
    pub(in crate::client) fn begin(args: &ChangeArgs, port: Option<u16>) -> Result<Self, anyhow::Error> {
        let place = Place::new(&args.cluster, &args.dir)?;
        let key_options = KeyOptions { identity: args.identity.clone(), key_from_env: args.key_from_env.clone() };
        // Without a key nothing could be published: somebody who has edited should not learn that only then.
        let keys = keys::load(&key_options, &Process)?;
        for warning in &keys.warnings {
            ui::warn(warning);
        }
        // Ctrl-C is listened to before there is anything to be removed.
        let mut session = Session::open(&args.read, port)?;
        let found = session.read(&place, None)?;
        match &found.selection {
            Selection::Directory { path } if path.is_empty() => {}
            Selection::Directory { path } | Selection::File { path } | Selection::Link { path, .. } => bail!(
                "{} is inside the directory {}: give that with -d, and with -f the file's path in it, {path}/...",
                place.path(),
                found.path
            ),
        }
        check_name(&found, &args.file)?;
        let keys = would_take(&mut session, &place, &found, args.sign_for.clone(), keys)?;
        let tree = Draft::temporary().map_err(|error| anyhow!("can't make a copy of {}: {error}", found.path))?;
        let found = read_into(&mut session, &place, &tree, &found)?;
        let rules = Rules {
            deadline: args.deadline,
            early_timeout: None,
            early_fraction: 1.0,
            early_hosts: 0,
            require_all: false,
            initial_connections: limits::INITIAL_CONNECTIONS,
            cluster: args.sign_for.clone().map(String::into_boxed_str),
        };
        let (names, port, file) = (place.names().to_vec(), session.port(), args.file.clone());
        Ok(Self { names, port, found, tree, keys, key_options, rules, file })
    }

    /// Where the file is, or will be.
    pub(in crate::client) fn path(&self) -> PathBuf {
        self.tree.place().join(&self.file)
    }

    /// Whether it is in what was read.
    pub(in crate::client) fn is_there(&self) -> bool {
        self.found.image.file(&self.file).is_some()
    }

    /// Puts a file in the place of the one that was read, which keeps its mode. Says whether anything is another now.
    pub(in crate::client) fn put(&self, source: &Path) -> Result<bool, anyhow::Error> {
        let cannot = || format!("cannot read {}", escaped(source.as_os_str().as_encoded_bytes()));
        let mut from = File::open(source).with_context(cannot)?;
        let meta = from.metadata().with_context(cannot)?;
        let path = self.path();
        if self.is_there() && same(source, &path).with_context(cannot)? {
            return Ok(false);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).context("cannot make the file's directory")?;
        }
        let mut to = File::create(&path).context("cannot write the file into the copy of the directory")?;
        io::copy(&mut from, &mut to).with_context(cannot)?;
        if !self.is_there() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            let mode = Permissions::from_mode(if executable { 0o755 } else { 0o644 });
            to.set_permissions(mode).context("cannot set the file's mode")?;
        }
        Ok(true)
    }

    /// Publishes it, if what was read is still there. Gives the exit status.
    pub(in crate::client) fn publish(self) -> Result<u8, anyhow::Error> {
        let wish = Wish {
            source: self.tree.place(),
            called: Some(self.found.path.to_string()),
            path: self.found.path.clone(),
            verb: Verb::Replace,
            old_image: Some(self.found.id),
            weak: false,
        };
        let spread = Spread {
            clusters: vec![self.names],
            keys: self.key_options,
            rules: self.rules,
            port: self.port,
            json: false,
            warnings: Vec::new(),
        };
        // Of a folder that is gone soon nothing is remembered.
        let scan = ScanArgs { hash: self.found.image.hash_kind(), rehash: true };
        let plan = Plan { spread, wishes: vec![wish], scan };
        sync::publish(plan, self.keys)
    }

    /// The directory and the file, for people.
    pub(in crate::client) fn name(&self) -> String {
        format!("{} in {}", self.file, self.found.path)
    }
}

/// An error if it is certain already that machines refuse whatever will be published there.
fn would_take(
    session: &mut Session,
    place: &Place,
    found: &Found,
    sign_for: Option<String>,
    keys: Loaded,
) -> Result<Loaded, anyhow::Error> {
    let (names, port, found) = (place.names().to_vec(), session.port(), found.clone());
    session.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
        let checked = beforehand::check((&names, port), &found, sign_for.as_deref(), &keys.signers);
        let checked = runtime.block_on(checked);
        runtime.shutdown_background();
        Ok(checked.map(|()| keys)?)
    })
}

/// Reads what was found, and only that, into a place of our own, which people don't know by its name.
fn read_into(session: &mut Session, place: &Place, tree: &Draft, found: &Found) -> Result<Found, anyhow::Error> {
    let path = &found.path;
    let read = session.read_image(place, found.id, Some(tree.content()));
    read.map_err(|failure| {
        let Failure::Local(reason) = failure else { return failure.into() };
        let own = escaped(tree.place().as_os_str().as_encoded_bytes());
        let reason = reason.replace(&format!("{own}/"), "").replace(&own, "it");
        anyhow!("can't make a copy of {path} in {} (TMPDIR): {reason}", std::env::temp_dir().display())
    })
}

/// A file, or nothing, is there, and directories are above it.
fn check_name(found: &Found, file: &str) -> Result<(), anyhow::Error> {
    match Selection::find(&found.image, file) {
        Some(Selection::Directory { .. }) => bail!("{file} is a directory in {}", found.path),
        Some(Selection::Link { target, .. }) => bail!("{file} is a symbolic link to {target:?} in {}", found.path),
        Some(Selection::File { .. }) | None => {}
    }
    let above = file.match_indices('/').map(|(at, _)| &file[..at]);
    let other = |path: &&str| {
        let found = Selection::find(&found.image, path);
        matches!(found, Some(Selection::File { .. } | Selection::Link { .. }))
    };
    match above.into_iter().find(other) {
        Some(path) => bail!("{path} is not a directory in {}", found.path),
        None => Ok(()),
    }
}

/// Whether two files have the same content.
pub(in crate::client) fn same(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (io::BufReader::new(File::open(a)?), io::BufReader::new(File::open(b)?));
    loop {
        let (left, right) = (io::BufRead::fill_buf(&mut a)?, io::BufRead::fill_buf(&mut b)?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        io::BufRead::consume(&mut a, length);
        io::BufRead::consume(&mut b, length);
    }
}
