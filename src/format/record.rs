//! Rows of the state database: one version byte, then one CBOR array. Which rows there are, and when they are written, is
//! `driver/db`'s and `engine/deploy`'s.
//!
//! These bytes never leave the node. What is signed, and what a change's id is, `format/change` says on its own.

mod files;

use std::sync::Arc;

use cbor4ii::core::dec::Read;
use cbor4ii::core::utils::SliceReader;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

pub use self::files::{
    DamageRecord, InodeRecord, PlaceRecord, SourceRecord, SourcesRecord, content_key, decode_scrubbed, encode_scrubbed,
};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::fingerprint::{FileIdentity, Fingerprint};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::key::{PublicKey, Scheme, Signature, SignatureBytes};
use crate::model::limits::SIGNATURES_MAX;
use crate::model::origins::Origins;
use crate::model::time::Stamp;

/// The first byte of every row but one kind.
const VERSION: u8 = 1;
/// The first byte of the row of a head that also says what held before: an array of both rows, each as if it were alone.
const WITH_BEFORE: u8 = 2;
/// The first byte of the row of a committed directory of which another tree is set aside.
const WITH_PREVIOUS: u8 = 2;
/// The first byte of a committed row that says where its bytes came from; [`VERSION`]'s says only how many were on the host.
const WITH_ORIGINS: u8 = 3;
/// The first byte of the row of a head that was cleaned; otherwise it is as [`VERSION`]'s.
const CLEANED: u8 = 3;

/// Why a row can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nothing in it.
    #[error("the record is empty")]
    Empty,
    /// Written by another version.
    #[error("the record has version {0}, this build reads older ones")]
    Version(u8),
    /// Not the CBOR that was expected.
    #[error("the record is damaged: {0}")]
    Cbor(String),
    /// The CBOR says something that can't be.
    #[error("the record is damaged: bad {0}")]
    Bad(&'static str),
}

/// What should be at a path: its newest accepted change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRecord {
    /// The change, with its signatures.
    pub change: SignedChange,
    /// The node's clock when it was admitted.
    pub admitted: Stamp,
    /// What held before, until this one is visible: it holds again if this one turns out to be unusable. It has none itself.
    pub before: Option<Box<HeadRecord>>,
    /// What was visible by it was removed, since the rules of retention didn't keep it: it isn't deployed again. Then there
    /// is nothing before it.
    pub cleaned: bool,
}

/// A swap that is about to happen, or happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRecord {
    /// What will be at the path when it has happened; its root is the staged one.
    pub committed: CommittedRecord,
    /// Whether it takes the place of another directory.
    pub exchange: bool,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedRecord {
    /// The change which brought it.
    pub change: ChangeId,
    /// What it is.
    pub image: ImageId,
    /// Its root directory.
    pub root: FileIdentity,
    /// Where its bytes came from.
    pub bytes: Origins,
    /// Of each of its files, in index order.
    pub fingerprints: Arc<[Fingerprint]>,
    /// What was visible before and is set aside: its image and root.
    pub previous: Option<(ImageId, FileIdentity)>,
}

/// Verb, cluster, path, image, old image, stamp, signatures, admitted.
type HeadRow<'a> = (&'a str, Option<&'a str>, &'a str, OptionalBytes, OptionalBytes, u64, Vec<SignatureRow>, u64);
type OptionalBytes = Option<ByteBuf>;
/// Whether it is of the older form, key, signature.
type SignatureRow = (bool, OptionalBytes, ByteBuf);
/// Exchange, and the committed row.
type IntentRow<'a> = (bool, &'a Bytes);
/// Two rows: the head, and what held before.
type BeforeRow<'a> = (&'a Bytes, &'a Bytes);
/// A committed row, and image, device and inode of what is set aside.
type PreviousRow<'a> = (&'a Bytes, &'a Bytes, u64, u64);
/// Change, image, device, inode, bytes reused, bytes fetched, number of fingerprints, fingerprints.
type OlderCommittedRow<'a> = (&'a Bytes, &'a Bytes, u64, u64, u64, u64, u64, &'a Bytes);
/// The same with bytes linked, copied, kept and fetched.
type CommittedRow<'a> = (&'a Bytes, &'a Bytes, u64, u64, (u64, u64, u64, u64), u64, &'a Bytes);

fn encode<T: Serialize>(row: &T, capacity: usize) -> Vec<u8> {
    encode_as(VERSION, row, capacity)
}

fn encode_as<T: Serialize>(version: u8, row: &T, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    bytes.push(version);
    cbor4ii::serde::to_vec(bytes, row).expect("rows are plain values; only memory could run out, which aborts")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&VERSION, bytes)) => decode_row(bytes),
        Some((version, _)) => Err(RecordError::Version(*version)),
    }
}

fn decode_row<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    let mut deserializer = cbor4ii::serde::Deserializer::new(SliceReader::new(bytes));
    let row = T::deserialize(&mut deserializer).map_err(|e| RecordError::Cbor(e.to_string()))?;
    let mut rest = deserializer.into_inner();
    match rest.fill(1) {
        Ok(rest) if rest.as_ref().is_empty() => Ok(row),
        _ => Err(RecordError::Bad("end: there are more bytes")),
    }
}

impl HeadRecord {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Some(before) = self.before.as_ref().filter(|_| !self.cleaned) else { return self.encode_alone() };
        let (row, before) = (self.encode_alone(), before.encode_alone());
        encode_as(WITH_BEFORE, &(Bytes::new(&row), Bytes::new(&before)), row.len() + before.len() + 16)
    }

    fn encode_alone(&self) -> Vec<u8> {
        let change = &self.change.change;
        let image = |id: &ImageId| ByteBuf::from(id.as_bytes().as_slice());
        let signatures = self.change.signatures.iter().map(|signature| {
            let key = signature.key.map(|key| ByteBuf::from(key.0.as_slice()));
            (signature.scheme == Scheme::Legacy, key, ByteBuf::from(signature.bytes.0.as_slice()))
        });
        let row: HeadRow<'_> = (
            change.verb.name(),
            change.cluster.as_deref(),
            change.path.as_str(),
            change.image.as_ref().map(image),
            change.old_image.as_ref().map(image),
            change.stamp.0,
            signatures.collect(),
            self.admitted.0,
        );
        encode_as(if self.cleaned { CLEANED } else { VERSION }, &row, 256)
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some((&WITH_BEFORE, rows)) = bytes.split_first() else { return Self::decode_alone(bytes) };
        let (row, before) = decode_row::<BeforeRow<'_>>(rows)?;
        Ok(Self { before: Some(Box::new(Self::decode_alone(before)?)), ..Self::decode_alone(row)? })
    }

    fn decode_alone(bytes: &[u8]) -> Result<Self, RecordError> {
        let cleaned = bytes.first() == Some(&CLEANED);
        let row = if cleaned { decode_row::<HeadRow<'_>>(&bytes[1..]) } else { decode::<HeadRow<'_>>(bytes) };
        let (verb, cluster, path, image, old_image, stamp, signatures, admitted) = row?;
        let id = |bytes: ByteBuf| ImageId::from_slice(&bytes).ok_or(RecordError::Bad("image id"));
        if signatures.len() > SIGNATURES_MAX {
            return Err(RecordError::Bad("number of signatures"));
        }
        let signatures = signatures.into_iter().map(|(legacy, key, bytes)| {
            let key = key.map(|key| key.as_slice().try_into().map(PublicKey)).transpose();
            Ok(Signature {
                scheme: if legacy { Scheme::Legacy } else { Scheme::V2 },
                key: key.map_err(|_| RecordError::Bad("public key"))?,
                bytes: bytes.as_slice().try_into().map(SignatureBytes).map_err(|_| RecordError::Bad("signature"))?,
            })
        });
        let signatures = signatures.collect::<Result<Vec<_>, RecordError>>()?;
        let change = Change {
            cluster: cluster.map(Into::into),
            verb: Verb::from_name(verb).ok_or(RecordError::Bad("verb"))?,
            path: path.parse().map_err(|_| RecordError::Bad("path"))?,
            image: image.map(id).transpose()?,
            old_image: old_image.map(id).transpose()?,
            stamp: Stamp(stamp),
        };
        Ok(Self { change: SignedChange::new(change, signatures), admitted: Stamp(admitted), before: None, cleaned })
    }
}

fn change_id(bytes: &Bytes) -> Result<ChangeId, RecordError> {
    ChangeId::from_slice(bytes).ok_or(RecordError::Bad("change id"))
}

fn image_id(bytes: &Bytes) -> Result<ImageId, RecordError> {
    ImageId::from_slice(bytes).ok_or(RecordError::Bad("image id"))
}

impl IntentRecord {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let committed = self.committed.encode();
        let row: IntentRow<'_> = (self.exchange, Bytes::new(&committed));
        encode(&row, committed.len() + 16)
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (exchange, committed) = decode::<IntentRow<'_>>(bytes)?;
        Ok(Self { committed: CommittedRecord::decode(committed)?, exchange })
    }
}

impl CommittedRecord {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let row = self.encode_alone();
        let Some((image, root)) = self.previous else { return row };
        let with: PreviousRow<'_> = (Bytes::new(&row), Bytes::new(image.as_bytes()), root.dev, root.ino);
        encode_as(WITH_PREVIOUS, &with, row.len() + 80)
    }

    fn encode_alone(&self) -> Vec<u8> {
        let packed = pack(&self.fingerprints);
        let Origins { linked, copied, kept, fetched } = self.bytes;
        let row: CommittedRow<'_> = (
            Bytes::new(self.change.as_bytes()),
            Bytes::new(self.image.as_bytes()),
            self.root.dev,
            self.root.ino,
            (linked, copied, kept, fetched),
            self.fingerprints.len() as u64,
            Bytes::new(&packed),
        );
        encode_as(WITH_ORIGINS, &row, packed.len() + 160)
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some((&WITH_PREVIOUS, rows)) = bytes.split_first() else { return Self::decode_alone(bytes) };
        let (row, image, dev, ino) = decode_row::<PreviousRow<'_>>(rows)?;
        let previous = Some((image_id(image)?, FileIdentity { dev, ino }));
        Ok(Self { previous, ..Self::decode_alone(row)? })
    }

    fn decode_alone(bytes: &[u8]) -> Result<Self, RecordError> {
        let (change, image, dev, ino, bytes, count, packed) = match bytes.split_first() {
            Some((&WITH_ORIGINS, row)) => decode_row::<CommittedRow<'_>>(row)?,
            _ => {
                let (change, image, dev, ino, kept, fetched, count, packed) = decode::<OlderCommittedRow<'_>>(bytes)?;
                (change, image, dev, ino, (0, 0, kept, fetched), count, packed)
            }
        };
        let (linked, copied, kept, fetched) = bytes;
        Ok(Self {
            change: change_id(change)?,
            image: image_id(image)?,
            root: FileIdentity { dev, ino },
            bytes: Origins { linked, copied, kept, fetched },
            fingerprints: unpack(packed, count)?.into(),
            previous: None,
        })
    }
}

/// Each field as its difference from the file before (files made one after the other are alike), in base 128, the sign
/// in the lowest bit.
fn pack(fingerprints: &[Fingerprint]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fingerprints.len() * 16);
    let mut last = [0; 4];
    for fingerprint in fingerprints {
        let fields = fields(fingerprint);
        for (field, last) in fields.iter().zip(last) {
            let difference = field.wrapping_sub(last);
            let mut rest = ((difference << 1) ^ (difference >> 63)).cast_unsigned();
            while rest >= 0x80 {
                bytes.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            bytes.push(rest.to_le_bytes()[0]);
        }
        last = fields;
    }
    bytes
}

/// The change time as its distance from the modification time, from which it seldom differs much.
fn fields(fingerprint: &Fingerprint) -> [i64; 4] {
    let Fingerprint { ino, size, mtime_ns, ctime_ns } = *fingerprint;
    [ino.cast_signed(), size.cast_signed(), mtime_ns, ctime_ns.wrapping_sub(mtime_ns)]
}

fn unpack(bytes: &[u8], count: u64) -> Result<Vec<Fingerprint>, RecordError> {
    const ERROR: RecordError = RecordError::Bad("fingerprints");
    let mut bytes = bytes.iter();
    // At least four bytes each: so a wrong count can't ask for much memory.
    let count = usize::try_from(count).ok().filter(|count| *count <= bytes.len() / 4).ok_or(ERROR)?;
    let mut fingerprints = Vec::with_capacity(count);
    let mut last = [0_i64; 4];
    for _ in 0..count {
        for field in &mut last {
            let mut rest = 0_u64;
            let mut shift = 0;
            loop {
                let byte = u64::from(*bytes.next().ok_or(ERROR)?);
                if shift == 63 && byte > 1 {
                    return Err(ERROR);
                }
                rest |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                shift += 7;
            }
            let difference = (rest >> 1).cast_signed() ^ -(rest & 1).cast_signed();
            *field = field.wrapping_add(difference);
        }
        let [ino, size, mtime_ns, between] = last;
        fingerprints.push(Fingerprint {
            ino: ino.cast_unsigned(),
            size: size.cast_unsigned(),
            mtime_ns,
            ctime_ns: mtime_ns.wrapping_add(between),
        });
    }
    if bytes.next().is_some() { Err(ERROR) } else { Ok(fingerprints) }
}

#[cfg(test)]
mod tests;
