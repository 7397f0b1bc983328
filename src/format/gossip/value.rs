//! Values of nodes ↔ bytes: what a node says about itself, and what somebody waits for at it.

use super::GossipError;
use crate::format::cbor::{self, Reader};
use crate::model::change::Rank;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::peer::NodeInfo;
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// What a node says about itself, and how many of its directories are left out because they don't fit.
///
/// Texts over their bounds are cut.
pub fn write_about(info: &NodeInfo) -> (Vec<u8>, usize) {
    let (hostname, version) = (cut(&info.hostname, limits::NAME_BYTES_MAX), cut(&info.version, limits::WORD_BYTES_MAX));
    // The texts and the head of the list of names.
    let mut room = limits::VALUE_BYTES_MAX - text_bytes(hostname) - text_bytes(version) - 3;
    let names = info.directories.iter().filter(|name| name.len() <= limits::NAME_BYTES_MAX);
    let fitting: Vec<_> = names
        .take_while(|name| {
            let left = room.checked_sub(text_bytes(name));
            room = left.unwrap_or(room);
            left.is_some()
        })
        .collect();
    let mut out = Vec::new();
    cbor::put_text(&mut out, hostname);
    cbor::put_text(&mut out, version);
    cbor::put_array(&mut out, fitting.len());
    for name in &fitting {
        cbor::put_text(&mut out, name);
    }
    (out, info.directories.len() - fitting.len())
}

/// Reads what a node says about itself; the directories are sorted.
pub fn read_about(bytes: &[u8]) -> Result<NodeInfo, GossipError> {
    let mut reader = Reader::new(bytes);
    let hostname = reader.text(limits::NAME_BYTES_MAX)?.into();
    let version = reader.text(limits::WORD_BYTES_MAX)?.into();
    let count = reader.array(limits::VALUE_BYTES_MAX)?;
    // No room is made before the names are there.
    let mut directories = Vec::<Box<str>>::new();
    for _ in 0..count {
        directories.push(reader.text(limits::NAME_BYTES_MAX)?.into());
    }
    reader.end()?;
    directories.sort_unstable();
    directories.dedup();
    directories.shrink_to_fit();
    Ok(NodeInfo { hostname, version, directories })
}

/// Somebody waits for this change of this path.
pub fn write_watch(path: &VPath, change: Rank) -> Vec<u8> {
    let mut out = Vec::new();
    cbor::put_text(&mut out, path.as_str());
    cbor::put_bytes(&mut out, change.id.as_bytes());
    cbor::put_uint(&mut out, change.stamp.0);
    if change.overrides {
        cbor::put_bool(&mut out, true);
    }
    out
}

/// Reads what somebody waits for.
pub fn read_watch(bytes: &[u8]) -> Result<(VPath, Rank), GossipError> {
    let mut reader = Reader::new(bytes);
    let error = reader.error("a path that isn't one");
    let path = reader.text(limits::PATH_BYTES_MAX)?.parse().map_err(|_| error)?;
    let id = ChangeId::new(reader.array_of()?);
    let stamp = Stamp(reader.uint()?);
    let overrides = reader.position() < bytes.len() && reader.bool()?;
    reader.end()?;
    Ok((path, Rank { stamp, id, overrides }))
}

/// Of a text of up to 255 bytes.
fn text_bytes(text: &str) -> usize {
    text.len() + if text.len() < 24 { 1 } else { 2 }
}

fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
