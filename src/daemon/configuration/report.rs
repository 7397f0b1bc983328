//! `ciruela-server check-config`: the configuration, what is wrong with it, and what is odd about it, as text.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::files::Folder;
use super::{ConfigurationError, load};
use crate::format::ssh::fingerprint;
use crate::model::directory::{DirectoryConfig, NodeConfig};

/// What `check-config` found.
#[derive(Debug)]
pub struct ConfigReport {
    /// The folder.
    pub base: PathBuf,
    /// The configuration, or all that is wrong with it.
    pub outcome: Result<NodeConfig, Vec<ConfigurationError>>,
    /// What is allowed but probably not meant.
    pub notes: Vec<String>,
}

/// Reads the configuration as the daemon would, and changes nothing.
pub fn check_config(base: &Path, cwd: &Path) -> ConfigReport {
    let outcome = load(base, cwd);
    let mut notes = super::warnings(base);
    if let Ok(folder) = Folder::open(base) {
        for (name, ending) in [("configs", "yaml"), ("keys", "key")] {
            let ignored = folder.list(name, ending, if name == "configs" { &["yml"] } else { &[] }).ignored;
            notes.extend(ignored.iter().map(|file| format!("{} is not read: not *.{ending}", file.display())));
        }
    }
    if let Ok(config) = &outcome {
        if config.directories.is_empty() {
            notes.push("no directory is configured: the node takes nothing".into());
        }
        for directory in config.directories.values() {
            if config.accepted_keys(directory).is_empty() {
                notes.push(format!("{}: no key may upload here (`upload-keys`, master.key)", directory.name));
            }
            if directory.legacy_signatures {
                notes.push(format!("{}: `legacy-signatures` lets old signatures be replayed", directory.name));
            }
        }
        let used = |name: &str| config.directories.values().any(|d| d.upload_keys.iter().any(|key| **key == *name));
        let unused = config.keys.keys().filter(|name| !used(name));
        notes.extend(unused.map(|name| format!("keys/{name}.key is named by no `upload-keys`")));
    }
    ConfigReport { base: base.into(), outcome, notes }
}

/// The report for a terminal, lines ended. Key contents are shown as fingerprints.
pub fn render_report(report: &ConfigReport) -> String {
    let mut text = String::new();
    // Writing to a string doesn't fail.
    render(&mut text, report).unwrap_or_default();
    text
}

fn render(text: &mut String, report: &ConfigReport) -> std::fmt::Result {
    let base = report.base.display();
    match &report.outcome {
        Ok(config) => {
            for directory in config.directories.values() {
                render_directory(text, config, directory)?;
            }
            if !config.peers.is_empty() {
                writeln!(text, "peers: {}", config.peers.join(", "))?;
            }
        }
        Err(errors) => {
            for error in errors {
                writeln!(text, "error: {error}")?;
            }
        }
    }
    for note in &report.notes {
        writeln!(text, "note: {note}")?;
    }
    match &report.outcome {
        Ok(config) => writeln!(text, "{base} is good: {}", count(config.directories.len(), "directory", "directories")),
        Err(errors) => writeln!(text, "{base} has {}", count(errors.len(), "error", "errors")),
    }
}

fn render_directory(text: &mut String, config: &NodeConfig, directory: &DirectoryConfig) -> std::fmt::Result {
    let DirectoryConfig { name, directory: path, num_levels, append_only, .. } = directory;
    let pattern = "/*".repeat(*num_levels);
    let mode = if *append_only { "append only" } else { "replaceable" };
    writeln!(text, "/{name}{pattern} → {}{pattern}, {mode}", path.display())?;
    if directory.keep_previous {
        writeln!(text, "  keeps of each directory what was there before")?;
    }
    if let Some(retention) = &directory.retention {
        let recent = humantime::format_duration(retention.keep_recent);
        let (min, max) = (retention.keep_min_directories, retention.keep_max_directories);
        writeln!(text, "  keeps {min} to {max} directories, and those of the last {recent}")?;
    }
    let heal = if directory.heal { "what is damaged is deployed again" } else { "damage is told" };
    if let Some(interval) = directory.scrub_interval {
        writeln!(text, "  is compared with its images every {}, {heal}", humantime::format_duration(interval))?;
    } else if directory.heal {
        writeln!(text, "  {heal}")?;
    }
    for key in config.accepted_keys(directory) {
        writeln!(text, "  accepts {} {}", fingerprint(&key.key), key.name)?;
    }
    Ok(())
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
