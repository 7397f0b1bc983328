//! What single values mean. An error without a problem of its own: the field takes something else.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::Problem;
use crate::format::ssh::is_printable;
use crate::model::limits;

pub(super) fn boolean(text: &str) -> Result<bool, Option<Problem>> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(None),
    }
}

pub(super) fn number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn count(text: &str) -> Result<usize, Option<Problem>> {
    number(text).ok_or(None)
}

pub(super) fn duration(text: &str) -> Result<Duration, Option<Problem>> {
    humantime::parse_duration(text).map_err(|_| None)
}

/// `0` is never.
pub(super) fn interval(text: &str) -> Result<Option<Duration>, Option<Problem>> {
    let interval = duration(text)?;
    let good = (limits::SCRUB_INTERVAL_MIN..=limits::SCRUB_INTERVAL_MAX).contains(&interval);
    if interval.is_zero() {
        Ok(None)
    } else if good {
        Ok(Some(interval))
    } else {
        Err(None)
    }
}

/// An absolute path without `.` and `..`: directories are compared with each other by their components.
pub(super) fn absolute(text: &str, cwd: &Path) -> Result<PathBuf, Option<Problem>> {
    let bad = |reason| Err(Some(Problem::BadPath { path: text.chars().take(200).collect::<String>().into(), reason }));
    if text.is_empty() {
        return Err(None);
    }
    if text.len() > limits::PATH_BYTES_MAX {
        return bad("it is longer than 4096 bytes");
    }
    if !text.chars().all(is_printable) {
        return bad("it contains a character that can't be printed");
    }
    let path = cwd.join(text);
    if path.components().any(|component| component == Component::ParentDir) {
        return bad("`..` is not allowed, write the directory itself");
    }
    if path.components().all(|component| component == Component::RootDir) {
        return bad("the root directory can't be managed");
    }
    Ok(path.components().collect())
}

pub(super) fn is_peer(peer: &str) -> bool {
    if peer.parse::<std::net::IpAddr>().is_ok()
        || peer.parse::<std::net::SocketAddr>().is_ok_and(|addr| addr.port() > 0)
    {
        return true;
    }
    let (host, port) = peer.split_once(':').map_or((peer, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        let good = (1..=63).contains(&label.len()) && !label.starts_with('-');
        good && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let good_port = |port: &str| number(port).is_some_and(|port| (1..=65_535).contains(&port));
    name.len() <= 253 && !numeric && name.split('.').all(label) && port.is_none_or(good_port)
}
