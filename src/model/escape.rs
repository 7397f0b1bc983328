//! How bytes of names are shown: the escaping of the index text, which people meet in errors too.

/// Whether the index text shows this byte as `\xNN`.
pub const fn needs_escape(byte: u8) -> bool {
    byte <= b' ' || byte >= 0x7f || byte == b'\\'
}

/// Appends `bytes`, those that [need it](needs_escape) as `\xNN` with lowercase digits.
pub fn escape_into(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        if needs_escape(byte) {
            out.extend([b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
}

/// Number of bytes that [`escape_into`] appends.
pub fn escaped_len(bytes: &[u8]) -> usize {
    bytes.len() + 3 * bytes.iter().filter(|byte| needs_escape(**byte)).count()
}

/// `bytes` as text for an error or a list: pure ASCII without spaces and control characters.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    escape_into(&mut out, bytes);
    out.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte() {
        assert_eq!(escaped(b"a b\\\n\x7f\xff~!\0"), r"a\x20b\x5c\x0a\x7f\xff~!\x00");
        for byte in 0..=255 {
            assert_eq!(escaped(&[byte]).len(), escaped_len(&[byte]));
        }
    }
}
