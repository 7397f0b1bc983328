//! `ciruela-server new-cluster-key`: draws the secret which all nodes of a cluster share, and writes it to a new file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::rand::{GetRandomFlags, getrandom};

use super::configuration::CLUSTER_KEY_FILE;
use crate::model::peer::ClusterKey;

/// Writes a new key and gives what to say about it. A file that is there stays as it is.
pub(super) fn new_cluster_key(file: Option<&Path>, config_base_dir: &Path) -> anyhow::Result<String> {
    let file = file.map_or_else(|| config_base_dir.join(CLUSTER_KEY_FILE), PathBuf::from);
    let mut options = OpenOptions::new();
    let mut opened = match options.write(true).create_new(true).mode(0o600).open(&file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already, and stays as it is; name another file, or move it away", file.display())
        }
        Err(error) => return Err(error).with_context(|| format!("can't make {}", file.display())),
    };
    let written = draw().and_then(|key| {
        opened.write_all(format!("{}\n", key.to_hex()).as_bytes())?;
        opened.sync_all()
    });
    if let Err(error) = written {
        // Half a key is of no use to anyone.
        let _ = std::fs::remove_file(&file);
        return Err(error).with_context(|| format!("can't write {}", file.display()));
    }
    Ok(format!(
        "A new cluster key is in {file}.\nCopy it to {name} in the configuration folder of every node (`/etc/ciruela` unless told \
         otherwise), readable by the daemon only, and start the daemons again: nodes with different keys, or without, don't \
         talk to each other.\n",
        file = file.display(),
        name = CLUSTER_KEY_FILE,
    ))
}

fn draw() -> std::io::Result<ClusterKey> {
    let mut key = ClusterKey([0; 32]);
    let mut filled = 0;
    while filled < key.0.len() {
        filled += rustix::io::retry_on_intr(|| getrandom(&mut key.0[filled..], GetRandomFlags::empty()))?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_new_private_and_never_overwritten() {
        let base = tempfile::tempdir().expect("a folder");
        let said = new_cluster_key(None, base.path()).expect("written");
        let file = base.path().join("cluster.key");
        assert!(said.contains("every node") && said.contains(&file.display().to_string()), "{said}");
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(ClusterKey::from_hex(text.trim()).is_some() && !said.contains(text.trim()));
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let error = new_cluster_key(None, base.path()).expect_err("it is there").to_string();
        assert!(error.contains("already"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("readable"), text);
        let other = base.path().join("other");
        new_cluster_key(Some(&other), Path::new("/nonexistent")).expect("written");
        assert_ne!(std::fs::read_to_string(&other).expect("readable"), text);
        let error = new_cluster_key(None, &base.path().join("missing")).expect_err("no folder");
        assert!(error.to_string().contains("can't make"), "{error:#}");
    }
}
