//! The demo's temporary folder: a key, and three daemons with a folder each, which are one cluster.
//!
//! ```text
//! key             signs; its public half is in each conf/keys/demo.key
//! node1/conf/     configuration; cluster.key is the same for all, peers.txt of all but the first names that one
//! node1/data/     where directories arrive
//! node1/db/       what the daemon remembers
//! node1/log
//! ```

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use futures_util::future::select_all;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::node::{self, Node};
use crate::client::ui;
use crate::format::ssh::{SecretKey, public_key_line};
use crate::model::ids::hex;
use crate::model::vpath::VPath;

/// The directory configuration of each daemon, and the first part of the path that is published to.
pub(super) const CONFIG_NAME: &str = "data";
/// Relative to the daemon's working directory.
const CONFIG: &str = "directory: data\nnum-levels: 1\nappend-only: true\nupload-keys: [demo]\n";
const KEY_COMMENT: &str = "ciruela demo";
const NODES: std::ops::RangeInclusive<u8> = 1..=3;

/// Three daemons and their folder.
pub(super) struct Cluster {
    folder: TempDir,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Makes folder, key and configurations.
    pub(super) fn prepare() -> Result<Self, anyhow::Error> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("ciruela-demo-").permissions(Permissions::from_mode(0o700));
        let folder = builder.tempdir().context("can't make a temporary folder")?;
        let cluster = Self { folder, nodes: Vec::new() };
        let public_key = cluster.make_key()?;
        let mut cluster_key = Zeroizing::new([0; 32]);
        random(&mut *cluster_key).context("the system gives no random numbers")?;
        let cluster_key = Zeroizing::new(format!("{}\n", hex(&*cluster_key)));
        for number in NODES {
            let folder = cluster.node_folder(number);
            for name in ["conf/configs", "conf/keys", "data", "db"] {
                let path = folder.join(name);
                let mut builder = DirBuilder::new();
                let made = builder.recursive(true).mode(0o755).create(&path);
                made.with_context(|| format!("can't make {}", path.display()))?;
            }
            write(&folder.join(format!("conf/configs/{CONFIG_NAME}.yaml")), CONFIG.as_bytes(), 0o644)?;
            write(&folder.join("conf/cluster.key"), cluster_key.as_bytes(), 0o600)?;
            write(&folder.join("conf/keys/demo.key"), format!("{public_key}\n").as_bytes(), 0o644)?;
        }
        Ok(cluster)
    }

    /// The line of its public half.
    fn make_key(&self) -> Result<String, anyhow::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        random(&mut *seed).context("the system gives no random numbers")?;
        let secret = SecretKey::from_seed(&seed);
        write(&self.key(), secret.to_openssh(KEY_COMMENT)?.as_bytes(), 0o600)?;
        Ok(public_key_line(&secret.public_key(), KEY_COMMENT))
    }

    /// Starts the daemons, and waits until all of them listen and the first knows the others.
    pub(super) async fn start(&mut self) -> Result<(), anyhow::Error> {
        ui::note(&format!("starting {} daemons in {}", NODES.count(), self.folder().display()));
        for number in NODES {
            let folder = self.node_folder(number);
            if let Some(first) = self.nodes.first() {
                write(&folder.join("conf/peers.txt"), format!("{}\n", first.address).as_bytes(), 0o644)?;
            }
            self.nodes.push(Node::spawn(number, folder)?);
            // The others must be told where the first one listens.
            if self.nodes.len() == 1 {
                self.show_ready(0).await?;
            }
        }
        for at in 1..self.nodes.len() {
            self.show_ready(at).await?;
        }
        self.meet().await
    }

    /// Waits until the first daemon knows the others.
    async fn meet(&mut self) -> Result<(), anyhow::Error> {
        let Some((first, others)) = self.nodes.split_first_mut() else { return Ok(()) };
        let count = others.len();
        let ends = others.iter_mut().map(|node| Box::pin(node.ended()));
        tokio::select! {
            met = first.meets(count) => met?,
            (log, ..) = select_all(ends) => bail!("a daemon has ended\n{log}"),
        }
        ui::note(&format!("they know each other; it is enough to name {}", first.name));
        Ok(())
    }

    async fn show_ready(&mut self, at: usize) -> Result<(), anyhow::Error> {
        let node = &mut self.nodes[at];
        node.ready().await?;
        let Some(pid) = node.pid() else { bail!("{} has ended\n{}", node.name, node.log()) };
        ui::note(&format!("  {}: {}, process {pid}", node.name, node.address));
        Ok(())
    }

    fn node_folder(&self, number: u8) -> PathBuf {
        self.folder().join(node::name(number))
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with the private key.
    pub(super) fn key(&self) -> PathBuf {
        self.folder().join("key")
    }

    /// Where the first daemon listens, which tells the others.
    pub(super) fn entry(&self) -> Option<SocketAddr> {
        self.nodes.first().map(|node| node.address)
    }

    /// Of those that run, as `kill` takes them.
    pub(super) fn pids(&self) -> String {
        self.nodes.iter().filter_map(Node::pid).map(|pid| pid.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Name of each daemon, and where it has the directory of that path.
    pub(super) fn trees(&self, path: &VPath) -> Vec<(String, PathBuf)> {
        let tree = |node: &Node| (node.name.clone(), node.folder.join(path.as_str().trim_start_matches('/')));
        self.nodes.iter().map(tree).collect()
    }

    /// Waits until a daemon ends by itself, and shows the end of its log.
    pub(super) async fn first_end(&mut self) -> String {
        let ends = self.nodes.iter_mut().map(|node| Box::pin(node.ended()));
        select_all(ends).await.0
    }

    /// The ends of all logs.
    pub(super) fn logs(&self) -> String {
        self.nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n")
    }

    /// Lets the daemons run on in their folder.
    pub(super) async fn leave(self) -> Result<(), anyhow::Error> {
        drop(self.folder.keep());
        for node in self.nodes {
            node.leave().await?;
        }
        Ok(())
    }

    /// Ends the daemons, and removes the folder unless somebody wants to look at it.
    pub(super) async fn end(self, keep: bool) -> Result<(), anyhow::Error> {
        for node in &self.nodes {
            node.terminate();
        }
        for node in self.nodes {
            node.end().await;
        }
        if keep {
            drop(self.folder.keep());
            return Ok(());
        }
        let path = self.folder.path().to_owned();
        self.folder.close().with_context(|| format!("can't remove {}", path.display()))
    }
}

/// Fills `bytes` from the system's generator.
fn random(mut bytes: &mut [u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let read = rustix::io::retry_on_intr(|| getrandom(&mut *bytes, GetRandomFlags::empty()))?;
        bytes = &mut bytes[read..];
    }
    Ok(())
}

fn write(path: &Path, text: &[u8], mode: u32) -> Result<(), anyhow::Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text)).with_context(|| format!("can't write {}", path.display()))
}
