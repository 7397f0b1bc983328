//! Image → index text.

use super::{BLOCK_SIZE, HASH_DIGITS, MAGIC};
use crate::format::hash::Hasher;
use crate::model::escape::{escape_into, escaped_len};
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::{EntryKind, Image, blocks_of};

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
    sink(format!("{MAGIC} {} {BLOCK_SIZE}\n", image.hash_kind()).as_bytes());
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
        piece.push(b'/');
        escape_into(&mut piece, directory.path.as_bytes());
        piece.push(b'\n');
        flush(&mut piece, PIECE_BYTES);
        for entry in &directory.entries {
            piece.extend(b"  ");
            escape_into(&mut piece, entry.name.as_bytes());
            match &entry.kind {
                EntryKind::Symlink { target } => {
                    piece.extend(b" s ");
                    escape_into(&mut piece, target.as_bytes());
                }
                EntryKind::File { size, executable, first_block } => {
                    piece.extend(if *executable { b" x " } else { b" f " });
                    piece.extend(size.to_string().as_bytes());
                    for hash in image.block_hashes(*first_block, blocks_of(*size)) {
                        push_hash(&mut piece, hash);
                        flush(&mut piece, PIECE_BYTES);
                    }
                }
            }
            piece.push(b'\n');
            flush(&mut piece, PIECE_BYTES);
        }
    }
    flush(&mut piece, 1);
    let id = ImageId::new(hasher.finish());
    sink(format!("{id}\n").as_bytes());
    id
}

/// Length of the index text in bytes.
pub fn text_bytes(image: &Image) -> u64 {
    let header = MAGIC.len() + image.hash_kind().name().len() + BLOCK_SIZE.len() + 3;
    let mut bytes = (header + HASH_DIGITS + 1) as u64 + image.block_count() * (HASH_DIGITS + 1) as u64;
    for directory in image.directories() {
        bytes += (escaped_len(directory.path.as_bytes()) + 2) as u64;
        for entry in &directory.entries {
            let rest = match &entry.kind {
                EntryKind::Symlink { target } => escaped_len(target.as_bytes()),
                EntryKind::File { size, .. } => size.checked_ilog10().map_or(1, |log| log as usize + 1),
            };
            // Two spaces, the type between two more, a newline.
            bytes += (escaped_len(entry.name.as_bytes()) + rest + 6) as u64;
        }
    }
    bytes
}

/// A space and the 64 digits.
fn push_hash(out: &mut Vec<u8>, hash: &BlockHash) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b' '; HASH_DIGITS + 1];
    for (pair, byte) in text[1..].chunks_exact_mut(2).zip(hash.as_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.extend_from_slice(&text);
}
