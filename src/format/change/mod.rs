//! A change as bytes: its canonical CBOR, its id, and what its signatures cover.
//!
//! Canonical means RFC 8949 §4.2.1: one change has exactly one encoding, so its hash names it. Signing and checking
//! signatures is left to `signature`.

use super::cbor::{self, CborError, Reader};
use crate::model::change::{Change, Verb};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::key::Scheme;
use crate::model::limits;
use crate::model::time::Stamp;
use crate::model::vpath::VPathError;

/// What separates signed changes from anything else that the same key may sign.
pub const DOMAIN_TAG: &[u8] = b"ciruela change v2\0";

/// What a signature covers in the place of [`DOMAIN_TAG`] when the change is only to be looked at, so that a plan is never
/// taken for the change itself.
pub const PLAN_DOMAIN_TAG: &[u8] = b"ciruela plan v2\0";

/// Why bytes aren't a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Not the CBOR that is expected.
    #[error("bad change: {0}")]
    Cbor(#[from] CborError),
    /// A path which no change may have.
    #[error("bad change: {0}")]
    Path(#[from] VPathError),
    /// The verb isn't one that we know.
    #[error("bad change: unknown verb {0:?}")]
    UnknownVerb(String),
    /// A key that every change has is missing.
    #[error("bad change: no {0:?}")]
    Missing(&'static str),
    /// A key that no change has, so that nobody signs what we don't understand.
    #[error("bad change: unknown key {0:?}")]
    UnknownKey(String),
    /// The same content, but not in its one canonical form.
    #[error("bad change: not in canonical form")]
    NotCanonical,
    /// Over [`limits::CHANGE_BYTES_MAX`].
    #[error("bad change: {bytes} bytes are over the bound of {}", limits::CHANGE_BYTES_MAX)]
    TooLarge { bytes: usize },
}

/// The canonical CBOR: a map whose keys are sorted by their encodings; absent options are left out.
pub fn encode(change: &Change) -> Vec<u8> {
    let Change { cluster, verb, path, image, old_image, stamp } = change;
    let options = [image.is_some(), cluster.is_some(), old_image.is_some()].into_iter().filter(|is| *is).count();
    let mut out = Vec::with_capacity(192 + path.as_str().len());
    cbor::put_map(&mut out, 3 + options);
    cbor::put_text(&mut out, "path");
    cbor::put_text(&mut out, path.as_str());
    cbor::put_text(&mut out, "verb");
    cbor::put_text(&mut out, verb.name());
    if let Some(image) = image {
        cbor::put_text(&mut out, "image");
        cbor::put_bytes(&mut out, image.as_bytes());
    }
    cbor::put_text(&mut out, "stamp");
    cbor::put_uint(&mut out, stamp.0);
    if let Some(cluster) = cluster {
        cbor::put_text(&mut out, "cluster");
        cbor::put_text(&mut out, cluster);
    }
    if let Some(old_image) = old_image {
        cbor::put_text(&mut out, "old_image");
        cbor::put_bytes(&mut out, old_image.as_bytes());
    }
    out
}

/// The inverse of [`encode`]: takes only what `encode` gives.
pub fn decode(bytes: &[u8]) -> Result<Change, ChangeError> {
    if bytes.len() > limits::CHANGE_BYTES_MAX {
        return Err(ChangeError::TooLarge { bytes: bytes.len() });
    }
    let (mut path, mut verb, mut image, mut stamp, mut cluster, mut old_image) = (None, None, None, None, None, None);
    let mut reader = Reader::new(bytes);
    for _ in 0..reader.map(6)? {
        match reader.text(limits::WORD_BYTES_MAX)? {
            "path" => path = Some(reader.text(limits::PATH_BYTES_MAX)?.parse()?),
            "verb" => {
                let name = reader.text(limits::WORD_BYTES_MAX)?;
                verb = Some(Verb::from_name(name).ok_or_else(|| ChangeError::UnknownVerb(name.into()))?);
            }
            "image" => image = Some(ImageId::new(reader.array_of()?)),
            "stamp" => stamp = Some(Stamp(reader.uint()?)),
            "cluster" => cluster = Some(reader.text(limits::NAME_BYTES_MAX)?.into()),
            "old_image" => old_image = Some(ImageId::new(reader.array_of()?)),
            other => return Err(ChangeError::UnknownKey(other.into())),
        }
    }
    reader.end()?;
    let path = path.ok_or(ChangeError::Missing("path"))?;
    let verb = verb.ok_or(ChangeError::Missing("verb"))?;
    let stamp = stamp.ok_or(ChangeError::Missing("stamp"))?;
    let change = Change { cluster, verb, path, image, old_image, stamp };
    // Repeated keys, another order and longer integers all end here.
    if encode(&change) == bytes { Ok(change) } else { Err(ChangeError::NotCanonical) }
}

/// The change's name: BLAKE2b with 32 bytes of output, of the canonical CBOR.
pub fn id(change: &Change) -> ChangeId {
    let hash = blake2b_simd::Params::new().hash_length(ChangeId::LEN).hash(&encode(change));
    ChangeId::from_slice(hash.as_bytes()).expect("hash_length is the id's")
}

/// What a signature of that scheme covers; `None` where the scheme can't express the change (it has no deletes).
pub fn signed_bytes(change: &Change, scheme: Scheme) -> Option<Vec<u8>> {
    match scheme {
        Scheme::V2 => {
            let mut bytes = DOMAIN_TAG.to_vec();
            bytes.extend(encode(change));
            Some(bytes)
        }
        Scheme::Legacy => {
            let image = change.image.as_ref().filter(|_| change.verb != Verb::Delete)?;
            Some(legacy_signed_bytes(change.path.as_str(), image, change.stamp))
        }
    }
}

/// What a signature covers that only asks what the change would do.
pub fn signed_plan_bytes(change: &Change, scheme: Scheme) -> Option<Vec<u8>> {
    match scheme {
        Scheme::V2 => Some([PLAN_DOMAIN_TAG, &encode(change)].concat()),
        Scheme::Legacy => None,
    }
}

/// What existing clients sign: the CBOR array `[path, image, timestamp]`.
fn legacy_signed_bytes(path: &str, image: &ImageId, stamp: Stamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + path.len());
    cbor::put_array(&mut out, 3);
    cbor::put_text(&mut out, path);
    cbor::put_bytes(&mut out, image.as_bytes());
    cbor::put_uint(&mut out, stamp.0);
    out
}

#[cfg(test)]
mod tests;
