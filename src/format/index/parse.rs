//! Index text → image. Strict: only what `emit` prints is taken. Memory is bounded by the text's length.

use super::error::{IndexError, IndexErrorKind};
use super::{BLOCK_SIZE, HASH_DIGITS, MAGIC};
use crate::format::hash::Hasher;
use crate::model::escape::{escaped, needs_escape};
use crate::model::hash_kind::HashKind;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::{Image, ImageBuilder};
use crate::model::limits;

/// Longest part of a line that an error shows, in bytes.
const SHOWN_BYTES: usize = 100;
/// A header is shorter, whatever the kind of its hashes.
const HEADER_BYTES_MAX: usize = 64;

/// Parses a whole index text.
pub fn parse(text: &[u8]) -> Result<(ImageId, Image), IndexError> {
    let mut lines = Lines::new(text)?;
    let kind = header(&mut lines)?;
    body(kind, lines, None)
}

/// Parses an index text which must be that of `expected`. The hash is checked first, so that nothing forged is looked into.
pub fn parse_for(expected: ImageId, text: &[u8]) -> Result<Image, IndexError> {
    let (kind, lines) = genuine(expected, text)?;
    let (_, image) = body(kind, lines, Some(expected))?;
    Ok(image)
}

/// Whether a text that begins so can be an index, as far as its header tells.
pub fn may_begin(text: &[u8]) -> bool {
    let header = &text[..text.len().min(HEADER_BYTES_MAX)];
    match header.iter().position(|byte| *byte == b'\n') {
        Some(end) => Lines::new(&header[..=end]).and_then(|mut lines| self::header(&mut lines)).is_ok(),
        None => text.len() < HEADER_BYTES_MAX && MAGIC.bytes().zip(header).all(|(expected, byte)| expected == *byte),
    }
}

/// Whether the text is the one which hashes to `expected`, whatever else is wrong with it.
pub fn is_genuine(expected: ImageId, text: &[u8]) -> bool {
    genuine(expected, text).is_ok()
}

/// Compares the closing hash with the text and with `expected`; gives the lines after the header.
fn genuine(expected: ImageId, text: &[u8]) -> Result<(HashKind, Lines<'_>), IndexError> {
    let mut lines = Lines::new(text)?;
    let kind = header(&mut lines)?;
    let last_line = || (text.split(|byte| *byte == b'\n').count() - 1).max(1) as u64;
    let fail = |kind| IndexError { line: last_line(), kind };
    let start = lines.rest.len().checked_sub(HASH_DIGITS + 1).ok_or_else(|| fail(IndexErrorKind::Truncated))?;
    let (hashed, footer) = lines.rest.split_at(start);
    let stated = footer.strip_suffix(b"\n").and_then(hash_of).map(ImageId::new);
    let stated = stated.ok_or_else(|| fail(IndexErrorKind::Truncated))?;
    if stated != expected {
        return Err(fail(IndexErrorKind::OtherImage { expected, got: stated }));
    }
    let computed = ImageId::new(Hasher::new(kind).update(hashed).finish());
    if computed != stated {
        return Err(fail(IndexErrorKind::Footer { stated, computed }));
    }
    Ok((kind, lines))
}

/// Everything after the header; `checked` is the closing hash if it was compared already.
fn body(kind: HashKind, mut lines: Lines<'_>, checked: Option<ImageId>) -> Result<(ImageId, Image), IndexError> {
    let text = lines.rest;
    let mut parser = Parser { builder: ImageBuilder::new(kind), hashes: Vec::new() };
    let stated = loop {
        let before = lines.rest;
        let line = lines.next()?;
        if let Some(entry) = line.strip_prefix(b"  ") {
            parser.entry(entry).map_err(|kind| lines.error(kind))?;
        } else if let Some(path) = line.strip_prefix(b"/") {
            parser.directory(path).map_err(|kind| lines.error(kind))?;
        } else if let Some(hash) = hash_of(line) {
            let stated = ImageId::new(hash);
            let hashed = &text[..text.len() - before.len()];
            let computed = checked.unwrap_or_else(|| ImageId::new(Hasher::new(kind).update(hashed).finish()));
            if stated != computed {
                return Err(lines.error(IndexErrorKind::Footer { stated, computed }));
            }
            break stated;
        } else {
            return Err(lines.error(IndexErrorKind::UnknownLine(shown(line))));
        }
    };
    if !lines.rest.is_empty() {
        lines.number += 1;
        return Err(lines.error(IndexErrorKind::AfterFooter));
    }
    let image = parser.builder.finish().map_err(|error| lines.error(error.into()))?;
    Ok((stated, image))
}

fn header(lines: &mut Lines<'_>) -> Result<HashKind, IndexError> {
    let line = lines.next()?;
    let words = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix(MAGIC)?.strip_prefix(' ')?.strip_suffix(BLOCK_SIZE)?.strip_suffix(' '));
    let name = words.ok_or_else(|| lines.error(IndexErrorKind::Header(shown(line))))?;
    name.parse::<HashKind>().map_err(|error| lines.error(error.into()))
}

/// The text as lines, each of which must end with a newline.
struct Lines<'a> {
    rest: &'a [u8],
    /// Of the line given last.
    number: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Result<Self, IndexError> {
        let max = limits::INDEX_BYTES_MAX;
        if text.len() > max {
            return Err(IndexError { line: 1, kind: IndexErrorKind::TooLarge { max } });
        }
        Ok(Self { rest: text, number: 0 })
    }

    fn next(&mut self) -> Result<&'a [u8], IndexError> {
        self.number += 1;
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| self.error(IndexErrorKind::Truncated))?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(line)
    }

    fn error(&self, kind: IndexErrorKind) -> IndexError {
        IndexError { line: self.number, kind }
    }
}

/// Gives lines to the builder.
struct Parser {
    builder: ImageBuilder,
    /// Of the entry at hand; kept for its memory.
    hashes: Vec<BlockHash>,
}

impl Parser {
    fn directory(&mut self, path: &[u8]) -> Result<(), IndexErrorKind> {
        Ok(self.builder.directory(&unescape(path)?)?)
    }

    /// `NAME f|x SIZE HASH...` or `NAME s TARGET`.
    fn entry(&mut self, line: &[u8]) -> Result<(), IndexErrorKind> {
        let (name, rest) = word(line);
        let error = |reason| IndexErrorKind::Entry { name: shown(name), reason };
        if name.is_empty() {
            return Err(error("its name is missing: exactly two spaces come before it"));
        }
        let (kind, rest) = word(rest.ok_or_else(|| error("its type (`f`, `x` or `s`) is missing"))?);
        let unescaped = unescape(name)?;
        let executable = match kind {
            b"f" => false,
            b"x" => true,
            b"s" => {
                let target = rest.ok_or_else(|| error("the link's target is missing"))?;
                return Ok(self.builder.symlink(&unescaped, &unescape(target)?)?);
            }
            _ => return Err(error("its type must be `f`, `x` or `s`")),
        };
        let (size, hashes) = word(rest.ok_or_else(|| error("its size is missing"))?);
        let size = number(size).ok_or_else(|| error("its size must be a decimal number without leading zeros"))?;
        self.hashes.clear();
        if let Some(hashes) = hashes {
            self.hashes.reserve((hashes.len() + 1) / (HASH_DIGITS + 1));
            for digits in hashes.split(|byte| *byte == b' ') {
                let hash = hash_of(digits);
                let hash =
                    hash.ok_or_else(|| error("a hash must be 64 lowercase hexadecimal digits after one space"))?;
                self.hashes.push(BlockHash::new(hash));
            }
        }
        Ok(self.builder.file(&unescaped, executable, size, &self.hashes)?)
    }
}

/// What is before the first space, and what is after it if there is one.
fn word(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    }
}

/// Canonical decimal digits.
fn number(digits: &[u8]) -> Option<u64> {
    let canonical = match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// Exactly 64 lowercase hexadecimal digits.
fn hash_of(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.len() != HASH_DIGITS {
        return None;
    }
    let mut hash = [0; 32];
    // Checked once at the end: this loop is most of the time that parsing takes.
    let mut bad = 0;
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        bad |= high | low;
        *byte = high << 4 | low & 15;
    }
    (bad & 0xf0 == 0).then_some(hash)
}

/// The value of each lowercase hexadecimal digit, 255 for other bytes.
const NIBBLES: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// The inverse of `escape_into`, which takes nothing that it wouldn't write.
fn unescape(text: &[u8]) -> Result<String, IndexErrorKind> {
    let error = |reason| IndexErrorKind::Escape { text: shown(text), reason };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if *first == b'\\' {
            let [b'x', high, low, tail @ ..] = tail else {
                return Err(error("a backslash must be followed by `x` and two lowercase hexadecimal digits"));
            };
            let (high, low) = (NIBBLES[usize::from(*high)], NIBBLES[usize::from(*low)]);
            if high > 15 || low > 15 {
                return Err(error("a backslash must be followed by `x` and two lowercase hexadecimal digits"));
            }
            let byte = high << 4 | low;
            if !needs_escape(byte) {
                return Err(error("a printable character is escaped"));
            }
            bytes.push(byte);
            rest = tail;
        } else if needs_escape(*first) {
            return Err(error("a space, control character or byte from 0x7f on is not escaped"));
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| error("it is not UTF-8"))
}

/// A part of the text as errors show it.
fn shown(text: &[u8]) -> String {
    let cut = escaped(&text[..text.len().min(SHOWN_BYTES)]);
    if text.len() > SHOWN_BYTES { format!("{cut}...") } else { cut }
}
