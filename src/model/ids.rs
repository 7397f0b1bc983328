//! Identities: one newtype each, made by one macro, shown as lowercase hexadecimal.

use std::fmt;
use std::str::FromStr;

/// Why a text isn't an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, got {got:?}")]
pub struct ParseIdError {
    expected: usize,
    got: String,
}

/// Lowercase hexadecimal text of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    text
}

/// Reads exactly `2 * N` hexadecimal digits (either case).
pub(super) fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let error = || ParseIdError { expected: 2 * N, got: text.chars().take(200).collect() };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(error());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16).ok_or_else(error)?;
        let low = char::from(pair[1]).to_digit(16).ok_or_else(error)?;
        *byte = u8::try_from(high * 16 + low).map_err(|_| error())?;
    }
    Ok(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id with exactly these bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// `None` unless the slice has exactly [`Self::LEN`] bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}…", self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                from_hex(text).map(Self)
            }
        }
    };
}

id!(
    /// An immutable directory tree, named by the hash in the last line of its index.
    ImageId, 32
);
id!(
    /// The hash of one block (up to `block_size` bytes) of a file.
    BlockHash, 32
);
id!(
    /// The hash of a change's canonical CBOR, signatures left out.
    ChangeId, 32
);
id!(
    /// What `/etc/machine-id` holds: names a host for good, also when its address or name changes.
    MachineId, 16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trip() {
        let id = ImageId::new(std::array::from_fn(|i| u8::try_from(i * 7).expect("small")));
        assert_eq!(id.to_string().parse::<ImageId>(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<ImageId>(), Ok(id));
    }

    #[test]
    fn wrong_text_is_refused() {
        for text in ["", "00", "zz", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            let error = text.parse::<ImageId>().expect_err(text).to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }
}
