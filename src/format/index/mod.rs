//! Index text ↔ image: the published *Directory Signature File Format v1*.
//!
//! ```text
//! DIRSIGNATURE.v1 blake2b/256 block_size=32768
//! /
//!   run.sh x 120 b14ea795b59a9665fc38fcc4e96425d30bd961bff648e18352e4b462e4e79642
//!   zero f 0
//! /sub
//!   up s ../target
//! a8d8fb35d51f5482e7de9a917683f8948749a9e8e81519d7673e207126a0a58e
//! ```
//!
//! The last line is the hash of all lines between it and the header, and the image's id. Exactly one text stands for an
//! image: [`parse`] takes nothing that [`emit`] wouldn't print. What an image may contain is `model/image`'s.

mod emit;
mod error;
mod parse;
#[cfg(test)]
mod tests;
mod text;

pub use emit::{emit, emit_to, id_of, text_bytes};
pub use error::{IndexError, IndexErrorKind};
pub use parse::{is_genuine, may_begin, parse, parse_for};
pub use text::IndexText;

/// First word of the header.
const MAGIC: &str = "DIRSIGNATURE.v1";
/// Last word of the header: the only block size that writers of the format use.
const BLOCK_SIZE: &str = "block_size=32768";
/// Digits of a hash.
const HASH_DIGITS: usize = 64;
