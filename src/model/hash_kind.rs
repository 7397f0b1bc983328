//! Which hash function an index uses.

use std::fmt;
use std::str::FromStr;

/// The hash functions of the index format, each with 256 bits of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum HashKind {
    /// BLAKE2b with an output (and parameter block) of 32 bytes, RFC 7693. The default.
    #[default]
    Blake2b256,
    /// BLAKE3.
    Blake3,
    /// SHA-512/256, FIPS 180-4.
    Sha512_256,
}

/// The text names no hash function of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown hash {0:?}: expected blake2b/256, blake3/256 or sha512/256")]
pub struct UnknownHash(String);

impl HashKind {
    /// All kinds, the default one first.
    pub const ALL: [Self; 3] = [Self::Blake2b256, Self::Blake3, Self::Sha512_256];

    /// The name in the index header, like `blake2b/256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake2b256 => "blake2b/256",
            Self::Blake3 => "blake3/256",
            Self::Sha512_256 => "sha512/256",
        }
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashKind {
    type Err = UnknownHash;
    fn from_str(text: &str) -> Result<Self, UnknownHash> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownHash(text.chars().take(100).collect()))
    }
}
