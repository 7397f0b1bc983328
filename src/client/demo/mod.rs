//! `ciruela demo`: the main job, on three daemons of this very build on this machine.
//!
//! The story is told here; `cluster` has the folder with the daemons, `node` one daemon as a process, `copies` looks at
//! what arrived. What publishes is `ciruela sync` itself.

mod cluster;
mod copies;
mod node;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::cluster::Cluster;
use super::args::{Cli, Command};
use super::{sync, ui};
use crate::model::limits;
use crate::model::vpath::VPath;

pub use node::DemoNodeArgs;
pub(super) use node::run as run_node;

/// What is published unless a directory is named: this project's documentation, in a checkout of it.
const DEFAULT_SOURCE: &str = "doc";

/// Show the main job on this machine: publish a directory to a cluster of three daemons, compare what arrived.
///
/// Starts three daemons of this build on 127.0.0.1, 127.0.0.2 and 127.0.0.3 in a temporary folder, which form a cluster, makes a
/// key, publishes DIR with `ciruela sync` to one of them, and verifies the three copies. Then it ends the daemons and removes the folder.
///
/// Exit status: 0 if all three copies are right, 130 if it was interrupted, 1 otherwise.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The directory to publish [default: ./doc, the documentation in a checkout of ciruela]
    dir: Option<PathBuf>,
    /// Leave the daemons running, and say how to go on by hand.
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<ExitCode, anyhow::Error> {
    let source = source(args.dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let result = runtime.block_on(show(&source, args.keep));
    // After an interruption there may still be a thread that reads files; nobody waits for it.
    runtime.shutdown_background();
    result
}

/// The directory to publish, or what to say instead.
fn source(named: Option<&Path>) -> Result<PathBuf, anyhow::Error> {
    let dir = named.unwrap_or(Path::new(DEFAULT_SOURCE));
    match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(dir.to_owned()),
        _ if named.is_none() => {
            bail!("there is no ./{DEFAULT_SOURCE} here; name a directory to publish: `ciruela demo DIR`")
        }
        Ok(_) => bail!("{} is not a directory", dir.display()),
        Err(error) => Err(error).with_context(|| format!("can't publish {}", dir.display())),
    }
}

/// From the first daemon to the last, whatever happens between.
async fn show(source: &Path, keep: bool) -> Result<ExitCode, anyhow::Error> {
    let mut signals = Signals::listen()?;
    let mut cluster = Cluster::prepare()?;
    let mut publishing = None;
    let told = tokio::select! {
        told = tell(&mut cluster, &mut publishing, source) => Some(told),
        () = signals.next() => None,
    };
    match told {
        Some(Ok(())) if keep => {
            let how = going_on(&cluster, source);
            cluster.leave().await?;
            ui::note(&how);
            Ok(ExitCode::SUCCESS)
        }
        Some(Ok(())) => {
            ui::note("ending the daemons, removing their folder; with --keep they stay, to go on by hand");
            cluster.end(false).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Err(error)) => {
            if keep {
                ui::note(&format!("configurations and logs are kept in {}", cluster.folder().display()));
            }
            cluster.end(keep).await?;
            Err(error)
        }
        None => {
            if let Some(publishing) = publishing {
                // It got the signal too, and says how far it came; unless it still reads the directory.
                drop(timeout(limits::DEMO_GOODBYE_TIMEOUT, publishing).await);
            }
            ui::error("interrupted: ending the daemons, removing their folder");
            cluster.end(false).await?;
            Ok(ExitCode::from(crate::client::INTERRUPTED_STATUS))
        }
    }
}

/// Starts, publishes, compares.
async fn tell(
    cluster: &mut Cluster,
    publishing: &mut Option<JoinHandle<Result<ExitCode, anyhow::Error>>>,
    source: &Path,
) -> Result<(), anyhow::Error> {
    cluster.start().await?;
    let path = destination(source, "");
    let command = command(cluster, source, &path);
    ui::note(&format!("$ {}", shell_line(&command)));
    let arguments = Cli::try_parse_from(&command).map_err(|error| anyhow!("can't publish this: {error}"))?;
    let Command::Sync(arguments) = arguments.command else { bail!("{command:?} doesn't publish") };
    let published = publishing.insert(tokio::task::spawn_blocking(move || sync::run(*arguments, None)));
    let published = tokio::select! {
        published = published => published,
        log = cluster.first_end() => bail!("a daemon has ended\n{log}"),
    };
    *publishing = None;
    if published.context("`sync` broke off")?? != ExitCode::SUCCESS {
        bail!("`sync` did not succeed\n{}", cluster.logs());
    }
    let (from, trees) = (source.to_owned(), cluster.trees(&path));
    let copies = tokio::task::spawn_blocking(move || copies::verify(&from, trees)).await.context("broke off")?;
    let copies = copies.map_err(|error| anyhow!("can't compare the copies: {error}\n{}", cluster.logs()))?;
    ui::note(&copies::listing(&copies));
    if copies.iter().any(|copy| !copy.differences.is_empty()) {
        bail!("a copy is not what {} holds now\n{}", source.display(), cluster.logs());
    }
    Ok(())
}

/// Where the directory goes: its own name, if that can be a path's part.
fn destination(source: &Path, suffix: &str) -> VPath {
    let real = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let name = real.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let path = |name: &str, suffix: &str| format!("/{}/{name}{suffix}", cluster::CONFIG_NAME).parse();
    path(name, "")
        .and_then(|_: VPath| path(name, suffix))
        .unwrap_or_else(|_| path("demo", suffix).expect("it is a path"))
}

/// The command that publishes, as one would type it here.
fn command(cluster: &Cluster, source: &Path, path: &VPath) -> Vec<OsString> {
    let program = std::env::args_os().next().unwrap_or_else(|| "ciruela".into());
    let mut what = source.as_os_str().to_owned();
    what.push(format!(":{path}"));
    let mut command = vec![program, "sync".into(), "-i".into(), cluster.key().into(), "--append".into(), what];
    command.push("-m".into());
    command.extend(cluster.entry().map(|address| address.to_string().into()));
    command
}

fn going_on(cluster: &Cluster, source: &Path) -> String {
    // At the first path there is something already.
    let command = command(cluster, source, &destination(source, "-2"));
    let (pids, folder) = (cluster.pids(), shell_word(cluster.folder().as_os_str()));
    let first = cluster.entry().map(|address| address.to_string()).unwrap_or_default();
    format!(
        "the daemons keep running; go on by hand:\n  \
         change something, and publish it under another name:\n    {}\n  \
         look at a daemon: curl http://{first}/ (also /status.json and /metrics)\n  \
         configurations: {folder}/node*/conf\n  logs:           {folder}/node*/log\n  \
         copies:         {folder}/node*/data\n  \
         end them: kill {pids} && rm -r {folder}",
        shell_line(&command),
    )
}

fn shell_line(command: &[OsString]) -> String {
    command.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// As a shell takes it for one word.
fn shell_word(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-+=@%,[]".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// What ends the demo early.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, anyhow::Error> {
        let listen = |kind| signal(kind).context("can't listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (word, quoted) in [("a/b:/data/c", "a/b:/data/c"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(shell_word(OsStr::new(word)), quoted);
        }
    }

    #[test]
    fn directories_keep_their_name_if_it_fits() {
        for (source, path) in
            [("/no/such/site", "/data/site"), ("/", "/data/demo"), ("/no/such/.ciruela-staging", "/data/demo")]
        {
            assert_eq!(destination(Path::new(source), "").as_str(), path);
            assert_eq!(destination(Path::new(source), "-2").as_str(), format!("{path}-2"));
        }
    }
}
