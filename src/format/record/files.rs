//! Rows about the files of committed directories, by which they are found again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_bytes::Bytes;

use super::{RecordError, decode, encode};
use crate::model::fingerprint::{FileIdentity, Fingerprint};
use crate::model::image::{FileRef, Image};
use crate::model::limits;
use crate::model::reuse::{ContentKey, TreePlace};
use crate::model::scrub::Verdict;
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// Where the tree of a path lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceRecord {
    /// Tells it from what was or will be at the same path.
    pub tag: u64,
    /// Where.
    pub tree: TreePlace,
}

/// One of the files with a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// The directory.
    pub path: VPath,
    /// The tag of its place.
    pub tag: u64,
    /// The file's path in it.
    pub file: Box<str>,
    /// Its inode.
    pub ino: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// The files with a content, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourcesRecord(pub Vec<SourceRecord>);

/// What is known of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InodeRecord {
    /// Its content.
    pub content: ContentKey,
    /// What it was when it had that content.
    pub fingerprint: Fingerprint,
}

/// What is wrong with a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageRecord {
    /// Its root.
    pub root: FileIdentity,
    /// In which file.
    pub file: Box<str>,
    /// What.
    pub what: Box<str>,
}

/// Tag, base, target, device, inode.
type PlaceRow<'a> = (u64, &'a Bytes, &'a Bytes, u64, u64);
/// Path, tag, file, inode, executable.
type SourceRow<'a> = (&'a str, u64, &'a str, u64, bool);
/// Device, inode, file, what.
type DamageRow<'a> = (u64, u64, &'a str, &'a str);

/// The key of a file's content.
pub fn content_key(image: &Image, file: &FileRef<'_>) -> ContentKey {
    let mut hash = blake2b_simd::Params::new().hash_length(16).personal(b"ciruela content").to_state();
    hash.update(image.hash_kind().name().as_bytes()).update(b"\0").update(&file.size.to_le_bytes());
    for block in image.file_hashes(file) {
        hash.update(block.as_bytes());
    }
    ContentKey(hash.finalize().as_bytes().try_into().expect("16 bytes were asked for"))
}

impl PlaceRecord {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let TreePlace { base, target, root } = &self.tree;
        let bytes = |path: &'_ Path| path.as_os_str().as_bytes().to_vec();
        let (base, target) = (bytes(base), bytes(target));
        let row: PlaceRow<'_> = (self.tag, Bytes::new(&base), Bytes::new(&target), root.dev, root.ino);
        encode(&row, 128)
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (tag, base, target, dev, ino) = decode::<PlaceRow<'_>>(bytes)?;
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        Ok(Self { tag, tree: TreePlace { base: path(base), target: path(target), root: FileIdentity { dev, ino } } })
    }
}

impl SourcesRecord {
    /// Adds a file in front; one of the same directory, or the oldest, goes for it.
    pub fn add(&mut self, source: SourceRecord) {
        self.0.retain(|other| other.path != source.path || other.executable != source.executable);
        self.0.insert(0, source);
        self.0.truncate(limits::SOURCES_PER_FILE_MAX);
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let row = |source: &'_ SourceRecord| -> (String, u64, String, u64, bool) {
            (source.path.to_string(), source.tag, source.file.to_string(), source.ino, source.executable)
        };
        encode(&self.0.iter().map(row).collect::<Vec<_>>(), 128)
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let rows = decode::<Vec<SourceRow<'_>>>(bytes)?;
        let source = |(path, tag, file, ino, executable): SourceRow<'_>| {
            let path = path.parse().map_err(|_| RecordError::Bad("path"))?;
            Ok(SourceRecord { path, tag, file: file.into(), ino, executable })
        };
        rows.into_iter().map(source).collect::<Result<_, _>>().map(Self)
    }
}

impl InodeRecord {
    /// The row's bytes; there are many of them, so they have no version and no names.
    pub fn encode(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let Fingerprint { size, mtime_ns, ctime_ns, .. } = self.fingerprint;
        bytes[..16].copy_from_slice(&self.content.0);
        bytes[16..24].copy_from_slice(&size.to_le_bytes());
        bytes[24..32].copy_from_slice(&mtime_ns.to_le_bytes());
        bytes[32..].copy_from_slice(&ctime_ns.to_le_bytes());
        bytes
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(ino: u64, bytes: &[u8]) -> Result<Self, RecordError> {
        const ERROR: RecordError = RecordError::Bad("inode");
        let (content, words) = bytes.split_first_chunk::<16>().ok_or(ERROR)?;
        let ([size, mtime, ctime], []) = words.as_chunks::<8>() else { return Err(ERROR) };
        let (size, mtime_ns) = (u64::from_le_bytes(*size), i64::from_le_bytes(*mtime));
        let fingerprint = Fingerprint { ino, size, mtime_ns, ctime_ns: i64::from_le_bytes(*ctime) };
        Ok(Self { content: ContentKey(*content), fingerprint })
    }
}

impl DamageRecord {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let row: DamageRow<'_> = (self.root.dev, self.root.ino, &self.file, &self.what);
        encode(&row, 128)
    }

    /// The inverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (dev, ino, file, what) = decode::<DamageRow<'_>>(bytes)?;
        Ok(Self { root: FileIdentity { dev, ino }, file: file.into(), what: what.into() })
    }
}

/// Milliseconds, damaged, extras.
type ScrubbedRow = (u64, u64, u64);

/// The bytes of the row that says how a directory was found.
pub fn encode_scrubbed(verdict: &Verdict) -> Vec<u8> {
    let row: ScrubbedRow = (verdict.at.0, verdict.damaged, verdict.extras);
    encode(&row, 32)
}

/// The inverse of [`encode_scrubbed`].
pub fn decode_scrubbed(bytes: &[u8]) -> Result<Verdict, RecordError> {
    let (at, damaged, extras) = decode::<ScrubbedRow>(bytes)?;
    Ok(Verdict { at: Stamp(at), damaged, extras })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_kind::HashKind;
    use crate::model::ids::BlockHash;
    use crate::model::image::ImageBuilder;

    fn source(path: &str, executable: bool) -> SourceRecord {
        SourceRecord { path: path.parse().expect("valid"), tag: 7, file: "a/b".into(), ino: u64::MAX, executable }
    }

    #[test]
    fn round_trips() {
        let root = FileIdentity { dev: 1, ino: 2 };
        let tree = TreePlace { base: "/srv".into(), target: OsStr::from_bytes(b"x/\xff").into(), root };
        let place = PlaceRecord { tag: u64::MAX, tree };
        assert_eq!(PlaceRecord::decode(&place.encode()), Ok(place));
        let sources = SourcesRecord(vec![source("/a/1", false), source("/a/2", true)]);
        assert_eq!(SourcesRecord::decode(&sources.encode()), Ok(sources));
        let fingerprint = Fingerprint { ino: 3, size: 4, mtime_ns: -5, ctime_ns: 6 };
        let inode = InodeRecord { content: ContentKey([9; 16]), fingerprint };
        assert_eq!(InodeRecord::decode(3, &inode.encode()), Ok(inode));
        assert_eq!(InodeRecord::decode(3, &[0; 39]), Err(RecordError::Bad("inode")));
        let damage = DamageRecord { root, file: "f".into(), what: "w".into() };
        assert_eq!(DamageRecord::decode(&damage.encode()), Ok(damage));
        let verdict = Verdict { at: Stamp(u64::MAX), damaged: 1, extras: 2 };
        assert_eq!(decode_scrubbed(&encode_scrubbed(&verdict)), Ok(verdict));
        assert_eq!(SourcesRecord::decode(&[]), Err(RecordError::Empty));
    }

    #[test]
    fn the_newest_are_kept() {
        let mut sources = SourcesRecord::default();
        for n in 0..10 {
            sources.add(source(&format!("/a/{n}"), false));
        }
        sources.add(source("/a/8", false));
        sources.add(source("/a/8", true));
        let paths: Vec<_> = sources.0.iter().map(|source| (source.path.as_str(), source.executable)).collect();
        assert_eq!(paths, [("/a/8", true), ("/a/8", false), ("/a/9", false), ("/a/7", false)]);
    }

    #[test]
    fn keys_tell_contents_apart() {
        let image = |kind, size, hash| {
            let mut builder = ImageBuilder::new(kind);
            builder.directory("").expect("root");
            builder.file("a", false, size, &[BlockHash::new([hash; 32])]).expect("file");
            builder.file("b", true, size, &[BlockHash::new([hash; 32])]).expect("file");
            let image = builder.finish().expect("complete");
            let keys: Vec<_> = image.files().map(|file| content_key(&image, &file)).collect();
            assert_eq!(keys[0], keys[1], "a name or a mode is no content");
            keys[0]
        };
        let kinds = HashKind::ALL.map(|kind| image(kind, 5, 1));
        let others = [image(HashKind::default(), 6, 1), image(HashKind::default(), 5, 2)];
        let all: std::collections::BTreeSet<_> = kinds.into_iter().chain(others).collect();
        assert_eq!(all.len(), 5);
    }
}
