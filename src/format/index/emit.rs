//! Image → index text.

use super::{BLOCK_SIZE, HASH_DIGITS, MAGIC};
use crate::format::hash::Hasher;
use crate::model::escape::{escape_into, escaped_len};
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::{Directory, Entry, EntryKind, Image, blocks_of};

/// The text is handed on in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// The whole index text and the id in its last line.
pub fn emit(image: &Image) -> (ImageId, Vec<u8>) {
    let mut text = Vec::with_capacity(usize::try_from(text_bytes(image)).unwrap_or(0));
    let id = emit_to(image, |piece| text.extend_from_slice(piece));
    (id, text)
}

/// The image's id, without keeping the text.
pub fn id_of(image: &Image) -> ImageId {
    emit_to(image, |_| ())
}

/// Gives the index text to `sink` piece by piece, and returns the id in its last line.
pub fn emit_to(image: &Image, mut sink: impl FnMut(&[u8])) -> ImageId {
    sink(header(image).as_bytes());
    let mut hasher = Hasher::new(image.hash_kind());
    let mut piece = Vec::with_capacity(2 * PIECE_BYTES);
    let mut flush = |piece: &mut Vec<u8>, at_least: usize| {
        if piece.len() >= at_least {
            hasher.update(piece);
            sink(piece);
            piece.clear();
        }
    };
    for directory in image.directories() {
        push_directory(&mut piece, directory);
        flush(&mut piece, PIECE_BYTES);
        for entry in &directory.entries {
            for hash in push_entry(&mut piece, image, directory, entry) {
                piece.extend(hash_text(hash));
                flush(&mut piece, PIECE_BYTES);
            }
            piece.push(b'\n');
            flush(&mut piece, PIECE_BYTES);
        }
    }
    flush(&mut piece, 1);
    let id = ImageId::new(hasher.finish());
    sink(footer(id).as_bytes());
    id
}

/// Length of the index text in bytes.
pub fn text_bytes(image: &Image) -> u64 {
    let lines = |directory: &Directory| -> u64 {
        directory_bytes(directory) + directory.entries.iter().map(entry_bytes).sum::<u64>()
    };
    (header(image).len() + HASH_DIGITS + 1) as u64 + image.directories().iter().map(lines).sum::<u64>()
}

/// The first line.
pub(super) fn header(image: &Image) -> String {
    format!("{MAGIC} {} {BLOCK_SIZE}\n", image.hash_kind())
}

/// The last line.
pub(super) fn footer(id: ImageId) -> String {
    format!("{id}\n")
}

/// The line that begins a directory.
pub(super) fn push_directory(out: &mut Vec<u8>, directory: &Directory) {
    out.push(b'/');
    escape_into(out, directory.path.as_bytes());
    out.push(b'\n');
}

/// Its length.
pub(super) fn directory_bytes(directory: &Directory) -> u64 {
    escaped_len(directory.path.as_bytes()) as u64 + 2
}

/// An entry's line, without the hashes that are to follow, and without its end.
pub(super) fn push_entry<'a>(
    out: &mut Vec<u8>,
    image: &'a Image,
    directory: &Directory,
    entry: Entry<'_>,
) -> &'a [BlockHash] {
    out.extend(b"  ");
    escape_into(out, entry.name.as_bytes());
    match entry.kind {
        EntryKind::Symlink { target } => {
            out.extend(b" s ");
            escape_into(out, target.as_bytes());
        }
        EntryKind::File { size, executable, .. } => {
            out.extend(if executable { b" x " } else { b" f " });
            out.extend(size.to_string().as_bytes());
        }
    }
    entry.file(directory).map_or(&[], |file| image.file_hashes(&file))
}

/// The length of the whole line.
pub(super) fn entry_bytes(entry: Entry<'_>) -> u64 {
    let (rest, hashes) = match entry.kind {
        EntryKind::Symlink { target } => (escaped_len(target.as_bytes()), 0),
        EntryKind::File { size, .. } => (size.checked_ilog10().map_or(1, |log| log as usize + 1), blocks_of(size)),
    };
    // Two spaces, the type between two more, a newline.
    (escaped_len(entry.name.as_bytes()) + rest + 6) as u64 + hashes * HASH_BYTES as u64
}

/// Length of [`hash_text`].
pub(super) const HASH_BYTES: usize = HASH_DIGITS + 1;

/// A space and the 64 digits.
pub(super) fn hash_text(hash: &BlockHash) -> [u8; HASH_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b' '; HASH_BYTES];
    for (pair, byte) in text[1..].chunks_exact_mut(2).zip(hash.as_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
