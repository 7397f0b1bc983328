//! One daemon of the demo: a process of this same program, whose hidden command `demo-node` is the daemon's own main.
//!
//! It lives no longer than the demo: its standard input is a pipe, and when that ends without the word that it may stay,
//! it ends itself as by SIGTERM. So nothing is left behind, even by a demo that was killed.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{interval, timeout};

use crate::daemon;
use crate::daemon::args::{Args as DaemonArgs, LogFormat};
use crate::model::ids::MachineId;
use crate::model::limits;

/// What stays in the daemon's input when it may outlive the demo.
const STAY: &[u8] = b"stay\n";
/// What a daemon says once it takes connections.
const LISTENING: &str = "listening address=";
/// What it says of each other node that it finds.
const ANOTHER_NODE: &str = " a node is there ";
/// How often the log is looked at until then.
const LOG_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Be one of the demo's daemons, in the working directory.
#[derive(Debug, Args)]
pub struct DemoNodeArgs {
    /// Which one: the last part of its address.
    number: u8,
}

/// Runs the hidden command.
pub(in crate::client) fn run(args: &DemoNodeArgs) -> Result<ExitCode, anyhow::Error> {
    // Not in the runtime: this must work also when that hangs.
    std::thread::Builder::new().name("tie".to_owned()).spawn(end_with_parent).context("can't start a thread")?;
    Ok(daemon::run(&DaemonArgs {
        config_base_dir: "conf".into(),
        db_dir: "db".into(),
        host: IpAddr::V4(address(args.number)),
        port: 0,
        advertise: None,
        max_connections: limits::DEMO_CONNECTIONS_MAX,
        override_machine_id: Some(MachineId::new([args.number; MachineId::LEN])),
        override_hostname: Some(name(args.number)),
        cluster: None,
        log_format: LogFormat::Text,
        command: None,
    }))
}

fn end_with_parent() {
    let mut said = Vec::new();
    let read = io::stdin().take(STAY.len() as u64).read_to_end(&mut said);
    if read.is_err() || said != STAY {
        // Our own process is there, and may be signalled by us.
        let _ = kill_process(getpid(), Signal::TERM);
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// How the daemon calls itself.
pub(super) fn name(number: u8) -> String {
    format!("node{number}")
}

/// A daemon that was started.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// Where it listens; the port is 0 until it does.
    pub(super) address: SocketAddr,
    child: Child,
    /// While it is open, the daemon stays. Not left in `child`, which would close it before waiting.
    input: ChildStdin,
}

impl Node {
    /// Starts the daemon whose configuration is in `folder`.
    pub(super) fn spawn(number: u8, folder: PathBuf) -> Result<Self, anyhow::Error> {
        let program = std::env::current_exe().context("can't tell which program this is")?;
        let log_path = log_path(&folder);
        let log =
            std::fs::File::create_new(&log_path).with_context(|| format!("can't write {}", log_path.display()))?;
        let mut child = Command::new(program)
            .args(["demo-node", &number.to_string()])
            .current_dir(&folder)
            // What is waited for must be in the log; and nobody else waits for this daemon.
            .env("RUST_LOG", "info")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo alone, which then ends the daemons in order.
            .process_group(0)
            .spawn()
            .context("can't start a daemon")?;
        let input = child.stdin.take().context("a daemon has no standard input")?;
        Ok(Self { name: name(number), folder, address: SocketAddr::new(address(number).into(), 0), child, input })
    }

    /// Waits until it listens.
    pub(super) async fn ready(&mut self) -> Result<(), anyhow::Error> {
        let max = limits::DEMO_START_TIMEOUT;
        self.address = match timeout(max, self.listening()).await {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => bail!("{} did not start: {error:#}\n{}", self.name, self.log()),
            Err(_) => bail!("{} did not start within {} s\n{}", self.name, max.as_secs(), self.log()),
        };
        Ok(())
    }

    /// Waits until it knows so many other nodes.
    pub(super) async fn meets(&mut self, others: usize) -> Result<(), anyhow::Error> {
        let max = limits::DEMO_START_TIMEOUT;
        let known = |log: &str| (log.matches(ANOTHER_NODE).count() >= others).then_some(Ok(()));
        match timeout(max, self.logged(known)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => bail!("{} did not find the others: {error:#}\n{}", self.name, self.log()),
            Err(_) => bail!("{} did not find the others within {} s\n{}", self.name, max.as_secs(), self.log()),
        }
    }

    /// The address that its log tells.
    async fn listening(&mut self) -> Result<SocketAddr, anyhow::Error> {
        self.logged(|log| {
            // A line without its end may lack the end of the address.
            let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let (_, address) = lines.into_iter().find_map(|line| line.split_once(LISTENING))?;
            Some(address.trim().parse().map_err(|_| anyhow!("its log names no address: {address:?}")))
        })
        .await
    }

    /// Looks at its log again and again until that tells what is wanted.
    async fn logged<T>(
        &mut self,
        wanted: impl Fn(&str) -> Option<Result<T, anyhow::Error>>,
    ) -> Result<T, anyhow::Error> {
        let mut looks = interval(LOG_LOOK_INTERVAL);
        loop {
            looks.tick().await;
            let ended = self.child.try_wait().context("can't look after it")?;
            let log = std::fs::read(log_path(&self.folder)).context("can't read its log")?;
            if let Some(told) = wanted(&String::from_utf8_lossy(&log)) {
                return told;
            }
            if let Some(status) = ended {
                bail!("it ended with {status}");
            }
        }
    }

    /// `None` when it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end by itself, and shows the end of its log.
    pub(super) async fn ended(&mut self) -> String {
        drop(self.child.wait().await);
        self.log()
    }

    /// Lets it outlive the demo.
    pub(super) async fn leave(mut self) -> Result<(), anyhow::Error> {
        self.input.write_all(STAY).await.with_context(|| format!("{} has ended", self.name))
    }

    /// SIGTERM.
    pub(super) fn terminate(&self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // It wasn't waited for yet, so the id is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end after [`Node::terminate`], with patience that has an end too.
    pub(super) async fn end(mut self) {
        if timeout(limits::DEMO_STOP_TIMEOUT, self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }

    /// The end of its log, for people.
    pub(super) fn log(&self) -> String {
        let path = log_path(&self.folder);
        let Ok(log) = std::fs::read(&path) else { return format!("(no log at {})", path.display()) };
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(limits::DEMO_LOG_LINES_SHOWN_MAX)..];
        let mut text = format!("the end of {}'s log:", self.name);
        for line in last {
            text.push_str("\n  ");
            text.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        text
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}
