//! CBOR (RFC 8949), as far as our formats need it: a writer of shortest, definite forms, and a bounded reader.
//!
//! What the bytes mean is left to `change` and `wire`. The reader allocates nothing: it hands out slices of its input, and
//! checks each length against the input before it believes it. Indefinite lengths are refused everywhere.

use crate::model::limits;

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/// What is wrong with the input, and at which of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct CborError {
    /// Offset in the input.
    pub at: usize,
    /// What was found, or expected.
    pub what: &'static str,
}

/// Appends a head: the major type with its argument in the shortest form.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument.to_be_bytes()[7]),
        24..=0xff => out.extend([major | 0x18, argument.to_be_bytes()[7]]),
        0x100..=0xffff => {
            out.push(major | 0x19);
            out.extend(&argument.to_be_bytes()[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 0x1a);
            out.extend(&argument.to_be_bytes()[4..]);
        }
        0x1_0000_0000.. => {
            out.push(major | 0x1b);
            out.extend(argument.to_be_bytes());
        }
    }
}

/// Appends an unsigned integer.
pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    head(out, UINT, value);
}

/// Appends the head of a byte string, whose `len` bytes the caller appends.
pub(crate) fn put_bytes_head(out: &mut Vec<u8>, len: usize) {
    head(out, BYTES, len as u64);
}

/// Appends a byte string.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_bytes_head(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a text string.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Opens an array of `count` items.
pub(crate) fn put_array(out: &mut Vec<u8>, count: usize) {
    head(out, ARRAY, count as u64);
}

/// Opens a map of `count` pairs.
pub(crate) fn put_map(out: &mut Vec<u8>, count: usize) {
    head(out, MAP, count as u64);
}

/// Appends `true` or `false`.
pub(crate) fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

/// Appends `null`.
pub(crate) fn put_null(out: &mut Vec<u8>) {
    out.push(NULL);
}

/// Reads items from a slice, in order.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// An error at the current place.
    pub(crate) const fn error(&self, what: &'static str) -> CborError {
        CborError { at: self.at, what }
    }

    /// How many bytes were read.
    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    /// Fails unless everything was read.
    pub(crate) fn end(&self) -> Result<(), CborError> {
        if self.at == self.data.len() { Ok(()) } else { Err(self.error("unexpected bytes after the end")) }
    }

    /// Reads an unsigned integer.
    pub(crate) fn uint(&mut self) -> Result<u64, CborError> {
        self.head(UINT, "expected an unsigned integer")
    }

    /// Reads a byte string of at most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> Result<&'a [u8], CborError> {
        let len = self.head(BYTES, "expected a byte string")?;
        self.string(len, max)
    }

    /// Reads a byte string of exactly `N` bytes.
    pub(crate) fn array_of<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let error = self.error("a byte string of the wrong length");
        self.bytes(N)?.try_into().map_err(|_| error)
    }

    /// Reads a text of at most `max` bytes.
    pub(crate) fn text(&mut self, max: usize) -> Result<&'a str, CborError> {
        let error = self.error("a text that isn't UTF-8");
        let len = self.head(TEXT, "expected a text")?;
        std::str::from_utf8(self.string(len, max)?).map_err(|_| error)
    }

    /// Reads the head of an array of at most `max` items, which the caller then reads.
    pub(crate) fn array(&mut self, max: usize) -> Result<usize, CborError> {
        let count = self.head(ARRAY, "expected an array")?;
        self.count(count, max)
    }

    /// Reads the head of a map of at most `max` pairs, which the caller then reads.
    pub(crate) fn map(&mut self, max: usize) -> Result<usize, CborError> {
        let count = self.head(MAP, "expected a map")?;
        self.count(count, max)
    }

    /// Reads `true` or `false`.
    pub(crate) fn bool(&mut self) -> Result<bool, CborError> {
        let value = match self.data.get(self.at) {
            Some(&FALSE) => false,
            Some(&TRUE) => true,
            Some(_) | None => return Err(self.error("expected true or false")),
        };
        self.at += 1;
        Ok(value)
    }

    /// `None` for `null`, else what `item` reads.
    pub(crate) fn nullable<T, E>(&mut self, item: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<Option<T>, E> {
        if self.data.get(self.at) == Some(&NULL) {
            self.at += 1;
            return Ok(None);
        }
        item(self).map(Some)
    }

    /// Passes one item of any kind, nested at most [`limits::CBOR_DEPTH_MAX`] deep.
    pub(crate) fn skip(&mut self) -> Result<(), CborError> {
        self.skip_within(limits::CBOR_DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), CborError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.error("nested too deep"))?;
        let (major, argument) = self.any_head()?;
        let items = match major {
            BYTES | TEXT => {
                self.string(argument, usize::MAX)?;
                0
            }
            ARRAY => argument,
            MAP => argument.checked_mul(2).ok_or_else(|| self.error("a length beyond the end"))?,
            TAG => 1,
            _ => 0,
        };
        // Each item takes at least one byte, so a false count ends with the input.
        for _ in 0..items {
            self.skip_within(depth)?;
        }
        Ok(())
    }

    fn head(&mut self, expected: u8, what: &'static str) -> Result<u64, CborError> {
        match self.data.get(self.at) {
            Some(byte) if byte >> 5 == expected => Ok(self.any_head()?.1),
            Some(_) => Err(self.error(what)),
            None => Err(self.error("unexpected end")),
        }
    }

    fn any_head(&mut self) -> Result<(u8, u64), CborError> {
        let first = *self.data.get(self.at).ok_or_else(|| self.error("unexpected end"))?;
        let (major, low) = (first >> 5, first & 31);
        let len = match low {
            0..=23 => 0,
            24..=27 => 1 << (low - 24),
            31 if major != SIMPLE => return Err(self.error("an indefinite length")),
            _ => return Err(self.error("no valid CBOR")),
        };
        let bytes = self.data.get(self.at + 1..self.at + 1 + len).ok_or_else(|| self.error("unexpected end"))?;
        let argument =
            if len == 0 { u64::from(low) } else { bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) };
        self.at += 1 + len;
        Ok((major, argument))
    }

    fn string(&mut self, len: u64, max: usize) -> Result<&'a [u8], CborError> {
        let rest = &self.data[self.at..];
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= rest.len())
            .ok_or_else(|| self.error("a length beyond the end"))?;
        if len > max {
            return Err(self.error("a string over its bound"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn count(&self, count: u64, max: usize) -> Result<usize, CborError> {
        usize::try_from(count).ok().filter(|count| *count <= max).ok_or_else(|| self.error("more items than the bound"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_shortest() {
        for (value, bytes) in [
            (23, vec![0x17]),
            (24, vec![0x18, 24]),
            (255, vec![0x18, 255]),
            (256, vec![0x19, 1, 0]),
            (65_535, vec![0x19, 255, 255]),
            (65_536, vec![0x1a, 0, 1, 0, 0]),
            (u64::from(u32::MAX) + 1, vec![0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_uint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(&out).uint(), Ok(value));
        }
    }

    #[test]
    fn false_lengths_are_refused() {
        let huge = [0x5b, 0x10, 0, 0, 0, 0, 0, 0, 0, 1];
        assert!(Reader::new(&huge).bytes(usize::MAX).is_err());
        for major in [2_u8, 3, 4, 5] {
            let mut input = huge;
            input[0] = major << 5 | 0x1b;
            assert!(Reader::new(&input).skip().is_err(), "major type {major}");
            assert!(Reader::new(&[major << 5 | 0x1f, 0xff]).skip().is_err(), "indefinite, major type {major}");
        }
        assert_eq!(Reader::new(&[0x84, 0, 0, 0, 0]).array(3).map_err(|e| e.what), Err("more items than the bound"));
    }

    #[test]
    fn nesting_is_bounded() {
        for byte in [0x81, 0xa1, 0xc1] {
            assert_eq!(Reader::new(&vec![byte; 10_000]).skip().map_err(|e| e.what), Err("nested too deep"));
        }
        let mut fits = vec![0x81; limits::CBOR_DEPTH_MAX - 1];
        fits.push(0);
        assert_eq!(Reader::new(&fits).skip(), Ok(()));
    }

    #[test]
    fn any_item_can_be_skipped() {
        // {"a": [1, -1, h'00', null], "b": 1.5, "c": 0("x")}
        let input = b"\xa3\x61a\x84\x01\x20\x41\x00\xf6\x61b\xf9\x3e\x00\x61c\xc0\x61x";
        let mut reader = Reader::new(input);
        assert_eq!(reader.skip().and_then(|()| reader.end()), Ok(()));
        for end in 0..input.len() {
            assert!(Reader::new(&input[..end]).skip().is_err(), "truncated to {end} bytes");
        }
    }
}
